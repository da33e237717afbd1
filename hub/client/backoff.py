"""How long to wait before the next attempt. Pure: the random numbers come from the caller."""

from __future__ import annotations

import random

FIRST_S = 0.5
MOST_S = 20.0


def delay_s(attempt: int, rng: random.Random, *, first_s: float = FIRST_S, most_s: float = MOST_S) -> float:
    """Full jitter: anywhere between nothing and a ceiling that doubles with each attempt, counted from 0.

    Thousands of clients that lost the same hub at the same moment come back spread out, not in waves.
    """
    return rng.uniform(0.0, min(most_s, first_s * 2.0 ** min(attempt, 64)))
