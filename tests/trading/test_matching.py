"""The rules of the paper market, one by one. The market is 100 to 101, ten at each, unless a test says otherwise."""

from __future__ import annotations

import gc
from decimal import Decimal

import pytest

from hub.trading.venues.matching import CLOSED_KEPT, Fees
from hub.trading.venues.resting import LiveOrder
from protocol.trading import QuoteState, StpMode

from .paper_market import INSTRUMENT, START_US, SYMBOL, PaperMarket, make_order

HOUR_US = 3_600_000_000


# What an arriving order meets


def test_a_market_order_takes_the_other_side() -> None:
    market = PaperMarket()
    assert market.submit(make_order("BUY", "1", order_id="b")) == ["b: NEW", "b: TRADE 1 @ 101 TAKER"]
    assert market.submit(make_order("SELL", "1", order_id="s")) == ["s: NEW", "s: TRADE 1 @ 100 TAKER"]


def test_a_large_order_walks_the_book_behind_the_quote() -> None:
    market = PaperMarket()
    market.book(bids=[], asks=[("100.5", "99"), ("101", "99"), ("102", "3"), ("103", "50")])
    market.quote("100", "101", size="2")  # the book is older: its levels up to the quote's price are gone
    assert market.submit(make_order("BUY", "6", order_id="b")) == [
        "b: NEW",
        "b: TRADE 2 @ 101 TAKER",
        "b: TRADE 3 @ 102 TAKER",
        "b: TRADE 1 @ 103 TAKER",
    ]


def test_what_the_market_cannot_give_of_a_market_order_expires() -> None:
    market = PaperMarket(size="2")
    assert market.submit(make_order("BUY", "3", order_id="b")) == ["b: NEW", "b: TRADE 2 @ 101 TAKER", "b: EXPIRED"]
    assert market.said[-1].text == "the market offered no more"


def test_what_one_order_took_is_not_there_for_the_next_until_the_market_speaks() -> None:
    market = PaperMarket(size="2")
    market.submit(make_order("BUY", "2"))
    late = make_order("BUY", "1", "101", order_id="late")
    assert market.submit(late) == ["late: NEW"]
    assert market.quote("100", "101", size="2") == ["late: TRADE 1 @ 101 MAKER"]


def test_an_offer_without_a_size_gives_any_quantity() -> None:
    market = PaperMarket(size=None)
    assert market.submit(make_order("BUY", "1000000", order_id="b"))[-1] == "b: TRADE 1000000 @ 101 TAKER"


def test_nobody_is_given_a_part_of_a_lot() -> None:
    market = PaperMarket(size="1.99")
    assert market.submit(make_order("BUY", "5", order_id="b"))[1] == "b: TRADE 1.9 @ 101 TAKER"
    crumbs = PaperMarket(size="0.09")
    assert crumbs.submit(make_order("BUY", "5", order_id="b")) == ["b: NEW", "b: EXPIRED"]


def test_a_limit_order_takes_what_is_better_and_rests_with_the_remainder() -> None:
    market = PaperMarket()
    market.book(bids=[], asks=[("101.5", "1"), ("102", "1")])
    market.quote("100", "101", size="1")
    assert market.submit(make_order("BUY", "5", "101.5", order_id="b")) == [
        "b: NEW",
        "b: TRADE 1 @ 101 TAKER",
        "b: TRADE 1 @ 101.5 TAKER",
    ]
    status = market.matcher.status("b")
    assert status is not None
    assert (status.open, status.cum_qty) == (True, Decimal(2))


# Those who rest


def test_who_rests_is_served_at_his_own_price_when_the_market_comes() -> None:
    market = PaperMarket()
    assert market.submit(make_order("BUY", "1", "99", order_id="b")) == ["b: NEW"]
    assert market.quote("98.5", "99.5") == []
    assert market.quote("97", "98") == ["b: TRADE 1 @ 99 MAKER"]


def test_the_better_price_is_served_first_and_of_equal_ones_the_earlier() -> None:
    market = PaperMarket()
    for name, price in (("low", "98"), ("first", "99"), ("second", "99")):
        market.submit(make_order("BUY", "2", price, order_id=name))
    assert market.quote("97", "97.5", size="3") == ["first: TRADE 2 @ 99 MAKER", "second: TRADE 1 @ 99 MAKER"]


