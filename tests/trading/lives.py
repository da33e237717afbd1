"""Events for tests of orders, and the shortest way into every state."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hub.trading.orders.event import Event
from hub.trading.orders.fold import replay
from hub.trading.orders.order import Order
from protocol.trading import ExecType, OrdStatus

QTY = Decimal(10)


def order(**fields: Any) -> Order:
    asked: dict[str, Any] = {
        "order_id": "o-1",
        "account": "ann",
        "client_order_id": "c-1",
        "symbol": "BTC-USD",
        "side": "BUY",
        "order_type": "LIMIT",
        "price": Decimal(100),
        "qty": QTY,
        **fields,
    }
    return Order(**{"leaves_qty": asked["qty"], **asked})


_numbers = itertools.count(1)


def event(exec_type: ExecType, **fields: Any) -> Event:
    made: dict[str, Any] = {
        "order_id": "o-1",
        "exec_type": exec_type,
        "exec_id": f"e{next(_numbers)}",
        "ts_event": 1,
        "actor": "ann",
    }
    return Event(**made | fields)


def submit(**fields: Any) -> Event:
    return event("SUBMIT", order=order(**fields))


def trade(qty: int | str, price: int | str = 100, *, trade_id: str | None = None) -> Event:
    made = event("TRADE", last_qty=Decimal(qty), last_px=Decimal(price))
    return event("TRADE", trade_id=trade_id or made.exec_id, last_qty=made.last_qty, last_px=made.last_px)


def wish(**fields: Any) -> Event:
    return event("PENDING_REPLACE", **{"client_order_id": "c-2", "price": Decimal(101), **fields})


def life(*events: ExecType | Event) -> list[Event]:
    """A submitted order and what happens then; the bare names are those that need no more."""
    return [submit(), *(each if isinstance(each, Event) else event(each) for each in events)]


INTO: dict[OrdStatus, list[Event]] = {
    "INITIALIZED": life(),
    "PENDING_APPROVAL": life("APPROVAL_REQUESTED"),
    "DENIED": life("DENIED"),
    "PENDING_NEW": life("PENDING_NEW"),
    "NEW": life("PENDING_NEW", "NEW"),
    "PARTIALLY_FILLED": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1")),
    "FILLED": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), trade(6, trade_id="t-2")),
    "PENDING_CANCEL": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), "PENDING_CANCEL"),
    "PENDING_REPLACE": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), wish()),
    "SUSPENDED": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), "SUSPENDED"),
    "CANCELED": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), "CANCELED"),
    "REJECTED": life("PENDING_NEW", "REJECTED"),
    "EXPIRED": life("PENDING_NEW", "NEW", trade(4, trade_id="t-1"), "EXPIRED"),
}


def in_state(status: OrdStatus) -> Order:
    return replay(INTO[status])


def after(events: Iterable[Event], *more: Event) -> Order:
    return replay([*events, *more])
