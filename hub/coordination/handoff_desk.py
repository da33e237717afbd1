"""Tasks on offer from one specialist to another, on the node that coordinates."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping

import msgspec

from hub.caller import Caller
from hub.coordination import handoffs
from hub.coordination.desk import Project, TaskDesk, update_of
from hub.coordination.handoffs import Claim, Offer
from hub.coordination.journal import HUB, Change
from hub.coordination.registry import lease_us
from hub.coordination.roster import Roster
from hub.coordination.tasks.task import Task
from protocol.errors import ErrorCode, HubError
from protocol.handoffs import HandOffOffer

KIND = "handoff"
MAX_OPEN, MAX_OPEN_OF_TEAM = 10_000, 1_000
MAX_ENDED = 1_000  # that are remembered, so that an answer sent again is answered as before

_decode = msgspec.json.Decoder(Offer).decode


class HandOffDesk:
    def __init__(self, tasks: TaskDesk, roster: Roster) -> None:
        self._tasks = tasks
        self._roster = roster
        self._open: dict[str, Offer] = {}
        self._ended: dict[str, Offer] = {}  # the oldest first
        self.listeners: list[Callable[[Offer], None]] = []
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}
        tasks.leaving.append(self._leave)

    def _restore(self, body: bytes) -> None:
        self._put(_decode(body))

    def restored(self, now_us: int) -> None:
        """Nothing else is needed."""

    def tick(self, change: Change) -> None:
        for offered in list(self._open.values()):
            after = handoffs.expire(offered, holder=self._holder(offered.request), now_us=change.now_us)
            if after is not offered:
                self._change(after, actor=HUB, change=change)

    def _leave(self, project: Project, change: Change) -> None:
        """Its tasks have ended, and so has what is on offer of them."""
        for offered in [each for each in self._open.values() if each.request.project_id == project.project_id]:
            self._change(handoffs.expire(offered, holder=None, now_us=change.now_us), actor=HUB, change=change)

    def offers(self) -> Iterable[Offer]:
        """Those that may still be answered, the oldest first."""
        return self._open.values()

    def offer(self, asked: HandOffOffer, caller: Caller, change: Change) -> Offer:
        """The same again is the same offer. Raises HubError, as `handoffs.offer` does."""
        self._tasks.task(asked.project_id, asked.task_id)
        name = asked.handoff_id or secrets.token_hex(8)
        known = self._open.get(name) or self._ended.get(name)
        if known is not None:
            if known.request != asked:
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "another offer has this handoff_id")
            return known
        if asked.to_specialist is not None and not self._is_of_team(asked.to_specialist, asked.project_id):
            raise HubError(ErrorCode.NOT_FOUND, "the team has no such specialist", path="$.params.to_specialist")
        if len(self._open) >= MAX_OPEN:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_OPEN} tasks are on offer")
        team = self._tasks.project(asked.project_id).team
        if sum(self._team(each) == team for each in self._open.values()) >= MAX_OPEN_OF_TEAM:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_OPEN_OF_TEAM} tasks of a team are on offer")
        others = [
            each
            for each in self._open.values()
            if (each.request.project_id, each.request.task_id) == (asked.project_id, asked.task_id)
        ]
        offered = handoffs.offer(name, asked, holder=self._holder(asked), others=others, now_us=change.now_us)
        self._change(offered, actor=caller.user, change=change)
        return offered

    def accept(self, handoff_id: str, by: str, caller: Caller, change: Change) -> tuple[Offer, Task]:
        """The task, claimed by whoever has accepted. Raises HubError."""
        offered = self.get(handoff_id)
        request = offered.request
        specialist = self._roster.specialist(by)
        skills = {skill.id for skill in specialist.skills}
        after = handoffs.accept(offered, by, skills=skills, holder=self._holder(request), now_us=change.now_us)
        task = self._tasks.task(request.project_id, request.task_id)
        if after is offered:
            if task.specialist_id != by:
                raise HubError(ErrorCode.VERSION_CONFLICT, "you had it, and have it no more")
            return offered, task
        self._tasks.require_fits(task, specialist, now_us=change.now_us)
        self._tasks.act(
            request.project_id,
            request.task_id,
            "HANDOFF_ACCEPTED",
            actor=caller.user,
            change=change,
            specialist_id=by,
            ttl_us=lease_us(specialist),
        )
        task = self._tasks.act(
            request.project_id, request.task_id, "CLAIM", actor=caller.user, change=change, specialist_id=by
        )
        self._change(after, actor=caller.user, change=change)
        return after, task

    def decline(self, handoff_id: str, by: str, because: str, caller: Caller, change: Change) -> Offer:
        offered = self.get(handoff_id)
        return self._end(offered, handoffs.decline(offered, by, because=because, now_us=change.now_us), caller, change)

    def withdraw(self, handoff_id: str, by: str, because: str, caller: Caller, change: Change) -> Offer:
        offered = self.get(handoff_id)
        return self._end(offered, handoffs.withdraw(offered, by, because=because, now_us=change.now_us), caller, change)

    def get(self, handoff_id: str) -> Offer:
        """Raises HubError(not_found)."""
        found = self._open.get(handoff_id) or self._ended.get(handoff_id)
        if found is None:
            raise HubError(ErrorCode.NOT_FOUND, "there is no such offer", path="$.params.handoff_id")
        return found

    def _is_of_team(self, specialist_id: str, project_id: str) -> bool:
        known = specialist_id in self._roster
        return known and self._roster.specialist(specialist_id).team == self._tasks.project(project_id).team

    def _team(self, offered: Offer) -> str | None:
        project = self._tasks.projects.get(offered.request.project_id)
        return project.team if project is not None else None

    def _end(self, before: Offer, after: Offer, caller: Caller, change: Change) -> Offer:
        if after is not before:
            self._change(after, actor=caller.user, change=change)
        return after

    def _holder(self, request: HandOffOffer) -> Claim | None:
        project = self._tasks.projects.get(request.project_id)
        task = project.tasks.get(request.task_id) if project is not None else None
        if task is None or task.ended or task.specialist_id is None:
            return None
        return Claim(task.specialist_id, task.fence)

    def _change(self, offered: Offer, *, actor: str, change: Change) -> None:
        self._put(offered)
        for hear in self.listeners:
            hear(offered)
        request = offered.request
        change.keep(KIND, offered.handoff_id, offered, project_id=request.project_id, ended=offered.state != "OFFERED")
        change.note(KIND, offered.handoff_id, offered, actor=actor, project_id=request.project_id)
        told = handoffs.announcement(offered)
        change.tell(f"tasks:{request.project_id}", "HANDOFF", told)
        if request.to_specialist is not None:
            task = self._tasks.task(request.project_id, request.task_id)
            change.tell(f"agent:{request.to_specialist}", "TASK_STATUS_UPDATE", update_of(task))

    def _put(self, offered: Offer) -> None:
        if offered.state == "OFFERED":
            self._open[offered.handoff_id] = offered
            return
        self._open.pop(offered.handoff_id, None)
        self._ended[offered.handoff_id] = offered
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
