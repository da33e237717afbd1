"""Results of tasks before their gates, on the node that coordinates. What a verdict does to a task is in its fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from hub.caller import Caller
from hub.coordination import gates
from hub.coordination.desk import TaskDesk
from hub.coordination.gates import WAIVERS, Review
from hub.coordination.journal import Change, key_within
from hub.coordination.roster import Roster
from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import IN_REVIEW
from protocol.coordination import Gate
from protocol.errors import ErrorCode, HubError
from protocol.gates import Evidence, GateJudge

KIND = "review"
_decode = msgspec.json.Decoder(Review).decode
_LAST = {"ERROR": 0, "PASS": 1, "FAIL": 2}  # a failure ends the review, so it is said last


class GateDesk:
    def __init__(self, tasks: TaskDesk, roster: Roster) -> None:
        self._tasks = tasks
        self._roster = roster
        self._reviews: dict[tuple[str, str], Review] = {}
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}
        tasks.listeners.append(self._hear)

    def _restore(self, body: bytes) -> None:
        review = _decode(body)
        self._reviews[review.project_id, review.task_id] = review

    def restored(self, now_us: int) -> None:
        """Nothing else is needed."""

    def tick(self, change: Change) -> None:
        """Gates do not end by themselves."""

    def handed_in(self, task: Task, evidence: Iterable[Evidence], *, actor: str, change: Change) -> Task:
        """A result is under review: what can be measured is, by the evidence that came with it."""
        if task.position != IN_REVIEW:
            return task
        shown = [*evidence]
        review = self._review(task)
        measured: list[Gate] = []
        for gate in task.spec.gates:
            if gate.kind == "AUTOMATED" and review.verdict(gate.gate_id).result == "PENDING":
                review = gates.measured(review, gate.gate_id, shown, by=actor, now_us=change.now_us)
                measured.append(gate)
        measured.sort(key=lambda gate: (gate.required, _LAST.get(review.verdict(gate.gate_id).result, 0)))
        return self._decide(task, review, measured, actor=actor, change=change)

    def judge(self, asked: GateJudge, caller: Caller, change: Change) -> Task:
        """Raises HubError(not_found, illegal_transition, permission_denied, schema_invalid)."""
        task = self._tasks.task(asked.project_id, asked.task_id)
        review, now_us = self._review(task), change.now_us
        if asked.result != "WAIVED" and task.position != IN_REVIEW:
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "there is no result under review")
        match asked.result:
            case "WAIVED":
                allowed = not caller.roles.isdisjoint(WAIVERS)
                review = gates.waived(
                    review, asked.gate_id, caller, allowed=allowed, reason=asked.because, now_us=now_us
                )
            case None:
                review = gates.measured(review, asked.gate_id, asked.evidence, by=caller.user, now_us=now_us)
            case said:
                passed = said == "PASS"
                review = gates.reviewed(
                    review, asked.gate_id, passed, asked.evidence, caller, because=asked.because, now_us=now_us
                )
        return self._decide(task, review, [_gate(task, asked.gate_id)], actor=caller.user, change=change)

    def waive(self, project_id: str, task_id: str, gate_id: str, by: Caller, reason: str, change: Change) -> Task:
        """What somebody who may has approved. Raises as `judge`."""
        task = self._tasks.task(project_id, task_id)
        review = gates.waived(
            self._review(task), gate_id, by, allowed=True, reason=reason or "approved", now_us=change.now_us
        )
        return self._decide(task, review, [_gate(task, gate_id)], actor=by.user, change=change)

    def _decide(self, task: Task, review: Review, decided: Iterable[Gate], *, actor: str, change: Change) -> Task:
        """Write the verdicts down, tell them, and let the task have those that still matter to it."""
        for gate in decided:
            verdict = review.verdict(gate.gate_id)
            if verdict.result == "WAIVED" or task.position == IN_REVIEW:
                task = self._tasks.act(
                    task.project_id,
                    task.task_id,
                    "GATE_RESULT",
                    actor=actor,
                    change=change,
                    gate_id=gate.gate_id,
                    result=verdict.result,
                    review=review.number,
                    reason=verdict.because or None,
                )
            told = gates.announcement(review, gate.gate_id)
            change.note(KIND, _key(task), told, actor=actor, project_id=task.project_id)
            change.tell(f"team:{task.project_id}", "GATE_RESULT", told)
        self._put(task, review, change)
        return task

    def _hear(self, before: Task | None, task: Task, event: TaskEvent, change: Change) -> None:
        """Each result is judged anew. Whoever had the task is one of its authors, and so is whose program that is."""
        if event.happening == "SUBMIT_RESULT":
            self._put(task, gates.handed_in(self._review(task), self._authors(task, event)), change)
        elif event.happening == "HANDOFF_ACCEPTED" and before is not None:
            self._put(task, gates.worked_on(self._review(task), self._authors(before)), change)
        if task.ended and (task.project_id, task.task_id) in self._reviews:
            self._put(task, self._reviews.pop((task.project_id, task.task_id)), change)

    def _authors(self, task: Task, event: TaskEvent | None = None) -> set[str]:
        """Whoever has the task, whose program that is, and who speaks for it in the event."""
        names = {event.actor} if event is not None else set()
        if task.specialist_id is not None:
            names.add(task.specialist_id)
            if task.specialist_id in self._roster and (owner := self._roster.specialist(task.specialist_id).owner):
                names.add(owner)
        return names

    def _review(self, task: Task) -> Review:
        known = self._reviews.get((task.project_id, task.task_id))
        if known is not None:
            return known
        return Review(task_id=task.task_id, project_id=task.project_id, gates=tuple(task.spec.gates))

    def _put(self, task: Task, review: Review, change: Change) -> None:
        ended = self._tasks.task(task.project_id, task.task_id).ended
        if not ended:
            self._reviews[task.project_id, task.task_id] = review
        if review.gates:
            change.keep(KIND, _key(task), review, project_id=task.project_id, ended=ended)


def _key(task: Task) -> str:
    return key_within(task.project_id, task.task_id)


def _gate(task: Task, gate_id: str) -> Gate:
    """Raises HubError(not_found)."""
    for gate in task.spec.gates:
        if gate.gate_id == gate_id:
            return gate
    raise HubError(ErrorCode.NOT_FOUND, "the task has no such gate", path="$.params.gate_id")
