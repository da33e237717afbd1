"""What a team should do now, kept up to date change by change.

All that a next step needs of the graph runs backwards: how long the chain behind a task is, and when it must start for
every deadline behind it. A change moves these for what stands before the task only, and that is done already when the
task is worked on. So an update of one task among ten thousand touches that task and those that waited for it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Literal

from hub.coordination.planning.graph import dependencies, in_order
from protocol.coordination import (
    AtRisk,
    Blocker,
    NextSteps,
    Specialist,
    SpecialistStatus,
    SpecialistUpdate,
    Suggestion,
    TaskSpec,
    TaskState,
)

MICROS_PER_HOUR = 3_600_000_000
MAX_ENTRIES = 50  # of each list
MAX_SUGGESTED = 10  # of each action
MAX_IDLE = 100  # specialists looked at for a task to start
AT_RISK_H = 1.0
LONG_H = 16.0  # a task of the critical path with more than this left is worth splitting
ENDED: frozenset[TaskState] = frozenset({"COMPLETED", "CANCELED", "FAILED", "REJECTED"})
WAITING: frozenset[TaskState] = frozenset({"INPUT_REQUIRED", "AUTH_REQUIRED"})
NEVER = float("inf")
MANY = 64  # names that are put into a ranking at once sooner than one by one
Action = Literal["REASSIGN", "UNBLOCK", "ESCALATE", "SPLIT", "START", "NUDGE"]


class _Node:
    """A task as it stands. `tail` and `latest_start` count in hours, the latter since 1970."""

    __slots__ = (
        "befores",
        "blockers",
        "dependents",
        "holder",
        "index",
        "latest_start",
        "progress",
        "spec",
        "state",
        "tail",
        "waits_for",
    )

    def __init__(self, spec: TaskSpec, index: int) -> None:
        self.spec = spec
        self.index = index
        self.befores: list[_Node] = []
        self.dependents: list[_Node] = []
        self.waits_for: set[str] = set()  # what is not completed
        self.state: TaskState = "SUBMITTED"
        self.progress = 0.0
        self.holder: str | None = None
        self.blockers: Sequence[Blocker] = ()
        self.tail = 0.0
        self.latest_start = NEVER

    @property
    def name(self) -> str:
        return self.spec.task_id

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def left_h(self) -> float:
        return self.spec.effort_h * (1 - self.progress)


class _Ranking:
    """Names in the order of their keys."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, ...]] = {}
        self._order: list[tuple[tuple[float, ...], str]] = []

    def put(self, name: str, key: tuple[float, ...]) -> None:
        if self._keys.get(name) != key:
            self.discard(name)
            self._keys[name] = key
            insort(self._order, (key, name))

    def discard(self, name: str) -> None:
        if (key := self._keys.pop(name, None)) is not None:
            del self._order[bisect_left(self._order, (key, name))]

    def update(self, keys: Mapping[str, tuple[float, ...] | None]) -> None:
        """All of these at once; None: it does not belong there."""
        changed = {name: key for name, key in keys.items() if self._keys.get(name) != key}
        if len(changed) < MANY:
            for name, key in changed.items():
                self.discard(name) if key is None else self.put(name, key)
            return
        left = [each for each in self._order if each[1] not in changed]
        for name, key in changed.items():
            if key is None:
                del self._keys[name]
            else:
                self._keys[name] = key
                left.append((key, name))
        left.sort()
        self._order = left

    def __iter__(self) -> Iterator[str]:
        return (name for _, name in self._order)

    def first(self, count: int = MAX_ENTRIES) -> list[str]:
        return list(islice(self, count))


