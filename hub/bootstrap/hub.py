"""What the house is made of, in the order in which it is built."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from hub import __version__
from hub.bootstrap.accounts import open_accounts
from hub.bootstrap.audit import open_audit
from hub.bootstrap.auth import open_auth
from hub.bootstrap.caching import open_caching
from hub.bootstrap.calls import open_calls
from hub.bootstrap.channels import open_channels
from hub.bootstrap.connections import open_connections
from hub.bootstrap.coordination import open_coordination
from hub.bootstrap.delivery import Delivery, open_delivery
from hub.bootstrap.doors import open_doors
from hub.bootstrap.engine import open_engine
from hub.bootstrap.ground import open_ground
from hub.bootstrap.guard import open_guard
from hub.bootstrap.insights import open_insights
from hub.bootstrap.keys import load_audit_key, make_sealer, open_keys
from hub.bootstrap.knowledge import open_knowledge
from hub.bootstrap.learning import open_learning
from hub.bootstrap.market import open_market
from hub.bootstrap.operations import Exposition, open_exposition, open_operations
from hub.bootstrap.privacy import make_privacy, open_privacy
from hub.bootstrap.rest import open_rest
from hub.bootstrap.search import open_search
from hub.bootstrap.sockets import open_sockets
from hub.bootstrap.trading import open_trading
from hub.bootstrap.watch import open_watch
from hub.bootstrap.webhooks import open_webhooks
from hub.clock import Clock, SystemClock
from hub.config import Settings
from hub.connections.registry import Registry
from hub.dispatch import Dispatcher
from hub.edge.envelope import KrinAPIService
from hub.edge.websocket import WebSocketEndpoint
from hub.guard.limits import Limits
from hub.guard.threats import Threats
from hub.insight.calls.service import Calls
from hub.permissions import Permissions
from protocol.close_codes import CloseCode

TRADERS_FIRST = {"trader": 0, "agent": 1}
BROKER_START_S = 2.0
DRAIN_BATCH = 200
DRAIN_STEP_S = 0.05


class Hub(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge or a command may use. `api` makes endpoints for a program that embeds the hub."""

    settings: Settings
    clock: Clock
    dispatcher: Dispatcher
    delivery: Delivery
    registry: Registry
    limits: Limits
    threats: Threats
    permissions: Permissions
    websocket: WebSocketEndpoint
    api: KrinAPIService
    routes: Sequence[BaseRoute]
    answer_unrouted: Callable[[Request, HTTPException], Awaitable[Response]]
    exposition: Exposition
    calls: Calls

    def health(self) -> dict[str, Any]:
        """What works and what does not: OK, or DEGRADED with reasons. `insights`: from where they come now."""
        reasons = self.delivery.reasons()
        return {
            "status": "DEGRADED" if reasons else "OK",
            "reasons": reasons,
            "node": self.settings.node,
            "role": self.settings.role,
            "version": __version__,
            "connections": len(self.registry),
            "insights": "model" if self.calls.available else "rules",
        }

    @property
    def draining(self) -> bool:
        return self.websocket.draining

    async def drain(self) -> None:
        """Send every client away with a time to come back: trading clients first, spread over the drain window."""
        self.websocket.draining = True
        window_ms = int(self.settings.drain_timeout_s * 1000)
        connections = sorted(self.registry, key=lambda each: TRADERS_FIRST.get(each.caller.kind or "", 2))
        total = len(connections)
        for index in range(0, total, DRAIN_BATCH):
            for place, connection in enumerate(connections[index : index + DRAIN_BATCH], start=index):
                # Full spread: the first come back at once, the last at the end of the window.
                connection.close(CloseCode.DRAINING, retry_after_ms=100 + window_ms * place // max(total, 1))
            await self.clock.sleep(DRAIN_STEP_S)


@asynccontextmanager
async def open_hub(settings: Settings, *, clock: Clock | None = None, family: str | None = None) -> AsyncIterator[Hub]:
    """Build the hub, run its background tasks, and close everything in reverse.

    `family`: the name that all processes behind this one's port share.

    A background task that fails ends the hub with its error: a node that no longer hears must not keep its clients.
    """
    clock = clock or SystemClock()
    keys = open_keys(settings, clock)  # first: a wrong key should stop the start before anything has begun
    audit_key = load_audit_key(settings)
    sealer = make_sealer(settings)
    async with AsyncExitStack() as stack:
        ground = await stack.enter_async_context(open_ground(settings, clock))
        await make_privacy(settings, ground.database, clock=clock).reapply()  # before anybody is served

        audit = open_audit(ground, audit_key)  # before whatever has something to report
        delivery = await stack.enter_async_context(open_delivery(ground))
        auth = open_auth(ground, keys, delivery)
        connections = open_connections(ground, delivery)
        guard = await stack.enter_async_context(open_guard(ground, delivery, connections))
        channels = open_channels(ground, audit, delivery, connections, guard)
        market = open_market(ground, delivery, channels)
        calls = open_calls(ground)
        insights = open_insights(ground, channels, calls)
        rest = open_rest(ground, delivery, auth, guard, insights)
        trading = await stack.enter_async_context(open_trading(ground, delivery, auth, channels, market, rest))
        knowledge = open_knowledge(ground, channels, rest)
        team = await stack.enter_async_context(open_coordination(ground, delivery, guard, channels, rest))
        sockets = open_sockets(ground, delivery, auth, connections, guard, channels, trading, team)
        watch = await open_watch(ground, delivery, auth, sockets)
        accounts = open_accounts(ground, auth, connections, channels, watch, rest, sealer)
        privacy = open_privacy(ground, guard, watch, rest)
        learning = open_learning(ground, delivery, connections)
        operations = open_operations(
            ground, delivery, connections, health=delivery.reasons, scale_hint=lambda: learning.load.scale_hint
        )
        doors = open_doors(ground, auth, guard, rest, sockets)
        webhooks = await stack.enter_async_context(open_webhooks(ground, audit, delivery, auth, channels, rest, sealer))
        caching = await stack.enter_async_context(open_caching(ground))
        search = open_search(ground, audit, delivery, connections, guard, channels, rest, caching)
        engine = open_engine(ground, handlers=insights.jobs)
        rooms = (
            *(ground, audit, auth, delivery, connections, guard, channels),
            *(
                market,
                insights,
                rest,
                trading,
                team,
                knowledge,
                sockets,
                watch,
                accounts,
                privacy,
                learning,
                operations,
                doors,
                webhooks,
                calls,
                caching,
                search,
                engine,
            ),
        )

        for room in rooms:
            ground.dispatcher.add(room.handlers, room.methods)
        hub = Hub(
            settings=settings,
            clock=clock,
            dispatcher=ground.dispatcher,
            delivery=delivery,
            registry=connections.registry,
            limits=guard.limits,
            threats=guard.threats,
            permissions=ground.permissions,
            websocket=sockets.endpoint,
            api=rest.service,
            routes=[route for room in rooms for route in room.routes],
            answer_unrouted=rest.service.answer_unrouted,
            exposition=open_exposition(ground, delivery, connections, rooms, family=family),
            calls=calls.calls,
        )
        async with asyncio.TaskGroup() as group:
            leads = settings.role != "gateway"
            tasks = [
                group.create_task(run(), name=name)
                for room in rooms
                for name, run in (*room.tasks.items(), *(room.work.items() if leads else ()))
            ]
            try:
                with contextlib.suppress(TimeoutError):  # without Redis the node is degraded, not dead
                    async with asyncio.timeout(BROKER_START_S):
                        await delivery.broker.connected()
                        if leads:
                            await trading.leadership.decided.wait()
                            await team.coordination.decided.wait()
                yield hub
            finally:
                for task in tasks:
                    task.cancel()
