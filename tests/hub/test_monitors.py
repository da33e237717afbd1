"""`KrinObservabilityService`: four monitors, and every operation through one wrapper, however it ends."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from clock import ManualClock

from hub.guard.events import SecurityEvent, denied
from hub.observe.monitors import KrinObservabilityService
from protocol.coordination import Activity, SpecialistStatus
from protocol.errors import ErrorCode


class Observed:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.rows: list[SecurityEvent] = []
        self.service = KrinObservabilityService(report=self.rows.append, clock=self.clock)


@pytest.fixture
def observed() -> Observed:
    return Observed()


def status(name: str, activity: Activity) -> SpecialistStatus:
    return SpecialistStatus(
        specialist_id=name,
        presence="ONLINE",
        presence_because="",
        activity=activity,
        activity_because="",
        health="HEALTHY",
        health_because="",
    )


def test_one_service_has_four_monitors(observed: Observed) -> None:
    """Checklist 126."""
    service = observed.service
    assert [type(each).__name__ for each in (service.performance, service.security, service.ai, service.business)] == [
        "PerformanceMonitor",
        "SecurityMonitor",
        "AICoordinationMonitor",
        "BusinessMetricsMonitor",
    ]


async def test_latency_is_recorded_also_when_it_fails_or_is_cancelled(observed: Observed) -> None:
    """Checklist 127, 134, 135."""
    service, clock = observed.service, observed.clock

    async def work(failure: BaseException | None) -> None:
        async with service.track_revolutionary_metrics("plan", {"user": "ann", "user_action": "planning"}):
            clock.advance(0.2)
            if failure is not None:
                raise failure

    await work(None)
    with pytest.raises(ValueError, match="broken"):
        await work(ValueError("broken"))
    with pytest.raises(asyncio.CancelledError):
        await work(asyncio.CancelledError())
    latency = service.performance.latency_ms["plan"]
    assert (latency.count, latency.total) == (3, pytest.approx(600))
    assert service.performance.outcomes == {"ok": 1, "refused": 0, "failed": 2}
    assert [(row.name, row.user, row.target) for row in observed.rows] == [("krin_operation", "ann", "plan")] * 3
    assert service.business.apdex() == {"planning": pytest.approx(1 / 6)}


async def test_nothing_of_the_context_is_needed(observed: Observed) -> None:
    """Checklist 131."""
    async with observed.service.track_revolutionary_metrics("plan"):
        pass
    assert observed.service.performance.latency_ms["plan"].count == 1


def test_what_is_refused_has_not_failed_and_takes_nothing_from_the_budget(observed: Observed) -> None:
    began = observed.clock.monotonic()
    for error in (None, ErrorCode.PERMISSION_DENIED, ErrorCode.INTERNAL, ErrorCode.TIMEOUT):
        observed.service.finished("publish", began, error)
    assert observed.service.performance.outcomes == {"ok": 1, "refused": 1, "failed": 2}
    assert observed.service.business.apdex() == {"publish": 0.5}


def test_people_bear_four_times_of_what_they_do_not_notice(observed: Observed) -> None:
    """Checklist 133."""
    for seconds in (0.1, 0.4, 0.41):
        observed.service.business.track_user_experience("search", seconds)
    assert observed.service.business.apdex() == {"search": pytest.approx(1.5 / 3)}


def test_security_events_are_counted_by_name_and_by_whether_they_were_allowed(observed: Observed) -> None:
    """Checklist 128."""
    observed.service.security.hear(SecurityEvent(name="authn_login_success"))
    observed.service.security.hear(denied("authz_fail", "10.0.0.1"))
    assert observed.service.security.allowed.counts == {"authn_login_success": 1}
    assert observed.service.security.denied.counts == {"authz_fail": 1}


def test_efficiency_is_useful_time_by_useful_and_lost_time(observed: Observed) -> None:
    """Checklist 129, 132."""
    monitor = observed.service.ai
    assert monitor.efficiency == 1.0
    team = [status("ann", "WORKING"), status("bob", "BLOCKED"), status("eve", "IDLE")]
    for _ in range(5):
        monitor.track_specialist_coordination(team)
        observed.clock.advance(10)
    assert monitor.seconds == {"WORKING": 40.0, "BLOCKED": 40.0, "IDLE": 40.0}
    assert monitor.efficiency == 0.5
    assert monitor.states == {"ONLINE": 3, "HEALTHY": 3, "WORKING": 1, "BLOCKED": 1, "IDLE": 1}
    monitor.track_specialist_coordination([])
    assert set(monitor.states.values()) == {0}


def test_hand_offs_take_time_plans_change_hands_and_insights_are_judged(observed: Observed) -> None:
    """Checklist 129."""
    monitor = observed.service.ai
    assert (monitor.churn, monitor.acceptance) == (0.0, 0.0)
    monitor.handed_off(4.0)
    monitor.handed_off(8.0)
    assert (monitor.handoff_s.count, monitor.handoff_s.total) == (2, 12.0)
    monitor.planned_again({}, {"a": "ann", "b": "bob"})
    monitor.planned_again({"a": "ann", "b": "bob", "gone": "ann"}, {"a": "ann", "b": "ann", "new": "bob"})
    assert monitor.churn == 0.5
    for accepted in (True, False, False, False):
        monitor.judged(accepted)
    assert monitor.acceptance == 0.25


def test_teams_are_active_orders_end_and_tasks_cost(observed: Observed) -> None:
    """Checklist 130."""
    monitor = observed.service.business
    assert (monitor.teams, monitor.fill_ratio, monitor.reject_ratio, monitor.cost_per_task) == (0, 0.0, 0.0, 0.0)
    monitor.track_teams(2)
    for status in ("FILLED", "DENIED", "REJECTED", "CANCELED"):
        monitor.order_ended(status)
    monitor.task_cost(0.5)
    assert monitor.cost_per_task == 0.0, "nothing is completed yet"
    monitor.task_completed()
    monitor.task_completed()
    assert (monitor.teams, monitor.fill_ratio, monitor.reject_ratio, monitor.cost_per_task) == (2, 0.25, 0.5, 0.25)


def test_every_row_of_the_users_list_is_named_above() -> None:
    named = re.findall(r'"""Checklist ([0-9, ]+)\."""', Path(__file__).read_text())
    assert {int(row) for rows in named for row in rows.split(", ")} == set(range(126, 136))
