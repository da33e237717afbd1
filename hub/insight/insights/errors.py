"""Errors that nobody meant to raise, by where they come from: a model is asked once of each kind, never of a repeat."""

from __future__ import annotations

import hashlib
import logging
import traceback
from typing import Any, NoReturn

import msgspec

from hub.clock import Clock
from storage.errors import StorageError
from storage.insights import ErrorGroups
from storage.jobs import Jobs

logger = logging.getLogger("krin.insights")

TOP_FRAMES = 5
MAX_UNTOLD = 200  # kinds between two looks: more are not counted
INTERVAL_S = 1.0


class ErrorKind(msgspec.Struct, frozen=True):
    """`frames`: the innermost first, as module:function. Never what the error says: that may quote anything."""

    type: str
    frames: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """The same for the same error of another run: no line numbers, which any change moves."""
        return hashlib.blake2b("\n".join([self.type, *self.frames]).encode(), digest_size=16).hexdigest()


def kind_of(failure: BaseException) -> ErrorKind:
    frames = [
        f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_name}"
        for frame, _ in traceback.walk_tb(failure.__traceback__)
    ]
    return ErrorKind(type(failure).__qualname__, tuple(reversed(frames[-TOP_FRAMES:])))


class ErrorWatch:
    """Hears errors on the way of an answer, and writes them down beside it. `lost` were too many at once."""

    def __init__(self, groups: ErrorGroups, jobs: Jobs | None, *, clock: Clock) -> None:
        """jobs None: there is no model to ask."""
        self._groups = groups
        self._jobs = jobs
        self._clock = clock
        self._untold: dict[ErrorKind, int] = {}
        self.lost = 0

    def hear(self, failure: BaseException) -> None:
        """Keeps no hold of it."""
        kind = kind_of(failure)
        if kind in self._untold or len(self._untold) < MAX_UNTOLD:
            self._untold[kind] = self._untold.get(kind, 0) + 1
        else:
            self.lost += 1

    async def run(self) -> NoReturn:
        while True:
            try:
                await self.write_down()
            except StorageError as failure:
                logger.warning("errors wait to be written down: %s", failure)
            await self._clock.sleep(INTERVAL_S)

    async def write_down(self) -> None:
        """Raises StorageError: the next time goes on from there."""
        while self._untold:
            kind, count = next(iter(self._untold.items()))
            await self._groups.hear(kind.fingerprint, kind.type, kind.frames, count, now_us=self._clock.now_us())
            self._settle(kind, count)
            if self._jobs is not None:
                payload: dict[str, Any] = {"type": kind.type, "frames": kind.frames}
                await self._jobs.put("error", kind.fingerprint, payload)

    def _settle(self, kind: ErrorKind, count: int) -> None:
        """It may have happened again meanwhile."""
        left = self._untold.pop(kind) - count
        if left:
            self._untold[kind] = left
