"""The group commit of a leader's decisions: whatever arrives while one transaction runs goes into the next one.

Rule: what is told or sent anywhere happens after the commit, in the order of the decisions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from hub.channels.durable import DurableChannels
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from storage.errors import OutcomeUnknown, StorageError
from storage.messages import NewMessage, Stored

MAX_BATCH = 256  # changes
MAX_QUEUE = 4096


class Decision:
    """What one decision tells, and what is called after its commit."""

    __slots__ = ("done", "messages", "then")

    def __init__(self) -> None:
        self.messages: list[Publication] = []
        self.then: list[Callable[[], None]] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, failure: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(failure)
            self.done.exception()  # nobody need be waiting


ChangeT = TypeVar("ChangeT", bound=Decision)


class GroupCommit(Generic[ChangeT]):
    """`run` ends with StorageError when the log and the memory may differ from then on."""

    def __init__(self, durable: DurableChannels, *, of: str, repeat: str) -> None:
        """`of`: what is written down, in the plural; `repeat`: what a client does when the outcome is unknown."""
        self._durable = durable
        self._of = of
        self._repeat = repeat
        self._queue: deque[ChangeT] = deque()
        self._arrived = asyncio.Event()
        self._failure: HubError | None = None
        self.commits = 0

    async def commit(self, batch: list[ChangeT]) -> None:
        """Write the batch down and settle its changes. Raises StorageError."""
        raise NotImplementedError

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def require_room(self) -> None:
        """Raises HubError(overloaded, not_available): before a decision, which cannot be taken back."""
        if self._failure is not None:
            raise self._failure
        if len(self._queue) >= MAX_QUEUE:
            raise HubError(
                ErrorCode.OVERLOADED, f"too many {self._of} are waiting to be written down", retry_after_ms=100
            )

    def add(self, change: ChangeT) -> asyncio.Future[None]:
        """Queue for the next commit. The future fails with HubError, and with what `commit` refuses single changes."""
        if self._failure is not None:
            change.fail(self._failure)
            return change.done
        self._queue.append(change)
        self._arrived.set()
        return change.done

    async def run(self) -> None:
        """Raises StorageError."""
        batch: list[ChangeT] = []
        try:
            while True:
                if not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                await self.commit(batch)
                self.commits += 1
                batch = []
        except StorageError as failure:
            self._fail(batch, unknown=isinstance(failure, OutcomeUnknown))
            raise
        except BaseException:  # cancelled: what was under way may have been committed
            self._fail(batch, unknown=True)
            raise

    def _settle(self, batch: Sequence[ChangeT], stored: Iterator[Stored]) -> None:
        """The batch is committed, and its messages have these places."""
        for change in batch:
            for publication in change.messages:
                self._durable.announce(publication, next(stored))
            for call in change.then:
                call()
            if not change.done.done():
                change.done.set_result(None)

    def _fail(self, batch: Sequence[ChangeT], *, unknown: bool) -> None:
        refused = HubError(
            ErrorCode.NOT_AVAILABLE, f"{self._of} cannot be taken now; nothing was written", retry_after_ms=1000
        )
        maybe = HubError(ErrorCode.TIMEOUT, f"the outcome is unknown; {self._repeat}", retry_after_ms=1000)
        self._failure = refused
        for change in batch:
            change.fail(maybe if unknown else refused)
        for change in self._queue:
            change.fail(refused)
        self._queue.clear()


def new_message(publication: Publication) -> NewMessage:
    return NewMessage(
        publication.channel,
        publication.type,
        publication.body,
        publication.timestamp,
        publication.publisher or "",
    )
