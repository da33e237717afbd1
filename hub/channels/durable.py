"""Durable channels: acknowledged means committed. Postgres is the log, the broker is only the bell.

Publishing goes through a group commit: whatever arrives while one transaction runs goes into the next one. After the
commit the message is rung on the broker. A node that missed the bell finds the gap by offset, and compares the heads
of the durable channels it listens to with Postgres every second, so a lost bell costs latency, never data.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from hub.brokers.base import Broker, Deliver, Recovered
from hub.clock import Clock
from hub.observe.metrics import SIZES, Histogram
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published
from storage.errors import Busy, Conflict, OutcomeUnknown, Rejected, StorageError, Unavailable
from storage.messages import Head, MessageLog, NewMessage, Stored, StoredMessage

logger = logging.getLogger("krin.durable")

MAX_BATCH = 512
MAX_LINGER_S = 0.002
MAX_QUEUE = 4096
RESOLVE_S = 2.0  # how long an unknown outcome is looked up before the publisher is told `timeout`
SWEEP_INTERVAL_S = 1.0
TAIL_MESSAGES = 1000
MAX_HELD = 256
READ_CHUNK = 1000


class _Waiting:
    __slots__ = ("future", "idempotency_key", "publication")

    def __init__(
        self, publication: Publication, idempotency_key: str | None, future: asyncio.Future[Published]
    ) -> None:
        self.publication = publication
        self.idempotency_key = idempotency_key
        self.future = future


class _Tail:
    """A durable channel as this node follows it. Everything up to `offset` has been handed to local listeners.

    `epoch` is None until the head was read; what arrives meanwhile is held.
    """

    __slots__ = ("epoch", "held", "mending", "offset", "opened", "recent")

    def __init__(self, opened: asyncio.Future[None]) -> None:
        self.epoch: str | None = None
        self.offset = 0
        self.recent: deque[Publication] = deque(maxlen=TAIL_MESSAGES)
        self.held: dict[int, Publication] = {}
        self.opened = opened
        self.mending = False


class DurableChannels:
    """Owns the group commit and the tails of the durable channels that have listeners on this node."""

    def __init__(self, log: MessageLog, *, deliver: Deliver, clock: Clock) -> None:
        self._log = log
        self._deliver = deliver
        self._clock = clock
        self._broker: Broker | None = None
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._tails: dict[str, _Tail] = {}
        self._mend: asyncio.Queue[str] = asyncio.Queue()
        self._committing = 0
        self.commits = 0
        self.committed = 0
        self.mended = 0
        self.available = True
        self.commit_ms = Histogram()
        self.batch_size = Histogram(SIZES)

    @property
    def waiting(self) -> int:
        return len(self._queue) + self._committing

    def ring_with(self, broker: Broker) -> None:
        """The broker delivers to `receive`, so it is built after this object and introduced here."""
        self._broker = broker

    # --- the way in ---

    def publish(self, publication: Publication, *, idempotency_key: str | None = None) -> asyncio.Future[Published]:
        """Queue for the next commit. The future resolves after COMMIT, or fails with HubError.

        not_available: definitely not stored. timeout: the outcome is unknown; retry with the same idempotency key.
        """
        if self.waiting >= MAX_QUEUE:
            raise HubError(ErrorCode.OVERLOADED, "too many durable publishes are waiting", retry_after_ms=100)
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(publication, idempotency_key, future))
        self._arrived.set()
        return future

    async def commit(self) -> None:
        """The committer: one transaction at a time, for as long as the node lives."""
        last = 1
        while True:
            if not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            if 1 < last > len(self._queue):
                # Publishers of the last batch are about to come back: a short wait makes one commit of them.
                await self._linger(min(last, MAX_BATCH))
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_BATCH))]
            last = len(batch)
            self._committing = last
            try:
                await self._commit_batch(batch)
            finally:
                self._committing = 0
                for waiting in batch:
                    if not waiting.future.done():  # cancelled from outside: the outcome is unknown
                        waiting.future.set_exception(_unknown())
                        waiting.future.exception()

    async def _linger(self, wanted: int) -> None:
        deadline = self._clock.monotonic() + MAX_LINGER_S
        while len(self._queue) < wanted and (left := deadline - self._clock.monotonic()) > 0:
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _commit_batch(self, batch: list[_Waiting]) -> None:
        messages = [_row(waiting) for waiting in batch]
        began = self._clock.monotonic()
        outcomes = await self._log.append(messages)
        self.commit_ms.observe((self._clock.monotonic() - began) * 1000)
        self.batch_size.observe(len(batch))
        # Keys make a repeat harmless; without one a repeat could store the message twice.
        unknown = [
            index
            for index, outcome in enumerate(outcomes)
            if isinstance(outcome, OutcomeUnknown) and batch[index].idempotency_key is not None
        ]
        repeated = frozenset(unknown)
        deadline = self._clock.monotonic() + RESOLVE_S
        while unknown and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.05)
            again = await self._log.append([messages[index] for index in unknown])
            for index, outcome in zip(unknown, again, strict=True):
                # Unavailable now says nothing about then.
                outcomes[index] = OutcomeUnknown(str(outcome)) if isinstance(outcome, Unavailable) else outcome
            unknown = [index for index in unknown if isinstance(outcomes[index], OutcomeUnknown)]
        self.commits += 1
        for index, (waiting, outcome) in enumerate(zip(batch, outcomes, strict=True)):
            if isinstance(outcome, Stored):
                self._acknowledge(waiting, outcome, repeated=index in repeated)
            elif not waiting.future.done():
                waiting.future.set_exception(_as_hub_error(outcome))
        down = next((each for each in outcomes if isinstance(each, Unavailable | OutcomeUnknown)), None)
        self._note(down is None, down)

    def _acknowledge(self, waiting: _Waiting, stored: Stored, *, repeated: bool) -> None:
        publication = waiting.publication
        if not waiting.future.done():
            waiting.future.set_result(
                Published(
                    channel=publication.channel,
                    epoch=stored.epoch,
                    offset=stored.offset,
                    timestamp=stored.timestamp_ms,
                    # After an unknown outcome we asked again ourselves: our own first attempt is no duplicate.
                    duplicate=stored.duplicate and not (repeated and stored.timestamp_ms == publication.timestamp),
                )
            )
        if stored.duplicate:
            self.committed += 1
        else:
            self.announce(publication, stored)

    def announce(self, publication: Publication, stored: Stored) -> None:
        """Place and ring what was committed, by this object or together with something else."""
        self.committed += 1
        publication.place(stored.epoch, stored.offset)
        assert self._broker is not None
        self._broker.ring(publication)

    def _note(self, available: bool, failure: StorageError | None = None) -> None:
        if isinstance(failure, Busy):  # readers are many: commits have a connection of their own
            return
        if available != self.available:
            self.available = available
            if available:
                logger.info("Postgres is back: durable publishing goes on")
            else:
                logger.error("durable publishing is refused: %s", failure)

    async def forget(self, theirs: Callable[[str], bool]) -> None:
        """What the log holds of publishers of whom `theirs` is true has changed: drop what is remembered of it.

        A channel of such a person's own has gone from under its name; who still listens waits for a new beginning.
        """
        own = [name for name in self._tails if theirs(name.partition(":")[2]) or theirs(name.partition("/")[2])]
        try:
            heads = await self._log.heads(own) if own else {}
        except StorageError as failure:
            raise _as_hub_error(failure) from None
        for name, tail in self._tails.items():
            if name in heads:
                tail.offset = min(tail.offset, heads[name].top)
                tail.recent.clear()
            elif any(theirs(each.publisher or "") for each in tail.recent):
                tail.recent.clear()

    # --- the way out ---

    def receive(self, publication: Publication) -> None:
        """What the broker brings, for every class of channel: durable ones are put in order by offset first."""
        tail = self._tails.get(publication.channel)
        if tail is None:
            self._deliver(publication)
        elif tail.epoch == publication.epoch and publication.offset == tail.offset + 1:
            self._advance(tail, publication)
            while tail.held and (following := tail.held.pop(tail.offset + 1, None)) is not None:
                self._advance(tail, following)
        elif tail.epoch != publication.epoch or publication.offset > tail.offset:
            if len(tail.held) < MAX_HELD:
                tail.held[publication.offset] = publication
            if tail.epoch is not None:
                self._ask_mending(publication.channel, tail)

    def follow(self, channel: str) -> asyncio.Future[None]:
        """Begin to follow a channel for its first local listener. Resolves when its position is known."""
        tail = self._tails.get(channel)
        if tail is None:
            tail = self._tails[channel] = _Tail(asyncio.get_running_loop().create_future())
            self._ask_mending(channel, tail)
        return tail.opened

    def leave(self, channel: str) -> None:
        tail = self._tails.pop(channel, None)
        if tail is not None and not tail.opened.done():
            tail.opened.cancel()

    def recover(
        self, channel: str, *, epoch: str | None, offset: int, limit: int
    ) -> Recovered | asyncio.Future[Recovered]:
        """As `Broker.recover`, for a followed channel."""
        tail = self._tails.get(channel)
        if tail is None or tail.epoch is None:
            raise HubError(ErrorCode.NOT_AVAILABLE, "the channel's position is not known yet", retry_after_ms=1000)
        if epoch is None:
            return Recovered(tail.epoch, tail.offset, [], False, "not_requested")
        if epoch != tail.epoch or offset > tail.offset:
            # Maybe this node is behind the one the reader comes from: the log knows.
            return asyncio.ensure_future(self._recover_unknown(channel, tail, epoch, offset, limit))
        missed = tail.offset - offset
        if missed > limit:
            return Recovered(tail.epoch, tail.offset, [], False, "limit_exceeded")
        if missed <= len(tail.recent):
            return Recovered(tail.epoch, tail.offset, list(tail.recent)[-missed:] if missed else [], True)
        return asyncio.ensure_future(self._recover(channel, tail.epoch, offset, tail.offset))

    async def _recover(self, channel: str, epoch: str, offset: int, top: int) -> Recovered:
        messages: list[Publication] = []
        while (after := messages[-1].offset if messages else offset) < top:
            try:
                chunk = await self._log.read(channel, after=after, limit=min(READ_CHUNK, top - after))
            except StorageError as failure:
                raise _as_hub_error(failure) from None
            if not chunk or chunk[0].offset != after + 1:
                return Recovered(epoch, top, [], False, "offset_too_old")
            messages += [_publication(row) for row in chunk]
        return Recovered(epoch, top, messages, True)

    async def _recover_unknown(self, channel: str, tail: _Tail, epoch: str, offset: int, limit: int) -> Recovered:
        """For a position the tail does not know. The tail catches up first: what it still lacked must not go out again
        after the answer."""
        try:
            head = await self._log.head(channel)
            if head is not None:
                await self._catch_up(channel, tail, head)
        except StorageError as failure:
            raise _as_hub_error(failure) from None
        if self._tails.get(channel) is not tail:
            raise HubError(ErrorCode.NOT_AVAILABLE, "the subscription was given up")
        assert tail.epoch is not None
        if epoch != tail.epoch or offset > tail.offset:
            return Recovered(tail.epoch, tail.offset, [], False, "epoch_changed")
        recovered = self.recover(channel, epoch=epoch, offset=offset, limit=limit)
        return recovered if isinstance(recovered, Recovered) else await recovered

    async def history(self, channel: str, *, after: int, limit: int, reverse: bool) -> Recovered:
        """As `Broker.history`, for any durable channel."""
        try:
            if reverse:
                page = self._log.page(channel, after=0, before=after or None, limit=limit + 1, reverse=True)
            else:
                page = self._log.page(channel, after=after, limit=limit + 1)
            head, rows = await page
        except StorageError as failure:
            raise _as_hub_error(failure) from None
        return Recovered(head.epoch, head.top, [_publication(row) for row in rows[:limit]], len(rows) <= limit)

    async def channels(self) -> list[str]:
        """Every durable channel that was ever written to."""
        try:
            return await self._log.channels()
        except StorageError as failure:
            raise _as_hub_error(failure) from None

    async def mend(self) -> None:
        """Reads what local listeners are missing: after a gap, and at a channel's first listener."""
        while True:
            channels = {await self._mend.get()}
            while not self._mend.empty():
                channels.add(self._mend.get_nowait())
            tails = {channel: tail for channel in channels if (tail := self._tails.get(channel)) is not None}
            try:
                heads = await self._log.heads(list(tails)) if tails else {}
                for channel, tail in tails.items():
                    await self._catch_up(channel, tail, heads[channel])
            except StorageError as failure:
                self._note(False, failure)
                for channel, tail in tails.items():
                    if not tail.opened.done():
                        tail.opened.set_exception(_as_hub_error(failure))
                        tail.opened.exception()
                        self._tails.pop(channel, None)
            finally:
                for tail in tails.values():
                    tail.mending = False

    async def sweep(self) -> None:
        """Compares what local listeners have with the heads in Postgres, every second."""
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            followed = [channel for channel, tail in self._tails.items() if tail.epoch is not None]
            try:
                heads = await self._log.heads(followed) if followed else {}
                if not followed and not self.available:
                    await self._log.heads(["-"])
            except StorageError as failure:
                self._note(False, failure)
                continue
            self._note(True)
            for channel, head in heads.items():
                tail = self._tails.get(channel)
                if tail is not None and (tail.epoch != head.epoch or tail.offset < head.top):
                    self._ask_mending(channel, tail)

    def _ask_mending(self, channel: str, tail: _Tail) -> None:
        if not tail.mending:
            tail.mending = True
            self._mend.put_nowait(channel)  # bounded by the number of followed channels: one entry each

    async def _catch_up(self, channel: str, tail: _Tail, head: Head) -> None:
        if tail.epoch != head.epoch:
            # First sight of this channel, or another history: either way it is followed from its newest message on.
            tail.epoch = head.epoch
            tail.offset = head.top
            tail.recent.clear()
            if not tail.opened.done():
                tail.opened.set_result(None)
        while tail.offset < head.top and self._tails.get(channel) is tail:
            chunk = await self._log.read(channel, after=tail.offset, limit=READ_CHUNK)
            if not chunk:
                break
            for row in chunk:
                if row.offset > tail.offset:  # live messages may have come in between
                    self.mended += 1
                    self._advance(tail, _publication(row))
        for offset in sorted(tail.held):
            held = tail.held[offset]
            if held.epoch == tail.epoch and offset == tail.offset + 1:
                self._advance(tail, held)
        tail.held = {
            offset: held for offset, held in tail.held.items() if held.epoch == tail.epoch and offset > tail.offset
        }

    def _advance(self, tail: _Tail, publication: Publication) -> None:
        tail.offset = publication.offset
        tail.recent.append(publication)
        self._deliver(publication)


