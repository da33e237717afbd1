"""A simulated team at work, spoken for by the methods of everybody.

What is simulated is who does what, how long it takes and what it costs. What follows from it is the coordinator's:
states, leases, reviews, budgets, next steps. People have a say at any time: what they answer, accept, pause or cancel
counts, and what nobody answers is answered here after a while. Projects, tasks, specialists and reports say
`ext: {"simulated": true}`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from hub.clock import Clock
from protocol.approvals import ApprovalsFound
from protocol.coordination import Alert, ProjectState, SpecialistStatus, SpecialistUpdate
from protocol.errors import ErrorCode, HubError
from protocol.handoffs import HandOffResult
from protocol.team import AgentPage, ProjectAnswer, ProjectPage, TaskClaimed, TaskDetail, TaskPage

CREW, LEAD, GUEST = "crew", "lead", "demo"
"""Users: who speaks for the specialists, who answers what nobody else answers, and whoever looks at the demo."""

CallAs = Callable[[str, str, dict[str, Any]], Awaitable[Any]]
"""Runs a method of the hub for a user: (user, method, params). Raises HubError."""
Tell = Callable[[Alert], Awaitable[Any]]

TEAM = "order-desk"
SIMULATED = {"simulated": True}
SECOND_US = 1_000_000
HEARTBEAT_S = 10
BUDGET_USD = "60"
ANSWER_S = 75  # after which LEAD answers what nobody has answered
QUESTION_S = 120
OFFER_S = 60
ACCEPTED_S = 40  # after which the guest's specialist accepts what was offered to it
SCENE_AT = 0.3  # of the work: then a question is asked, something is missing, or the task is offered
UNREVIEWED = 0.95
STATES = ("SUBMITTED", "WORKING", "INPUT_REQUIRED", "AUTH_REQUIRED")
APPROVERS = [LEAD, "dashboard"]
OVERTAKEN = (ErrorCode.ILLEGAL_TRANSITION, ErrorCode.VERSION_CONFLICT, ErrorCode.NOT_FOUND)
"""What somebody is told who acts upon what somebody else has changed meanwhile."""

T = TypeVar("T")


class _Plan(NamedTuple):
    """`asks`, `lacks`, `hands_to`: what happens on the way, if anything."""

    name: str
    title: str
    skill: str
    effort_s: int
    after: tuple[str, ...] = ()
    asks: str = ""
    lacks: str = ""
    hands_to: str = ""
    usd: str = "0.3"


ASSISTANT = "assistant-1"  # the guest's
PLAN = (
    _Plan("contract", "Agree on the message contract", "architect", 20, usd="4"),  # it reads all that there is
    _Plan("threats", "Review the threat model", "security", 30, asks="Scan staging now? It will be slow for a while."),
    _Plan("book", "Show the order book", "frontend", 40, lacks="market-data licence"),
    _Plan("recording", "Record an hour of market data", "quant", 26, hands_to=ASSISTANT),
    _Plan("schema", "Write the database migration", "backend", 24, ("contract",)),
    _Plan("gateway", "Serve order events over WebSocket", "backend", 30, ("schema",)),
    _Plan("signals", "Estimate the spread per venue", "quant", 34, ("recording", "contract"), lacks="review slot"),
    _Plan("blotter", "Show orders and fills", "frontend", 26, ("gateway", "book")),
    _Plan("load", "Prove the latency under load", "tester", 28, ("gateway",), lacks="staging environment"),
    _Plan("pentest", "Try to break the gateway", "security", 28, ("gateway", "threats")),
    _Plan("backtest", "Backtest the estimate", "quant", 30, ("signals",)),
    _Plan(
        "acceptance",
        "Accept the iteration",
        "tester",
        20,
        ("blotter", "load", "pentest", "backtest"),
        asks="Release it to everybody?",
    ),
)
BY_TITLE = {plan.title: plan for plan in PLAN}
SKILLS = ("architect", "backend", "frontend", "quant", "security", "tester")


@dataclass
class _Work:
    """A task that a specialist has. `due_us`: when what it waits for comes, if nobody brings it before."""

    task_id: str
    plan: _Plan
    fence: int
    done: float = 0.0
    due_us: int = 0
    played: bool = False
    reviews: int = 0


@dataclass
class _Specialist:
    id: str
    skills: tuple[str, ...]
    owner: str = CREW
    work: _Work | None = None
    slow_us: int = 0  # its provider lets it go on then
    unwell_us: int = 0  # some of its calls fail until then
    alert: Alert | None = None
    said: SpecialistUpdate | None = None


@dataclass
class _Offer:
    """What the guest's specialist may accept."""

    handoff_id: str
    task_id: str
    plan: _Plan
    due_us: int


