"""How long a cached value may be used without asking again, learned from how often it changes. Pure, time included."""

from __future__ import annotations

import math

SHORTEST_S = 1.0
LONGEST_S = 3600.0
FIRST_S = 30.0  # before anything is known
WEIGHT = 0.3  # of the newest observation in the rate
RISK = 0.1  # chance that a value has changed within its lifetime


class Lifetime:
    """An exponentially weighted average of changes per second.

    Changes that come at random, `rate` a second, leave a value as it is for t seconds with the chance exp(-rate t): the
    lifetime is the t at which that is 1 - RISK.
    """

    def __init__(self, *, shortest_s: float = SHORTEST_S, longest_s: float = LONGEST_S) -> None:
        self._shortest_s = shortest_s
        self._longest_s = longest_s
        self._rate: float | None = None

    @property
    def ttl_s(self) -> float:
        if self._rate is None:
            wanted = FIRST_S
        elif self._rate == 0.0:
            wanted = self._longest_s
        else:
            wanted = -math.log(1 - RISK) / self._rate
        return min(self._longest_s, max(self._shortest_s, wanted))

    def observe(self, *, changed: bool, after_s: float) -> None:
        """A value was computed anew, `after_s` after the one before. Several changes in between look like one."""
        seen = float(changed) / max(after_s, self._shortest_s)
        self._rate = seen if self._rate is None else WEIGHT * seen + (1 - WEIGHT) * self._rate
