"""Prices, exposures and reserves as the checks measure them. Pure; to be called in an exact decimal context.

Rule: the worst case counts. Every open order may fill, but of the orders of one OCO list only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from hub.trading.orders.order import Order
from hub.trading.risk.view import RiskView
from protocol.trading import Side

ZERO = Decimal(0)
SHORT_MARGIN = 2  # what a short position ties up: its proceeds, and as much again
BASIS_POINTS = 10_000

Pending = Mapping[tuple[str, Side], Decimal]
"""(symbol, side) -> how much open orders would still trade."""


def quoted(view: RiskView, side: Side) -> Decimal | None:
    """The price that an order of this side would meet now."""
    market = view.facts.market
    price = None if market is None else (market.ask if side == "BUY" else market.bid)
    return None if price is None else Decimal(price)


def reference(view: RiskView) -> Decimal | None:
    """The consolidated mid, else the VWAP, else the last trade."""
    market = view.facts.market
    if market is not None and market.mid is not None:
        return Decimal(market.mid)
    return view.facts.vwap if view.facts.vwap is not None else view.facts.last


def price_of(view: RiskView, order: Order) -> Decimal | None:
    """The worst price at which an order is thought to trade; None: nobody knows."""
    if order.price is not None:
        return order.price
    if order.stop_price is not None:
        return order.stop_price
    if order.symbol != view.order.symbol:
        return view.facts.marks.get(order.symbol)
    price = quoted(view, order.side) or reference(view)
    if price is not None and order.trail is not None and order.side == "BUY":
        return price + order.trail
    return price


def mark(view: RiskView, symbol: str) -> Decimal:
    """What one unit is worth now; zero when there has never been a price."""
    if symbol == view.order.symbol and (price := reference(view)) is not None:
        return price
    return view.facts.marks.get(symbol, ZERO)


def quote_asset(view: RiskView, symbol: str) -> str | None:
    instrument = view.facts.instruments.get(symbol)
    return None if instrument is None else instrument.quote


def held(view: RiskView) -> Decimal:
    """The signed position in the order's symbol."""
    return view.facts.positions.get(view.order.symbol, ZERO)


def together(orders: Iterable[Order]) -> list[Order]:
    """The orders that can all fill: of each OCO list and side the largest."""
    alone: list[Order] = []
    largest: dict[tuple[str, str, Side], Order] = {}
    for order in orders:
        if order.contingency != "OCO" or order.list_id is None:
            alone.append(order)
            continue
        place = (order.list_id, order.symbol, order.side)
        if place not in largest or order.leaves_qty > largest[place].leaves_qty:
            largest[place] = order
    return [*alone, *largest.values()]


def pending(orders: Iterable[Order]) -> Pending:
    total: dict[tuple[str, Side], Decimal] = {}
    for order in together(orders):
        place = (order.symbol, order.side)
        total[place] = total.get(place, ZERO) + order.leaves_qty
    return total


def reduces(view: RiskView) -> bool:
    """Whether the order can only make the position smaller, whatever else of its side fills before."""
    order = view.order
    position = held(view) if order.side == "SELL" else -held(view)
    rivals = [other for other in view.facts.open_orders if other.symbol == order.symbol and other.side == order.side]
    return position > 0 and pending([*rivals, order])[order.symbol, order.side] <= position


def worst_position(view: RiskView, orders: Pending, symbol: str, side: Side) -> Decimal:
    """How far the position goes to this side if all of its orders fill: long for BUY, short (as a positive number) for
    SELL."""
    position = view.facts.positions.get(symbol, ZERO)
    return orders.get((symbol, side), ZERO) + (position if side == "BUY" else -position)


def gross(view: RiskView, orders: Pending) -> Decimal:
    """The account's positions regardless of their sign, in the order's quote asset, each at its worst."""
    total = ZERO
    for symbol in _exposed(view, orders):
        worst = max(worst_position(view, orders, symbol, "BUY"), worst_position(view, orders, symbol, "SELL"))
        total += worst * mark(view, symbol)
    return total


def net(view: RiskView, orders: Pending, side: Side) -> Decimal:
    """The account's positions against one another, if all orders of this side fill and none of the other."""
    worst = (worst_position(view, orders, symbol, side) * mark(view, symbol) for symbol in _exposed(view, orders))
    return sum(worst, ZERO)


def _exposed(view: RiskView, orders: Pending) -> list[str]:
    """Symbols that the account holds or has orders in, of the order's quote asset."""
    asset = quote_asset(view, view.order.symbol)
    symbols = {symbol for symbol, _ in orders} | set(view.facts.positions)
    return [symbol for symbol in symbols if quote_asset(view, symbol) == asset]


def available(view: RiskView, asset: str) -> Decimal:
    """What of an asset is free to pay with: what the account has, less what its short positions tie up."""
    tied = ZERO
    for symbol, position in view.facts.positions.items():
        if position < 0 and quote_asset(view, symbol) == asset:
            tied -= position * mark(view, symbol) * SHORT_MARGIN
    return view.facts.balances.get(asset, ZERO) - tied


def reserve(view: RiskView, orders: Iterable[Order], asset: str) -> Decimal:
    """What these orders tie up of a quote asset: a purchase its cost, a short sale as much as margin. What closes a
    position ties up nothing."""
    total = ZERO
    closing: dict[tuple[str, Side], Decimal] = {}
    for order in together(orders):
        if quote_asset(view, order.symbol) != asset:
            continue
        place = (order.symbol, order.side)
        if place not in closing:
            position = view.facts.positions.get(order.symbol, ZERO)
            closing[place] = max(ZERO, position if order.side == "SELL" else -position)
        closed = min(closing[place], order.leaves_qty)
        closing[place] -= closed
        total += (order.leaves_qty - closed) * (price_of(view, order) or ZERO)
    return total
