"""What is published and read, by whoever may."""

from __future__ import annotations

import asyncio

from hub.bootstrap.audit import Audit
from hub.bootstrap.connections import Connections
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.room import Room
from hub.channels.access import Access
from hub.channels.explaining import Explainer
from hub.channels.history import ChannelReader
from hub.channels.publishing import Amplification, Publisher
from hub.channels.replaying import Replays, replay_cost
from hub.channels.stored import StoredMessages
from hub.channels.subscriptions import Subscriptions
from hub.guard.limits import history_cost
from hub.namespaces import Namespaces
from hub.observe.metrics import counters
from protocol.messages import Explain, History, Presence, Publish, Replay


class Channels(Room, frozen=True, kw_only=True):
    namespaces: Namespaces
    access: Access
    subscriptions: Subscriptions


def open_channels(ground: Ground, audit: Audit, delivery: Delivery, connections: Connections, guard: Guard) -> Channels:
    settings, clock, limits, presence = ground.settings, ground.clock, guard.limits, connections.presence
    namespaces = Namespaces(settings.namespaces)
    access = Access(namespaces, report=ground.events.report)
    publisher = Publisher(
        delivery.broker,
        delivery.durable,
        access=access,
        clock=clock,
        rate_per_s=settings.limits.publishes_per_s,
        limits=limits,
        amplification=(
            Amplification(settings.limits.deliveries_per_s, delivery.fanout.listeners)
            if settings.limits.deliveries_per_s is not None
            else None
        ),
        tracing=delivery.tracing,
    )
    subscriptions = Subscriptions(
        delivery.fanout,
        delivery.broker,
        delivery.durable,
        presence,
        access=access,
        reads=audit.reads,
        clock=clock,
        loop=asyncio.get_running_loop(),
        max_subscriptions=settings.limits.subscriptions,
    )
    stored = StoredMessages(delivery.broker, delivery.durable)
    replays = Replays(subscriptions, stored, reads=audit.reads, clock=clock)
    reader = ChannelReader(
        delivery.broker, delivery.durable, presence, access=access, reads=audit.reads, signal=ground.signals.report
    )
    explainer = Explainer(
        connections.registry,
        delivery.fanout,
        stored,
        notes=connections.notes,
        namespaces=namespaces,
        access=access,
        permissions=ground.permissions,
    )
    return Channels(
        namespaces=namespaces,
        access=access,
        subscriptions=subscriptions,
        handlers={
            Publish: publisher.publish,
            History: limits.guarded("read", reader.history, cost=history_cost),
            Replay: limits.guarded("read", replays.replay, cost=replay_cost),
            Explain: limits.guarded("read", explainer.explain),
            Presence: limits.guarded("read", reader.presence),
        },
        methods={"channels.list": lambda params, caller: reader.channels(caller)},
        metrics=lambda: [
            counters("krin_recoveries", "Subscriptions by recovery outcome.", "outcome", subscriptions.recoveries)
        ],
    )
