"""The eighteen pre-trade checks, in their order, as a table of pure functions.

Rule: a check says nothing of what another one answers for. Without a price those that need one are silent, and
`fresh_reference` refuses. To be called in an exact decimal context.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple

from hub.trading.decimals import text
from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk import measures
from hub.trading.risk.limits import QUALITY
from hub.trading.risk.view import RiskView
from protocol.trading import QuoteState, RiskFault


class Breach(NamedTuple):
    """What a check has against an order: what was seen, and what the limit is."""

    reason: Reason
    observed: object = None
    limit: object = None
    text: str | None = None


Check = Callable[[RiskView], Iterator[Breach]]

STATUS_REASONS: Mapping[str, Reason] = {
    "HALT": "INSTRUMENT_HALTED",
    "BREAK": "MARKET_CLOSED",
    "AUCTION": "MARKET_CLOSED",
    "CLOSED": "MARKET_CLOSED",
    "CANCEL_ONLY": "CANCEL_ONLY",
}
QUALITY_REASONS: Mapping[QuoteState, Reason] = {
    "HALTED": "INSTRUMENT_HALTED",
    "STALE": "STALE_MARKET_DATA",
    "DISPUTED": "DISPUTED_MARKET_DATA",
    "DEGRADED": "DEGRADED_MARKET_DATA",
}
PRICES: Mapping[str, frozenset[str]] = {
    "MARKET": frozenset(),
    "LIMIT": frozenset({"price"}),
    "STOP": frozenset({"stop_price"}),
    "STOP_LIMIT": frozenset({"price", "stop_price"}),
    "TRAILING_STOP": frozenset({"trail"}),
}
"""The prices that an order of each type has, and no others."""


def trading_state(view: RiskView) -> Iterator[Breach]:
    for state in view.states:
        scope = f"{state.scope} {state.name}: {state.reason or state.mode}"
        if state.mode == "HALTED":
            yield Breach("TRADING_HALTED", state.mode, "ACTIVE", scope)
        elif state.mode == "REDUCING" and not measures.reduces(view):
            yield Breach("TRADING_REDUCING", state.mode, "ACTIVE", scope)


def symbol(view: RiskView) -> Iterator[Breach]:
    order, limits = view.order, view.limits
    if (limits.allow_symbols is not None and order.symbol not in limits.allow_symbols) or (
        order.symbol in limits.deny_symbols
    ):
        yield Breach("RESTRICTED_INSTRUMENT", order.symbol)
    if (instrument := view.instrument) is None:
        yield Breach("UNKNOWN_SYMBOL", order.symbol)
    elif (reason := STATUS_REASONS.get(instrument.status)) is not None:
        yield Breach(reason, instrument.status, "TRADING", instrument.reason)
    elif instrument.status == "POST_ONLY" and not order.post_only:
        yield Breach("UNSUPPORTED_TIME_IN_FORCE", order.tif, "post_only", "only post_only orders are taken")
    elif instrument.status == "LIMIT_ONLY" and order.order_type != "LIMIT":
        yield Breach("UNSUPPORTED_ORDER_TYPE", order.order_type, "LIMIT")


def precision(view: RiskView) -> Iterator[Breach]:
    """The numbers of the order: those that its type has, on the instrument's steps and within its bounds."""
    order = view.order
    given = {name for name in ("price", "stop_price", "trail") if getattr(order, name) is not None}
    if given != (wanted := PRICES[order.order_type]):
        said = ", ".join(sorted(wanted)) or "no price"
        yield Breach("VALIDATION_FAILED", ", ".join(sorted(given)), said, f"{order.order_type} has {said}")
    if order.qty <= 0:
        yield Breach("QUANTITY_BELOW_MINIMUM", order.qty, 0)
    if (instrument := view.instrument) is None:
        return
    tick, lot = Decimal(instrument.tick_size), Decimal(instrument.lot_size)
    for name in sorted(given):
        number: Decimal = getattr(order, name)
        if number <= 0 or (tick and number % tick):
            yield Breach("TICK_SIZE_INVALID", number, tick, name)
    if lot and order.qty % lot:
        yield Breach("LOT_SIZE_INVALID", order.qty, lot)
    if instrument.min_qty is not None and order.qty < Decimal(instrument.min_qty):
        yield Breach("QUANTITY_BELOW_MINIMUM", order.qty, instrument.min_qty)
    if instrument.max_qty is not None and order.qty > Decimal(instrument.max_qty):
        yield Breach("QUANTITY_EXCEEDS_MAXIMUM", order.qty, instrument.max_qty)
    if (price := measures.price_of(view, order)) is None:
        return
    if instrument.min_notional is not None and price * order.qty < Decimal(instrument.min_notional):
        yield Breach("NOTIONAL_BELOW_MINIMUM", price * order.qty, instrument.min_notional)
    if instrument.max_notional is not None and price * order.qty > Decimal(instrument.max_notional):
        yield Breach("NOTIONAL_EXCEEDS_MAXIMUM", price * order.qty, instrument.max_notional)


