"""How the hub is doing, in four monitors behind one service. The names are the user's (`KrinObservabilityService`).

Rule: a monitor only counts. Nothing here waits, logs or fails, so that every operation may pass through it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent
from hub.observe.metrics import Histogram, Tally
from protocol.coordination import SpecialistStatus
from protocol.errors import ErrorCode

Outcome = Literal["ok", "refused", "failed"]

SATISFIED_S = 0.1  # Apdex: up to this people do not notice, up to four times this they bear it
TOLERATED_S = 4 * SATISFIED_S
MAX_STATEMENTS = 1_000  # of the code they are a few hundred
HANDOFF_S = (1, 5, 15, 60, 300, 900, 3600, 21_600, 86_400)
OURS = frozenset({ErrorCode.INTERNAL, ErrorCode.NOT_AVAILABLE, ErrorCode.TIMEOUT, ErrorCode.OVERLOADED})
"""Errors that are the hub's own doing; with every other one it did what it is there for."""


def outcome_of(error: ErrorCode | None) -> Outcome:
    if error is None:
        return "ok"
    return "failed" if error in OURS else "refused"


class PerformanceMonitor:
    """Latency in milliseconds and outcomes, by operation. Operations are few: commands, methods and routes.

    `statement_ms`: of the statements that Postgres was asked, by their text, which holds no values.
    """

    def __init__(self) -> None:
        self.latency_ms: dict[str, Histogram] = {}
        self.statement_ms: dict[str, Histogram] = {}
        self.outcomes: dict[str, int] = {"ok": 0, "refused": 0, "failed": 0}

    def record_latency(self, operation: str, duration_s: float, outcome: Outcome = "ok") -> None:
        histogram = self.latency_ms.get(operation)
        if histogram is None:
            histogram = self.latency_ms[operation] = Histogram()
        histogram.observe(duration_s * 1000)
        self.outcomes[outcome] += 1

    def record_statement(self, text: str, duration_s: float) -> None:
        histogram = self.statement_ms.get(text)
        if histogram is None:
            if len(self.statement_ms) >= MAX_STATEMENTS:
                return
            histogram = self.statement_ms[text] = Histogram()
        histogram.observe(duration_s * 1000)


