"""The rights of people: to have what is known of them, to have it gone, and to have it kept no longer than needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import Metric

from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.keys import load_erased_key, make_sealer
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.bootstrap.watch import Watch
from hub.clock import Clock
from hub.config import Settings
from hub.edge.privacy import PrivacyRoutes
from hub.observe.metrics import counters, gauge
from hub.privacy.erased import ErasedList
from hub.privacy.retention import RetentionJob
from hub.privacy.service import PrivacyService
from storage.audit import AuditTable
from storage.consents import Consents
from storage.database import Database
from storage.messages import MessageLog
from storage.privacy import Privacy
from storage.retention import Retention


def open_privacy(ground: Ground, guard: Guard, watch: Watch, rest: Rest) -> Room:
    settings, clock, database = ground.settings, ground.clock, ground.database
    retention = RetentionJob(stored_retention(settings, database), stored_privacy(settings, database), clock=clock)
    rights = PrivacyRoutes(
        rest.service,
        make_privacy(settings, database, clock=clock, ring=watch.ring),
        Consents(database),
        AuditTable(database),
        permissions=ground.permissions,
        limits=guard.limits,
        signal=ground.signals.report,
        max_body_bytes=settings.limits.message_bytes,
        clock=clock,
    )
    return Room(routes=rights.routes, metrics=lambda: _measure(retention), work={"retention": retention.run})


def _measure(retention: RetentionJob) -> Iterable[Metric]:
    yield gauge("krin_privacy_overdue", "Requests of people that are late.", retention.overdue)
    yield counters("krin_retention_deleted", "Rows that had outlived their time.", "table", retention.deleted)


def make_privacy(
    settings: Settings, database: Database, *, clock: Clock, ring: Callable[[], None] = lambda: None
) -> PrivacyService:
    """Raises ConfigError for a key that cannot be used."""
    erased = ErasedList(settings.data_dir / "privacy" / "erased.jsonl", key=load_erased_key(settings))
    return PrivacyService(stored_privacy(settings, database), erased, clock=clock, ring=ring)


def stored_privacy(settings: Settings, database: Database) -> Privacy:
    """Raises ConfigError for a key that cannot be used."""
    own = {
        name
        for name, policy in settings.namespaces.items()
        if any(entry.endswith(":own") for entry in (*policy.publish, *policy.subscribe))
    }
    sealer = make_sealer(settings)
    return Privacy(
        database,
        seal=lambda record, owner: sealer.seal(record, owner=owner),
        own=own,
        hold_days=settings.retention.legal_hold_days,
    )


def stored_retention(settings: Settings, database: Database) -> Retention:
    days = settings.retention
    return Retention(database, MessageLog(database), days=days.by_table(), message_days=days.message_days)


def open_hold(settings: Settings) -> Callable[[bytes, bytes], bytes]:
    """(sealed record, owner) -> record. Raises ConfigError; the function Unreadable."""
    sealer = make_sealer(settings)
    return lambda record, owner: sealer.open(record, owner=owner)
