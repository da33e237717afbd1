from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.trading.market.view import VWAP_WINDOW_US, MarketMessage, MarketView
from protocol.trading import Book, Instrument, PriceTick, Trade, TradeCorrection

from .virtual_clock import VirtualClock

X = "X-USD"


def trade(at_us: int, price: str, size: str = "1", *, trade_id: str | None = None) -> Trade:
    return Trade(symbol=X, price=price, size=size, ts_event=at_us, trade_id=trade_id)


def test_what_was_never_quoted_has_no_reference() -> None:
    view = MarketView(clock=VirtualClock())
    assert (view.reference(X), view.last(X), view.vwap(X), view.mark(X)) == (None, None, None, None)
    assert (view.book(X), view.instrument(X), [*view.symbols()]) == (None, None, [])


def test_a_reference_grows_older_until_the_next_quote() -> None:
    clock = VirtualClock()
    view = MarketView(clock=clock)
    view.hear(PriceTick(symbol=X, bid="9", ask="11", mid="10", seq=4, state="LIVE", ts_event=clock.now_us() - 5))
    reference = view.reference(X)
    assert reference is not None
    assert (reference.bid, reference.ask, reference.mid, reference.seq, reference.state) == ("9", "11", "10", 4, "LIVE")
    assert reference.age_us == 5
    assert view.mark(X) == Decimal("10")


def test_last_vwap_and_mark_come_from_the_trades() -> None:
    clock = VirtualClock()
    view, now_us = MarketView(clock=clock), clock.now_us()
    view.hear(trade(now_us - VWAP_WINDOW_US - 1, "1000", "50"))
    view.hear(trade(now_us - 10, "10", "1"))
    view.hear(trade(now_us, "13", "2"))
    assert (view.last(X), view.vwap(X), view.mark(X)) == (Decimal(13), Decimal("12.0000"), Decimal(13))


def test_a_corrected_trade_counts_as_corrected_and_a_withdrawn_one_not_at_all() -> None:
    clock = VirtualClock()
    view, now_us = MarketView(clock=clock), clock.now_us()
    view.hear(trade(now_us, "10", trade_id="1"))
    view.hear(trade(now_us, "900", trade_id="2"))
    wrong = {"symbol": X, "original_trade_id": "2", "original_price": "900", "original_size": "1"}
    view.hear(TradeCorrection(**wrong, corrected_price="20", corrected_size="1"))
    assert (view.last(X), view.vwap(X)) == (Decimal(20), Decimal("15.0000"))
    view.hear(TradeCorrection(**wrong))
    assert (view.last(X), view.vwap(X)) == (Decimal(10), Decimal("10.0000"))


def test_whoever_listens_hears_everything_in_order_after_it_was_taken_in() -> None:
    view = MarketView(clock=VirtualClock())
    heard: list[tuple[MarketMessage, Decimal | None]] = []
    view.listen(lambda message: heard.append((message, view.mark(X))))
    messages: list[MarketMessage] = [
        PriceTick(symbol=X, price="5"),
        Book(symbol=X, depth=1, bids=[("1", "1")], asks=[]),
        Instrument(symbol=X, base="X", quote="USD", tick_size="1", lot_size="1"),
    ]
    for message in messages:
        view.hear(message)
    assert heard == [(message, Decimal(5)) for message in messages]
    assert (view.book(X), view.instrument(X)) == (messages[1], messages[2])


@given(
    st.lists(st.tuples(st.integers(0, 2 * VWAP_WINDOW_US), st.integers(1, 10**6), st.integers(1, 10**4)), max_size=30)
)
def test_the_running_sums_are_those_of_the_window(raw: list[tuple[int, int, int]]) -> None:
    clock = VirtualClock()
    view, now_us = MarketView(clock=clock), clock.now_us()
    for age_us, price, size in sorted(raw, reverse=True):
        view.hear(trade(now_us - age_us, str(price), str(size)))
    inside = [(price, size) for age_us, price, size in raw if age_us <= VWAP_WINDOW_US]
    expected = sum(price * size for price, size in inside) / sum(size for _, size in inside) if inside else None
    found = view.vwap(X)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert abs(float(found) - expected) < 1e-3


def test_a_trade_that_comes_late_is_not_the_last_one_and_leaves_the_average_in_time() -> None:
    clock = VirtualClock()
    view, now_us = MarketView(clock=clock), clock.now_us()
    view.hear(trade(now_us, "10"))
    view.hear(trade(now_us - VWAP_WINDOW_US - 1, "900"))
    assert (view.last(X), view.vwap(X)) == (Decimal(10), Decimal("10.0000"))


def test_of_two_sources_trades_with_one_id_the_right_one_is_withdrawn() -> None:
    clock = VirtualClock()
    view = MarketView(clock=clock)
    for source, price in (("a", "10"), ("b", "900")):
        view.hear(replace(trade(clock.now_us(), price, trade_id="1"), source=source))
    wrong = {"symbol": X, "original_trade_id": "1", "original_price": "900", "original_size": "1"}
    view.hear(TradeCorrection(**wrong, source="b"))
    assert (view.last(X), view.vwap(X)) == (Decimal(10), Decimal("10.0000"))
