"""What a team plans: parameters and results of `team.*`, and the messages about plans."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.coordination import Money, NextSteps, PlanChange, SpecialistUpdate, TeamPlan
from protocol.fields import ChannelPart, Count, Finite, Micros, Name, Text


class TeamPlanAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `team.plan` and `team.next_steps`."""

    project_id: ChannelPart


class TeamWhatIf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `team.what_if`: compared with the plan that was committed, or else the one proposed last."""

    project_id: ChannelPart
    change: PlanChange


class TeamCommit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `team.commit`: the plan that was proposed last."""

    project_id: ChannelPart
    plan_id: Name


class TeamSync(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `team.sync`: what specialists of one project report."""

    updates: Annotated[list[SpecialistUpdate], Meta(min_length=1, max_length=1000)]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the plan is compared with: the most important task first, to whoever takes it at the lowest price then."""

    objective: float
    makespan_h: float
    utilisation: dict[Name, float]
    unassigned: Count


class TeamPlanned(msgspec.Struct, frozen=True, kw_only=True):
    plan: TeamPlan
    greedy: Baseline


class TeamCommitted(msgspec.Struct, frozen=True, kw_only=True):
    plan: TeamPlan


class TeamSteps(msgspec.Struct, frozen=True, kw_only=True):
    next_steps: NextSteps


class PlanNotice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A plan was proposed, or it holds from now on. `assigned` and `unassigned` are numbers of tasks."""

    plan_id: Name
    project_id: Name
    assigned: Count
    unassigned: Count = 0
    makespan_h: Finite
    deadline_feasible: bool = True
    budget_used_usd: Money = "0"
    supersedes: Name | None = None
    by: Text = ""
    ts_event: Micros | None = None


class SecurityReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What security events the node that reports has seen since the report before, by name."""

    node: Name
    since: Micros
    allowed: dict[Name, Count] = {}
    denied: dict[Name, Count] = {}
    threats: dict[Name, Count] = {}
    ts_event: Micros | None = None
