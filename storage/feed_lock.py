"""Which of several nodes runs the market feed: a lock in Postgres, held by a session of its own."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

from storage.database import Database

LOCK = 0x66656564  # "feed"


class FeedLock:
    """One owner calls `hold` now and then, and `release` at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stack = AsyncExitStack()
        self._session: Any = None

    async def hold(self) -> bool:
        """Whether this node holds the lock now; takes it when it is free. Raises StorageError: nobody can be asked."""
        if self._session is not None:
            try:
                await self._session.execute("SELECT 1")
                return True
            except Exception:  # whatever became of the session, the lock went with it
                await self.release()
        session = await self._stack.enter_async_context(self._database.session())
        if await session.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            self._session = session
            return True
        await self.release()
        return False

    async def release(self) -> None:
        self._session = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()
