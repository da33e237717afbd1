"""What is gathered for a decision: no more than the order, the open ones and the positions are about."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hub.trading.risk.facts import gather
from protocol.trading import Instrument, MarketReference

from .scenes import BTC, ETH, EURO, MARKET, NOW_US, order


class MarketDouble:
    def instrument(self, symbol: str) -> Instrument | None:
        return {each.symbol: each for each in (BTC, ETH, EURO)}.get(symbol)

    def reference(self, symbol: str) -> MarketReference | None:
        return MARKET if symbol == "BTC-USD" else None

    def mark(self, symbol: str) -> Decimal | None:
        return {"BTC-USD": Decimal(100), "ETH-USD": Decimal(10)}.get(symbol)

    def last(self, symbol: str) -> Decimal | None:
        return Decimal(101)

    def vwap(self, symbol: str) -> Decimal | None:
        return Decimal(102)


class HoldingDouble:
    def __init__(self, qty: int, avg_px_open: int | None = None) -> None:
        self.qty = Decimal(qty)
        self.avg_px_open = None if avg_px_open is None else Decimal(avg_px_open)


class AccountDouble:
    positions: Mapping[str, HoldingDouble] = {
        "ETH-USD": HoldingDouble(-3, 11),
        "XRP-USD": HoldingDouble(7, 2),
        "BTC-EUR": HoldingDouble(0),
    }
    balances: Mapping[str, Decimal] = {"USD": Decimal(5)}

    def daily_pnl(self, marks: Mapping[str, Decimal]) -> Decimal:
        return sum(marks.values(), Decimal(0))


def test_the_facts_are_those_of_the_symbols_concerned() -> None:
    resting = order(order_id="r", client_order_id="r", symbol="DOGE-USD", status="NEW")
    waiting = order(order_id="w", client_order_id="w", status="PENDING_APPROVAL")
    others = [resting, waiting]
    found = gather(order(), market=MarketDouble(), account=AccountDouble(), open_orders=others, now_us=NOW_US)
    assert found.instruments == {"BTC-USD": BTC, "ETH-USD": ETH}
    assert found.positions == {"ETH-USD": Decimal(-3), "XRP-USD": Decimal(7)}
    assert found.marks == {"BTC-USD": Decimal(100), "ETH-USD": Decimal(10), "XRP-USD": Decimal(2)}
    assert (found.market, found.last, found.vwap) == (MARKET, Decimal(101), Decimal(102))
    assert (found.balances, found.daily_pnl, found.now_us) == ({"USD": Decimal(5)}, Decimal(112), NOW_US)
    assert list(found.open_orders) == [resting]
