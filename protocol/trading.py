"""The vocabulary of market data and orders.

Field names and states follow FIX 4.4 and the large exchanges. Times named `ts_*` are integer microseconds UTC:
`ts_event` at the source, `ts_recv` when the hub received it, `ts_pub` when it was fanned out.
Whatever has no field of its own goes under `ext`, which the hub carries and never reads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.fields import Count, DecimalString, Micros, Name, Quantity, Symbol, Text, shaped

Side = Literal["BUY", "SELL"]
QuoteState = Literal["LIVE", "DEGRADED", "DISPUTED", "STALE", "HALTED"]
Level = tuple[Quantity, Quantity]  # price, size


class Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A source left out of a consolidated price, and why."""

    source: Name
    reason: Name


class Quality(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How far a consolidated price can be trusted."""

    sources_ok: Count
    sources_total: Count
    bid_source: Name | None = None
    ask_source: Name | None = None
    spread_bps: DecimalString | None = None
    dispersion_bps: DecimalString | None = None
    age_us: Count | None = None
    crossed: bool = False
    excluded: list[Exclusion] = []


class PriceTick(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The newest price of a symbol. `price` is for sources that quote one number instead of bid and ask."""

    symbol: Symbol
    source: Name | None = None
    bid: DecimalString | None = None
    bid_size: Quantity | None = None
    ask: DecimalString | None = None
    ask_size: Quantity | None = None
    mid: DecimalString | None = None
    price: DecimalString | None = None
    size: Quantity | None = None
    seq: Count | None = None
    state: QuoteState | None = None
    quality: Quality | None = None
    ts_event: Micros | None = None
    ts_recv: Micros | None = None
    ts_pub: Micros | None = None
    ext: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.bid is None and self.ask is None and self.price is None:
            raise ValueError("Object missing one of `bid`, `ask`, `price`")


class Trade(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One execution on a market. `aggressor_side` is who crossed the spread."""

    symbol: Symbol
    price: DecimalString
    size: Quantity
    source: Name | None = None
    trade_id: Name | None = None
    aggressor_side: Literal["BUYER", "SELLER", "NONE"] = "NONE"
    conditions: list[Name] = []
    seq: Count | None = None
    ts_event: Micros | None = None
    ts_recv: Micros | None = None
    ts_pub: Micros | None = None
    ext: dict[str, Any] | None = None


class Book(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Price levels, best first. In an `update` a size of "0" deletes the level."""

    symbol: Symbol
    kind: Literal["snapshot", "update"] = "snapshot"
    depth: Annotated[int, Meta(ge=1, le=1000)]
    bids: Annotated[list[Level], Meta(max_length=1000)]
    asks: Annotated[list[Level], Meta(max_length=1000)]
    source: Name | None = None
    first_seq: Count | None = None
    last_seq: Count | None = None
    checksum: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None
    ts_event: Micros | None = None
    ts_recv: Micros | None = None
    ts_pub: Micros | None = None
    ext: dict[str, Any] | None = None


class Bar(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Open, high, low, close over the half-open interval [start, end), keyed by `start`."""

    symbol: Symbol
    interval: Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]
    start: Micros
    end: Micros
    open: DecimalString
    high: DecimalString
    low: DecimalString
    close: DecimalString
    volume: Quantity
    quote_volume: Quantity | None = None
    vwap: DecimalString | None = None
    taker_buy_volume: Quantity | None = None
    trade_count: Count = 0
    closed: bool = False
    revision: Count = 0
    source: Name | None = None
    ext: dict[str, Any] | None = None


OrdStatus = Literal[
    "INITIALIZED",
    "PENDING_APPROVAL",
    "DENIED",
    "PENDING_NEW",
    "NEW",
    "PARTIALLY_FILLED",
    "FILLED",
    "PENDING_CANCEL",
    "PENDING_REPLACE",
    "SUSPENDED",
    "CANCELED",
    "REJECTED",
    "EXPIRED",
]
ExecType = Literal[
    "SUBMIT",
    "DENIED",
    "APPROVAL_REQUESTED",
    "APPROVAL_GRANTED",
    "APPROVAL_DECLINED",
    "PENDING_NEW",
    "NEW",
    "TRADE",
    "TRADE_CORRECT",
    "TRADE_CANCEL",
    "TRADE_PREVENTION",
    "PENDING_CANCEL",
    "CANCELED",
    "CANCEL_REJECTED",
    "PENDING_REPLACE",
    "REPLACED",
    "REPLACE_REJECTED",
    "REJECTED",
    "EXPIRED",
    "SUSPENDED",
    "RESTATED",
    "TRIGGERED",
    "ORDER_STATUS",
]
OrderType = Literal["MARKET", "LIMIT", "STOP", "STOP_LIMIT", "TRAILING_STOP"]
TimeInForce = Literal["GTC", "IOC", "FOK", "GTD", "DAY"]
ClientOrderId = Annotated[str, shaped(r"^[A-Za-z0-9_-]{1,64}\Z", "1 to 64 letters, digits, _ and -")]


class ExecutionReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One event in an order's life. `exec_type` is what happened, `ord_status` is the state after it."""

    account: Name
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    exec_type: ExecType
    ord_status: OrdStatus
    order_type: OrderType | None = None
    order_id: Name | None = None
    orig_client_order_id: ClientOrderId | None = None
    venue: Name | None = None
    venue_order_id: Name | None = None
    exec_id: Name | None = None
    prev_status: OrdStatus | None = None
    tif: TimeInForce | None = None
    price: DecimalString | None = None
    stop_price: DecimalString | None = None
    order_qty: Quantity | None = None
    cum_qty: Quantity | None = None
    leaves_qty: Quantity | None = None
    avg_px: DecimalString | None = None
    last_qty: Quantity | None = None
    last_px: DecimalString | None = None
    trade_id: Name | None = None
    liquidity: Literal["MAKER", "TAKER"] | None = None
    commission: DecimalString | None = None
    commission_asset: Name | None = None
    working: bool | None = None
    reject_reason: Name | None = None
    text: Text | None = None
    strategy_id: Name | None = None
    position_qty: DecimalString | None = None
    paper: bool = False
    ts_event: Micros | None = None
    ts_recv: Micros | None = None
    ts_pub: Micros | None = None
    causation_id: Name | None = None
    ext: dict[str, Any] | None = None


class OrderEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """An order's state in short, for whoever watches orders without acting on them."""

    account: Name
    client_order_id: ClientOrderId
    symbol: Symbol | None = None
    side: Side | None = None
    ord_status: OrdStatus | None = None
    exec_type: ExecType | None = None
    order_id: Name | None = None
    order_type: OrderType | None = None
    tif: TimeInForce | None = None
    price: DecimalString | None = None
    order_qty: Quantity | None = None
    cum_qty: Quantity | None = None
    leaves_qty: Quantity | None = None
    avg_px: DecimalString | None = None
    text: Text | None = None
    paper: bool = False
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


StpMode = Literal["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"]
Contingency = Literal["NONE", "OCO"]


class OrderSubmit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.submit` and `orders.validate`. `(account, client_order_id)` names an order for ever.

    `price` belongs to LIMIT and STOP_LIMIT, `stop_price` to STOP and STOP_LIMIT, `trail` (a distance in price) to
    TRAILING_STOP, `expire_at` to GTD. Orders of one account with the same `list_id` and contingency OCO cancel one
    another: the first that trades or ends leaves no other working.
    """

    account: Name
    client_order_id: ClientOrderId
    symbol: Symbol
    side: Side
    order_type: OrderType
    qty: Quantity
    price: DecimalString | None = None
    stop_price: DecimalString | None = None
    trail: Quantity | None = None
    tif: TimeInForce = "GTC"
    expire_at: Micros | None = None
    post_only: bool = False
    reduce_only: bool = False
    stp_mode: StpMode = "EXPIRE_TAKER"
    strategy_id: Name | None = None
    tag: Name | None = None
    list_id: ClientOrderId | None = None
    contingency: Contingency = "NONE"


class OrderReplace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.replace`. The order keeps its `order_id`; what is not named stays. `qty` is the whole."""

    account: Name
    orig_client_order_id: ClientOrderId
    client_order_id: ClientOrderId
    qty: Quantity | None = None
    price: DecimalString | None = None
    stop_price: DecimalString | None = None
    trail: Quantity | None = None

    def __post_init__(self) -> None:
        if self.qty is None and self.price is None and self.stop_price is None and self.trail is None:
            raise ValueError("Object missing one of `qty`, `price`, `stop_price`, `trail`")


class OrderCancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.cancel` and `orders.status`."""

    account: Name
    client_order_id: ClientOrderId


class OrderCancelAll(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.cancel_all`: every open order of the account that fits."""

    account: Name
    symbol: Symbol | None = None
    side: Side | None = None
    strategy_id: Name | None = None


class CancelAllAfter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.cancel_all_after`, the dead man's switch. It fires once; 0 disarms it."""

    account: Name
    timeout_ms: Annotated[int, Meta(ge=0, le=3_600_000)]


class SwitchState(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `orders.cancel_all_after`: when the switch will fire; absent: it is disarmed."""

    account: Name
    fires_at: Micros | None = None


class CancelOnDisconnect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.cancel_on_disconnect`: of the orders placed over this connection from now on."""

    account: Name
    enabled: bool = True


class OrderList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `orders.list`: an account's orders, the newest first. `open`: only those that may still trade.

    `before` is the `next` of the page before.
    """

    account: Name
    open: bool = False
    symbol: Symbol | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    before: Count | None = None


class OrderPage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `orders.list`. `next` is there if there may be more."""

    orders: list[ExecutionReport]
    next: Count | None = None


class Canceled(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `orders.cancel_all`: how many orders are being canceled."""

    account: Name
    count: Count


class RiskFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One check that an order does not pass. `limit` and `observed` are as the check names them."""

    check: Name
    reason: Name
    limit: Text | None = None
    observed: Text | None = None
    text: Text | None = None


class MarketReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The market data that a decision was made on."""

    symbol: Symbol
    bid: DecimalString | None = None
    ask: DecimalString | None = None
    mid: DecimalString | None = None
    state: QuoteState | None = None
    age_us: Count | None = None
    seq: Count | None = None


class RiskDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the risk checks said of one command. The first fault decides; `orders.validate` lists them all."""

    account: Name
    client_order_id: ClientOrderId
    symbol: Symbol
    result: Literal["APPROVED", "REFUSED", "NEEDS_APPROVAL"]
    faults: list[RiskFault] = []
    market: MarketReference | None = None
    strategy_id: Name | None = None
    config_version: Count = 0
    latency_us: Count | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


TradingMode = Literal["ACTIVE", "REDUCING", "HALTED"]
TradingScope = Literal["GLOBAL", "ACCOUNT", "STRATEGY", "SYMBOL"]


class TradingState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The kill switch of one scope: REDUCING lets orders through that make a position smaller, HALTED none."""

    scope: TradingScope
    name: Name = "*"
    mode: TradingMode
    reason: Text | None = None
    actor: Name | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What an account holds of a symbol; `qty` is negative when short. Profit and loss are in the quote asset."""

    account: Name
    symbol: Symbol
    qty: DecimalString
    avg_px_open: DecimalString | None = None
    realized_pnl: DecimalString = "0"
    unrealized_pnl: DecimalString | None = None
    commission: DecimalString = "0"
    mark: DecimalString | None = None
    paper: bool = False
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Balance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What an account holds of an asset. `locked` is reserved by open orders."""

    account: Name
    asset: Name
    free: DecimalString
    locked: DecimalString = "0"
    paper: bool = False
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Instrument(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How a symbol trades: the steps and bounds of prices and quantities."""

    symbol: Symbol
    base: Name
    quote: Name
    tick_size: Quantity
    lot_size: Quantity
    min_qty: Quantity | None = None
    max_qty: Quantity | None = None
    min_notional: Quantity | None = None
    max_notional: Quantity | None = None
    status: Literal["TRADING", "HALT", "BREAK", "CANCEL_ONLY", "POST_ONLY", "LIMIT_ONLY", "AUCTION", "CLOSED"] = (
        "TRADING"
    )
    reason: Text | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class Ticker(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A symbol's last 24 hours."""

    symbol: Symbol
    last: DecimalString
    last_size: Quantity | None = None
    open_24h: DecimalString | None = None
    high_24h: DecimalString | None = None
    low_24h: DecimalString | None = None
    volume_24h: Quantity | None = None
    quote_volume_24h: Quantity | None = None
    vwap_24h: DecimalString | None = None
    change: DecimalString | None = None
    change_pct: DecimalString | None = None
    bid: DecimalString | None = None
    ask: DecimalString | None = None
    trade_count: Count = 0
    source: Name | None = None
    ts_event: Micros | None = None
    ext: dict[str, Any] | None = None


class TradeCorrection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A trade that was reported wrongly: TRADE_CORRECTION gives what it should have said, TRADE_BUST withdraws it."""

    symbol: Symbol
    original_trade_id: Name
    original_price: DecimalString
    original_size: Quantity
    corrected_trade_id: Name | None = None
    corrected_price: DecimalString | None = None
    corrected_size: Quantity | None = None
    source: Name | None = None
    ts_event: Micros | None = None
    ts_recv: Micros | None = None
    ext: dict[str, Any] | None = None


class SourceStatus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The health of one market-data source."""

    source: Name
    state: Literal["CONNECTED", "RECONNECTING", "SUSPECT", "DOWN"]
    role: Literal["PRIMARY", "SECONDARY"] | None = None
    last_ts_event: Micros | None = None
    gap_count: Count = 0
    reconnects: Count = 0
    reason: Text | None = None
    ext: dict[str, Any] | None = None
