"""Making documents: one node at a time, from what durable channels hold, each message once.

Rule: a document and the position that it brings its channel to are committed together, and only while the message still
is what it was when it was read: see krin_forget_documents for the other half.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from storage.database import Database, columns
from storage.privacy import ERASED_TYPE, RESTRICTED_TYPE
from storage.vectors import DocumentKind

if TYPE_CHECKING:  # every command that migrates a database would load it
    import numpy as np
    from numpy.typing import NDArray

IndexKind = Literal["hnsw", "ivfflat"]

LOCK = 0x646F6373  # "docs": who makes documents
INDEX_FROM_ROWS = 5_000  # below, comparing with every vector is as fast and misses nothing
INDEX_PREFIX = "documents_near_"
MAX_CHANNELS = 64  # that are read on at once

# Offsets have no gaps, so a page is a range of them; what was trimmed meanwhile is passed over. Whoever is behind gets
# an equal share of the page, and if they are many, which of them is left to chance: no flood holds others up.
UNREAD = f"""
WITH behind AS MATERIALIZED (
    SELECT c.id, c.name, c.top, coalesce(p."offset", 0) AS done
    FROM channels AS c LEFT JOIN document_positions AS p ON p.channel_id = c.id
    WHERE c.top > coalesce(p."offset", 0) AND split_part(c.name, ':', 1) = ANY ($1)
    ORDER BY random() LIMIT least({MAX_CHANNELS}, $2)
), page AS MATERIALIZED (
    SELECT id, name, done, least(top, done + $2 / (count(*) OVER ())) AS upto FROM behind
)
SELECT b.id, b.name, b.upto, m."offset", m.xmin::text AS version, m.timestamp_ms, m.type, m.publisher, m.body,
    m.type IN ('{ERASED_TYPE}', '{RESTRICTED_TYPE}') OR r.name IS NOT NULL AS hidden
FROM page AS b
LEFT JOIN messages AS m ON m.channel_id = b.id AND m."offset" > b.done AND m."offset" <= b.upto
LEFT JOIN restrictions AS r ON r.name = m.publisher
"""
REQUESTED = f"""
SELECT q.channel_id, coalesce(c.name, ''), 0, q."offset", m.xmin::text, m.timestamp_ms, m.type, m.publisher, m.body,
    c.id IS NULL OR m.type IS NULL OR split_part(c.name, ':', 1) <> ALL ($1)
    OR m.type IN ('{ERASED_TYPE}', '{RESTRICTED_TYPE}') OR r.name IS NOT NULL
