"""Runs the sources: connects and reconnects them, gives the desk what they say, and publishes what it makes of it.

What the hub refuses is dropped and counted: market data does not wait, the next is newer. What has no next (an
instrument, the state of a source) is said again while the hub cannot take it. Only that we may not publish at all ends
the service. Whatever a source does ends its connection at most, and it is connected again.
Publishing happens in one place and in order; while it takes long, prices that came meanwhile are put together once
instead of each by itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import NoReturn

from hub.clock import Clock
from hub.trading.market.desk import MarketDesk
from hub.trading.market.events import Event
from hub.trading.market.source import Source, SourceLost
from hub.trading.outgoing import Outgoing, Publish
from protocol.errors import ErrorCode, HubError

PULSE_S = 0.05  # how late at most what depends on the passing of time alone is noticed
RETRY_S = (0.5, 20.0)  # before a source is connected again: at first, at most
SETTLED_S = 30.0  # a connection that lasted this long was a good one: the next retry is soon
NOT_ALLOWED = frozenset(
    {ErrorCode.UNAUTHORIZED, ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED, ErrorCode.PERMISSION_DENIED}
)
MAX_AT_ONCE = 256  # publications under way
SAID_ONCE = frozenset({"INSTRUMENT", "SOURCE_STATUS"})  # when it changes, which may be never

logger = logging.getLogger("krin.market")


class MarketFeed:
    """`connected` and `published` are for the metrics. The seed makes the pauses between attempts repeatable."""

    def __init__(
        self, sources: Sequence[Source], desk: MarketDesk, publish: Publish, *, clock: Clock, seed: int | None = None
    ) -> None:
        """Raises ValueError for two sources of one name."""
        self._sources = {source.name: source for source in sources}
        if len(self._sources) < len(sources):
            raise ValueError("each source has a name of its own")
        self.desk = desk
        self._publish = publish
        self._clock = clock
        self._random = random.Random(seed)
        self._changed = asyncio.Event()
        self._untold: dict[tuple[str, str | None], Outgoing] = {}  # by channel and key: at most one of each
        self._now_us = 0
        self.published = 0
        self.refused = 0

    def now_us(self) -> int:
        """The desk's time: it stands still while the system's clock goes back."""
        self._now_us = max(self._now_us, self._clock.now_us())
        return self._now_us

    async def run(self) -> NoReturn:
        for source in self._sources.values():
            self.desk.join(source.name, role=source.role, symbols=source.symbols, now_us=self.now_us())
        self._changed.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(), name="market publishing")
            group.create_task(self._pulse(group), name="market pulse")
            for source in self._sources.values():
                group.create_task(self._follow(source), name=f"source {source.name}")
        raise AssertionError("the feed's tasks never return")

    async def _follow(self, source: Source) -> NoReturn:
        """Keep one source connected."""
        pause_s = RETRY_S[0]
        while True:
            began = self._clock.monotonic()
            try:
                async with aclosing(source.events()) as batches:
                    await self._read(source, batches)
                reason = "the source ended"
            except SourceLost as lost:
                reason = str(lost)
                logger.info("source %s: %s", source.name, lost.__cause__ or lost)
            except Exception:
                reason = "it said what cannot be understood"
                logger.exception("source %s", source.name)
            self.desk.lost(source.name, self.now_us(), reason)
            self._changed.set()
            pause_s = RETRY_S[0] if self._clock.monotonic() - began >= SETTLED_S else min(pause_s * 2, RETRY_S[1])
            await self._clock.sleep(pause_s * self._random.uniform(0.5, 1))  # not all sources in step

    async def _read(self, source: Source, batches: AsyncGenerator[Sequence[Event]]) -> None:
        connected = False
        async for events in batches:
            now_us = self.now_us()
            if not connected:
                connected = True
                self.desk.connected(source.name, now_us)
            for event in events:
                self.desk.take(source.name, event, now_us)
            self._changed.set()

    async def _pulse(self, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            await self._clock.sleep(PULSE_S)
            self._changed.set()
            for name, symbol in self.desk.resyncs(self.now_us()):
                group.create_task(self._resync(self._sources[name], symbol), name=f"resync {name} {symbol}")

    async def _resync(self, source: Source, symbol: str) -> None:
        try:
            await source.resync(symbol)
        except SourceLost as lost:
            logger.info("source %s: no snapshot of %s: %s", source.name, symbol, lost)
        except Exception:
            logger.exception("source %s: no snapshot of %s", source.name, symbol)

    async def _send(self) -> NoReturn:
        while True:
            await self._changed.wait()
            self._changed.clear()
            fresh = self.desk.drain(self.now_us())
            newer = {(each.channel, each.key) for each in fresh}
            waiting = [each for place, each in self._untold.items() if place not in newer] + fresh
            self._untold.clear()
            for start in range(0, len(waiting), MAX_AT_ONCE):
                # Begun in order, so published in order; where the answer must travel they travel together.
                await asyncio.gather(*(self._offer(each) for each in waiting[start : start + MAX_AT_ONCE]))

    async def _offer(self, message: Outgoing) -> None:
        try:
            await self._publish(*message)
        except HubError as refused:
            if refused.code in NOT_ALLOWED:
                raise
            self.refused += 1
            if refused.code.temporary and message.type in SAID_ONCE:
                self._untold[message.channel, message.key] = message
            level = logging.DEBUG if refused.code.temporary else logging.WARNING
            logger.log(level, "dropped a %s of %s: %s", message.type, message.channel, refused)
        else:
            self.published += 1
