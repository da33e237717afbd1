"""A simulated team of specialists at work on one project. Every message says `ext: {"simulated": true}`.

Pure and deterministic for a seed and the times of its steps. What is simulated is who does what and how long it takes;
what follows from it is computed: a task changes state only by `TRANSITIONS`, and the next steps (`coordination`) are
derived from the tasks as they stand, as a coordinator would derive them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from msgspec.structs import replace

from protocol.coordination import (
    Activity,
    Alert,
    Blocker,
    Health,
    SpecialistUpdate,
    TaskState,
    TaskSubstate,
    TaskUpdate,
    Usage,
)

SIMULATED = {"simulated": True}
SECOND_US = 1_000_000
MAX_ATTEMPTS = 3
UNREVIEWED = 0.9  # the progress of a task whose work is done but not yet accepted

Event = Literal[
    "ASSIGN",
    "CLAIM",
    "BLOCK",
    "UNBLOCK",
    "REQUEST_INPUT",
    "RESOLVE",
    "SUBMIT_RESULT",
    "GATES_PASS",
    "GATE_FAIL",
    "GATE_FAIL_FINAL",
]
Standing = tuple[TaskState, TaskSubstate | None]

TRANSITIONS: dict[tuple[Standing, Event], Standing] = {
    (("SUBMITTED", "QUEUED"), "ASSIGN"): ("SUBMITTED", "ASSIGNED"),
    (("SUBMITTED", "ASSIGNED"), "CLAIM"): ("WORKING", "RUNNING"),
    (("WORKING", "RUNNING"), "BLOCK"): ("WORKING", "BLOCKED"),
    (("WORKING", "BLOCKED"), "UNBLOCK"): ("WORKING", "RUNNING"),
    (("WORKING", "RUNNING"), "REQUEST_INPUT"): ("INPUT_REQUIRED", "CONFIRMATION"),
    (("INPUT_REQUIRED", "CONFIRMATION"), "RESOLVE"): ("WORKING", "RUNNING"),
    (("WORKING", "RUNNING"), "SUBMIT_RESULT"): ("WORKING", "IN_REVIEW"),
    (("WORKING", "IN_REVIEW"), "GATES_PASS"): ("COMPLETED", None),
    (("WORKING", "IN_REVIEW"), "GATE_FAIL"): ("WORKING", "RUNNING"),
    (("WORKING", "IN_REVIEW"), "GATE_FAIL_FINAL"): ("FAILED", None),
}
TERMINAL: frozenset[TaskState] = frozenset({"COMPLETED", "FAILED", "CANCELED", "REJECTED"})


class TeamMessage(NamedTuple):
    """A publication to be, with the next steps beside it where it has some."""

    channel: str
    type: str
    data: Any
    key: str | None = None
    coordination: dict[str, Any] | None = None


class _Plan(NamedTuple):
    name: str
    title: str
    by: str  # specialist type
    effort_s: int
    after: tuple[str, ...] = ()


PLAN = (
    _Plan("contract", "Agree on the message contract", "architect", 14),
    _Plan("schema", "Write the database migration", "backend", 12, ("contract",)),
    _Plan("gateway", "Serve order events over WebSocket", "backend", 24, ("contract", "schema")),
    _Plan("book", "Show the order book", "frontend", 20, ("contract",)),
    _Plan("blotter", "Show orders and fills", "frontend", 18, ("gateway", "book")),
    _Plan("signals", "Estimate the spread per venue", "quant", 26, ("schema",)),
    _Plan("backtest", "Backtest the estimate", "quant", 22, ("signals",)),
    _Plan("load", "Prove the latency under load", "tester", 20, ("gateway",)),
    _Plan("threats", "Review the threat model", "security", 16, ("contract",)),
    _Plan("pentest", "Try to break the gateway", "security", 20, ("gateway", "threats")),
    _Plan("acceptance", "Accept the iteration", "tester", 14, ("blotter", "backtest", "load", "pentest")),
)
SPECIALISTS = ("architect", "backend", "frontend", "quant", "tester", "security")
RESOURCES = ("staging-environment", "market-data-licence", "review-slot", "ci-runner")


@dataclass
class _Task:
    id: str
    plan: _Plan
    after: list[str]  # task ids
    created_us: int
    standing: Standing = ("SUBMITTED", "QUEUED")
    specialist: str | None = None
    done: float = 0.0
    attempt: int = 1
    blockers: list[Blocker] = field(default_factory=list)
    until_us: int = 0  # when the present obstacle or review is over
    retry_of: str | None = None

    @property
    def state(self) -> TaskState:
        return self.standing[0]

    @property
    def substate(self) -> TaskSubstate | None:
        return self.standing[1]

    @property
    def remaining_s(self) -> float:
        return self.plan.effort_s * (1 - self.done)


@dataclass
class _Specialist:
    id: str
    type: str
    task: _Task | None = None
    activity: Activity = "IDLE"
    health: Health = "HEALTHY"
    because: str | None = None
    hold_us: int = 0  # rate-limited or stuck until then
    usage: Usage = field(default_factory=Usage)
    cost: Decimal = Decimal(0)
    action: str | None = None
    said: SpecialistUpdate | None = None  # as last published, without its time


class SimulatedTeam:
    """Call `step` about once a second. When an iteration is finished, the next one begins with new tasks."""

    def __init__(self, seed: int, *, start_us: int, project: str = "alpha", alerts: str = "ops") -> None:
        self._project = project
        self._alerts = alerts
        self._run = f"{start_us:x}"  # in every id: two runs must not share them
        self._random = random.Random(f"{seed}:{project}")
        self._now_us = start_us
        self._iteration = 0
        self._tasks: dict[str, _Task] = {}
        self._deadline_us = 0
        self._specialists = [_Specialist(f"{each}-1", each) for each in SPECIALISTS]
        self._firing: dict[str, Alert] = {}  # by subject
        self._alert_count = 0
        self._out: list[TeamMessage] = []

    def step(self, now_us: int) -> list[TeamMessage]:
        """What the team did since the last step. Time that goes back counts as no time."""
        seconds = min(max(0, now_us - self._now_us) / SECOND_US, 5.0)  # after a suspension nobody has worked
        self._now_us = max(now_us, self._now_us)
        self._out = []
        if all(task.state in TERMINAL for task in self._tasks.values()):
            self._begin_iteration()
        else:
            self._assign()  # what was ready when the team last reported
        for task in list(self._tasks.values()):
            self._clear_obstacles(task)
        for specialist in self._specialists:
            self._work(specialist, seconds)
        self._report()
        self._raise_alerts()
        return self._out

    # Tasks

    def _begin_iteration(self) -> None:
        self._iteration += 1
        self._tasks = {}
        for plan in PLAN:
            after = [self._task_id(name) for name in plan.after]
            task = _Task(self._task_id(plan.name), plan, after, self._now_us)
            self._tasks[task.id] = task
        longest_s = max(self._path_s(task) for task in self._tasks.values())
        self._deadline_us = self._now_us + round(longest_s * 1.4 * SECOND_US)
        for task in self._tasks.values():
            self._publish_task(task, "TASK_CREATED")

    def _task_id(self, name: str) -> str:
        return f"{self._project}-{self._run}-{self._iteration}-{name}"

    def _move(self, task: _Task, event: Event, message: str | None = None) -> None:
        """Raises ValueError for an event that is not legal in the task's state."""
        following = TRANSITIONS.get((task.standing, event))
        if following is None:
            raise ValueError(f"no transition {task.standing} -{event}->")
        task.standing = following
        if following[0] == "COMPLETED":
            task.done = 1.0
        self._publish_task(task, "TASK_STATUS_UPDATE", message)

    def _publish_task(self, task: _Task, kind: str, message: str | None = None) -> None:
        ext: dict[str, Any] = dict(SIMULATED)
        if task.retry_of is not None:
            ext["reference_task_ids"] = [task.retry_of]
        update = TaskUpdate(
            task_id=task.id,
            project_id=self._project,
            title=task.plan.title,
            state=task.state,
            substate=task.substate,
            specialist_id=task.specialist,
            progress=round(task.done, 3),
            attempt=task.attempt,
            depends_on=task.after,
            blockers=list(task.blockers),
            message=message,
            deadline=self._deadline_us,
            ts_event=self._now_us,
            ext=ext,
        )
        self._out.append(TeamMessage(f"tasks:{self._project}", kind, update))

    def _clear_obstacles(self, task: _Task) -> None:
        if self._now_us < task.until_us:
            return
        match task.standing:
            case ("WORKING", "BLOCKED"):
                task.blockers = []
                self._move(task, "UNBLOCK")
            case ("INPUT_REQUIRED", _):
                self._move(task, "RESOLVE", "confirmed by the (simulated) operator")
            case ("WORKING", "IN_REVIEW"):
                self._review(task)

    def _review(self, task: _Task) -> None:
        if self._random.random() < 0.8:
            self._move(task, "GATES_PASS")
        elif task.attempt < MAX_ATTEMPTS:
            task.attempt += 1
            self._move(task, "GATE_FAIL", "a quality gate failed")
        else:
            self._move(task, "GATE_FAIL_FINAL", "a quality gate failed for the last time")
            self._retry(task)
        if task.state in TERMINAL:
            for specialist in self._specialists:
                if specialist.task is task:
                    specialist.task = None

    def _retry(self, failed: _Task) -> None:
        """A finished task never starts again: a new one takes its place, and whoever waited waits for that one."""
        again = _Task(f"{failed.id}-retry", failed.plan, failed.after, self._now_us, retry_of=failed.id)
        self._tasks[again.id] = again
        self._publish_task(again, "TASK_CREATED")
        for task in self._tasks.values():
            if failed.id in task.after and task.state not in TERMINAL:
                task.after = [again.id if each == failed.id else each for each in task.after]
                self._publish_task(task, "TASK_STATUS_UPDATE", "waits for the retry")

    def _assign(self) -> None:
        for specialist in self._specialists:
            if specialist.task is not None:
                continue
            for task in self._tasks.values():
                if task.plan.by == specialist.type and self._ready(task):
                    specialist.task = task
                    task.specialist = specialist.id
                    self._move(task, "ASSIGN")
                    break

    def _ready(self, task: _Task) -> bool:
        return task.standing == ("SUBMITTED", "QUEUED") and not self._waiting_for(task)

    def _waiting_for(self, task: _Task) -> list[str]:
        return [each for each in task.after if self._tasks[each].state != "COMPLETED"]

    # Specialists

    def _work(self, specialist: _Specialist, seconds: float) -> None:
        if specialist.hold_us > self._now_us:
            return
        specialist.health, specialist.because = "HEALTHY", None
        task = specialist.task
        if task is None:
            specialist.activity, specialist.action = "IDLE", None
            return
        match task.standing:
            case ("SUBMITTED", "ASSIGNED"):
                self._move(task, "CLAIM")
                specialist.activity, specialist.action = "WORKING", "started"
            case ("WORKING", "RUNNING"):
                self._progress(specialist, task, seconds)
            case ("WORKING", "BLOCKED"):
                specialist.activity, specialist.action = "BLOCKED", "blocked"
            case ("INPUT_REQUIRED", _):
                specialist.activity, specialist.action = "WAITING_HUMAN", "asked"
            case _:
                specialist.activity, specialist.action = "IDLE", "handed in"

    def _progress(self, specialist: _Specialist, task: _Task, seconds: float) -> None:
        dice = self._random
        specialist.activity, specialist.action = "WORKING", "progressed"
        trouble = dice.random()
        if trouble < 0.02:
            specialist.activity, specialist.because = "RATE_LIMITED", "the (simulated) model asks for a pause"
            specialist.hold_us = self._now_us + round(dice.uniform(2, 5) * SECOND_US)
        elif trouble < 0.028:
            specialist.health, specialist.because = "STUCK", "no progress although alive"
            specialist.hold_us = self._now_us + round(dice.uniform(6, 12) * SECOND_US)
        elif trouble < 0.05:
            self._block(task)
        elif trouble < 0.065:
            task.until_us = self._now_us + round(dice.uniform(4, 9) * SECOND_US)
            self._move(task, "REQUEST_INPUT", "may this go ahead?")
        else:
            self._advance(specialist, task, seconds)

    def _block(self, task: _Task) -> None:
        task.until_us = self._now_us + round(self._random.uniform(3, 8) * SECOND_US)
        task.blockers = [Blocker(kind="resource", ref=self._random.choice(RESOURCES), since=self._now_us)]
        self._move(task, "BLOCK")

    def _advance(self, specialist: _Specialist, task: _Task, seconds: float) -> None:
        dice = self._random
        task.done = max(task.done, min(UNREVIEWED, task.done + seconds / task.plan.effort_s * dice.uniform(0.6, 1.2)))
        self._spend(specialist, round(dice.uniform(300, 2500) * seconds), round(dice.uniform(50, 400) * seconds))
        rework_done = task.attempt == 1 or dice.random() < 0.3  # rework takes a while, though the progress stands still
        if task.done >= UNREVIEWED and rework_done:
            task.until_us = self._now_us + round(dice.uniform(2, 6) * SECOND_US)
            self._move(task, "SUBMIT_RESULT")
            specialist.action = "handed in"

    def _spend(self, specialist: _Specialist, read: int, written: int) -> None:
        used = specialist.usage
        specialist.usage = Usage(
            provider="simulated",
            model="simulated",
            input_tokens=used.input_tokens + read,
            output_tokens=used.output_tokens + written,
            total_tokens=used.total_tokens + read + written,
        )
        specialist.cost += (read * Decimal("0.000003") + written * Decimal("0.000015")).quantize(Decimal("0.000001"))

    def _report(self) -> None:
        """One message with every specialist that has something new to say."""
        changed = []
        for specialist in self._specialists:
            update = self._update(specialist)
            if update != specialist.said:
                specialist.said = update
                changed.append(update)
        if changed:
            stamped = [_stamped(update, self._now_us) for update in changed]
            channel = f"team:{self._project}"
            self._out.append(TeamMessage(channel, "SPECIALIST_UPDATE", stamped, None, self.next_steps()))

    def _update(self, specialist: _Specialist) -> SpecialistUpdate:
        task = specialist.task
        return SpecialistUpdate(
            specialist_id=specialist.id,
            specialist_type=specialist.type,
            project_id=self._project,
            action_type=specialist.action,
            presence="ONLINE",
            activity=specialist.activity,
            health=specialist.health,
            because=specialist.because,
            task_id=task.id if task else None,
            task_state=task.state if task else None,
            progress=round(task.done, 3) if task else None,
            message=task.plan.title if task else None,
            blockers=list(task.blockers) if task else [],
            usage=specialist.usage,
            cost_usd=format(specialist.cost, "f"),
            ext=SIMULATED,
        )

    # Next steps

    def next_steps(self) -> dict[str, Any]:
        """What can start, what cannot and why, and what will be late. Slack is in seconds before the deadline."""
        unfinished = [task for task in self._tasks.values() if task.state not in TERMINAL]
        slack_s = {task.id: self._slack_s(task) for task in unfinished}
        return {
            "iteration": self._iteration,
            "ready": [task.id for task in unfinished if self._ready(task)],
            "blocked": [self._blocked(task) for task in unfinished if self._waiting_for(task) or task.blockers],
            "waiting_human": [task.id for task in unfinished if task.state == "INPUT_REQUIRED"],
            "at_risk": [
                {
                    "task": task,
                    "slack_s": slack,
                    "reason": "the remaining work takes longer than the time left",
                }
                for task, slack in slack_s.items()
                if slack < 0
            ],
            "critical_path": self._critical_path(unfinished),
            "stuck_agents": [each.id for each in self._specialists if each.health == "STUCK"],
            "simulated": True,
        }

    def _blocked(self, task: _Task) -> dict[str, Any]:
        waiting = self._waiting_for(task)
        blockers = [{"kind": "task", "ref": each} for each in waiting]
        blockers += [{"kind": each.kind, "ref": each.ref} for each in task.blockers]
        agent = next((self._tasks[each].specialist for each in waiting if self._tasks[each].specialist), None)
        return {"task": task.id, "blockers": blockers, "blocking_agent": agent}

    def _path_s(self, task: _Task) -> float:
        """The work from this task to the end of the longest chain behind it."""
        behind = (self._path_s(each) for each in self._tasks.values() if task.id in each.after)
        return task.remaining_s + max(behind, default=0.0)

    def _slack_s(self, task: _Task) -> float:
        left_s = (self._deadline_us - self._now_us) / SECOND_US
        return round(left_s - self._ahead_s(task) - self._path_s(task), 1)

    def _ahead_s(self, task: _Task) -> float:
        """The work that must be done before this task can start."""
        ahead = (self._tasks[each] for each in task.after)
        return max((each.remaining_s + self._ahead_s(each) for each in ahead), default=0.0)

    def _critical_path(self, unfinished: list[_Task]) -> list[str]:
        """From the start of the longest chain of unfinished work to its end."""
        path: list[str] = []
        candidates = [task for task in unfinished if not self._waiting_for(task)]
        while candidates:
            longest = max(candidates, key=self._path_s)
            path.append(longest.id)
            candidates = [task for task in unfinished if longest.id in task.after]
        return path

    # Alerts

    def _raise_alerts(self) -> None:
        """One alert per specialist that is stuck and one for a late iteration, resolved when the reason is gone."""
        now: dict[str, tuple[Literal["WARNING", "CRITICAL"], str, str]] = {}
        for each in self._specialists:
            if each.health == "STUCK":
                now[each.id] = ("CRITICAL", f"{each.id} is stuck", each.because or "")
        late = [
            task.plan.title for task in self._tasks.values() if task.state not in TERMINAL and self._slack_s(task) < 0
        ]
        if late:
            now["deadline"] = ("WARNING", f"iteration {self._iteration} will be late", ", ".join(late))
        for subject, alert in list(self._firing.items()):
            if subject not in now:
                del self._firing[subject]
                self._publish_alert(alert.alert_id, alert.severity, alert.title, "RESOLVED", alert.detail)
        for subject, (severity, title, detail) in now.items():
            if subject not in self._firing:
                self._alert_count += 1
                alert_id = f"sim-{self._run}-{self._alert_count}"
                self._firing[subject] = self._publish_alert(alert_id, severity, title, "FIRING", detail)

    def _publish_alert(
        self,
        alert_id: str,
        severity: Literal["INFO", "WARNING", "CRITICAL"],
        title: str,
        state: Literal["FIRING", "RESOLVED"],
        detail: str | None,
    ) -> Alert:
        alert = Alert(
            alert_id=alert_id,
            severity=severity,
            title=title,
            state=state,
            source=f"team:{self._project}",
            detail=detail,
            ts_event=self._now_us,
            ext=SIMULATED,
        )
        self._out.append(TeamMessage(f"alerts:{self._alerts}", "ALERT", alert))
        return alert


def _stamped(update: SpecialistUpdate, now_us: int) -> SpecialistUpdate:
    return replace(update, ts_event=now_us)
