"""The facts of one command, gathered from the market and the account as they are now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol

from hub.trading.orders.order import Order
from hub.trading.risk.view import Facts
from protocol.trading import Instrument, MarketReference

NOT_YET = ("INITIALIZED", "PENDING_APPROVAL")


class Market(Protocol):
    """What of the market a decision needs (see hub.trading.market.view)."""

    def instrument(self, symbol: str) -> Instrument | None: ...
    def reference(self, symbol: str) -> MarketReference | None: ...
    def mark(self, symbol: str) -> Decimal | None: ...
    def last(self, symbol: str) -> Decimal | None: ...
    def vwap(self, symbol: str) -> Decimal | None: ...


class Holding(Protocol):
    @property
    def qty(self) -> Decimal: ...
    @property
    def avg_px_open(self) -> Decimal | None: ...


class Account(Protocol):
    """What of an account a decision needs (see hub.trading.accounts)."""

    @property
    def positions(self) -> Mapping[str, Holding]: ...
    @property
    def balances(self) -> Mapping[str, Decimal]: ...
    def daily_pnl(self, marks: Mapping[str, Decimal]) -> Decimal: ...


def gather(order: Order, *, market: Market, account: Account, open_orders: Iterable[Order], now_us: int) -> Facts:
    """`open_orders` are the account's orders that have not ended, without this one. Those that wait for approval do not
    count: if they get it, they meet all checks once more. What is held and has no price yet, as after a restart, counts
    as worth what it cost."""
    open_orders = [other for other in open_orders if other.status not in NOT_YET]
    held = {symbol: holding for symbol, holding in account.positions.items() if holding.qty}
    symbols = {order.symbol, *held, *(other.symbol for other in open_orders)}
    marks = {symbol: price for symbol, holding in held.items() if (price := holding.avg_px_open) is not None}
    marks |= {symbol: price for symbol in symbols if (price := market.mark(symbol)) is not None}
    return Facts(
        now_us=now_us,
        instruments={symbol: found for symbol in symbols if (found := market.instrument(symbol)) is not None},
        market=market.reference(order.symbol),
        vwap=market.vwap(order.symbol),
        last=market.last(order.symbol),
        open_orders=open_orders,
        positions={symbol: holding.qty for symbol, holding in held.items()},
        balances=account.balances,
        marks=marks,
        daily_pnl=account.daily_pnl(marks),
    )
