"""Orders: the engine on whichever node leads, and its methods on every node."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from prometheus_client.core import Metric

from hub.bootstrap.auth import Auth
from hub.bootstrap.channels import Channels
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.market import Market
from hub.bootstrap.rest import Rest
from hub.bootstrap.risk import open_risk
from hub.bootstrap.room import Room
from hub.bootstrap.strategies import open_strategies
from hub.bootstrap.venue import make_paper_venue
from hub.edge.orders import OrderRoutes
from hub.forwarding import Forwarding
from hub.observe.metrics import counter, gauge
from hub.observe.monitors import BusinessMetricsMonitor
from hub.trading.accounts import Account
from hub.trading.orders.disconnects import Disconnects
from hub.trading.orders.event import Event
from hub.trading.orders.leadership import TOPIC, OrderLeadership
from hub.trading.orders.order import CLOSED, Order
from hub.trading.orders.service import OrderService
from hub.trading.positions import PositionFeed
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.desk import RiskDesk
from storage.orders import OrderLog


class Trading(Room, frozen=True, kw_only=True):
    leadership: OrderLeadership
    disconnects: Disconnects


@asynccontextmanager
async def open_trading(
    ground: Ground, delivery: Delivery, auth: Auth, channels: Channels, market: Market, rest: Rest
) -> AsyncIterator[Trading]:
    settings, clock, view = ground.settings, ground.clock, market.follower.view
    desk = RiskDesk(RiskChecks(clock=clock))
    funds = {asset: Decimal(amount) for asset, amount in settings.trading.paper_balance.items()}
    async with ground.database.writer() as writer:
        log = OrderLog(ground.database, writer=writer)

        async def publish(
            channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
        ) -> None:
            await ground.dispatcher.publish(channel, type, msgspec.to_builtins(data), key=key)

        async def prepare(epoch: int) -> None:
            await risk.service.load(epoch)
            await market.follower.need()

        venue = make_paper_venue(
            settings.trading,
            instrument=view.instrument,
            position=lambda account, symbol: leadership.position(account, symbol),
            clock=clock,
        )
        leadership = OrderLeadership(
            log,
            delivery.durable,
            venue,
            desk,
            view,
            node=settings.node,
            funds=lambda name: Account(name=name, balances=funds),
            prepare=prepare,
            clock=clock,
        )
        view.listen(venue.hear)
        risk = open_risk(ground, channels, rest, desk, lambda: leadership.engine)
        strategies = open_strategies(ground, delivery, auth, channels, leadership, view, paper=venue.paper)
        positions = PositionFeed(view, publish, paper=venue.paper, clock=clock)
        leadership.listen(lambda order, event, account: positions.touch(account.name))
        leadership.listen(lambda order, event, account: _watch(order, event, ground.observability.business))
        leadership.accompany("positions", positions.run)
        orders = OrderService(leadership, log, access=channels.access)
        forwarding = Forwarding(
            {**orders.methods, **risk.service.methods, **strategies.methods},
            of="the order engine",
            topic=TOPIC,
            repeat="retry with the same client_order_id",
            node=settings.node,
            leads=lambda: leadership.leads,
            announce=delivery.broker.announce,
            as_hub_error=ground.dispatcher.as_hub_error,
            clock=clock,
        )
        delivery.broker.listen(TOPIC, forwarding.hear)
        disconnects = Disconnects(forwarding.methods["orders.cancel_all"], access=channels.access, clock=clock)
        routes = OrderRoutes(rest.service, ground.dispatcher, max_body_bytes=settings.limits.message_bytes)
        yield Trading(
            leadership=leadership,
            disconnects=disconnects,
            methods={**forwarding.methods, **disconnects.methods},
            routes=[*routes.routes, *risk.routes],
            metrics=lambda: [*risk.metrics(), *_measure(leadership)],
            tasks={
                **risk.tasks,
                "forwarded orders": forwarding.run,
                "cancel on disconnect": disconnects.run,
            },
            work={"order engine": leadership.run, "paper venue": venue.run},
        )


def _watch(order: Order, event: Event, business: BusinessMetricsMonitor) -> None:
    """An order ends once: what is said of it afterwards corrects it."""
    if order.status in CLOSED and event.exec_type not in ("TRADE_CANCEL", "TRADE_CORRECT"):
        business.order_ended(order.status)


def _measure(leadership: OrderLeadership) -> Iterable[Metric]:
    yield gauge("krin_orders_leading", "1 on the node that has the order engine.", float(leadership.leads))
    yield counter("krin_orders_terms", "How often this node has begun to lead.", leadership.terms)
    if (term := leadership.begun) is not None:
        engine = term.engine
        yield counter("krin_orders_commits", "Group commits of orders in this term.", term.journal.commits)
        yield gauge("krin_orders_known", "Orders in memory.", len(engine.blotter))
        yield counter("krin_orders_repeats", "Reports that the venue sent twice.", engine.repeats)
        yield counter("krin_orders_illegal", "Reports that could not be.", engine.illegal)