FROM (SELECT channel_id, "offset" FROM document_requests LIMIT $2) AS q
LEFT JOIN channels AS c ON c.id = q.channel_id
LEFT JOIN messages AS m ON m.channel_id = q.channel_id AND m."offset" = q."offset"
LEFT JOIN restrictions AS r ON r.name = m.publisher
"""
BEHIND = """
SELECT coalesce(sum(c.top - coalesce(p."offset", 0)), 0)::bigint
FROM channels AS c LEFT JOIN document_positions AS p ON p.channel_id = c.id
WHERE c.top > coalesce(p."offset", 0) AND split_part(c.name, ':', 1) = ANY ($1)
"""
# Of channels that were read before the configuration left their namespaces out.
LEAVE_OUT = """
WITH left_out AS (
    DELETE FROM document_positions AS p USING channels AS c
    WHERE c.id = p.channel_id AND split_part(c.name, ':', 1) <> ALL ($1) RETURNING c.name
)
DELETE FROM documents AS d USING left_out AS l WHERE d.channel = l.name AND d.kind IN ('message', 'insight')
"""
UNREAD_KNOWLEDGE = """
SELECT k.id::text, k.kind, k.project_id, k.title, k.body, k.tags, k.added_us FROM knowledge_entries AS k
WHERE NOT EXISTS (SELECT FROM documents AS d WHERE d.kind = 'knowledge' AND d.reference = k.id::text) LIMIT $1
"""
CONSENTING = """
SELECT name FROM (
    SELECT DISTINCT ON (name) name, granted FROM consents WHERE name = ANY ($1) AND purpose = 'ai_processing'
    ORDER BY name, version DESC
) AS newest WHERE granted
"""
STALE = """
SELECT id, publisher, content FROM documents WHERE id > $2 AND embedding_model IS DISTINCT FROM $1 ORDER BY id LIMIT $3
"""
COUNT_STALE = "SELECT count(*) FROM documents WHERE embedding_model IS DISTINCT FROM $1"
EMBED = """
UPDATE documents AS d SET embedding = n.embedding, embedding_model = $1
FROM unnest($2::bigint[], $3::halfvec[]) AS n (id, embedding) WHERE d.id = n.id
"""
COUNT_ROWS = "SELECT count(*) FROM (SELECT FROM documents WHERE embedding_model = $1 LIMIT $2) AS counted"
CREATE_INDEX = (
    "CREATE INDEX CONCURRENTLY %I ON documents USING %s (embedding halfvec_cosine_ops)%s WHERE embedding_model = %L"
)
INDEXES = "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE $1"
STORE = """
SELECT krin_store_documents($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""


SCHEMA = "SELECT typnamespace::regnamespace::text FROM pg_type WHERE oid = 'halfvec'::regtype"


class ReadMessage(msgspec.Struct, frozen=True):
    """`version` changes with the row. `hidden`: there must be no document of it."""

    channel_id: int
    channel: str
    offset: int
    version: str | None
    timestamp_ms: int
    type: str
    publisher: str
    body: bytes
    hidden: bool


class NewDocument(msgspec.Struct, frozen=True):
    """`message` is what it was made from, if it was. `publisher`: whose it is; "": nobody's."""

    kind: DocumentKind
    reference: str
    channel: str
    timestamp_ms: int
    type: str
    publisher: str
    content: str
    message: ReadMessage | None = None


class Page(msgspec.Struct, frozen=True):
    """Messages to make documents of; with those stored, each channel has come to its position."""

    messages: list[ReadMessage]
    positions: dict[int, int]


class Embedded(msgspec.Struct, frozen=True):
    """A vector for each document, made by one model; None: it was not shown to the model."""

    model: str
    vectors: Sequence[NDArray[np.float32] | None]


class StaleDocument(msgspec.Struct, frozen=True):
    """A document without a vector of the model that is asked for."""

    id: int
    publisher: str
    content: str


class StoredKnowledge(msgspec.Struct, frozen=True):
    """An entry that there is no document of. `project` None: everybody's."""

    id: str
    kind: str
    project: str | None
    title: str
    body: str
    tags: list[str]
    added_us: int


class DocumentWriter:
    """Whoever holds the lock. One statement at a time, on a session of its own: nothing here hurries."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def unread(self, namespaces: Sequence[str], *, limit: int) -> Page:
        """At most `limit` messages of durable channels that have not been read, of each channel the oldest first."""
        rows = await self._session.fetch(UNREAD, list(namespaces), limit)
        messages: list[ReadMessage] = []
        positions: dict[int, int] = {}
        rows.sort(key=lambda row: (row[0], row["offset"] or 0))
        for row in rows:
            if row["offset"] is not None:
                messages.append(_read(row))
            positions[row[0]] = row["upto"]
        return Page(messages, positions)

    async def leave_out_others(self, namespaces: Sequence[str]) -> None:
        """Forget the messages of all other namespaces, as if they had never been read."""
        await self._session.execute(LEAVE_OUT, list(namespaces))

    async def requested(self, namespaces: Sequence[str], *, limit: int) -> list[ReadMessage]:
        """Messages that have changed since they were read."""
        return [_read(row) for row in await self._session.fetch(REQUESTED, list(namespaces), limit)]

    async def knowledge(self, *, limit: int) -> list[StoredKnowledge]:
        """Entries that there are no documents of."""
        return [StoredKnowledge(*row) for row in await self._session.fetch(UNREAD_KNOWLEDGE, limit)]

    async def consenting(self, names: Collection[str]) -> set[str]:
        """Those of them who have agreed to have what they say shown to an AI."""
        return {row[0] for row in await self._session.fetch(CONSENTING, list(names))}

    async def stale(self, model: str, *, after: int, limit: int) -> list[StaleDocument]:
        """Documents without a vector of this model, by id."""
        return [StaleDocument(*row) for row in await self._session.fetch(STALE, model, after, limit)]

    async def count_stale(self, model: str) -> int:
        return int(await self._session.fetchval(COUNT_STALE, model))

    async def embed(self, vectors: Mapping[int, NDArray[np.float32]], model: str) -> None:
        """Give documents, by id, vectors of this model in place of those they have."""
        halves = [_halfvec(each) for each in vectors.values()]
        await self._session.execute(EMBED, model, list(vectors), halves)

    async def behind(self, namespaces: Sequence[str]) -> int:
        """How many messages have not been read."""
        return int(await self._session.fetchval(BEHIND, list(namespaces)))

    async def store(
        self,
        documents: Sequence[NewDocument],
        embedded: Embedded | None,
        *,
        positions: Mapping[int, int] | None = None,
        answered: Sequence[ReadMessage] = (),
    ) -> None:
        """Keep the documents, and note what has been read. Without vectors their embedding is made up for later.

        A session gets what its document says and its vector.
        """
        rows = columns(_rows(documents, embedded), width=12)
        answers = columns([(each.channel_id, each.offset, each.version) for each in answered], width=3)
        read = positions or {}
        await self._session.execute(STORE, *rows, list(read), list(read.values()), *answers)


@asynccontextmanager
async def writing(db: Database) -> AsyncGenerator[DocumentWriter | None]:
    """The one who makes documents, or None if that is somebody else. Raises StorageError."""
    async with db.session(gives_way=True) as session:
        if not await session.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            yield None
            return
        schema = await session.fetchval(SCHEMA)
        await session.set_type_codec("halfvec", schema=schema, encoder=bytes, decoder=bytes, format="binary")
        yield DocumentWriter(session)


async def keep_index(db: Database, model: str, kind: IndexKind, *, from_rows: int = INDEX_FROM_ROWS) -> bool:
    """Build the index of a model's vectors once there are enough; answer whether it was built now.

    An index holds vectors of one model only. Indexes of other models and kinds go when theirs is there. Takes seconds,
    on a session of its own, while documents go on being made: for whoever makes them. Raises StorageError.
    """
    name = f"{INDEX_PREFIX}{kind}_{hashlib.blake2b(model.encode(), digest_size=4).hexdigest()}"
    if await db.fetch_value("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass($1)", name):
        return False
    if await db.fetch_value(COUNT_ROWS, model, from_rows) < from_rows:
        return False
    async with db.session(gives_way=True) as session:
        await _define(session, "DROP INDEX CONCURRENTLY IF EXISTS %I", name)  # what a crash has left of it
        # One process and no more: the node has other things to do.
        await session.execute("SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '256MB'")
        options = ""
        if kind == "ivfflat":
            rows = await session.fetchval(COUNT_ROWS, model, None)
            options = f" WITH (lists = {max(10, rows // 1000)})"
        await _define(session, CREATE_INDEX, name, kind, options, model)
        await session.execute("ANALYZE documents")  # a plan made for the few rows of before does not use it
        for other in await session.fetch(INDEXES, f"{INDEX_PREFIX}%"):
            if other["indexname"] != name:
                await _define(session, "DROP INDEX CONCURRENTLY %I", other["indexname"])
    return True


async def _define(session: Any, template: str, *names: str) -> None:
    """A statement that takes no parameters, quoted by Postgres itself."""
    statement = await session.fetchval("SELECT format($1, VARIADIC $2::text[])", template, list(names))
    await session.execute(statement)


def _read(row: Any) -> ReadMessage:
    return ReadMessage(row[0], row[1], *(row[place] for place in range(3, 10)))


def _rows(documents: Sequence[NewDocument], embedded: Embedded | None) -> list[tuple[Any, ...]]:
    vectors = embedded.vectors if embedded else [None] * len(documents)
    model = embedded.model if embedded else None
    return [
        (
            *(each.kind, each.reference, each.channel, each.message.offset if each.message else None),
            *(each.timestamp_ms, each.type, each.publisher, each.content),
            *((None, None) if vector is None else (_halfvec(vector), model)),
            *((each.message.channel_id, each.message.version) if each.message else (None, None)),
        )
        for each, vector in zip(documents, vectors, strict=True)
    ]


def _halfvec(vector: NDArray[np.float32]) -> bytes:
    """As halfvec_recv has it: the number of dimensions, two bytes of nothing, the numbers."""
    return struct.pack(">HH", len(vector), 0) + vector.astype(">f2").tobytes()
