"""Knowledge entries: added, read, and found by their words."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from protocol.knowledge import KnowledgeEntry, KnowledgeSearch
from storage.database import Database

COLUMNS = "id, kind, title, body, tags, project_id, finding, author, added_us"
# A match in the title counts more than one in the tags, and that more than one in the body.
ADD = f"""
INSERT INTO knowledge_entries ({COLUMNS}, document)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9,
        setweight(to_tsvector('english', $3), 'A') ||
        setweight(to_tsvector('english', array_to_string($5::text[], ' ')), 'B') ||
        setweight(to_tsvector('english', $4), 'C'))
ON CONFLICT (id) DO NOTHING
"""
GET = f"SELECT {COLUMNS} FROM knowledge_entries WHERE id = $1"
PROJECTS = "SELECT DISTINCT project_id FROM knowledge_entries WHERE project_id IS NOT NULL"
# $1 is what is looked for, in the words of a web search; NULL: anything. Equal ranks: the newer first.
SEARCH = f"""
SELECT {COLUMNS} FROM knowledge_entries, websearch_to_tsquery('english', $1) AS query
WHERE ($1 IS NULL OR document @@ query)
  AND ($2::text IS NULL OR kind = $2)
  AND CASE WHEN $3::text IS NULL THEN project_id IS NULL OR project_id = ANY ($4) ELSE project_id = $3 END
ORDER BY ts_rank_cd(document, query) DESC NULLS LAST, added_us DESC, id LIMIT $5
"""


class KnowledgeTable:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def add(self, entry: KnowledgeEntry) -> KnowledgeEntry:
        """What is stored under this id now: an earlier entry stays as it is."""
        what = (entry.kind, entry.title, entry.body, entry.tags, entry.project_id, entry.finding)
        await self._db.execute(ADD, UUID(entry.entry_id), *what, entry.author, entry.added_at)
        stored = await self.get(entry.entry_id)
        return stored or entry

    async def get(self, entry_id: str) -> KnowledgeEntry | None:
        rows = await self._db.fetch(GET, UUID(entry_id))
        return _entry(rows[0]) if rows else None

    async def projects(self) -> list[str]:
        """The projects that have entries."""
        return [row[0] for row in await self._db.fetch(PROJECTS)]

    async def search(self, wanted: KnowledgeSearch, *, readable: Collection[str]) -> list[KnowledgeEntry]:
        """The best matches first. Without `wanted.project_id`: of everybody's and those of the `readable` projects."""
        rows = await self._db.fetch(SEARCH, wanted.query, wanted.kind, wanted.project_id, list(readable), wanted.limit)
        return [_entry(row) for row in rows]


def _entry(row: Any) -> KnowledgeEntry:
    entry_id, kind, title, body, tags, project_id, finding, author, added_us = row
    return KnowledgeEntry(
        entry_id=str(entry_id),
        kind=kind,
        title=title,
        body=body,
        tags=tags,
        project_id=project_id,
        finding=finding,
        author=author,
        added_at=added_us,
    )
