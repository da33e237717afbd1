"""One thing that happened to an order, as the log keeps it. An order is what its events make of it."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from hub.trading.orders.order import Order
from protocol.trading import ExecType, RiskDecision


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`exec_id` never repeats within an order: the hub's own are `h` and a number, a venue's are its own.

    A SUBMIT carries the `order` as it was asked for. `client_order_id`, `qty`, `price`, `stop_price` and `trail` are
    what a PENDING_REPLACE wishes, and the last four what a REPLACED or a TRADE_PREVENTION has made of it. `trade_id` of
    a TRADE_CANCEL or TRADE_CORRECT names the trade it is about. `actor` is who caused it: a user, the venue, or the
    hub. `decision` is what the risk checks said.
    """

    order_id: str
    exec_type: ExecType
    exec_id: str
    ts_event: int
    actor: str
    order: Order | None = None
    client_order_id: str | None = None
    qty: Decimal | None = None
    price: Decimal | None = None
    stop_price: Decimal | None = None
    trail: Decimal | None = None
    venue: str | None = None
    venue_order_id: str | None = None
    trade_id: str | None = None
    last_qty: Decimal | None = None
    last_px: Decimal | None = None
    liquidity: Literal["MAKER", "TAKER"] | None = None
    commission: Decimal | None = None
    commission_asset: str | None = None
    reason: str | None = None
    text: str | None = None
    decision: RiskDecision | None = None