def test_the_sell_side_has_its_own_order_of_service() -> None:
    market = PaperMarket()
    for name, price in (("high", "104"), ("first", "103"), ("second", "103")):
        market.submit(make_order("SELL", "2", price, order_id=name))
    assert market.quote("105", "106", size="5") == [
        "first: TRADE 2 @ 103 MAKER",
        "second: TRADE 2 @ 103 MAKER",
        "high: TRADE 1 @ 104 MAKER",
    ]


def test_orders_at_the_venue_meet_one_another_before_the_market_at_the_same_price() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", "101", order_id="maker", account="bob"))
    assert market.submit(make_order("BUY", "3", order_id="taker")) == [
        "taker: NEW",
        "maker: TRADE 1 @ 101 MAKER",
        "taker: TRADE 1 @ 101 TAKER",
        "taker: TRADE 2 @ 101 TAKER",
    ]


def test_the_better_price_wins_over_the_place() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", "102", order_id="maker", account="bob"))
    assert market.submit(make_order("BUY", "1", order_id="taker")) == ["taker: NEW", "taker: TRADE 1 @ 101 TAKER"]


# Time in force


def test_ioc_takes_what_there_is_and_never_rests() -> None:
    market = PaperMarket(size="2")
    ioc = make_order("BUY", "3", "101", tif="IOC", order_id="b")
    assert market.submit(ioc) == ["b: NEW", "b: TRADE 2 @ 101 TAKER", "b: EXPIRED"]


def test_fok_takes_all_or_nothing() -> None:
    market = PaperMarket(size="2")
    assert market.submit(make_order("BUY", "3", "101", tif="FOK", order_id="b")) == ["b: NEW", "b: EXPIRED"]
    assert market.submit(make_order("BUY", "2", "101", tif="FOK", order_id="c")) == ["c: NEW", "c: TRADE 2 @ 101 TAKER"]


def test_fok_counts_on_the_orders_of_others_but_not_on_those_behind_its_own() -> None:
    market = PaperMarket(size="1")
    market.submit(make_order("SELL", "1", "101.5", account="bob"))
    assert market.submit(make_order("BUY", "2", "102", tif="FOK", order_id="b"))[-1] == "b: TRADE 1 @ 101.5 TAKER"

    market = PaperMarket(size="1")
    market.submit(make_order("SELL", "1", "101.5", account="ada"))
    market.submit(make_order("SELL", "1", "102", account="bob"))
    assert market.submit(make_order("BUY", "2", "102", tif="FOK", order_id="b")) == ["b: NEW", "b: EXPIRED"]


def test_gtd_ends_at_its_time_and_is_not_served_after_it() -> None:
    market = PaperMarket()
    market.submit(make_order("BUY", "1", "99", tif="GTD", expire_at=START_US + HOUR_US, order_id="b"))
    assert market.wait(3599) == []
    market.now_us += 1_000_000
    assert market.quote("97", "98") == ["b: EXPIRED"]


def test_day_ends_with_the_day() -> None:
    market = PaperMarket()
    market.submit(make_order("BUY", "1", "99", tif="DAY", order_id="b"))
    left_s = 86_400 - START_US // 1_000_000 % 86_400
    assert market.wait(left_s - 1) == []
    assert market.wait(1) == ["b: EXPIRED"]


def test_an_order_that_arrives_after_its_time_is_refused() -> None:
    order = make_order("BUY", "1", "99", tif="GTD", expire_at=START_US, order_id="b")
    assert PaperMarket().submit(order) == ["b: REJECTED EXPIRE_TIME_IN_PAST"]


def test_post_only_is_refused_when_it_would_trade() -> None:
    market = PaperMarket()
    assert market.submit(make_order("BUY", "1", "101", post_only=True, order_id="b")) == [
        "b: REJECTED POST_ONLY_WOULD_MATCH"
    ]
    assert market.submit(make_order("BUY", "1", "100.5", post_only=True, order_id="c")) == ["c: NEW"]
    assert market.submit(make_order("SELL", "1", "100.5", post_only=True, account="bob", order_id="d")) == [
        "d: REJECTED POST_ONLY_WOULD_MATCH"
    ]


# Stops


