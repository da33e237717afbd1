"""How long to wait before the next attempt. Pure: the random numbers come from the caller."""

from __future__ import annotations

import random

LEAST_S = 0.5
MOST_S = 20.0


def delay_s(attempt: int, rng: random.Random, *, least_s: float = LEAST_S, most_s: float = MOST_S) -> float:
    """Full jitter: anywhere between `least_s` and a ceiling that doubles with each attempt, counted from 0.

    Thousands of clients that lost the same hub at the same moment come back spread out, not in waves.
    """
    return rng.uniform(least_s, max(least_s, min(most_s, 2 * least_s * 2.0 ** min(attempt, 64))))
