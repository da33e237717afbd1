"""Time travel: the stored messages of several channels once more, merged by time, and then the channels live.

A replay is one long command. Its messages are publications as they were; its reply comes at the end, and with it the
subscriptions that continue each channel where the replay left it. Meanwhile the channels count as subscribed: whoever
unsubscribes from one leaves that part of the replay, and so does who loses the right to it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from hub.audit.reads import Reads
from hub.brokers.base import Recovered
from hub.caller import Caller
from hub.channels.stored import StoredMessages
from hub.channels.subscriptions import Subscriber, Subscription, Subscriptions, finish_all, prepare_all
from hub.clock import Clock
from hub.connections.outbox import Outbox
from hub.namespaces import Namespace
from hub.pace import Pace
from hub.publication import Publication
from protocol.codec import Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import Replay, ReplayResult, SubscribeOptions, SubscribeResult
from protocol.positions import Position

MAX_REPLAYS = 64  # at once on a node; one per connection
PAGE = 64  # messages of a channel in memory
BURST_BYTES = 64 * 1024  # then others have a turn, and the reader the time it needs
PAUSE_S = 0.005
MIN_SPEED = 0.001
COST_PER_CHANNEL = 10.0  # of the limit of reads


def replay_cost(command: Replay) -> float:
    return COST_PER_CHANNEL * len(command.channels)


class _Track:
    """One channel of a replay. `offset` is the last message that was taken from it or passed over, `sent` a count."""

    __slots__ = ("channel", "epoch", "namespace", "offset", "page", "sent", "subscription", "time_ms")

    def __init__(self, channel: str, namespace: Namespace, subscription: Subscription) -> None:
        self.channel = channel
        self.namespace = namespace
        self.subscription = subscription
        self.epoch = ""
        self.offset = 0
        self.sent = 0
        self.page: deque[Publication] = deque()
        self.time_ms = 0  # of its next message; without one, up to when it is known that there is none

    def next_ms(self) -> int:
        """When to come back to it. Never before an earlier answer: within a channel offsets are the order."""
        if self.page:
            self.time_ms = max(self.time_ms, self.page[0].timestamp)
        return self.time_ms

    def take(self) -> Publication:
        publication = self.page.popleft()
        self.offset = publication.offset
        return publication


class Replays:
    """Owner of the replays under way."""

    def __init__(self, subscriptions: Subscriptions, stored: StoredMessages, *, reads: Reads, clock: Clock) -> None:
        self._subscriptions = subscriptions
        self._stored = stored
        self._reads = reads
        self._clock = clock
        self._running: set[str] = set()  # ids of connections

    async def replay(self, command: Replay, caller: Caller, codec: Codec) -> ReplayResult:
        """Raises what subscribing raises, and HubError(limit_exceeded, overloaded, unrecoverable_position)."""
        subscriber: Subscriber | None = caller.connection
        if subscriber is None:
            raise HubError(ErrorCode.BAD_REQUEST, "this command needs a WebSocket")
        _check(command)
        if subscriber.id in self._running:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, "a connection replays one thing at a time")
        if len(self._running) >= MAX_REPLAYS:
            raise HubError(ErrorCode.OVERLOADED, "too many replays are under way", retry_after_ms=1000)
        self._running.add(subscriber.id)
        tracks: list[_Track] = []
        try:
            for place, channel in enumerate(command.channels):
                tracks.append(_Track(channel, *self._reserve(subscriber, caller, channel, f"$.channels[{place}]")))
            await self._until_left(self._send(command, subscriber, caller, tracks), subscriber, tracks)
            positions = {
                track.channel: SubscribeOptions(recover=Position(track.epoch, track.offset))
                for track in self._leave(subscriber, tracks)
                if command.to is None
            }
            joins = await prepare_all(self._subscriptions.join_all(subscriber, caller.now, positions))
            results = finish_all(joins)
            self._continue(subscriber, tracks, results)
            return ReplayResult(replayed=sum(track.sent for track in tracks), subscriptions=results)
        finally:
            self._leave(subscriber, tracks)
            self._running.discard(subscriber.id)

    def _reserve(
        self, subscriber: Subscriber, caller: Caller, channel: str, path: str
    ) -> tuple[Namespace, Subscription]:
        try:
            namespace, subscription = self._subscriptions.reserve(subscriber, caller, channel)
        except HubError as error:
            if error.path is not None:  # it says where a subscription names the channel
                error.path = path
            raise
        if namespace.latest:
            self._subscriptions.unsubscribe(subscriber, channel)
            raise HubError(ErrorCode.BAD_REQUEST, "a latest channel keeps no history", path=path)
        return namespace, subscription

    def _leave(self, subscriber: Subscriber, tracks: Sequence[_Track]) -> list[_Track]:
        """Give the places back; answers whose places they still were."""
        staying = [track for track in tracks if _stays(subscriber, track)]
        for track in staying:
            self._subscriptions.unsubscribe(subscriber, track.channel)
        return staying

    def _continue(self, subscriber: Subscriber, tracks: Sequence[_Track], results: Mapping[str, Any]) -> None:
        """What the replay has brought belongs to the subscription that goes on behind it without a gap."""
        for track in tracks:
            result = results.get(track.channel)
            if isinstance(result, SubscribeResult) and result.recovered:
                subscription = subscriber.subscriptions[track.channel]
                subscription.covered, subscription.replayed = track.subscription.covered, track.offset

    async def _until_left(
        self, sending: Coroutine[Any, Any, None], subscriber: Subscriber, tracks: Sequence[_Track]
    ) -> None:
        """Send, and stop at once when the last channel is left: the next message may be years away."""
        staying = asyncio.timeout(None)

        def left() -> None:
            if not any(_stays(subscriber, track) for track in tracks):
                staying.reschedule(asyncio.get_running_loop().time())

        try:
            async with staying:
                for track in tracks:
                    track.subscription.on_left = left
                await sending
        except TimeoutError:
            if not staying.expired():
                raise
        finally:
            for track in tracks:
                track.subscription.on_left = None

    async def _send(self, command: Replay, subscriber: Subscriber, caller: Caller, tracks: Sequence[_Track]) -> None:
        """At the pace asked for, or the reader's."""
        pace = Pace(command.speed, self._clock)
        await pace.until(command.from_ * 1000)
        burst = 0
        async with aclosing(self._merged(command, subscriber, tracks)) as merged:
            async for track, publication in merged:
                await pace.until(publication.timestamp * 1000)
                if burst >= BURST_BYTES:
                    burst = 0
                    await self._room(subscriber.outbox)
                if _stays(subscriber, track):
                    subscriber.outbox.push_publication(publication, 0)
                    track.subscription.replayed = publication.offset
                    if track.namespace.audit_reads:
                        self._reads.read(caller, track.channel, offsets=[publication.offset])
                    track.sent += 1
                    burst += len(publication.body)

    async def _room(self, outbox: Outbox) -> None:
        await self._clock.sleep(PAUSE_S)
        while outbox.waiting_bytes >= outbox.limit_bytes // 4:
            await self._clock.sleep(PAUSE_S)

    async def _merged(
        self, command: Replay, subscriber: Subscriber, tracks: Sequence[_Track]
    ) -> AsyncGenerator[tuple[_Track, Publication]]:
        """The oldest first. A channel at its end is looked at again when the others have come as far; with no end
        asked for, it is over when all of them are at theirs."""
        for track in tracks:
            await self._seek(track, command.from_)
        staying = [*tracks]
        while staying:
            for track in staying:
                await self._fill(track, command.to)
            waiting = [(track.next_ms(), place) for place, track in enumerate(staying)]
            if not any(track.page for track in staying):
                return
            heapq.heapify(waiting)
            while any(staying[place].page for _, place in waiting):
                _, place = heapq.heappop(waiting)
                track = staying[place]
                if track.page:
                    yield track, track.take()
                if not _stays(subscriber, track):
                    continue
                if not track.page:
                    await self._fill(track, command.to)
                heapq.heappush(waiting, (track.next_ms(), place))
            staying = [staying[place] for _, place in waiting]

    async def _seek(self, track: _Track, from_ms: int) -> None:
        """Find the last message before that time, by halves. Where a clock was set back, one of several."""
        oldest = await self._read(track, after=0, limit=1)
        track.epoch = oldest.epoch
        high = oldest.offset
        low = oldest.messages[0].offset if oldest.messages else high + 1
        while low <= high:
            middle = (low + high) // 2
            found = (await self._read(track, after=middle - 1, limit=1)).messages
            if found and found[0].timestamp < from_ms:
                low = middle + 1
            else:
                high = middle - 1
        track.offset = low - 1
        track.subscription.covered = low

    async def _fill(self, track: _Track, to_ms: int | None) -> None:
        """Read on; what is newer than the end asked for is not there. Raises HubError(unrecoverable_position)."""
        now_ms = self._clock.now_ms()
        found = await self._read(track, after=track.offset, limit=PAGE)
        messages = found.messages
        if found.epoch != track.epoch or (messages and messages[0].offset != track.offset + 1):
            raise HubError(
                ErrorCode.UNRECOVERABLE_POSITION,
                "a channel's history was cut off while it was replayed",
                path="$.channels",
            )
        track.page.extend(each for each in messages if to_ms is None or each.timestamp <= to_ms)
        if not track.page:
            track.time_ms = max(track.time_ms, now_ms) + 1  # a clock that lags behind must not stop us here

    async def _read(self, track: _Track, *, after: int, limit: int) -> Recovered:
        return await self._stored.read(track.channel, track.namespace, after=after, limit=limit)


def _stays(subscriber: Subscriber, track: _Track) -> bool:
    return subscriber.subscriptions.get(track.channel) is track.subscription


def _check(command: Replay) -> None:
    if command.speed and not command.speed >= MIN_SPEED:  # nor is NaN, which MessagePack knows
        raise HubError(ErrorCode.SCHEMA_INVALID, f"expected 0, or {MIN_SPEED} to 1000", path="$.speed")
    if command.to is not None and command.to < command.from_:
        raise HubError(ErrorCode.BAD_REQUEST, "`to` lies before `from`", path="$.to")
    if len(set(command.channels)) < len(command.channels):
        raise HubError(ErrorCode.BAD_REQUEST, "a channel is named twice", path="$.channels")