def test_a_stop_waits_and_then_takes_the_market() -> None:
    market = PaperMarket()
    assert market.submit(make_order("SELL", "1", order_type="STOP", stop_price="99", order_id="s")) == ["s: NEW"]
    assert market.quote("99.5", "100") == []
    assert market.quote("99", "99.5") == ["s: TRIGGERED", "s: TRADE 1 @ 99 TAKER"]


def test_less_of_a_stop_keeps_its_place() -> None:
    market = PaperMarket()
    orders = {name: make_order("SELL", "2", order_type="STOP", stop_price="99", order_id=name) for name in ("a", "b")}
    for order in orders.values():
        market.submit(order)
    market.replace(orders["a"], qty="1")
    assert market.quote("99", "99.5", size="2") == [
        "a: TRIGGERED",
        "a: TRADE 1 @ 99 TAKER",
        "b: TRIGGERED",
        "b: TRADE 1 @ 99 TAKER",
        "b: EXPIRED",
    ]


def test_a_buy_stop_is_triggered_by_the_ask() -> None:
    market = PaperMarket()
    market.submit(make_order("BUY", "1", order_type="STOP", stop_price="103", order_id="b"))
    assert market.quote("102", "103.5") == ["b: TRIGGERED", "b: TRADE 1 @ 103.5 TAKER"]


def test_a_stop_limit_becomes_a_limit_order() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", "98.5", order_type="STOP_LIMIT", stop_price="99", order_id="s"))
    assert market.quote("98", "98.5") == ["s: TRIGGERED"]
    assert market.quote("99", "99.5") == ["s: TRADE 1 @ 98.5 MAKER"]


def test_a_trailing_stop_follows_the_market_and_never_goes_back() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", order_type="TRAILING_STOP", trail="2", order_id="s"))
    assert market.quote("105", "106") == []
    assert market.quote("103.5", "104") == []
    assert market.quote("103", "104") == ["s: TRIGGERED", "s: TRADE 1 @ 103 TAKER"]


def test_a_trailing_buy_stop_follows_downwards() -> None:
    market = PaperMarket()
    market.submit(make_order("BUY", "1", order_type="TRAILING_STOP", trail="2", order_id="b"))
    assert market.quote("94", "95") == []
    assert market.quote("96", "97") == ["b: TRIGGERED", "b: TRADE 1 @ 97 TAKER"]


def test_a_stop_that_would_trigger_at_once_is_refused() -> None:
    order = make_order("SELL", "1", order_type="STOP", stop_price="100", order_id="s")
    assert PaperMarket().submit(order) == ["s: REJECTED STOP_WOULD_TRIGGER"]


def test_a_post_only_stop_limit_is_refused_when_it_is_triggered_and_would_trade() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", "98", order_type="STOP_LIMIT", stop_price="99", post_only=True, order_id="s"))
    assert market.quote("99", "99.5") == ["s: TRIGGERED", "s: REJECTED POST_ONLY_WOULD_MATCH"]


# Own orders against each other


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("NONE", ["t: NEW", "m: TRADE 1 @ 101 MAKER", "t: TRADE 1 @ 101 TAKER", "t: TRADE 1 @ 101 TAKER"]),
        ("EXPIRE_TAKER", ["t: NEW", "PREVENTED", "t: EXPIRED SELF_TRADE_PREVENTED"]),
        ("EXPIRE_MAKER", ["t: NEW", "PREVENTED", "m: EXPIRED SELF_TRADE_PREVENTED", "t: TRADE 2 @ 101 TAKER"]),
        ("EXPIRE_BOTH", ["t: NEW", "PREVENTED", "m: EXPIRED SELF_TRADE_PREVENTED", "t: EXPIRED SELF_TRADE_PREVENTED"]),
        ("DECREMENT", ["t: NEW", "PREVENTED", "m: EXPIRED SELF_TRADE_PREVENTED", "t: TRADE 1 @ 101 TAKER"]),
    ],
)
def test_an_account_trades_with_itself_only_as_its_arriving_order_says(mode: StpMode, said: list[str]) -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "1", "101", order_id="m"))
    prevented = ["m: TRADE_PREVENTION 1 @ 101 SELF_TRADE_PREVENTED", "t: TRADE_PREVENTION 1 @ 101 SELF_TRADE_PREVENTED"]
    expected = [line for each in said for line in (prevented if each == "PREVENTED" else [each])]
    assert market.submit(make_order("BUY", "2", "101", stp_mode=mode, order_id="t")) == expected


