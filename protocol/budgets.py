"""Budgets in tokens and dollars: the parameters and results of `budgets.*`, and what `BUDGET_ALERT` tells."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.coordination import Money
from protocol.fields import MAX_FLOAT, ChannelPart, Count, Micros, Name

BudgetKind = Literal["PROJECT", "AGENT"]


class BudgetReserve(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `budgets.reserve`: what a call will use at most. The same id again is the same reservation."""

    project_id: ChannelPart
    specialist_id: ChannelPart
    reservation_id: Name
    tokens: Count = 0
    usd: Money = "0"


class BudgetSettle(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `budgets.settle`: what it did use."""

    project_id: ChannelPart
    specialist_id: ChannelPart
    reservation_id: Name
    tokens: Count = 0
    usd: Money = "0"


class BudgetList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `budgets.list`."""

    project_id: ChannelPart


class BudgetUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How a budget stands; the data of BUDGET_ALERT. An agent's is of one day, counted from 1970. `percent` is of the
    limit that is nearest to its end."""

    kind: BudgetKind
    name: Name
    day: Count | None = None
    tokens: Count
    usd: Money
    limit_tokens: Count | None = None
    limit_usd: Money | None = None
    percent: Annotated[float, Meta(ge=0, le=MAX_FLOAT)]
    ts_event: Micros | None = None


class BudgetAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `budgets.reserve` and `budgets.settle`: the budgets that it touches and that have a limit."""

    budgets: list[BudgetUse]


class BudgetStanding(BudgetUse, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is `reserved` is part of what is used: calls that are not over, which count as spent until they are."""

    reserved_tokens: Count = 0
    reserved_usd: Money = "0"


class BudgetsFound(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `budgets.list`: those of the project and of its specialists today, where they have a limit."""

    budgets: list[BudgetStanding]
