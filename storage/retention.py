"""How long things are kept: what has outlived its time goes, table by table."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database
from storage.messages import MessageLog

LOCK = 0x6B72_7265  # one node at a time
# What is older than $1, by the date that says how old it is.
EXPIRE: Mapping[str, str] = {
    "refresh_tokens": "DELETE FROM refresh_tokens WHERE expires_at < $1",
    "authorization_codes": "DELETE FROM authorization_codes WHERE expires_at < $1",
    "api_keys": "DELETE FROM api_keys WHERE least(expires_at, revoked_at) < $1",
    "ai_enhanced_sessions": "DELETE FROM ai_enhanced_sessions WHERE expires_at < $1",
    "specialist_coordination": "DELETE FROM specialist_coordination WHERE timestamp < $1",
    "insights": "DELETE FROM insights WHERE to_timestamp(expires_us / 1e6) < $1",
    "error_groups": "DELETE FROM error_groups WHERE to_timestamp(last_us / 1e6) < $1",
    "jobs": "DELETE FROM jobs WHERE ended_at < $1",
    "privacy_requests": "DELETE FROM privacy_requests WHERE completed_at < $1",
    "legal_holds": "DELETE FROM legal_holds WHERE hold_until < $1::timestamptz",
    "day_keys": "DELETE FROM day_keys WHERE day < $1::timestamptz",
}


class Retention:
    """`days`: table -> for how many days after the date in `EXPIRE`; a table that is not named is kept for ever.
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
                status = await session.execute(EXPIRE[table], now - timedelta(days=days))
                if rows := int(status.rpartition(" ")[2]):
                    deleted[table] = rows
            for namespace, days in self._message_days.items():
                before_ms = int((now - timedelta(days=days)).timestamp() * 1000)
                for channel in await self._log.channels(f"{namespace}:"):
                    if rows := await self._log.trim(channel, before_ms=before_ms):
                        deleted["messages"] = deleted.get("messages", 0) + rows
            if deleted:
                async with session.transaction():
                    await audit.append(session, AuditEntry(event="data_retention_applied", detail=deleted))
            return deleted
