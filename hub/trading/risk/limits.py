"""The limits an order is held against, in layers: what a narrower scope says replaces what a wider one says.

Pure. From wide to narrow: the built-in defaults, GLOBAL, ACCOUNT, STRATEGY, SYMBOL.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from protocol.risk import RiskLimits
from protocol.trading import QuoteState

QUALITY: tuple[QuoteState, ...] = ("HALTED", "STALE", "DISPUTED", "DEGRADED", "LIVE")  # from worst to best


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for one order; `protocol.risk.RiskLimits` says what each means. None: no limit."""

    allow_symbols: tuple[str, ...] | None = None
    deny_symbols: tuple[str, ...] = ()
    max_qty: Decimal | None = None
    min_notional: Decimal | None = None
    max_notional: Decimal | None = Decimal(10_000)
    collar_bps: int | None = 500
    passive_collar_bps: int | None = None
    max_ref_age_ms: int | None = 2_000
    min_quality: QuoteState = "DEGRADED"
    submit_rate: int | None = 100
    modify_rate: int | None = 100
    rate_window_ms: int = 1_000
    duplicate_count: int | None = 3
    duplicate_window_ms: int = 1_000
    max_open_orders_symbol: int | None = 25
    max_open_orders: int | None = 200
    max_position: Decimal | None = None
    max_gross: Decimal | None = None
    max_net: Decimal | None = None
    allow_short: bool = True
    max_daily_loss: Decimal | None = None
    allow_self_trade: bool = False
    max_executions: int | None = None
    execution_window_ms: int = 60_000
    approver_role: str | None = None
    approvals_required: int = 1
    approval_ttl_ms: int = 300_000


def layered(layers: Iterable[RiskLimits]) -> Limits:
    """The limits in force, from the widest layer to the narrowest."""
    said: dict[str, Any] = {}
    for layer in layers:
        said |= msgspec.to_builtins(layer)  # what a layer leaves open is not in it
    return msgspec.convert(said, Limits)


def in_words(limits: Limits) -> RiskLimits:
    """As they go over the wire, with nothing left open."""
    return msgspec.convert(msgspec.to_builtins(limits), RiskLimits)
