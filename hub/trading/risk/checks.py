"""The gate that every order passes on its way to a venue.

Rule: the first fault is the reason of a refusal; `check_all` names every fault.
"""

from __future__ import annotations

from decimal import localcontext
from typing import Literal

from hub.clock import Clock
from hub.trading.decimals import EXACT
from hub.trading.risk.decision import BY_THE_CHECKS, Approved, NeedsApproval, Outcome, Refused
from hub.trading.risk.rules import OVERRIDABLE, faults_of
from hub.trading.risk.view import RiskView
from protocol.trading import RiskDecision, RiskFault

Result = Literal["APPROVED", "REFUSED", "NEEDS_APPROVAL"]


class RiskChecks:
    """The one maker of approved orders."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    def check(self, view: RiskView) -> Outcome:
        """Whether the order may go to a venue. Stops at the first fault that nobody may let pass."""
        started = self._clock.monotonic()
        faults: list[RiskFault] = []
        with localcontext(EXACT):
            for fault in faults_of(view):
                if view.override is not None and fault.check in OVERRIDABLE:
                    continue
                faults.append(fault)
                if not _may_pass(fault, view):
                    return Refused(view.order, self._decision(view, "REFUSED", faults, started))
        if faults:
            return self._needs_approval(view, faults, started)
        return _approve(view, self._decision(view, "APPROVED", faults, started))

    def check_all(self, view: RiskView) -> RiskDecision:
        """The same, with every fault and without consequence."""
        started = self._clock.monotonic()
        with localcontext(EXACT):
            faults = list(faults_of(view))
        result: Result = "APPROVED"
        if faults:
            result = "NEEDS_APPROVAL" if all(_may_pass(fault, view) for fault in faults) else "REFUSED"
        return self._decision(view, result, faults, started)

    def _needs_approval(self, view: RiskView, faults: list[RiskFault], started: float) -> NeedsApproval:
        limits = view.limits
        assert limits.approver_role is not None
        return NeedsApproval(
            order=view.order,
            decision=self._decision(view, "NEEDS_APPROVAL", faults, started),
            role=limits.approver_role,
            required=limits.approvals_required,
            expires_us=view.facts.now_us + limits.approval_ttl_ms * 1000,
        )

    def _decision(self, view: RiskView, result: Result, faults: list[RiskFault], started: float) -> RiskDecision:
        order = view.order
        return RiskDecision(
            account=order.account,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            result=result,
            faults=faults,
            market=view.facts.market,
            strategy_id=order.strategy_id,
            config_version=view.version,
            latency_us=round((self._clock.monotonic() - started) * 1_000_000),
            ts_event=view.facts.now_us,
        )


def _may_pass(fault: RiskFault, view: RiskView) -> bool:
    """Whether people may let an order with this fault pass. A replacement does not wait: its order is in the market."""
    return fault.check in OVERRIDABLE and view.limits.approver_role is not None and view.replaces is None


def _approve(view: RiskView, decision: RiskDecision) -> Approved:
    order, before = view.order, view.replaces
    if before is None:
        return Approved(order, decision, made_by=BY_THE_CHECKS)
    return Approved(
        before,
        decision,
        made_by=BY_THE_CHECKS,
        qty=order.qty if order.qty != before.qty else None,
        price=order.price if order.price != before.price else None,
        stop_price=order.stop_price if order.stop_price != before.stop_price else None,
        trail=order.trail if order.trail != before.trail else None,
    )
