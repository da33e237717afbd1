"""One channel as an application reads it: a bounded buffer with the client on one side and an iterator on the other."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Protocol, Self

import msgspec

from hub.client.cursor import Cursor, Verdict
from hub.client.wire import Incoming, Joined, Message, message_of
from protocol.messages import Member, PresenceDiff, SubscribeOptions
from protocol.positions import Position

logger = logging.getLogger("krin.client")


class Lost(msgspec.Struct, frozen=True):
    """Messages between `since` and `resumed_at` could not be recovered; `reason` is the hub's, as `offset_too_old`.

    What can be known of the present comes as messages after this: read the state anew where it matters. A durable
    channel forgets nothing: `limit_exceeded` says that there is too much for one answer, and `Client.history` has it.
    """

    channel: str
    reason: str
    since: Position
    resumed_at: Position


OnLost = Callable[[Lost], Awaitable[None] | None]
OnPresence = Callable[[PresenceDiff], None]


class Feed:
    """The client's side of a subscription. Everything here happens on the loop and nothing awaits but `next`."""

    def __init__(
        self,
        channel: str,
        options: SubscribeOptions,
        *,
        capacity: int,
        on_lost: OnLost | None,
        on_presence: OnPresence | None,
        crowd: set[Feed],
        on_room: Callable[[], None],
    ) -> None:
        """`crowd` holds this feed while its buffer is full, until it has drained to half; then `on_room` is called."""
        self.channel = channel
        self.capacity = capacity
        self.cursor = Cursor(options.recover, sparse=options.filter is not None)
        self.members: dict[str, Member] = {}
        self.on_lost = on_lost
        self.on_presence = on_presence
        self.live = False  # what arrives while the hub has not answered belongs to an earlier subscription
        self.asking = False  # a subscribe is under way
        self.joined = False
        self.ended = False
        self.refusals = 0  # temporary ones, in a row
        self.started_at = 0.0
        self._options = options
        self._crowd = crowd
        self._crowded = False
        self._on_room = on_room
        self._buffer: deque[Message | Lost] = deque()
        self._handed = options.recover
        self._failure: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def options(self) -> SubscribeOptions:
        """What to subscribe with now: as asked for, but from where the buffer ends."""
        resume = self.cursor.resume_from
        if self.joined:
            return msgspec.structs.replace(self._options, recover=resume, rewind=None)
        return self._options

    @property
    def position(self) -> Position | None:
        return self._handed if self._buffer else self.cursor.position

    def __len__(self) -> int:
        return len(self._buffer)

    # --- from the client ---

    def join(self, result: Joined) -> None:
        """The hub's answer: what was missed, or that it cannot be had."""
        asked = self.cursor.position
        latest = result.promise == "latest"
        fresh = self.cursor.join(
            result.epoch, result.offset, result.messages, latest=latest, recovered=result.recovered
        )
        if asked is not None and not result.recovered and not latest:
            now = Position(result.epoch, result.offset)
            self._put(Lost(self.channel, result.reason or "unknown", asked, now))
        for incoming in fresh:
            self._put(message_of(incoming, result.epoch))
        self.live = self.joined = True
        self.asking = False
        self.refusals = 0
        self._present({member.client: member for member in result.members})
        self._changed.set()

    def take(self, incoming: Incoming) -> bool:
        """A live message. False when one before it is missing: then subscribe anew, from where the buffer ends."""
        cursor = self.cursor
        before = cursor.position
        match cursor.take(incoming.offset, incoming.key, incoming.epoch):
            case Verdict.APPLY:
                self._put(message_of(incoming, cursor.epoch))
            case Verdict.RESET:
                if before is not None and not cursor.latest:
                    resumed_at = Position(cursor.epoch, incoming.offset - 1)
                    self._put(Lost(self.channel, "epoch_changed", before, resumed_at))
                self._put(message_of(incoming, cursor.epoch))
            case Verdict.GAP:
                logger.warning("%s: offset %d follows %d", self.channel, incoming.offset, cursor.offset)
                return False
        return True

    def presence(self, diff: PresenceDiff) -> None:
        for member in diff.leaves:
            self.members.pop(member.client, None)
        for member in diff.joins:
            self.members[member.client] = member
        if self.on_presence is not None:
            try:
                self.on_presence(diff)
            except Exception:
                logger.exception("on_presence of %s failed", self.channel)

    def pause(self) -> None:
        """The connection is gone, or the subscription is being made anew."""
        self.live = self.asking = False

    def end(self, failure: Exception | None = None) -> None:
        """Nothing more will come. The reader gets what is buffered, then `failure`; without one its loop just ends."""
        if not self.ended:
            self.ended = True
            self.pause()
            self._failure = failure
            self._relieve()
            self._changed.set()

    def discard(self) -> None:
        """The application is not interested in the rest."""
        self._buffer.clear()
        self.end()

    def _present(self, members: dict[str, Member]) -> None:
        joins = [member for client, member in members.items() if client not in self.members]
        leaves = [member for client, member in self.members.items() if client not in members]
        if joins or leaves:
            self.presence(PresenceDiff(channel=self.channel, joins=joins, leaves=leaves))

    def _put(self, item: Message | Lost) -> None:
        self._buffer.append(item)
        if len(self._buffer) >= self.capacity and not self._crowded:
            self._crowded = True
            self._crowd.add(self)
        self._changed.set()

    # --- from the application ---

    async def ready(self) -> None:
        while not self.joined and not self.ended:
            await self._change()
        if not self.joined and self._failure is not None:
            raise self._failure.with_traceback(None)

    async def next(self) -> Message:
        """Raises StopAsyncIteration after an end that the application wished for, else what ended it."""
        while True:
            while not self._buffer:
                if self.ended:
                    raise StopAsyncIteration if self._failure is None else self._failure.with_traceback(None)
                await self._change()
            item = self._buffer.popleft()
            if self._crowded and len(self._buffer) <= self.capacity // 2:
                self._relieve()
            if isinstance(item, Message):
                self._handed = item.position
                return item
            self._handed = item.resumed_at
            await self._tell(item)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _relieve(self) -> None:
        if self._crowded:
            self._crowded = False
            self._crowd.discard(self)
            self._on_room()

    async def _tell(self, lost: Lost) -> None:
        if self.on_lost is None:
            logger.warning("%s: lost what followed %s (%s)", lost.channel, lost.since, lost.reason)
            return
        told = self.on_lost(lost)
        if inspect.isawaitable(told):
            await told


