"""Insights about channels, each stored once; what people thought of them; errors by where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from protocol.insights import ErrorGroup, Insight, InsightKind, InsightScore, Verdict
from storage.database import Database
from storage.errors import NotFound

COLUMNS = "id, subject, upto, body::text, reason, made_us, expires_us, retracted_us"
STORE = """
INSERT INTO insights (id, subject, upto, authors, body, reason, made_us, expires_us)
VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8) ON CONFLICT (id) DO NOTHING
"""
GET = f"SELECT {COLUMNS} FROM insights WHERE id = $1"
NEWEST = f"""
SELECT {COLUMNS} FROM insights WHERE subject = $1 AND expires_us > $2 ORDER BY upto DESC, made_us DESC LIMIT 1
"""
LIST = f"""
SELECT {COLUMNS} FROM insights
WHERE subject = $1 AND body IS NOT NULL AND retracted_us IS NULL AND ($2::bigint IS NULL OR made_us < $2)
    AND ($4::text IS NULL OR body ->> 'kind' = $4)
ORDER BY made_us DESC, id LIMIT $3
"""
RETRACT = f"""
UPDATE insights SET retracted_us = coalesce(retracted_us, $2),
    reason = CASE WHEN retracted_us IS NULL THEN $3 ELSE reason END
WHERE id = $1 AND body IS NOT NULL RETURNING {COLUMNS}
"""
# As whoever changes messages does: a document of it is stored before, and found by FORGET, or not at all.
SETTLE = "SELECT pg_advisory_xact_lock(1685021555, 1)"
# What was taken back is not worth finding: its message stays in the channel, where the retraction follows it.
FORGET = """
DELETE FROM documents AS d USING messages AS m, channels AS c
WHERE c.name = 'insights:' || $1 AND m.channel_id = c.id AND m.key = $2
    AND d.kind = 'insight' AND d.reference = c.id || ':' || m."offset"
"""
FEEDBACK = """
INSERT INTO insight_feedback VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (insight_id, name) DO UPDATE
SET verdict = excluded.verdict, outcome = coalesce(excluded.outcome, insight_feedback.outcome),
    said_us = excluded.said_us
"""
SCORES = """
SELECT i.body ->> 'source', count(DISTINCT i.id), count(DISTINCT i.id) FILTER (WHERE i.retracted_us IS NOT NULL),
    count(*) FILTER (WHERE f.verdict = 'accepted'), count(*) FILTER (WHERE f.verdict = 'ignored'),
    count(*) FILTER (WHERE f.verdict = 'wrong'), avg(f.outcome)
FROM insights AS i LEFT JOIN insight_feedback AS f ON f.insight_id = i.id
WHERE i.subject = $1 AND i.body IS NOT NULL GROUP BY 1 ORDER BY 1
"""
HEAR = """
INSERT INTO error_groups VALUES ($1, $2, $3, $4, $5, $5)
ON CONFLICT (fingerprint) DO UPDATE
SET occurrences = error_groups.occurrences + excluded.occurrences, last_us = greatest(error_groups.last_us, $5)
"""


LATEST = """
SELECT fingerprint, type, frames, occurrences, first_us, last_us FROM error_groups
ORDER BY last_us DESC, fingerprint LIMIT $1
"""


class StoredInsight(msgspec.Struct, frozen=True, kw_only=True):
    """`insight` None: there is none, for that `reason`; with `retracted_us` the reason is why it was taken back."""

    id: str
    subject: str
    upto: int
    insight: Insight | None
    reason: str | None = None
    made_us: int
    expires_us: int
    retracted_us: int | None = None


class InsightTable:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def store(self, new: StoredInsight, *, authors: Sequence[str]) -> StoredInsight:
        """What is stored under this id now: an earlier one stays as it is."""
        body = None if new.insight is None else msgspec.json.encode(new.insight).decode()
        what = (new.id, new.subject, new.upto, list(authors), body, new.reason, new.made_us, new.expires_us)
        await self._db.execute(STORE, *what)
        return await self.get(new.id) or new

    async def get(self, id: str) -> StoredInsight | None:
        row = await self._db.fetch_row(GET, id)
        return _stored(row) if row else None

    async def newest(self, subject: str, *, now_us: int) -> StoredInsight | None:
        """The one about the newest messages, unless it has expired."""
        row = await self._db.fetch_row(NEWEST, subject, now_us)
        return _stored(row) if row else None

    async def of(
        self, subject: str, *, kind: InsightKind | None = None, before_us: int | None, limit: int
    ) -> list[StoredInsight]:
        """Those that hold, the newest first."""
        return [_stored(row) for row in await self._db.fetch(LIST, subject, before_us, limit, kind)]

    async def retract(self, id: str, reason: str, *, now_us: int) -> StoredInsight:
        """Take it back; one that was taken back before stays as it is. Raises `NotFound`."""
        async with self._db.connection() as connection, connection.transaction():
            row = await connection.fetchrow(RETRACT, id, now_us, reason)
            if row is None:
                raise NotFound("There is no such insight.")
            stored = _stored(row)
            await connection.execute(SETTLE)
            await connection.execute(FORGET, stored.subject, id)
        return stored

    async def judge(self, id: str, name: str, verdict: Verdict, outcome: float | None, *, now_us: int) -> None:
        await self._db.execute(FEEDBACK, id, name, verdict, outcome, now_us)

    async def scores(self, subject: str) -> list[InsightScore]:
        """By source."""
        return [InsightScore(*row) for row in await self._db.fetch(SCORES, subject)]


class ErrorGroups:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def hear(self, fingerprint: str, type: str, frames: Sequence[str], count: int, *, now_us: int) -> None:
        """Count occurrences."""
        await self._db.execute(HEAR, fingerprint, type, list(frames), count, now_us)

    async def latest(self, limit: int) -> list[ErrorGroup]:
        """The latest first."""
        return [ErrorGroup(*row) for row in await self._db.fetch(LATEST, limit)]


def _stored(row: Any) -> StoredInsight:
    id, subject, upto, body, reason, made_us, expires_us, retracted_us = row
    return StoredInsight(
        id=id,
        subject=subject,
        upto=upto,
        insight=None if body is None else msgspec.json.decode(body, type=Insight),
        reason=reason,
        made_us=made_us,
        expires_us=expires_us,
        retracted_us=retracted_us,
    )
