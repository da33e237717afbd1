"""What one request spends its time on, gathered by the parts that serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from hub.clock import Clock
from storage.database import watching

Kept = Literal["hit", "stale", "miss"]


class RequestTime:
    """A storage.database.Stopwatch: it runs while at least one statement of the request is under way."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._came = clock.monotonic()
        self._queue_s: float | None = None
        self._statements = 0
        self._since = 0.0
        self._database_s = 0.0
        self._cache: Kept | None = None

    def begin(self) -> None:
        """The handler begins: what was before was waiting and being checked."""
        self._queue_s = self._clock.monotonic() - self._came

    def start(self) -> None:
        if self._statements == 0:
            self._since = self._clock.monotonic()
        self._statements += 1

    def stop(self) -> None:
        self._statements -= 1
        if self._statements == 0:
            self._database_s += self._clock.monotonic() - self._since

    def asked_cache(self, kept: Kept) -> None:
        """Of several values, one that was missing says more than one that was there."""
        if self._cache is None or kept == "miss":
            self._cache = kept

    def measured(self) -> dict[str, Any]:
        """As in `performance_metrics`; null: the handler never began, and no cache was asked."""
        return {
            "db_ms": _ms(self._database_s),
            "cache": self._cache,
            "queue_ms": None if self._queue_s is None else _ms(self._queue_s),
        }


serving: ContextVar[RequestTime | None] = ContextVar("serving", default=None)
"""The request that the current task serves; None: none, as in a background task."""


@contextmanager
def served(clock: Clock) -> Iterator[RequestTime]:
    time = RequestTime(clock)
    before, watched = serving.set(time), watching.set(time)
    try:
        yield time
    finally:
        watching.reset(watched)
        serving.reset(before)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
