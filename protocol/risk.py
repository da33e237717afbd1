"""The vocabulary of risk control: limits, kill switches, and what is asked of the `risk.*` methods."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocol.approvals import ApprovalDetail
from protocol.fields import Count, Name, Quantity, Symbol, Text
from protocol.trading import ClientOrderId, QuoteState, TradingMode, TradingScope, TradingState

Symbols = Annotated[tuple[Symbol, ...], Meta(max_length=1000)]
BasisPoints = Annotated[int, Meta(ge=1, le=100_000)]
Rate = Annotated[int, Meta(ge=1, le=10_000)]
WindowMs = Annotated[int, Meta(ge=1, le=3_600_000, description="milliseconds")]


class RiskLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one scope says of the limits. A field that is absent leaves the word to the wider scope; null: no limit.

    allow_symbols, deny_symbols: what may be traded. max_qty, min_notional, max_notional: of one order, the notional in
    the quote asset. collar_bps: how far a price may reach across the reference (a buy above it, a sell below);
    passive_collar_bps: how far away on its own side. max_ref_age_ms, min_quality: what the reference must be.
    submit_rate, modify_rate: commands of an account in rate_window_ms. duplicate_count: so many orders of one account
    with the same symbol, side, quantity and price within duplicate_window_ms are an error, and the last is refused.
    max_open_orders_symbol, max_open_orders: of an account. max_position: of a symbol, long or short, if every open
    order fills. max_gross, max_net: of an account, in the order's quote asset, if every open order fills. allow_short:
    whether more may be sold than is held. max_daily_loss: in the quote asset, since midnight UTC; then the account may
    only reduce. allow_self_trade: whether an order with `stp_mode` NONE may meet the account's own. max_executions: so
    many trades of a strategy within execution_window_ms halt it until a named person resumes it. approver_role: who may
    let an order above max_qty, max_notional, the collar, max_position, max_gross or max_net pass; null: nobody.
    approvals_required: how many of them, the submitter not among them. approval_ttl_ms: how long they have.
    """

    allow_symbols: Symbols | UnsetType | None = UNSET
    deny_symbols: Symbols | UnsetType = UNSET
    max_qty: Quantity | UnsetType | None = UNSET
    min_notional: Quantity | UnsetType | None = UNSET
    max_notional: Quantity | UnsetType | None = UNSET
    collar_bps: BasisPoints | UnsetType | None = UNSET
    passive_collar_bps: BasisPoints | UnsetType | None = UNSET
    max_ref_age_ms: Annotated[int, Meta(ge=1)] | UnsetType | None = UNSET
    min_quality: QuoteState | UnsetType = UNSET
    submit_rate: Rate | UnsetType | None = UNSET
    modify_rate: Rate | UnsetType | None = UNSET
    rate_window_ms: WindowMs | UnsetType = UNSET
    duplicate_count: Annotated[int, Meta(ge=2, le=10000)] | UnsetType | None = UNSET
    duplicate_window_ms: WindowMs | UnsetType = UNSET
    max_open_orders_symbol: Count | UnsetType | None = UNSET
    max_open_orders: Count | UnsetType | None = UNSET
    max_position: Quantity | UnsetType | None = UNSET
    max_gross: Quantity | UnsetType | None = UNSET
    max_net: Quantity | UnsetType | None = UNSET
    allow_short: bool | UnsetType = UNSET
    max_daily_loss: Quantity | UnsetType | None = UNSET
    allow_self_trade: bool | UnsetType = UNSET
    max_executions: Rate | UnsetType | None = UNSET
    execution_window_ms: WindowMs | UnsetType = UNSET
    approver_role: Name | UnsetType | None = UNSET
    approvals_required: Annotated[int, Meta(ge=1, le=10)] | UnsetType = UNSET
    approval_ttl_ms: Annotated[int, Meta(ge=1000, le=86_400_000)] | UnsetType = UNSET


class LimitLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one scope says. `name` is the account, strategy or symbol; GLOBAL has `*`."""

    scope: TradingScope
    name: Name = "*"
    limits: RiskLimits


class LimitsOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `risk.limits`."""

    account: Name
    strategy_id: Name | None = None
    symbol: Symbol | None = None


class SetLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `risk.set_limits`: from now on the scope says this and nothing else.

    `expected_version`: only if nothing has changed since that version was read.
    """

    scope: TradingScope
    name: Name = "*"
    limits: RiskLimits
    expected_version: Count | None = None


class LimitsInForce(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `risk.limits` and `risk.set_limits`: what each scope says, wide to narrow, and what comes of it."""

    version: Count
    layers: list[LimitLayer]
    limits: RiskLimits


class Halt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `risk.halt`, the kill switch. `cancel`: also cancel the open orders of the scope."""

    scope: TradingScope
    name: Name = "*"
    mode: TradingMode = "HALTED"
    reason: Text
    cancel: bool = True

    def __post_init__(self) -> None:
        if self.mode == "ACTIVE":
            raise ValueError("`mode` is HALTED or REDUCING; `risk.resume` ends it")


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `risk.resume`."""

    scope: TradingScope
    name: Name = "*"
    reason: Text | None = None


class StateChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `risk.halt` and `risk.resume`. `canceled` counts the orders that were asked to be canceled."""

    state: TradingState
    canceled: Count = 0


class RiskState(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `risk.state`: every scope that is not ACTIVE, and the version of the limits."""

    version: Count
    states: list[TradingState]


class ApprovalAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Parameters of `risk.approve` and `risk.decline`: an order that waits for approval."""

    account: Name
    client_order_id: ClientOrderId
    reason: Text | None = None


class WaitingOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that waits for approval, by the names it is approved or declined under."""

    account: Name
    client_order_id: ClientOrderId
    approval: ApprovalDetail


class WaitingOrders(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `risk.waiting`: those that the caller may approve, or has placed."""

    orders: list[WaitingOrder]


class ApprovalState(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `risk.approve` and `risk.decline`. `approved_by` are those who have, `required` how many must."""

    account: Name
    client_order_id: ClientOrderId
    approved_by: list[Name]
    required: Count
    declined: bool = False
