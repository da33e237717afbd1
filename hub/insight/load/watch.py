"""Samples the load, forecasts it, and tells operators when latency is out of the ordinary."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import msgspec

from hub.clock import Clock
from hub.insight.load.anomalies import Anomalies, Change
from hub.insight.load.forecast import HoltWinters
from protocol.coordination import Alert
from protocol.errors import HubError

logger = logging.getLogger("krin.load")

SAMPLE_S = 15.0
SEASON = int(86_400 / SAMPLE_S)  # a day
HORIZON = int(300 / SAMPLE_S)  # as long as another node needs to be there
MIN_EVENTS = 10  # of a latency within a sample: fewer say nothing
ALERTS = "alerts:ops"
MAX_UNTOLD = 100
FEWEST = {"connections": 20.0, "deliveries": 1_000.0}  # less than that needs nothing
GROWTH = 1.2  # a forecast that is as many times the load of now is one to get ready for

Tell = Callable[[str, str, Any], Awaitable[Any]]
"""Publish (channel, type, data). Raises HubError."""


class Sum(msgspec.Struct, frozen=True):
    """Since the start."""

    total: float
    events: int


class LoadWatch:
    def __init__(
        self,
        *,
        node: str,
        connections: Callable[[], int],
        deliveries: Callable[[], int],
        latencies: Mapping[str, Callable[[], Sum]],
        capacity: Callable[[], tuple[float, float]],
        warm: Callable[[], Awaitable[None]],
        tell: Tell,
        clock: Clock,
    ) -> None:
        """`deliveries`: since the start. `latencies`, by name, in milliseconds. `capacity`: connections, and deliveries
        per second, that one node carries well. `warm` gets ready for more load than there is now; called again while
        more is expected. It never raises. `warmed` counts it.
        """
        self._node = node
        self._connections = connections
        self._deliveries = deliveries
        self._latencies = latencies
        self._capacity = capacity
        self._warm = warm
        self._tell = tell
        self._clock = clock
        self.warmed = 0
        self._before: tuple[float, int] | None = None  # when, and how many deliveries
        self._sums = {name: read() for name, read in latencies.items()}
        self._load = {"connections": HoltWinters(season=SEASON), "deliveries": HoltWinters(season=SEASON)}
        self._now: dict[str, float] = {}  # as of the last sample
        self.anomalies = {name: Anomalies() for name in latencies}
        self.forecast = dict.fromkeys(self._load, 0.0)  # the peak within HORIZON
        self._untold: list[Alert] = []

    @property
    def scale_hint(self) -> float:
        """How many nodes the load of this one will need within HORIZON: above 1, this one is too few."""
        connections, deliveries = self._capacity()
        return max(self.forecast["connections"] / connections, self.forecast["deliveries"] / deliveries)

    @property
    def rising(self) -> bool:
        """Whether more is expected within HORIZON than there is now, and enough of it to matter."""
        return any(
            self.forecast[name] >= GROWTH * now and self.forecast[name] >= FEWEST[name]
            for name, now in self._now.items()
        )

    async def run(self) -> NoReturn:
        while True:
            self.sample()
            if self.rising:
                self.warmed += 1
                await self._warm()
            await self._report()
            await self._clock.sleep(SAMPLE_S)

    def sample(self) -> None:
        now, count = self._clock.monotonic(), self._deliveries()
        self._now["connections"] = self._connections()
        if self._before is not None and now > self._before[0]:
            self._now["deliveries"] = (count - self._before[1]) / (now - self._before[0])
        for name, value in self._now.items():
            self._load[name].observe(value)
        self._before = now, count
        self.forecast = {name: load.peak(HORIZON) for name, load in self._load.items()}
        for name, read in self._latencies.items():
            self._judge(name, read())

    def _judge(self, name: str, now: Sum) -> None:
        events = now.events - self._sums[name].events
        if events < MIN_EVENTS:
            return  # they wait for more
        mean_ms = (now.total - self._sums[name].total) / events
        self._sums[name] = now
        if (change := self.anomalies[name].observe(mean_ms)) is not None:
            self._untold = [*self._untold, self._alert(name, change)][-MAX_UNTOLD:]

    def _alert(self, name: str, change: Change) -> Alert:
        return Alert(
            alert_id=f"anomaly:{name}:{self._node}",
            severity="WARNING",
            title=f"{name} latency is {'out of the ordinary' if change.firing else 'ordinary again'}",
            state="FIRING" if change.firing else "RESOLVED",
            source="anomalies",
            detail=f"{change.value:.1f} ms on average, usually {change.usual:.1f} ms; score {change.score:.1f}",
            ts_event=self._clock.now_us(),
        )

    async def _report(self) -> None:
        try:
            while self._untold:
                await self._tell(ALERTS, "ALERT", msgspec.to_builtins(self._untold[0]))
                del self._untold[0]
        except HubError as failure:  # told with the next sample
            logger.warning("operators cannot be told of an anomaly: %s", failure)
