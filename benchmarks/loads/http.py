"""REST routes under a steady rate: each request has its moment, and waiting for a free connection counts."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.machine import rss_kib
from benchmarks.plans import HttpPlan, Route
from benchmarks.wire import NUMBER_SLOT, Template

WARM_UP_SHARE = 0.15
DRAIN_S = 5.0


class Connection(asyncio.Protocol):
    """A kept-alive HTTP/1.1 connection with one request under way at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._data = b""
        self._due_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def request(self, due_ns: int, request: bytes) -> None:
        self._due_ns = due_ns
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        _, found, length = head.partition(b"content-length:")
        size = int(length.split(b"\r\n", 1)[0]) if found else 0
        if len(self._data) < end + 4 + size:
            return
        body, self._data = self._data[end + 4 : end + 4 + size], self._data[end + 4 + size :]
        self._load.answered(self, self._due_ns, int(head[9:12]), body)

    def connection_lost(self, failure: Exception | None) -> None:
        self._load.lost += 1


class Load:
    """The requests of one route."""

    def __init__(self) -> None:
        self.latencies = Histogram()
        self.idle: deque[Connection] = deque()
        self.due: deque[tuple[int, bytes]] = deque()
        self.statuses: dict[int, int] = {}
        self.answers = 0
        self.lost = 0
        self.measured_from = 0
        self.wrong = b""

    def ask(self, due_ns: int, request: bytes) -> None:
        if self.idle:
            self.idle.popleft().request(due_ns, request)
        else:
            self.due.append((due_ns, request))

    def answered(self, connection: Connection, due_ns: int, status: int, body: bytes) -> None:
        self.answers += 1
        if due_ns >= self.measured_from:
            self.latencies.record(time.monotonic_ns() - due_ns)
            self.statuses[status] = self.statuses.get(status, 0) + 1
            if status >= 400 and not self.wrong:
                self.wrong = body[:200]
        if self.due:
            connection.request(*self.due.popleft())
        else:
            self.idle.append(connection)


async def run(plan: HttpPlan) -> dict[str, Any]:
    watch = Watch(plan.pids)
    routes = {route.name: await _drive(plan, route) for route in plan.routes}
    figures = watch.figures()
    requests = sum(each["requests"] for each in routes.values())
    answered = sum(each["answered"] for each in routes.values())
    return figures | {
        "rate_per_s": plan.rate_per_s,
        "connections": plan.connections,
        "routes": routes,
        "expected": requests,
        "delivered": answered,
        "delivered_percent": round(100 * answered / requests, 4) if requests else 0.0,
        "missing": requests - answered,
        "rss_mib_end": round(rss_kib(plan.pids) / 1024, 1),
    }


async def _drive(plan: HttpPlan, route: Route) -> dict[str, Any]:
    load = Load()
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(plan.connections):
        _, connection = await loop.create_connection(lambda: Connection(load), plan.host, plan.port)
        connections.append(connection)
    load.idle.extend(connections)
    stage(route.name, plan.seconds)
    template = Template(route.request, framed=False) if NUMBER_SLOT.encode() in route.request else None
    begun = time.monotonic_ns()
    load.measured_from = begun + int(plan.seconds * WARM_UP_SHARE * 1e9)
    total = int(plan.rate_per_s * plan.seconds)
    index = measured = 0
    while index < total:
        now = time.monotonic_ns()
        while index < total and (due := begun + int(index * 1e9 / plan.rate_per_s)) <= now:
            load.ask(due, template.render(due, begun // 1000 % 10**8 + index) if template else route.request)
            measured += due >= load.measured_from
            index += 1
        await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
    deadline = time.monotonic() + DRAIN_S
    while load.answers < total and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    for connection in connections:
        connection.transport.abort()
    bad = sum(count for status, count in load.statuses.items() if status >= 400)
    return {
        "requests": measured,
        "answered": load.latencies.total - bad,
        "statuses": {str(status): count for status, count in load.statuses.items()},
        "latency_ms": load.latencies.figures(),
        "first_error": load.wrong.decode("latin-1"),
        "histogram": load.latencies.dump(),
    }
