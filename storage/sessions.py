"""AI-enhanced sessions: what a user was doing, what was inferred from it, and its embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from protocol.insights import Insight
from storage import revocations
from storage.database import Database, columns
from storage.errors import Rejected

DIMENSIONS = 1536  # of the embedding column
SESSION = "id, user_id, session_data::text, ai_insights::text, embedding_model, created_at, expires_at"


# What was made of a session is made anew when the session is about something else.
KEEP = """
INSERT INTO ai_enhanced_sessions AS s (id, user_id, session_data, created_at, expires_at)
SELECT n.id, coalesce(u.id, md5(n.name)::uuid), n.session_data::jsonb, $4, $5
FROM unnest($1::uuid[], $2::text[], $3::text[], $6::text[], $7::bigint[]) AS n (id, name, session_data, mark, issued_ms)
LEFT JOIN users AS u ON u.name = n.name
WHERE NOT EXISTS (SELECT FROM restrictions AS r WHERE r.name = n.name) AND NOT EXISTS (
    SELECT FROM revocations AS r WHERE r.kind = 'erased' AND r.subject = n.mark AND r.before_ms > n.issued_ms)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at, session_data = excluded.session_data,
    embedding = CASE WHEN s.session_data = excluded.session_data THEN s.embedding END,
    embedding_model = CASE WHEN s.session_data = excluded.session_data THEN s.embedding_model END
"""
OWED = f"""
SELECT {SESSION} FROM ai_enhanced_sessions AS s
WHERE embedding_model IS DISTINCT FROM $1 AND expires_at > $2 AND session_data ? 'user' AND (NOT $3 OR coalesce(
    (SELECT granted FROM consents AS c WHERE c.name = s.session_data ->> 'user' AND c.purpose = 'ai_processing'
     ORDER BY c.version DESC LIMIT 1), false))
LIMIT $4
"""


ATTACH = """
UPDATE ai_enhanced_sessions SET ai_insights = coalesce(ai_insights, '{}') || $2::jsonb
WHERE session_data -> 'channels' ? $1 AND expires_at > $3
"""


class Session(msgspec.Struct, frozen=True):
    """`embedding_model` names the model that made the stored embedding, or is None if there is none."""

    id: UUID
    user_id: UUID
    session_data: dict[str, Any]
    ai_insights: dict[str, Any] | None
    embedding_model: str | None
    created_at: datetime
    expires_at: datetime


class SessionUse(msgspec.Struct, frozen=True):
    """What somebody is doing in a session. `user` is a name: whoever has no account here has a derived id.

    `issued_ms` is when the token they came with was signed, in milliseconds since 1970.
    """

    id: UUID
    user: str
    issued_ms: int
    session_data: dict[str, Any]


class Sessions:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def create(
        self,
        user_id: UUID,
        *,
        session_data: Mapping[str, Any],
        expires_at: datetime,
        ai_insights: Mapping[str, Any] | None = None,
        embedding: Sequence[float] | None = None,
        embedding_model: str | None = None,
    ) -> Session:
        """Raises `Rejected` for an embedding of the wrong dimension or without the name of its model."""
        row = await self._db.fetch_row(
            "INSERT INTO ai_enhanced_sessions"
            " (user_id, session_data, ai_insights, embedding, embedding_model, expires_at)"
            f" VALUES ($1, $2, $3, $4::text::vector, $5, $6) RETURNING {SESSION}",
            *(user_id, _json(session_data), _json(ai_insights), _vector(embedding, embedding_model), embedding_model),
            expires_at,
        )
        return _session(row)

    async def keep(self, uses: Sequence[SessionUse], *, now: datetime, expires_at: datetime) -> None:
        """Create sessions that are not there yet, and prolong the others.

        Those of restricted persons are not kept, nor of those who were erased and are still about to be sent away.
        """
        rows = [
            (
                *(each.id, each.user, _json(each.session_data | {"user": each.user})),
                *(revocations.erased_mark(each.user), each.issued_ms),
            )
            for each in uses
        ]
        ids, names, data, marks, issued = columns(rows)
        async with self._db.connection() as connection, connection.transaction():
            await revocations.hold(connection)  # nobody is erased between the look and the write
            await connection.execute(KEEP, ids, names, data, now, expires_at, marks, issued)

    async def owed(self, model: str, *, consent: bool, now: datetime, limit: int) -> list[Session]:
        """Living sessions without an embedding of this model; with `consent`, of those who agreed to AI processing."""
        return [_session(row) for row in await self._db.fetch(OWED, model, now, consent, limit)]

    async def get(self, session_id: UUID, *, now: datetime) -> Session | None:
        """The session, or None if there is none or it has expired."""
        query = f"SELECT {SESSION} FROM ai_enhanced_sessions WHERE id = $1 AND expires_at > $2"
        row = await self._db.fetch_row(query, session_id, now)
        return _session(row) if row else None

    async def touch(self, session_id: UUID, *, now: datetime, expires_at: datetime) -> bool:
        """Prolong a session. Answers False if it has expired: it does not come back to life."""
        query = "UPDATE ai_enhanced_sessions SET expires_at = $3 WHERE id = $1 AND expires_at > $2 RETURNING true"
        return bool(await self._db.fetch_value(query, session_id, now, expires_at))

    async def attach(self, channel: str, insight: Insight, *, now: datetime) -> None:
        """Note the newest insight about a channel with every living session that follows it.

        What it says stays where it is erased with those who are spoken of.
        """
        noted = {
            "newest": {name: getattr(insight, name) for name in ("insight_id", "subject", "kind", "severity", "source")}
        }
        await self._db.execute(ATTACH, channel, _json(noted), now)

    async def sweep(self, *, now: datetime) -> int:
        """Delete what has expired; answer how many."""
        return int((await self._db.execute("DELETE FROM ai_enhanced_sessions WHERE expires_at <= $1", now)).split()[-1])


def _vector(embedding: Sequence[float] | None, model: str | None) -> str | None:
    if (embedding is None) != (model is None):
        raise Rejected("An embedding is stored together with the name of its model, or not at all.")
    if embedding is None:
        return None
    if len(embedding) != DIMENSIONS:
        raise Rejected(f"An embedding must have {DIMENSIONS} dimensions, this one has {len(embedding)}.")
    return "[" + ",".join(map(repr, map(float, embedding))) + "]"


def _session(row: Any) -> Session:
    insights = None if row[3] is None else msgspec.json.decode(row[3], type=dict[str, Any])
    return Session(row[0], row[1], msgspec.json.decode(row[2], type=dict[str, Any]), insights, *row[4:])


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