def max_qty(view: RiskView) -> Iterator[Breach]:
    if view.limits.max_qty is not None and view.order.qty > view.limits.max_qty:
        yield Breach("QUANTITY_EXCEEDS_MAXIMUM", view.order.qty, view.limits.max_qty)


def notional(view: RiskView) -> Iterator[Breach]:
    if (price := measures.price_of(view, view.order)) is None:
        return
    value, limits = price * view.order.qty, view.limits
    if limits.max_notional is not None and value > limits.max_notional:
        yield Breach("NOTIONAL_EXCEEDS_MAXIMUM", value, limits.max_notional)
    if limits.min_notional is not None and value < limits.min_notional:
        yield Breach("NOTIONAL_BELOW_MINIMUM", value, limits.min_notional)


def price_collar(view: RiskView) -> Iterator[Breach]:
    """A buy must not reach too far above the reference, a sell not too far below. A stop order's limit price is held
    against its own trigger; what a stop without one will trade at, nobody knows yet."""
    order, limits = view.order, view.limits
    if order.order_type in ("STOP", "TRAILING_STOP"):
        return
    base = order.stop_price if order.order_type == "STOP_LIMIT" else measures.reference(view)
    price = measures.price_of(view, order)
    if base is None or price is None or base <= 0:
        return
    across = price - base if order.side == "BUY" else base - price
    for beyond, limit_bps in ((across, limits.collar_bps), (-across, limits.passive_collar_bps)):
        if limit_bps is not None and beyond * measures.BASIS_POINTS > base * limit_bps:
            reach = base * limit_bps / measures.BASIS_POINTS
            bound = base + reach if price > base else base - reach
            yield Breach("PRICE_OUTSIDE_COLLAR", price, bound, f"{limit_bps} bps of {text(base)}")


def fresh_reference(view: RiskView) -> Iterator[Breach]:
    market, limits = view.facts.market, view.limits
    if market is None or market.state is None or measures.reference(view) is None:
        yield Breach("STALE_MARKET_DATA", None, limits.min_quality, "there is no price with a state")
        return
    if QUALITY.index(market.state) < QUALITY.index(limits.min_quality):
        yield Breach(QUALITY_REASONS[market.state], market.state, limits.min_quality)
    if limits.max_ref_age_ms is None:
        return
    limit_us = limits.max_ref_age_ms * 1000
    if market.age_us is None:
        yield Breach("STALE_MARKET_DATA", None, limit_us, "nobody knows how old the price is")
    elif market.age_us > limit_us:
        yield Breach("STALE_MARKET_DATA", market.age_us, limit_us, "age in microseconds")


def message_rate(view: RiskView) -> Iterator[Breach]:
    limits, recent = view.limits, view.recent
    sent, limit = (
        (recent.submits, limits.submit_rate) if view.replaces is None else (recent.modifies, limits.modify_rate)
    )
    if limit is not None and sent + 1 > limit:
        yield Breach("RATE_LIMIT_EXCEEDED", sent + 1, limit, f"in {limits.rate_window_ms} ms")


