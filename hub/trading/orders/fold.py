"""An order is what its events make of it: `apply`, one event at a time. The same events give the same order."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace

from hub.trading.decimals import EXACT
from hub.trading.orders.event import Event
from hub.trading.orders.order import CLOSED, Fill, Order, Wish
from hub.trading.orders.transitions import TRANSITIONS, Target, Then
from protocol.trading import OrdStatus

ZERO = Decimal(0)
STOPS = frozenset({"STOP", "STOP_LIMIT", "TRAILING_STOP"})


class InvalidTransition(Exception):
    """This cannot happen to an order in this state."""

    def __init__(self, status: OrdStatus | None, event: Event, why: str = "") -> None:
        super().__init__(f"{event.exec_type} of an order that is {status or 'unknown'}{why and ': '}{why}")


def apply(order: Order | None, event: Event) -> Order:
    """The order after the event; a trade that it already has changes nothing, and the same object comes back.

    Raises InvalidTransition: also for more than was ordered, and for a correction of a trade that it does not have.
    """
    if order is None:
        if event.exec_type != "SUBMIT" or event.order is None:
            raise InvalidTransition(None, event)
        return replace(event.order, version=1, updated_us=event.ts_event)
    if event.exec_type == "TRADE" and any(fill.trade_id == event.trade_id for fill in order.fills):
        return order
    target = TRANSITIONS.get((order.status, event.exec_type))
    if target is None:
        raise InvalidTransition(order.status, event)
    changed = _changed(order, event)
    if changed.cum_qty > changed.qty:
        raise InvalidTransition(order.status, event, f"{changed.cum_qty} of {changed.qty} would have traded")
    status = _status(order, changed, target)
    ended = status in CLOSED
    return replace(
        changed,
        status=status,
        prev_status=_previous(order, status, event),
        working=_working(order, status, event),
        leaves_qty=ZERO if ended else EXACT.subtract(changed.qty, changed.cum_qty),
        wish=changed.wish if status in ("PENDING_REPLACE", "PENDING_CANCEL") else None,
        version=order.version + 1,
        updated_us=event.ts_event,
    )


def replay(events: Iterable[Event]) -> Order:
    """Raises InvalidTransition; ValueError without an event."""
    order: Order | None = None
    for event in events:
        order = apply(order, event)
    if order is None:
        raise ValueError("no events")
    return order


def _changed(order: Order, event: Event) -> Order:
    """What the event says of the order beside its state."""
    match event.exec_type:
        case "TRADE" | "TRADE_CANCEL" | "TRADE_CORRECT":
            return _with_fills(order, _fills(order, event))
        case "NEW" | "PENDING_NEW":
            return replace(
                order,
                venue=event.venue or order.venue,
                venue_order_id=event.venue_order_id or order.venue_order_id,
            )
        case "PENDING_REPLACE":
            assert event.client_order_id is not None
            wish = Wish(
                client_order_id=event.client_order_id,
                qty=event.qty,
                price=event.price,
                stop_price=event.stop_price,
                trail=event.trail,
            )
            return replace(order, wish=wish)
        case "REPLACED":
            return _replaced(order, event)
        case "REPLACE_REJECTED":
            return replace(order, wish=None)
        case "TRADE_PREVENTION":
            if event.qty is not None and event.qty <= order.cum_qty:
                raise InvalidTransition(order.status, event, "an order of which nothing is left has ended")
            return replace(order, qty=event.qty) if event.qty is not None else order
        case "DENIED" | "REJECTED" | "APPROVAL_DECLINED" | "CANCELED" | "EXPIRED":
            return replace(order, reject_reason=event.reason)
        case _:
            return order


def _replaced(order: Order, event: Event) -> Order:
    """The venue's word counts, then the wish."""
    wish = order.wish or Wish(client_order_id=order.client_order_id)
    return replace(
        order,
        client_order_id=wish.client_order_id,
        qty=_first(event.qty, wish.qty, order.qty),
        price=_first(event.price, wish.price, order.price),
        stop_price=_first(event.stop_price, wish.stop_price, order.stop_price),
        trail=_first(event.trail, wish.trail, order.trail),
        wish=None,
    )


def _first(*values: Decimal | None) -> Decimal | None:
    return next((value for value in values if value is not None), None)


def _fills(order: Order, event: Event) -> tuple[Fill, ...]:
    if event.exec_type == "TRADE_CANCEL":
        survivors = tuple(fill for fill in order.fills if fill.trade_id != event.trade_id)
        if len(survivors) == len(order.fills):
            raise InvalidTransition(order.status, event, f"it has no trade {event.trade_id}")
        return survivors
    if event.trade_id is None or not event.last_qty or event.last_px is None:
        raise InvalidTransition(order.status, event, "a trade has an id, a quantity and a price")
    fill = Fill(event.trade_id, event.last_qty, event.last_px)
    if event.exec_type == "TRADE":
        return (*order.fills, fill)
    if all(each.trade_id != fill.trade_id for each in order.fills):
        raise InvalidTransition(order.status, event, f"it has no trade {event.trade_id}")
    return tuple(fill if each.trade_id == fill.trade_id else each for each in order.fills)


def _with_fills(order: Order, fills: tuple[Fill, ...]) -> Order:
    cum_qty, filled = order.cum_qty, order.filled
    if fills[:-1] == order.fills:  # the usual one: a trade more
        cum_qty, filled = EXACT.add(cum_qty, fills[-1].qty), EXACT.fma(fills[-1].qty, fills[-1].price, filled)
    else:
        cum_qty = filled = ZERO
        for fill in fills:
            cum_qty, filled = EXACT.add(cum_qty, fill.qty), EXACT.fma(fill.qty, fill.price, filled)
    return replace(order, fills=fills, cum_qty=cum_qty, filled=filled)


def _status(order: Order, changed: Order, target: Target) -> OrdStatus:
    complete = changed.cum_qty == changed.qty
    match target:
        case Then.SAME:
            return order.status
        case Then.SAME_OR_FILLED:
            return "FILLED" if complete else order.status
        case Then.BY_QUANTITY:
            return _by_quantity(changed)
        case Then.PREVIOUS:
            previous = order.prev_status
            return previous if previous in ("PENDING_NEW", "SUSPENDED") and not complete else _by_quantity(changed)
        case _:
            return target


def _by_quantity(order: Order) -> OrdStatus:
    if order.cum_qty == order.qty:
        return "FILLED"
    return "PARTIALLY_FILLED" if order.cum_qty else "NEW"


def _previous(order: Order, status: OrdStatus, event: Event) -> OrdStatus | None:
    """What the order goes back to when the command that it waits for is refused, or the market goes on."""
    if status not in ("PENDING_CANCEL", "PENDING_REPLACE", "SUSPENDED"):
        return None
    if event.exec_type in ("SUSPENDED", "RESTATED") and status != "SUSPENDED":  # overtaken by a command
        return "SUSPENDED" if event.exec_type == "SUSPENDED" else "NEW"
    if event.exec_type in ("NEW", "TRADE") and order.prev_status == "PENDING_NEW":
        return "NEW"
    if order.status in ("PENDING_CANCEL", "PENDING_REPLACE") or status == order.status:
        return order.prev_status
    return order.status


def _working(order: Order, status: OrdStatus, event: Event) -> bool:
    """Whether it rests in the market as an order: a stop only once it has been triggered."""
    if status in CLOSED:
        return False
    match event.exec_type:
        case "NEW":
            return order.order_type not in STOPS
        case "TRIGGERED" | "TRADE" | "TRADE_CANCEL" | "TRADE_CORRECT":
            return True
        case _:
            return order.working
