"""The table of what may happen to an order: each row lets pass what it says and nothing else."""

from __future__ import annotations

import typing
from decimal import Decimal

import pytest

from hub.trading.orders.event import Event
from hub.trading.orders.fold import InvalidTransition, apply, replay
from hub.trading.orders.order import CLOSED, OPEN, Order
from hub.trading.orders.transitions import TRANSITIONS
from protocol.trading import ExecType, OrdStatus
from tests.trading.lives import INTO, event, in_state, life, submit, trade, wish

STATES: tuple[OrdStatus, ...] = typing.get_args(OrdStatus)
EXEC_TYPES: tuple[ExecType, ...] = typing.get_args(ExecType)

PASSING: list[tuple[int, OrdStatus, Event, OrdStatus]] = [
    (2, "INITIALIZED", event("DENIED", reason="UNKNOWN_SYMBOL"), "DENIED"),
    (3, "INITIALIZED", event("APPROVAL_REQUESTED"), "PENDING_APPROVAL"),
    (4, "PENDING_APPROVAL", event("APPROVAL_GRANTED"), "INITIALIZED"),
    (5, "PENDING_APPROVAL", event("APPROVAL_DECLINED", reason="APPROVAL_EXPIRED"), "DENIED"),
    (6, "PENDING_APPROVAL", event("CANCELED"), "CANCELED"),
    (7, "INITIALIZED", event("PENDING_NEW"), "PENDING_NEW"),
    (8, "PENDING_NEW", event("NEW", venue_order_id="v-1"), "NEW"),
    (9, "PENDING_NEW", event("REJECTED"), "REJECTED"),
    (10, "PENDING_NEW", event("CANCELED"), "CANCELED"),
    (10, "PENDING_NEW", event("EXPIRED"), "EXPIRED"),
    (11, "PENDING_NEW", trade(1), "PARTIALLY_FILLED"),
    (11, "NEW", trade(10), "FILLED"),
    (11, "PARTIALLY_FILLED", trade(6), "FILLED"),
    (11, "SUSPENDED", trade(5), "PARTIALLY_FILLED"),
    (12, "PENDING_NEW", event("REJECTED", reason="UNCONFIRMED"), "REJECTED"),
    (13, "PENDING_NEW", event("PENDING_CANCEL"), "PENDING_CANCEL"),
    (13, "NEW", event("PENDING_CANCEL"), "PENDING_CANCEL"),
    (13, "PARTIALLY_FILLED", event("PENDING_CANCEL"), "PENDING_CANCEL"),
    (13, "SUSPENDED", event("PENDING_CANCEL"), "PENDING_CANCEL"),
    (14, "NEW", wish(), "PENDING_REPLACE"),
    (14, "PARTIALLY_FILLED", wish(), "PENDING_REPLACE"),
    (15, "NEW", event("TRIGGERED"), "NEW"),
    (16, "NEW", event("REJECTED"), "REJECTED"),
    (17, "NEW", event("CANCELED"), "CANCELED"),
    (17, "PARTIALLY_FILLED", event("EXPIRED"), "EXPIRED"),
    (17, "SUSPENDED", event("CANCELED"), "CANCELED"),
    (18, "NEW", event("SUSPENDED"), "SUSPENDED"),
    (18, "PARTIALLY_FILLED", event("SUSPENDED"), "SUSPENDED"),
    (19, "SUSPENDED", event("RESTATED"), "PARTIALLY_FILLED"),
    (20, "PENDING_CANCEL", event("CANCELED"), "CANCELED"),
    (21, "PENDING_CANCEL", event("CANCEL_REJECTED"), "PARTIALLY_FILLED"),
    (22, "PENDING_CANCEL", trade(1), "PENDING_CANCEL"),
    (22, "PENDING_REPLACE", trade(1), "PENDING_REPLACE"),
    (23, "PENDING_CANCEL", trade(6), "FILLED"),
    (23, "PENDING_REPLACE", trade(6), "FILLED"),
    (23, "FILLED", event("CANCEL_REJECTED", reason="TOO_LATE"), "FILLED"),
    (23, "FILLED", event("REPLACE_REJECTED", reason="TOO_LATE"), "FILLED"),
    (24, "PENDING_CANCEL", event("EXPIRED"), "EXPIRED"),
    (24, "EXPIRED", event("CANCEL_REJECTED", reason="TOO_LATE"), "EXPIRED"),
    (24, "PENDING_REPLACE", event("REJECTED"), "REJECTED"),
    (25, "PENDING_REPLACE", event("REPLACED", qty=Decimal(5)), "PARTIALLY_FILLED"),
    (25, "PENDING_REPLACE", event("REPLACED", qty=Decimal(4)), "FILLED"),
    (26, "PENDING_REPLACE", event("REPLACE_REJECTED"), "PARTIALLY_FILLED"),
    (27, "PENDING_REPLACE", event("PENDING_CANCEL"), "PENDING_CANCEL"),
    (27, "PENDING_REPLACE", event("CANCELED"), "CANCELED"),
    (28, "CANCELED", trade(1), "CANCELED"),
    (28, "CANCELED", trade(6), "FILLED"),
    (28, "EXPIRED", trade(6), "FILLED"),
    (28, "REJECTED", trade(10), "FILLED"),
    (29, "FILLED", event("TRADE_CANCEL", trade_id="t-2"), "PARTIALLY_FILLED"),
    (29, "PARTIALLY_FILLED", event("TRADE_CANCEL", trade_id="t-1"), "NEW"),
    (
        29,
        "FILLED",
        event("TRADE_CORRECT", trade_id="t-2", last_qty=Decimal(5), last_px=Decimal(99)),
        "PARTIALLY_FILLED",
    ),
]

