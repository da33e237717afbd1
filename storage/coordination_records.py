"""What one node at a time decides about projects, tasks and specialists: the value of each, and what happened to it.

Rule: records, events, entries of the coordination log and the messages about them are committed together or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import UUID

import msgspec

from storage.database import Database, Queries, columns
from storage.leadership import Fenced, Lock, leadership
from storage.messages import NewMessage, Stored, row_of

LOCK = 0x636F6F72  # "coor": the advisory lock that the coordinator holds
TAKE_OVER = "UPDATE coordination_term SET epoch = epoch + 1, node = $1 RETURNING epoch"
COMMIT = """
SELECT given_offset, given_epoch, given_timestamp_ms, outcome
FROM krin_commit_coordination($1, $2,
    $3::text[], $4::text[], $5::text[], $6::text[], $7::boolean[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::bigint[], $13::text[],
    $14::uuid[], $15::text[], $16::text[], $17::text[],
    $18::text[], $19::bigint[], $20::text[], $21::text[], $22::text[], $23::text[], $24::bytea[], $25::bytea[],
    $26::text[])
"""
ALIVE = """
SELECT kind, id, project_id, body::text FROM coordination_records
WHERE NOT ended AND (kind, id) > ($1, $2) ORDER BY kind, id LIMIT $3
"""
ENDED = """
SELECT kind, id, project_id, body::text FROM coordination_records
WHERE kind = $1 AND ended ORDER BY updated_us DESC, id DESC LIMIT $2
"""
ENDED_PROJECTS = """
SELECT kind, id, project_id, body::text FROM coordination_records
WHERE kind = 'project' AND ended AND body ->> 'state' = $1
  AND ($2::text IS NULL OR (updated_us, id) < (
      SELECT r.updated_us, r.id FROM coordination_records AS r WHERE r.kind = 'project' AND r.id = $2))
ORDER BY updated_us DESC, id DESC LIMIT $3
"""
ENDED_TASKS = """
SELECT kind, id, project_id, body::text FROM coordination_records
WHERE project_id = $1 AND kind = 'task' AND ended AND coalesce((body ->> 'place')::int, 0) > $2
  AND ($3::text IS NULL OR body ->> 'state' = $3) AND ($4::text IS NULL OR body ->> 'specialist_id' = $4)
ORDER BY coalesce((body ->> 'place')::int, 0) LIMIT $5
"""
ENDED_OF = """
SELECT kind, id, project_id, body::text FROM coordination_records
WHERE project_id = $1 AND kind = $2 AND ended ORDER BY updated_us DESC, id DESC
"""
EPOCH = "SELECT epoch FROM coordination_term"
FIND = "SELECT kind, id, project_id, body::text, ended FROM coordination_records WHERE kind = $1 AND id = $2"
EVENTS = "SELECT body::text FROM coordination_events WHERE kind = $1 AND id = $2 ORDER BY position"
CHUNK = 1000


class Record(msgspec.Struct, frozen=True):
    """`body` is JSON. `project_id` is empty for what belongs to no project."""

    kind: str
    id: str
    project_id: str
    body: bytes
    ended: bool = False


class RecordedEvent(msgspec.Struct, frozen=True):
    kind: str
    id: str
    project_id: str
    actor: str
    ts_event: int
    body: bytes


class LogEntry(msgspec.Struct, frozen=True):
    """A row of `specialist_coordination`; at most 100 characters each for the two types. `context` is JSON."""

    project_id: UUID
    specialist_type: str
    action_type: str
    context: bytes


class Batch(msgspec.Struct):
    """One commit. Of several records of one thing the last counts. With a project all that belongs to it ends."""

    records: list[Record] = []
    events: list[RecordedEvent] = []
    entries: list[LogEntry] = []
    messages: list[NewMessage] = []


class CoordinationRecords:
    """`writer` keeps commits apart from the pool's slower readers."""

    def __init__(self, db: Database, *, writer: Queries | None = None) -> None:
        self._db = db
        self._writer = writer or db

    def leadership(self) -> AbstractAsyncContextManager[Lock | None]:
        """The coordinator's lock, or None if somebody else has it. Raises StorageError."""
        return leadership(self._db, LOCK)

    async def take_over(self, node: str) -> int:
        """The epoch of a new term: from now on every commit of an earlier one is refused."""
        epoch: int = await self._writer.fetch_value(TAKE_OVER, node)
        return epoch

    async def commit(self, batch: Batch, epoch: int, *, now_us: int) -> list[Stored]:
        """In one round trip and one transaction; answers the places of the messages.

        Raises Fenced, Unavailable: nothing was written. OutcomeUnknown: read the records.
        """
        latest = {(record.kind, record.id): record for record in batch.records}.values()
        rows = await self._writer.fetch(
            COMMIT,
            *(epoch, now_us),
            *columns([(r.kind, r.id, r.project_id, r.body.decode(), r.ended) for r in latest], width=5),
            *columns(
                [(e.kind, e.id, e.project_id, e.actor, e.ts_event, e.body.decode()) for e in batch.events], width=6
            ),
            *columns(
                [(e.project_id, e.specialist_type, e.action_type, e.context.decode()) for e in batch.entries], width=4
            ),
            *columns([row_of(message) for message in batch.messages], width=9),
        )
        if rows and rows[0]["outcome"] == "fenced":
            raise Fenced("Another node coordinates now.")
        return [Stored(row["given_offset"], row["given_epoch"], row["given_timestamp_ms"]) for row in rows]

    async def alive(self) -> AsyncIterator[Record]:
        """All that something may still happen to, by kind and id."""
        after = ("", "")
        while rows := await self._db.fetch(ALIVE, *after, CHUNK):
            for row in rows:
                yield _record(row)
            after = (rows[-1]["kind"], rows[-1]["id"])

    async def ended(self, kind: str, limit: int) -> list[Record]:
        """Those of a kind that ended last, the oldest first."""
        return [_record(row, ended=True) for row in reversed(await self._db.fetch(ENDED, kind, limit))]

    async def check(self, epoch: int) -> None:
        """Raises Fenced: another node coordinates, or the records have changed under this one."""
        if await self._db.fetch_value(EPOCH) != epoch:
            raise Fenced("The records are not what this term knows.")

    async def find(self, kind: str, id: str) -> Record | None:
        """Also one that has ended."""
        row = await self._db.fetch_row(FIND, kind, id)
        return _record(row, ended=row["ended"]) if row else None

    async def ended_projects(self, *, state: str, before: str | None, limit: int) -> list[Record]:
        """Those that ended last first, from before the project `before` on."""
        rows = await self._db.fetch(ENDED_PROJECTS, state, before, limit)
        return [_record(row, ended=True) for row in rows]

    async def ended_tasks(
        self, project_id: str, *, state: str | None, specialist_id: str | None, after: int, limit: int
    ) -> list[Record]:
        """Of a project that has ended, those behind the place `after`, in their order."""
        rows = await self._db.fetch(ENDED_TASKS, project_id, after, state, specialist_id, limit)
        return [_record(row, ended=True) for row in rows]

    async def ended_of(self, project_id: str, kind: str) -> list[Record]:
        """What belongs to a project and has ended, the last that changed first."""
        return [_record(row, ended=True) for row in await self._db.fetch(ENDED_OF, project_id, kind)]

    async def events(self, kind: str, id: str) -> list[bytes]:
        """The bodies of everything that happened to one thing, in order."""
        return [row["body"].encode() for row in await self._db.fetch(EVENTS, kind, id)]


def _record(row: Any, *, ended: bool = False) -> Record:
    return Record(row["kind"], row["id"], row["project_id"], row["body"].encode(), ended)
