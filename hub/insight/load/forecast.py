"""Holt-Winters: level, damped trend and season of a load, added up (Hyndman and Athanasopoulos, chapter 8). Pure."""

from __future__ import annotations

from statistics import fmean

ALPHA = 0.3  # weight of the newest value in the level
BETA = 0.1  # of the newest slope in the trend
GAMMA = 0.1  # of the newest deviation in the season
DAMPING = 0.98  # of the trend, per step: what grows now does not grow for ever


class HoltWinters:
    """Fed with one value per step. The season counts from the second on: of the first there is nothing to compare."""

    def __init__(self, *, season: int) -> None:
        """`season`: its length in steps. Raises ValueError below 2."""
        if season < 2:
            raise ValueError("a season has at least two steps")
        self._length = season
        self._season: list[float] = []  # of the first cycle the values, then the deviations from the level
        self._learned = False
        self._step = 0
        self._level = 0.0
        self._trend = 0.0

    def observe(self, value: float) -> None:
        seasonal = self._seasonal(0)
        if self._step == 0:
            self._level = value
        else:
            expected = self._level + DAMPING * self._trend
            level = ALPHA * (value - seasonal) + (1 - ALPHA) * expected
            self._trend = BETA * (level - self._level) + (1 - BETA) * DAMPING * self._trend
            self._level = level
        if self._learned:
            place = self._step % self._length
            self._season[place] = GAMMA * (value - self._level) + (1 - GAMMA) * seasonal
        else:
            self._season.append(value)
            if len(self._season) == self._length:
                self._learn()
        self._step += 1

    def forecast(self, steps: int) -> float:
        """What the value will be `steps` after the newest; never below zero."""
        damped = DAMPING * (1 - DAMPING**steps) / (1 - DAMPING)
        return max(0.0, self._level + damped * self._trend + self._seasonal(steps - 1))

    def peak(self, steps: int) -> float:
        """The highest of the next `steps` forecasts."""
        return max(self.forecast(step) for step in range(1, steps + 1))

    def _learn(self) -> None:
        mean = fmean(self._season)
        self._season = [value - mean for value in self._season]
        self._learned = True
        self._level, self._trend = mean, 0.0  # what looked like a trend was the season

    def _seasonal(self, ahead: int) -> float:
        return self._season[(self._step + ahead) % self._length] if self._learned else 0.0