class Outlook:
    """One project, as far as its next steps depend on it. Single-threaded; nothing here awaits or reads a clock."""

    def __init__(self, tasks: Iterable[TaskSpec] = (), *, deadline: int | None = None) -> None:
        self._deadline_h = NEVER if deadline is None else deadline / MICROS_PER_HOUR
        self._nodes: dict[str, _Node] = {}
        self._specialists: dict[str, Specialist] = {}
        self._statuses: dict[str, SpecialistStatus] = {}
        self._held: dict[str, set[str]] = {}
        self._stuck: dict[str, str] = {}  # with the reason
        self._idle: dict[str, None] = {}
        self._ready, self._waiting, self._blocked = _Ranking(), _Ranking(), _Ranking()
        self._by_start, self._by_tail = _Ranking(), _Ranking()  # what could be worked on, or ought to be
        self._critical_h: float | None = None
        self.add(tasks)

    def add(self, tasks: Iterable[TaskSpec]) -> None:
        """New tasks; they may wait for each other and for known ones. Raises `HubError` for a circle."""
        new = [_Node(spec, len(self._nodes) + number) for number, spec in enumerate(in_order(tasks))]
        self._nodes |= {node.name: node for node in new}
        for node in new:
            for name in dependencies(node.spec, self._nodes):
                before = self._nodes[name]
                node.befores.append(before)
                before.dependents.append(node)
                if before.state != "COMPLETED":
                    node.waits_for.add(name)
        self._settle(new)

    def task_is(
        self,
        task_id: str,
        *,
        state: TaskState,
        holder: str | None = None,
        progress: float = 0.0,
        blockers: Sequence[Blocker] = (),
    ) -> None:
        """A task as it stands now, in full. One that is not known is passed over."""
        if (node := self._nodes.get(task_id)) is None:
            return
        was = node.state
        self._release(node)
        node.state, node.progress, node.blockers = state, progress, blockers
        node.holder = None if node.ended else holder
        if node.holder is not None:
            self._held.setdefault(node.holder, set()).add(task_id)
            self._look_at(node.holder)
        self._settle([node])
        if was != state and (was in ENDED or state in ENDED):
            for dependent in node.dependents:
                (dependent.waits_for.discard if state == "COMPLETED" else dependent.waits_for.add)(task_id)
            self._place(node.dependents)

    def specialist_is(self, specialist: Specialist, status: SpecialistStatus) -> None:
        self._specialists[specialist.specialist_id] = specialist
        self._statuses[specialist.specialist_id] = status
        self._look_at(specialist.specialist_id)

    def specialist_left(self, specialist_id: str) -> None:
        for kept in (self._specialists, self._statuses, self._stuck, self._idle):
            kept.pop(specialist_id, None)

    def apply(self, update: SpecialistUpdate) -> None:
        """What a specialist reports of its task: what it leaves out stays as it was, but for blockers."""
        node = self._nodes.get(update.task_id or "")
        if node is not None and (not node.ended or update.task_state is not None):
            self.task_is(
                node.name,
                state=update.task_state or ("WORKING" if node.state == "SUBMITTED" else node.state),
                holder=update.specialist_id,
                progress=node.progress if update.progress is None else update.progress,
                blockers=update.blockers,
            )

    def task_progressed(self, task_id: str, *, holder: str, progress: float | None) -> None:
        """How far whoever has the task says it is."""
        node = self._nodes.get(task_id)
        if node is not None and not node.ended and node.holder == holder and (progress or 0) > node.progress:
            node.progress = progress or 0.0
            self._settle([node])

    def at_risk(self, now_us: int) -> list[AtRisk]:
        """Tasks whose deadline, or one behind it, is missed unless they go on at once; the worst first."""
        return self._at_risk(now_us / MICROS_PER_HOUR)

    def next_steps(self, now_us: int) -> NextSteps:
        """`critical_path_delta_h` counts from the last time this was asked. The caller adds how long it took."""
        path = self._critical_path()
        critical_h = self._nodes[path[0]].tail if path else 0.0
        delta_h = 0.0 if self._critical_h is None else critical_h - self._critical_h
        self._critical_h = critical_h
        return NextSteps(
            ready=self._ready.first(),
            blocked={name: self._obstacles(self._nodes[name]) for name in self._blocked.first()},
            waiting_human=self._waiting.first(),
            at_risk=self._at_risk(now_us / MICROS_PER_HOUR),
            critical_path=path,
            critical_path_h=round(critical_h, 6),
            critical_path_delta_h=round(delta_h, 6),
            stuck=sorted(self._stuck)[:MAX_ENTRIES],
            suggestions=self._suggestions(path),
        )

    def _release(self, node: _Node) -> None:
        if node.holder is not None and node.holder in self._held:
            self._held[node.holder].discard(node.name)
            if not self._held[node.holder]:
                del self._held[node.holder]
            self._look_at(node.holder)

    def _settle(self, changed: Sequence[_Node]) -> None:
        """What follows backwards from a change, each task once: the last in the graph first."""
        queue = sorted((-node.index, node.name) for node in changed)
        queued = {name for _, name in queue}
        new = frozenset(queued)
        settled: list[_Node] = []
        while queue:
            _, name = heappop(queue)
            node = self._nodes[name]
            before = (node.tail, node.latest_start)
            after_h, deadline_h = 0.0, self._deadline_h
            if node.spec.deadline is not None:
                deadline_h = min(deadline_h, node.spec.deadline / MICROS_PER_HOUR)
            for dependent in node.dependents:
                if not dependent.ended:
                    after_h = max(after_h, dependent.tail)
                    deadline_h = min(deadline_h, dependent.latest_start)
            node.tail, node.latest_start = node.left_h + after_h, deadline_h - node.left_h
            settled.append(node)
            if name in new or before != (node.tail, node.latest_start):
                for waited in node.befores:
                    if waited.name not in queued and not waited.ended:
                        heappush(queue, (-waited.index, waited.name))
                        queued.add(waited.name)
        self._place(settled)

    def _place(self, nodes: Iterable[_Node]) -> None:
        """Into the lists that they belong to now."""
        ready, waiting, blocked, by_start, by_tail = (dict[str, tuple[float, ...] | None]() for _ in range(5))
        for node in nodes:
            name = node.name
            reached = not node.ended and all(self._nodes[each].ended for each in node.waits_for)
            held_up = bool(node.blockers or node.waits_for)
            urgency = (node.latest_start, -float(node.spec.priority), -node.tail) if reached else None
            ready[name] = urgency if node.state == "SUBMITTED" and not held_up else None
            waiting[name] = urgency if node.state in WAITING else None
            blocked[name] = urgency if held_up else None
            by_start[name] = urgency
            by_tail[name] = (-node.tail,) if reached else None
        self._ready.update(ready)
        self._waiting.update(waiting)
        self._blocked.update(blocked)
        self._by_start.update(by_start)
        self._by_tail.update(by_tail)

    def _look_at(self, specialist_id: str) -> None:
        """Whether a specialist is stuck, or idle."""
        self._stuck.pop(specialist_id, None)
        self._idle.pop(specialist_id, None)
        if (status := self._statuses.get(specialist_id)) is None:
            return
        held = len(self._held.get(specialist_id, ()))
        if status.presence == "OFFLINE" and held:
            self._stuck[specialist_id] = status.presence_because
        elif status.health in ("STUCK", "FAILED"):
            self._stuck[specialist_id] = status.health_because
        elif (
            status.presence == "ONLINE"
            and status.activity in ("IDLE", "WORKING")
            and held < self._specialists[specialist_id].max_concurrent
        ):
            self._idle[specialist_id] = None

    def _obstacles(self, node: _Node) -> list[str]:
        return [*(blocker.ref for blocker in node.blockers), *sorted(node.waits_for)]

    def _critical_path(self) -> list[str]:
        path: list[str] = []
        following = self._nodes.get(next(iter(self._by_tail), ""))
        while following is not None and len(path) < MAX_ENTRIES:
            path.append(following.name)
            behind = (each for each in following.dependents if not each.ended)
            following = min(behind, key=lambda each: (-each.tail, each.name), default=None)
        return path

    def _at_risk(self, now_h: float) -> list[AtRisk]:
        found: list[AtRisk] = []
        for name in self._by_start.first():
            slack_h = self._nodes[name].latest_start - now_h
            if slack_h >= AT_RISK_H:
                break
            reason = "a deadline behind it cannot be kept" if slack_h < 0 else "it has to go on at once"
            found.append(AtRisk(task_id=name, slack_h=round(slack_h, 6), reason=reason))
        return found

    def _suggestions(self, path: Sequence[str]) -> list[Suggestion]:
        """What sets free the longest chain of work first. Each gain is that chain's hours, but for a split."""
        found = [
            self._suggest("ESCALATE", name, "a person has to decide") for name in self._waiting.first(MAX_SUGGESTED)
        ]
        found += [
            self._suggest("UNBLOCK", name, f"waits for {', '.join(self._obstacles(self._nodes[name])[:3])}")
            for name in self._blocked.first(MAX_SUGGESTED)
        ]
        for specialist_id, because in sorted(self._stuck.items())[:MAX_SUGGESTED]:
            held = sorted(self._held.get(specialist_id, ()), key=lambda name: -self._nodes[name].tail)
            if self._statuses[specialist_id].presence != "OFFLINE":
                gain_h = self._nodes[held[0]].tail if held else 0.0
                found.append(Suggestion(action="NUDGE", target=specialist_id, why=because, expected_gain_h=gain_h))
            found += [self._suggest("REASSIGN", name, f"{specialist_id}: {because}") for name in held[:MAX_SUGGESTED]]
        found += self._starts()
        if path and (gain_h := self._gain_of_a_split(self._nodes[path[0]])) > 0:
            why = f"{self._nodes[path[0]].left_h:g} h in one task decide when all is done"
            found.append(Suggestion(action="SPLIT", target=path[0], why=why, expected_gain_h=gain_h))
        found.sort(key=lambda each: (-each.expected_gain_h, each.action, each.target))
        return found[:MAX_ENTRIES]

    def _suggest(self, action: Action, name: str, why: str) -> Suggestion:
        return Suggestion(action=action, target=name, why=why, expected_gain_h=round(self._nodes[name].tail, 6))

    def _starts(self) -> list[Suggestion]:
        """Each idle specialist is suggested once."""
        idle = {name: {skill.id for skill in self._specialists[name].skills} for name in islice(self._idle, MAX_IDLE)}
        found = []
        for name in self._ready.first(MAX_SUGGESTED):
            node = self._nodes[name]
            able = [each for each, skills in idle.items() if skills.issuperset(node.spec.required_skills)]
            who = node.holder if node.holder in able else min(able, default=None)
            if who is not None and node.holder in (None, who):
                del idle[who]
                found.append(self._suggest("START", name, f"{who} is free and can do it"))
        return found

    def _gain_of_a_split(self, node: _Node) -> float:
        """Half of the task goes to another, until the next longest chain decides."""
        if node.left_h <= LONG_H:
            return 0.0
        second = next((self._nodes[name].tail for name in self._by_tail if name != node.name), 0.0)
        return round(min(node.left_h / 2, node.tail - second), 6)
