"""Webhooks: who is told what, up to where they have been, and what became of it.

Rules: secrets arrive sealed, which is the caller's work. A position moves with the delivery that moves it, in one
transaction; changes by people are audited in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import msgspec

from protocol.positions import Position
from storage import audit
from storage.audit import HUB, AuditEntry
from storage.database import Database
from storage.errors import Conflict, NotFound
from storage.leadership import Lock, leadership

LOCK = 0x77686F6B  # "whok": who delivers
MAX_OWNED = 50  # webhooks of one owner
KEPT_DELIVERIES = 1_000  # of a webhook
MAX_ERROR = 200  # characters

WEBHOOK = (
    "id, owner, caller::text, url, channels, secret, old_secret, old_secret_until, enabled, reason, failures, version,"
    " created_at"
)
CREATE = f"""
INSERT INTO webhooks (id, owner, caller, url, channels, secret, created_at)
SELECT $1, $2, $3::jsonb, $4, $5, $6, $7 WHERE (SELECT count(*) FROM webhooks WHERE owner = $2) < {MAX_OWNED}
RETURNING true
"""
# A webhook that is enabled again has a clean sheet.
CHANGE = """
UPDATE webhooks SET url = coalesce($2, url), channels = coalesce($3, channels), enabled = coalesce($4, enabled),
    reason = CASE WHEN $4 IS NULL THEN reason WHEN $4 THEN NULL ELSE 'by its owner' END,
    failures = CASE WHEN $4 THEN 0 ELSE failures END, caller = coalesce($5::jsonb, caller), version = version + 1
WHERE id = $1 RETURNING owner
"""
ROTATE = """
UPDATE webhooks SET old_secret = secret, old_secret_until = $3, secret = $2, version = version + 1
WHERE id = $1 RETURNING owner
"""
NOTE = """
INSERT INTO webhook_deliveries (webhook_id, id, channel, "offset", delivered, status, error, at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (webhook_id, id) DO UPDATE SET attempts = webhook_deliveries.attempts + 1, delivered = $5, status = $6,
    error = $7, at = $8
"""
FORGET = f"""
DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND sequence < (
    SELECT min(sequence) FROM (
        SELECT sequence FROM webhook_deliveries WHERE webhook_id = $1 ORDER BY sequence DESC LIMIT {KEPT_DELIVERIES}
    ) AS kept)
"""
MOVE = """
INSERT INTO webhook_positions (webhook_id, channel, epoch, "offset") VALUES ($1, $2, $3, $4)
ON CONFLICT (webhook_id, channel) DO UPDATE SET epoch = $3, "offset" = $4
"""
BEGIN = """
INSERT INTO webhook_positions (webhook_id, channel, epoch, "offset")
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[]) ON CONFLICT DO NOTHING
"""


class Webhook(msgspec.Struct, frozen=True):
    """`caller` is what the hub made of its owner. `reason`: why it is not enabled."""

    id: str
    owner: str
    caller: str
    url: str
    channels: list[str]
    secret: bytes
    old_secret: bytes | None
    old_secret_until: datetime | None
    enabled: bool
    reason: str | None
    failures: int
    version: int
    created_at: datetime


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one webhook. `status` None: nobody answered."""

    id: str
    channel: str
    offset: int
    attempts: int = 1
    delivered: bool
    status: int | None
    error: str | None
    at: datetime


