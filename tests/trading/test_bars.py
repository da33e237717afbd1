from __future__ import annotations

from decimal import Decimal
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hub.trading.market.bars import GRACE_US, BarBuilder
from protocol.trading import Trade

from .wire import check_message

MINUTE_US = 60_000_000
START_US = 28_333_333 * MINUTE_US


def trade(at_us: int, price: str, size: str = "1", *, buyer: bool = True, trade_id: str | None = None) -> Trade:
    side: Literal["BUYER", "SELLER"] = "BUYER" if buyer else "SELLER"
    return Trade(symbol="X-USD", price=price, size=size, ts_event=at_us, aggressor_side=side, trade_id=trade_id)


def builder() -> BarBuilder:
    return BarBuilder("X-USD", "1m", source="test")


def test_a_bar_is_made_of_the_trades_of_its_interval() -> None:
    bars = builder()
    for each in (
        trade(START_US + 5, "10.00", "1.0"),
        trade(START_US + 6, "12.00", "2.0", buyer=False),
        trade(START_US + MINUTE_US - 1, "9.00", "1.0"),
    ):
        bars.add(each)
    assert bars.due(START_US + MINUTE_US - 1) == []
    (bar,) = bars.due(START_US + MINUTE_US)
    check_message("bars:1m:X-USD", "BAR", bar)
    assert (bar.start, bar.end, bar.closed) == (START_US, START_US + MINUTE_US, True)
    assert (bar.open, bar.high, bar.low, bar.close) == ("10.00", "12.00", "9.00", "9.00")
    assert (bar.volume, bar.quote_volume, bar.taker_buy_volume) == ("4.0", "43.000", "2.0")
    assert (bar.vwap, bar.trade_count) == ("10.750000", 3)


def test_an_interval_without_a_trade_has_no_bar() -> None:
    bars = builder()
    bars.add(trade(START_US, "1"))
    assert len(bars.due(START_US + MINUTE_US)) == 1
    assert bars.due(START_US + 2 * MINUTE_US) == []


def test_an_unfinished_bar_is_told_once_per_change_and_is_no_revision() -> None:
    bars = builder()
    assert bars.update() == []
    bars.add(trade(START_US, "1"))
    (first,) = bars.update()
    assert (first.closed, first.revision) == (False, 0)
    assert bars.update() == []
    bars.add(trade(START_US + 1, "2"))
    (second,) = bars.update()
    assert second.revision == 0
    (last,) = bars.due(START_US + MINUTE_US)
    assert (last.closed, last.revision) == (True, 0)


def test_a_trade_that_comes_late_revises_its_closed_bar_within_the_grace_and_not_after_it() -> None:
    bars = builder()
    bars.add(trade(START_US + 10, "10"))
    (closed,) = bars.due(START_US + MINUTE_US)
    assert (closed.revision, closed.trade_count) == (0, 1)
    assert bars.add(trade(START_US + 5, "9"))
    (revised,) = bars.due(START_US + MINUTE_US + GRACE_US - 1)
    assert (revised.closed, revised.revision, revised.trade_count) == (True, 1, 2)
    assert (revised.open, revised.close) == ("9", "10"), "in the order of their time"
    assert bars.due(START_US + MINUTE_US + GRACE_US) == []
    assert not bars.add(trade(START_US + 6, "9"))
    assert bars.due(START_US + 2 * MINUTE_US) == []


def test_two_intervals_may_be_open_at_once_and_each_trade_finds_its_own() -> None:
    bars = builder()
    bars.add(trade(START_US + MINUTE_US + 1, "20"))
    bars.add(trade(START_US + 1, "10"))
    assert [bar.open for bar in bars.due(START_US + MINUTE_US)] == ["10"]
    assert [bar.open for bar in bars.due(START_US + 2 * MINUTE_US)] == ["20"]


def test_a_corrected_trade_counts_as_it_should_have_been_said_and_a_withdrawn_one_not_at_all() -> None:
    bars = builder()
    wrong, other = trade(START_US + 2, "900", "5", trade_id="2"), trade(START_US + 1, "10", "1", trade_id="1")
    bars.add(other)
    bars.add(wrong)
    assert bars.amend(wrong, trade(0, "9", "5", trade_id="2b"))
    (bar,) = bars.due(START_US + MINUTE_US)
    assert (bar.high, bar.low, bar.close, bar.volume, bar.trade_count) == ("10", "9", "9", "6", 2)
    assert bars.amend(trade(START_US + 2, "9", "5", trade_id="2b"), None)
    (bar,) = bars.due(START_US + MINUTE_US + 1)
    assert (bar.low, bar.close, bar.volume, bar.trade_count, bar.revision) == ("10", "10", "1", 1, 1)
    assert bars.amend(other, None)
    (bar,) = bars.due(START_US + MINUTE_US + 2)
    assert (bar.volume, bar.trade_count, bar.revision) == ("0", 0, 2), "a bar that was told does not vanish"
    bars.due(START_US + MINUTE_US + GRACE_US)
    assert not bars.amend(other, None)


trades = st.lists(
    st.tuples(st.integers(0, MINUTE_US - 1), st.integers(1, 10**6), st.integers(1, 10**6), st.booleans()), min_size=1
)


@given(trades)
def test_a_bar_says_what_its_trades_add_up_to_in_whatever_order_they_come(
    raw: list[tuple[int, int, int, bool]],
) -> None:
    bars = builder()
    given_trades = [
        trade(START_US + at, f"{price / 100:.2f}", f"{size / 1000:.3f}", buyer=buyer) for at, price, size, buyer in raw
    ]
    for each in given_trades:
        bars.add(each)
    (bar,) = bars.due(START_US + MINUTE_US)
    prices = [Decimal(each.price) for each in given_trades]
    sizes = [Decimal(each.size) for each in given_trades]
    assert (bar.high, bar.low) == (str(max(prices)), str(min(prices)))
    times = [each.ts_event or 0 for each in given_trades]
    assert bar.open in {each.price for each in given_trades if each.ts_event == min(times)}
    assert bar.close in {each.price for each in given_trades if each.ts_event == max(times)}
    assert Decimal(bar.volume) == sum(sizes)
    assert Decimal(bar.quote_volume or 0) == sum(p * s for p, s in zip(prices, sizes, strict=True))
    assert min(prices) <= Decimal(bar.vwap or 0) <= max(prices)
    assert Decimal(bar.taker_buy_volume or 0) <= Decimal(bar.volume)


def test_of_two_sources_trades_with_one_id_the_right_one_is_withdrawn() -> None:
    bars = builder()
    right, wrong = (
        replace(trade(START_US, price, trade_id="7"), source=name) for price, name in (("1", "a"), ("9", "b"))
    )
    bars.add(right)
    bars.add(wrong)
    bars.amend(wrong, None)
    (bar,) = bars.due(START_US + MINUTE_US)
    assert (bar.high, bar.close, bar.quote_volume, bar.trade_count) == ("1", "1", "1", 1)
