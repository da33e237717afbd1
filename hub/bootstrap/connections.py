"""Who is here: the connections of this node, who is in which channel, and what the other nodes hold."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from prometheus_client.core import Metric

from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.connections.connection import ConnectionLimits
from hub.connections.directory import TOPIC as SOCKETS
from hub.connections.directory import Directory
from hub.connections.registry import Registry
from hub.connections.slowest import Slowest
from hub.connections.verdicts import Notes
from hub.observe.metrics import counter, counters, gauge
from hub.presence.service import TOPIC as PRESENCE
from hub.presence.service import PresenceService


class Connections(Room, frozen=True, kw_only=True):
    registry: Registry
    limits: ConnectionLimits
    presence: PresenceService
    directory: Directory
    notes: Notes


def open_connections(ground: Ground, delivery: Delivery) -> Connections:
    settings, clock, broker = ground.settings, ground.clock, delivery.broker
    registry = Registry(clock=clock, max_connections=settings.limits.connections)
    presence = PresenceService(asyncio.get_running_loop(), node=settings.node, announce=broker.announce, clock=clock)
    directory = Directory(
        registry, node=settings.node, nodes=lambda: presence.nodes, announce=broker.announce, clock=clock
    )
    broker.listen(PRESENCE, presence.hear)
    broker.listen(SOCKETS, directory.hear)
    limits = ConnectionLimits(
        bytes_per_s=settings.limits.bytes_per_s,
        outbox_bytes=settings.limits.outbox_bytes,
        ping_interval_s=settings.ping_interval_s,
        publishes_per_s=settings.limits.publishes_per_s,
    )
    return Connections(
        registry=registry,
        limits=limits,
        presence=presence,
        directory=directory,
        notes=Notes(),
        methods={"hub.clients": Slowest(registry, node=settings.node, limits=limits).call},
        metrics=lambda: _measure(registry),
        tasks={"connections": registry.run, "presence": presence.run},
    )


def _measure(registry: Registry) -> Iterable[Metric]:
    connections = list(registry)
    yield gauge("krin_connections", "Open WebSocket connections.", len(connections))
    yield gauge("krin_subscriptions", "Subscriptions on this node.", sum(len(c.subscriptions) for c in connections))
    yield gauge("krin_outbox_bytes", "Bytes that wait for clients.", sum(c.outbox.waiting_bytes for c in connections))
    yield counter("krin_connections_accepted", "Connections since start.", registry.accepted)
    yield counters("krin_connections_ended", "Connections that have ended, by how.", "how", registry.ended.counts)
    yield counter("krin_conflated", "Values merged for slow readers.", registry.conflated)
