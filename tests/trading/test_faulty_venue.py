"""Comparing with a venue between which and us things go wrong, until both know the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from hub.trading.orders.event import Event
from hub.trading.orders.fold import apply
from hub.trading.orders.order import CLOSED, Order
from hub.trading.reconciliation import IN_FLIGHT_US, reconcile
from hub.trading.venues.base import VenueReport, VenueUnreachable
from hub.trading.venues.matching import Matcher
from hub.trading.venues.paper import Latency, PaperVenue

from .faulty_venue import FaultyVenue, late
from .paper_market import INSTRUMENT, SYMBOL, approve, line, make_order, make_tick
from .virtual_clock import VirtualClock


class Desk:
    """Our records of the orders, a faulty venue, and what is done to bring them together."""

    def __init__(self, clock: VirtualClock, paper: PaperVenue) -> None:
        self.clock = clock
        self.paper = paper
        self.venue = FaultyVenue(paper)
        self.taken: list[str] = []
        self._orders: dict[str, Order] = {}
        self._seen: dict[str, set[str]] = {}

    def order(self, order_id: str) -> Order:
        return self._orders[order_id]

    async def compare(self) -> int:
        """All that live; answers how many reports had been missed."""
        missed = 0
        for order_id in [each.order_id for each in self._orders.values() if each.status not in CLOSED]:
            theirs = await self.venue.status(self._orders[order_id])
            ours = self._orders[order_id]
            found = reconcile(ours, theirs, seen=self._seen[order_id], now_us=self.clock.now_us())
            for report in found.reports:
                self.take(report)
            if found.cancel_again:
                await self.venue.cancel(ours)
            missed += len(found.reports)
        return missed

    def take(self, report: VenueReport) -> None:
        seen = self._seen[report.order_id]
        if report.exec_id in seen:
            return
        seen |= {report.exec_id} | ({report.trade_id} if report.trade_id is not None else set())
        self.taken.append(line(report))
        self.change(report.order_id, Event(actor="venue", **msgspec.structs.asdict(report)))

    def change(self, order_id: str, event: Event) -> None:
        changed = apply(self._orders[order_id], event)
        self._orders[order_id] = replace(changed, updated_us=self.clock.now_us())

    async def send(self, order: Order) -> Order:
        """Submit an order, and let the venue have it."""
        sent = replace(order, status="PENDING_NEW", updated_us=self.clock.now_us())
        self._orders[sent.order_id] = sent
        self._seen[sent.order_id] = set()
        await self.venue.submit(approve(sent))
        await self.settle()
        return sent

    async def settle(self) -> None:
        """Let every command arrive, and let its answers grow old."""
        await self.clock.advance(IN_FLIGHT_US / 1_000_000, sleepers=1)


@asynccontextmanager
async def opened() -> AsyncIterator[Desk]:
    clock = VirtualClock()
    matcher = Matcher(instrument={SYMBOL: INSTRUMENT}.get, position=lambda _account, _symbol: Decimal(0))
    paper = PaperVenue(matcher, clock=clock, latency=Latency(least_ms=0))
    paper.hear(make_tick("100", "101"))
    task = asyncio.create_task(paper.run())
    try:
        yield Desk(clock, paper)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_silent_venue_did_is_found() -> None:
    async with opened() as desk:
        order = await desk.send(make_order("BUY", "1"))
        assert await desk.compare() == 2
        assert desk.taken == ["NEW", "TRADE 1 @ 101 TAKER"]
        assert desk.order(order.order_id).status == "FILLED"
        assert await desk.compare() == 0


async def test_a_report_that_came_late_after_all_counts_once() -> None:
    async with opened() as desk:
        order = await desk.send(make_order("BUY", "1"))
        await desk.compare()
        status = await desk.venue.status(order)
        assert status is not None
        for report in status.reports:
            desk.take(report)
        assert desk.order(order.order_id).cum_qty == 1


async def test_a_lost_cancel_is_sent_again() -> None:
    async with opened() as desk:
        order = await desk.send(make_order("BUY", "1", "99"))
        await desk.compare()
        desk.venue.lost = True
        pending = Event(order_id=order.order_id, exec_type="PENDING_CANCEL", exec_id="h1", ts_event=0, actor="ada")
        desk.change(order.order_id, pending)
        await desk.venue.cancel(order)
        desk.venue.lost = False
        assert await desk.compare() == 0  # the answer may be on its way
        await desk.settle()
        await desk.compare()
        await desk.settle()
        await desk.compare()
        assert desk.order(order.order_id).status == "CANCELED"


async def test_a_venue_that_cannot_be_reached_is_asked_again_later() -> None:
    async with opened() as desk:
        await desk.send(make_order("BUY", "1"))
        desk.venue.unreachable = True
        with pytest.raises(VenueUnreachable):
            await desk.compare()
        desk.venue.unreachable = False
        assert await desk.compare() == 2


async def test_an_order_that_the_venue_lost_ends() -> None:
    async with opened() as desk:
        order = await desk.send(make_order("BUY", "1", "99"))
        await desk.compare()
        await desk.paper.restore([])
        await desk.settle()
        await desk.compare()
        assert desk.taken == ["NEW", "CANCELED UNKNOWN_ORDER"]
        assert desk.order(order.order_id).status == "CANCELED"


async def test_a_fill_that_is_reported_after_the_end_still_counts() -> None:
    async with opened() as desk:
        partly = await desk.send(make_order("BUY", "12", "101", tif="IOC"))
        await desk.compare()
        ended = desk.order(partly.order_id)
        assert ended.status == "EXPIRED"
        known = await desk.venue.status(partly)
        assert known is not None
        (trade,) = [each for each in known.reports if each.exec_type == "TRADE"]
        desk.take(replace(late(trade, 1), last_qty=Decimal(1)))
        assert desk.order(partly.order_id).cum_qty == ended.cum_qty + 1
