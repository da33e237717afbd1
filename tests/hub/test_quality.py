from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from scene import Client, Scene

from hub.channels.quality import Demand
from hub.publication import Publication
from protocol.trading import PriceTick, QuoteState
from storage.database import Database

NOW_US = 1_700_000_000_000_000


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def price(state: QuoteState | None, *, age_us: int = 0, key: str | None = None) -> Publication:
    tick = PriceTick(symbol="X", bid="1", state=state, ts_event=NOW_US - age_us)
    body = b'"data":' + msgspec.json.encode(tick)
    return Publication("prices:X", "PRICE_TICK", body=body, timestamp=NOW_US // 1000, key=key)


def test_a_price_that_is_too_old_is_left_out() -> None:
    demand = Demand(max_age_ms=500)
    assert demand.admits(price("LIVE", age_us=500_000), NOW_US)
    assert not demand.admits(price("LIVE", age_us=500_001), NOW_US)


def test_without_a_time_of_its_own_a_message_is_as_old_as_its_publication() -> None:
    demand = Demand(max_age_ms=500)
    plain = Publication("custom:a", "NOTE", body=b'"data":{"text":"hi"}', timestamp=NOW_US // 1000)
    assert demand.admits(plain, NOW_US + 500_000)
    assert not demand.admits(plain, NOW_US + 501_000)


def test_age_does_not_hide_that_a_price_is_stale() -> None:
    demand = Demand(max_age_ms=1)
    assert demand.admits(price("STALE", age_us=10**7), NOW_US)


@pytest.mark.parametrize("least", ["LIVE", "DEGRADED", "DISPUTED"])
def test_below_the_wanted_quality_only_the_first_is_sent(least: str) -> None:
    states: list[QuoteState] = ["LIVE", "DEGRADED", "DISPUTED", "STALE", "HALTED"]
    demand = Demand(min_quality=least)  # type: ignore[arg-type]  # one of the three
    good, poor = states[: states.index(least) + 1], states[states.index(least) + 1 :]  # type: ignore[arg-type]  # the same
    for state in good:
        assert demand.admits(price(state), NOW_US)
    assert [demand.admits(price(state), NOW_US) for state in poor] == [True] + [False] * (len(poor) - 1)
    assert demand.admits(price("LIVE"), NOW_US)
    assert demand.admits(price("HALTED"), NOW_US), "told again after it was good"


def test_each_key_has_a_standing_of_its_own() -> None:
    demand = Demand(min_quality="LIVE")
    assert [demand.admits(price("STALE", key=key), NOW_US) for key in "aab"] == [True, False, True]


@pytest.mark.parametrize("data", [b"[1,2]", b'{"state":7}', b'{"ts_event":"noon"}', b'"text"'])
def test_a_message_that_says_nothing_of_the_kind_passes(data: bytes) -> None:
    odd = Publication("custom:a", "NOTE", body=b'"data":' + data, timestamp=NOW_US // 1000)
    assert Demand(max_age_ms=1000, min_quality="LIVE").admits(odd, NOW_US)


async def test_a_subscriber_gets_what_it_demands_and_is_told_when_there_is_none(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    reply = await reader.ask("subscribe", channel="prices:X", min_quality="DEGRADED", max_age_ms=60_000)
    assert reply["result"]["promise"] == "latest"
    now_us = scene.clock.now_us()
    for state, age_us in (("LIVE", 0), ("LIVE", 61_000_000), ("STALE", 0), ("DISPUTED", 0), ("DEGRADED", 0)):
        data = {"symbol": "X", "bid": "1", "state": state, "ts_event": now_us - age_us}
        await publisher.ask("publish", channel="prices:X", message={"type": "PRICE_TICK", "data": data})
    await reader.until_offset("prices:X", 5)
    assert reader.seen("prices:X") == [1, 3, 5]


@pytest.mark.parametrize("field", ["max_age_ms", "min_quality"])
async def test_a_demand_on_quality_needs_a_channel_that_may_skip(scene: Scene, field: str) -> None:
    client = await scene.client()
    options = {"max_age_ms": 5} if field == "max_age_ms" else {"min_quality": "LIVE"}
    reply = await client.ask("subscribe", channel="trades:X", **options)
    assert (reply["error"]["code"], reply["error"]["path"]) == (1007, f"$.{field}")


async def quote(publisher: Client, state: QuoteState, **fields: Any) -> None:
    await publisher.publish("prices:X", "PRICE_TICK", {"symbol": "X", "bid": "1", "state": state}, **fields)


async def test_a_poor_price_of_the_snapshot_is_the_first_and_no_second_follows(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    await quote(publisher, "STALE")
    await reader.ask("subscribe", channel="prices:X", min_quality="LIVE")
    for state in ("HALTED", "LIVE", "STALE", "HALTED", "LIVE"):
        await quote(publisher, state)
    await reader.until_offset("prices:X", 6)

    assert reader.seen("prices:X") == [1, 3, 4, 6]


async def test_what_comes_while_a_large_snapshot_is_sent_in_pieces_is_shaped_like_the_rest(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    large = {"symbol": "X", "bid": "1", "state": "STALE", "ext": {"text": "x" * 60_000}}
    for number in range(20):
        await publisher.publish("prices:X", "PRICE_TICK", large, key=f"k{number}")
    reader.send(reader.command("subscribe", channel="prices:X", min_quality="LIVE"))
    for state in ("HALTED", "LIVE"):  # in the same turn, before the second piece
        message = {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1", "state": state}}
        publisher.send(publisher.command("publish", channel="prices:X", key="k19", message=message))
    await reader.until_offset("prices:X", 22)

    assert reader.seen("prices:X") == [*range(1, 21), 22]
