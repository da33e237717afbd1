"""Where a backtest's history comes from: a recording of an exchange, the simulator, or channels as they were stored."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path

from hub.clock import Clock
from hub.trading.backtest import MarketData, Recorded
from hub.trading.market.desk import MarketDesk
from hub.trading.market.replay import replay
from hub.trading.market.simulator import DEFAULT_INSTRUMENTS, SIMULATED, SimulatedMarket
from hub.trading.outgoing import Outgoing
from protocol.trading import Bar, Book, Instrument, PriceTick, Trade, TradeCorrection

KINDS = (PriceTick, Trade, TradeCorrection, Book, Bar, Instrument)

NextPage = Callable[[], Awaitable[Sequence[Recorded]]]
"""The next messages of one channel, oldest first; empty at its end."""


async def captured(path: Path, clock: Clock) -> AsyncIterator[Recorded]:
    """A recording, as the hub would have published it. Raises CaptureError."""
    at_us = 0
    async with aclosing(replay(path, 0, clock)) as messages:
        async for message in messages:
            if isinstance(message.data, KINDS):
                at_us = max(at_us, _told_us(message.data))
                yield Recorded(at_us, message.data)


def _told_us(data: MarketData) -> int:
    """When the hub could first have known it."""
    if isinstance(data, Bar):
        return data.end
    received = None if isinstance(data, Instrument) else data.ts_recv
    return received or data.ts_event or 0


async def simulated(seed: int, *, start_us: int, seconds: int, symbols: Sequence[str]) -> AsyncIterator[Recorded]:
    """What the demo's market would have said from that moment on."""
    instruments = [each for each in DEFAULT_INSTRUMENTS if each.symbol in symbols]
    market = SimulatedMarket(seed, start_us=start_us, instruments=instruments)
    desk = MarketDesk(marks=SIMULATED)
    connected: set[str] = set()
    for venue in market.venues:
        desk.join(venue.name, role=venue.role, symbols=market.symbols, now_us=start_us)
    for at_us in range(start_us, start_us + seconds * 1_000_000, market.period_us):
        market.step(at_us)
        for venue in market.venues:
            name = venue.name
            if not market.reachable(name):
                if name in connected:
                    desk.lost(name, at_us, "connection lost")
                    connected.discard(name)
                continue
            events = market.arrived(name)
            if name not in connected:
                connected.add(name)
                desk.connected(name, at_us)
                events = [*market.greet(name), *events]
            for event in events:
                desk.take(name, event, at_us)
        for recorded in _known(desk.drain(at_us), at_us, symbols):
            yield recorded


def _known(messages: Iterable[Outgoing], at_us: int, symbols: Sequence[str]) -> Iterable[Recorded]:
    for message in messages:
        if isinstance(message.data, KINDS) and message.data.symbol in symbols:
            yield Recorded(at_us, message.data)


async def merged(channels: Sequence[NextPage]) -> AsyncIterator[Recorded]:
    """Stored channels in the order of time; each stays in its own."""
    pages = [[*await fetch()] for fetch in channels]
    waiting = [(page[0].at_us, place, 0) for place, page in enumerate(pages) if page]
    heapq.heapify(waiting)
    while waiting:
        at_us, place, index = heapq.heappop(waiting)
        yield Recorded(at_us, pages[place][index].message)
        index += 1
        if index == len(pages[place]):
            pages[place], index = [*await channels[place]()], 0
        if pages[place]:
            heapq.heappush(waiting, (max(at_us, pages[place][index].at_us), place, index))


async def within(history: AsyncIterable[Recorded], from_us: int | None, to_us: int | None) -> AsyncIterator[Recorded]:
    """The part of a history between two moments, both included."""
    async for recorded in history:
        if to_us is not None and recorded.at_us > to_us:
            return
        if from_us is None or recorded.at_us >= from_us:
            yield recorded
