"""When to try again. Pure."""

from __future__ import annotations

MAX_WAIT_S = 300.0


def wait_s(failures: int, *, first_s: float, asked_s: float | None, dice: float) -> float:
    """Twice as long after each failure in a row (1 or more) and at most MAX_WAIT_S, of which at least half; longer, up
    to MAX_WAIT_S, if the receiver asked for it. `dice` lies in [0, 1)."""
    longest = min(MAX_WAIT_S, first_s * 2.0 ** min(failures - 1, 32))
    return max(longest * (0.5 + dice / 2), min(asked_s or 0.0, MAX_WAIT_S))
