"""The group commit of what the engine decides: whatever arrives while one transaction runs goes into the next one.

Rule: what is told or sent anywhere happens after the commit, in the order of the decisions.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from storage.errors import OutcomeUnknown, StorageError
from storage.messages import NewMessage
from storage.orders import LogEnd, NewEvent, NewName, NewOrder, OrderBatch, OrderLog, Taken

MAX_BATCH = 256  # changes
MAX_QUEUE = 4096


class NameTaken(Exception):
    """A name was used by an order that is in the log only. Nothing of the change was written."""


class Change:
    """What one decision writes down. `then` is called after the commit, `undo` if a name turned out to be taken."""

    __slots__ = ("done", "ended", "events", "messages", "names", "order", "order_ids", "reopened", "then", "undo")

    def __init__(self) -> None:
        self.order: tuple[str, str, str, str] | None = None  # order_id, account, symbol, side of a new one
        self.names: list[NewName] = []
        self.events: list[NewEvent] = []
        self.ended: list[str] = []
        self.reopened: list[str] = []
        self.messages: list[Publication] = []
        self.order_ids: set[str] = set()
        self.then: list[Callable[[], None]] = []
        self.undo: Callable[[], None] | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Journal:
    """Knows where the log ends. `run` ends with StorageError when the log and the memory may differ from then on."""

    def __init__(self, log: OrderLog, end: LogEnd, durable: DurableChannels, *, clock: Clock) -> None:
        self._log = log
        self._end = end
        self._durable = durable
        self._clock = clock
        self._queue: deque[Change] = deque()
        self._arrived = asyncio.Event()
        self._failure: HubError | None = None
        self.commits = 0

    @property
    def epoch(self) -> int:
        return self._end.epoch

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def require_room(self) -> None:
        """Raises HubError(overloaded, not_available): before a decision, which cannot be taken back."""
        if self._failure is not None:
            raise self._failure
        if len(self._queue) >= MAX_QUEUE:
            raise HubError(ErrorCode.OVERLOADED, "too many orders are waiting to be written down", retry_after_ms=100)

    def add(self, change: Change) -> asyncio.Future[None]:
        """Queue for the next commit. The future fails with HubError, or NameTaken."""
        if self._failure is not None:
            change.done.set_exception(self._failure)
            change.done.exception()
            return change.done
        self._queue.append(change)
        self._arrived.set()
        return change.done

    async def run(self) -> None:
        """Raises StorageError."""
        batch: list[Change] = []
        try:
            while True:
                if not self._queue:
                    self._arrived.clear()
                    await self._arrived.wait()
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
                await self._commit(batch)
                batch = []
        except StorageError as failure:
            self._fail(batch, unknown=isinstance(failure, OutcomeUnknown))
            raise
        except BaseException:  # cancelled: what was under way may have been committed
            self._fail(batch, unknown=True)
            raise

    async def _commit(self, batch: list[Change]) -> None:
        while batch:
            whole = OrderBatch()
            owners: list[Change] = []
            for change in batch:
                if change.order is not None:
                    whole.orders.append(NewOrder(*change.order, len(whole.events)))  # type: ignore[arg-type]  # a Side
                owners += [change] * len(change.names)
                whole.names += change.names
                whole.events += change.events
                whole.ended += change.ended
                whole.reopened += change.reopened
                whole.messages += [_message(publication) for publication in change.messages]
            try:
                stored, self._end = await self._log.commit(whole, self._end, now_us=self._clock.now_us())
            except Taken as taken:
                batch = self._without({id(owners[place]) for place in taken.places}, batch)
                continue
            self.commits += 1
            places = iter(stored)
            for change in batch:
                for publication in change.messages:
                    self._durable.announce(publication, next(places))
                for call in change.then:
                    call()
                if not change.done.done():
                    change.done.set_result(None)
            return

    def _without(self, wrong: set[int], batch: list[Change]) -> list[Change]:
        """Take out the changes whose names are taken, and whatever else was decided about their orders."""
        dropped = {order_id for change in batch if id(change) in wrong for order_id in change.order_ids}
        kept: list[Change] = []
        for change in batch:
            (self._refuse(change) if change.order_ids & dropped else kept.append(change))
        for change in [each for each in self._queue if each.order_ids & dropped]:
            self._queue.remove(change)
            self._refuse(change)
        return kept

    def _refuse(self, change: Change) -> None:
        if change.undo is not None:
            change.undo()
        if not change.done.done():
            change.done.set_exception(NameTaken())
            change.done.exception()

    def _fail(self, batch: list[Change], *, unknown: bool) -> None:
        refused = HubError(
            ErrorCode.NOT_AVAILABLE, "orders cannot be taken now; nothing was written", retry_after_ms=1000
        )
        maybe = HubError(
            ErrorCode.TIMEOUT, "the outcome is unknown; retry with the same client_order_id", retry_after_ms=1000
        )
        self._failure = refused
        for change, failure in [(each, maybe if unknown else refused) for each in batch] + [
            (each, refused) for each in self._queue
        ]:
            if not change.done.done():
                change.done.set_exception(failure)
                change.done.exception()
        self._queue.clear()


def _message(publication: Publication) -> NewMessage:
    return NewMessage(
        publication.channel,
        publication.type,
        publication.body,
        publication.timestamp,
        publication.publisher or "",
    )
