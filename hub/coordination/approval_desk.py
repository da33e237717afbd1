"""What waits for somebody's consent: requests, answers and what follows from them, on the node that coordinates.

Rule: memory changes with the decision, and whoever asked is answered after the commit. Nothing here awaits.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from hub.caller import Caller
from hub.coordination import approvals
from hub.coordination.approvals import ApprovalCase
from hub.coordination.desk import Project, TaskDesk, update_of
from hub.coordination.gates import WAIVERS
from hub.coordination.journal import HUB, Change
from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.task import Task
from hub.coordination.tasks.transitions import AUTH_REQUIRED
from protocol.approvals import ApprovalReason, ApprovalRequest, ApprovalResolve
from protocol.coordination import Interrupt, QuestionReason
from protocol.errors import ErrorCode, HubError
from protocol.team import TaskRequestInput

KIND = "approval"
ORDERS = "order:"  # begins the approval_id of orders, which are not answered here
MAX_OPEN, MAX_OPEN_OF_TEAM = 10_000, 1_000  # what is of no project counts for whoever asks
MAX_ENDED = 1_000  # that are remembered; older ones are in the records
REASONS: Mapping[QuestionReason, ApprovalReason] = {"TOOL_CALL": "TOOL_CALL", "CONFIRMATION": "CONFIRMATION"}

_decode = msgspec.json.Decoder(ApprovalCase).decode


class Waive(Protocol):
    """Waives a gate of a task, because that was approved. Raises HubError."""

    def __call__(self, case: ApprovalCase, by: Caller, change: Change) -> object: ...


class ApprovalDesk:
    def __init__(self, tasks: TaskDesk, *, waive: Waive) -> None:
        self._tasks = tasks
        self._waive = waive
        self._open: dict[str, ApprovalCase] = {}
        self._ended: dict[str, ApprovalCase] = {}  # the oldest first
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self.recall}
        tasks.listeners.append(self._hear)
        tasks.leaving.append(self._leave)

    def recall(self, body: bytes) -> None:
        """From its record."""
        self._put(_decode(body))

    def restored(self, now_us: int) -> None:
        """Nothing else is needed."""

    def tick(self, change: Change) -> None:
        for case in [each for each in self._open.values() if approvals.due(each, now_us=change.now_us)]:
            self._change(case, approvals.expire(case, now_us=change.now_us), actor=HUB, change=change)
            task = self._asking(case)
            if task is not None and task.position == AUTH_REQUIRED:  # which knows no end of its own
                reason = "nobody signed in in time"
                self._tasks.act(task.project_id, task.task_id, "CANCEL", actor=HUB, change=change, reason=reason)

    def __contains__(self, approval_id: object) -> bool:
        return approval_id in self._open or approval_id in self._ended

    def case(self, approval_id: str) -> ApprovalCase:
        """Raises HubError(not_found)."""
        case = self._open.get(approval_id) or self._ended.get(approval_id)
        if case is None:
            raise not_found()
        return case

    def cases(self) -> Iterable[ApprovalCase]:
        """All that are open, and those that ended last."""
        return [*self._open.values(), *self._ended.values()]

    def request(self, asked: ApprovalRequest, caller: Caller, change: Change) -> ApprovalCase:
        """The same again is the same request.

        Raises HubError(bad_request, schema_invalid, idempotency_conflict, limit_exceeded).
        """
        approval_id = asked.approval_id or secrets.token_hex(8)
        if approval_id.startswith(ORDERS):
            raise HubError(ErrorCode.BAD_REQUEST, "this is how orders are named", path="$.params.approval_id")
        if asked.gate_id is not None:
            self._check_waiver(asked)
        if approval_id in self:
            known = self.case(approval_id)
            if (known.request, known.requested_by) != (asked, caller.user):
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "another request has this approval_id")
            return known
        if len(self._open) >= MAX_OPEN:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_OPEN} approvals are waited for")
        whose = self._whose(asked, caller.user)
        if sum(self._whose(each.request, each.requested_by) == whose for each in self._open.values()) >= (
            MAX_OPEN_OF_TEAM
        ):
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_OPEN_OF_TEAM} approvals of a team are waited for")
        case = approvals.ask(approval_id, asked, requested_by=caller.user, now_us=change.now_us)
        self._change(None, case, actor=caller.user, change=change)
        return case

    def _check_waiver(self, asked: ApprovalRequest) -> None:
        """Who asks names who answers, but a waiver is only for those to give who could waive the gate themselves."""
        self._tasks.task(asked.project_id or "", asked.task_id or "")
        if not WAIVERS.issuperset(asked.approver_roles):
            roles = ", ".join(sorted(WAIVERS))
            raise HubError(ErrorCode.PERMISSION_DENIED, f"gates are waived by {roles}", path="$.params.approver_roles")

    def ask_about(self, asked: TaskRequestInput, caller: Caller, change: Change) -> tuple[Task, ApprovalCase]:
        """A question of whoever has a task: the task waits until it is answered. Raises as `request`, and as `act`."""
        approval_id = secrets.token_hex(8)
        request = ApprovalRequest(
            approval_id=approval_id,
            subject=asked.message,
            reason=REASONS.get(asked.reason, "INPUT_REQUIRED"),
            approver_roles=asked.approver_roles,
            quorum=asked.quorum,
            response_schema=asked.response_schema,
            project_id=asked.project_id,
            task_id=asked.task_id,
            expires_at=asked.expires_at,
        )
        approvals.ask(approval_id, request, requested_by=caller.user, now_us=change.now_us)  # or nothing happens at all
        auth = asked.reason == "AUTH"
        task = self._tasks.say(
            asked,
            "REQUEST_AUTH" if auth else "REQUEST_INPUT",
            actor=caller.user,
            change=change,
            message=asked.message,
            interrupt=Interrupt(
                interrupt_id=approval_id,
                reason=asked.reason,
                expires_at=None if auth else asked.expires_at,
                on_expiry=asked.on_expiry,
            ),
        )
        return task, self.request(request, caller, change)

    def resolve(self, asked: ApprovalResolve, caller: Caller, change: Change) -> ApprovalCase:
        """Raises HubError(not_found, permission_denied, illegal_transition, idempotency_conflict, schema_invalid)."""
        case = self.case(asked.approval_id)
        after = approvals.resolve(case, asked.decision, asked.payload, caller, now_us=change.now_us)
        if after is case:
            return case
        if after.state == "APPROVED" and after.request.gate_id is not None:
            self._waive(after, caller, change)  # first: one that cannot be waived is not approved
        self._change(case, after, actor=caller.user, change=change)
        task = self._asking(after)
        if after.state in ("APPROVED", "DECLINED") and task is not None:
            answer = {"approval_id": after.approval_id, "decision": after.state, "payload": after.payload}
            resolved = self._tasks.act(
                task.project_id,
                task.task_id,
                "RESOLVE",
                actor=caller.user,
                change=change,
                interrupt_id=after.approval_id,
                answer=answer,
            )
            change.tell(f"agent:{resolved.specialist_id}", "TASK_STATUS_UPDATE", update_of(resolved))
        return after

    def _hear(self, before: Task | None, task: Task, event: TaskEvent, change: Change) -> None:
        """A question ends with what it was asked for."""
        if before is None or before.interrupt is None or task.interrupt == before.interrupt:
            return
        case = self._open.get(before.interrupt.interrupt_id)
        if case is not None:
            self._change(case, approvals.withdraw(case, now_us=change.now_us), actor=event.actor, change=change)

    def _whose(self, request: ApprovalRequest, by: str) -> tuple[str, str]:
        """What a request counts for: a team, or a user."""
        project = self._tasks.projects.get(request.project_id or "")
        return ("team", project.team) if project is not None else ("user", by)

    def _leave(self, project: Project, change: Change) -> None:
        """It ends, and what was asked in it with it."""
        for case in [each for each in self._open.values() if each.request.project_id == project.project_id]:
            self._change(case, approvals.withdraw(case, now_us=change.now_us), actor=HUB, change=change)

    def _asking(self, case: ApprovalCase) -> Task | None:
        """The task that waits for this."""
        project = self._tasks.projects.get(case.request.project_id or "")
        task = project.tasks.get(case.request.task_id or "") if project is not None else None
        asks = task is not None and task.interrupt is not None and task.interrupt.interrupt_id == case.approval_id
        return task if asks else None

    def _change(self, before: ApprovalCase | None, case: ApprovalCase, *, actor: str, change: Change) -> None:
        if before is case:
            return
        self._put(case)
        project_id = case.request.project_id or ""
        change.keep(KIND, case.approval_id, case, project_id=project_id, ended=case.state != "REQUESTED")
        change.note(KIND, case.approval_id, case, actor=actor, project_id=project_id)
        if before is None or case.state != before.state:
            type_name = "APPROVAL_REQUESTED" if case.state == "REQUESTED" else "APPROVAL_RESOLVED"
            for role in dict.fromkeys(case.request.approver_roles):
                change.tell(f"approvals:{role}", type_name, approvals.announcement(case))

    def _put(self, case: ApprovalCase) -> None:
        if case.state == "REQUESTED":
            self._open[case.approval_id] = case
            return
        self._open.pop(case.approval_id, None)
        self._ended[case.approval_id] = case
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]


def not_found() -> HubError:
    return HubError(ErrorCode.NOT_FOUND, "there is no such approval", path="$.params.approval_id")


def concerns(case: ApprovalCase, caller: Caller) -> bool:
    """Whether it is the caller's business: to answer it, or because they asked."""
    return caller.user == case.requested_by or approvals.may_answer(case, caller)


def open_payload(case: ApprovalCase, caller: Caller) -> Any:
    """What was agreed on, for whoever asked."""
    return case.payload if caller.user == case.requested_by else None
