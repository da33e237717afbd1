"""hub.client.backoff"""

from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from hub.client.backoff import delay_s

attempts = st.integers(min_value=0, max_value=10_000)
seeds = st.integers()


@given(attempts, seeds)
def test_a_delay_lies_between_half_a_second_and_its_ceiling(attempt: int, seed: int) -> None:
    assert 0.5 <= delay_s(attempt, random.Random(seed)) <= min(20.0, 2.0 ** min(attempt, 10))


def test_the_ceiling_doubles_from_one_second_to_twenty() -> None:
    class Highest(random.Random):
        def random(self) -> float:
            return 1.0

    assert [delay_s(attempt, Highest()) for attempt in range(8)] == [1, 2, 4, 8, 16, 20, 20, 20]


def test_clients_that_lost_the_same_hub_come_back_spread_out() -> None:
    rng = random.Random(1)
    delays = sorted(delay_s(10, rng) for _ in range(1000))
    widest = max(later - earlier for earlier, later in itertools.pairwise(delays))
    assert widest < 0.5
    assert delays[0] < 1 < 19 < delays[-1]


def test_the_bounds_are_the_callers() -> None:
    assert delay_s(3, random.Random(1), least_s=0, most_s=0) == 0
    assert delay_s(0, random.Random(1), least_s=60, most_s=60) == 60
