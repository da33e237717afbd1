"""An engine without a market: what risk control asks of it is done to a table of orders."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from msgspec.structs import replace

from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk.view import Override
from protocol.errors import ErrorCode, HubError
from protocol.trading import TradingScope


class EngineDouble:
    def __init__(self) -> None:
        self.orders: dict[tuple[str, str], Order] = {}
        self.results: dict[str, Decimal] = {}
        self.overrides: list[Override] = []
        self.denied: list[tuple[str, Reason, str]] = []
        self.canceled: list[tuple[TradingScope, str]] = []
        self.away = False

    def wait_for_approval(self, client_order_id: str, *, now_us: int, user: str = "ann") -> Order:
        order = Order(
            order_id=f"o-{client_order_id}",
            account="ann",
            client_order_id=client_order_id,
            user=user,
            symbol="BTC-USD",
            side="BUY",
            order_type="LIMIT",
            qty=Decimal(6),
            price=Decimal(100),
            leaves_qty=Decimal(6),
            status="PENDING_APPROVAL",
            updated_us=now_us,
        )
        self.orders["ann", client_order_id] = order
        return order

    async def find(self, account: str, client_order_id: str) -> Order:
        try:
            return self.orders[account, client_order_id]
        except KeyError:
            raise HubError(ErrorCode.NOT_FOUND, "no such order") from None

    def awaiting_approval(self) -> Iterable[Order]:
        return [order for order in self.orders.values() if order.status == "PENDING_APPROVAL"]

    def daily_results(self) -> Iterable[tuple[str, Decimal]]:
        return self.results.items()

    async def approve(self, order: Order, override: Override) -> None:
        self.overrides.append(override)
        self.orders[order.account, order.client_order_id] = replace(order, status="PENDING_NEW")

    async def deny(self, order: Order, reason: Reason, *, text: str, by: str) -> None:
        self.denied.append((order.client_order_id, reason, by))
        self.orders[order.account, order.client_order_id] = replace(order, status="DENIED")

    async def cancel_scope(self, scope: TradingScope, name: str, *, by: str) -> int:
        if self.away:
            raise HubError(ErrorCode.NOT_AVAILABLE, "the term is over")
        self.canceled.append((scope, name))
        return 3