def test_after_a_decrement_the_larger_order_says_what_is_left_of_it() -> None:
    market = PaperMarket()
    market.submit(make_order("SELL", "5", "101", order_id="m"))
    market.submit(make_order("BUY", "2", "101", stp_mode="DECREMENT", order_id="t"))
    (maker,) = [each for each in market.said if each.exec_type == "TRADE_PREVENTION" and each.order_id == "m"]
    assert maker.qty == Decimal(3)
    assert market.quote("102", "103") == ["m: TRADE 3 @ 101 MAKER"]


# Reduce only


def test_reduce_only_trades_no_more_than_the_position() -> None:
    market = PaperMarket(held="2")
    assert market.submit(make_order("SELL", "5", "100", reduce_only=True, order_id="s")) == [
        "s: NEW",
        "s: TRADE 2 @ 100 TAKER",
        "s: EXPIRED REDUCE_ONLY_WOULD_INCREASE",
    ]


def test_a_position_that_was_closed_otherwise_leaves_nothing_to_reduce() -> None:
    market = PaperMarket(held="2")
    market.submit(make_order("SELL", "2", order_type="STOP", stop_price="95", reduce_only=True, order_id="stop"))
    market.submit(make_order("SELL", "2"))
    assert market.quote("95", "96") == ["stop: TRIGGERED", "stop: EXPIRED REDUCE_ONLY_WOULD_INCREASE"]


def test_a_short_position_is_reduced_by_buying() -> None:
    market = PaperMarket(held="-1")
    assert market.submit(make_order("BUY", "1", reduce_only=True, order_id="b"))[-1] == "b: TRADE 1 @ 101 TAKER"


# Replacing and canceling


def test_a_changed_price_is_a_new_arrival() -> None:
    market = PaperMarket()
    first, second = make_order("BUY", "1", "99", order_id="first"), make_order("BUY", "1", "99", order_id="second")
    market.submit(first)
    market.submit(second)
    market.replace(first, price="98")
    market.replace(first, price="99")
    assert market.quote("98", "98.5", size="1") == ["second: TRADE 1 @ 99 MAKER"]


def test_less_of_an_order_keeps_its_place_and_more_of_it_does_not() -> None:
    market = PaperMarket()
    orders = {name: make_order("BUY", "2", "99", order_id=name) for name in ("less", "more", "same")}
    for order in orders.values():
        market.submit(order)
    market.replace(orders["less"], qty="1")
    market.replace(orders["more"], qty="3")
    assert market.quote("98", "98.5") == [
        "less: TRADE 1 @ 99 MAKER",
        "same: TRADE 2 @ 99 MAKER",
        "more: TRADE 3 @ 99 MAKER",
    ]


def test_a_replaced_order_that_reaches_the_market_takes() -> None:
    market = PaperMarket()
    order = make_order("BUY", "1", "99", order_id="b")
    market.submit(order)
    assert market.replace(order, price="101") == ["b: REPLACED", "b: TRADE 1 @ 101 TAKER"]
    report = market.said[-2]
    assert (report.qty, report.price) == (Decimal(1), Decimal(101))


def test_a_replacement_by_what_has_traded_already_closes_the_order() -> None:
    market = PaperMarket(size="2")
    order = make_order("BUY", "5", "101", order_id="b")
    market.submit(order)
    assert market.replace(order, qty="1") == ["b: REPLACE_REJECTED TOO_LATE"]
    assert market.replace(order, qty="2") == ["b: REPLACED"]
    status = market.matcher.status("b")
    assert status is not None
    assert not status.open


def test_a_replacement_that_the_market_forbids_is_refused_and_changes_nothing() -> None:
    market = PaperMarket()
    quiet = make_order("BUY", "1", "99", post_only=True, order_id="quiet")
    stop = make_order("SELL", "1", order_type="STOP", stop_price="95", order_id="stop")
    market.submit(quiet)
    market.submit(stop)
    assert market.replace(quiet, price="101") == ["quiet: REPLACE_REJECTED POST_ONLY_WOULD_MATCH"]
    assert market.replace(stop, stop_price="100") == ["stop: REPLACE_REJECTED STOP_WOULD_TRIGGER"]
    assert market.quote("94", "98") == [
        "quiet: TRADE 1 @ 99 MAKER",
        "stop: TRIGGERED",
        "stop: TRADE 1 @ 94 TAKER",
    ]


