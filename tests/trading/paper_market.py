"""A paper market with one symbol, whose price and time a test moves, and orders in few words."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any, get_args

from hub.trading.orders.order import Order
from hub.trading.risk.decision import BY_THE_CHECKS, Approved
from hub.trading.venues.base import VenueReport
from hub.trading.venues.matching import Fees, Matcher
from protocol.trading import Book, Instrument, Level, OrderType, PriceTick, QuoteState, RiskDecision, Side

START_US = 1_700_000_000_000_000
SYMBOL = "BTC-USD"
INSTRUMENT = Instrument(symbol=SYMBOL, base="BTC", quote="USD", tick_size="0.5", lot_size="0.1")

_numbers = itertools.count(1)


def make_order(side: Side, qty: str, price: str | None = None, **fields: Any) -> Order:
    """A LIMIT order when it has a price and a MARKET order when not, unless `order_type` says otherwise."""
    decimals = {
        name: Decimal(fields.pop(name)) for name in ("stop_price", "trail", "cum_qty", "filled") if name in fields
    }
    kind: OrderType = fields.pop("order_type", "MARKET" if price is None else "LIMIT")
    assert kind in get_args(OrderType)
    total = Decimal(qty)
    order_id = fields.pop("order_id", None) or f"o{next(_numbers)}"
    return Order(
        order_id=order_id,
        account=fields.pop("account", "ada"),
        client_order_id=order_id,
        symbol=fields.pop("symbol", SYMBOL),
        side=side,
        order_type=kind,
        qty=total,
        leaves_qty=total - decimals.get("cum_qty", Decimal(0)),
        price=None if price is None else Decimal(price),
        created_us=fields.pop("created_us", START_US),
        **decimals,
        **fields,
    )


def approve(order: Order, **wishes: str) -> Approved:
    """As the risk checks do. The wishes are a replacement's."""
    decision = RiskDecision(
        account=order.account, client_order_id=order.client_order_id, symbol=order.symbol, result="APPROVED"
    )
    return Approved(order, decision, made_by=BY_THE_CHECKS, **{name: Decimal(value) for name, value in wishes.items()})


def make_tick(
    bid: str, ask: str, *, size: str | None = "10", state: QuoteState | None = "LIVE", symbol: str = SYMBOL
) -> PriceTick:
    return PriceTick(symbol=symbol, bid=bid, bid_size=size, ask=ask, ask_size=size, state=state)


def line(report: VenueReport) -> str:
    """`TRADE 1 @ 100 MAKER`, `REJECTED STOP_WOULD_TRIGGER`, `NEW`."""
    parts: list[str] = [report.exec_type]
    if report.last_qty is not None and report.last_px is not None:
        parts.append(f"{report.last_qty.normalize():f} @ {report.last_px.normalize():f}")
    parts += [each for each in (report.liquidity, report.reason) if each]
    return " ".join(parts)


class PaperMarket:
    """What its methods answer are lines, `name: what happened`, where the name is the order's id."""

    def __init__(
        self, bid: str = "100", ask: str = "101", *, size: str | None = "10", held: str = "0", fees: Fees = Fees()
    ) -> None:
        """`held`: what every account holds at the start."""
        self.now_us = START_US
        self.instruments = {SYMBOL: INSTRUMENT}
        self.matcher = Matcher(
            instrument=lambda symbol: self.instruments.get(symbol),
            position=lambda _account, _symbol: Decimal(held),
            fees=fees,
        )
        self.said: list[VenueReport] = []
        self.quote(bid, ask, size=size)

    def quote(self, bid: str, ask: str, *, size: str | None = "10", state: QuoteState | None = "LIVE") -> list[str]:
        self.matcher.observe(make_tick(bid, ask, size=size, state=state))
        return self._lines(self.matcher.match(SYMBOL, self.now_us))

    def book(self, bids: list[Level], asks: list[Level]) -> None:
        """Levels, best first; they count from the next quote on."""
        self.matcher.book(Book(symbol=SYMBOL, depth=10, bids=bids, asks=asks))

    def submit(self, order: Order) -> list[str]:
        return self._lines(self.matcher.submit(order, self.now_us))

    def replace(self, order: Order, **wishes: str) -> list[str]:
        return self._lines(self.matcher.replace(approve(order, **wishes), self.now_us))

    def cancel(self, order: Order) -> list[str]:
        return self._lines(self.matcher.cancel(order, self.now_us))

    def wait(self, seconds: float) -> list[str]:
        self.now_us += round(seconds * 1_000_000)
        return self._lines(self.matcher.expire(self.now_us))

    def restore(self, *orders: Order) -> list[str]:
        return self._lines(self.matcher.restore(orders, self.now_us))

    def _lines(self, reports: list[VenueReport]) -> list[str]:
        self.said += reports
        return [f"{report.order_id}: {line(report)}" for report in reports]
