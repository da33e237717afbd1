"""What is written down of all that happened, and proven."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from prometheus_client.core import Metric

from hub.audit.heads import CHANNEL, AuditKey, Checkpoints
from hub.audit.log import AuditLog
from hub.audit.reads import Reads
from hub.audit.seen import AuditedReads
from hub.audit.verify import AuditVerification
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.observe.metrics import counter, gauge
from protocol.audit import AuditHead
from storage.audit import AuditTable


class Audit(Room, frozen=True, kw_only=True):
    reads: Reads


def open_audit(ground: Ground, key: AuditKey) -> Audit:
    settings, clock, events = ground.settings, ground.clock, ground.events
    table = AuditTable(ground.database)
    log = AuditLog(table, clock=clock)
    events.listen(log.hear)
    reads = Reads(report=events.report, clock=clock)

    async def announce(head: AuditHead) -> None:
        await ground.dispatcher.publish(CHANNEL, "AUDIT_HEAD", msgspec.to_builtins(head))

    checkpoints = Checkpoints(
        table,
        key=key,
        file=settings.checkpoint_file,
        node=settings.node,
        announce=announce,
        report=events.report,
        clock=clock,
    )
    verification = AuditVerification(table, file=settings.checkpoint_file, key=key.public, report=events.report)
    audited_reads = AuditedReads(table)
    return Audit(
        reads=reads,
        methods={
            "audit.verify": lambda params, caller: verification.call(),
            "audit.seen": lambda params, caller: audited_reads.call(params),
        },
        metrics=lambda: _measure(log),
        tasks={"audited reads": reads.run, "audit log": log.run, "audit checkpoints": checkpoints.run},
    )


def _measure(log: AuditLog) -> Iterable[Metric]:
    yield gauge("krin_audit_waiting", "Audit entries that wait for Postgres.", log.waiting)
    yield counter("krin_audit_written", "Security events written to the audit log.", log.written)
    yield counter("krin_audit_lost", "Security events that the audit log could not keep.", log.lost)
