"""What is new to a team: knowledge and insights of a stretch of time, as they can be found."""

from __future__ import annotations

from typing import Literal

import msgspec

from storage.database import Database

NewsKind = Literal["knowledge", "insight"]

NEW = "kind IN ('knowledge', 'insight') AND timestamp_ms >= $1 AND timestamp_ms < $2"
TEAMS = f"""
SELECT DISTINCT regexp_replace(channel, '^insights:', '') COLLATE "C" AS team FROM documents
WHERE {NEW} AND channel ~ '^(insights:)?team:' AND regexp_replace(channel, '^insights:', '') COLLATE "C" > $3
ORDER BY team LIMIT $4
"""
# The first line of a document is its title, or all of it.
NEWS = f"""
SELECT kind, type, channel, left(split_part(content, E'\\n', 1), $4), timestamp_ms,
    count(*) FILTER (WHERE kind = 'knowledge') OVER (), count(*) FILTER (WHERE kind = 'insight') OVER ()
FROM documents WHERE {NEW} AND channel = ANY ($3) ORDER BY timestamp_ms DESC, id DESC LIMIT $5
"""


class Piece(msgspec.Struct, frozen=True):
    kind: NewsKind
    type: str
    channel: str
    title: str
    timestamp_ms: int


class News(msgspec.Struct, frozen=True):
    """The newest pieces first; the counts are of all there are."""

    pieces: list[Piece]
    knowledge: int
    insights: int


class TeamNews:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def teams(self, since_ms: int, until_ms: int, *, after: str = "", limit: int) -> list[str]:
        """The channels of teams that have something new, by name."""
        return [row[0] for row in await self._db.fetch(TEAMS, since_ms, until_ms, after, limit)]

    async def of(self, channels: list[str], since_ms: int, until_ms: int, *, characters: int, limit: int) -> News:
        """What is new in these channels. Titles are cut off at so many characters."""
        rows = await self._db.fetch(NEWS, since_ms, until_ms, channels, characters, limit)
        knowledge, insights = (rows[0][5], rows[0][6]) if rows else (0, 0)
        return News([Piece(*row[:5]) for row in rows], knowledge, insights)
