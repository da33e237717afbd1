"""What is held in memory goes as well."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Set

from hub.clock import Clock
from protocol.errors import HubError
from storage.revocations import Kind, erased_mark

logger = logging.getLogger("krin.privacy")

AGAIN_S = 5.0


class Forgetting:
    """Drops what this node, and the broker, hold in memory of persons who were erased or whose data was restricted or
    corrected. It learns of them by revocations, which every node reads: also of those on the command line."""

    def __init__(self, forget: Callable[[Callable[[str], bool]], Awaitable[None]], *, clock: Clock) -> None:
        """`forget` takes what tells whether a publisher is meant. It may raise HubError, and is then asked again."""
        self._forget = forget
        self._clock = clock
        self._marks: set[str] = set()
        self._heard = asyncio.Event()

    def hear(self, touched: Set[tuple[Kind, str]]) -> None:
        marks = {subject for kind, subject in touched if kind in ("erased", "changed")}
        if marks:
            self._marks |= marks
            self._heard.set()

    async def run(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            marks, self._marks = self._marks, set()
            known: dict[str, bool] = {}  # few publishers, many messages

            def theirs(publisher: str, marks: set[str] = marks, known: dict[str, bool] = known) -> bool:
                if publisher not in known:
                    known[publisher] = erased_mark(publisher) in marks
                return known[publisher]

            try:
                await self._forget(theirs)
            except HubError as failure:
                logger.warning("persons are not yet forgotten by the broker: %s", failure)
                self._marks |= marks
                self._heard.set()
                await self._clock.sleep(AGAIN_S)
