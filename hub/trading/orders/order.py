"""An order as the hub knows it: what was asked, and what became of it so far."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from protocol.trading import Contingency, OrderType, OrdStatus, Side, StpMode, TimeInForce

OPEN: frozenset[OrdStatus] = frozenset({"NEW", "PARTIALLY_FILLED", "SUSPENDED", "PENDING_CANCEL", "PENDING_REPLACE"})
CLOSED: frozenset[OrdStatus] = frozenset({"DENIED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"})


class Fill(msgspec.Struct, frozen=True):
    """One execution that counts."""

    trade_id: str
    qty: Decimal
    price: Decimal


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What a replacement under way asks for; None: as it is."""

    client_order_id: str
    qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Immutable; an event makes a new one. Times in microseconds, quantities and prices exact.

    `cum_qty + leaves_qty == qty` while it is open, `leaves_qty` is 0 once it is closed; `filled` is the sum of price
    times quantity of its executions, the `fills`. `prev_status` is what a pending command or a halt goes back to.
    `version` counts its events.
    """

    order_id: str
    account: str
    client_order_id: str
    symbol: str
    side: Side
    order_type: OrderType
    qty: Decimal
    price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    tif: TimeInForce = "GTC"
    expire_at: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    stp_mode: StpMode = "EXPIRE_TAKER"
    strategy_id: str | None = None
    tag: str | None = None
    list_id: str | None = None
    contingency: Contingency = "NONE"
    user: str = ""
    status: OrdStatus = "INITIALIZED"
    prev_status: OrdStatus | None = None
    working: bool = False
    cum_qty: Decimal = Decimal(0)
    leaves_qty: Decimal
    filled: Decimal = Decimal(0)
    fills: tuple[Fill, ...] = ()
    wish: Wish | None = None
    venue: str | None = None
    venue_order_id: str | None = None
    reject_reason: str | None = None
    version: int = 0
    created_us: int = 0
    updated_us: int = 0
