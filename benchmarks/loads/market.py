"""Readers of the hub's own market feed: from a source's quote in the hub to the price at each reader."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.plans import MarketPlan, Target
from benchmarks.wire import frame, upgrade

RECEIVED = re.compile(rb'"ts_recv":(\d{16})')  # microseconds, by the clock of this machine
SAMPLE_EVERY = 20  # readers; of the others only the reads are counted


class Reader(asyncio.Protocol):
    """`latencies` None: not sampled."""

    def __init__(self, target: Target, live: asyncio.Event, latencies: Histogram | None) -> None:
        self._target = target
        self._live = live
        self._latencies = latencies
        self._upgraded = False
        self.recording = False
        self.prices = 0
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        target = self._target
        transport.write(upgrade(target.host, target.port, target.path, target.subprotocol, target.headers))

    def data_received(self, data: bytes) -> None:
        if not self._upgraded:
            self._upgraded = True
            for hello in self._target.hello:
                self._transport.write(frame(hello))
        elif not self._live.is_set():
            self._live.set()
        elif self.recording:
            self._record(data)

    def connection_lost(self, failure: Exception | None) -> None:
        self.lost = True
        self._live.set()

    def _record(self, data: bytes) -> None:
        if self._latencies is None:
            self.prices += data.count(b'"PRICE_TICK"')
            return
        now_us = time.time_ns() // 1000
        stamps = [int(stamp) for stamp in RECEIVED.findall(data)]
        self.prices += len(stamps)
        self._latencies.record_all((now_us - stamp) * 1000 for stamp in stamps)


async def run(plan: MarketPlan) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    latencies = Histogram()
    readers: list[Reader] = []
    stage("connect")
    for index in range(plan.count):
        live = asyncio.Event()
        reader = Reader(plan.target, live, latencies if index % SAMPLE_EVERY == 0 else None)
        await loop.create_connection(lambda reader=reader: reader, plan.target.host, plan.target.port)  # type: ignore[misc]  # a default argument binds it now
        async with asyncio.timeout(10):
            await live.wait()
        readers.append(reader)
    await asyncio.sleep(plan.warm_up_s)
    watch = Watch(plan.pids)
    stage("measure", plan.seconds)
    for reader in readers:
        reader.recording = True
    await asyncio.sleep(plan.seconds)
    for reader in readers:
        reader.recording = False
    delivered = sum(reader.prices for reader in readers)
    cpu_s = watch.server_cpu_s()
    return {
        **watch.figures(),
        "connections": plan.count,
        "lost_connections": sum(reader.lost for reader in readers),
        "delivered": delivered,
        "deliveries_per_s": round(delivered / plan.seconds),
        "latency_ms": latencies.figures(),
        "server_cpu_us_per_delivery": round(cpu_s * 1e6 / delivered, 3) if delivered else 0.0,
        "histogram": latencies.dump(),
    }
