"""What must happen to orders by the clock: dead man's switches, answers that do not come, ends that were due.

A command that a venue does not answer is asked about, every IN_FLIGHT_S, at most TRIES times. A new order is then
REJECTED as UNCONFIRMED, and people are told; a cancel is sent again, a replacement counts as refused.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

from hub.clock import Clock
from hub.trading.orders.engine import Engine
from hub.trading.orders.order import OPEN, Order
from hub.trading.orders.reporting import HUB
from hub.trading.reconciliation import reconcile
from hub.trading.venues.base import Venue, VenueOrder, VenueReport, VenueUnreachable
from protocol.trading import OrderCancelAll
from storage.errors import StorageError
from storage.orders import OrderLog

logger = logging.getLogger("krin.orders")

PULSE_S = 0.1  # how late at most a switch fires
LOOK_S = 1.0
COMPARE_S = 10.0
COMPARED_AT_ONCE = 200  # orders; the next look goes on with the others
IN_FLIGHT_S = 5.0
TRIES = 5
GRACE_US = 1_000_000  # for a venue that ends orders by itself
DAY_US = 86_400_000_000
IN_FLIGHT = ("PENDING_NEW", "PENDING_CANCEL", "PENDING_REPLACE")
SWITCH_FIRED = "dead man's switch"


class Watch:
    """Of one engine. `switches`: account -> when its orders are to be canceled, in microseconds since 1970."""

    def __init__(self, engine: Engine, venue: Venue, log: OrderLog, *, switches: dict[str, int], clock: Clock) -> None:
        self._engine = engine
        self._venue = venue
        self._log = log
        self._switches = switches
        self._clock = clock
        self._tries: dict[str, tuple[int, float]] = {}  # order_id -> how often it was asked about, and when last
        self._compared = ""  # the order that was compared last
        self._arming = asyncio.Lock()  # the log and the memory must agree on the last word of a switch

    async def run(self) -> NoReturn:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_switches(), name="dead man's switches")  # never behind a venue's answers
            group.create_task(self._watch_orders(), name="orders by the clock")
        raise AssertionError("the group's tasks never return")

    async def _watch_switches(self) -> NoReturn:
        while True:
            await self._clock.sleep(PULSE_S)
            await self.fire_switches()

    async def _watch_orders(self) -> NoReturn:
        compared = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_S)
            self._engine.new_day(self._clock.now_us())
            await self.ask_about_silence()
            await self.end_what_was_due()
            if self._clock.monotonic() - compared >= COMPARE_S:
                compared = self._clock.monotonic()
                await self.compare()

    # --- the dead man's switch ---

    async def arm(self, account: str, timeout_ms: int) -> int | None:
        """Answers when it will fire; None: it is disarmed. Raises StorageError."""
        deadline_us = self._clock.now_us() + timeout_ms * 1000 if timeout_ms else None
        async with self._arming:
            await self._log.set_switch(account, deadline_us)
            if deadline_us is None:
                self._switches.pop(account, None)
            else:
                self._switches[account] = deadline_us
        return deadline_us

    async def fire_switches(self) -> None:
        now_us = self._clock.now_us()
        for account in [account for account, deadline_us in self._switches.items() if deadline_us <= now_us]:
            if self._switches.get(account, now_us + 1) > now_us:
                continue  # somebody said a word while another one fired
            del self._switches[account]
            count = await self._engine.cancel_all(OrderCancelAll(account=account), user=HUB, text=SWITCH_FIRED)
            logger.warning("the dead man's switch of %s has fired: %d orders", account, count)
            async with self._arming:
                if account in self._switches:
                    continue  # armed again meanwhile
                try:
                    await self._log.set_switch(account, None)
                except StorageError as failure:  # at worst it fires once more after a restart
                    logger.error("a switch that has fired is not written down: %s", failure)

    # --- silence ---

    async def ask_about_silence(self) -> None:
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        waiting = [order for order in self._engine.blotter.all_alive() if order.status in IN_FLIGHT]
        self._tries = {
            order.order_id: self._tries[order.order_id] for order in waiting if order.order_id in self._tries
        }
        for order in waiting:
            tried, last = self._tries.get(order.order_id, (0, 0.0))
            if now_us - order.updated_us < IN_FLIGHT_S * 1_000_000 or (tried and now - last < IN_FLIGHT_S):
                continue
            self._tries[order.order_id] = (tried + 1, now)
            known = await self.ask(order)
            if not known and tried + 1 >= TRIES:
                self._give_up(order)

    def _give_up(self, order: Order) -> None:
        entry = self._engine.blotter.get(order.order_id)
        if entry is not None and entry.order.status == "PENDING_NEW":
            self._engine.reject(entry.order, "UNCONFIRMED", f"{self._venue.name} does not answer")

    async def ask(self, order: Order) -> bool:
        """Compare one order with the venue's record of it; whether the venue knows it."""
        try:
            theirs = await self._venue.status(order)
        except VenueUnreachable as failure:
            logger.warning("%s cannot be asked about %s: %s", self._venue.name, order.order_id, failure)
            return False
        self._mend(order.order_id, theirs)
        return theirs is not None

    def _mend(self, order_id: str, theirs: VenueOrder | None) -> None:
        entry = self._engine.blotter.get(order_id)
        if entry is None:
            return
        found = reconcile(entry.order, theirs, seen=entry.seen, now_us=self._clock.now_us())
        for report in found.reports:
            self._engine.hear(report)
        if theirs is not None and theirs.open and entry.order.status == "PENDING_NEW":
            self._engine.hear(_accepted(entry.order, theirs, self._clock.now_us()))
        if found.cancel_again:
            self._engine.cancel_again(entry.order)
        if found.unexplained:
            detail = f"{found.unexplained} traded at {self._venue.name} at an unknown price"
            self._engine.warn(entry.order, "Unexplained trade", detail)

    async def compare(self) -> None:
        """All open orders by and by."""
        at_venue = sorted(order.order_id for order in self._engine.blotter.all_alive() if order.status in OPEN)
        ahead = [order_id for order_id in at_venue if order_id > self._compared] or at_venue
        for order_id in ahead[:COMPARED_AT_ONCE]:
            self._compared = order_id
            entry = self._engine.blotter.get(order_id)
            if entry is not None and entry.order.status in OPEN:
                await self.ask(entry.order)

    # --- ends ---

    async def end_what_was_due(self) -> None:
        """Cancel what the venue should have let expire."""
        now_us = self._clock.now_us()
        due = [
            order
            for order in self._engine.blotter.all_alive()
            if (ends := expires_us(order)) is not None and ends + GRACE_US <= now_us
        ]
        await self._engine.cancel_these(due, actor=HUB, text="expired")


def expires_us(order: Order) -> int | None:
    """When an order ends by itself; a DAY order at midnight UTC. None: never."""
    if order.tif == "DAY":
        return (order.created_us // DAY_US + 1) * DAY_US
    return order.expire_at if order.tif == "GTD" else None


def _accepted(order: Order, theirs: VenueOrder, now_us: int) -> VenueReport:
    """It is open there, so it was accepted, whatever became of the report."""
    return VenueReport(
        order_id=order.order_id,
        exec_type="NEW",
        exec_id=f"reconciled-{order.order_id}-new",
        ts_event=now_us,
        venue_order_id=theirs.venue_order_id,
        text="inferred by comparing with the venue",
    )
