"""What many ask for at the same time, read once for all of them.

Rule: a reading begins after it was asked for, so nobody's answer is older than the question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from protocol.errors import HubError
from storage.database import watching
from storage.errors import StorageError

AskedT = TypeVar("AskedT", bound=Hashable)
ReadT = TypeVar("ReadT")


class SharedReading(Generic[AskedT, ReadT]):
    """`read` is called within one of the turns; what waits for its turn is shared by all who ask for the same."""

    def __init__(self, read: Callable[[AskedT], Awaitable[ReadT]], *, turns: asyncio.Semaphore) -> None:
        self._read = read
        self._turns = turns
        self._next: dict[AskedT, asyncio.Task[ReadT]] = {}  # readings that have not begun
        self._under_way: dict[AskedT, asyncio.Task[ReadT]] = {}

    async def of(self, asked: AskedT) -> ReadT:
        """Raises what `read` does.

        Whoever goes away, or waits no longer, leaves the reading to the others: a statement that is cut off in the
        middle costs its connection, and the new one more than the statement.
        """
        if (reading := self._next.get(asked)) is None:
            reading = asyncio.create_task(self._in_turn(asked, self._under_way.get(asked)))
            # A failure is no news for the loop when everybody who asked has gone away.
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._next[asked] = reading
        if (stopwatch := watching.get()) is not None:
            stopwatch.start()
        try:
            return await asyncio.shield(reading)
        except HubError as error:  # each has one of its own: it is counted, and grows on its way out
            raise HubError(error.code, error.message, path=error.path, retry_after_ms=error.retry_after_ms) from None
        except StorageError as error:
            raise type(error)(*error.args) from None
        finally:
            if stopwatch is not None:
                stopwatch.stop()

    async def _in_turn(self, asked: AskedT, before: asyncio.Task[ReadT] | None) -> ReadT:
        """Read when the reading before has ended, whatever became of it."""
        if before is not None:
            await asyncio.wait([before])
        async with self._turns:
            self._under_way[asked] = self._next.pop(asked)
            try:
                return await self._read(asked)
            finally:
                del self._under_way[asked]
