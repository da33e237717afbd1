"""What people have agreed to. Rule: who has not said yes has said no."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

import msgspec

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database

Purpose = Literal["ai_processing", "analytics", "sale_or_sharing"]
Source = Literal["rest", "cli", "sec-gpc"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)

NEWEST = """
SELECT DISTINCT ON (purpose) purpose, granted, version, source, at FROM consents
WHERE name = $1 ORDER BY purpose, version DESC
"""
ADD = """
INSERT INTO consents (name, purpose, version, granted, source, at)
SELECT $1, $2, coalesce(max(version), 0) + 1, $3, $4, $5 FROM consents WHERE name = $1 AND purpose = $2
HAVING (array_agg(granted ORDER BY version DESC))[1] IS DISTINCT FROM $3
RETURNING version
"""


class Consent(msgspec.Struct, frozen=True):
    purpose: Purpose
    granted: bool
    version: int
    source: str
    at: datetime


class Consents:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def allows(self, name: str, purpose: Purpose) -> bool:
        """Whether this person's data may be used for this. Asked anew each time: a withdrawal counts at once."""
        query = "SELECT granted FROM consents WHERE name = $1 AND purpose = $2 ORDER BY version DESC LIMIT 1"
        return bool(await self._db.fetch_value(query, name, purpose))

    async def of(self, name: str) -> list[Consent]:
        """The newest answer for each purpose that the person was ever asked about."""
        return [Consent(*row) for row in await self._db.fetch(NEWEST, name)]

    async def put(self, name: str, purpose: Purpose, granted: bool, *, source: Source, now: datetime, by: str) -> None:
        """Note an answer; the same answer again changes nothing."""
        async with self._db.connection() as connection, connection.transaction():
            # One at a time for each person: else two answers would take the same version.
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", name)
            version = await connection.fetchval(ADD, name, purpose, granted, source, now)
            if version is None:
                return
            detail = {"purpose": purpose, "granted": granted, "version": version, "source": source}
            entry = AuditEntry(event="consent_changed", actor=by, target=name, detail=detail)
            await audit.append(connection, entry)
