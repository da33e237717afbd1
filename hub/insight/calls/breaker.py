"""A circuit breaker: who does not answer is left alone for a while, and each time longer. Pure, time included."""

from __future__ import annotations

from collections import deque
from typing import Literal

State = Literal["closed", "open", "half_open"]

IN_A_ROW = 5
WINDOW_S = 60.0
FEWEST = 10  # calls in the window, before a share of failures means something
SHARE = 0.5
COOLDOWN_S = (30.0, 300.0)  # doubled after each probe that fails; a team that stayed at 30 s saw it open for ever
MAX_REMEMBERED = 1_000


class Breaker:
    """Closed: all are let through. Open: nobody, for the cooldown. Half open: one, whose end decides.

    Whoever was let through says how it ended: `succeeded`, `failed`, or `abandoned` when that is not known.
    """

    def __init__(self, *, in_a_row: int = IN_A_ROW) -> None:
        self._limit = in_a_row
        self._in_a_row = 0
        self._ends: deque[tuple[float, bool]] = deque(maxlen=MAX_REMEMBERED)  # when, and whether it failed
        self._cooldown_s = 0.0
        self._until: float | None = None  # open until; None: closed
        self._probing = False
        self.opened = 0

    def state(self, now: float) -> State:
        if self._until is None:
            return "closed"
        return "open" if now < self._until else "half_open"

    def admit(self, now: float) -> bool:
        """Whether a call may begin."""
        if self._until is None:
            return True
        if now < self._until or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self, now: float) -> None:
        if self._until is not None:
            if not self._probing:
                return  # begun before it opened
            self._until = None
            self._ends.clear()
        self._probing = False
        self._cooldown_s = 0.0
        self._in_a_row = 0
        self._note(now, failed=False)

    def failed(self, now: float) -> None:
        if self._until is not None:
            if self._probing:
                self._open(now)
            return
        self._in_a_row += 1
        self._note(now, failed=True)
        failures = sum(failed for _, failed in self._ends)
        if self._in_a_row >= self._limit or (len(self._ends) >= FEWEST and failures >= SHARE * len(self._ends)):
            self._open(now)

    def abandoned(self) -> None:
        """Nobody knows how it would have ended: the next one is the probe."""
        self._probing = False

    def _note(self, now: float, *, failed: bool) -> None:
        self._ends.append((now, failed))
        while now - self._ends[0][0] > WINDOW_S:
            self._ends.popleft()

    def _open(self, now: float) -> None:
        shortest, longest = COOLDOWN_S
        self._cooldown_s = min(longest, max(shortest, 2 * self._cooldown_s))
        self._until = now + self._cooldown_s
        self._probing = False
        self._in_a_row = 0
        self.opened += 1
