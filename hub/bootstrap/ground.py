"""What every room stands on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from prometheus_client.core import Metric

from hub.bootstrap.database import open_database
from hub.bootstrap.room import Room
from hub.clock import Clock
from hub.config import Settings
from hub.dispatch import Dispatcher
from hub.guard.events import SecurityEvents
from hub.observe.metrics import counters, gauge
from hub.observe.monitors import KrinObservabilityService
from hub.permissions import Permissions
from storage.database import Database


class Ground(Room, frozen=True, kw_only=True):
    """`signals` are for whoever looks for threats, and too common to be written down like `events`."""

    settings: Settings
    clock: Clock
    database: Database
    events: SecurityEvents
    signals: SecurityEvents
    permissions: Permissions
    dispatcher: Dispatcher
    observability: KrinObservabilityService


@asynccontextmanager
async def open_ground(settings: Settings, clock: Clock) -> AsyncIterator[Ground]:
    events = SecurityEvents()
    observability = KrinObservabilityService(report=events.report, clock=clock)
    heard = observability.performance.record_statement
    async with open_database(settings, heard=heard) as (database, embedded):
        signals = SecurityEvents()
        permissions = Permissions(report=events.report, signal=signals.report, clock=clock)
        events.listen(observability.security.hear)
        dispatcher = Dispatcher(permissions=permissions, observe=observability.finished)
        yield Ground(
            settings=settings,
            clock=clock,
            database=database,
            events=events,
            signals=signals,
            permissions=permissions,
            dispatcher=dispatcher,
            observability=observability,
            methods={"hub.time": lambda params, caller: {"time": clock.now_ms()}},
            metrics=lambda: _measure(dispatcher),
            tasks={"embedded postgres": embedded.run} if embedded is not None else {},
        )


def _measure(dispatcher: Dispatcher) -> Iterable[Metric]:
    yield gauge("krin_tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))
    yield counters("krin_commands", "Commands by type.", "command", dispatcher.commands)
    yield counters("krin_errors", "Errors by name.", "error", dispatcher.errors)
