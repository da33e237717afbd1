from __future__ import annotations

import zlib
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.market.books import Best, OrderBook, checksum
from protocol.trading import Level, Side


class NaiveBook:
    """The same book as a dictionary per side, sorted anew for every question."""

    def __init__(self, depth: int | None = None) -> None:
        self.depth = depth
        self.sides: dict[Side, dict[Decimal, Level]] = {"BUY": {}, "SELL": {}}

    def apply(self, changes: list[tuple[Side, str, str]]) -> None:
        for side, price, size in changes:
            if Decimal(size) == 0:
                self.sides[side].pop(Decimal(price), None)
            else:
                self.sides[side][Decimal(price)] = (price, size)
        if self.depth is not None:
            for side in self.sides:
                self.sides[side] = {Decimal(level[0]): level for level in self.side(side)[: self.depth]}

    def side(self, side: Side) -> list[Level]:
        return [level for _, level in sorted(self.sides[side].items(), reverse=side == "BUY")]


# Few prices, so that levels are hit again; the same number is written in several ways.
prices = st.integers(0, 40).flatmap(
    lambda n: st.sampled_from(
        [f"{n // 4}.{n % 4 * 25:02}", f"{n // 4}.{n % 4 * 25:02}000", f"0{n // 4}.{n % 4 * 25:02}"]
    )
)
sizes = st.sampled_from(["0", "0.0", "0.00000000", "1", "2.50", "0.00000001", "123456789.123456789"])
changes = st.lists(st.tuples(st.sampled_from(["BUY", "SELL"]), prices, sizes), max_size=30)


@given(st.lists(changes, max_size=12), st.sampled_from([None, 1, 3, 10]))
def test_a_book_agrees_with_a_naive_one_after_every_message(
    messages: list[list[tuple[Side, str, str]]], depth: int | None
) -> None:
    book, naive = OrderBook("X-USD", depth=depth), NaiveBook(depth)
    for message in messages:
        book.apply(
            [(price, size) for side, price, size in message if side == "BUY"],
            [(price, size) for side, price, size in message if side == "SELL"],
        )
        naive.apply(message)
        bids, asks = naive.side("BUY"), naive.side("SELL")
        assert book.top(100) == (bids, asks)
        assert book.top(3) == (bids[:3], asks[:3])
        assert book.best() == Best(bids[0] if bids else None, asks[0] if asks else None)
        assert book.levels() == (len(bids), len(asks))
        assert book.crossed == bool(bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]))


@given(changes)
def test_setting_levels_one_by_one_gives_the_same_book_as_loading_the_result(
    message: list[tuple[Side, str, str]],
) -> None:
    book, loaded = OrderBook("X-USD"), OrderBook("X-USD")
    for side, price, size in message:
        book.set(side, price, size)
    bids, asks = book.top(100)
    loaded.load(reversed(bids), reversed(asks))
    assert loaded.top(100) == (bids, asks)
    assert loaded.checksum() == book.checksum()


def test_prices_are_compared_as_numbers_and_kept_as_they_were_written() -> None:
    book = OrderBook("X-USD")
    book.load([("9.50", "1"), ("10.00", "2.0")], [("100", "3"), ("11", "4.000")])
    assert book.best() == Best(("10.00", "2.0"), ("11", "4.000"))


def test_digits_beyond_any_float_or_decimal_context_still_tell_two_prices_apart() -> None:
    lower, higher = "1." + "0" * 29 + "1", "1." + "0" * 29 + "2"
    book = OrderBook("X-USD")
    book.load([], [(higher, "1"), (lower, "1")])
    assert book.best().ask == (lower, "1")
    book.set("SELL", lower, "0")
    assert book.best().ask == (higher, "1")


def test_a_bounded_book_forgets_surplus_levels_only_after_the_whole_message() -> None:
    book = OrderBook("X-USD", depth=2)
    book.load([("3", "1"), ("2", "1")], [])
    book.apply([("4", "1"), ("3", "0")], [])
    assert book.top(5) == ([("4", "1"), ("2", "1")], [])


def test_an_empty_book_has_no_best_and_is_not_crossed() -> None:
    book = OrderBook("X-USD")
    assert book.best() == Best(None, None)
    assert not book.crossed
    assert book.top(10) == ([], [])


@pytest.mark.parametrize("price", ["NaN", "Infinity", "-Infinity", "one", ""])
def test_what_is_no_number_is_refused_as_a_price(price: str) -> None:
    book = OrderBook("X-USD")
    with pytest.raises((ValueError, InvalidOperation)):
        book.set("BUY", price, "1")
    assert book.levels() == (0, 0)


def test_the_checksum_is_the_one_kraken_documents() -> None:
    """The example of Kraken's guide to the checksum of WebSocket v1's book."""
    asks = [
        ("0.05005", "0.00000500"),
        ("0.05010", "0.00000500"),
        ("0.05015", "0.00000500"),
        ("0.05020", "0.00000500"),
        ("0.05025", "0.00000500"),
        ("0.05030", "0.00000500"),
        ("0.05035", "0.00000500"),
        ("0.05040", "0.00000500"),
        ("0.05045", "0.00000500"),
        ("0.05050", "0.00000500"),
    ]
    bids = [
        ("0.05000", "0.00000500"),
        ("0.04995", "0.00000500"),
        ("0.04990", "0.00000500"),
        ("0.04980", "0.00000500"),
        ("0.04975", "0.00000500"),
        ("0.04970", "0.00000500"),
        ("0.04965", "0.00000500"),
        ("0.04960", "0.00000500"),
        ("0.04955", "0.00000500"),
        ("0.04950", "0.00000500"),
    ]
    assert checksum(bids, asks) == 974947235
    book = OrderBook("X-USD")
    book.load(bids, asks)
    book.set("SELL", "9", "1")  # the eleventh level does not count
    assert book.checksum() == 974947235


def test_an_empty_book_has_the_checksum_of_nothing() -> None:
    assert OrderBook("X-USD").checksum() == zlib.crc32(b"")
