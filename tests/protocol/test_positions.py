from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protocol.positions import Gap, merge_recovered


class At(NamedTuple):
    offset: int


def at(*offsets: int) -> list[At]:
    return [At(offset) for offset in offsets]


offsets = st.lists(st.integers(min_value=1, max_value=30))


def model(since: int, history: list[int], live: list[int]) -> list[int] | int:
    """What is known above `since`, as one run; or the first offset that is missing inside it."""
    known = {offset for offset in [*history, *live] if offset > since}
    wanted = range(since + 1, max(known, default=since) + 1)
    return next((offset for offset in wanted if offset not in known), list(wanted))


@given(st.integers(min_value=0, max_value=30), offsets, offsets)
def test_merging_agrees_with_the_model(since: int, history: list[int], live: list[int]) -> None:
    expected = model(since, history, live)
    try:
        merged: list[int] | int = [each.offset for each in merge_recovered(since, at(*history), at(*live))]
    except Gap as gap:
        merged = gap.expected
    assert merged == expected


@given(st.integers(min_value=0, max_value=50), st.integers(min_value=0, max_value=50), st.data())
def test_history_and_live_that_overlap_or_touch_join_into_one_run(since: int, length: int, data: st.DataObject) -> None:
    run = list(range(since + 1, since + length + 1))
    cut = data.draw(st.integers(min_value=0, max_value=length))
    back = data.draw(st.integers(min_value=0, max_value=cut))
    live = data.draw(st.permutations(run[cut - back :]))
    merged = merge_recovered(since, at(*run[:cut]), at(*live))
    assert [each.offset for each in merged] == run


@given(st.integers(min_value=1, max_value=50), st.data())
def test_one_missing_message_is_a_gap_that_names_it(length: int, data: st.DataObject) -> None:
    run = list(range(1, length + 1))
    missing = data.draw(st.sampled_from(run))
    assume(missing != length)
    side = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    history = [offset for offset in run if side[offset - 1] and offset != missing]
    live = [offset for offset in run if not side[offset - 1] and offset != missing]
    with pytest.raises(Gap) as caught:
        merge_recovered(0, at(*history), at(*live))
    assert caught.value.expected == missing


def test_of_a_repeat_the_one_from_history_is_taken() -> None:
    class Named(NamedTuple):
        offset: int
        source: str

    merged = merge_recovered(0, [Named(1, "history")], [Named(1, "live"), Named(2, "live")])
    assert [each.source for each in merged] == ["history", "live"]


def test_nothing_missed_is_an_empty_run() -> None:
    assert merge_recovered(7, [], []) == []
    assert merge_recovered(7, at(5, 6), at(7)) == []
