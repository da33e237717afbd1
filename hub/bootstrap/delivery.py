"""How messages reach every node, and every listener on this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from prometheus_client.core import Metric

from hub.bootstrap.ground import Ground
from hub.bootstrap.keys import configured_bell_secret
from hub.bootstrap.room import Room
from hub.brokers.base import Broker
from hub.brokers.local import LocalBroker
from hub.brokers.redis import RedisBroker
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout
from hub.connections.burst import open_burst
from hub.observe.metrics import counter, counters, gauge
from storage.messages import MessageLog
from storage.shared_secrets import shared_secret


class Delivery(Room, frozen=True, kw_only=True):
    fanout: Fanout
    durable: DurableChannels
    broker: Broker


@asynccontextmanager
async def open_delivery(ground: Ground) -> AsyncIterator[Delivery]:
    """Raises ConfigError for a bell key that cannot be used."""
    settings, clock, database = ground.settings, ground.clock, ground.database
    async with database.writer() as writer:
        with open_burst(uring=settings.io_uring) as burst:
            fanout = Fanout(asyncio.get_running_loop(), burst=burst)
            durable = DurableChannels(MessageLog(database, writer=writer), deliver=fanout.deliver, clock=clock)
            broker: LocalBroker | RedisBroker
            if settings.redis_url:
                secret = configured_bell_secret(settings) or await shared_secret(database, "bells")
                report = ground.events.report
                broker = RedisBroker(settings.redis_url, durable.receive, secret=secret, report=report, clock=clock)
            else:
                broker = LocalBroker(durable.receive, clock=clock, max_bytes=settings.limits.kept_bytes)
            durable.ring_with(broker)
            yield Delivery(
                fanout=fanout,
                durable=durable,
                broker=broker,
                metrics=lambda: _measure(fanout, durable, broker),
                tasks={
                    "broker": broker.run,
                    "durable commit": durable.commit,
                    "durable mend": durable.mend,
                    "durable sweep": durable.sweep,
                },
            )


def _measure(fanout: Fanout, durable: DurableChannels, broker: LocalBroker | RedisBroker) -> Iterable[Metric]:
    yield gauge("krin_channels", "Channels with listeners on this node.", len(fanout.channels()))
    yield counter("krin_deliveries", "Publications handed to subscribers.", fanout.delivered)
    yield gauge("krin_durable_available", "1 while durable publishing works.", float(durable.available))
    yield counter("krin_durable_commits", "Group commits.", durable.commits)
    yield counter("krin_durable_committed", "Durable messages committed.", durable.committed)
    yield counter("krin_durable_mended", "Durable messages read from Postgres to close a gap.", durable.mended)
    if isinstance(broker, RedisBroker):
        yield gauge("krin_redis_available", "1 while every Redis server answers.", float(broker.available))
        yield counter("krin_bell_reconnects", "Lost connections to Redis.", broker.reconnects)
        yield counter("krin_redis_mended", "Messages read from Redis to close a gap.", broker.mended)
        yield counters("krin_bells_rejected", "Messages on Redis that no node sealed.", "reason", broker.rejected)
