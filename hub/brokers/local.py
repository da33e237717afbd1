"""The in-process broker: one node, no wire in between. Every operation answers at once."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict, deque

from hub.brokers.base import Deliver, Placed, Recovered
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError

IDEMPOTENCY_WINDOW_S = 300
MAX_IDEMPOTENCY_KEYS = 10_000  # per channel
MAX_CHANNELS = 100_000
SWEEP_INTERVAL_S = 5.0


class _Kept:
    """What the broker keeps of one channel. `history` is a run of consecutive offsets that ends at `offset`."""

    __slots__ = ("epoch", "history", "keys", "latest", "offset", "policy", "touched")

    def __init__(self, policy: Namespace) -> None:
        self.epoch = secrets.token_urlsafe(6)
        self.offset = 0
        self.history: deque[Publication] = deque(maxlen=policy.history_size)
        self.latest: OrderedDict[str, Publication] = OrderedDict()
        self.keys: OrderedDict[tuple[str | None, str], tuple[Placed, bytes, float]] | None = None
        self.policy = policy
        self.touched = 0.0


class LocalBroker:
    """See `base.Broker` for the contract."""

    def __init__(self, deliver: Deliver, *, clock: Clock) -> None:
        self._deliver = deliver
        self._clock = clock
        self._channels: dict[str, _Kept] = {}
        self._listened: set[str] = set()

    def publish(self, publication: Publication, policy: Namespace, *, idempotency_key: str | None = None) -> Placed:
        kept = self._kept(publication.channel, policy)
        if idempotency_key is not None and (earlier := self._earlier(kept, publication, idempotency_key)):
            return earlier
        kept.offset += 1
        publication.place(kept.epoch, kept.offset)
        placed = Placed(kept.epoch, kept.offset, publication.timestamp)
        if policy.latest:
            key = publication.key or ""
            kept.latest[key] = publication
            if len(kept.latest) > policy.max_keys:
                kept.latest.popitem(last=False)
        elif policy.history_size:
            kept.history.append(publication)
        if idempotency_key is not None:
            self._remember(kept, publication, idempotency_key, placed)
        self._deliver(publication)
        return placed

    def ring(self, publication: Publication) -> None:
        self._deliver(publication)

    def subscribe(self, channel: str) -> None:
        self._listened.add(channel)

    def unsubscribe(self, channel: str) -> None:
        self._listened.discard(channel)

    def recover(self, channel: str, policy: Namespace, *, epoch: str | None, offset: int, limit: int) -> Recovered:
        kept = self._kept(channel, policy)
        if epoch is None:
            return Recovered(kept.epoch, kept.offset, list(kept.latest.values()), False, "not_requested")
        if epoch != kept.epoch or offset > kept.offset:
            return Recovered(kept.epoch, kept.offset, list(kept.latest.values()), False, "epoch_changed")
        missed = kept.offset - offset
        if missed == 0:
            return Recovered(kept.epoch, kept.offset, [], True)
        if policy.latest or not policy.history_size:
            return Recovered(kept.epoch, kept.offset, list(kept.latest.values()), False, "history_disabled")
        self._expire(kept)
        if missed > len(kept.history):
            return Recovered(kept.epoch, kept.offset, [], False, "offset_too_old")
        if missed > limit:
            return Recovered(kept.epoch, kept.offset, [], False, "limit_exceeded")
        return Recovered(kept.epoch, kept.offset, list(kept.history)[-missed:], True)

    def history(self, channel: str, policy: Namespace, *, after: int, limit: int, reverse: bool) -> Recovered:
        kept = self._kept(channel, policy)
        self._expire(kept)
        messages = sorted(kept.latest.values(), key=lambda each: each.offset) if policy.latest else list(kept.history)
        if reverse:
            chosen = [each for each in reversed(messages) if not after or each.offset < after]
        else:
            chosen = [each for each in messages if each.offset > after]
        return Recovered(kept.epoch, kept.offset, chosen[:limit], len(chosen) <= limit)

    def channels(self) -> list[str]:
        return list(self._channels)

    async def run(self) -> None:
        """Forget what has expired, so that channels nobody uses any more do not pile up."""
        while True:
            await self._clock.sleep(SWEEP_INTERVAL_S)
            now = self._clock.monotonic()
            for name, kept in list(self._channels.items()):
                self._expire(kept)
                idle = now - kept.touched > max(kept.policy.history_ttl_s, IDEMPOTENCY_WINDOW_S)
                # A latest value is the current truth however old it is; only an empty channel may go.
                if idle and not kept.history and not kept.latest and name not in self._listened:
                    del self._channels[name]

    def _kept(self, channel: str, policy: Namespace) -> _Kept:
        kept = self._channels.get(channel)
        if kept is None:
            if len(self._channels) >= MAX_CHANNELS:
                raise HubError(ErrorCode.LIMIT_EXCEEDED, f"this hub keeps at most {MAX_CHANNELS} channels")
            kept = self._channels[channel] = _Kept(policy)
        kept.touched = self._clock.monotonic()
        return kept

    def _expire(self, kept: _Kept) -> None:
        oldest = self._clock.now_ms() - kept.policy.history_ttl_s * 1000
        history = kept.history
        while history and history[0].timestamp < oldest:
            history.popleft()
        if kept.keys is not None:
            forget = self._clock.monotonic() - IDEMPOTENCY_WINDOW_S
            while kept.keys and next(iter(kept.keys.values()))[2] < forget:
                kept.keys.popitem(last=False)

    def _earlier(self, kept: _Kept, publication: Publication, key: str) -> Placed | None:
        if kept.keys is None or (known := kept.keys.get((publication.publisher, key))) is None:
            return None
        placed, body_hash, at = known
        if at < self._clock.monotonic() - IDEMPOTENCY_WINDOW_S:
            return None
        if body_hash != _hash(publication):
            raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "this idempotency_key was used for another message")
        return Placed(placed.epoch, placed.offset, placed.timestamp, duplicate=True)

    def _remember(self, kept: _Kept, publication: Publication, key: str, placed: Placed) -> None:
        if kept.keys is None:
            kept.keys = OrderedDict()
        elif len(kept.keys) >= MAX_IDEMPOTENCY_KEYS:
            kept.keys.popitem(last=False)
        kept.keys[publication.publisher, key] = (placed, _hash(publication), self._clock.monotonic())


def _hash(publication: Publication) -> bytes:
    return hashlib.blake2b(publication.type.encode() + b"\0" + publication.body, digest_size=16).digest()
