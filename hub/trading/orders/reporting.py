"""What the world is told of an order: execution reports, and alerts for what should not have happened."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from hub.publication import Publication
from hub.trading.decimals import ratio, text
from hub.trading.orders.event import Event
from hub.trading.orders.order import Order
from protocol.approvals import ApprovalState
from protocol.codec import encode_body
from protocol.coordination import Alert, Approval
from protocol.trading import ExecutionReport, RiskDecision
from protocol.vocabulary import MESSAGE_TYPES

HUB = "krin"  # who publishes, and the actor of what the hub does by itself
AVERAGE_PLACES = 10
ALERTS = "alerts:trading"
DECLINED = "APPROVAL_DECLINED"  # the reason of who does not approve
TRADES = frozenset({"TRADE", "TRADE_CANCEL", "TRADE_CORRECT"})


def report_of(
    order: Order,
    event: Event,
    before: Order | None,
    *,
    paper: bool,
    now_us: int,
    position: Decimal | None = None,
) -> ExecutionReport:
    """The report of an event; `order` is as it is after it. `position` is the account's, after a trade."""
    renamed = before is not None and before.client_order_id != order.client_order_id
    return ExecutionReport(
        **_identity(order, paper=paper),
        exec_type=event.exec_type,
        exec_id=event.exec_id,
        prev_status=before.status if before is not None else None,
        orig_client_order_id=before.client_order_id if before is not None and renamed else None,
        last_qty=_text(event.last_qty),
        last_px=_text(event.last_px),
        trade_id=event.trade_id,
        liquidity=event.liquidity,
        commission=_text(event.commission),
        commission_asset=event.commission_asset,
        reject_reason=event.reason,
        text=event.text,
        position_qty=_text(position),
        causation_id=order.wish.client_order_id if order.wish is not None else None,
        ts_event=event.ts_event,
        ts_recv=now_us,
        ts_pub=now_us,
    )


def status_of(order: Order, *, paper: bool, now_us: int) -> ExecutionReport:
    """How an order stands: an answer, not an event."""
    return ExecutionReport(
        **_identity(order, paper=paper),
        exec_type="ORDER_STATUS",
        reject_reason=order.reject_reason,
        ts_event=order.updated_us,
        ts_pub=now_us,
    )


def _identity(order: Order, *, paper: bool) -> dict[str, Any]:
    return {
        "account": order.account,
        "client_order_id": order.client_order_id,
        "order_id": order.order_id,
        "symbol": order.symbol,
        "side": order.side,
        "order_type": order.order_type,
        "tif": order.tif,
        "price": _text(order.price),
        "stop_price": _text(order.stop_price),
        "order_qty": text(order.qty),
        "cum_qty": text(order.cum_qty),
        "leaves_qty": text(order.leaves_qty),
        "avg_px": text(ratio(order.filled, order.cum_qty, AVERAGE_PLACES).normalize()) if order.cum_qty else None,
        "ord_status": order.status,
        "working": order.working,
        "venue": order.venue,
        "venue_order_id": order.venue_order_id,
        "strategy_id": order.strategy_id,
        "paper": paper,
    }


def _text(number: Decimal | None) -> str | None:
    return text(number) if number is not None else None


def publication(
    channel: str, type_name: str, data: ExecutionReport | RiskDecision | Alert | Approval, now_us: int
) -> Publication:
    message = MESSAGE_TYPES[type_name](type=type_name, data=data)
    body = encode_body(message, key=None, publisher=HUB)
    return Publication(channel, type_name, body=body, timestamp=now_us // 1000, publisher=HUB)


def alert(order: Order, title: str, detail: str, *, now_us: int, **ext: Any) -> Publication:
    data = Alert(
        alert_id=f"order-{order.order_id}-{now_us}",
        severity="CRITICAL",
        title=title,
        source="orders",
        detail=detail,
        ts_event=now_us,
        ext={"account": order.account, "client_order_id": order.client_order_id, **ext},
    )
    return publication(ALERTS, "ALERT", data, now_us)


def approval_of(order: Order, event: Event, *, ttl_ms: int) -> Approval:
    """What an event says that lets an order wait for approval, or ends that; `order` is as it is after it."""
    state = _approval_state(event)
    return Approval(
        approval_id=approval_id(order),
        state=state,
        subject=approval_subject(order),
        requested_by=order.user,
        resolved_by=event.actor if state in ("APPROVED", "DECLINED") else None,
        expires_at=event.ts_event + ttl_ms * 1000 if state == "REQUESTED" else None,
        ts_event=event.ts_event,
        ext={"account": order.account, "client_order_id": order.client_order_id, "because": event.text or ""},
    )


def approval_id(order: Order) -> str:
    return f"order:{order.order_id}"


def approval_subject(order: Order) -> str:
    at = f" at {text(order.price)}" if order.price is not None else ""
    return f"{order.side} {text(order.qty)} {order.symbol}{at} for {order.account}"


def _approval_state(event: Event) -> ApprovalState:
    match event.exec_type:
        case "APPROVAL_REQUESTED":
            return "REQUESTED"
        case "APPROVAL_GRANTED":
            return "APPROVED"
        case "APPROVAL_DECLINED" if event.reason == DECLINED:
            return "DECLINED"
        case _:  # its time has run out, or the order was given up
            return "EXPIRED"


def channels_of(event: Event, account: str) -> tuple[str, ...]:
    return (f"orders:{account}", f"fills:{account}") if event.exec_type in TRADES else (f"orders:{account}",)


def encoded(event: Event) -> bytes:
    return msgspec.json.encode(event)


decode_event = msgspec.json.Decoder(Event).decode