class SecurityMonitor:
    """What security events there were, by name: allowed ones and denied ones."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.allowed = Tally()
        self.denied = Tally()

    def hear(self, event: SecurityEvent) -> None:
        (self.allowed if event.allowed else self.denied).add(event.name)

    def audit_operation(self, operation: str, *, user: str = "", target: str = "") -> None:
        """One row of the audit log."""
        self._report(SecurityEvent(name="krin_operation", user=user, target=operation, detail={"on": target}))


def _share(part: float, whole: float) -> float:
    """0 of nothing."""
    return part / whole if whole else 0.0


class AICoordinationMonitor:
    """Where the time of specialists goes, seconds by activity, and how many are in which state, by axis; how long
    hand-offs take, how steady plans are, and what people think of insights."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._at: float | None = None
        self.states: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.handoff_s = Histogram(HANDOFF_S)
        self._replanned = 0
        self._moved = 0
        self._verdicts = 0
        self._accepted = 0

    def track_specialist_coordination(self, specialists: Iterable[SpecialistStatus]) -> None:
        """All of them, as they are now. The time since the last call counts for what they are doing."""
        now = self._clock.monotonic()
        passed = now - self._at if self._at is not None else 0.0
        self._at = now
        states: dict[str, int] = dict.fromkeys(self.states, 0)
        for each in specialists:
            for state in (each.presence, each.activity, each.health):
                states[state] = states.get(state, 0) + 1
            if each.presence != "OFFLINE":
                self.seconds[each.activity] = self.seconds.get(each.activity, 0.0) + passed
        self.states = states

    @property
    def efficiency(self) -> float:
        """Useful time by useful, waiting and blocked time; 1 where nobody has waited."""
        useful = self.seconds.get("WORKING", 0.0)
        lost = sum(self.seconds.get(each, 0.0) for each in ("BLOCKED", "WAITING_HUMAN", "RATE_LIMITED"))
        return useful / (useful + lost) if useful + lost else 1.0

    def handed_off(self, duration_s: float) -> None:
        """A task on offer was accepted so long afterwards."""
        self.handoff_s.observe(duration_s)

    def planned_again(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """A plan took the place of another. Both: who has which task. What is in one alone has come or gone."""
        both = before.keys() & after.keys()
        self._replanned += len(both)
        self._moved += sum(before[task] != after[task] for task in both)

    @property
    def churn(self) -> float:
        """Of the tasks that were planned again, the share that changed hands."""
        return _share(self._moved, self._replanned)

    def judged(self, accepted: bool) -> None:
        """Somebody has said what they think of an insight."""
        self._verdicts += 1
        self._accepted += accepted

    @property
    def acceptance(self) -> float:
        return _share(self._accepted, self._verdicts)


class BusinessMetricsMonitor:
    """Whether people are content: Apdex by what they did; and whether teams and orders get somewhere."""

    def __init__(self) -> None:
        self.teams = 0
        self._ended: dict[str, int] = {}  # orders by status
        self._completed = 0
        self._cost_usd = 0.0
        self._satisfied: dict[str, int] = {}
        self._tolerating: dict[str, int] = {}
        self._all: dict[str, int] = {}

    def track_user_experience(self, action: str, duration_s: float, outcome: Outcome = "ok") -> None:
        """Nobody is content with what failed."""
        self._all[action] = self._all.get(action, 0) + 1
        if outcome == "failed" or duration_s > TOLERATED_S:
            return
        counts = self._satisfied if duration_s <= SATISFIED_S else self._tolerating
        counts[action] = counts.get(action, 0) + 1

    def track_teams(self, active: int) -> None:
        """How many have somebody there now."""
        self.teams = active

    def order_ended(self, status: str) -> None:
        self._ended[status] = self._ended.get(status, 0) + 1

    @property
    def fill_ratio(self) -> float:
        """Of the orders that have ended, those that were filled whole."""
        return _share(self._ended.get("FILLED", 0), sum(self._ended.values()))

    @property
    def reject_ratio(self) -> float:
        """Likewise those that the hub denied or a venue rejected."""
        refused = self._ended.get("DENIED", 0) + self._ended.get("REJECTED", 0)
        return _share(refused, sum(self._ended.values()))

    def task_cost(self, usd: float) -> None:
        self._cost_usd += usd

    def task_completed(self) -> None:
        self._completed += 1

    @property
    def cost_per_task(self) -> float:
        """What specialists have spent by tasks that were completed, US dollars; 0 before the first."""
        return _share(self._cost_usd, self._completed)

    def apdex(self) -> dict[str, float]:
        return {
            action: (self._satisfied.get(action, 0) + self._tolerating.get(action, 0) / 2) / count
            for action, count in self._all.items()
        }


class KrinObservabilityService:
    def __init__(self, *, report: Report, clock: Clock) -> None:
        self._clock = clock
        self.performance = PerformanceMonitor()
        self.security = SecurityMonitor(report)
        self.ai = AICoordinationMonitor(clock=clock)
        self.business = BusinessMetricsMonitor()

    def finished(self, operation: str, began: float | None, error: ErrorCode | None = None) -> None:
        """Count an operation of a user's that began at this time of the monotonic clock.

        began None: it waits for what others do, so how long it took says nothing about the hub.
        """
        outcome = outcome_of(error)
        if began is None:
            self.performance.outcomes[outcome] += 1
            return
        duration_s = self._clock.monotonic() - began
        self.performance.record_latency(operation, duration_s, outcome)
        self.business.track_user_experience(operation, duration_s, outcome)

    def exemplify(self, operation: str, duration_s: float, trace_id: str) -> None:
        """Name the trace of an operation that has finished."""
        if (histogram := self.performance.latency_ms.get(operation)) is not None:
            histogram.exemplify(duration_s * 1000, trace_id, self._clock.now_us() / 1e6)

    def rest(self) -> tuple[float, int]:
        """Milliseconds of all REST requests since the start, and how many there were.

        Routes are the operations with a blank in their names: `POST /v1/publish`.
        """
        routes = [each for name, each in self.performance.latency_ms.items() if " " in name]
        return sum(each.total for each in routes), sum(each.count for each in routes)

    @asynccontextmanager
    async def track_revolutionary_metrics(
        self, operation: str, context: Mapping[str, Any] | None = None
    ) -> AsyncIterator[None]:
        """Around an operation of an embedding program. All of the context may be missing:

        specialists: statuses; user_action: a name of few; user and target, for the audit log, which gets a row.
        """
        context = context or {}
        began = self._clock.monotonic()
        outcome: Outcome = "failed"
        try:
            if (specialists := context.get("specialists")) is not None:
                self.ai.track_specialist_coordination(specialists)
            self.security.audit_operation(
                operation, user=str(context.get("user", "")), target=str(context.get("target", ""))
            )
            yield
            outcome = "ok"
        finally:  # also when it failed, or was cancelled
            duration_s = self._clock.monotonic() - began
            self.performance.record_latency(operation, duration_s, outcome)
            if (action := context.get("user_action")) is not None:
                self.business.track_user_experience(action, duration_s, outcome)