def _row(waiting: _Waiting) -> NewMessage:
    publication = waiting.publication
    return NewMessage(
        channel=publication.channel,
        type=publication.type,
        body=publication.body,
        timestamp_ms=publication.timestamp,
        publisher=publication.publisher or "",
        key=publication.key,
        idempotency_key=waiting.idempotency_key,
    )


def _publication(row: StoredMessage) -> Publication:
    publication = Publication(
        row.channel,
        row.type,
        body=row.body,
        timestamp=row.timestamp_ms,
        key=row.key,
        publisher=row.publisher or None,
    )
    publication.place(row.epoch, row.offset)
    return publication


def _unknown() -> HubError:
    return HubError(
        ErrorCode.TIMEOUT, "the outcome is unknown; retry with the same idempotency_key", retry_after_ms=1000
    )


def _as_hub_error(failure: StorageError) -> HubError:
    match failure:
        case Conflict():
            return HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "this idempotency_key was used for another message")
        case Rejected():
            return HubError(ErrorCode.BAD_REQUEST, "Postgres cannot store this message", path="$.message")
        case OutcomeUnknown():
            return _unknown()
        case _:
            return HubError(
                ErrorCode.NOT_AVAILABLE, "the durable store is not available; nothing was stored", retry_after_ms=1000
            )
