"""The Global Privacy Control of a browser, taken for what it says."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

from hub.clock import Clock
from storage.consents import Consents
from storage.errors import StorageError

logger = logging.getLogger("krin.privacy")

MAX_OPT_OUTS = 10_000


class OptOuts:
    """Notes who sent `Sec-GPC: 1` as a refusal of sale and sharing: once, and never in the way of the request."""

    def __init__(self, consents: Consents, *, clock: Clock) -> None:
        self._consents = consents
        self._clock = clock
        self._noted: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_OPT_OUTS)

    def hear(self, name: str) -> None:
        if name in self._noted or self._waiting.full():  # the browser says it again with the next request
            return
        if len(self._noted) >= MAX_OPT_OUTS:
            self._noted.clear()
        self._noted.add(name)
        self._waiting.put_nowait(name)

    async def run(self) -> None:
        while True:
            name = await self._waiting.get()
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            try:
                await self._consents.put(name, "sale_or_sharing", False, source="sec-gpc", now=now, by=name)
            except StorageError as failure:
                logger.warning("an opt-out could not be noted: %s", failure)
                self._noted.discard(name)
