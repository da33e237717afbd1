"""How long things are kept: what has outlived its time goes, table by table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database
from storage.messages import MessageLog

BATCH_ROWS = 5_000  # per statement, so that each stays far below the statement timeout
LOCK = 0x6B72_7265  # one node at a time
# Rows older than $1, by the column that says how old they are.
OLD: Mapping[str, str] = {
    "refresh_tokens": "expires_at < $1",
    "api_keys": "least(expires_at, revoked_at) < $1",
    "ai_enhanced_sessions": "expires_at < $1",
    "specialist_coordination": "timestamp < $1",
    "privacy_requests": "completed_at < $1",
    "legal_holds": "hold_until < $1::timestamptz",
    "day_keys": "day < $1::timestamptz",
}


class Retention:
    """`days`: table -> for how many days after the date of `OLD`; a table that is not named is kept for ever.
    `message_days`: namespace -> days for the messages of its channels."""

    def __init__(
        self, db: Database, log: MessageLog, *, days: Mapping[str, int], message_days: Mapping[str, int]
    ) -> None:
        self._db = db
        self._log = log
        self._days = days
        self._message_days = message_days

    async def apply(self, now: datetime) -> dict[str, int]:
        """Delete what is too old and answer the rows deleted by table; one row in the audit says so, if any were.

        While another node is at it, nothing is done.
        """
        async with self._db.session() as session:
            if not await session.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                return {}
            deleted: dict[str, int] = {}
            for table, days in self._days.items():
                query = (
                    f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("
                    f"SELECT ctid FROM {table} WHERE {OLD[table]} LIMIT {BATCH_ROWS}))"
                )
                while rows := int((await session.execute(query, now - timedelta(days=days))).rpartition(" ")[2]):
                    deleted[table] = deleted.get(table, 0) + rows
            for namespace, days in self._message_days.items():
                before_ms = int((now - timedelta(days=days)).timestamp() * 1000)
                for channel in await self._log.channels(f"{namespace}:"):
                    if rows := await self._log.trim(channel, before_ms=before_ms):
                        deleted["messages"] = deleted.get("messages", 0) + rows
            if deleted:
                async with session.transaction():
                    await audit.append(session, AuditEntry(event="data_retention_applied", detail=deleted))
            return deleted
