"""The `orders.*` methods. Whoever may publish to `orders:{account}` commands it; who may subscribe to it sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hub.caller import Caller
from hub.channels.access import Access, Action
from hub.dispatch import Method, convert
from hub.trading.orders.leadership import OrderLeadership
from hub.trading.permission import require_account
from hub.trading.risk.ports import stored
from protocol.trading import (
    CancelAllAfter,
    Canceled,
    ExecutionReport,
    OrderCancel,
    OrderCancelAll,
    OrderList,
    OrderPage,
    OrderReplace,
    OrderSubmit,
    RiskDecision,
    SwitchState,
)
from storage.orders import OrderLog


class OrderService:
    def __init__(self, leadership: OrderLeadership, log: OrderLog, *, access: Access) -> None:
        self._leadership = leadership
        self._log = log
        self._access = access
        self.methods: Mapping[str, Method] = {
            "orders.submit": self.submit,
            "orders.validate": self.validate,
            "orders.replace": self.replace,
            "orders.cancel": self.cancel,
            "orders.cancel_all": self.cancel_all,
            "orders.cancel_all_after": self.cancel_all_after,
            "orders.status": self.status,
            "orders.list": self.list,
        }

    async def submit(self, params: Mapping[str, Any], caller: Caller) -> ExecutionReport:
        asked: OrderSubmit = self._asked(params, OrderSubmit, caller)
        with stored():
            return await self._leadership.engine.submit(asked, user=caller.user)

    def validate(self, params: Mapping[str, Any], caller: Caller) -> RiskDecision:
        asked: OrderSubmit = self._asked(params, OrderSubmit, caller)
        return self._leadership.engine.validate(asked, user=caller.user)

    async def replace(self, params: Mapping[str, Any], caller: Caller) -> ExecutionReport:
        asked: OrderReplace = self._asked(params, OrderReplace, caller)
        with stored():
            return await self._leadership.engine.replace(asked, user=caller.user)

    async def cancel(self, params: Mapping[str, Any], caller: Caller) -> ExecutionReport:
        asked: OrderCancel = self._asked(params, OrderCancel, caller)
        with stored():
            return await self._leadership.engine.cancel(asked, user=caller.user)

    async def cancel_all(self, params: Mapping[str, Any], caller: Caller) -> Canceled:
        asked: OrderCancelAll = self._asked(params, OrderCancelAll, caller)
        count = await self._leadership.engine.cancel_all(asked, user=caller.user)
        return Canceled(account=asked.account, count=count)

    async def cancel_all_after(self, params: Mapping[str, Any], caller: Caller) -> SwitchState:
        asked: CancelAllAfter = self._asked(params, CancelAllAfter, caller)
        with stored():
            fires_at = await self._leadership.watch.arm(asked.account, asked.timeout_ms)
        return SwitchState(account=asked.account, fires_at=fires_at)

    async def status(self, params: Mapping[str, Any], caller: Caller) -> ExecutionReport:
        asked: OrderCancel = self._asked(params, OrderCancel, caller, "subscribe")
        with stored():
            return await self._leadership.engine.status(asked)

    async def list(self, params: Mapping[str, Any], caller: Caller) -> OrderPage:
        asked: OrderList = self._asked(params, OrderList, caller, "subscribe")
        engine = self._leadership.engine
        if asked.open:
            fits = [each for each in engine.open_orders(asked.account) if asked.symbol in (None, each.symbol)]
            return OrderPage(orders=[engine.describe(order) for order in reversed(fits)])
        with stored():
            found = await self._log.orders(asked.account, before=asked.before, symbol=asked.symbol, limit=asked.limit)
            orders = [engine.describe(await engine.recorded(order_id)) for order_id, _ in found]
        return OrderPage(orders=orders, next=found[-1][1] if len(found) == asked.limit else None)

    def _asked(self, params: Mapping[str, Any], kind: type[Any], caller: Caller, action: Action = "publish") -> Any:
        """Raises HubError(schema_invalid, permission_denied, mfa_required)."""
        asked = convert(params, kind)
        require_account(self._access, caller, action, asked.account)
        return asked
