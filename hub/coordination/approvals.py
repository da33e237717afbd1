"""Approvals: one protocol for whatever somebody else has to agree to (a tool call, a waiver, an order over its limit).

Rules: silence is never consent, one refusal ends it, nobody agrees to what they asked for themselves, and an answer
sent again is the same answer. Pure: time is an argument, and each answer makes a new value.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.coordination.answers import check_answer, read_schema, same_json
from protocol.approvals import ApprovalAnswered, ApprovalDetail, ApprovalRequest, ApprovalState, Decision
from protocol.coordination import Approval
from protocol.errors import ErrorCode, HubError

MAX_ANSWERS = 100  # people who agree, each to something else, do not fill the memory
MAX_TTL_US = 30 * 86_400_000_000


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one person said. `answered_us` in microseconds."""

    user: str
    decision: Decision
    payload: Any = None
    answered_us: int


class ApprovalCase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request, and what has been answered. `payload` is what was agreed on, once it is APPROVED, or why not."""

    approval_id: str
    request: ApprovalRequest
    requested_by: str
    requested_us: int
    state: ApprovalState = "REQUESTED"
    answers: tuple[Answer, ...] = ()
    payload: Any = None
    ended_us: int | None = None


def ask(approval_id: str, request: ApprovalRequest, *, requested_by: str, now_us: int) -> ApprovalCase:
    """Raises HubError(bad_request, schema_invalid): what nobody could answer, or whose answers nobody could check."""
    if not now_us < request.expires_at <= now_us + MAX_TTL_US:
        raise HubError(
            ErrorCode.BAD_REQUEST, "An approval expires within 30 days from now.", path="$.params.expires_at"
        )
    if request.response_schema is not None:
        read_schema(request.response_schema)
    return ApprovalCase(approval_id=approval_id, request=request, requested_by=requested_by, requested_us=now_us)


def may_answer(case: ApprovalCase, caller: Caller) -> bool:
    """Whether this is one of those who are asked, and not the one who asks."""
    return (
        not caller.roles.isdisjoint(case.request.approver_roles)
        and caller.user != case.requested_by
        and not (case.request.people_only and caller.principal == "machine")
    )


def resolve(case: ApprovalCase, decision: Decision, payload: Any, caller: Caller, *, now_us: int) -> ApprovalCase:
    """The case after the answer; the very same case when this caller has given this answer before.

    Raises HubError(permission_denied, illegal_transition, idempotency_conflict, schema_invalid, limit_exceeded).
    """
    if not may_answer(case, caller):
        raise HubError(ErrorCode.PERMISSION_DENIED, "Somebody else has to answer this.")
    answer = Answer(user=caller.user, decision=decision, payload=payload, answered_us=now_us)
    given = next((each for each in case.answers if each.user == caller.user), None)
    if given is not None:
        if given.decision == decision and same_json(given.payload, payload):
            return case
        raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "You have given another answer before.")
    if case.state != "REQUESTED" or due(case, now_us=now_us):
        raise HubError(ErrorCode.ILLEGAL_TRANSITION, "This is decided, or its time has run out.")
    if len(case.answers) >= MAX_ANSWERS:
        raise HubError(ErrorCode.LIMIT_EXCEEDED, "Too many answers, and no agreement.")
    _check_payload(case.request, decision, payload)
    return _decided(replace(case, answers=(*case.answers, answer)), answer)


def due(case: ApprovalCase, *, now_us: int) -> bool:
    """Whether nobody has decided in time. Holds from `expires_at` on, whether or not `expire` has been called yet."""
    return case.state == "REQUESTED" and now_us >= case.request.expires_at


def expire(case: ApprovalCase, *, now_us: int) -> ApprovalCase:
    """EXPIRED, which counts as declined, once its time has run out; else the very same case."""
    return replace(case, state="EXPIRED", ended_us=now_us) if due(case, now_us=now_us) else case


def announcement(case: ApprovalCase) -> Approval:
    """The message that tells how it stands. It holds no payload: that is for whoever asked."""
    ended = case.state in ("APPROVED", "DECLINED")
    return Approval(
        approval_id=case.approval_id,
        state=case.state,
        subject=case.request.subject,
        requested_by=case.requested_by,
        resolved_by=case.answers[-1].user if ended else None,
        task_id=case.request.task_id,
        expires_at=case.request.expires_at,
        ts_event=case.ended_us if case.ended_us is not None else case.requested_us,
    )


def detail(case: ApprovalCase) -> ApprovalDetail:
    """All of it but the payloads."""
    request = case.request
    return ApprovalDetail(
        approval_id=case.approval_id,
        state=case.state,
        subject=request.subject,
        reason=request.reason,
        approver_roles=request.approver_roles,
        quorum=request.quorum,
        people_only=request.people_only,
        response_schema=request.response_schema,
        project_id=request.project_id,
        task_id=request.task_id,
        requested_by=case.requested_by,
        requested_at=case.requested_us,
        expires_at=request.expires_at,
        answers=[
            ApprovalAnswered(user=each.user, decision=each.decision, answered_at=each.answered_us)
            for each in case.answers
        ],
        ended_at=case.ended_us,
    )


def withdraw(case: ApprovalCase, *, now_us: int) -> ApprovalCase:
    """EXPIRED before its time, because what it was asked for is over; the very same case once it has ended."""
    return replace(case, state="EXPIRED", ended_us=now_us) if case.state == "REQUESTED" else case


def _check_payload(request: ApprovalRequest, decision: Decision, payload: Any) -> None:
    """Only consent has to be usable: nothing keeps anybody from saying no."""
    if decision == "DECLINED":
        return
    if request.response_schema is not None:
        check_answer(read_schema(request.response_schema), payload)
    elif payload is not None:
        raise HubError(ErrorCode.SCHEMA_INVALID, "No payload was asked for.", path="$.params.payload")


def _decided(case: ApprovalCase, last: Answer) -> ApprovalCase:
    if last.decision == "DECLINED":
        return replace(case, state="DECLINED", payload=last.payload, ended_us=last.answered_us)
    agreeing = [each for each in case.answers if same_json(each.payload, last.payload)]
    if len(agreeing) < case.request.quorum:
        return case
    return replace(case, state="APPROVED", payload=last.payload, ended_us=last.answered_us)
