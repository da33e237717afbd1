"""Starting, stopping and watching strategies: the parameters and results of `strategies.*`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from protocol.fields import Count, DecimalString, Micros, Name, Symbol, Text
from protocol.trading import ClientOrderId

StrategyMode = Literal["RUNNING", "STOPPING", "STOPPED", "FAILED"]


class StrategyStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `strategies.start`. `strategy` is the kind, `strategy_id` this one's name; an account has one
    running strategy of a name."""

    account: Name
    strategy_id: ClientOrderId
    strategy: Name
    symbols: Annotated[list[Symbol], Meta(min_length=1, max_length=64)]
    parameters: dict[str, Any] = {}


class StrategyStop(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `strategies.stop`."""

    account: Name
    strategy_id: ClientOrderId


class StrategyList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `strategies.list`."""

    account: Name


class StrategyState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A run of a strategy, as the three methods answer it. `submitted`, `executions` and `positions` (what its orders
    have bought less what they have sold) are told while it runs and once more when it is stopped."""

    account: Name
    strategy_id: ClientOrderId
    strategy: Name
    symbols: list[Symbol]
    parameters: dict[str, Any] = {}
    state: StrategyMode
    reason: Text | None = None
    started_by: Name | None = None
    stopped_by: Name | None = None
    started_at: Micros | None = None
    ended_at: Micros | None = None
    submitted: Count = 0
    executions: Count = 0
    positions: dict[Symbol, DecimalString] = {}
