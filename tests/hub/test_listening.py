from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from scene import Scene

from hub.channels.listening import InsideListener
from hub.namespaces import DEFAULTS, Namespaces
from hub.trading.market.following import MarketFollower
from hub.trading.market.view import MarketView
from protocol.errors import ErrorCode, HubError
from protocol.trading import PriceTick
from storage.database import Database

PRICES, TRADES = "prices:X", "trades:X"


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def listener(scene: Scene, heard: list[tuple[str, Any]]) -> InsideListener:
    return InsideListener(
        scene.fanout,
        scene.broker,
        namespaces=Namespaces(DEFAULTS),
        hear=lambda channel, data: heard.append((channel, data)),
    )


async def tick(publisher: Any, bid: str) -> None:
    await publisher.ask("publish", channel=PRICES, message={"type": "PRICE_TICK", "data": {"symbol": "X", "bid": bid}})


async def test_the_newest_value_is_heard_first_and_then_everything(scene: Scene) -> None:
    publisher = await scene.client("pub")
    heard: list[tuple[str, Any]] = []
    await tick(publisher, "1")
    await tick(publisher, "2")
    inside = listener(scene, heard)
    await inside.follow(PRICES)
    await inside.follow(PRICES)
    await tick(publisher, "3")
    assert heard == [(PRICES, PriceTick(symbol="X", bid=bid)) for bid in ("2", "3")]
    assert inside.channels == {PRICES}


async def test_it_hears_on_while_clients_come_and_go_and_nothing_once_it_has_left(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    heard: list[tuple[str, Any]] = []
    inside = listener(scene, heard)
    await inside.follow(PRICES)
    await reader.ask("subscribe", channel=PRICES)
    await reader.ask("unsubscribe", channel=PRICES)
    await tick(publisher, "1")
    inside.leave(PRICES)
    await tick(publisher, "2")
    assert heard == [(PRICES, PriceTick(symbol="X", bid="1"))]


async def test_types_without_a_schema_are_not_heard(scene: Scene) -> None:
    publisher = await scene.client("pub")
    heard: list[tuple[str, Any]] = []
    inside = listener(scene, heard)
    await inside.follow("custom:a")
    await publisher.ask("publish", channel="custom:a", message={"type": "NOTE", "data": {}})
    assert heard == []


async def test_a_channel_that_does_not_exist_is_refused_and_not_followed(scene: Scene) -> None:
    inside = listener(scene, [])
    with pytest.raises(HubError) as caught:
        await inside.follow("nope:x")
    assert caught.value.code is ErrorCode.UNKNOWN_CHANNEL
    assert inside.channels == frozenset()


async def test_a_market_view_finds_the_channels_by_itself_once_it_is_needed(scene: Scene) -> None:
    publisher = await scene.client("pub")
    await tick(publisher, "1")
    inside = InsideListener(
        scene.fanout,
        scene.broker,
        namespaces=Namespaces(DEFAULTS),
        hear=lambda channel, data: follower.hear(channel, data),
    )
    follower = MarketFollower(
        MarketView(clock=scene.clock),
        follow=inside.follow,
        channels=scene.broker.channels,
        depth=10,
        clock=scene.clock,
    )
    assert follower.view.tick("X") is None
    await follower.need()
    assert follower.view.tick("X") == PriceTick(symbol="X", bid="1")
    data = {"symbol": "X", "price": "7", "size": "1", "ts_event": scene.clock.now_us()}
    await publisher.ask("publish", channel=TRADES, message={"type": "TRADE", "data": data})
    await publisher.ask("publish", channel="custom:a", message={"type": "NOTE", "data": {}})
    await follower.need()
    assert inside.channels == {PRICES, TRADES}
    await publisher.ask("publish", channel=TRADES, message={"type": "TRADE", "data": {**data, "price": "8"}})
    assert follower.view.last("X") == 8


async def test_a_channel_that_is_named_is_followed_without_looking_for_it(scene: Scene) -> None:
    publisher = await scene.client("pub")
    inside = listener(scene, [])
    heard = asyncio.Event()

    async def follow(channel: str) -> None:
        await inside.follow(channel)
        heard.set()

    follower = MarketFollower(
        MarketView(clock=scene.clock), follow=follow, channels=scene.broker.channels, depth=10, clock=scene.clock
    )
    running = asyncio.create_task(follower.run())
    await follower.need()
    await tick(publisher, "1")
    follower.name("custom:a")
    follower.name(PRICES)
    async with asyncio.timeout(5):
        await heard.wait()
    assert inside.channels == {PRICES}
    running.cancel()
    await asyncio.wait([running])
