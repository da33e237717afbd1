"""How messages reach every node, and every listener on this one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager

from prometheus_client.core import Metric

from hub import __version__
from hub.bootstrap.ground import Ground
from hub.bootstrap.keys import configured_bell_secret
from hub.bootstrap.room import Room
from hub.brokers.base import Broker
from hub.brokers.local import LocalBroker
from hub.brokers.redis import RedisBroker
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout
from hub.connections.burst import open_burst
from hub.observe.delivery import DeliveryMeter
from hub.observe.metrics import counter, counters, gauge, histogram
from hub.observe.tracing import Tracing, open_tracer
from hub.unusable import ConfigError
from storage.messages import MessageLog
from storage.shared_secrets import shared_secret


class Delivery(Room, frozen=True, kw_only=True):
    fanout: Fanout
    meter: DeliveryMeter
    tracing: Tracing | None
    durable: DurableChannels
    broker: Broker

    def reasons(self) -> list[str]:
        """Why the hub is degraded; none: it is well."""
        reasons = []
        if not self.durable.available:
            reasons.append("postgres: durable publishing is refused")
        if not self.broker.available:
            reasons.append("redis: recoverable and latest publishing is refused; durable messages arrive late")
        return reasons


@contextmanager
def open_tracing(ground: Ground) -> Iterator[Tracing | None]:
    """Raises ConfigError when spans have somewhere to go, and nothing is installed that could bring them there."""
    settings, tracing = ground.settings, ground.settings.tracing
    if tracing.endpoint is None:
        yield None
        return
    try:
        tracer = open_tracer(tracing.endpoint, node=settings.node, version=__version__)
        with tracer as opened:
            yield Tracing(
                opened,
                ratio=tracing.sample_ratio,
                max_per_s=tracing.max_per_s,
                clock=ground.clock,
                exemplify=ground.observability.exemplify,
            )
    except ImportError:
        raise ConfigError("[tracing] endpoint needs the extra `otel`: pip install 'krin-hub[otel]'") from None


@asynccontextmanager
async def open_delivery(ground: Ground) -> AsyncIterator[Delivery]:
    """Raises ConfigError for a bell key that cannot be used."""
    settings, clock, database = ground.settings, ground.clock, ground.database
    async with database.writer() as writer:
        with open_burst(uring=settings.io_uring) as burst, open_tracing(ground) as tracing:
            meter = DeliveryMeter(clock=clock)
            written = meter.written if tracing is None else tracing.measured(meter)
            fanout = Fanout(asyncio.get_running_loop(), burst=burst, written=written)
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
                meter=meter,
                tracing=tracing,
                metrics=lambda: _measure(fanout, durable, broker, meter),
                tasks={
                    "broker": broker.run,
                    "durable commit": durable.commit,
                    "durable mend": durable.mend,
                    "durable sweep": durable.sweep,
                },
            )


def _measure(
    fanout: Fanout, durable: DurableChannels, broker: LocalBroker | RedisBroker, meter: DeliveryMeter
) -> Iterable[Metric]:
    yield gauge("krin_channels", "Channels with listeners on this node.", len(fanout.channels()))
    yield counter("krin_deliveries", "Publications handed to subscribers.", fanout.delivered)
    yield counters("krin_messages_out", "Messages written to subscribers, by type.", "type", meter.types.counts)
    yield histogram("krin_delivery_latency_ms", "From published to written, milliseconds.", meter.latency)
    yield gauge("krin_durable_available", "1 while durable publishing works.", float(durable.available))
    yield counter("krin_durable_commits", "Group commits.", durable.commits)
    yield histogram("krin_durable_commit_ms", "How long a group commit took, milliseconds.", durable.commit_ms)
    yield histogram("krin_durable_batch", "Messages of a group commit.", durable.batch_size)
    yield gauge("krin_durable_waiting", "Messages that wait for a commit.", durable.waiting)
    yield counter("krin_durable_committed", "Durable messages committed.", durable.committed)
    yield counter("krin_durable_mended", "Durable messages read from Postgres to close a gap.", durable.mended)
    if isinstance(broker, RedisBroker):
        yield gauge("krin_redis_available", "1 while every Redis server answers.", float(broker.available))
        yield counter("krin_bell_reconnects", "Lost connections to Redis.", broker.reconnects)
        yield histogram("krin_redis_ms", "Round trips with what is published, milliseconds.", broker.round_trip_ms)
        yield counter("krin_redis_mended", "Messages read from Redis to close a gap.", broker.mended)
        yield counters("krin_bells_rejected", "Messages on Redis that no node sealed.", "reason", broker.rejected)
