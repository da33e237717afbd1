"""Strategies: beside the engine, told of what happens, trading with the rights of whoever started them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any

from hub.bootstrap.auth import Auth
from hub.bootstrap.channels import Channels
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.caller import Caller
from hub.channels.listening import InsideListener
from hub.trading.accounts import Account
from hub.trading.market.view import MarketMessage, MarketView
from hub.trading.orders.engine import Engine
from hub.trading.orders.event import Event
from hub.trading.orders.leadership import OrderLeadership
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import report_of
from hub.trading.risk.service import CHANNEL as TRADING_STATES
from hub.trading.strategies.service import Strategies
from protocol.errors import HubError
from protocol.messages import Call
from protocol.trading import Bar, PriceTick, Trade, TradingState
from storage.strategies import StrategyTable

RETRY_S = 1.0  # before the channel of the kill switches is asked for again


def open_strategies(
    ground: Ground,
    delivery: Delivery,
    auth: Auth,
    channels: Channels,
    leadership: OrderLeadership,
    view: MarketView,
    *,
    paper: bool,
) -> Strategies:
    async def call(method: str, params: Mapping[str, Any], caller: Caller) -> object:
        result = ground.dispatcher.handle(Call(id=1, method=method, params=dict(params)), caller)
        return await result if inspect.isawaitable(result) else result

    def hear_channel(channel: str, data: Any) -> None:
        if isinstance(data, Bar | TradingState):
            strategies.hear(data)

    def hear_market(message: MarketMessage) -> None:
        if isinstance(message, PriceTick | Trade):
            strategies.hear(message)

    def hear_order(order: Order, event: Event, account: Account) -> None:
        if order.strategy_id is not None:
            strategies.hear(report_of(order, event, None, paper=paper, now_us=ground.clock.now_us()))

    async def hear_switches() -> None:
        while True:
            try:
                return await listener.follow(TRADING_STATES)
            except HubError as failure:
                if not failure.code.temporary:
                    raise
            await ground.clock.sleep(RETRY_S)

    async def run(engine: Engine) -> None:
        """Orders do not wait for the broker: what the switches forbid is refused by the engine's own risk checks."""
        async with asyncio.TaskGroup() as group:
            group.create_task(hear_switches(), name="kill switches for strategies")
            await strategies.run(engine)

    listener = InsideListener(delivery.fanout, delivery.broker, namespaces=channels.namespaces, hear=hear_channel)
    strategies = Strategies(
        view,
        StrategyTable(ground.database),
        call=call,
        follow=listener.follow,
        leave=listener.leave,
        judge=auth.authentication.judge,
        access=channels.access,
        clock=ground.clock,
    )
    view.listen(hear_market)
    leadership.listen(hear_order)
    leadership.accompany("strategies", run)
    return strategies
