"""What the hub learns from its load."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from prometheus_client.core import Metric

from hub.bootstrap.connections import Connections
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.insight.load.watch import LoadWatch, Sum
from hub.observe.metrics import counter, gauge, gauges
from storage.errors import StorageError

logger = logging.getLogger("krin.load")

COMFORTABLE = 0.7  # of what a node refuses to go beyond
DELIVERIES_PER_S = 500_000.0  # that one core writes well within 100 ms (benchmarks/README.md)


class Learning(Room, frozen=True, kw_only=True):
    load: LoadWatch


def open_learning(ground: Ground, delivery: Delivery, connections: Connections) -> Learning:
    settings, latency = ground.settings, delivery.meter.latency

    async def warm() -> None:
        """Whoever comes finds connections to Postgres that are open."""
        try:
            await ground.database.warm()
        except StorageError as failure:
            logger.info("nothing could be got ready for more load: %s", failure)

    load = LoadWatch(
        node=settings.node,
        connections=lambda: len(connections.registry),
        deliveries=lambda: delivery.fanout.delivered,
        latencies={
            "broadcast": lambda: Sum(latency.total, latency.count),
            "rest": lambda: Sum(*ground.observability.rest()),
        },
        capacity=lambda: (COMFORTABLE * settings.limits.connections, DELIVERIES_PER_S),
        warm=warm,
        tell=ground.dispatcher.publish,
        clock=ground.clock,
    )
    return Learning(load=load, metrics=lambda: _measure(load), tasks={"load": load.run})


def _measure(load: LoadWatch) -> Iterable[Metric]:
    yield gauge("hub_scale_hint", "Nodes that the load of this one will need within five minutes.", load.scale_hint)
    yield gauges(
        "krin_load_forecast", "Highest load within five minutes: connections, deliveries/s.", "load", load.forecast
    )
    yield counter("krin_load_prewarmed", "Times that the node got ready for more load than there was.", load.warmed)
    yield gauges(
        "krin_anomalies_firing",
        "1 while a latency is out of the ordinary.",
        "latency",
        {name: float(each.firing) for name, each in load.anomalies.items()},
    )
