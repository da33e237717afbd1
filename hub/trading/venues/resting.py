"""The orders that wait at the paper market, and in which order they are served."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter

from hub.trading.decimals import EXACT
from hub.trading.orders.order import Order
from hub.trading.venues.base import VenueReport
from hub.trading.venues.depth import Depth
from protocol.trading import OrderType, Side, TimeInForce

DAY_US = 86_400_000_000

STOPS: frozenset[OrderType] = frozenset({"STOP", "STOP_LIMIT", "TRAILING_STOP"})
LIMITED: frozenset[OrderType] = frozenset({"LIMIT", "STOP_LIMIT"})
AT_ONCE: frozenset[TimeInForce] = frozenset({"IOC", "FOK"})
OPPOSITE: dict[Side, Side] = {"BUY": "SELL", "SELL": "BUY"}


def beyond(side: Side, price: Decimal, limit: Decimal) -> bool:
    """Whether a price is worse than the limit, for one who trades on that side."""
    return price > limit if side == "BUY" else price < limit


def venue_order_id(order_id: str) -> str:
    return f"paper-{order_id}"


@dataclass(slots=True, eq=False)
class LiveOrder:
    """An order at the venue. `order` is as it arrived; what changes is beside it."""

    order: Order
    qty: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    trail: Decimal | None
    cum: Decimal
    waits: bool  # a stop that has not been triggered
    arrives: bool = False  # it has not met the market yet
    arrival: int = 0
    open: bool = True
    suspended: bool = False
    reports: list[VenueReport] = field(default_factory=list)

    @classmethod
    def of(cls, order: Order) -> LiveOrder:
        return cls(
            order=order,
            qty=order.qty,
            price=order.price,
            stop_price=order.stop_price,
            trail=order.trail,
            cum=order.cum_qty,
            waits=order.order_type in STOPS and not order.working,
        )

    @property
    def venue_order_id(self) -> str:
        return venue_order_id(self.order.order_id)

    @property
    def next_exec_id(self) -> str:
        """Holds the version that the order came with: what is said after a restart must not repeat an id from before.
        With the same version nothing that was said in between has been seen by anybody.
        """
        return f"{self.venue_order_id}-{self.order.version}-{len(self.reports) + 1}"

    @property
    def side(self) -> Side:
        return self.order.side

    @property
    def leaves(self) -> Decimal:
        return EXACT.subtract(self.qty, self.cum)

    @property
    def limit(self) -> Decimal | None:
        """The worst price it takes; None: any."""
        return self.price if self.order.order_type in LIMITED else None

    @property
    def rests(self) -> bool:
        """Whether what finds no counterpart stays."""
        return self.limit is not None and self.order.tif not in AT_ONCE

    @property
    def resting_price(self) -> Decimal:
        assert self.price is not None  # only a limit lets an order rest
        return self.price

    @property
    def expire_at(self) -> int | None:
        """In microseconds; of a DAY order the end of its day, UTC."""
        order = self.order
        if order.tif == "DAY":
            return (order.created_us // DAY_US + 1) * DAY_US
        return order.expire_at if order.tif == "GTD" else None

    def reaches(self, price: Decimal) -> bool:
        return self.limit is None or not beyond(self.side, price, self.limit)

    def priority(self) -> tuple[Decimal, int]:
        price = self.resting_price
        return (price.copy_negate() if self.side == "BUY" else price), self.arrival


class Market:
    """One symbol: what the market offers, and the orders that rest here, best first."""

    def __init__(self) -> None:
        self.depth = Depth()
        self.resting: dict[Side, list[LiveOrder]] = {"BUY": [], "SELL": []}
        self.stops: list[LiveOrder] = []
        self.arriving: list[LiveOrder] = []
        self.halted = False
        self.turned = False  # halted or open again, and the orders have not been told

    @property
    def occupied(self) -> bool:
        return bool(self.stops or self.arriving or self.resting["BUY"] or self.resting["SELL"])

    def enter(self, live: LiveOrder) -> None:
        if live.waits or live.arrives:
            insort(self._place(live), live, key=attrgetter("arrival"))
        else:
            insort(self._place(live), live, key=LiveOrder.priority)

    def leave(self, live: LiveOrder) -> None:
        place = self._place(live)
        if live in place:
            place.remove(live)

    def open_orders(self) -> list[LiveOrder]:
        everywhere = (*self.stops, *self.arriving, *self.resting["BUY"], *self.resting["SELL"])
        return sorted(everywhere, key=lambda live: live.arrival)

    def _place(self, live: LiveOrder) -> list[LiveOrder]:
        if live.waits:
            return self.stops
        return self.arriving if live.arrives else self.resting[live.side]