class SimulatedTeam:
    """Call `step` every few seconds. When nothing can go on, the next iteration begins; when the budget of a project is
    used up, the next project.
    """

    def __init__(self, call: CallAs, tell: Tell, clock: Clock, *, seed: int = 1) -> None:
        self._call = call
        self._tell = tell
        self._clock = clock
        self._random = random.Random(seed)
        self._project = ""
        self._begun = True  # somebody has begun with something of this iteration
        self._offer: _Offer | None = None
        self._before_us = clock.now_us()
        self._specialists = [
            *(_Specialist(f"{skill}-1", (skill,)) for skill in SKILLS),
            _Specialist(ASSISTANT, SKILLS, owner=GUEST),
        ]

    async def step(self) -> None:
        """What the team does now. Raises HubError for a refusal; a `temporary` one may be tried again."""
        now_us = self._clock.now_us()
        seconds = min((now_us - self._before_us) / SECOND_US, 5.0)  # after a suspension nobody has worked
        self._before_us = now_us
        if not self._project:
            await self._enter()
        try:
            busy = [await self._turn(each, now_us, seconds) for each in self._specialists]
            if not any(busy) and self._begun:
                await self._begin_iteration()
        except HubError as refused:
            if refused.code is not ErrorCode.LIMIT_EXCEEDED:
                raise
            await self._clear("the budget is used up")
            await self._end(self._project, "the budget is used up")
            await self._create(_number(self._project) + 1)
        await self._report(now_us)

    # --- projects ---

    async def _enter(self) -> None:
        """Go on with the last project, after a restart as well: what it left behind is cleared away."""
        for each in self._specialists:
            entry = {
                "specialist_id": each.id,
                "specialist_type": each.id.partition("-")[0],
                "team": TEAM,
                "skills": [{"id": skill} for skill in each.skills],
                "heartbeat_s": HEARTBEAT_S,
                "ext": SIMULATED,
            }
            await self._call(each.owner, "agents.register", {"specialist": entry})
        known = await self._simulated(state="OPEN")
        if known:
            self._project = max(known, key=_number)
            await self._clear("the demo has started anew")
            for other in known:
                if other != self._project:
                    await self._end(other, "the demo goes on with another project")
            return
        ended = [*await self._simulated(state="CANCELED"), *await self._simulated(state="COMPLETED")]
        await self._create(max(map(_number, ended), default=0) + 1)

    async def _simulated(self, state: ProjectState) -> list[str]:
        """Those of the demo; of those that have ended the last ones, to which the newest belong."""
        projects = (await self._ask("projects.list", ProjectPage, state=state)).projects
        return [each.project.project_id for each in projects if each.project.ext == SIMULATED]

    async def _end(self, project_id: str, reason: str) -> None:
        await self._call(CREW, "projects.cancel", {"project_id": project_id, "reason": reason})

    async def _create(self, number: int) -> None:
        self._project = TEAM if number == 1 else f"{TEAM}-{number}"
        project = {"project_id": self._project, "team": TEAM, "title": f"Order desk {number}", "budget_usd": BUDGET_USD}
        await self._call(CREW, "projects.create", {"project": {**project, "ext": SIMULATED}})

    async def _clear(self, reason: str) -> None:
        """Nobody goes on with what is not finished."""
        for state in STATES:
            asked = {"project_id": self._project, "state": state, "limit": 500}
            for task in (await self._ask("tasks.list", TaskPage, **asked)).tasks:
                await self._act("tasks.cancel", task.task_id, reason=reason)
        for each in self._specialists:
            each.work = None
        self._offer = None
        self._begun = True

    async def _begin_iteration(self) -> None:
        await self._clear("what it waits for was not done")
        count = sum((await self._ask("projects.get", ProjectAnswer, project_id=self._project)).tasks.values())
        number = count // len(PLAN) + 1
        longest_s = sum(plan.effort_s for plan in PLAN if plan.skill in ("backend", "architect", "security"))
        deadline = self._clock.now_us() + round(longest_s * 1.5) * SECOND_US
        tasks = [
            {
                "task_id": f"{number}-{plan.name}",
                "title": plan.title,
                "effort_h": plan.effort_s / 3600,
                "required_skills": [plan.skill],
                "depends_on": [f"{number}-{name}" for name in plan.after],
                "gates": [{"gate_id": "review", "kind": "AGENT_REVIEW"}],
                "deadline": deadline,
                "ext": SIMULATED,
            }
            for plan in PLAN
        ]
        await self._call(CREW, "tasks.create", {"project_id": self._project, "tasks": tasks})
        self._begun = False

    # --- specialists ---

    async def _turn(self, specialist: _Specialist, now_us: int, seconds: float) -> bool:
        """Whether it is busy, or was until now."""
        was_busy = specialist.work is not None
        try:
            await self._beat(specialist, now_us)
            if specialist.work is None and not await self._begin(specialist, now_us):
                return False
            await self._go_on(specialist, now_us, seconds)
        except HubError as refused:
            if refused.code not in OVERTAKEN:
                raise
        return was_busy or specialist.work is not None

    async def _go_on(self, specialist: _Specialist, now_us: int, seconds: float) -> None:
        work = specialist.work
        assert work is not None
        task = (await self._ask("tasks.get", TaskDetail, project_id=self._project, task_id=work.task_id)).task
        if task.specialist_id != specialist.id or task.state not in STATES:
            specialist.work = None
            await self._settle(specialist, work)
            return
        due = now_us >= work.due_us
        match task.state, task.substate:
            case ("INPUT_REQUIRED", _) if due:
                await self._answer(work.task_id)
            case (_, "BLOCKED") if due:
                for blocker in task.blockers:
                    await self._act("tasks.unblock", work.task_id, ref=blocker.ref)
            case (_, "IN_REVIEW") if due:
                await self._review(work)
            case (_, "RUNNING") if now_us >= specialist.slow_us:
                await self._work(specialist, work, now_us, seconds)

    async def _beat(self, specialist: _Specialist, now_us: int) -> None:
        claims = [specialist.work] if specialist.work is not None else []
        unwell = now_us < specialist.unwell_us
        sign: dict[str, Any] = {
            "specialist_id": specialist.id,
            "claims": [{"project_id": self._project, "task_id": each.task_id, "fence": each.fence} for each in claims],
            **({"calls": 12, "errors": 4} if unwell else {}),
            **({"limited_until": specialist.slow_us} if now_us < specialist.slow_us else {}),
        }
        await self._call(specialist.owner, "agents.heartbeat", sign)
        if unwell != (specialist.alert is not None):
            title = f"4 of 12 calls of {specialist.id} failed"
            alert = Alert(
                alert_id=f"{self._project}:{specialist.id}:{specialist.unwell_us}",
                severity="WARNING",
                title=title,
                state="FIRING" if unwell else "RESOLVED",
                source=f"team:{self._project}",
                ts_event=now_us,
                ext=SIMULATED,
            )
            await self._tell(alert)
            specialist.alert = alert if unwell else None

    async def _begin(self, specialist: _Specialist, now_us: int) -> bool:
        """Whether there was something to do."""
        if specialist.owner == GUEST:
            return await self._accept(specialist, now_us)
        asked = {"specialist_id": specialist.id, "project_id": self._project}
        claimed = await self._ask("tasks.claim", TaskClaimed, **asked)
        if claimed.task is None or claimed.fence is None:
            return False
        task_id, title = claimed.task.task_id, claimed.task.title or claimed.task.task_id
        plan = BY_TITLE.get(title) or _Plan(task_id, title, "", 20)  # somebody may add a task of their own
        specialist.work = _Work(task_id, plan, claimed.fence)
        self._begun = True
        await self._reserve(specialist, specialist.work)
        return True

    async def _accept(self, specialist: _Specialist, now_us: int) -> bool:
        """Go on with what the guest has accepted; when nobody has answered for a while, it is accepted here."""
        offer = self._offer
        if offer is None:
            return False
        task = (await self._ask("tasks.get", TaskDetail, project_id=self._project, task_id=offer.task_id)).task
        if task.specialist_id != specialist.id and now_us < offer.due_us:
            return False
        self._offer = None
        asked = {"handoff_id": offer.handoff_id, "specialist_id": specialist.id}
        try:  # once more, where the guest has: it is the same claim
            accepted = msgspec.convert(await self._call(GUEST, "handoffs.accept", asked), HandOffResult)
        except HubError as refused:
            if refused.code not in (*OVERTAKEN, ErrorCode.PERMISSION_DENIED):
                raise
            return False  # the guest has declined it, or it was finished before
        specialist.work = _Work(offer.task_id, offer.plan, accepted.fence or 0, task.progress or 0.0, played=True)
        await self._reserve(specialist, specialist.work)
        return True

    async def _work(self, specialist: _Specialist, work: _Work, now_us: int, seconds: float) -> None:
        dice = self._random
        trouble = dice.random()
        if trouble < 0.02:
            specialist.slow_us = now_us + round(dice.uniform(6, 12)) * SECOND_US
        elif trouble < 0.03:
            specialist.unwell_us = now_us + round(dice.uniform(10, 20)) * SECOND_US
        if work.done >= SCENE_AT and not work.played:
            work.played = True
            if await self._play(specialist, work, now_us):
                return
        work.done = min(1.0, work.done + seconds / work.plan.effort_s * dice.uniform(0.7, 1.2))
        if work.done < 1:
            await self._hold("tasks.progress", specialist, work, progress=round(min(work.done, UNREVIEWED), 3))
            return
        work.due_us = now_us + round(dice.uniform(4, 9)) * SECOND_US
        artifact = {"name": work.plan.name, "ref": f"{dice.getrandbits(28):07x}", **SIMULATED}
        await self._hold("tasks.submit", specialist, work, artifacts=[artifact])

    async def _play(self, specialist: _Specialist, work: _Work, now_us: int) -> bool:
        """What happens on the way. Returns whether the task waits now."""
        plan = work.plan
        if plan.asks:
            work.due_us = now_us + ANSWER_S * SECOND_US
            question = {"reason": "CONFIRMATION", "message": f"{plan.asks} (simulated)", "approver_roles": APPROVERS}
            expires_at = now_us + QUESTION_S * SECOND_US
            await self._hold("tasks.request_input", specialist, work, **question, expires_at=expires_at)
            return True
        if plan.lacks:
            work.due_us = now_us + round(self._random.uniform(25, 45)) * SECOND_US
            await self._hold("tasks.block", specialist, work, blockers=[{"kind": "resource", "ref": plan.lacks}])
            return True
        if plan.hands_to:
            offer = self._offer = _Offer(
                f"{self._project}:{work.task_id}", work.task_id, plan, now_us + ACCEPTED_S * SECOND_US
            )
            await self._hold(
                "handoffs.offer",
                specialist,
                work,
                handoff_id=offer.handoff_id,
                to_specialist=plan.hands_to,
                reason="the market closes, and there is more to do (simulated)",
                expires_at=now_us + OFFER_S * SECOND_US,
            )
        return False

    # --- what others do, when nobody does ---

    async def _answer(self, task_id: str) -> None:
        asked = {"state": "REQUESTED"}
        found = msgspec.convert(await self._call(LEAD, "approvals.list", asked), ApprovalsFound)
        for each in found.approvals:
            if (each.project_id, each.task_id) == (self._project, task_id):
                answer = {"approval_id": each.approval_id, "decision": "APPROVED"}
                await self._call(LEAD, "approvals.resolve", answer)

    async def _review(self, work: _Work) -> None:
        work.reviews += 1
        again = work.reviews == 1 and self._random.random() < 0.15
        verdict = {"gate_id": "review", "result": "FAIL" if again else "PASS"}
        evidence = [{"kind": "review", "ref": "simulated"}]
        because = "an error is not handled" if again else "it does what was asked for"
        asked = {"project_id": self._project, "task_id": work.task_id, **verdict}
        await self._call(LEAD, "tasks.gate", {**asked, "evidence": evidence, "because": because})
        work.done = 0.8  # where it goes on if it did not pass

    # --- money ---

    async def _reserve(self, specialist: _Specialist, work: _Work) -> None:
        """Raises HubError(limit_exceeded): the budget is used up."""
        await self._spend("budgets.reserve", specialist, work, work.plan.usd)

    async def _settle(self, specialist: _Specialist, work: _Work) -> None:
        usd = float(work.plan.usd) * self._random.uniform(0.6, 1.1)
        await self._spend("budgets.settle", specialist, work, f"{usd:.4f}")

    async def _spend(self, method: str, specialist: _Specialist, work: _Work, usd: str) -> None:
        asked = {"project_id": self._project, "specialist_id": specialist.id}
        asked |= {"reservation_id": f"{work.task_id}:{work.fence}", "usd": usd}
        await self._call(specialist.owner, method, asked)

    # --- reports ---

    async def _report(self, now_us: int) -> None:
        """Of every specialist that has something new to say."""
        page = await self._ask("agents.list", AgentPage, team=TEAM)
        statuses = {each.status.specialist_id: each.status for each in page.specialists}
        for owner in (CREW, GUEST):
            changed = []
            for each in self._specialists:
                if each.owner != owner or (status := statuses.get(each.id)) is None:
                    continue
                update = self._update(each, status)
                if update != each.said:
                    each.said = update
                    changed.append(msgspec.to_builtins(replace(update, ts_event=now_us)))
            if changed:
                await self._call(owner, "team.sync", {"updates": changed})

    def _update(self, specialist: _Specialist, status: SpecialistStatus) -> SpecialistUpdate:
        work = specialist.work
        return SpecialistUpdate(
            specialist_id=specialist.id,
            specialist_type=specialist.id.partition("-")[0],
            project_id=self._project,
            presence=status.presence,
            activity=status.activity,
            health=status.health,
            because=status.health_because if status.health != "HEALTHY" else status.activity_because,
            task_id=work.task_id if work else None,
            progress=round(min(work.done, UNREVIEWED), 2) if work else None,
            message=work.plan.title if work else None,
            ext=SIMULATED,
        )

    # ---

    async def _ask(self, method: str, result: type[T], **params: Any) -> T:
        return msgspec.convert(await self._call(CREW, method, params), result)

    async def _act(self, method: str, task_id: str, **fields: Any) -> None:
        await self._call(CREW, method, {"project_id": self._project, "task_id": task_id, **fields})

    async def _hold(self, method: str, specialist: _Specialist, work: _Work, **fields: Any) -> None:
        claim = {"task_id": work.task_id, "specialist_id": specialist.id, "fence": work.fence}
        await self._call(specialist.owner, method, {"project_id": self._project, **claim, **fields})


def _number(project_id: str) -> int:
    return int(project_id.removeprefix(TEAM).removeprefix("-") or 1)