REFUSED: list[tuple[int, OrdStatus, Event]] = [
    (1, "INITIALIZED", submit()),
    (2, "NEW", event("DENIED")),
    (3, "PENDING_NEW", event("APPROVAL_REQUESTED")),
    (4, "INITIALIZED", event("APPROVAL_GRANTED")),
    (5, "DENIED", event("APPROVAL_DECLINED")),
    (6, "INITIALIZED", event("CANCELED")),
    (7, "PENDING_APPROVAL", event("PENDING_NEW")),
    (8, "INITIALIZED", event("NEW")),
    (9, "PENDING_APPROVAL", event("REJECTED")),
    (10, "INITIALIZED", event("EXPIRED")),
    (11, "NEW", trade(11)),
    (11, "INITIALIZED", trade(1)),
    (11, "DENIED", trade(1)),
    (12, "PARTIALLY_FILLED", event("REJECTED", reason="UNCONFIRMED")),
    (13, "PENDING_CANCEL", event("PENDING_CANCEL")),
    (13, "FILLED", event("PENDING_CANCEL")),
    (14, "PENDING_NEW", wish()),
    (14, "SUSPENDED", wish()),
    (15, "PARTIALLY_FILLED", event("TRIGGERED")),
    (16, "SUSPENDED", event("REJECTED")),
    (17, "FILLED", event("CANCELED")),
    (18, "PENDING_NEW", event("SUSPENDED")),
    (19, "NEW", event("RESTATED")),
    (20, "CANCELED", event("CANCELED")),
    (21, "NEW", event("CANCEL_REJECTED")),
    (22, "PENDING_CANCEL", trade(7)),
    (23, "FILLED", trade(1)),
    (24, "EXPIRED", event("EXPIRED")),
    (25, "NEW", event("REPLACED")),
    (25, "PENDING_REPLACE", event("REPLACED", qty=Decimal(3))),
    (26, "NEW", event("REPLACE_REJECTED")),
    (27, "PENDING_CANCEL", wish()),
    (28, "CANCELED", trade(7)),
    (29, "FILLED", event("TRADE_CANCEL", trade_id="t-9")),
    (29, "NEW", event("TRADE_CORRECT", trade_id="t-1", last_qty=Decimal(1), last_px=Decimal(1))),
    (30, "NEW", event("ORDER_STATUS")),  # an answer, nothing that happens to an order
]


@pytest.mark.parametrize(("row", "status", "happening", "then"), PASSING)
def test_a_row_of_the_table_lets_pass(row: int, status: OrdStatus, happening: Event, then: OrdStatus) -> None:
    before = in_state(status)
    changed = apply(before, happening)
    assert (before.status, changed.status) == (status, then)
    check(changed)


@pytest.mark.parametrize(("row", "status", "happening"), REFUSED)
def test_a_row_of_the_table_refuses(row: int, status: OrdStatus, happening: Event) -> None:
    with pytest.raises(InvalidTransition, match=happening.exec_type):
        apply(in_state(status), happening)


def test_every_row_has_both_cases() -> None:
    assert {row for row, *_ in PASSING} == {*range(2, 30)}
    assert {row for row, *_ in REFUSED} == {*range(1, 31)}


def test_row_1_a_submit_makes_an_order_and_nothing_else_does() -> None:
    assert apply(None, submit()).status == "INITIALIZED"
    for exec_type in EXEC_TYPES:
        with pytest.raises(InvalidTransition):
            apply(None, event(exec_type))