def duplicate_pattern(view: RiskView) -> Iterator[Breach]:
    limits, same = view.limits, view.recent.same
    if view.replaces is None and limits.duplicate_count is not None and same + 1 >= limits.duplicate_count:
        yield Breach("DUPLICATE_PATTERN", same + 1, limits.duplicate_count, f"in {limits.duplicate_window_ms} ms")


def open_orders(view: RiskView) -> Iterator[Breach]:
    if view.replaces is not None:
        return
    limits, others = view.limits, view.facts.open_orders
    of_symbol = 1 + sum(order.symbol == view.order.symbol for order in others)
    if limits.max_open_orders_symbol is not None and of_symbol > limits.max_open_orders_symbol:
        yield Breach("MAX_OPEN_ORDERS", of_symbol, limits.max_open_orders_symbol, "of the symbol")
    if limits.max_open_orders is not None and len(others) + 1 > limits.max_open_orders:
        yield Breach("MAX_OPEN_ORDERS", len(others) + 1, limits.max_open_orders, "of the account")


def position(view: RiskView) -> Iterator[Breach]:
    if view.limits.max_position is None:
        return
    orders = measures.pending([*view.facts.open_orders, view.order])
    worst = measures.worst_position(view, orders, view.order.symbol, view.order.side)
    if worst > view.limits.max_position:
        yield Breach("POSITION_LIMIT_EXCEEDED", worst, view.limits.max_position, "if every open order fills")


def exposure(view: RiskView) -> Iterator[Breach]:
    """An order that does not add to the gross exposure passes, however large that already is."""
    limits, others = view.limits, view.facts.open_orders
    if limits.max_gross is None and limits.max_net is None:
        return
    orders = measures.pending([*others, view.order])
    if limits.max_gross is not None:
        gross = measures.gross(view, orders)
        if gross > limits.max_gross and gross > measures.gross(view, measures.pending(others)):
            yield Breach("EXPOSURE_LIMIT_EXCEEDED", gross, limits.max_gross, "gross")
    if limits.max_net is not None and (net := measures.net(view, orders, view.order.side)) > limits.max_net:
        yield Breach("EXPOSURE_LIMIT_EXCEEDED", net, limits.max_net, "net")


def buying_power(view: RiskView) -> Iterator[Breach]:
    order, instrument = view.order, view.instrument
    if instrument is None:
        return
    orders = [*view.facts.open_orders, order]
    if order.side == "SELL" and not view.limits.allow_short:
        selling = measures.pending(orders)[order.symbol, "SELL"]
        owned = max(measures.held(view), measures.ZERO)
        if selling > owned:
            yield Breach("INSUFFICIENT_BALANCE", selling, owned, instrument.base)
    if measures.reduces(view):
        return
    needed, free = measures.reserve(view, orders, instrument.quote), measures.available(view, instrument.quote)
    if needed > free:
        yield Breach("INSUFFICIENT_BALANCE", needed, free, instrument.quote)


def daily_loss(view: RiskView) -> Iterator[Breach]:
    limit, result = view.limits.max_daily_loss, view.facts.daily_pnl
    if limit is not None and result < 0 and -result >= limit and not measures.reduces(view):
        yield Breach("DAILY_LOSS_LIMIT", -result, limit)


def self_trade(view: RiskView) -> Iterator[Breach]:
    """The other modes leave it to the venue, which sees at what moment two orders would meet."""
    order = view.order
    if order.stp_mode != "NONE" or view.limits.allow_self_trade:
        return
    for other in view.facts.open_orders:
        if other.symbol == order.symbol and other.side != order.side and _would_meet(order, other):
            yield Breach("SELF_TRADE_PREVENTED", order.price, other.price, f"order {other.client_order_id}")


