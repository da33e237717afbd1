from __future__ import annotations

import pytest

from hub.trading.market.books import Best, checksum
from hub.trading.market.events import BookSnapshot, BookUpdate
from hub.trading.market.tracking import BUFFERED_UPDATES, BookGap, BookTracker


def snapshot(last_id: int | None = None, **fields: object) -> BookSnapshot:
    return BookSnapshot(symbol="X-USD", bids=[("10", "1")], asks=[("12", "1")], last_id=last_id, **fields)  # type: ignore[arg-type]  # a shorthand


def numbered(first_id: int, last_id: int, bid_size: str = "1") -> BookUpdate:
    return BookUpdate(symbol="X-USD", bids=[("10", bid_size)], asks=[], first_id=first_id, last_id=last_id)


def test_updates_without_a_snapshot_change_nothing() -> None:
    tracker = BookTracker("X-USD")
    assert not tracker.update(BookUpdate(symbol="X-USD", bids=[("10", "1")], asks=[]))
    assert not tracker.ready
    assert tracker.book.best() == Best(None, None)


def test_numbered_updates_that_came_before_the_snapshot_are_applied_behind_it() -> None:
    tracker = BookTracker("X-USD")
    for update in (numbered(1, 3, "3"), numbered(4, 6, "6"), numbered(7, 9, "9")):
        assert not tracker.update(update)
    tracker.snapshot(snapshot(last_id=5))  # contains 1-3 and half of 4-6
    assert tracker.ready
    assert tracker.book.best().bid == ("10", "9")
    assert tracker.update(numbered(10, 10, "10"))


def test_an_update_that_the_snapshot_contains_is_dropped() -> None:
    tracker = BookTracker("X-USD")
    tracker.snapshot(snapshot(last_id=5))
    assert not tracker.update(numbered(4, 5, "99"))
    assert tracker.book.best().bid == ("10", "1")
    assert tracker.update(numbered(6, 8, "2"))


def test_a_missing_number_is_a_gap_and_empties_the_book_until_the_next_snapshot() -> None:
    tracker = BookTracker("X-USD")
    tracker.snapshot(snapshot(last_id=5))
    with pytest.raises(BookGap) as caught:
        tracker.update(numbered(7, 8))
    assert (caught.value.kind, caught.value.expected, caught.value.found) == ("sequence", 6, 7)
    assert not tracker.ready
    assert tracker.book.best() == Best(None, None)
    assert not tracker.update(numbered(9, 9, "9"))
    tracker.snapshot(snapshot(last_id=7))
    assert tracker.book.best().bid == ("10", "9"), "what revealed the gap, and what followed, was kept for the snapshot"


def test_a_gap_is_seen_even_while_there_is_no_snapshot() -> None:
    tracker = BookTracker("X-USD")
    tracker.update(numbered(1, 1))
    with pytest.raises(BookGap):
        tracker.update(numbered(3, 3))


def test_a_snapshot_older_than_the_kept_updates_is_a_gap_and_a_newer_one_mends_it() -> None:
    tracker = BookTracker("X-USD")
    tracker.update(numbered(7, 8, "8"))
    tracker.update(numbered(9, 9, "9"))
    with pytest.raises(BookGap):
        tracker.snapshot(snapshot(last_id=5))
    assert not tracker.ready
    tracker.update(numbered(10, 10, "10"))
    tracker.snapshot(snapshot(last_id=8))
    assert tracker.book.best().bid == ("10", "10")


def test_kept_updates_are_bounded_and_what_was_pushed_out_is_a_gap() -> None:
    tracker = BookTracker("X-USD")
    for number in range(1, BUFFERED_UPDATES + 3):
        tracker.update(numbered(number, number))
    with pytest.raises(BookGap):
        tracker.snapshot(snapshot(last_id=1))


def test_a_wrong_checksum_is_a_gap_and_a_right_one_is_not() -> None:
    tracker = BookTracker("X-USD")
    tracker.snapshot(snapshot())
    right = checksum([("10", "2")], [("12", "1")])
    assert tracker.update(BookUpdate(symbol="X-USD", bids=[("10", "2")], asks=[], checksum=right))
    with pytest.raises(BookGap) as caught:
        tracker.update(BookUpdate(symbol="X-USD", bids=[("10", "3")], asks=[], checksum=right))
    assert (caught.value.kind, caught.value.expected) == ("checksum", right)
    assert not tracker.ready
    tracker.snapshot(snapshot())
    assert tracker.ready


def test_a_snapshot_brings_its_depth() -> None:
    tracker = BookTracker("X-USD")
    tracker.snapshot(snapshot(depth=1))
    tracker.update(BookUpdate(symbol="X-USD", bids=[("11", "1")], asks=[]))
    assert tracker.book.top(5) == ([("11", "1")], [("12", "1")])
