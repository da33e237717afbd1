"""What an account holds: positions, balances, profit and loss. A pure fold over its executions.

Positions are carried at average cost. What a rounded average leaves over stays in the open cost, so that of every
position, whatever was traded: `realized_pnl - cost` is the money that came in less the money that went out, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol

import msgspec
from msgspec.structs import replace

from hub.trading.decimals import EXACT, ratio, text
from hub.trading.orders.order import Order
from protocol.trading import Balance, ExecType, Position

DAY_US = 86_400_000_000
COST_PLACES = 18  # of the cost that a partial close releases
PRICE_PLACES = 10  # of an average price as it is shown
WIRE_PLACES = 30  # decimals that the protocol admits
MAX_RECENT = 1_000  # executions of a position that can still be busted or corrected
ZERO = Decimal(0)


class Execution(Protocol):
    """What the fold reads of a report, whoever made it. `trade_id` of a correction or a bust names the trade that it
    is about, and the figures of a correction are those that count now."""

    @property
    def exec_type(self) -> ExecType: ...
    @property
    def trade_id(self) -> str | None: ...
    @property
    def last_qty(self) -> Decimal | None: ...
    @property
    def last_px(self) -> Decimal | None: ...
    @property
    def commission(self) -> Decimal | None: ...
    @property
    def commission_asset(self) -> str | None: ...
    @property
    def ts_event(self) -> int: ...


class UnknownExecution(LookupError):
    """A correction or bust of a trade that is not among the last MAX_RECENT of its symbol. The text names it."""


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution that counts. `qty` is signed: what was sold is negative. An account that trades with itself has
    the same trade twice, once for each order."""

    order_id: str
    trade_id: str
    qty: Decimal
    price: Decimal
    commission: Decimal = ZERO
    commission_asset: str | None = None


class Standing(msgspec.Struct, frozen=True):
    """What executions of one symbol add up to. `qty` and `cost` are negative when short; money is in the quote asset.

    `realized` is before commission, `commission` what was paid, as far as it was paid in one of the symbol's assets.
    """

    qty: Decimal = ZERO
    cost: Decimal = ZERO
    realized: Decimal = ZERO
    commission: Decimal = ZERO


class Holding(msgspec.Struct, frozen=True):
    """One position: as it stands, its newest fills, and how it stood before those."""

    standing: Standing = Standing()
    fills: tuple[Fill, ...] = ()
    before: Standing = Standing()

    @property
    def qty(self) -> Decimal:
        return self.standing.qty

    @property
    def avg_px_open(self) -> Decimal | None:
        """None: there is no open position."""
        standing = self.standing
        return ratio(standing.cost, standing.qty, PRICE_PLACES) if standing.qty else None

    def unrealized(self, mark: Decimal) -> Decimal:
        return EXACT.subtract(EXACT.multiply(self.standing.qty, mark), self.standing.cost)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`balances` are what it holds in all, locked or not, and negative for what it owes.

    `realized_today` is the profit since midnight UTC of `day` (days since 1970) after commission, all quote assets
    added up as if they were one; `unrealized_at_midnight` is what was open then.
    """

    name: str
    positions: Mapping[str, Holding] = {}
    balances: Mapping[str, Decimal] = {}
    day: int = 0
    realized_today: Decimal = ZERO
    unrealized_at_midnight: Decimal = ZERO

    def daily_pnl(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Realised and unrealised since midnight."""
        change = EXACT.subtract(self.unrealized(marks), self.unrealized_at_midnight)
        return EXACT.add(self.realized_today, change)

    def unrealized(self, marks: Mapping[str, Decimal]) -> Decimal:
        """Of all open positions; one without a mark counts as worth what it cost."""
        total = ZERO
        for symbol, holding in self.positions.items():
            if (mark := marks.get(symbol)) is not None:
                total = EXACT.add(total, holding.unrealized(mark))
        return total


def begin_day(account: Account, at_us: int, marks: Mapping[str, Decimal] | None = None) -> Account:
    """Count from zero again if a new day has begun; `marks` are the prices at midnight. A day never ends twice."""
    day = at_us // DAY_US
    if day <= account.day:
        return account
    return replace(account, day=day, realized_today=ZERO, unrealized_at_midnight=account.unrealized(marks or {}))


