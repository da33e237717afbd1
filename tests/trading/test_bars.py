from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.market.bars import BarBuilder
from protocol.trading import Trade

from .wire import check_message

MINUTE_US = 60_000_000
START_US = 28_333_333 * MINUTE_US


def trade(at_us: int, price: str, size: str = "1", *, buyer: bool = True) -> Trade:
    return Trade(symbol="X-USD", price=price, size=size, ts_event=at_us, aggressor_side="BUYER" if buyer else "SELLER")


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
    assert bars.close(START_US + MINUTE_US - 1) is None
    bar = bars.close(START_US + MINUTE_US)
    assert bar is not None
    check_message("bars:1m:X-USD", "BAR", bar)
    assert (bar.start, bar.end, bar.closed) == (START_US, START_US + MINUTE_US, True)
    assert (bar.open, bar.high, bar.low, bar.close) == ("10.00", "12.00", "9.00", "9.00")
    assert (bar.volume, bar.quote_volume, bar.taker_buy_volume) == ("4.0", "43.000", "2.0")
    assert (bar.vwap, bar.trade_count) == ("10.750000", 3)


def test_an_interval_without_a_trade_has_no_bar() -> None:
    bars = builder()
    assert bars.close(START_US + 10 * MINUTE_US) is None
    bars.add(trade(START_US, "1"))
    assert bars.close(START_US + MINUTE_US) is not None
    assert bars.close(START_US + 2 * MINUTE_US) is None


def test_an_unfinished_bar_is_told_once_per_change_and_each_time_as_a_new_revision() -> None:
    bars = builder()
    assert bars.update() is None
    bars.add(trade(START_US, "1"))
    first = bars.update()
    assert first is not None and (first.closed, first.revision) == (False, 0)
    assert bars.update() is None
    bars.add(trade(START_US + 1, "2"))
    second = bars.update()
    assert second is not None and second.revision == 1
    last = bars.close(START_US + MINUTE_US)
    assert last is not None and (last.closed, last.revision) == (True, 2)


def test_a_trade_after_the_interval_is_refused_until_the_bar_is_closed() -> None:
    bars = builder()
    bars.add(trade(START_US, "1"))
    with pytest.raises(ValueError, match="over"):
        bars.add(trade(START_US + MINUTE_US, "1"))


trades = st.lists(
    st.tuples(st.integers(0, MINUTE_US - 1), st.integers(1, 10**6), st.integers(1, 10**6), st.booleans()), min_size=1
)


@given(trades)
def test_a_bar_says_what_its_trades_add_up_to(raw: list[tuple[int, int, int, bool]]) -> None:
    bars = builder()
    given_trades = [
        trade(START_US + at, f"{price / 100:.2f}", f"{size / 1000:.3f}", buyer=buyer)
        for at, price, size, buyer in sorted(raw)
    ]
    for each in given_trades:
        bars.add(each)
    bar = bars.close(START_US + MINUTE_US)
    assert bar is not None
    prices = [Decimal(each.price) for each in given_trades]
    sizes = [Decimal(each.size) for each in given_trades]
    assert (bar.high, bar.low) == (str(max(prices)), str(min(prices)))
    assert Decimal(bar.volume) == sum(sizes)
    assert Decimal(bar.quote_volume or 0) == sum(p * s for p, s in zip(prices, sizes, strict=True))
    assert min(prices) <= Decimal(bar.vwap or 0) <= max(prices)
    assert Decimal(bar.taker_buy_volume or 0) <= Decimal(bar.volume)
