"""A durable queue: work is done at least once, by one worker at a time.

Rules: a job is leased, and whoever has lost the lease has lost the job: only its newest claim may end it. Leases are
measured by the clock of Postgres, because those of the workers differ. A kind and key is work that is put once: what
was done is remembered until `storage/retention.py` forgets it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Literal, NoReturn
from uuid import UUID

import msgspec

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database
from storage.errors import Rejected, Unavailable

JobState = Literal["waiting", "running", "parked", "done"]

MAX_OPEN = 10_000  # jobs of a kind that wait or run: whoever puts more is refused
MAX_PAYLOAD_BYTES = 65_536
MAX_ATTEMPTS = 5
MAX_ERROR = 500  # characters
MAX_LISTED = 1_000
MAX_NAMED = 100  # of the jobs that one decision was about, in its row of the audit log
BELL = "krin_jobs"

OPEN = "state IN ('waiting', 'running')"
# Two who put at once may both find room for one: the bound is there against floods, not to the job.
PUT = f"""
WITH room AS (
    SELECT count(*) < $4 AS left FROM (SELECT FROM jobs WHERE {OPEN} AND kind = $1 LIMIT $4) AS counted
), added AS (
    INSERT INTO jobs (kind, key, payload) SELECT $1, $2, $3::jsonb FROM room WHERE room.left
    ON CONFLICT (kind, key) DO NOTHING RETURNING pg_notify('{BELL}', '')
)
SELECT (SELECT count(*) FROM added), room.left, EXISTS (SELECT FROM jobs WHERE kind = $1 AND key = $2) FROM room
"""
CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id FROM jobs WHERE {OPEN} AND due_at <= clock_timestamp() AND kind = ANY ($1) AND attempts < {MAX_ATTEMPTS}
    ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
)
UPDATE jobs AS j SET state = 'running', attempts = attempts + 1, claim = gen_random_uuid(), worker = $3,
    due_at = clock_timestamp() + make_interval(secs => $4)
FROM due WHERE j.id = due.id RETURNING j.id, j.kind, j.key, j.payload::text, j.attempts, j.claim
"""
RENEW = """
UPDATE jobs SET due_at = clock_timestamp() + make_interval(secs => $2) WHERE claim = ANY ($1) RETURNING claim
"""
FINISH = """
UPDATE jobs SET state = 'done', payload = '{}', claim = NULL, error = NULL, ended_at = clock_timestamp()
WHERE claim = $1 RETURNING true
"""
FAIL = """
UPDATE jobs SET state = 'waiting', claim = NULL, error = $2, due_at = clock_timestamp() + make_interval(secs => $3)
WHERE claim = $1 RETURNING true
"""
PARK = """
UPDATE jobs SET state = 'parked', claim = NULL, error = $2, ended_at = clock_timestamp()
WHERE claim = $1 RETURNING true
"""
PARK_LOST = f"""
UPDATE jobs SET state = 'parked', claim = NULL, error = 'every worker that had it was lost',
    ended_at = clock_timestamp()
WHERE state = 'running' AND due_at <= clock_timestamp() AND attempts >= {MAX_ATTEMPTS} RETURNING id
"""
GIVE_BACK = """
UPDATE jobs SET state = 'waiting', claim = NULL, attempts = attempts - 1, due_at = clock_timestamp()
WHERE claim = ANY ($1)
"""
COUNT = f"""
SELECT count(*) FILTER (WHERE state = 'waiting'), count(*) FILTER (WHERE state = 'running'),
    (SELECT count(*) FROM jobs WHERE state = 'parked'),
    coalesce(extract(epoch FROM clock_timestamp() - min(due_at) FILTER (WHERE state = 'waiting')), 0)::float8
FROM jobs WHERE {OPEN}
"""
LIST = """
SELECT id, kind, key, state, attempts, worker, error, put_at, due_at, ended_at FROM jobs
WHERE ($1::text IS NULL OR state = $1) AND ($2::text IS NULL OR kind = $2) ORDER BY id DESC LIMIT $3
"""
RETRY = f"""
WITH again AS (
    UPDATE jobs SET state = 'waiting', attempts = 0, due_at = clock_timestamp(), ended_at = NULL
    WHERE state = 'parked' AND ($1::bigint[] IS NULL OR id = ANY ($1)) RETURNING id
)
SELECT id, pg_notify('{BELL}', '') FROM again
"""
DISCARD = "DELETE FROM jobs WHERE state = 'parked' AND ($1::bigint[] IS NULL OR id = ANY ($1)) RETURNING id"


class QueueFull(Unavailable):
    """So much of that kind is waiting that no more is taken on: it was not put."""


class Job(msgspec.Struct, frozen=True):
    """One attempt, the first is 1. `claim` is what it is ended by."""

    id: int
    kind: str
    key: str
    payload: dict[str, Any]
    attempt: int
    claim: UUID


