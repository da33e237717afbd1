"""The limit on REST requests at work: it gives way when answers take long, and comes back when they do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.guard.concurrency import LEAST, MOST, RETRY_MS, START, WINDOW, Concurrency
from protocol.errors import ErrorCode, HubError

durations = st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 60)), max_size=300)


def serve(concurrency: Concurrency, duration_s: float, *, windows: int = 1, at_once: int = 1, route: str = "a") -> None:
    for _ in range(windows * WINDOW // at_once):
        for _ in range(at_once):
            concurrency.begin()
        for _ in range(at_once):
            concurrency.end(route, duration_s)


@given(durations)
def test_the_limit_stays_within_its_bounds_and_what_ends_is_not_at_work(answers: list[tuple[str, float]]) -> None:
    concurrency, twin = Concurrency(), Concurrency()
    for route, duration_s in answers:
        for each in (concurrency, twin):
            each.begin()
            each.end(route, duration_s)
        assert LEAST <= concurrency.limit <= MOST
    assert concurrency.at_work == 0
    assert concurrency.limit == twin.limit


def test_one_more_than_the_limit_is_refused_with_a_time_to_come_back_until_one_ends() -> None:
    concurrency = Concurrency(chance=lambda: 0.5)
    for _ in range(START):
        concurrency.begin()
    with pytest.raises(HubError) as refused:
        concurrency.begin()
    assert (refused.value.code, refused.value.retry_after_ms) == (ErrorCode.OVERLOADED, RETRY_MS * 1.5)
    assert (concurrency.refused, concurrency.at_work) == (1, START)

    concurrency.end("a", 0.01)
    concurrency.begin()


def test_answers_that_take_longer_than_usual_lower_the_limit_at_once_and_to_the_least_at_last() -> None:
    concurrency = Concurrency()
    serve(concurrency, 0.02)
    serve(concurrency, 0.2)
    assert concurrency.limit == int(START * 0.9)
    serve(concurrency, 0.2, windows=100)
    assert concurrency.limit == LEAST


def test_what_has_been_slow_for_long_is_the_new_usual_and_the_limit_falls_no_further() -> None:
    concurrency = Concurrency()
    serve(concurrency, 0.02)
    serve(concurrency, 0.2, windows=2000)
    for _ in range(LEAST - 1):
        concurrency.begin()
    serve(concurrency, 0.2, windows=10)
    assert concurrency.limit == LEAST + 10


def test_the_limit_rises_only_while_it_is_used() -> None:
    concurrency = Concurrency()
    serve(concurrency, 0.02, windows=5)
    assert concurrency.limit == START
    for _ in range(START // 2 + 5):
        concurrency.begin()
    serve(concurrency, 0.02, windows=5)
    assert concurrency.limit == START + 5


def test_a_slow_route_among_quick_ones_is_no_overload_nor_are_microseconds() -> None:
    concurrency = Concurrency()
    for _ in range(20):
        serve(concurrency, 5.0, route="export")
        serve(concurrency, 0.00001)
        serve(concurrency, 0.009)
    assert concurrency.limit == START
