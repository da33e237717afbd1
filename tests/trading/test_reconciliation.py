"""What is concluded from a venue's record of an order, beside ours."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from hub.trading.orders.order import Order
from hub.trading.reconciliation import IN_FLIGHT_US, Reconciled, reconcile
from hub.trading.venues.base import VenueOrder, VenueReport
from protocol.trading import ExecType, OrdStatus

from .paper_market import START_US, line, make_order

LONG_AGO_US = START_US - IN_FLIGHT_US


def ours(status: OrdStatus, cum: str = "0", **fields: Any) -> Order:
    """A buy order of 10 at 100."""
    return make_order(
        "BUY",
        "10",
        "100",
        order_id="o",
        status=status,
        cum_qty=cum,
        venue_order_id="v",
        **{"updated_us": LONG_AGO_US, **fields},
    )


def said(n: int, exec_type: ExecType, qty: str | None = None, px: str = "100", **fields: Any) -> VenueReport:
    trade = exec_type == "TRADE"
    return VenueReport(
        order_id="o",
        exec_type=exec_type,
        exec_id=f"e{n}",
        ts_event=START_US,
        trade_id=f"t{n}" if trade else None,
        last_qty=Decimal(qty) if qty else None,
        last_px=Decimal(px) if trade else None,
        **fields,
    )


def theirs(*reports: VenueReport, open: bool = True, cum: str | None = None, avg_px: str | None = None) -> VenueOrder:
    traded = sum((each.last_qty or Decimal(0) for each in reports), Decimal(0))
    return VenueOrder(
        order_id="o",
        venue_order_id="v",
        open=open,
        cum_qty=traded if cum is None else Decimal(cum),
        avg_px=None if avg_px is None else Decimal(avg_px),
        reports=reports,
    )


def compare(order: Order, venue: VenueOrder | None, *seen: str) -> Reconciled:
    return reconcile(order, venue, seen=set(seen), now_us=START_US)


def lines(result: Reconciled) -> list[str]:
    return [line(each) for each in result.reports]


def test_records_that_agree_lead_to_nothing() -> None:
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"))
    assert compare(ours("PARTIALLY_FILLED", "4"), venue, "e1", "e2", "t2") == Reconciled()


def test_missed_reports_are_given_in_their_order() -> None:
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"), said(3, "TRADE", "6"), open=False)
    assert lines(compare(ours("NEW"), venue, "e1")) == ["TRADE 4 @ 100", "TRADE 6 @ 100"]


def test_a_trade_is_known_by_its_trade_id_too() -> None:
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"))
    assert compare(ours("PARTIALLY_FILLED", "4"), venue, "e1", "t2") == Reconciled()


def test_a_late_fill_of_a_closed_order_is_given() -> None:
    venue = theirs(said(1, "NEW"), said(2, "CANCELED"), said(3, "TRADE", "4"), open=False)
    assert lines(compare(ours("CANCELED"), venue, "e1", "e2")) == ["TRADE 4 @ 100"]


def test_what_only_the_total_tells_becomes_a_trade_at_the_average_of_the_rest() -> None:
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4", "100"), cum="10", avg_px="98.8", open=False)
    result = compare(ours("NEW"), venue, "e1")
    assert lines(result) == ["TRADE 4 @ 100", "TRADE 6 @ 98"]
    assert result.reports[1].trade_id == "reconciled-o-trade-10"


def test_without_an_average_the_missing_trade_has_the_price_of_the_order() -> None:
    assert lines(compare(ours("NEW"), theirs(said(1, "NEW"), cum="3"), "e1")) == ["TRADE 3 @ 100"]


def test_a_trade_whose_price_nobody_can_tell_is_left_to_a_person() -> None:
    order = make_order("BUY", "10", order_id="o", status="NEW", venue_order_id="v")
    assert compare(order, theirs(said(1, "NEW"), cum="3"), "e1") == Reconciled(unexplained=Decimal(3))


def test_a_missing_trade_comes_before_the_end_it_was_missed_with() -> None:
    venue = theirs(said(1, "NEW"), said(2, "CANCELED"), cum="3", open=False)
    assert lines(compare(ours("NEW"), venue, "e1")) == ["TRADE 3 @ 100", "CANCELED"]


def test_corrections_are_not_taken_for_missing_trades() -> None:
    corrected = replace(said(3, "TRADE_CORRECT", "6"), trade_id="t2")
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"), corrected, cum="6")
    result = compare(ours("PARTIALLY_FILLED", "4"), venue, "e1", "e2", "t2")
    assert result == Reconciled(reports=(corrected,))


def test_an_order_that_ended_there_without_a_word_ends_here() -> None:
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"), open=False)
    assert lines(compare(ours("PARTIALLY_FILLED", "4"), venue, "e1", "e2", "t2")) == ["CANCELED"]


def test_an_order_that_was_filled_while_being_made_smaller_needs_no_other_end() -> None:
    smaller = replace(said(3, "REPLACED"), qty=Decimal(4))
    venue = theirs(said(1, "NEW"), said(2, "TRADE", "4"), smaller, open=False)
    assert lines(compare(ours("PENDING_REPLACE"), venue, "e1")) == ["TRADE 4 @ 100", "REPLACED"]


@pytest.mark.parametrize("status", ["NEW", "PARTIALLY_FILLED", "PENDING_CANCEL", "PENDING_REPLACE", "SUSPENDED"])
def test_what_the_venue_has_never_heard_of_has_ended_there(status: OrdStatus) -> None:
    assert lines(compare(ours(status), None)) == ["CANCELED UNKNOWN_ORDER"]


@pytest.mark.parametrize("status", ["PENDING_NEW", "FILLED", "CANCELED", "DENIED"])
def test_what_may_be_on_its_way_or_has_ended_is_left_alone(status: OrdStatus) -> None:
    assert compare(ours(status), None) == Reconciled()


def test_nothing_is_concluded_from_silence_before_an_answer_had_its_time() -> None:
    for status in ("NEW", "PENDING_CANCEL", "PENDING_REPLACE"):
        young = ours(status, updated_us=LONG_AGO_US + 1)
        assert compare(young, None) == Reconciled()
        assert compare(young, theirs(said(1, "NEW")), "e1") == Reconciled()


def test_a_cancel_without_effect_is_sent_again() -> None:
    assert compare(ours("PENDING_CANCEL"), theirs(said(1, "NEW")), "e1").cancel_again
    refused = theirs(said(1, "NEW"), said(2, "CANCEL_REJECTED"))
    assert not compare(ours("PENDING_CANCEL"), refused, "e1").cancel_again


def test_a_replacement_without_effect_has_failed() -> None:
    result = compare(ours("PENDING_REPLACE"), theirs(said(1, "NEW")), "e1")
    assert lines(result) == ["REPLACE_REJECTED UNCONFIRMED"]
    done = theirs(said(1, "NEW"), said(2, "REPLACED"))
    assert lines(compare(ours("PENDING_REPLACE"), done, "e1")) == ["REPLACED"]


def test_comparing_again_infers_the_same_ids() -> None:
    venue = theirs(said(1, "NEW"), cum="3", open=False)
    first, second = compare(ours("NEW"), venue, "e1"), compare(ours("NEW"), venue, "e1")
    assert first == second
    seen = {each.exec_id for each in first.reports} | {each.trade_id or "" for each in first.reports}
    assert compare(ours("CANCELED", "3"), venue, "e1", *seen) == Reconciled()
