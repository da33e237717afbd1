"""Whatever somebody else has to agree to: the parameters and results of `approvals.*` and `tasks.request_input`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.fields import ChannelPart, Count, Micros, Name, Text

Decision = Literal["APPROVED", "DECLINED"]
ApprovalState = Literal["REQUESTED", "APPROVED", "DECLINED", "EXPIRED"]
ApprovalReason = Literal["TOOL_CALL", "INPUT_REQUIRED", "CONFIRMATION"]
MAX_QUORUM = 10
Roles = Annotated[list[ChannelPart], Meta(min_length=1, max_length=16)]
Quorum = Annotated[int, Meta(ge=1, le=MAX_QUORUM)]


class ApprovalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `approvals.request`. `quorum` different people of `approver_roles` have to agree to one payload.

    Without `approval_id` the hub gives one. `response_schema` is what an approving payload must fit; None: there is
    none to give. `gate_id`: once approved, this gate of the task is waived. `people_only`: what signed in as a program
    has no say.
    """

    approval_id: Name | None = None
    subject: Text
    reason: ApprovalReason = "CONFIRMATION"
    approver_roles: Roles
    quorum: Quorum = 1
    people_only: bool = True
    response_schema: dict[str, Any] | None = None
    project_id: ChannelPart | None = None
    task_id: Name | None = None
    gate_id: Name | None = None
    expires_at: Micros


class ApprovalResolve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `approvals.resolve`."""

    approval_id: Name
    decision: Decision
    payload: Any = None


class ApprovalGet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `approvals.get`."""

    approval_id: Name


class ApprovalList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `approvals.list`."""

    state: ApprovalState | None = None


class ApprovalAnswered(msgspec.Struct, frozen=True, kw_only=True):
    """Who has said what so far."""

    user: Text
    decision: Decision
    answered_at: Micros


class ApprovalDetail(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A request as it stands. It holds no payload: that is for whoever asked."""

    approval_id: Name
    state: ApprovalState
    subject: Text
    reason: ApprovalReason = "CONFIRMATION"
    approver_roles: list[Name]
    quorum: Count = 1
    people_only: bool = True
    response_schema: dict[str, Any] | None = None
    project_id: Name | None = None
    task_id: Name | None = None
    requested_by: Text
    requested_at: Micros
    expires_at: Micros
    answers: list[ApprovalAnswered] = []
    ended_at: Micros | None = None


class ApprovalResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `approvals.request`, `resolve` and `get`. `payload`: what was agreed on, of `get` by whoever asked."""

    approval: ApprovalDetail
    payload: Any = None


class ApprovalsFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `approvals.list`, the newest first."""

    approvals: list[ApprovalDetail]
