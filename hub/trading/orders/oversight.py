"""The engine as risk control sees it, whether it is here or not."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from hub.trading.orders.leadership import Leadership
from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk.view import Override
from protocol.trading import TradingScope


class Oversight:
    """Implements hub.trading.risk.ports.Orders."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    def find(self, account: str, client_order_id: str) -> Order | None:
        return self._leadership.engine.blotter.find(account, client_order_id)

    def awaiting_approval(self) -> Iterable[Order]:
        term = self._leadership.term
        return term.engine.awaiting_approval() if term is not None else []

    def daily_results(self) -> Iterable[tuple[str, Decimal]]:
        term = self._leadership.term
        return term.engine.daily_results() if term is not None else []

    async def approve(self, order: Order, override: Override) -> None:
        await self._leadership.engine.approve(order, override)

    async def deny(self, order: Order, reason: Reason, *, text: str, by: str) -> None:
        await self._leadership.engine.deny(order, reason, text=text, by=by)

    async def cancel_scope(self, scope: TradingScope, name: str, *, by: str) -> int:
        return await self._leadership.engine.cancel_scope(scope, name, by=by)
