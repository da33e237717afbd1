"""Orders above a limit that others may let pass: four eyes, for one order, for a limited time.

Rule: an order that waits is in the engine. Here is only who has approved it so far: a restart forgets that, and they
are asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import convert
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import approval_id, approval_subject
from hub.trading.risk.desk import HUB, RiskDesk
from hub.trading.risk.officers import Officers, may
from hub.trading.risk.ports import Engine, stored
from hub.trading.risk.view import Override
from protocol.approvals import ApprovalAnswered, ApprovalDetail
from protocol.errors import ErrorCode, HubError
from protocol.operations import NoParams
from protocol.risk import ApprovalAnswer, ApprovalState, WaitingOrder, WaitingOrders
from storage.audit import AuditEntry
from storage.errors import StorageError
from storage.risk import RiskTable

logger = logging.getLogger("krin.risk")


class Approvals:
    def __init__(self, desk: RiskDesk, table: RiskTable, engine: Engine, *, officers: Officers, clock: Clock) -> None:
        self._desk = desk
        self._table = table
        self._engine = engine
        self._officers = officers
        self._clock = clock
        self._approvers: dict[str, dict[str, int]] = {}  # order_id -> who has approved it, and when

    async def approve(self, params: Mapping[str, Any], caller: Caller) -> ApprovalState:
        """Raises HubError(permission_denied, not_found, illegal_transition, not_available)."""
        asked: ApprovalAnswer = convert(params, ApprovalAnswer)
        order = await self._waiting(asked, caller)
        expires_us = self._expires_us(order)
        if expires_us <= self._clock.now_us():
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "the time to approve this order has run out")
        with stored():
            await self._table.note(_answered("order_approved", order, caller, asked))
        approvers = self._approvers.setdefault(order.order_id, {})
        approvers.setdefault(caller.user, self._clock.now_us())
        required = self._desk.limits_for(order).approvals_required
        if len(approvers) >= required:
            override = Override(order_id=order.order_id, approvers=frozenset(approvers), expires_us=expires_us)
            await self._engine().approve(order, override)
        return _state(order, approvers, required)

    async def decline(self, params: Mapping[str, Any], caller: Caller) -> ApprovalState:
        """Raises HubError(permission_denied, not_found, not_available)."""
        asked: ApprovalAnswer = convert(params, ApprovalAnswer)
        order = await self._waiting(asked, caller)
        with stored():
            await self._table.note(_answered("order_declined", order, caller, asked))
        await self._engine().deny(order, "APPROVAL_DECLINED", text=asked.reason or "declined", by=caller.user)
        approvers = self._approvers.get(order.order_id, {})
        return _state(order, approvers, self._desk.limits_for(order).approvals_required, declined=True)

    def waiting(self, params: Mapping[str, Any], caller: Caller) -> WaitingOrders:
        """Raises HubError(not_available)."""
        convert(params, NoParams)
        orders = [order for order in self._engine().awaiting_approval() if self._concerns(order, caller)]
        return WaitingOrders(orders=[self._described(order) for order in orders])

    def _concerns(self, order: Order, caller: Caller) -> bool:
        return caller.user == order.user or may(caller, role=self._desk.limits_for(order).approver_role)

    def _described(self, order: Order) -> WaitingOrder:
        limits = self._desk.limits_for(order)
        approvers = self._approvers.get(order.order_id, {})
        detail = ApprovalDetail(
            approval_id=approval_id(order),
            state="REQUESTED",
            subject=approval_subject(order),
            approver_roles=[limits.approver_role] if limits.approver_role is not None else [],
            quorum=limits.approvals_required,
            requested_by=order.user,
            requested_at=order.updated_us,
            expires_at=self._expires_us(order),
            answers=[
                ApprovalAnswered(user=user, decision="APPROVED", answered_at=at) for user, at in approvers.items()
            ],
        )
        return WaitingOrder(account=order.account, client_order_id=order.client_order_id, approval=detail)

    async def expire(self) -> None:
        """Deny what nobody approved in time, and forget what does not wait any more."""
        now_us = self._clock.now_us()
        waiting = list(self._engine().awaiting_approval())
        for order in waiting:
            if self._expires_us(order) <= now_us:
                try:
                    await self._engine().deny(order, "APPROVAL_EXPIRED", text="nobody approved in time", by=HUB)
                except (HubError, StorageError) as failure:
                    logger.warning("order %s waits on, though its time has run out: %s", order.order_id, failure)
        known = {order.order_id for order in waiting}
        self._approvers = {order_id: who for order_id, who in self._approvers.items() if order_id in known}

    async def _waiting(self, asked: ApprovalAnswer, caller: Caller) -> Order:
        """The order, if it waits and this caller may answer for it."""
        order = await self._found(asked)
        target = f"orders:{asked.account}"
        role = self._desk.limits_for(order).approver_role if order is not None else None
        self._officers.require(caller, target, role=role)
        self._officers.require_person(caller, target)
        if order is None or order.status != "PENDING_APPROVAL":
            raise HubError(ErrorCode.NOT_FOUND, "no such order waits for approval")
        if caller.user in (order.user, order.account):
            self._officers.refuse(caller, target, "somebody else must answer for this order")
        return order

    async def _found(self, asked: ApprovalAnswer) -> Order | None:
        try:
            return await self._engine().find(asked.account, asked.client_order_id)
        except HubError as failure:
            if failure.code is not ErrorCode.NOT_FOUND:
                raise
            return None

    def _expires_us(self, order: Order) -> int:
        """It waits since its last event."""
        return order.updated_us + self._desk.limits_for(order).approval_ttl_ms * 1000


def _answered(event: str, order: Order, caller: Caller, asked: ApprovalAnswer) -> AuditEntry:
    return AuditEntry(
        event=event,
        actor=caller.user,
        address=caller.address,
        target=f"orders:{order.account}",
        detail={"order_id": order.order_id, "reason": asked.reason or ""},
    )


def _state(order: Order, approvers: Collection[str], required: int, *, declined: bool = False) -> ApprovalState:
    return ApprovalState(
        account=order.account,
        client_order_id=order.client_order_id,
        approved_by=sorted(approvers),
        required=required,
        declined=declined,
    )