def _would_meet(order: Order, other: Order) -> bool:
    if order.order_type not in ("MARKET", "LIMIT") or other.price is None:
        return False
    if other.order_type != "LIMIT" and not other.working:
        return False  # a stop that sleeps
    return order.price is None or not _beyond(order, other.price)


def _beyond(order: Order, met: Decimal) -> bool:
    """Whether a limit order's price does not reach this one."""
    assert order.price is not None
    return order.price < met if order.side == "BUY" else order.price > met


def instructions(view: RiskView) -> Iterator[Breach]:
    """What the order asks for besides trading: reduce only, post only, a stop, an end."""
    order = view.order
    if order.reduce_only and not measures.reduces(view):
        yield Breach("REDUCE_ONLY_WOULD_INCREASE", order.qty, abs(measures.held(view)))
    if order.post_only and (order.order_type not in ("LIMIT", "STOP_LIMIT") or order.tif in ("IOC", "FOK")):
        yield Breach("UNSUPPORTED_TIME_IN_FORCE", f"{order.order_type} {order.tif}", "post_only", "it would rest")
    if order.order_type in ("STOP", "STOP_LIMIT", "TRAILING_STOP") and order.tif in ("IOC", "FOK"):
        yield Breach("UNSUPPORTED_TIME_IN_FORCE", order.tif, None, f"{order.order_type} waits for its trigger")
    if (order.tif == "GTD") != (order.expire_at is not None):
        yield Breach("UNSUPPORTED_TIME_IN_FORCE", order.tif, None, "GTD and expire_at belong together")
    elif order.expire_at is not None and order.expire_at <= view.facts.now_us:
        yield Breach("EXPIRE_TIME_IN_PAST", order.expire_at, view.facts.now_us)
    met = measures.quoted(view, order.side)
    if met is None:
        return
    if order.post_only and order.order_type == "LIMIT" and order.price is not None and not _beyond(order, met):
        yield Breach("POST_ONLY_WOULD_MATCH", order.price, met)
    stop = None if order.working else order.stop_price
    if stop is not None and (stop <= met if order.side == "BUY" else stop >= met):
        yield Breach("STOP_WOULD_TRIGGER", stop, met)


def execution_throttle(view: RiskView) -> Iterator[Breach]:
    limit, executions = view.limits.max_executions, view.recent.executions
    if view.order.strategy_id is not None and limit is not None and executions >= limit:
        yield Breach("EXECUTION_THROTTLE", executions, limit, "until a named person resumes the strategy")


def override(view: RiskView) -> Iterator[Breach]:
    """What others allowed holds for this one order, and not for ever."""
    given = view.override
    if given is None:
        return
    if given.order_id != view.order.order_id:
        yield Breach("VALIDATION_FAILED", view.order.order_id, given.order_id, "approved was another order")
    if given.expires_us <= view.facts.now_us:
        yield Breach("APPROVAL_EXPIRED", view.facts.now_us, given.expires_us)
    others = len(given.approvers - {view.order.user})
    if others < view.limits.approvals_required:
        yield Breach("APPROVAL_DECLINED", others, view.limits.approvals_required, "approvals by others")


CHECKS: Mapping[str, Check] = {
    each.__name__: each
    for each in (
        *(trading_state, symbol, precision, max_qty, notional, price_collar, fresh_reference, message_rate),
        *(duplicate_pattern, open_orders, position, exposure, buying_power, daily_loss, self_trade, instructions),
        *(execution_throttle, override),
    )
}
OVERRIDABLE = frozenset({"max_qty", "notional", "price_collar", "position", "exposure"})
"""The checks above whose limits people may let one order pass."""


def faults_of(view: RiskView) -> Iterator[RiskFault]:
    """What all checks have against an order, in their order."""
    for name, check in CHECKS.items():
        for breach in check(view):
            yield RiskFault(
                check=name,
                reason=breach.reason,
                limit=_said(breach.limit),
                observed=_said(breach.observed),
                text=breach.text,
            )


def _said(value: object) -> str | None:
    if value is None:
        return None
    return text(value) if isinstance(value, Decimal) else str(value)
