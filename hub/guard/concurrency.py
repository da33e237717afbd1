"""How many REST requests may be at work at once, learned from how long they take.

What `hub.guard.limits` bounds is how often somebody asks; this bounds what all together have under way, so that a node
that falls behind refuses some instead of serving everybody late. More is added slowly and taken away quickly (AIMD).
Nothing here awaits; time is an argument.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import median

from protocol.errors import ErrorCode, HubError

START = 256
LEAST = 32
MOST = 1024
WINDOW = 50  # answers between two decisions
TOLERANCE = 3.0  # times as long as usual is too long
BACKOFF = 0.9
FLOOR_S = 0.01  # what is quicker than this is quick enough, however quick it usually is
MEMORY = 0.01  # weight of a duration in what is usual
SLOW_MEMORY = 1e-5  # while answers take too long: for some minutes that is trouble, then it is the new usual
RETRY_MS = 500


class Concurrency:
    """What is usual is kept by route: an export among many small questions is no sign of overload."""

    def __init__(self, *, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._usual_s: dict[str, float] = {}
        self._answers: list[tuple[str, float]] = []  # route and seconds, since the last decision
        self._most_at_work = 0  # since then
        self.limit = START
        self.at_work = 0
        self.refused = 0

    def begin(self) -> None:
        """One more request is at work, until `end`. Raises HubError(overloaded), and then there is nothing to end."""
        if self.at_work >= self.limit:
            self.refused += 1
            retry_after_ms = round(RETRY_MS * (1 + self._chance()))
            raise HubError(ErrorCode.OVERLOADED, "too many requests are at work", retry_after_ms=retry_after_ms)
        self.at_work += 1
        self._most_at_work = max(self._most_at_work, self.at_work)

    def pause(self) -> None:
        """A request waits for its peer, not for the hub: whoever sends slowly must not keep the others out."""
        self.at_work -= 1

    def resume(self) -> None:
        self.at_work += 1

    def end(self, route: str, duration_s: float) -> None:
        """`route`: one of few. `duration_s`: without the pauses."""
        self.at_work -= 1
        self._answers.append((route, max(duration_s, FLOOR_S)))
        if len(self._answers) == WINDOW:
            self._decide()

    def _decide(self) -> None:
        usual_s = self._usual_s
        slow = median(took_s / usual_s.setdefault(route, took_s) for route, took_s in self._answers) > TOLERANCE
        memory = SLOW_MEMORY if slow else MEMORY
        for route, took_s in self._answers:
            usual_s[route] += memory * (took_s - usual_s[route])
        if slow:
            self.limit = max(LEAST, int(self.limit * BACKOFF))
        elif 2 * self._most_at_work >= self.limit:  # a limit that nobody comes near says nothing about more
            self.limit = min(MOST, self.limit + 1)
        self._answers.clear()
        self._most_at_work = self.at_work