def test_another_distance_lets_a_trailing_stop_follow_anew() -> None:
    market = PaperMarket()
    order = make_order("SELL", "1", order_type="TRAILING_STOP", trail="2", order_id="s")
    market.submit(order)
    assert market.replace(order, trail="5") == ["s: REPLACED"]
    assert market.quote("96", "97") == []
    assert market.quote("95", "96")[0] == "s: TRIGGERED"


def test_canceling_is_answered_whatever_the_order_is() -> None:
    market = PaperMarket()
    resting, done = make_order("BUY", "1", "99", order_id="resting"), make_order("BUY", "1", order_id="done")
    market.submit(resting)
    market.submit(done)
    assert market.cancel(resting) == ["resting: CANCELED"]
    assert market.cancel(resting) == ["resting: CANCEL_REJECTED TOO_LATE"]
    assert market.cancel(done) == ["done: CANCEL_REJECTED TOO_LATE"]
    assert market.cancel(make_order("BUY", "1", order_id="x")) == ["x: CANCEL_REJECTED UNKNOWN_ORDER"]
    assert market.quote("97", "98") == []


# The market's own troubles


def test_a_halt_suspends_what_rests_and_its_end_restores_it() -> None:
    market = PaperMarket()
    order = make_order("BUY", "1", "99", order_id="b")
    market.submit(order)
    assert market.quote("97", "98", state="HALTED") == ["b: SUSPENDED"]
    assert market.quote("97", "98", state="HALTED") == []
    assert market.submit(make_order("BUY", "1", "99", order_id="c")) == ["c: REJECTED INSTRUMENT_HALTED"]
    assert market.replace(order, price="98") == ["b: REPLACE_REJECTED INSTRUMENT_HALTED"]
    assert market.quote("97", "98", state="STALE") == []
    assert market.quote("97", "98") == ["b: RESTATED", "b: TRADE 1 @ 99 MAKER"]


def test_a_suspended_order_can_be_canceled() -> None:
    market = PaperMarket()
    order = make_order("BUY", "1", "99", order_id="b")
    market.submit(order)
    market.quote("97", "98", state="HALTED")
    assert market.cancel(order) == ["b: CANCELED"]


@pytest.mark.parametrize("state", ["STALE", "DISPUTED"])
def test_a_price_nobody_stands_behind_serves_nobody(state: QuoteState) -> None:
    market = PaperMarket()
    market.submit(make_order("BUY", "1", "99", order_id="b"))
    market.submit(make_order("SELL", "1", order_type="STOP", stop_price="98", order_id="s"))
    assert market.quote("97", "98", state=state) == []
    assert market.submit(make_order("BUY", "1", order_id="c")) == ["c: REJECTED STALE_MARKET_DATA"]
    assert market.quote("98.5", "99", state="DEGRADED") == ["b: TRADE 1 @ 99 MAKER"]


def test_what_is_not_traded_here_is_refused() -> None:
    assert PaperMarket().submit(make_order("BUY", "1", "1", symbol="XYZ", order_id="b")) == [
        "b: REJECTED UNKNOWN_SYMBOL"
    ]


# Fees and memory


def test_makers_and_takers_pay_their_own_rate_in_the_quote_asset() -> None:
    market = PaperMarket(fees=Fees(maker_bps=Decimal("-1"), taker_bps=Decimal("5")))
    market.submit(make_order("SELL", "2", "101", account="bob"))
    market.submit(make_order("BUY", "2"))
    maker, taker = [each for each in market.said if each.exec_type == "TRADE"]
    assert (maker.commission, maker.commission_asset) == (Decimal("-0.02020000"), "USD")
    assert (taker.commission, taker.commission_asset) == (Decimal("0.10100000"), "USD")


def test_the_same_order_twice_is_one_order() -> None:
    market = PaperMarket()
    order = make_order("BUY", "1", order_id="b")
    assert len(market.submit(order)) == 2
    assert market.submit(order) == []


def test_only_so_many_ended_orders_are_remembered() -> None:
    market = PaperMarket(size=None)
    orders = [make_order("BUY", "1") for _ in range(CLOSED_KEPT + 1)]
    for order in orders:
        market.submit(order)
    assert market.matcher.status(orders[0].order_id) is None
    assert market.matcher.status(orders[1].order_id) is not None


