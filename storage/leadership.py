"""One node at a time: an advisory lock that a session of Postgres holds for as long as it lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from storage.database import Database
from storage.errors import StorageError, Unavailable

CHECK_S = 5.0


class Fenced(StorageError):
    """Another node has taken over, or has written since: this one knows nothing any more."""


class Lock:
    """Held by a session of its own: when that ends, others get it."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def check(self) -> None:
        """Raises Unavailable when the lock is lost."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._session.execute("SELECT 1")
        except Exception as failure:
            raise Unavailable("The session that held the leader's lock is lost.") from failure


@asynccontextmanager
async def leadership(db: Database, number: int) -> AsyncIterator[Lock | None]:
    """The advisory lock of this number, or None if somebody else has it. Raises StorageError."""
    async with db.session() as session:
        yield Lock(session) if await session.fetchval("SELECT pg_try_advisory_lock($1)", number) else None
