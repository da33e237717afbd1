"""The audit log: one row per state change and per denied attempt, chained by hash (see protocol/audit.py).

A change and its row belong in one transaction: call `append` with the connection that made the change, last, because
from there to the commit every other audited transaction waits. Names go in as they are; the database writes
pseudonyms (see migration 0030).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from protocol.audit import AuditRow
from storage.database import Database, columns

HUB = "krin"  # the actor of what the hub does by itself

APPEND = "SELECT audit_append($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8)"
APPEND_ALL = """
SELECT audit_append(event, actor, target, detail::jsonb, outcome, severity, address, time_us)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[])
     AS given (event, actor, target, detail, outcome, severity, address, time_us)
"""
HEAD = "SELECT sequence, hash FROM audit_head"
ROW = "sequence, time_us, event, actor, address, target, outcome, severity, detail::text AS detail, prev_hash, hash"
PAGE = f"SELECT {ROW} FROM audit_log WHERE sequence > $1 ORDER BY sequence LIMIT $2"
PAGE_BACK = f"SELECT {ROW} FROM audit_log WHERE sequence < $1 ORDER BY sequence DESC LIMIT $2"
LINKS = "SELECT prev_hash, hash FROM audit_log WHERE sequence > $1 ORDER BY sequence LIMIT $2"
PEOPLE = "SELECT pseudonym, name FROM person_keys WHERE pseudonym = ANY ($1::text[])"
READS = """
SELECT a.time_us / 1000 AS time_ms,
       coalesce((SELECT left(a.target, strpos(a.target, ':')) || k.name FROM person_keys AS k
                 WHERE k.pseudonym = substr(a.target, strpos(a.target, ':') + 1)), a.target) AS channel,
       a.detail::text AS detail
FROM audit_log AS a
WHERE a.event = 'sensitive_read' AND a.detail ? 'token' AND ($2::text IS NULL OR a.detail ->> 'token' = $2)
      AND ($1::text IS NULL OR a.actor = (SELECT pseudonym FROM person_keys WHERE name = $1))
      AND a.time_us BETWEEN $3 AND $4
ORDER BY a.sequence LIMIT $5
"""
MESSAGES_SEEN = """
SELECT min(m."offset"), max(m."offset"), count(*) FROM messages AS m JOIN channels AS c ON c.id = m.channel_id
WHERE c.name = $1 AND m."offset" >= $2 AND m."offset" <= $3 AND m.timestamp_ms >= $4 AND m.timestamp_ms <= $5
"""
CHUNK = 100  # rows: decoding more at once would hold up a hub's event loop
LAST = 2**63 - 1
FLUSHED_US = 60_000_000  # a read is written down some seconds after it
LONGEST_SUBSCRIPTION_US = 366 * 86_400 * 1_000_000  # as long as a token may live


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What to write down. `actor` is a name, `address` an address, `target` a name, a channel or another id; `detail`
    is flat and holds no secret and no content. `time_us` None: the database's time."""

    event: str
    actor: str = HUB
    target: str = ""
    detail: Mapping[str, Any] = {}
    outcome: Literal["done", "denied"] = "done"
    severity: Literal["INFO", "WARN", "CRITICAL"] = "INFO"
    address: str = ""
    time_us: int | None = None


class ReadDetail(msgspec.Struct, frozen=True):
    """What was read: see hub.audit.reads."""

    token: str
    socket: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    first: int | None = None
    last: int | None = None


class ReadRow(msgspec.Struct, frozen=True):
    """`channel` by name, where whose it is can still be known."""

    time_ms: int
    channel: str
    detail: ReadDetail


async def append(connection: Any, entry: AuditEntry) -> int:
    """Write one row with this connection, within its transaction; answer the row's sequence number."""
    sequence: int = await connection.fetchval(APPEND, *_arguments(entry))
    return sequence


class AuditTable:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def append_all(self, entries: Sequence[AuditEntry]) -> None:
        """Write entries in their order in one transaction, or none."""
        if entries:
            await self._db.execute(APPEND_ALL, *columns([_arguments(entry) for entry in entries]))

    async def head(self) -> tuple[int, bytes]:
        """The newest row's sequence number and hash: 0 and zeros before the first."""
        row = await self._db.fetch_row(HEAD)
        return row["sequence"], row["hash"]

    async def page(self, *, after: int = 0, limit: int = 100) -> list[AuditRow]:
        return [AuditRow(**row) for row in await self._db.fetch(PAGE, after, limit)]

    async def page_back(self, *, before: int | None = None, limit: int = 100) -> list[AuditRow]:
        """The newest first."""
        rows = await self._db.fetch(PAGE_BACK, LAST if before is None else before, limit)
        return [AuditRow(**row) for row in rows]

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[int, bytes, AsyncIterator[AuditRow]]]:
        """The head's number and hash, and every row in order, all as of one moment; read as they are asked for."""
        async with self._db.session() as session, session.transaction(isolation="repeatable_read", readonly=True):
            head = await session.fetchrow(HEAD)
            query = f"SELECT {ROW} FROM audit_log ORDER BY sequence"
            yield head["sequence"], head["hash"], _rows(session.cursor(query, prefetch=CHUNK))

    async def links(self, *, after: int, limit: int) -> list[tuple[bytes, bytes]]:
        """(prev_hash, hash) of the rows after this one, in order."""
        return [(row["prev_hash"], row["hash"]) for row in await self._db.fetch(LINKS, after, limit)]

    async def reads(
        self, *, user: str | None, token: str | None, since_ms: int, until_ms: int, limit: int
    ) -> list[ReadRow]:
        """Audited reads by whoever is asked about, in the order in which they were written down: those of this time,
        and subscriptions that may have gone on into it.
        """
        since_us = max(0, since_ms * 1000 - LONGEST_SUBSCRIPTION_US)
        rows = await self._db.fetch(READS, user, token, since_us, min(LAST, until_ms * 1000 + FLUSHED_US), limit)
        return [ReadRow(time, channel, msgspec.json.decode(detail, type=ReadDetail)) for time, channel, detail in rows]

    async def messages_seen(
        self, channel: str, *, first: int, last: int | None, since_ms: int | None, until_ms: int | None
    ) -> tuple[int | None, int | None, int]:
        """(first offset, last offset, count) of what a durable channel holds within these bounds."""
        bounds = (first, LAST if last is None else last, since_ms or 0, LAST if until_ms is None else until_ms)
        return tuple(await self._db.fetch_row(MESSAGES_SEEN, channel, *bounds))

    async def names(self, pseudonyms: Sequence[str]) -> dict[str, str]:
        """Whose pseudonyms these are, where that can still be known."""
        return dict(map(tuple, await self._db.fetch(PEOPLE, list(pseudonyms))))


async def _rows(cursor: Any) -> AsyncIterator[AuditRow]:
    async for row in cursor:
        yield AuditRow(**row)


def _arguments(entry: AuditEntry) -> tuple[Any, ...]:
    return (
        _text(entry.event),
        _text(entry.actor),
        _text(entry.target),
        msgspec.json.encode({_text(name): _value(value) for name, value in entry.detail.items()}).decode(),
        entry.outcome,
        entry.severity,
        _text(entry.address),
        entry.time_us,
    )


def _value(value: Any) -> Any:
    return _text(value) if isinstance(value, str) else value


def _text(value: str) -> str:
    """What Postgres can hold: an attempt with an impossible name must be written down all the same."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
