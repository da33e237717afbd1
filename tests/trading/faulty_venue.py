"""A venue between which and the hub things go wrong, as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from hub.trading.orders.order import Order
from hub.trading.risk.decision import Approved
from hub.trading.venues.base import Venue, VenueOrder, VenueReport, VenueUnreachable


class FaultyVenue:
    """Implements Venue by another one. While nothing is switched on it is that one.

    lost: commands do not arrive, and nobody says so. unreachable: they do not arrive, or, with `arrives`, they do and
    the answer is lost. silent: reports are lost, though `status` knows of them. copies: how often each report comes.
    answers: while it is not set, commands and questions wait.
    """

    def __init__(self, venue: Venue) -> None:
        self.name = venue.name
        self.paper = venue.paper
        self.lost = False
        self.unreachable = False
        self.arrives = False
        self.silent = False
        self.copies = 1
        self.answers = asyncio.Event()
        self.answers.set()
        self._venue = venue
        self._arrived: asyncio.Queue[VenueReport] = asyncio.Queue()
        self._held: list[VenueReport] | None = None

    async def run(self) -> None:
        """Passes on what the venue reports."""
        async for report in self._venue.reports():
            if self._held is not None:
                self._held.append(report)
            elif not self.silent:
                self.report(report)

    def report(self, report: VenueReport) -> None:
        """As if the venue had said it."""
        for _ in range(self.copies):
            self._arrived.put_nowait(report)

    def hold(self) -> None:
        """Keep reports back until `release`."""
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for report in held:
            self.report(report)

    async def submit(self, approved: Approved) -> None:
        await self.answers.wait()
        if self._gets_through():
            await self._venue.submit(approved)
        self._may_break()

    async def replace(self, approved: Approved) -> None:
        await self.answers.wait()
        if self._gets_through():
            await self._venue.replace(approved)
        self._may_break()

    async def cancel(self, order: Order) -> None:
        await self.answers.wait()
        if self._gets_through():
            await self._venue.cancel(order)
        self._may_break()

    async def status(self, order: Order) -> VenueOrder | None:
        await self.answers.wait()
        self._may_break()
        return await self._venue.status(order)

    async def restore(self, orders: Sequence[Order]) -> None:
        await self._venue.restore(orders)

    async def reports(self) -> AsyncIterator[VenueReport]:
        while True:
            yield await self._arrived.get()

    def _gets_through(self) -> bool:
        return not self.lost and (self.arrives or not self.unreachable)

    def _may_break(self) -> None:
        if self.unreachable:
            raise VenueUnreachable


def late(trade: VenueReport, number: int) -> VenueReport:
    """Another execution like this one, with ids of its own."""
    return replace(trade, exec_id=f"{trade.exec_id}-late-{number}", trade_id=f"{trade.trade_id}-late-{number}")