class Webhooks:
    def __init__(self, db: Database) -> None:
        self._db = db

    def leadership(self) -> AbstractAsyncContextManager[Lock | None]:
        """The lock of whoever delivers, or None if somebody else has it. Raises StorageError."""
        return leadership(self._db, LOCK)

    # --- what people do ---

    async def create(
        self,
        id: str,
        *,
        owner: str,
        caller: str,
        url: str,
        channels: Sequence[str],
        secret: bytes,
        begin: Mapping[str, Position],
        now: datetime,
    ) -> None:
        """`begin`: after which position each of the channels is told. Raises Conflict if the owner has too many."""
        async with self._db.connection() as connection, connection.transaction():
            arguments = (id, owner, caller, url, list(channels), secret, now)
            if not await connection.fetchval(CREATE, *arguments):
                raise Conflict(f"Nobody has more than {MAX_OWNED} webhooks.")
            await connection.execute(BEGIN, id, *_columns(begin))
            detail = {"webhook": id, "channels": list(channels)}
            await audit.append(connection, AuditEntry(event="webhook_created", actor=owner, detail=detail))

    async def change(
        self,
        id: str,
        *,
        url: str | None = None,
        channels: Sequence[str] | None = None,
        enabled: bool | None = None,
        caller: str | None = None,
        begin: Mapping[str, Position],
        by: str,
    ) -> None:
        """None: as before. Raises NotFound."""
        given = None if channels is None else list(channels)
        async with self._db.connection() as connection, connection.transaction():
            owner = await connection.fetchval(CHANGE, id, url, given, enabled, caller)
            if owner is None:
                raise NotFound("There is no such webhook.")
            await connection.execute(BEGIN, id, *_columns(begin))
            detail = {"webhook": id, "enabled": enabled, "channels": given}
            await audit.append(connection, AuditEntry(event="webhook_changed", actor=by, target=owner, detail=detail))

    async def rotate(self, id: str, secret: bytes, *, until: datetime, by: str) -> None:
        """Another secret; the one of before signs as well until then. Raises NotFound."""
        async with self._db.connection() as connection, connection.transaction():
            owner = await connection.fetchval(ROTATE, id, secret, until)
            if owner is None:
                raise NotFound("There is no such webhook.")
            entry = AuditEntry(event="webhook_secret_rotated", actor=by, target=owner, detail={"webhook": id})
            await audit.append(connection, entry)

    async def remove(self, id: str, *, by: str) -> None:
        """Raises NotFound."""
        async with self._db.connection() as connection, connection.transaction():
            owner = await connection.fetchval("DELETE FROM webhooks WHERE id = $1 RETURNING owner", id)
            if owner is None:
                raise NotFound("There is no such webhook.")
            entry = AuditEntry(event="webhook_removed", actor=by, target=owner, detail={"webhook": id})
            await audit.append(connection, entry)

    async def get(self, id: str) -> Webhook | None:
        row = await self._db.fetch_row(f"SELECT {WEBHOOK} FROM webhooks WHERE id = $1", id)
        return Webhook(*row) if row else None

    async def list(self, owner: str | None = None) -> Sequence[Webhook]:
        """The oldest first. None: everybody's."""
        query = f"SELECT {WEBHOOK} FROM webhooks WHERE $1::text IS NULL OR owner = $1 ORDER BY created_at, id"
        return [Webhook(*row) for row in await self._db.fetch(query, owner)]

    async def deliveries(self, id: str, *, limit: int) -> Sequence[Delivery]:
        """The newest first."""
        query = (
            'SELECT id, channel, "offset", attempts, delivered, status, error, at FROM webhook_deliveries'
            " WHERE webhook_id = $1 ORDER BY sequence DESC LIMIT $2"
        )
        rows = await self._db.fetch(query, id, limit)
        return [Delivery(**dict(row)) for row in rows]

    # --- what whoever delivers does ---

    async def positions(self, id: str) -> dict[str, Position]:
        """By channel."""
        query = 'SELECT channel, epoch, "offset" FROM webhook_positions WHERE webhook_id = $1'
        return {name: Position(epoch, offset) for name, epoch, offset in await self._db.fetch(query, id)}

    async def delivered(self, id: str, delivery: Delivery, to: Position) -> None:
        """The channel's position is this from now on. What belongs to no webhook any more is forgotten."""
        async with self._db.connection() as connection, connection.transaction():
            if await connection.fetchval("UPDATE webhooks SET failures = 0 WHERE id = $1 RETURNING true", id):
                await connection.execute(MOVE, id, delivery.channel, to.epoch, to.offset)
                await connection.execute(NOTE, id, *_noted(delivery))
                await connection.execute(FORGET, id)

    async def failed(self, id: str, delivery: Delivery) -> int:
        """How many attempts in a row have failed by now; 0: the webhook is gone."""
        async with self._db.connection() as connection, connection.transaction():
            query = "UPDATE webhooks SET failures = failures + 1 WHERE id = $1 RETURNING failures"
            failures: int | None = await connection.fetchval(query, id)
            if failures is None:
                return 0
            await connection.execute(NOTE, id, *_noted(delivery))
            return failures

    async def disable(self, id: str, reason: str) -> None:
        async with self._db.connection() as connection, connection.transaction():
            query = "UPDATE webhooks SET enabled = false, reason = $2 WHERE id = $1 AND enabled RETURNING owner"
            owner = await connection.fetchval(query, id, reason)
            if owner is not None:
                detail = {"webhook": id, "reason": reason}
                entry = AuditEntry(event="webhook_disabled", actor=HUB, target=owner, detail=detail, severity="WARN")
                await audit.append(connection, entry)


def _columns(positions: Mapping[str, Position]) -> tuple[list[str], list[str], list[int]]:
    return list(positions), [each.epoch for each in positions.values()], [each.offset for each in positions.values()]


def _noted(delivery: Delivery) -> tuple[Any, ...]:
    error = None if delivery.error is None else delivery.error[:MAX_ERROR]
    return (delivery.id, delivery.channel, delivery.offset, delivery.delivered, delivery.status, error, delivery.at)