class JobCounts(msgspec.Struct, frozen=True):
    """`late_s`: for how long the job that has waited longest could have run."""

    waiting: int = 0
    running: int = 0
    parked: int = 0
    late_s: float = 0.0


class ListedJob(msgspec.Struct, frozen=True):
    """`worker`: who had it last. `due_at`: waiting, not before; running, when its lease ends."""

    id: int
    kind: str
    key: str
    state: JobState
    attempts: int
    worker: str | None
    error: str | None
    put_at: datetime
    due_at: datetime
    ended_at: datetime | None


class Jobs:
    def __init__(self, db: Database, *, max_open: int = MAX_OPEN) -> None:
        self._db = db
        self._max_open = max_open

    async def put(self, kind: str, key: str, payload: Mapping[str, Any]) -> bool:
        """Queue work; False if it was queued before, whatever has become of it. Wakes a worker.

        Raises QueueFull, and Rejected for a payload that is too large or no JSON that Postgres can keep.
        """
        encoded = msgspec.json.encode(payload)
        if len(encoded) > MAX_PAYLOAD_BYTES:
            raise Rejected(f"A job's payload is at most {MAX_PAYLOAD_BYTES} bytes.")
        added, room, known = await self._db.fetch_row(PUT, kind, key, encoded.decode(), self._max_open)
        if not (added or known or room):
            raise QueueFull(f"{self._max_open} jobs of the kind {kind} are waiting.")
        return bool(added)

    async def claim(self, kinds: Collection[str], *, worker: str, lease_s: float, limit: int) -> list[Job]:
        """Take jobs that are due, and those whose worker has not renewed its lease, the longest due first."""
        rows = await self._db.fetch(CLAIM, list(kinds), limit, worker, lease_s)
        return [Job(row[0], row[1], row[2], msgspec.json.decode(row[3]), row[4], row[5]) for row in rows]

    async def renew(self, claims: Collection[UUID], *, lease_s: float) -> set[UUID]:
        """Prolong the leases; answer those that are still held. The others have been lost to somebody else."""
        return {row[0] for row in await self._db.fetch(RENEW, list(claims), lease_s)}

    async def finish(self, job: Job) -> bool:
        """It is done. False: the job was lost before, and somebody else does it again."""
        return bool(await self._db.fetch_value(FINISH, job.claim))

    async def fail(self, job: Job, error: str, *, retry_in_s: float | None) -> bool:
        """It has failed: try again later, or (None) park it for people to look at. False as for `finish`."""
        error = error.replace("\0", "")[:MAX_ERROR]
        if retry_in_s is None:
            return bool(await self._db.fetch_value(PARK, job.claim, error))
        return bool(await self._db.fetch_value(FAIL, job.claim, error, retry_in_s))

    async def give_back(self, claims: Collection[UUID]) -> None:
        """Untouched, for whoever is next: the attempt does not count."""
        await self._db.execute(GIVE_BACK, list(claims))

    async def park_lost(self) -> list[int]:
        """Park what has taken every worker with it that tried; answer the ids."""
        return [row[0] for row in await self._db.fetch(PARK_LOST)]

    async def count(self) -> JobCounts:
        return JobCounts(*await self._db.fetch_row(COUNT))

    async def listed(
        self, *, state: JobState | None = None, kind: str | None = None, limit: int = MAX_LISTED
    ) -> list[ListedJob]:
        """The newest first."""
        return [ListedJob(*row) for row in await self._db.fetch(LIST, state, kind, limit)]

    async def retry(self, ids: Collection[int] | None = None) -> list[int]:
        """Let parked jobs (None: all of them) be tried from the beginning; answer the ids of those that were parked."""
        return await self._decided("jobs_retried", RETRY, ids)

    async def discard(self, ids: Collection[int] | None = None) -> list[int]:
        """Forget parked jobs (None: all of them); answer the ids of those that were parked."""
        return await self._decided("jobs_discarded", DISCARD, ids)

    async def _decided(self, event: str, query: str, ids: Collection[int] | None) -> list[int]:
        """What people decide of parked jobs has a row in the audit log, in the same transaction."""
        async with self._db.connection() as connection, connection.transaction():
            changed = [row[0] for row in await connection.fetch(query, None if ids is None else list(ids))]
            if changed:
                named = " ".join(map(str, changed[:MAX_NAMED]))
                await audit.append(connection, AuditEntry(event=event, detail={"count": len(changed), "jobs": named}))
        return changed

    async def listen(self, ring: Callable[[], None]) -> NoReturn:
        """Call `ring` whenever work was put, on a session of its own. Raises Unavailable when that is lost."""
        lost = asyncio.Event()
        async with self._db.session() as session:
            session.add_termination_listener(lambda _: lost.set())
            await session.add_listener(BELL, lambda *_: ring())
            ring()  # what was put before
            await lost.wait()
        raise Unavailable("The session that hears of new jobs is lost.")
