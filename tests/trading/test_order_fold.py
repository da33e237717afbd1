"""Whatever happens, an order is what its log says: played back from the start, or from its own encoding."""

from __future__ import annotations

import typing
from collections.abc import Callable
from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.orders.event import Event
from hub.trading.orders.fold import InvalidTransition, apply, replay
from hub.trading.orders.order import Order
from protocol.trading import ExecType
from tests.trading.lives import QTY, event, submit
from tests.trading.test_order_transitions import check

EXEC_TYPES: tuple[ExecType, ...] = typing.get_args(ExecType)
quantities = st.decimals(Decimal("0.5"), 12, places=1)
prices = st.decimals(90, 110, places=2)
optional_quantities = st.none() | quantities


@st.composite
def happenings(draw: st.DrawFn) -> Event:
    """Anything, likely or not, with few enough trade ids that they repeat."""
    exec_type = draw(st.sampled_from(EXEC_TYPES))
    return event(
        exec_type,
        trade_id=draw(st.sampled_from(["t-1", "t-2", "t-3", "t-4"])),
        last_qty=draw(quantities),
        last_px=draw(prices),
        qty=draw(optional_quantities) if exec_type in ("PENDING_REPLACE", "REPLACED", "TRADE_PREVENTION") else None,
        client_order_id=draw(st.sampled_from(["c-2", "c-3"])),
        venue_order_id=draw(st.none() | st.just("v-1")),
    )


@st.composite
def likely(draw: st.DrawFn) -> list[Event]:
    """Lives that get somewhere: anything may come after a beginning at a venue."""
    begun = [submit(), event("PENDING_NEW"), event("NEW", venue_order_id="v-1")]
    return [*begun[: draw(st.integers(1, 3))], *draw(st.lists(happenings(), max_size=30))]


def live(events: list[Event], *, watch: Callable[[Order], None] = check) -> tuple[Order, list[Event]]:
    """The order and its log: what was refused or changed nothing is not written down."""
    order, log = apply(None, events[0]), [events[0]]
    for each in events[1:]:
        try:
            changed = apply(order, each)
        except InvalidTransition:
            continue
        if changed is not order:
            order = changed
            log.append(each)
            watch(order)
    return order, log


@given(likely())
def test_quantities_add_up_at_every_moment(events: list[Event]) -> None:
    live(events)


@given(likely())
def test_replaying_the_log_gives_the_same_order(events: list[Event]) -> None:
    order, log = live(events)
    assert replay(log) == order
    assert order.version == len(log)


@given(likely())
def test_a_log_that_was_written_down_and_read_again_gives_the_same_order(events: list[Event]) -> None:
    order, log = live(events)
    assert replay(msgspec.json.decode(msgspec.json.encode(log), type=list[Event])) == order


@given(likely())
def test_no_trade_counts_twice(events: list[Event]) -> None:
    order, log = live(events)
    ids = [fill.trade_id for fill in order.fills]
    assert len(ids) == len(set(ids))
    again, _ = live([*log, *(each for each in log if each.exec_type == "TRADE" and each.trade_id in ids)])
    assert again == order


@given(likely())
def test_no_more_is_filled_than_was_ordered(events: list[Event]) -> None:
    most = [QTY]

    def watch(order: Order) -> None:
        most.append(order.qty)
        assert order.cum_qty <= max(most)

    live(events, watch=watch)
