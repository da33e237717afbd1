"""Where a client joins a channel: recovered without a gap, then live.

The order is what makes it gapless: listen first and buffer, then read what was missed, merge by offset, answer, go
live. On one node with the history in memory all of this happens within one turn of the loop, without a task.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from hub.audit.reads import Reading, Reads
from hub.brokers.base import Broker, Recovered
from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout, Listener
from hub.channels.quality import Demand
from hub.channels.shaping import Shaper
from hub.channels.stored import StoredMessages
from hub.clock import Clock
from hub.connections.outbox import Outbox
from hub.namespaces import Namespace
from hub.presence.service import PresenceService
from hub.publication import Publication
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from protocol.messages import ErrorBody, Member, RefusedOptions, SubscribeOptions, SubscribeResult
from protocol.positions import Gap, Position, merge_recovered

logger = logging.getLogger("krin.subscriptions")

MAX_RECOVERED = 10_000  # messages per channel and subscribe
MAX_RECOVERED_BYTES = 16 * 1024 * 1024
MAX_REPLY_BYTES = 256 * 1024  # of messages in one reply; the rest follows as publications
MAX_SNAPSHOT_KNOWN = 64  # offsets that a subscription remembers of its snapshot: 0.5 KiB
FOLLOW_UP_S = 0.005
_DURATION = re.compile(r"([0-9]+)(ms|s|m|h)\Z")
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}


class Subscriber(Protocol):
    """What subscribing needs to know of a connection."""

    id: str
    outbox: Outbox
    subscriptions: dict[str, Subscription]

    def close(self, code: CloseCode) -> None: ...


class Subscription:
    """One connection in one channel. Owned by the connection, made and ended here."""

    __slots__ = ("covered", "listener", "on_left", "options", "present", "reading", "replayed", "snapshot", "start")

    def __init__(self, listener: Listener, options: SubscribeOptions) -> None:
        self.listener = listener
        self.options = options
        self.present = False
        self.on_left: Callable[[], None] | None = None  # for who brings its messages from elsewhere
        self.reading: Reading | None = None  # where reads are audited
        self.start: Position | None = None  # after this everything is live; None: not answered yet
        self.covered = 0  # the first offset that a replay, recovery or live messages cover
        self.replayed = 0  # the last offset that a replay has brought, before the recovery
        self.snapshot: tuple[int, ...] | None = ()  # offsets of latest values that came first; None: too many to keep


class Joining:
    """A subscription under way. `ready` means that `finish` may be called at once, without `prepare`."""

    __slots__ = (
        "_caller",
        "_channel",
        "_namespace",
        "_service",
        "_subscriber",
        "_subscription",
        "pending",
        "recovered",
    )

    def __init__(
        self,
        service: Subscriptions,
        subscriber: Subscriber,
        caller: Caller,
        channel: str,
        namespace: Namespace,
        subscription: Subscription,
    ) -> None:
        self._service = service
        self._subscriber = subscriber
        self._caller = caller
        self._channel = channel
        self._namespace = namespace
        self._subscription = subscription
        self.pending: list[asyncio.Future[None]] = []
        self.recovered: Recovered | asyncio.Future[Recovered] | None = None

    @property
    def ready(self) -> bool:
        return isinstance(self.recovered, Recovered)

    async def prepare(self) -> None:
        """Read what was missed. Abandons the subscription when that fails."""
        try:
            for future in self.pending:
                await _shared(future)
            if self._subscriber.subscriptions.get(self._channel) is not self._subscription:
                raise _left()
            if self.recovered is None:
                self.recovered = self._service._recover(self._channel, self._namespace, self._subscription.options)
            if not isinstance(self.recovered, Recovered):
                self.recovered = await self.recovered
        except BaseException:
            self.abandon()
            raise

    def finish(self, room_bytes: int = MAX_REPLY_BYTES) -> SubscribeResult:
        """Merge and go live. The result must be sent within the same turn: live messages follow it.

        It holds about `room_bytes` of messages; what is recovered beyond that follows as publications.
        """
        assert isinstance(self.recovered, Recovered)
        if self._subscriber.subscriptions.get(self._channel) is not self._subscription:
            raise _left()
        return self._service._finish(
            self._subscriber,
            self._caller,
            self._channel,
            self._namespace,
            self._subscription,
            self.recovered,
            room_bytes,
        )

    def abandon(self) -> None:
        if self._subscriber.subscriptions.get(self._channel) is self._subscription:
            self._service.unsubscribe(self._subscriber, self._channel)


def _left() -> HubError:
    return HubError(ErrorCode.NOT_AVAILABLE, "unsubscribed before the subscription was complete")


Join = Joining | ErrorBody
"""One of several channels that are joined together. One that may not be joined must not keep the others away."""


async def prepare_all(joins: Mapping[str, Join]) -> dict[str, Join]:
    """Read what was missed in each."""
    waiting = {channel: each for channel, each in joins.items() if isinstance(each, Joining) and not each.ready}
    outcomes = await asyncio.gather(*(each.prepare() for each in waiting.values()), return_exceptions=True)
    failed: dict[str, Join] = {}
    for channel, outcome in zip(waiting, outcomes, strict=True):
        if isinstance(outcome, HubError):
            failed[channel] = ErrorBody.of(outcome)
        elif isinstance(outcome, Exception):
            logger.error("joining a channel failed", exc_info=outcome)
            failed[channel] = ErrorBody.of(HubError(ErrorCode.INTERNAL, "internal error"))
    return {**joins, **failed}


def finish_all(joins: Mapping[str, Join]) -> dict[str, Any]:
    """The result of each, or {error}, to be sent within the same turn in one reply. All must be ready."""
    results: dict[str, Any] = {}
    room_bytes = MAX_REPLY_BYTES  # for all channels together
    for channel, each in joins.items():
        try:
            if isinstance(each, ErrorBody):
                results[channel] = {"error": each}
            else:
                results[channel] = result = each.finish(room_bytes)
                room_bytes -= sum(len(memoryview(message)) for message in result.messages)
        except HubError as error:  # left again while others were being prepared
            results[channel] = {"error": ErrorBody.of(error)}
    return results


async def _shared(future: asyncio.Future[None]) -> None:
    """Wait for something others wait for too: their giving up, or ours, must not cancel it for the rest."""
    await asyncio.wait([future])
    if future.cancelled():
        raise HubError(ErrorCode.NOT_AVAILABLE, "the subscription was given up")
    future.result()


class Subscriptions:
    def __init__(
        self,
        fanout: Fanout,
        broker: Broker,
        durable: DurableChannels,
        presence: PresenceService,
        *,
        access: Access,
        reads: Reads,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        max_subscriptions: int,
    ) -> None:
        self._fanout = fanout
        self._broker = broker
        self._durable = durable
        self._stored = StoredMessages(broker, durable)
        self._presence = presence
        self._access = access
        self._reads = reads
        self._clock = clock
        self._loop = loop
        self._max_subscriptions = max_subscriptions
        self.recoveries: dict[str, int] = {}  # outcome or reason -> count, for the metrics

    def join(self, subscriber: Subscriber, caller: Caller, channel: str, options: SubscribeOptions) -> Joining:
        """Begin to join a channel: from here on live messages are buffered. The caller finishes or abandons it.

        Raises HubError(permission_denied, already_subscribed, limit_exceeded, unknown_channel, bad_request).
        """
        namespace = self._admit(subscriber, caller, channel)
        _check(options, namespace)
        subscription = Subscription(Listener(subscriber.outbox, self._shaper(subscriber, options)), options)
        subscriber.subscriptions[channel] = subscription
        self._fanout.add(channel, subscription.listener)
        joining = Joining(self, subscriber, caller, channel, namespace, subscription)
        try:
            if (joined := self._broker.subscribe(channel, namespace)) is not None:
                joining.pending.append(joined)
            if namespace.durable and not (followed := self._durable.follow(channel)).done():
                joining.pending.append(followed)
            if not joining.pending:
                joining.recovered = self._recover(channel, namespace, options)
        except BaseException:
            joining.abandon()
            raise
        return joining

    def join_all(
        self, subscriber: Subscriber, caller: Caller, channels: Mapping[str, SubscribeOptions]
    ) -> dict[str, Join]:
        """Begin to join several channels; `prepare_all` and `finish_all` are what follows."""
        joins: dict[str, Join] = {}
        for channel, options in channels.items():
            if isinstance(options, RefusedOptions):
                joins[channel] = ErrorBody.of(options.error)
                continue
            try:
                joins[channel] = self.join(subscriber, caller, channel, options)
            except HubError as error:
                joins[channel] = ErrorBody.of(error)
        return joins

    def reserve(self, subscriber: Subscriber, caller: Caller, channel: str) -> tuple[Namespace, Subscription]:
        """Take a channel's place among the subscriptions without listening to it, for somebody who brings its messages
        from elsewhere. It is left like any other. Raises what `join` raises.
        """
        namespace = self._admit(subscriber, caller, channel)
        subscription = Subscription(Listener(subscriber.outbox), SubscribeOptions())
        subscriber.subscriptions[channel] = subscription
        return namespace, subscription

    def _admit(self, subscriber: Subscriber, caller: Caller, channel: str) -> Namespace:
        namespace = self._access.require(caller, "subscribe", channel)
        if channel in subscriber.subscriptions:
            raise HubError(ErrorCode.ALREADY_SUBSCRIBED, "already subscribed to this channel", path="$.channel")
        if len(subscriber.subscriptions) >= self._max_subscriptions:
            raise HubError(
                ErrorCode.LIMIT_EXCEEDED, f"a connection has at most {self._max_subscriptions} subscriptions"
            )
        return namespace

    def unsubscribe(self, subscriber: Subscriber, channel: str) -> bool:
        """Leave a channel; nothing of it follows. False when there was no subscription."""
        subscription = subscriber.subscriptions.pop(channel, None)
        if subscription is None:
            return False
        if self._fanout.remove(channel, subscription.listener):
            self._broker.unsubscribe(channel)
            self._durable.leave(channel)
        subscriber.outbox.forget(channel)
        if subscription.options.presence:
            self._presence.unwatch(channel, subscriber.outbox)
        if subscription.present:
            self._presence.leave(channel, subscriber.id)
        if subscription.reading is not None:
            self._reads.unsubscribed(subscription.reading)
        if subscription.on_left is not None:
            subscription.on_left()
        return True

    def revoke(self, subscriber: Subscriber, caller: Caller) -> list[str]:
        """End what this caller may no longer subscribe to; returns the channels."""
        ended = []
        for channel in list(subscriber.subscriptions):
            if not self._access.decide(caller, "subscribe", channel).allowed:
                self.unsubscribe(subscriber, channel)
                ended.append(channel)
        return ended

    def unsubscribe_all(self, subscriber: Subscriber) -> None:
        for channel in list(subscriber.subscriptions):
            self.unsubscribe(subscriber, channel)

    def _recover(
        self, channel: str, namespace: Namespace, options: SubscribeOptions
    ) -> Recovered | asyncio.Future[Recovered]:
        position = options.recover
        epoch = position.epoch if position else None
        offset = position.offset if position else 0
        if position is None and options.rewind is not None and not namespace.latest:
            return asyncio.ensure_future(self._rewind(channel, namespace, options.rewind))
        if namespace.durable:
            return self._durable.recover(channel, epoch=epoch, offset=offset, limit=MAX_RECOVERED)
        return self._broker.recover(channel, namespace, epoch=epoch, offset=offset, limit=MAX_RECOVERED)

    async def _rewind(self, channel: str, namespace: Namespace, rewind: int | str) -> Recovered:
        limit = rewind if isinstance(rewind, int) else MAX_RECOVERED
        oldest = self._clock.now_ms() - _duration_ms(rewind) if isinstance(rewind, str) else 0
        found = await self._stored.read(channel, namespace, after=0, limit=limit, reverse=True)
        messages = [publication for publication in reversed(found.messages) if publication.timestamp >= oldest]
        return Recovered(found.epoch, found.offset, messages, False, "not_requested")

    def _finish(
        self,
        subscriber: Subscriber,
        caller: Caller,
        channel: str,
        namespace: Namespace,
        subscription: Subscription,
        recovered: Recovered,
        room_bytes: int,
    ) -> SubscribeResult:
        """Merge, answer and go live, all within this turn: no publication can slip in between."""
        buffered = self._fanout.go_live(channel, subscription.listener, recovered.epoch)
        messages = recovered.messages
        if sum(len(each.body) for each in messages) > MAX_RECOVERED_BYTES:
            recovered = Recovered(recovered.epoch, recovered.offset, [], False, "limit_exceeded")
            messages = []
        # What was read may reach beyond the position that was read with it.
        offset = max(recovered.offset, messages[-1].offset) if messages else recovered.offset
        complete, reason = recovered.complete, recovered.reason
        fresh = [live for live in buffered if live.epoch == recovered.epoch and live.offset > offset]
        if fresh:
            try:
                messages = [*messages, *merge_recovered(offset, (), fresh)]
                offset = messages[-1].offset
            except Gap:
                complete, reason = False, "broker_unavailable"
        if reason is not None or subscription.options.recover is not None:
            outcome = reason or "recovered"
            self.recoveries[outcome] = self.recoveries.get(outcome, 0) + 1
        if namespace.audit_reads:
            first = messages[0].offset if messages else offset + 1
            subscription.reading = self._reads.subscribed(caller, channel, socket=subscriber.id, first=first)
        subscription.start = Position(recovered.epoch, offset)
        # Of latest values the snapshot holds a few, by key.
        subscription.covered = messages[0].offset if messages and not namespace.latest else offset + 1
        members = None
        if namespace.presence:
            subscription.present = True
            self._presence.join(
                channel, Member(client=subscriber.id, user=caller.user, kind=caller.kind, name=caller.name)
            )
            if subscription.options.presence:
                members = self._presence.watch(channel, subscriber.outbox)
        codec = subscriber.outbox.codec
        wanted = self._wanted(messages, subscription, namespace)
        if namespace.latest:
            subscription.snapshot = tuple(each.offset for each in wanted) if len(wanted) <= MAX_SNAPSHOT_KNOWN else None
        now, later = _split(wanted, room_bytes)
        if later:
            if not namespace.latest:  # there each key stands for itself, and the position is the channel's
                offset = later[0].offset - 1
            self._fanout.hold(channel, subscription.listener, later)
            self._loop.call_soon(self._follow_up, subscriber, channel, subscription, recovered.epoch)
        # A reply may skip offsets. What follows it as publications may not: the reader would take a hole for a gap.
        moment = self._clock.monotonic()
        for each in now:
            if _expired(each, moment):
                subscriber.outbox.note(each, "expired")
        return SubscribeResult(
            channel=channel,
            epoch=recovered.epoch,
            offset=offset,
            promise=namespace.promise,
            recovered=complete,
            reason=reason,
            messages=[msgspec.Raw(each.encoded(codec)) for each in now if not _expired(each, moment)],
            members=members,
        )

    def _follow_up(self, subscriber: Subscriber, channel: str, subscription: Subscription, epoch: str) -> None:
        """After the reply: piece by piece what did not fit into it, as fast as the reader takes it, then live."""
        listener, outbox = subscription.listener, subscriber.outbox
        if subscriber.subscriptions.get(channel) is not subscription or listener.buffer is None:
            return
        now: list[Publication] = []
        if outbox.waiting_bytes < outbox.limit_bytes // 4:
            now, later = _split(listener.buffer, MAX_REPLY_BYTES)
            if not later:
                now = self._fanout.go_live(channel, listener, epoch)
            else:
                listener.buffer = later
        shaper, start = listener.shaper, subscription.start
        assert start is not None
        for publication in now:
            if shaper is None or (publication.epoch == start.epoch and publication.offset <= start.offset):
                outbox.push_publication(publication, 0)  # chosen when the reply was made
            else:
                shaper.offer(publication)
        if listener.buffer is None:
            return
        if listener.overrun:  # live messages came faster than the reader took the old ones
            subscriber.close(CloseCode.INSUFFICIENT_STATE)
            return
        self._loop.call_later(FOLLOW_UP_S, self._follow_up, subscriber, channel, subscription, epoch)

    def _wanted(
        self, messages: list[Publication], subscription: Subscription, namespace: Namespace
    ) -> list[Publication]:
        """Without what the filter leaves out, and without latest values that are too old or no better than told."""
        now = self._clock.monotonic()
        shaper = subscription.listener.shaper
        return [
            publication
            for publication in messages
            if not (namespace.latest and _expired(publication, now)) and (shaper is None or shaper.wants(publication))
        ]

    def _shaper(self, subscriber: Subscriber, options: SubscribeOptions) -> Shaper | None:
        demand = None
        if options.max_age_ms is not None or options.min_quality is not None:
            demand = Demand(max_age_ms=options.max_age_ms, min_quality=options.min_quality)
        if options.filter is None and options.max_rate is None and demand is None:
            return None
        return Shaper(
            subscriber.outbox.push_publication,
            loop=self._loop,
            wanted=options.filter,
            max_rate=options.max_rate,
            demand=demand,
            clock=self._clock,
            tell=subscriber.outbox.note,
        )


def _expired(publication: Publication, now: float) -> bool:
    return publication.expires_at is not None and publication.expires_at <= now


def _split(publications: list[Publication], room_bytes: int) -> tuple[list[Publication], list[Publication]]:
    """Those that begin within the room, and the rest."""
    size = 0
    for count, publication in enumerate(publications):
        if size >= room_bytes:
            return publications[:count], publications[count:]
        size += len(publication.body)
    return publications, []


def _check(options: SubscribeOptions, namespace: Namespace) -> None:
    for name in ("max_rate", "max_age_ms", "min_quality"):
        if getattr(options, name) is not None and not namespace.latest:
            raise HubError(
                ErrorCode.BAD_REQUEST,
                f"{name} needs a namespace of the class latest: others never skip",
                path=f"$.{name}",
            )
    if options.presence and not namespace.presence:
        raise HubError(ErrorCode.BAD_REQUEST, "this namespace keeps no presence", path="$.presence")


def _duration_ms(text: str) -> int:
    match = _DURATION.match(text)
    assert match is not None  # the schema admits nothing else
    return int(match[1]) * _UNIT_MS[match[2]]
