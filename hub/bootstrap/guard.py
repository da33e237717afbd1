"""How much anybody may ask for, and who misbehaves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from prometheus_client.core import Metric

from hub.bootstrap.connections import Connections
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room, Task
from hub.connections.registry import Registry
from hub.guard.addresses import networks
from hub.guard.limits import Limits, table_of
from hub.guard.sharing import RedisCounters, Sharing
from hub.guard.threats import BLOCKED_MS, CHANNEL, TOPIC, Threats
from hub.observe.metrics import counters
from protocol.close_codes import CloseCode


class Guard(Room, frozen=True, kw_only=True):
    limits: Limits
    threats: Threats


@asynccontextmanager
async def open_guard(ground: Ground, delivery: Delivery, connections: Connections) -> AsyncIterator[Guard]:
    settings, clock, report = ground.settings, ground.clock, ground.events.report
    limits = Limits(
        table_of(settings.limits),
        exempt=networks(settings.limits.exempt_networks),
        address_connections=settings.limits.address_connections,
        user_connections=settings.limits.user_connections,
        report=report,
        clock=clock,
    )
    threats = Threats(
        unblockable=networks(settings.security.unblockable_networks),
        announce=delivery.broker.announce,
        report=report,
        clock=clock,
    )
    ground.events.listen(threats.hear)
    ground.signals.listen(threats.hear)
    delivery.broker.listen(TOPIC, threats.hear_node)
    limits.slow_by(threats.slowness)
    tasks: dict[str, Task] = {
        "threats": partial(
            threats.run,
            tell=partial(ground.dispatcher.publish, CHANNEL, "THREAT_DETECTED"),
            send_away=partial(send_blocked_away, connections.registry, threats),
        )
    }
    async with AsyncExitStack() as stack:
        if settings.redis_url:
            sums = RedisCounters(settings.redis_url)
            stack.push_async_callback(sums.aclose)
            tasks["shared limits"] = Sharing(limits, sums, clock=clock).run
        yield Guard(limits=limits, threats=threats, metrics=lambda: _measure(limits, threats), tasks=tasks)


def send_blocked_away(registry: Registry, threats: Threats) -> None:
    """End the connections of whoever may not be here any more."""
    for connection in registry:
        if threats.assess(connection.address, connection.caller.user).action == "BLOCK":
            connection.close(CloseCode.RATE_LIMITED, retry_after_ms=BLOCKED_MS)


def _measure(limits: Limits, threats: Threats) -> Iterable[Metric]:
    yield counters("krin_threats", "Patterns of hostile behaviour found.", "pattern", threats.detected)
    yield counters("krin_rate_limited", "Refusals by limit.", "limit", limits.refused)