def apply_execution(account: Account, order: Order, report: Execution) -> Account:
    """The account after TRADE, TRADE_CORRECT or TRADE_CANCEL; any other report changes nothing, nor does a trade that
    is already counted. After a correction or a bust the position is what its surviving executions make of it.

    Raises UnknownExecution, and ValueError for a trade without trade id, quantity or price.
    """
    if report.exec_type not in ("TRADE", "TRADE_CORRECT", "TRADE_CANCEL"):
        return account
    if report.trade_id is None:
        raise ValueError(f"a {report.exec_type} of {order.symbol} without a trade id")
    holding = account.positions.get(order.symbol, Holding())
    place = _find(holding.fills, order.order_id, report.trade_id)
    if report.exec_type == "TRADE":
        if place is not None:
            return account
        return _changed(account, order.symbol, _added(holding, order.symbol, _fill(order, report)), report)
    if place is None:
        raise UnknownExecution(f"{report.trade_id} of {order.symbol}")
    survives: tuple[Fill, ...] = ()
    if report.exec_type == "TRADE_CORRECT":
        survives = (_corrected(holding.fills[place], order, report),)
    fills = (*holding.fills[:place], *survives, *holding.fills[place + 1 :])
    recomputed = Holding(_standing(holding.before, order.symbol, fills), fills, holding.before)
    return _changed(account, order.symbol, recomputed, report)


def _find(fills: tuple[Fill, ...], order_id: str, trade_id: str) -> int | None:
    named = (order_id, trade_id)
    return next((place for place, fill in enumerate(fills) if (fill.order_id, fill.trade_id) == named), None)


def _fill(order: Order, report: Execution) -> Fill:
    qty, price = report.last_qty, report.last_px
    if report.trade_id is None or qty is None or price is None:
        raise ValueError("a trade needs a trade id, a quantity and a price")
    return Fill(
        order_id=order.order_id,
        trade_id=report.trade_id,
        qty=qty if order.side == "BUY" else -qty,
        price=price,
        commission=report.commission or ZERO,
        commission_asset=report.commission_asset,
    )


def _corrected(fill: Fill, order: Order, report: Execution) -> Fill:
    """A correction that does not speak of the commission leaves it as it was."""
    corrected = _fill(order, report)
    if report.commission is None:
        return replace(corrected, commission=fill.commission, commission_asset=fill.commission_asset)
    return corrected


def _added(holding: Holding, symbol: str, fill: Fill) -> Holding:
    fills, before = (*holding.fills, fill), holding.before
    if len(fills) > MAX_RECENT:
        before = traded(before, symbol, fills[0])
        fills = fills[1:]
    return Holding(traded(holding.standing, symbol, fill), fills, before)


def _standing(before: Standing, symbol: str, fills: Iterable[Fill]) -> Standing:
    for fill in fills:
        before = traded(before, symbol, fill)
    return before


def traded(standing: Standing, symbol: str, fill: Fill) -> Standing:
    """One more execution: it opens, closes in part, closes, or turns a position round."""
    qty, cost, realized = standing.qty, standing.cost, standing.realized
    paid = EXACT.multiply(fill.qty, fill.price)
    left = EXACT.add(qty, fill.qty)
    if qty * fill.qty >= 0:
        cost = EXACT.add(cost, paid)
    else:
        if qty * left > 0:
            kept = EXACT.subtract(cost, ratio(EXACT.multiply(cost, -fill.qty), qty, COST_PLACES))
        else:
            kept = EXACT.multiply(left, fill.price)  # nothing, or a new position the other way
        # What was released less what was paid: the difference of both sides of the rule at the top.
        realized = EXACT.add(realized, EXACT.subtract(EXACT.subtract(kept, cost), paid))
        cost = kept
    return Standing(left, cost, realized, EXACT.add(standing.commission, _in_quote(symbol, fill)))