def test_orders_that_ended_long_before_their_time_are_not_kept_for_it() -> None:
    market = PaperMarket()
    orders = [make_order("BUY", "1", "99", tif="DAY") for _ in range(3 * CLOSED_KEPT)]
    for order in orders:
        market.submit(order)
        market.matcher.cancel(order, START_US)
    given = {order.order_id for order in orders}  # other tests' orders may live as long as this process
    kept = sum(type(each) is LiveOrder and each.order.order_id in given for each in gc.get_objects())
    assert CLOSED_KEPT <= kept <= 2 * CLOSED_KEPT + 2


def test_restored_orders_are_served_in_the_order_of_their_age_and_go_on_where_they_were() -> None:
    market = PaperMarket()
    assert (
        market.restore(
            make_order(
                "BUY", "2", "99", order_id="young", status="NEW", venue_order_id="v", version=3, created_us=START_US + 1
            ),
            make_order(
                "BUY", "2", "99", order_id="old", status="PARTIALLY_FILLED", venue_order_id="v", cum_qty="1", version=4
            ),
        )
        == []
    )
    assert market.quote("98", "98.5", size="2") == ["old: TRADE 1 @ 99 MAKER", "young: TRADE 1 @ 99 MAKER"]
    assert [each.exec_id for each in market.said] == ["paper-old-4-1", "paper-young-3-1"]


def test_restoring_ends_what_lived_for_the_moment_only() -> None:
    market = PaperMarket()
    assert market.restore(
        make_order(
            "BUY", "2", order_id="market", status="PARTIALLY_FILLED", venue_order_id="v", cum_qty="1", version=4
        ),
        make_order("BUY", "2", "99", tif="IOC", order_id="ioc", status="NEW", venue_order_id="v", version=3),
        make_order(
            "SELL",
            "1",
            order_type="STOP",
            stop_price="95",
            order_id="stop",
            status="NEW",
            venue_order_id="v",
            version=3,
        ),
    ) == ["ioc: EXPIRED", "market: EXPIRED"]
    assert market.quote("95", "96") == ["stop: TRIGGERED", "stop: TRADE 1 @ 95 TAKER"]


def test_a_suspended_order_is_restored_suspended() -> None:
    market = PaperMarket()
    market.restore(
        make_order("BUY", "1", "99", order_id="b", status="SUSPENDED", venue_order_id="v", prev_status="NEW", version=4)
    )
    assert market.quote("97", "98", state="HALTED") == []
    assert market.quote("97", "98") == ["b: RESTATED", "b: TRADE 1 @ 99 MAKER"]


def test_orders_are_restored_before_it_is_known_what_they_trade() -> None:
    market = PaperMarket()
    market.instruments.clear()
    assert market.restore(make_order("BUY", "1", "99", order_id="b", status="NEW", venue_order_id="v", version=3)) == []
    assert market.quote("97", "98") == []
    market.instruments[SYMBOL] = INSTRUMENT
    assert market.quote("97", "98") == ["b: TRADE 1 @ 99 MAKER"]


def test_what_was_sent_but_not_accepted_before_a_restart_arrives_with_the_next_price() -> None:
    market = PaperMarket()
    assert market.restore(
        make_order("BUY", "1", "110", order_id="b", status="PENDING_NEW", version=2),
        make_order("BUY", "1", "110", post_only=True, order_id="quiet", status="PENDING_NEW", version=2),
        make_order("BUY", "1", order_id="market", status="PENDING_NEW", version=2),
    ) == ["b: NEW", "market: EXPIRED", "quiet: NEW"]
    assert market.quote("100", "101", state="STALE") == []
    assert market.quote("100", "101") == ["b: TRADE 1 @ 101 TAKER", "quiet: REJECTED POST_ONLY_WOULD_MATCH"]


def test_what_has_not_arrived_yet_can_be_changed_and_canceled() -> None:
    market = PaperMarket()
    moved = make_order("BUY", "1", "110", order_id="moved", status="PENDING_NEW", version=2)
    ended = make_order("BUY", "1", "110", order_id="ended", status="PENDING_NEW", version=2)
    market.restore(moved, ended)
    assert market.cancel(ended) == ["ended: CANCELED"]
    assert market.replace(moved, price="105") == ["moved: REPLACED"]
    assert market.quote("100", "101") == ["moved: TRADE 1 @ 101 TAKER"]