class Owner(Protocol):
    """What a subscription needs of its client."""

    def start(self, feed: Feed) -> None: ...

    def stop(self, feed: Feed) -> None: ...


class Subscription:
    """The messages of one channel, as an async iterator and async context manager. Made by `Client.subscribe`.

    It begins with the first of: entering it, `ready()`, iterating. It ends with `aclose()`, when its `async with` is
    left, or when nothing refers to it any more: so leaving `async for message in krin.subscribe(...)` unsubscribes.

    The stream holds messages only. When some could not be recovered after a lost connection, `on_lost` is called at
    that place of the stream, by the iterator: what it raises comes out of the loop. Without `on_lost` it is logged.
    A channel of the class `latest` promises the newest value per key and not every value: there, nothing is "lost".
    """

    def __init__(self, owner: Owner, feed: Feed) -> None:
        self._owner = owner
        self._feed = feed
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def channel(self) -> str:
        return self._feed.channel

    @property
    def position(self) -> Position | None:
        """(epoch, offset) of the last message handed out; if nothing waits, of the newest one there is."""
        return self._feed.position

    @property
    def waiting(self) -> int:
        """How many messages the application has not taken yet."""
        return len(self._feed)

    @property
    def members(self) -> list[Member]:
        """Who is in the channel now, when subscribed with `presence`."""
        return list(self._feed.members.values())

    @property
    def on_lost(self) -> OnLost | None:
        return self._feed.on_lost

    @on_lost.setter
    def on_lost(self, on_lost: OnLost | None) -> None:
        self._feed.on_lost = on_lost

    async def ready(self) -> None:
        """Wait until the hub has answered. Raises HubError when it refused, Disconnected."""
        self._begin()
        await self._feed.ready()

    async def aclose(self) -> None:
        """Unsubscribe; a loop over this ends. What is still buffered is dropped."""
        self._loop = None
        self._owner.stop(self._feed)
        self._feed.discard()

    async def __aenter__(self) -> Self:
        try:
            await self.ready()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """Raises StopAsyncIteration once closed, HubError when the hub ended it, Disconnected."""
        self._begin()
        return await self._feed.next()

    def __del__(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed() and not self._feed.ended:
            loop.call_soon_threadsafe(_forget, self._owner, self._feed)  # the collector may run in any thread

    def _begin(self) -> None:
        if self._loop is None and not self._feed.ended:
            self._owner.start(self._feed)
            self._loop = asyncio.get_running_loop()


def _forget(owner: Owner, feed: Feed) -> None:
    owner.stop(feed)
    feed.discard()
