"""The in-process broker: one node, no wire in between. Every operation answers at once."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from hub.brokers.base import Deliver, Recovered
from hub.brokers.kept import Kept
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published

IDEMPOTENCY_WINDOW_S = 300
MAX_IDEMPOTENCY_KEYS = 10_000  # per channel
MAX_CHANNELS = 100_000
MAX_BYTES = 256 * 1024 * 1024  # of all that is kept, by default
ROOM = 0.9  # to which part of it histories are cut when it is full
SWEEP_INTERVAL_S = 5.0


class _Channel(Kept):
    __slots__ = ("keys", "touched")

    def __init__(self, policy: Namespace, now: float, *, epoch: str) -> None:
        super().__init__(policy, epoch=epoch)
        self.keys: OrderedDict[tuple[str | None, str], tuple[Published, bytes, float]] | None = None
        self.touched = now


class LocalBroker:
    """See `base.Broker` for the contract. Beyond `max_bytes` the largest histories lose their older halves."""

    available = True

    def __init__(self, deliver: Deliver, *, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        self._deliver = deliver
        self._clock = clock
        self._channels: dict[str, _Channel] = {}
        self._listened: set[str] = set()
        self._handlers: dict[str, Callable[[bytes], None]] = {}
        self._max_bytes = max_bytes
        self._bytes = 0  # of all channels; what expires is taken off at the next sweep
        self._full_until = 0.0
        self._era = secrets.token_bytes(16)  # in which nothing that somebody may have a position in was forgotten

    def publish(self, publication: Publication, policy: Namespace, *, idempotency_key: str | None = None) -> Published:
        channel = self._channel(publication.channel, policy)
        if idempotency_key is not None and (earlier := self._earlier(channel, publication, idempotency_key)):
            return earlier
        if self._bytes > self._max_bytes:
            self._make_room()
        publication.place(channel.epoch, channel.offset + 1)
        before = channel.bytes
        channel.append(publication)
        self._bytes += channel.bytes - before
        published = Published(
            channel=publication.channel,
            epoch=channel.epoch,
            offset=channel.offset,
            timestamp=publication.timestamp,
        )
        if idempotency_key is not None:
            self._remember(channel, publication, idempotency_key, published)
        self._deliver(publication)
        return published

    def _make_room(self) -> None:
        """Whoever has most gives most. Raises HubError(overloaded) when latest values alone are too much."""
        now = self._clock.monotonic()
        if now < self._full_until:  # looking through all channels takes a while
            raise _full()
        enough = int(self._max_bytes * ROOM)
        self._bytes = sum(kept.bytes for kept in self._channels.values())
        while self._bytes > enough:
            with_history = [kept for kept in self._channels.values() if kept.history]
            if not with_history:
                break
            for kept in sorted(with_history, key=lambda each: each.bytes, reverse=True):
                before = kept.bytes
                kept.drop_older_half()
                self._bytes -= before - kept.bytes
                if self._bytes <= enough:
                    return
        if self._bytes > self._max_bytes:
            self._full_until = now + SWEEP_INTERVAL_S
            raise _full()

    def ring(self, publication: Publication) -> None:
        self._deliver(publication)

    def subscribe(self, channel: str, policy: Namespace) -> None:
        self._listened.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self._listened.discard(channel)
        if (kept := self._channels.get(channel)) is not None and not kept.offset:
            del self._channels[channel]  # it comes back with the same epoch, for whoever left at its beginning

    def recover(self, channel: str, policy: Namespace, *, epoch: str | None, offset: int, limit: int) -> Recovered:
        kept = self._channel(channel, policy)
        kept.expire(self._clock.now_ms())
        return kept.recover(epoch=epoch, offset=offset, limit=limit)

    def history(self, channel: str, policy: Namespace, *, after: int, limit: int, reverse: bool) -> Recovered:
        kept = self._channels.get(channel)
        if kept is None:  # asking makes no channel
            return Recovered("", 0, [], True)
        kept.expire(self._clock.now_ms())
        return kept.read(after=after, limit=limit, reverse=reverse)

    async def forget(self, theirs: Callable[[str], bool]) -> None:
        for kept in self._channels.values():
            kept.forget(theirs)
            if kept.keys is not None:
                for key in [key for key in kept.keys if theirs(key[0] or "")]:
                    del kept.keys[key]

    async def channels(self) -> list[str]:
        return [name for name, kept in self._channels.items() if kept.offset]

    def announce(self, topic: str, payload: bytes) -> None:
        if (handler := self._handlers.get(topic)) is not None:
            handler(payload)

    def listen(self, topic: str, handler: Callable[[bytes], None]) -> None:
        self._handlers[topic] = handler

    async def connected(self) -> None:
        return

    async def run(self) -> None:
        """Forget what has expired, so that channels nobody uses any more do not pile up."""
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            now = self._clock.monotonic()
            for name, kept in list(self._channels.items()):
                kept.expire(self._clock.now_ms())
                self._expire_keys(kept)
                idle = now - kept.touched > max(kept.policy.history_ttl_s, IDEMPOTENCY_WINDOW_S)
                if idle and kept.empty and name not in self._listened:
                    del self._channels[name]
                    if kept.offset:
                        self._era = secrets.token_bytes(16)
            self._bytes = sum(kept.bytes for kept in self._channels.values())

    def _channel(self, name: str, policy: Namespace) -> _Channel:
        now = self._clock.monotonic()
        kept = self._channels.get(name)
        if kept is None:
            if len(self._channels) >= MAX_CHANNELS:
                raise HubError(ErrorCode.LIMIT_EXCEEDED, f"this hub keeps at most {MAX_CHANNELS} channels")
            kept = self._channels[name] = _Channel(policy, now, epoch=self._epoch(name))
        kept.touched = now
        return kept

    def _epoch(self, name: str) -> str:
        return hashlib.blake2b(name.encode(), key=self._era, digest_size=6).hexdigest()

    def _expire_keys(self, kept: _Channel) -> None:
        forget = self._clock.monotonic() - IDEMPOTENCY_WINDOW_S
        while kept.keys and next(iter(kept.keys.values()))[2] < forget:
            kept.keys.popitem(last=False)

    def _earlier(self, kept: _Channel, publication: Publication, key: str) -> Published | None:
        if kept.keys is None or (known := kept.keys.get((publication.publisher, key))) is None:
            return None
        published, body_hash, at = known
        if at < self._clock.monotonic() - IDEMPOTENCY_WINDOW_S:
            return None
        if body_hash != publication.body_hash():
            raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "this idempotency_key was used for another message")
        return msgspec.structs.replace(published, duplicate=True)

    def _remember(self, kept: _Channel, publication: Publication, key: str, published: Published) -> None:
        if kept.keys is None:
            kept.keys = OrderedDict()
        elif len(kept.keys) >= MAX_IDEMPOTENCY_KEYS:
            kept.keys.popitem(last=False)
        kept.keys[publication.publisher, key] = (published, publication.body_hash(), self._clock.monotonic())


def _full() -> HubError:
    return HubError(
        ErrorCode.OVERLOADED, "this hub's memory for messages is full", retry_after_ms=int(SWEEP_INTERVAL_S * 1000)
    )
