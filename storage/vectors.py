"""Documents that can be searched: by their words, by the nearness of their vectors, among what somebody may read.

Rules: a search is narrowed to a `Scope` in the statement itself, before anything is counted off; vectors are compared
with those of the same model only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from storage.database import Database

DIMENSIONS = 1536  # of every embedding; shorter ones are filled up with zeros
DocumentKind = Literal["message", "knowledge", "insight", "session"]

EXACT_ROWS = 2_000  # in scope: up to here every vector is compared, which is as fast and misses nothing
FRESH_ROWS = 1_000  # the newest documents, of which an index loses none
EF_SEARCH = 100
MAX_SCAN_TUPLES = 40_000  # that an index may look at while it searches on for rows in scope
MAX_MATCHES = 1_000  # the newest texts with every word asked for, and as many with any of them: these are ranked
SNIPPET = 'StartSel="", StopSel="", MaxWords=40, MinWords=20, FragmentDelimiter=" … "'

ANY_WORD = "nullif(replace(plainto_tsquery('english', $1)::text, '&', '|'), '')::tsquery"
TEXT = f"""
WITH asked AS (SELECT websearch_to_tsquery('english', $1) AS every, {ANY_WORD} AS any_of),
matched AS (
    (SELECT d.id FROM documents AS d, asked WHERE d.words @@ asked.every AND {{scope}}
     ORDER BY d.id DESC LIMIT {MAX_MATCHES})
    UNION
    (SELECT d.id FROM documents AS d, asked WHERE d.words @@ asked.any_of AND {{scope}}
     ORDER BY d.id DESC LIMIT {MAX_MATCHES})
)
SELECT d.id, d.words @@ asked.every AS whole FROM matched JOIN documents AS d USING (id), asked
ORDER BY whole DESC, ts_rank_cd(d.words, asked.any_of) + ts_rank(d.words, asked.any_of) DESC, d.id DESC
LIMIT $2
"""
# What resembles nothing else may have no neighbour that leads to it: an index can lose it. The newest, which are most
# asked for, are compared one by one beside it.
NEAREST = f"""
WITH fresh AS MATERIALIZED (
    SELECT d.id, d.embedding <=> $3::real[]::halfvec AS distance FROM documents AS d
    WHERE d.id > (SELECT max(id) - {FRESH_ROWS} FROM documents) AND d.embedding_model = $1 AND {{scope}}
)
SELECT id FROM (
    (SELECT d.id, d.embedding <=> $3::real[]::halfvec AS distance FROM documents AS d
    WHERE d.embedding_model = $1 AND {{scope}} ORDER BY distance LIMIT $2)
    UNION (SELECT id, distance FROM fresh ORDER BY distance LIMIT $2)
) AS near WHERE distance < $4 ORDER BY distance, id LIMIT $2
"""
# Ordered by what was computed, so that no index can offer the order.
NEAREST_EXACT = """
WITH near AS MATERIALIZED (
    SELECT d.id, d.embedding <=> $3::real[]::halfvec AS distance FROM documents AS d
    WHERE d.embedding_model = $1 AND {scope}
)
SELECT id FROM near WHERE distance < $4 ORDER BY distance, id LIMIT $2
"""
# The ids first, which are few: an index of vectors would search everything.
BETWEEN = """
WITH fresh AS MATERIALIZED (
    SELECT d.id, d.embedding <=> $3::real[]::halfvec AS distance FROM documents AS d
    WHERE d.id > $5 AND d.id <= $6 AND d.embedding_model = $1 AND {scope}
)
SELECT id FROM fresh WHERE distance < $4 ORDER BY id LIMIT $2
"""
IN_SCOPE = "SELECT count(*) FROM (SELECT FROM documents AS d WHERE {scope} LIMIT $1) AS readable"
FOUND = f"""
SELECT d.id, d.kind, d.channel, d."offset", c.epoch, d.timestamp_ms, d.type, d.publisher,
    ts_headline('english', left(d.content, 2000), coalesce({ANY_WORD}, ''::tsquery), '{SNIPPET}')
