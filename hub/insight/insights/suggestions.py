"""What would make the hub faster, by what took long on this node: rules over latencies, no model.

Rules: a number in a statement is a number of its evidence; of one thing that is slow all nodes together say so once a
day, on `insights:hub`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, NoReturn
from uuid import uuid5

from hub.clock import Clock
from hub.insight.insights.door import ChannelDoor
from hub.insight.insights.page import NAMESPACE
from hub.observe.metrics import Histogram
from hub.observe.monitors import SATISFIED_S, PerformanceMonitor
from protocol.errors import HubError
from protocol.insights import HUB, Insight, Observation
from storage.errors import StorageError
from storage.insights import InsightTable, StoredInsight

logger = logging.getLogger("krin.insights")

LOOK_S = 60.0
SEEN = 20  # times within a look: fewer say nothing
SHARE = 0.95
SLOW_MS = SATISFIED_S * 1000  # up to this people do not notice
MAX_SAID = 5  # of one look, the slowest first
MAX_TEXT = 200  # characters of a statement of SQL
DAY_US = 86_400_000_000

ACTIONS = {
    "slow_statement": "EXPLAIN (ANALYZE, BUFFERS) it on this database: an index may be missing, or ANALYZE overdue",
    "slow_operation": "see krin_operation_ms, and db_ms in the performance_metrics of its answers: the database's part",
}


class Slow(NamedTuple):
    """One thing within one look. `ms`: up to which SHARE of its `times` took."""

    rule: str
    what: str
    ms: float
    times: int


class Suggestions:
    def __init__(
        self, performance: PerformanceMonitor, table: InsightTable, *, door: ChannelDoor, clock: Clock
    ) -> None:
        self._performance = performance
        self._table = table
        self._door = door
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[int, ...]] = {}  # counts at the last look, by rule and name

    async def run(self) -> NoReturn:
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self.look()
            except (StorageError, HubError) as failure:  # what goes on being slow is said later
                logger.warning("suggestions wait: %s", failure)

    async def look(self) -> None:
        """Say what has been slow since the last look. Raises StorageError, HubError."""
        performance = self._performance
        slow = [
            *self._slow("slow_operation", performance.latency_ms),
            *self._slow("slow_statement", performance.statement_ms),
        ]
        for each in sorted(slow, key=lambda found: found.ms, reverse=True)[:MAX_SAID]:
            await self._say(each)

    def _slow(self, rule: str, latencies: Mapping[str, Histogram]) -> Iterator[Slow]:
        for what, histogram in [*latencies.items()]:
            before = self._seen.get((rule, what)) or (0,) * len(histogram.counts)
            self._seen[rule, what] = now = tuple(histogram.counts)
            times = sum(now) - sum(before)
            quantiles = histogram.quantiles([SHARE], since=before) if times >= SEEN else None
            if quantiles is not None and quantiles[0] > SLOW_MS:
                yield Slow(rule, what, quantiles[0], times)

    async def _say(self, slow: Slow) -> None:
        now_us = self._clock.now_us()
        insight = suggestion(slow, now_us=now_us)
        new = StoredInsight(
            id=insight.insight_id,
            subject=HUB,
            upto=0,
            insight=insight,
            made_us=now_us,
            expires_us=now_us + DAY_US,
        )
        stored = await self._table.store(new, authors=())
        await self._door.tell(f"insights:{HUB}", "INSIGHT", stored.insight, key=stored.id)


def suggestion(slow: Slow, *, now_us: int) -> Insight:
    """Pure. The same thing on the same day (UTC) has the same id, whatever it took."""
    what = re.sub(r"\s+", " ", slow.what).strip()[:MAX_TEXT]
    ms = round(slow.ms)
    evidence: list[tuple[str, Any]] = [(slow.rule.removeprefix("slow_"), what), ("p95_ms", ms), ("times", slow.times)]
    return Insight(
        insight_id=str(uuid5(NAMESPACE, f"{slow.rule} {slow.what} {now_us // DAY_US}")),
        kind="SUGGESTION",
        subject=HUB,
        statement=f"{what}: the p95 of {slow.times} is {ms} ms; people notice {SLOW_MS:g} ms",
        evidence=[Observation(ref=ref, value=value) for ref, value in [*evidence, ("noticed_ms", round(SLOW_MS))]],
        confidence=1.0,
        severity="WARNING",
        action=ACTIONS[slow.rule],
        source=f"rules:{slow.rule}",
        generated_at=now_us,
        expires_at=now_us + DAY_US,
    )
