"""The paper venue: the hub's own market, on real or simulated prices, without money.

A command takes its latency to arrive, and commands arrive in the order they were sent, as over one connection. What the
matching engine answers waits here for the one reader. It has no memory: after a restart `restore` tells it what it had.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

import msgspec

from hub.clock import Clock
from hub.trading.orders.order import Order
from hub.trading.risk.decision import Approved
from hub.trading.venues.base import VenueOrder, VenueReport
from hub.trading.venues.matching import Matcher
from protocol.trading import Book, PriceTick

MAX_UNDERWAY = 10_000  # commands on their way
MAX_UNREAD = 10_000
EXPIRY_PERIOD_S = 0.1

Command = Callable[[int], list[VenueReport]]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """How long a command travels: `least_ms`, and up to `jitter_ms` more by the venue's dice."""

    least_ms: float = 5.0
    jitter_ms: float = 0.0


class PaperVenue:
    """Implements Venue. The same commands and ticks at the same times, with the same `seed`, give the same reports."""

    paper = True

    def __init__(
        self,
        matcher: Matcher,
        *,
        clock: Clock,
        latency: Latency = Latency(),
        seed: int = 1,
        name: str = "paper",
        max_unread: int = MAX_UNREAD,
    ) -> None:
        """With `max_unread` reports unread nothing more is matched until somebody reads: so none is lost."""
        self.name = name
        self._matcher = matcher
        self._clock = clock
        self._latency = latency
        self._random = random.Random(f"{seed}:{name}")
        self._max_unread = max_unread
        self._underway: asyncio.Queue[tuple[float, Command]] = asyncio.Queue(MAX_UNDERWAY)
        self._last_due = 0.0
        self._unread: deque[VenueReport] = deque()
        self._changed = asyncio.Event()  # something to read
        self._room = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._receive(), name=f"{self.name} commands")
            group.create_task(self._watch_expiries(), name=f"{self.name} expiries")

    async def submit(self, approved: Approved) -> None:
        await self._send(partial(self._matcher.submit, approved.order))

    async def replace(self, approved: Approved) -> None:
        await self._send(partial(self._matcher.replace, approved))

    async def cancel(self, order: Order) -> None:
        await self._send(partial(self._matcher.cancel, order))

    async def status(self, order: Order) -> VenueOrder | None:
        return self._matcher.status(order.order_id)

    async def restore(self, orders: Sequence[Order]) -> None:
        while not self._underway.empty():
            self._underway.get_nowait()
        self._unread.clear()
        self._room.set()
        self._say(self._matcher.restore(orders, self._clock.now_us()))

    async def reports(self) -> AsyncIterator[VenueReport]:
        while True:
            while self._unread:
                report = self._unread.popleft()
                self._room.set()
                yield report
            self._changed.clear()
            await self._changed.wait()

    def hear(self, message: object) -> None:
        """The consolidated market, as MarketView passes it on: prices and whole books count, the rest does not."""
        match message:
            case PriceTick():
                self._matcher.observe(message)
                if not self._full:
                    self._say(self._matcher.match(message.symbol, self._clock.now_us()))
            case Book():
                self._matcher.book(message)

    async def _send(self, command: Command) -> None:
        travels_s = (self._latency.least_ms + self._latency.jitter_ms * self._random.random()) / 1000
        self._last_due = max(self._last_due, self._clock.monotonic() + travels_s)  # none overtakes another
        await self._underway.put((self._last_due, command))

    async def _receive(self) -> None:
        while True:
            due, command = await self._underway.get()
            if (left_s := due - self._clock.monotonic()) > 0:
                await self._clock.sleep(left_s)
            while self._full:
                self._room.clear()
                await self._room.wait()
            self._say(command(self._clock.now_us()))

    async def _watch_expiries(self) -> None:
        while True:
            await self._clock.sleep(EXPIRY_PERIOD_S)
            if not self._full:
                self._say(self._matcher.expire(self._clock.now_us()))

    @property
    def _full(self) -> bool:
        return len(self._unread) >= self._max_unread

    def _say(self, reports: list[VenueReport]) -> None:
        if reports:
            self._unread.extend(reports)
            self._changed.set()
