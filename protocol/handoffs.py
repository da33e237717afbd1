"""A task offered by whoever has it to another: the parameters and results of `handoffs.*`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.coordination import TaskSpec, TaskUpdate
from protocol.fields import ChannelPart, Count, Micros, Name, Text

OfferState = Literal["OFFERED", "ACCEPTED", "DECLINED", "EXPIRED", "WITHDRAWN"]


class HandOffOffer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `handoffs.offer`. To one specialist, or to whoever has `to_skill` and accepts first. Without
    `handoff_id` the hub gives one."""

    handoff_id: Name | None = None
    project_id: ChannelPart
    task_id: Name
    specialist_id: ChannelPart
    fence: Count
    to_specialist: ChannelPart | None = None
    to_skill: Name | None = None
    reason: Text = ""
    summary: Text = ""
    artifacts: Annotated[list[dict[str, Any]], Meta(max_length=100)] = []
    expires_at: Micros


class HandOffAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `handoffs.accept`, `decline` and `withdraw`."""

    handoff_id: Name
    specialist_id: ChannelPart
    reason: Text = ""


class HandOffList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `handoffs.list`: those that may still be answered, of a project, or from or to a specialist."""

    project_id: ChannelPart | None = None
    specialist_id: ChannelPart | None = None


class HandOffDetail(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An offer as it stands. `by`: who ended it; absent: nobody has, or time did."""

    handoff_id: Name
    project_id: Name
    task_id: Name
    from_specialist: Name
    to_specialist: Name | None = None
    to_skill: Name | None = None
    state: OfferState
    reason: Text = ""
    summary: Text = ""
    artifacts: list[dict[str, Any]] = []
    offered_at: Micros
    expires_at: Micros
    by: Name | None = None
    because: Text = ""
    ended_at: Micros | None = None


class HandOffResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `handoffs.offer`, `decline`, `withdraw` and `accept`; the latter brings the task and its claim."""

    handoff: HandOffDetail
    task: TaskUpdate | None = None
    spec: TaskSpec | None = None
    fence: Count | None = None
    lease_until: Micros | None = None


class HandOffsFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `handoffs.list`, the oldest first."""

    handoffs: list[HandOffDetail]
