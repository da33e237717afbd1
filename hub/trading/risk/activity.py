"""How often things happened lately. Bounded: what is oldest is forgotten first."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

MOST_COUNTED = 10_000  # the largest limit there is (protocol.risk.Rate)
MOST_KEYS = 10_000
LONGEST_WINDOW_US = 3_600_000_000  # protocol.risk.WindowMs


class Activity:
    """Times of what happened, by what it was. Times are microseconds and never go back."""

    def __init__(self) -> None:
        self._times: dict[Hashable, deque[int]] = {}

    def add(self, what: Hashable, now_us: int) -> None:
        times = self._times.pop(what, None)
        if times is None:
            if len(self._times) >= MOST_KEYS:
                self._forget(now_us)
            times = deque(maxlen=MOST_COUNTED)
        times.append(now_us)
        self._times[what] = times  # at the end: the order of the keys is that of their newest times

    def count(self, what: Hashable, *, now_us: int, window_ms: int) -> int:
        """How often in the window that ends now."""
        since = now_us - window_ms * 1000
        found = 0
        for time in reversed(self._times.get(what, ())):
            if time <= since:
                break
            found += 1
        return found

    def drop(self, what: Hashable) -> None:
        self._times.pop(what, None)

    def _forget(self, now_us: int) -> None:
        """The keys that no window reaches any more, or else the tenth that has been silent the longest."""
        old = [what for what, times in self._times.items() if times[-1] <= now_us - LONGEST_WINDOW_US]
        for what in old or list(self._times)[: MOST_KEYS // 10]:
            del self._times[what]