def test_row_31_whatever_is_not_in_the_table_is_refused() -> None:
    for status in STATES:
        for exec_type in EXEC_TYPES:
            if (status, exec_type) not in TRANSITIONS:
                with pytest.raises(InvalidTransition):
                    apply(in_state(status), event(exec_type))


def check(order: Order) -> None:
    """What is true of every order at any time."""
    assert order.cum_qty == sum(fill.qty for fill in order.fills)
    assert order.filled == sum(fill.qty * fill.price for fill in order.fills)
    assert order.cum_qty <= order.qty
    if order.status in CLOSED:
        assert order.leaves_qty == 0
    else:
        assert order.cum_qty + order.leaves_qty == order.qty
    assert (order.status == "FILLED") == (order.cum_qty == order.qty)


# --- what the rows do beside the state ---


def test_a_trade_that_is_reported_twice_counts_once() -> None:
    order = in_state("PARTIALLY_FILLED")
    assert apply(order, trade(4, trade_id="t-1")) is order


def test_a_venue_names_the_order_as_it_accepts_it() -> None:
    order = replay(life("PENDING_NEW", event("NEW", venue="paper", venue_order_id="v-7")))
    assert (order.venue, order.venue_order_id) == ("paper", "v-7")


def test_a_replaced_order_is_what_was_wished_under_its_new_name() -> None:
    asked = wish(client_order_id="c-2", qty=Decimal(8), price=Decimal("99.5"))
    order = replay([*INTO["NEW"], asked, event("REPLACED")])
    assert (order.client_order_id, order.qty, order.price, order.leaves_qty) == ("c-2", 8, Decimal("99.5"), 8)
    assert order.wish is None


def test_of_a_replaced_order_the_venue_has_the_last_word() -> None:
    order = replay([*INTO["NEW"], wish(qty=Decimal(8)), event("REPLACED", qty=Decimal(9))])
    assert order.qty == 9


def test_a_refused_replacement_leaves_the_order_as_it_was() -> None:
    before = in_state("NEW")
    order = apply(apply(before, wish(qty=Decimal(8))), event("REPLACE_REJECTED"))
    assert (order.client_order_id, order.qty, order.price, order.wish) == ("c-1", 10, 100, None)


def test_a_cancel_that_overtakes_the_acceptance_goes_back_to_where_the_order_then_is() -> None:
    overtaken = [*INTO["PENDING_NEW"], event("PENDING_CANCEL")]
    assert replay([*overtaken, event("CANCEL_REJECTED")]).status == "PENDING_NEW"
    accepted = [*overtaken, event("NEW", venue_order_id="v-1")]
    assert replay(accepted).status == "PENDING_CANCEL"
    order = replay([*accepted, event("CANCEL_REJECTED")])
    assert (order.status, order.venue_order_id, order.working) == ("NEW", "v-1", True)


def test_a_replacement_that_a_cancel_overtook_is_made_all_the_same() -> None:
    overtaken = [*INTO["NEW"], wish(qty=Decimal(8)), event("PENDING_CANCEL"), event("REPLACED")]
    assert (replay(overtaken).status, replay(overtaken).qty) == ("PENDING_CANCEL", 8)
    assert replay([*overtaken, event("CANCEL_REJECTED")]).status == "NEW"


def test_a_halt_that_meets_a_pending_cancel_is_where_the_order_goes_back_to() -> None:
    halted = [*INTO["PENDING_CANCEL"], event("SUSPENDED")]
    assert replay([*halted, event("CANCEL_REJECTED")]).status == "SUSPENDED"
    assert replay([*halted, event("RESTATED"), event("CANCEL_REJECTED")]).status == "PARTIALLY_FILLED"


def test_a_stop_order_works_once_it_is_triggered() -> None:
    stop = [submit(order_type="STOP", stop_price=Decimal(90), price=None), event("PENDING_NEW"), event("NEW")]
    assert replay(stop).working is False
    assert replay([*stop, event("TRIGGERED")]).working is True
    assert replay([*stop, event("TRIGGERED"), event("CANCELED")]).working is False


def test_self_trade_prevention_may_make_an_order_smaller() -> None:
    order = replay([*INTO["NEW"], event("TRADE_PREVENTION", qty=Decimal(7), last_qty=Decimal(3))])
    assert (order.status, order.qty, order.leaves_qty) == ("NEW", 7, 7)


def test_open_and_closed_leave_room_for_what_has_not_reached_the_market() -> None:
    assert set(STATES) - OPEN - CLOSED == {"INITIALIZED", "PENDING_APPROVAL", "PENDING_NEW"}