FROM unnest($2::bigint[]) WITH ORDINALITY AS wanted (id, place) JOIN documents AS d USING (id)
LEFT JOIN channels AS c ON d."offset" IS NOT NULL AND c.name = d.channel
ORDER BY wanted.place
"""


class Scope(msgspec.Struct, frozen=True):
    """Channels by name, by what their names begin with, and likewise those without a slash only."""

    names: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    flat_prefixes: tuple[str, ...] = ()


class FoundDocument(msgspec.Struct, frozen=True):
    """`offset` and `epoch` say where in its channel a message is, and are None for everything else."""

    id: int
    kind: DocumentKind
    channel: str
    offset: int | None
    epoch: str | None
    timestamp_ms: int
    type: str
    publisher: str
    snippet: str


class Documents:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def by_words(self, query: str, scope: Scope, *, limit: int) -> tuple[list[int], list[int]]:
        """Ids of documents with every word of the query, and of those with some of them, each the best first."""
        condition, given = _condition(scope, after=2)
        rows = await self._db.fetch(TEXT.format(scope=condition), query, limit, *given)
        return [row[0] for row in rows if row[1]], [row[0] for row in rows if not row[1]]

    async def nearest(
        self,
        vector: Sequence[float],
        model: str,
        scope: Scope,
        *,
        above: float,
        limit: int,
        exact: bool | None = None,
    ) -> list[int]:
        """Ids of the documents nearest to a vector of that model, if their cosine is `above` that.

        `exact` None: compare every vector where that is as fast.
        """
        if exact is None:
            exact = await self._count(scope, EXACT_ROWS + 1) <= EXACT_ROWS
        condition, given = _condition(scope, after=4)
        query = (NEAREST_EXACT if exact else NEAREST).format(scope=condition)
        async with self._db.connection() as connection, connection.transaction(readonly=True):
            if not exact:
                await connection.execute(SEARCH_ON)
            rows = await connection.fetch(query, model, limit, vector, 1.0 - above, *given)
        return [row[0] for row in rows]

    async def newest(self) -> int:
        """The id of the newest document; 0: there is none."""
        return int(await self._db.fetch_value("SELECT coalesce(max(id), 0) FROM documents"))

    async def between(
        self, vector: Sequence[float], model: str, scope: Scope, *, after: int, upto: int, above: float, limit: int
    ) -> list[int]:
        """Ids after `after` and up to `upto` of documents that are so near, the oldest first."""
        condition, given = _condition(scope, after=6)
        query = BETWEEN.format(scope=condition)
        rows = await self._db.fetch(query, model, limit, vector, 1.0 - above, after, upto, *given)
        return [row[0] for row in rows]

    async def found(self, ids: Sequence[int], query: str) -> list[FoundDocument]:
        """These documents in this order, without those that are gone by now."""
        rows = await self._db.fetch(FOUND, query, list(ids))
        return [FoundDocument(*row) for row in rows]

    async def _count(self, scope: Scope, limit: int) -> int:
        condition, given = _condition(scope, after=1)
        return int(await self._db.fetch_value(IN_SCOPE.format(scope=condition), limit, *given))


# An index gives its nearest rows, and only then are those out of scope left out: it searches on until enough remain.
SEARCH_ON = f"""
SET LOCAL hnsw.iterative_scan = strict_order;
SET LOCAL hnsw.ef_search = {EF_SEARCH};
SET LOCAL hnsw.max_scan_tuples = {MAX_SCAN_TUPLES};
SET LOCAL ivfflat.iterative_scan = relaxed_order;
SET LOCAL ivfflat.probes = 10;
"""


def _condition(scope: Scope, *, after: int) -> tuple[str, list[Any]]:
    """What a row `d` must fulfil, and its arguments, numbered after those that the statement has already."""
    given: list[Any] = []

    def number(value: Any) -> str:
        given.append(value)
        return f"${after + len(given)}"

    parts = [f"d.channel = ANY ({number(list(scope.names))}::text[])"]
    for prefixes, beside in ((scope.prefixes, ""), (scope.flat_prefixes, " AND strpos(d.channel, '/') = 0")):
        # As a range, which an index knows. Names are ASCII and printable: DEL comes after all of them.
        parts += [f"d.channel >= {number(each)} AND d.channel < {number(each + chr(127))}{beside}" for each in prefixes]
    return "(" + " OR ".join(parts) + ")", given
