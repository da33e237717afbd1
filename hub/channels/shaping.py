"""Subscribers who want less than everything: filtered, of some quality, or at most so often per key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from hub.channels.quality import Demand
from hub.clock import Clock
from hub.connections.verdicts import Outcome
from hub.publication import Publication
from protocol.messages import Filter

Emit = Callable[[Publication, int], None]
Tell = Callable[[Publication, Outcome, int | None], None]
"""Told what is left out, and what took its place."""


def _untold(publication: Publication, outcome: Outcome, by: int | None) -> None:
    """Nobody wants to know."""


class Labelled(Protocol):
    """What a filter looks at."""

    @property
    def type(self) -> str: ...

    @property
    def key(self) -> str | None: ...


def passes(wanted: Filter, publication: Labelled) -> bool:
    return (wanted.keys is None or publication.key in wanted.keys) and (
        wanted.types is None or publication.type in wanted.types
    )


class Shaper:
    """Filters, then thins out by key: the newest value wins, and `skipped` tells how many it replaced.

    `demand` needs the `clock`.
    """

    __slots__ = ("_clock", "_demand", "_due", "_emit", "_filter", "_held", "_interval", "_loop", "_tell", "_timer")

    def __init__(
        self,
        emit: Emit,
        *,
        loop: asyncio.AbstractEventLoop,
        wanted: Filter | None = None,
        max_rate: float | None = None,
        demand: Demand | None = None,
        clock: Clock | None = None,
        tell: Tell = _untold,
    ) -> None:
        self._emit = emit
        self._tell = tell
        self._filter = wanted
        self._demand = demand
        self._clock = clock
        self._interval = 1 / max_rate if max_rate else 0.0
        self._loop = loop
        self._due: dict[str, float] = {}  # when a key may be sent again
        self._held: dict[str, tuple[Publication, int]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def wants(self, publication: Publication) -> bool:
        """Whether a value from before the subscription went live is to be sent. It counts as told of: `offer` goes on
        from there."""
        return (self._filter is None or passes(self._filter, publication)) and (
            self._demand is None or self._demand.admits(publication, self._now_us())
        )

    def offer(self, publication: Publication) -> None:
        if self._filter is not None and not passes(self._filter, publication):
            return
        if self._demand is not None and not self._demand.admits(publication, self._now_us()):
            self._tell(publication, "filtered", None)
            return
        if not self._interval:
            self._emit(publication, 0)
            return
        key = publication.key or ""
        held = self._held.get(key)
        if held is not None:
            self._tell(held[0], "conflated", publication.offset)
            self._held[key] = (publication, held[1] + 1)
            return
        now = self._loop.time()
        if self._due.get(key, 0.0) <= now:
            self._due[key] = now + self._interval
            self._emit(publication, 0)
        else:
            self._held[key] = (publication, 0)
            self._arm()

    def holds(self, offset: int) -> bool:
        """Whether this one waits for its key's turn."""
        return any(held.offset == offset for held, _ in self._held.values())

    def close(self) -> None:
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_us(self) -> int:
        assert self._clock is not None
        return self._clock.now_us()

    def _arm(self) -> None:
        if self._timer is None and self._held:
            self._timer = self._loop.call_at(min(self._due[key] for key in self._held), self._release)

    def _release(self) -> None:
        self._timer = None
        now = self._loop.time()
        for key, (publication, skipped) in list(self._held.items()):
            if self._due[key] <= now:
                del self._held[key]
                if publication.expires_at is not None and publication.expires_at <= now:
                    self._tell(publication, "expired", None)
                    continue
                if self._demand is not None and not self._demand.fresh(publication, self._now_us()):
                    self._tell(publication, "filtered", None)
                    continue
                self._due[key] = now + self._interval
                self._emit(publication, skipped)
        if len(self._due) > 4096:  # keys come and go; a key that is due anyway needs no memory
            self._due = {key: due for key, due in self._due.items() if due > now}
        self._arm()
