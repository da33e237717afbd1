"""The client and a real hub, started as a user starts it, with a network between them that breaks."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Literal, Protocol

import pytest
import pytest_asyncio
from fake_hub import Proxy, soon

from hub.client import Client, Disconnected, ErrorCode, HubError, Lost, Message, Position, Subscription
from protocol.trading import PriceTick

ALERT = {"alert_id": "a", "severity": "WARNING", "title": "spread widens"}
PATIENCE_S = 60.0


class Hub(Protocol):
    """What the fixture `hub` of the whole test suite offers."""

    url: str

    @property
    def address(self) -> tuple[str, int]: ...

    def token(self, name: str, *roles: str, ttl_s: int = ...) -> str: ...


@pytest_asyncio.fixture
async def proxy(hub: Hub) -> AsyncIterator[Proxy]:
    async with Proxy(*hub.address) as between:
        yield between


def client(hub: Hub, url: str | None = None, user: str = "ada", **options: Any) -> Client:
    return Client(url or hub.url, token=hub.token(user), backoff_s=(0.01, 0.1), **options)


async def take(subscription: Subscription, count: int) -> list[Message]:
    return [await soon(anext(subscription)) for _ in range(count)]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_what_is_published_arrives(hub: Hub, codec: Literal["json", "msgpack"]) -> None:
    async with client(hub, codec=codec, name="desk", kind="trader") as krin:
        channel = f"prices:{codec}"
        async with krin.subscribe(channel) as prices:
            tick = PriceTick(symbol="BTC-USD", bid="100.1", ask="100.2")
            placed = await krin.publish(channel, "PRICE_TICK", tick, key="BTC-USD", trace="00-aa-bb-01")
            (message,) = await take(prices, 1)
            assert message.position == Position(placed.epoch, placed.offset) == prices.position
            assert (message.key, message.publisher, message.trace) == ("BTC-USD", "ada", "00-aa-bb-01")
            assert message.data == {"symbol": "BTC-USD", "bid": "100.1", "ask": "100.2"}
            assert message.typed() == tick


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("channel", ["team:timing", "custom:timing"])
async def test_who_asks_is_told_where_the_time_of_a_publish_went(
    hub: Hub, codec: Literal["json", "msgpack"], channel: str
) -> None:
    async with client(hub, codec=codec) as krin:
        before_ms = krin.now_ms
        timed = await krin.publish(channel, "ALERT", ALERT, timing=True, idempotency_key=f"{codec}-key")
        again = await krin.publish(channel, "ALERT", ALERT, timing=True, idempotency_key=f"{codec}-key")
        untimed = await krin.publish(channel, "ALERT", ALERT)
        after_ms = krin.now_ms
        assert before_ms is not None and after_ms is not None and timed.timing is not None
        assert timed.timing.received <= timed.timing.checked <= timed.timing.placed
        # Half of a round trip is what its idea of the hub's clock may be wrong by.
        wrong_ms = (after_ms - before_ms) / 2 + 100
        assert before_ms - wrong_ms <= timed.timing.received / 1000 <= after_ms + wrong_ms
        assert again.duplicate and again.offset == timed.offset
        assert again.timing is not None and again.timing.received > timed.timing.placed
        assert untimed.timing is None


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_history_presence_and_calls(hub: Hub, codec: Literal["json", "msgpack"]) -> None:
    channel = f"custom:questions-{codec}"
    async with client(hub, codec=codec, name="desk") as krin:
        placed = [await krin.publish(channel, "NOTE", {"n": n}) for n in range(5)]
        page = await krin.history(channel, Position(placed[0].epoch, placed[1].offset), limit=2)
        assert [message.data["n"] for message in page.messages] == [2, 3]
        assert page.more
        assert (page.epoch, page.offset) == (placed[-1].epoch, placed[-1].offset)

        async with krin.subscribe(channel, presence=True) as room:
            assert [member.name for member in await krin.presence(channel)] == ["desk"]
            assert [member.user for member in room.members] == ["ada"]
        assert channel in await krin.call("channels.list")


async def test_errors_say_what_was_wrong(hub: Hub) -> None:
    async with client(hub) as krin:
        with pytest.raises(HubError) as caught:
            await krin.publish("prices:x", "PRICE_TICK", {"symbol": "x", "bid": 1.5})
        assert caught.value.code is ErrorCode.SCHEMA_INVALID
        assert caught.value.path == "$.message.data.bid"
        with pytest.raises(HubError, match="unknown_channel"):
            await krin.subscribe("nowhere:x").ready()


async def test_a_forged_token_is_refused_for_good(hub: Hub) -> None:
    with pytest.raises(Disconnected) as caught:
        await Client(hub.url, token=hub.token("ada")[:-6] + "forged").__aenter__()
    assert caught.value.code in (4001, 4002)


async def test_a_token_is_renewed_without_losing_the_connection(hub: Hub) -> None:
    states: list[str] = []
    renewed = asyncio.Event()
    lifetimes = iter([5, 3600])

    def token() -> str:
        lifetime_s = next(lifetimes)
        if lifetime_s == 3600:
            renewed.set()
        return hub.token("ada", ttl_s=lifetime_s)

    async with Client(hub.url, token=token, on_state=states.append) as krin:
        await soon(renewed.wait())
        await krin.publish("custom:renewed", "NOTE", {})
    assert states == ["connecting", "open", "closed"]


@pytest.mark.parametrize("codec", ["json", "msgpack"])
@pytest.mark.parametrize("channel", ["alerts:cuts", "custom:cuts"])
async def test_a_reader_whose_connection_is_cut_misses_and_repeats_nothing(
    hub: Hub, proxy: Proxy, channel: str, codec: Literal["json", "msgpack"]
) -> None:
    channel += codec
    count = 600
    rng = random.Random(1)
    losses: list[Lost] = []
    seen: list[Message] = []
    async with (
        asyncio.timeout(PATIENCE_S),
        client(hub) as writer,
        client(hub, proxy.url, "bob", codec=codec) as reader,
        reader.subscribe(channel, on_lost=losses.append) as alerts,
    ):
        for start in range(0, count, 20):
            batch = range(start, start + 20)
            publishing = asyncio.gather(
                *(writer.publish(channel, "ALERT", {**ALERT, "alert_id": str(n)}) for n in batch)
            )
            proxy.cut_after(rng.randrange(4000))
            seen += await take(alerts, len(batch))
            await publishing
    assert losses == []
    assert [message.offset for message in seen] == list(range(1, count + 1))
    assert [int(message.data["alert_id"]) for message in seen] == list(range(count))
    assert proxy.connections > 5


@pytest.mark.parametrize("channel", ["alerts:once", "custom:once"])
async def test_publishes_happen_exactly_once_however_often_the_connection_is_cut(
    hub: Hub, proxy: Proxy, channel: str
) -> None:
    count = 400
    rng = random.Random(7)

    async def publish(krin: Client, n: int, gate: asyncio.Semaphore) -> tuple[int, int]:
        async with gate:
            placed = await krin.publish(channel, "ALERT", {**ALERT, "alert_id": str(n)})
            if rng.random() < 0.05:
                proxy.cut()
            return n, placed.offset

    async with (
        asyncio.timeout(PATIENCE_S),
        client(hub, proxy.url) as writer,
        client(hub, user="bob") as reader,
        reader.subscribe(channel) as alerts,
    ):
        gate = asyncio.Semaphore(16)
        placed = dict(await asyncio.gather(*(publish(writer, n, gate) for n in range(count))))
        seen = await take(alerts, count)
        head = (await reader.history(channel, limit=1)).offset
    assert proxy.connections > 5
    assert head == count, "nothing was published twice"
    assert Counter(int(message.data["alert_id"]) for message in seen) == Counter(range(count))
    assert {int(message.data["alert_id"]): message.offset for message in seen} == placed


async def test_the_newest_value_of_every_key_survives_cuts(hub: Hub, proxy: Proxy) -> None:
    keys = [f"component-{number}" for number in range(10)]
    newest: dict[str, int] = {}

    async def publish_all(writer: Client) -> None:
        rng = random.Random(3)
        for _ in range(500):
            key = rng.choice(keys)
            newest[key] = (await writer.publish("status:cuts", "STATUS", {"component": key, "state": "OK"})).offset
            if rng.random() < 0.05:
                proxy.cut()
        await writer.publish("status:cuts", "STATUS", {"component": "the end", "state": "OK"})

    async with (
        asyncio.timeout(PATIENCE_S),
        client(hub) as writer,
        client(hub, proxy.url, "bob") as reader,
        reader.subscribe("status:cuts") as status,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(publish_all(writer))
        seen: dict[str, int] = {}
        async for message in status:
            assert message.key is not None
            assert message.offset > seen.get(message.key, 0)
            seen[message.key] = message.offset
            if message.key == "the end":
                break
    del seen["the end"]
    assert seen == newest


async def test_a_program_that_was_restarted_goes_on_where_it_stood(hub: Hub) -> None:
    channel = "alerts:restart"
    async with client(hub) as krin:
        async with krin.subscribe(channel) as alerts:
            await krin.publish(channel, "ALERT", ALERT)
            (last,) = await take(alerts, 1)
        await asyncio.gather(*(krin.publish(channel, "ALERT", ALERT) for _ in range(5)))

    async with client(hub) as krin, krin.subscribe(channel, recover=last.position) as alerts:
        assert [message.offset for message in await take(alerts, 5)] == [2, 3, 4, 5, 6]


async def test_a_long_absence_is_made_good(hub: Hub) -> None:
    channel = "alerts:absence"
    count = 2_000
    losses: list[Lost] = []
    async with asyncio.timeout(PATIENCE_S), client(hub) as krin:
        first = await krin.publish(channel, "ALERT", ALERT)
        alert = {**ALERT, "detail": "x" * 500}
        await asyncio.gather(*(krin.publish(channel, "ALERT", alert) for _ in range(count)))
        since = Position(first.epoch, first.offset)
        async with krin.subscribe(channel, recover=since, on_lost=losses.append) as alerts:
            publishing = asyncio.gather(*(krin.publish(channel, "ALERT", alert) for _ in range(100)))
            seen = await take(alerts, count + 100)
            await publishing
    assert [message.offset for message in seen] == list(range(2, count + 102))
    assert losses == []


async def test_a_long_snapshot_is_complete(hub: Hub) -> None:
    channel = "status:many"
    keys = [f"component-{number}" for number in range(1_000)]
    async with asyncio.timeout(PATIENCE_S), client(hub) as krin:

        async def publish(key: str, detail: str) -> None:
            await krin.publish(channel, "STATUS", {"component": key, "state": "OK", "detail": detail})

        await asyncio.gather(*(publish(key, "x" * 1000) for key in keys))
        await asyncio.gather(*(publish(key, "y" * 1000) for key in keys[::3]))
        async with krin.subscribe(channel) as status:
            seen = {message.key: message.data["detail"][0] for message in await take(status, len(keys))}
    assert seen == {key: "y" if index % 3 == 0 else "x" for index, key in enumerate(keys)}


async def test_a_position_of_another_history_is_told_as_lost(hub: Hub) -> None:
    losses: list[Lost] = []
    old = Position("another-epoch", 41)
    async with client(hub) as krin:
        placed = await krin.publish("custom:lost", "NOTE", {})
        async with krin.subscribe("custom:lost", recover=old, on_lost=losses.append) as notes:
            await krin.publish("custom:lost", "NOTE", {})
            (message,) = await take(notes, 1)
    assert message.offset == 2
    assert losses == [Lost("custom:lost", "epoch_changed", since=old, resumed_at=Position(placed.epoch, 1))]


async def test_a_slow_reader_of_a_latest_channel_gets_the_last_value(hub: Hub) -> None:
    """The hub conflates for it, or it catches up by itself: either way never backwards, and the end is the end."""
    channel = "prices:slow"
    count = 20_000
    async with (
        asyncio.timeout(PATIENCE_S),
        client(hub) as writer,
        client(hub, user="bob") as reader,
        reader.subscribe(channel, buffer=100) as prices,
    ):
        tick = {"symbol": "X", "price": "1", "ext": {"padding": "x" * 1000}}
        for _ in range(0, count, 500):
            await asyncio.gather(*(writer.publish(channel, "PRICE_TICK", tick) for _ in range(500)))
        assert prices.waiting < 1000
        last = seen = skipped = 0
        while last < count:
            message = await anext(prices)
            assert message.offset == last + 1 + message.skipped, "`skipped` accounts for every value left out"
            last, seen, skipped = message.offset, seen + 1, skipped + message.skipped
        assert seen + skipped == count


async def test_tail_prints_a_line_a_message(hub: Hub) -> None:
    async with client(hub) as krin:
        for n in range(3):
            await krin.publish("custom:tail", "NOTE", {"n": n}, key="k")
        command = [sys.executable, "-m", "hub", "tail", "custom:tail", "--rewind", "2", "--json"]
        process = await asyncio.create_subprocess_exec(
            *command, "--url", hub.url, "--token", hub.token("bob"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async with aclosing(_lines(process.stdout)) as lines:
                assert [(await soon(anext(lines)))["data"] for _ in range(2)] == [{"n": 1}, {"n": 2}]
                await krin.publish("custom:tail", "NOTE", {"n": 3})
                assert (await soon(anext(lines)))["offset"] == 4
        finally:
            process.terminate()
            await process.wait()


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    while line := await stream.readline():
        yield json.loads(line)
