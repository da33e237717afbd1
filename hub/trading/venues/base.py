"""What a venue is to the hub. It never answers by return value: what it has to say of an order arrives as a report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Literal, Protocol

import msgspec

from hub.trading.orders.order import Order
from hub.trading.risk.decision import Approved
from protocol.trading import ExecType


class VenueReport(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to an order at the venue. `exec_id` is the venue's and never repeats for another fact.

    `exec_type` is one of NEW, TRADE, CANCELED, EXPIRED, REJECTED, REPLACED, CANCEL_REJECTED, REPLACE_REJECTED,
    TRIGGERED, SUSPENDED, RESTATED, TRADE_CANCEL, TRADE_CORRECT, TRADE_PREVENTION.
    """

    order_id: str
    exec_type: ExecType
    exec_id: str
    ts_event: int
    venue_order_id: str | None = None
    trade_id: str | None = None
    last_qty: Decimal | None = None
    last_px: Decimal | None = None
    liquidity: Literal["MAKER", "TAKER"] | None = None
    commission: Decimal | None = None
    commission_asset: str | None = None
    qty: Decimal | None = None  # of a replaced order, what it now says
    price: Decimal | None = None
    stop_price: Decimal | None = None
    reason: str | None = None  # one of the reject reasons
    text: str | None = None


class VenueOrder(msgspec.Struct, frozen=True, kw_only=True):
    """How an order stands at the venue, for reconciliation."""

    order_id: str
    venue_order_id: str
    open: bool
    cum_qty: Decimal
    avg_px: Decimal | None = None
    reports: tuple[VenueReport, ...]  # its whole life there, oldest first


class Venue(Protocol):
    """Submitting the same `order_id` twice must not make two orders. Raises VenueUnreachable."""

    name: str
    paper: bool

    async def submit(self, approved: Approved) -> None: ...
    async def replace(self, approved: Approved) -> None: ...
    async def cancel(self, order: Order) -> None: ...

    async def status(self, order: Order) -> VenueOrder | None:
        """None: the venue has never heard of it."""
        ...

    async def restore(self, orders: Sequence[Order]) -> None:
        """The hub came back: these orders are open by its log. A venue with a memory of its own ignores this."""
        ...

    def reports(self) -> AsyncIterator[VenueReport]:
        """Everything that happens from now on, in order, for one reader."""
        ...


class VenueUnreachable(Exception):
    """The command may or may not have arrived."""
