from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hub.trading.market.desk import MarketDesk
from hub.trading.market.events import BookSnapshot, BookUpdate, Event, Listed, Quote, TradePrint
from hub.trading.market.replay import CaptureSource
from hub.trading.market.service import MarketFeed
from hub.trading.market.source import Role, Source, SourceLost
from hub.trading.outgoing import Outgoing
from protocol.errors import ErrorCode, HubError
from protocol.trading import Instrument, PriceTick, SourceStatus

from .virtual_clock import JumpingClock, VirtualClock

X = "X-USD"


class ScriptedSource:
    """Says what a test puts in; `None` cuts the connection."""

    role: Role = "PRIMARY"
    symbols: Sequence[str] = (X,)
    marks: Mapping[str, Any] | None = None

    def __init__(self, name: str = "a") -> None:
        self.name = name
        self.said: asyncio.Queue[Sequence[Event] | None] = asyncio.Queue()
        self.resyncs: list[str] = []

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        while (events := await self.said.get()) is not None:
            yield events
        raise SourceLost("connection reset")

    async def resync(self, symbol: str) -> None:
        self.resyncs.append(symbol)


class Channels:
    def __init__(self) -> None:
        self.taken: list[Outgoing] = []
        self.refuse: HubError | None = None
        self._more = asyncio.Event()

    async def publish(
        self, channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.taken.append(Outgoing(channel, type, data, key))
        self._more.set()

    async def until(self, kind: type, count: int) -> list[Any]:
        async with asyncio.timeout(5):
            while len(found := [each.data for each in self.taken if isinstance(each.data, kind)]) < count:
                self._more.clear()
                await self._more.wait()
        return found


@asynccontextmanager
async def running(sources: Sequence[Source], clock: VirtualClock) -> AsyncIterator[tuple[MarketFeed, Channels]]:
    channels = Channels()
    feed = MarketFeed(sources, MarketDesk(), channels.publish, clock=clock, seed=1)
    task = asyncio.create_task(feed.run())
    try:
        yield feed, channels
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def quote(clock: VirtualClock, bid: str, ask: str) -> Quote:
    return Quote(symbol=X, bid=bid, ask=ask, bid_size="1", ask_size="1", ts_event=clock.now_us())


async def test_what_a_source_says_is_published_at_once() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (_, channels):
        source.said.put_nowait([quote(clock, "9", "11"), quote(clock, "10", "11")])
        (tick,) = await channels.until(PriceTick, 1)
        assert (tick.bid, tick.state) == ("10", "LIVE"), "what arrives together makes one price"


async def test_a_lost_source_is_said_to_be_and_connected_again_after_a_pause() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (_, channels):
        source.said.put_nowait([quote(clock, "9", "11")])
        await channels.until(PriceTick, 1)
        source.said.put_nowait(None)
        ticks = await channels.until(PriceTick, 2)
        assert ticks[-1].state == "STALE"
        source.said.put_nowait([quote(clock, "10", "11")])
        await clock.advance(1.0, sleepers=1)
        ticks = await channels.until(PriceTick, 3)
        assert (ticks[-1].state, ticks[-1].bid) == ("LIVE", "10")
        statuses = [(status.state, status.reason) for status in await channels.until(SourceStatus, 4)]
        assert statuses[-2:] == [("RECONNECTING", "connection reset"), ("CONNECTED", None)]


async def test_a_price_goes_stale_though_nothing_arrives() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (_, channels):
        source.said.put_nowait([quote(clock, "9", "11")])
        await channels.until(PriceTick, 1)
        await clock.advance(2.2, sleepers=1)
        ticks = await channels.until(PriceTick, 2)
        assert ticks[-1].state == "STALE"


async def test_a_book_with_a_gap_is_asked_for_again() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    book = BookSnapshot(symbol=X, bids=[("9", "1")], asks=[("11", "1")], last_id=5, ts_event=clock.now_us())
    late = BookUpdate(symbol=X, bids=[], asks=[], first_id=7, last_id=7)
    async with running([source], clock) as (feed, channels):
        source.said.put_nowait([book, late])
        await channels.until(SourceStatus, 2)
        await clock.advance(0.2, sleepers=1)
        assert source.resyncs == [X]
        assert feed.desk.gaps == 1


async def test_what_is_refused_for_the_moment_is_dropped_and_counted() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (feed, channels):
        channels.refuse = HubError(ErrorCode.NOT_AVAILABLE, "not now")
        source.said.put_nowait([quote(clock, "9", "11")])
        await clock.advance(0.1, sleepers=1)
        assert feed.refused
        channels.refuse = None
        source.said.put_nowait([quote(clock, "10", "11")])
        (tick,) = await channels.until(PriceTick, 1)
        assert tick.seq == 2, "the one before was dropped"


async def test_an_instrument_that_the_hub_could_not_take_is_said_again() -> None:
    """With Redis the first messages come before it is connected, and nobody can trade what was never listed."""
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (feed, channels):
        channels.refuse = HubError(ErrorCode.NOT_AVAILABLE, "not now")
        listed = Instrument(symbol=X, base="X", quote="USD", tick_size="1", lot_size="1")
        source.said.put_nowait([Listed(instrument=listed)])
        await clock.advance(0.1, sleepers=1)
        assert feed.refused
        channels.refuse = None
        await clock.advance(0.1, sleepers=1)
        assert [each.symbol for each in await channels.until(Instrument, 1)] == [X]
        assert [each.state for each in await channels.until(SourceStatus, 1)] == ["CONNECTED"], "the newest of the two"


async def test_a_message_that_the_hub_cannot_take_is_dropped_and_the_feed_goes_on() -> None:
    source, clock = ScriptedSource(), VirtualClock()
    async with running([source], clock) as (feed, channels):
        channels.refuse = HubError(ErrorCode.SCHEMA_INVALID, "no price")
        source.said.put_nowait([quote(clock, "9", "11")])
        await clock.advance(0.1, sleepers=1)
        assert feed.refused
        channels.refuse = None
        source.said.put_nowait([quote(clock, "10", "11")])
        await channels.until(PriceTick, 1)


async def test_what_cannot_be_understood_ends_the_connection_of_its_source_and_nothing_else() -> None:
    odd, good, clock = ScriptedSource("odd"), ScriptedSource("good"), VirtualClock()
    async with running([odd, good], clock) as (_, channels):
        odd.said.put_nowait([BookSnapshot(symbol=X, bids=[("nonsense", "1")], asks=[])])
        good.said.put_nowait([quote(clock, "9", "11")])
        await channels.until(PriceTick, 1)
        async with asyncio.timeout(5):
            while not any(status.reason for status in await channels.until(SourceStatus, 1)):
                await clock.advance(0.1, sleepers=1)
        reasons = {status.source: status.reason for status in await channels.until(SourceStatus, 1) if status.reason}
        assert reasons == {"odd": "it said what cannot be understood"}
        odd.said.put_nowait([quote(clock, "9.5", "10.5")])
        await clock.advance(1.0, sleepers=1)
        await channels.until(PriceTick, 2)


async def test_a_feed_that_may_not_publish_ends() -> None:
    channels, clock = Channels(), VirtualClock()
    channels.refuse = HubError(ErrorCode.PERMISSION_DENIED, "no")
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(5):
            await MarketFeed([ScriptedSource()], MarketDesk(), channels.publish, clock=clock).run()
    assert isinstance(caught.value.exceptions[0], HubError)


async def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        MarketFeed([ScriptedSource(), ScriptedSource()], MarketDesk(), Channels().publish, clock=VirtualClock())


async def test_a_recording_as_a_source_happens_now_and_ends_as_a_lost_connection(coinbase: Path) -> None:
    clock = JumpingClock()
    source = CaptureSource("coinbase", coinbase, clock=clock)
    began_us = clock.now_us()
    seen: list[Event] = []
    with pytest.raises(SourceLost, match="end of the recording"):
        async for events in source.events():
            seen += [event for event in events if isinstance(event, BookUpdate)]
            assert all(abs((event.ts_event or 0) - clock.now_us()) < 5_000_000 for event in seen[-1:])
    assert 15e6 < clock.now_us() - began_us < 60e6
    assert len(seen) > 5000


async def test_a_recording_that_cannot_be_read_is_a_lost_source(tmp_path: Path) -> None:
    with pytest.raises(SourceLost):
        async for _ in CaptureSource("none", tmp_path / "none.txt", clock=JumpingClock()).events():
            pass


async def test_the_trades_of_a_recording_that_begins_again_are_new_ones(tmp_path: Path) -> None:
    trade = {"type": "match", "product_id": X, "trade_id": 7, "price": "12", "size": "1", "side": "sell"}
    path = tmp_path / "any.txt"
    path.write_text(f"1.5: {json.dumps(trade | {'time': '2021-01-01T00:00:00.000000Z'}, separators=(',', ':'))}\n")
    source = CaptureSource("coinbase", path, clock=JumpingClock())
    seen: list[Event] = []
    for _ in range(2):
        with pytest.raises(SourceLost, match="end of the recording"):
            async for events in source.events():
                seen += events
    ids = [event.trade_id for event in seen if isinstance(event, TradePrint)]
    assert len(ids) == len(set(ids)) == 2
