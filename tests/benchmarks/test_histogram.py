"""The histogram against sorted lists."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.histogram import Histogram, bounds, bucket_of

VALUES = st.lists(st.integers(min_value=0, max_value=10**13), min_size=1, max_size=300)


def filled(values: list[int]) -> Histogram:
    histogram = Histogram()
    histogram.record_all(values)
    return histogram


@given(st.integers(min_value=0, max_value=2**62))
def test_a_value_lies_in_its_bucket_which_is_narrow(value: int) -> None:
    low, high = bounds(bucket_of(value))
    assert low <= value <= high
    assert high - low <= low / 64


@given(st.integers(min_value=0, max_value=2**40))
def test_buckets_join_without_a_gap(value: int) -> None:
    bucket = bucket_of(value)
    assert bounds(bucket)[1] + 1 == bounds(bucket + 1)[0]


@given(VALUES, st.sampled_from([0.01, 0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_quantile_is_that_of_the_sorted_list_and_never_flatters(values: list[int], q: float) -> None:
    exact = sorted(values)[max(0, math.ceil(q * len(values) - 1e-9) - 1)]
    found = filled(values).quantile(q)
    assert exact <= found <= exact + exact / 64


@given(VALUES, VALUES)
def test_merging_is_recording_both(left: list[int], right: list[int]) -> None:
    merged = filled(left)
    merged.merge(filled(right))
    assert merged.dump() == filled(left + right).dump()


@given(VALUES)
def test_what_is_dumped_can_be_loaded(values: list[int]) -> None:
    histogram = filled(values)
    assert Histogram.load(histogram.dump()).figures() == histogram.figures()
    assert histogram.figures(1)["max"] == max(values)
    assert histogram.total == len(values)


@given(VALUES)
def test_the_curve_rises_to_one_and_to_the_largest(values: list[int]) -> None:
    curve = list(filled(values).curve(1))
    assert curve == sorted(curve)
    assert curve[-1] == (1.0, max(values))


def test_nothing_recorded_is_nothing_and_not_an_error() -> None:
    assert Histogram().figures() == {
        "mean": 0.0,
        "p50": 0.0,
        "p90": 0.0,
        "p99": 0.0,
        "p99_9": 0.0,
        "max": 0.0,
        "count": 0,
    }


def test_a_negative_value_counts_as_zero() -> None:
    assert filled([-5]).largest == 0
