"""What the specialists of a project did: an append-only log, read in pages from any point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from storage.database import Database, columns

ENTRY = """
    id, project_id, specialist_type, action_type, context::text, ai_analysis::text, performance_metrics::text, timestamp
"""
APPEND = f"""
INSERT INTO specialist_coordination
    (project_id, specialist_type, action_type, context, ai_analysis, performance_metrics)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[], $6::jsonb[])
RETURNING {ENTRY}
"""
PAGE = f"""
SELECT {ENTRY} FROM specialist_coordination
WHERE project_id = $1 AND ($2::timestamptz IS NULL OR (timestamp, id) > ($2, $3::uuid))
ORDER BY timestamp, id LIMIT $4
"""
PAGE_BACK = PAGE.replace(" > (", " < (").replace("timestamp, id LIMIT", "timestamp DESC, id DESC LIMIT")


class NewEntry(msgspec.Struct, frozen=True):
    """At most 100 characters each for `specialist_type` and `action_type`."""

    project_id: UUID
    specialist_type: str
    action_type: str
    context: Mapping[str, Any]
    ai_analysis: Mapping[str, Any] | None = None
    performance_metrics: Mapping[str, Any] | None = None


class Entry(msgspec.Struct, frozen=True):
    id: UUID
    project_id: UUID
    specialist_type: str
    action_type: str
    context: dict[str, Any]
    ai_analysis: dict[str, Any] | None
    performance_metrics: dict[str, Any] | None
    timestamp: datetime


class CoordinationLog:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def append(self, entries: Sequence[NewEntry]) -> list[Entry]:
        """Store all entries in one transaction, or none. Raises `Rejected` for a value Postgres refuses."""
        if not entries:
            return []
        return [_entry(row) for row in await self._db.fetch(APPEND, *columns([_row(entry) for entry in entries]))]

    async def page(
        self, project_id: UUID, *, after: tuple[datetime, UUID] | None = None, limit: int = 100, reverse: bool = False
    ) -> list[Entry]:
        """Entries by (timestamp, id), beyond the position `after`, which is those two of the last entry seen.

        An entry whose transaction began earlier and ended later than the last one seen is missed by a reader at the
        very end: for a live view follow the team's channel instead.
        """
        timestamp, last_id = after or (None, None)
        rows = await self._db.fetch(PAGE_BACK if reverse else PAGE, project_id, timestamp, last_id, limit)
        return [_entry(row) for row in rows]


def _row(entry: NewEntry) -> tuple[UUID | str | None, ...]:
    return (
        entry.project_id,
        entry.specialist_type,
        entry.action_type,
        _json(entry.context),
        _json(entry.ai_analysis),
        _json(entry.performance_metrics),
    )


def _entry(row: Any) -> Entry:
    decoded: list[Any] = [None if text is None else msgspec.json.decode(text) for text in row[4:7]]
    return Entry(row[0], row[1], row[2], row[3], decoded[0], decoded[1], decoded[2], row[7])


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
