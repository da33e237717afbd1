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
AGAIN_S = 60.0  # who says so again may have agreed meanwhile, maybe through another node


class OptOuts:
    """Notes who sent `Sec-GPC: 1` as a refusal of sale and sharing: once a minute, never in the way of a request."""

    def __init__(self, consents: Consents, *, clock: Clock) -> None:
        self._consents = consents
        self._clock = clock
        self._noted: dict[str, float] = {}  # when, monotonic seconds
        self._waiting: asyncio.Queue[str] = asyncio.Queue(MAX_OPT_OUTS)

    def hear(self, name: str) -> None:
        now = self._clock.monotonic()
        noted = self._noted.get(name)
        if (noted is not None and now < noted + AGAIN_S) or self._waiting.full():  # the browser says it again
            return
        if len(self._noted) >= MAX_OPT_OUTS:
            self._noted.clear()
        self._noted[name] = now
        self._waiting.put_nowait(name)

    async def run(self) -> None:
        while True:
            name = await self._waiting.get()
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            try:
                await self._consents.put(name, "sale_or_sharing", False, source="sec-gpc", now=now, by=name)
            except StorageError as failure:
                logger.warning("an opt-out could not be noted: %s", failure)
                self._noted.pop(name, None)
