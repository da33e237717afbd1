"""The hub's own objectives, and how fast their error budgets burn (Google SRE workbook, chapter 5).

An alert needs a long window, so that a hiccup raises none, and a short one, so that it ends when the trouble does.
Pure: time is an argument.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from protocol.coordination import Alert

SAMPLE_S = 5.0
MIN_EVENTS = 10  # fewer within the short window say nothing
MONTH_S = 30 * 86_400.0


class Totals(msgspec.Struct, frozen=True):
    """Since the start. `bad` counts events, or adds up an amount of which `events` may have so much on average."""

    bad: float
    events: float


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Fires when the budget burns `factor` times as fast as it may, over both windows, in seconds."""

    severity: str
    long_s: float
    short_s: float
    factor: float


FAST = Rule(severity="CRITICAL", long_s=300, short_s=30, factor=14.4)
SLOW = Rule(severity="WARNING", long_s=21_600, short_s=1800, factor=6.0)
AVERAGE = Rule(severity="WARNING", long_s=300, short_s=30, factor=1.0)


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """`budget`: the share of events that may be bad, or the average that `Totals.bad` may have.

    `bad`, `events`: what `read` answers as PromQL, per second over `{window}`, for a Prometheus that scrapes the hub.
    """

    name: str
    title: str
    budget: float
    read: Callable[[], Totals]
    bad: str
    events: str
    rules: Sequence[Rule] = (FAST, SLOW)


class BurnRate:
    """One objective over time. Keeps one sample every SAMPLE_S for as long as its longest window."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        longest = max(rule.long_s for rule in objective.rules)
        self._samples: deque[tuple[float, Totals]] = deque(maxlen=int(longest / SAMPLE_S) + 2)
        self._firing: dict[Rule, bool] = dict.fromkeys(objective.rules, False)

    def sample(self, now: float) -> None:
        self._samples.append((now, self.objective.read()))

    def burn(self, window_s: float) -> tuple[float, float]:
        """(how many times as fast as it may, events) within the window, or since the first sample."""
        if len(self._samples) < 2:
            return 0.0, 0.0
        end, last = self._samples[-1]
        place = bisect_right(self._samples, end - window_s, key=lambda sample: sample[0])
        first = self._samples[max(place - 1, 0)][1]
        events = last.events - first.events
        return ((last.bad - first.bad) / events / self.objective.budget if events else 0.0), events

    def changes(self, now_us: int) -> list[Alert]:
        """Alerts that begin or end with the newest sample."""
        found = []
        for rule, firing in self._firing.items():
            long, _ = self.burn(rule.long_s)
            short, events = self.burn(rule.short_s)
            fires = short >= rule.factor and (firing or (long >= rule.factor and events >= MIN_EVENTS))
            if fires != firing:
                self._firing[rule] = fires
                found.append(self._alert(rule, fires, short, now_us))
        return found

    @property
    def firing(self) -> Sequence[Rule]:
        return [rule for rule, fires in self._firing.items() if fires]

    def budget_left(self) -> float:
        """Of the share that may be bad within a month, by what happened since the start. Below zero: overdrawn."""
        if not self._samples:
            return 1.0
        last = self._samples[-1][1]
        return 1.0 - (last.bad / last.events / self.objective.budget if last.events else 0.0)

    def _alert(self, rule: Rule, fires: bool, burn: float, now_us: int) -> Alert:
        objective = self.objective
        return Alert(
            alert_id=f"objective:{objective.name}:{rule.severity.lower()}",
            severity=rule.severity,  # type: ignore[arg-type]
            title=f"{objective.title}: {'missed' if fires else 'held again'}",
            state="FIRING" if fires else "RESOLVED",
            source="objectives",
            detail=f"{burn:.1f} times the budget within {rule.short_s:g} s; the limit is {rule.factor:g}",
            ts_event=now_us,
        )


def prometheus_rules(objectives: Sequence[Objective]) -> dict[str, Any]:
    """The same rules for Prometheus, over all nodes: a rule file, as YAML says it."""
    rules = []
    for objective in objectives:
        for rule in objective.rules:
            over = [
                f"({objective.bad}) / ({objective.events}) > {rule.factor * objective.budget:g}".format(
                    window=f"{window:g}s"
                )
                for window in (rule.long_s, rule.short_s)
            ]
            rules.append(
                {
                    "alert": f"Krin{objective.name.title()}{rule.severity.title()}",
                    "expr": " and ".join(over),
                    "labels": {"severity": rule.severity.lower()},
                    "annotations": {"summary": f"{objective.title}: missed"},
                }
            )
    return {"groups": [{"name": "krin-objectives", "rules": rules}]}
