"""Notice that the database is not the history it was, and give every channel a new epoch.

A restored database gives out offsets again that clients have seen with other content; without a new epoch they would
discard the new messages as repeats. Compared are the cluster's system identifier (another after a dump was loaded
elsewhere) and its timeline (another after a recovery to a point in time, or a promotion, which may have lost the last
commits). A cold copy of a data folder put back carries both unchanged: only a client whose offset lies beyond the
channel's top reveals it, so such a position must be refused as unrecoverable.
"""

from __future__ import annotations

from typing import NamedTuple

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database

# pg_control_checkpoint() still names the old timeline for a while after a promotion; a WAL file name begins with
# the true one.
PRESENT = """
SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline FROM pg_control_system()
"""


class Lineage(NamedTuple):
    system_identifier: int
    timeline: str

    def __str__(self) -> str:
        return f"{self.system_identifier}/{self.timeline}"


async def verify_lineage(db: Database) -> tuple[Lineage, Lineage] | None:
    """Compare with what was noted, and note what is. Call it after `migrate`, before any epoch is given to a client.

    Answers None if the history goes on, else the old and the new lineage: every epoch has then changed, once,
    whichever node came first.
    """
    async with db.connection() as connection, connection.transaction():
        present = Lineage(*await connection.fetchrow(PRESENT))
        await connection.execute(
            "INSERT INTO lineage (system_identifier, timeline) VALUES ($1, $2) ON CONFLICT DO NOTHING", *present
        )
        noted = Lineage(*await connection.fetchrow("SELECT system_identifier, timeline FROM lineage FOR UPDATE"))
        if noted == present:
            return None
        await connection.execute("UPDATE lineage SET seed = gen_random_uuid()::text")
        await connection.execute("UPDATE channels SET epoch = krin_epoch(name)")
        await connection.execute("UPDATE lineage SET system_identifier = $1, timeline = $2", *present)
        detail = {"before": str(noted), "after": str(present)}
        entry = AuditEntry(event="sys_history_restored", target="channels", severity="WARN", detail=detail)
        await audit.append(connection, entry)
        return noted, present
