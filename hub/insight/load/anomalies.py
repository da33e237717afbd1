"""Latency out of the ordinary, by median and median absolute deviation: outliers do not move the yardstick. Pure."""

from __future__ import annotations

from collections import deque
from statistics import median

import msgspec

WINDOW = 240  # samples that are ordinary
MIN_SAMPLES = 20  # fewer are no yardstick
NORMAL = 0.6745  # of a normal distribution, MAD per standard deviation
FIRES = 6.0  # standard deviations above the median
CLEARS = 3.0
FIRE_AFTER = 3  # samples in a row
CLEAR_AFTER = 4
FLOOR = 0.05  # of the median: the least that counts as deviation, or the quietest hub would cry over nothing


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """`score`: robust standard deviations above `usual`, the median."""

    firing: bool
    value: float
    usual: float
    score: float


class Anomalies:
    """One figure over time. What is out of the ordinary becomes the new ordinary when it has lasted a whole window."""

    def __init__(self) -> None:
        self._ordinary: deque[float] = deque(maxlen=WINDOW)
        self._unusual: deque[float] = deque(maxlen=WINDOW)  # since the last clear
        self._streak = 0
        self.firing = False

    def observe(self, value: float) -> Change | None:
        """A sample; the change when it begins or ends an anomaly. Only too much is one."""
        score = self.score(value)
        if self.firing:
            return self._while_firing(value, score)
        self._streak = self._streak + 1 if score >= FIRES else 0
        if score < FIRES:
            self._ordinary.append(value)
        return self._turn(value, score) if self._streak == FIRE_AFTER else None

    def score(self, value: float) -> float:
        """Robust standard deviations above the median; 0 while too little is known."""
        if len(self._ordinary) < MIN_SAMPLES:
            return 0.0
        middle = median(self._ordinary)
        deviation = median(abs(each - middle) for each in self._ordinary)
        return NORMAL * (value - middle) / max(deviation, FLOOR * abs(middle), 1e-9)

    def _while_firing(self, value: float, score: float) -> Change | None:
        self._unusual.append(value)
        if len(self._unusual) == WINDOW:
            self._ordinary = deque(self._unusual, maxlen=WINDOW)
            return self._turn(value, score)
        self._streak = self._streak + 1 if score < CLEARS else 0
        return self._turn(value, score) if self._streak == CLEAR_AFTER else None

    def _turn(self, value: float, score: float) -> Change:
        self.firing = not self.firing
        self._streak = 0
        self._unusual.clear()
        return Change(firing=self.firing, value=value, usual=median(self._ordinary), score=score)
