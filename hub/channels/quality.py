"""What a subscriber demands of a price: how old it may be, and how good it must be. Pure: it is told the time.

Rules: a message older than `max_age_ms` is left out. Of a key's messages whose `state` is worse than `min_quality` only
the first is let through: it says that there is no good price any more, and the silence after it stays one. For the same
reason age never holds back that a price is STALE or HALTED. Messages that say neither pass.
"""

from __future__ import annotations

from hub.publication import Publication
from protocol.messages import MinQuality

RANK = {"LIVE": 0, "DEGRADED": 1, "DISPUTED": 2, "STALE": 3, "HALTED": 4}
GONE = frozenset({"STALE", "HALTED"})
MAX_KEYS = 4096  # known to be below the demand; beyond, one of them may be told again


class Demand:
    __slots__ = ("_max_age_us", "_poor", "_worst")

    def __init__(self, *, max_age_ms: int | None = None, min_quality: MinQuality | None = None) -> None:
        self._max_age_us = max_age_ms * 1000 if max_age_ms is not None else None
        self._worst = RANK[min_quality] if min_quality is not None else len(RANK)
        self._poor: set[str] = set()

    def admits(self, publication: Publication, now_us: int) -> bool:
        """Whether a new message is to be sent, or held for later."""
        if not self.fresh(publication, now_us):
            return False
        state = publication.standing().state
        if state is None:
            return True
        key = publication.key or ""
        if RANK.get(state, 0) <= self._worst:
            self._poor.discard(key)
            return True
        if key in self._poor:
            return False
        if len(self._poor) >= MAX_KEYS:
            self._poor.clear()
        self._poor.add(key)
        return True

    def fresh(self, publication: Publication, now_us: int) -> bool:
        """Whether it is young enough by now."""
        if self._max_age_us is None:
            return True
        standing = publication.standing()
        made_us = standing.ts_event if standing.ts_event is not None else publication.timestamp * 1000
        return standing.state in GONE or now_us - made_us <= self._max_age_us
