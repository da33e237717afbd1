"""An order that passes every check, and ways to change one thing about it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from clock import ManualClock
from msgspec.structs import replace

from hub.trading.orders.order import Order
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.limits import Limits
from hub.trading.risk.view import Facts, RiskView
from protocol.trading import Instrument, MarketReference

NOW_US = 1_732_330_000_000_000
BTC = Instrument(
    symbol="BTC-USD",
    base="BTC",
    quote="USD",
    tick_size="0.01",
    lot_size="0.001",
    min_qty="0.001",
    max_qty="100",
    min_notional="1",
    max_notional="1000000",
)
ETH = Instrument(symbol="ETH-USD", base="ETH", quote="USD", tick_size="0.01", lot_size="0.001")
EURO = Instrument(symbol="BTC-EUR", base="BTC", quote="EUR", tick_size="0.01", lot_size="0.001")
MARKET = MarketReference(symbol="BTC-USD", bid="99", ask="101", mid="100", state="LIVE", age_us=0, seq=1)
CHECKS = RiskChecks(clock=ManualClock())


def order(**fields: Any) -> Order:
    """A limit order to buy one at 100; quantities and prices may be given as strings."""
    given = {"symbol": "BTC-USD", "side": "BUY", "order_type": "LIMIT", "qty": "1", "price": "100"} | fields
    if given["order_type"] != "LIMIT" and "price" not in fields:
        del given["price"]
    decimals = ("qty", "price", "stop_price", "trail", "leaves_qty")
    given |= {name: Decimal(given[name]) for name in decimals if isinstance(given.get(name), str)}
    return Order(
        **(
            {
                "order_id": "o-1",
                "account": "ann",
                "client_order_id": "c-1",
                "user": "ann",
                "leaves_qty": given["qty"],
                "created_us": NOW_US,
                "updated_us": NOW_US,
            }
            | given
        )
    )


def facts(**fields: Any) -> Facts:
    return Facts(
        **(
            {
                "now_us": NOW_US,
                "instruments": {each.symbol: each for each in (BTC, ETH, EURO)},
                "market": MARKET,
                "balances": {"USD": Decimal(1_000_000)},
                "marks": {"BTC-USD": Decimal(100), "ETH-USD": Decimal(10), "BTC-EUR": Decimal(100)},
            }
            | fields
        )
    )


def view(what: Order | None = None, *, limits: Limits | None = None, **fields: Any) -> RiskView:
    """What is not a field of the view is one of its facts."""
    own = {name: fields.pop(name) for name in RiskView.__struct_fields__ if name in fields}
    return RiskView(order=what or order(), facts=facts(**fields), limits=limits or Limits(), **own)


def market(**fields: Any) -> MarketReference:
    return replace(MARKET, **fields)


def reasons(seen: RiskView) -> list[str]:
    return [fault.reason for fault in CHECKS.check_all(seen).faults]


def faults(seen: RiskView) -> set[tuple[str, str]]:
    """(check, reason) of everything that is wrong."""
    return {(fault.check, fault.reason) for fault in CHECKS.check_all(seen).faults}
