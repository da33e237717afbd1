"""Of the nodes that could run the feed one does; another takes over when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NoReturn, Protocol

from hub.clock import Clock
from hub.trading.market.service import MarketFeed
from storage.errors import StorageError

CHECK_S = 1.0

logger = logging.getLogger("krin.market")


class Lock(Protocol):
    async def hold(self) -> bool: ...
    async def release(self) -> None: ...


class FeedTurn:
    """`feed` is there while this node feeds. Each turn begins with a new one: what the last knew is old."""

    def __init__(self, make: Callable[[], MarketFeed], lock: Lock, *, clock: Clock) -> None:
        self._make = make
        self._lock = lock
        self._clock = clock
        self.feed: MarketFeed | None = None

    async def run(self) -> NoReturn:
        task: asyncio.Task[NoReturn] | None = None
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    if await self._mine():
                        if task is None:
                            self.feed = self._make()
                            task = group.create_task(self.feed.run(), name="market feed")
                            logger.info("market: this node feeds")
                    elif task is not None:
                        task.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await task
                        self.feed = task = None
                        logger.info("market: another node feeds")
                    await self._clock.sleep(CHECK_S)
        finally:
            self.feed = None
            await self._lock.release()

    async def _mine(self) -> bool:
        """Prices go on while Postgres is away: who fed before goes on feeding until somebody else has the lock."""
        try:
            return await self._lock.hold()
        except StorageError as failure:
            logger.info("market: %s", failure)
            return self.feed is not None