def _in_quote(symbol: str, fill: Fill) -> Decimal:
    base, quote = assets_of(symbol)
    if fill.commission_asset == base != quote:
        return EXACT.multiply(fill.commission, fill.price)
    return fill.commission if fill.commission_asset in (quote, None) else ZERO


def _changed(account: Account, symbol: str, holding: Holding, report: Execution) -> Account:
    account = begin_day(account, report.ts_event)
    earlier = account.positions.get(symbol, Holding())
    balances = dict(account.balances)
    for fill in earlier.fills if report.exec_type != "TRADE" else ():
        _settle(balances, symbol, fill, -1)
    for fill in holding.fills if report.exec_type != "TRADE" else holding.fills[-1:]:
        _settle(balances, symbol, fill, 1)
    gained = EXACT.subtract(_net(holding.standing), _net(earlier.standing))
    return replace(
        account,
        positions={**account.positions, symbol: holding},
        balances=balances,
        realized_today=EXACT.add(account.realized_today, gained),
    )


def _net(standing: Standing) -> Decimal:
    return EXACT.subtract(standing.realized, standing.commission)


def _settle(balances: dict[str, Decimal], symbol: str, fill: Fill, sign: int) -> None:
    """Move what changed hands in a fill; `sign` -1 takes it back."""
    base, quote = assets_of(symbol)
    moves = (
        (base, fill.qty),
        (quote, -EXACT.multiply(fill.qty, fill.price)),
        (fill.commission_asset or quote, -fill.commission),
    )
    for asset, amount in moves:
        if amount:
            balances[asset] = EXACT.add(balances.get(asset, ZERO), amount * sign)


def assets_of(symbol: str) -> tuple[str, str]:
    """(base, quote) of `BTC-USD`, `BTC/USDT` or `BTC/USDT:USDT`. A symbol of one part is bought with dollars."""
    pair = symbol.partition(":")[0]
    for separator in "/-":
        base, found, quote = pair.rpartition(separator)
        if found and base and quote:
            return base, quote
    return symbol, "USD"


def locked(orders: Iterable[Order]) -> dict[str, Decimal]:
    """What open orders hold back of each asset: the money of a purchase with a price, the goods of a sale."""
    held: dict[str, Decimal] = {}
    for order in orders:
        base, quote = assets_of(order.symbol)
        price = order.price or order.stop_price
        if order.side == "SELL":
            held[base] = EXACT.add(held.get(base, ZERO), order.leaves_qty)
        elif price is not None:
            held[quote] = EXACT.add(held.get(quote, ZERO), EXACT.multiply(price, order.leaves_qty))
    return held


def position_message(account: Account, symbol: str, *, mark: Decimal | None, paper: bool, ts_event: int) -> Position:
    """A position as `positions:{account}` shows it, valued at `mark`."""
    holding = account.positions.get(symbol, Holding())
    average = holding.avg_px_open
    return Position(
        account=account.name,
        symbol=symbol,
        qty=text(holding.qty),
        avg_px_open=plain(average) if average is not None else None,
        realized_pnl=plain(holding.standing.realized),
        unrealized_pnl=plain(holding.unrealized(mark)) if mark is not None else None,
        commission=plain(holding.standing.commission),
        mark=text(mark) if mark is not None else None,
        paper=paper,
        ts_event=ts_event,
    )


def balance_message(
    account: Account, asset: str, *, held: Mapping[str, Decimal], paper: bool, ts_event: int
) -> Balance:
    """A balance as `positions:{account}` shows it; `held` is what `locked` says of the open orders."""
    total, kept = account.balances.get(asset, ZERO), held.get(asset, ZERO)
    return Balance(
        account=account.name,
        asset=asset,
        free=plain(EXACT.subtract(total, kept)),
        locked=plain(kept),
        paper=paper,
        ts_event=ts_event,
    )


def plain(number: Decimal) -> str:
    """An amount as it is shown: within the protocol's decimals, and without the zeros that an average leaves."""
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -WIRE_PLACES:
        number = ratio(number, Decimal(1), WIRE_PLACES)
    return text(EXACT.normalize(number))
