"""The channels this node listens to, mirrored in memory: positions, and what of their history was needed or heard.

Messages are put in order by offset; a gap, or a confirmation after a reconnect, is mended by a read. A first read
brings the position only (of a latest channel: the values too). The history is read once, when the first reader asks for
more than was heard here: a reconnect storm costs Redis one read per channel, and a channel that nobody resumes in costs
no memory.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from redis.exceptions import ResponseError

from hub.brokers.base import Deliver, Recovered
from hub.brokers.kept import Kept
from hub.brokers.redis.payloads import Payloads
from hub.brokers.redis.refusals import away, refuse
from hub.brokers.redis.seals import Seen
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication

MAX_HELD = 10_000  # messages of one channel that wait for a gap to be mended


class Followed:
    """A channel this node listens to. `kept` is None until its position was read; what arrives meanwhile is held.

    `whole`: `kept` has everything Redis has. `waiting` are those who want a read that begins after they asked.
    """

    __slots__ = ("held", "kept", "mending", "policy", "ready", "seen", "waiting", "whole")

    def __init__(self, policy: Namespace, ready: asyncio.Future[None]) -> None:
        self.policy = policy
        self.kept: Kept | None = None
        self.whole = False
        self.held: list[Publication] = []
        self.ready = ready
        self.mending = False
        self.waiting: list[asyncio.Future[None]] = []
        self.seen = Seen()

    def lacks(self, epoch: str, offset: int) -> bool:
        """Whether only Redis can say what follows this position."""
        kept = self.kept
        assert kept is not None
        if epoch != kept.epoch or offset > kept.offset:
            return True  # maybe this node is behind the one the reader comes from
        return not self.whole and kept.offset - offset > len(kept.history)


class Source(Protocol):
    """Where channels are read."""

    async def read(self, wanted: list[tuple[str, Namespace, int]]) -> list[list[Any] | ResponseError]:
        """(channel, policy, messages of its history) -> what `read.lua` answers."""
        ...


class Mirror:
    """Owner of what is followed. `ask_reading` hears of every channel that should be read, and says whether it will."""

    def __init__(
        self, deliver: Deliver, *, payloads: Payloads, ask_reading: Callable[[str], bool], clock: Clock
    ) -> None:
        self._deliver = deliver
        self._payloads = payloads
        self._ask_reading = ask_reading
        self._clock = clock
        self._followed: dict[str, Followed] = {}
        self.mended = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._followed)

    def get(self, channel: str) -> Followed | None:
        return self._followed.get(channel)

    # --- coming and going ---

    def follow(self, channel: str, policy: Namespace) -> Followed:
        followed = self._followed[channel] = Followed(policy, asyncio.get_running_loop().create_future())
        return followed

    def leave(self, channel: str) -> None:
        followed = self._followed.pop(channel, None)
        if followed is not None:
            refuse(followed.waiting, away())
            if not followed.ready.done():
                followed.ready.cancel()

    def confirmed(self, channel: str) -> None:
        """From here on nothing is missed; what came before is read."""
        followed = self._followed.get(channel)
        if followed is None:
            return
        if followed.policy.durable:
            if not followed.ready.done():
                followed.ready.set_result(None)
        else:
            followed.mending = False  # a read that was asked of another server may never come
            self._ask(channel, followed)

    def lost(self, channel: str) -> None:
        """Its server is away. Durable channels go on: the log tells what missed bells would have."""
        followed = self._followed[channel]
        refuse(followed.waiting, away())
        followed.waiting = []
        followed.mending = False
        if followed.ready.done():
            return
        if followed.policy.durable:
            followed.ready.set_result(None)
        else:
            refuse([followed.ready], away())
            del self._followed[channel]

    # --- what arrives ---

    def receive(self, channel: str, payload: bytes) -> None:
        """Raises NotSealed."""
        followed = self._followed.get(channel)
        if followed is None:
            return
        publications = self._payloads.open(channel, followed.policy, payload, followed.seen)
        if followed.policy.durable:
            for publication in publications:
                self._deliver(publication)
            return
        kept = followed.kept
        for publication in publications:
            if kept is not None and publication.epoch == kept.epoch and publication.offset == kept.offset + 1:
                kept.append(publication)
                self._deliver(publication)
            elif kept is None or publication.epoch != kept.epoch or publication.offset > kept.offset:
                if len(followed.held) < MAX_HELD:
                    followed.held.append(publication)
                if kept is not None:
                    self._ask(channel, followed)

    def forget(self, theirs: Callable[[str], bool]) -> None:
        """As `Broker.forget`, here only."""
        for followed in self._followed.values():
            if followed.kept is not None:
                followed.kept.forget(theirs)

    # --- what is read ---

    async def read(self, source: Source, channels: Iterable[str]) -> list[str]:
        """Read these channels; answers those the source does not answer for. Raises RedisError, OSError."""
        wanted = {channel: followed for channel in channels if (followed := self._followed.get(channel)) is not None}
        asked: list[tuple[str, Namespace, int]] = []
        waiting: dict[str, list[asyncio.Future[None]]] = {}
        for channel, followed in wanted.items():
            followed.mending = False  # before the read: what arrives during it may ask again
            waiting[channel], followed.waiting = followed.waiting, []
            asked.append((channel, followed.policy, 0 if followed.kept is None else followed.policy.history_size))
        refused = []
        try:
            answers = await source.read(asked) if asked else []
            for (channel, _, history), answer in zip(asked, answers, strict=True):
                if isinstance(answer, Exception):
                    refused.append(channel)
                    continue
                if self._followed.get(channel) is wanted[channel]:
                    self._take_in(channel, wanted[channel], answer, history=history)
                for read in waiting[channel]:
                    if not read.done():
                        read.set_result(None)
        finally:
            for each in waiting.values():
                refuse(each, away())
        return refused

    def _take_in(self, channel: str, followed: Followed, answer: list[Any], *, history: int) -> None:
        """Bring the mirror, and the listeners, up to what was read; then what was held meanwhile."""
        state = self.kept(channel, followed.policy, answer)
        kept = followed.kept
        if kept is None:
            followed.kept = kept = state
        else:
            if kept.epoch != state.epoch:
                followed.kept = kept = Kept(followed.policy, epoch=state.epoch)
            self._catch_up(kept, state)  # however old: what listeners missed is not history to them
            kept.extend_back(state.history)
        followed.whole = followed.policy.latest or history == followed.policy.history_size or not state.offset
        self._release(channel, followed, kept)
        if not followed.ready.done():
            followed.ready.set_result(None)

    def _catch_up(self, kept: Kept, state: Kept) -> None:
        missed = state.latest.values() if kept.policy.latest else state.history
        for publication in sorted(missed, key=lambda each: each.offset):
            if publication.offset > kept.offset:
                self.mended += 1
                kept.append(publication)
                self._deliver(publication)
        kept.skip_to(state.offset)  # what has expired meanwhile is missed for good

    def _release(self, channel: str, followed: Followed, kept: Kept) -> None:
        held = sorted(followed.held, key=lambda each: each.offset)
        followed.held = []
        for publication in held:
            if publication.epoch == kept.epoch and publication.offset == kept.offset + 1:
                kept.append(publication)
                self._deliver(publication)
            elif publication.epoch == kept.epoch and publication.offset > kept.offset:
                followed.held.append(publication)
                self._ask(channel, followed)

    def kept(self, channel: str, policy: Namespace, answer: list[Any]) -> Kept:
        """What `read.lua` answered."""
        epoch, top, blobs = answer[0].decode(), int(answer[1]), answer[2]
        if policy.latest:
            placed = [value.split(b" ", 1) for value in blobs]
            numbered = sorted(((int(offset), blob) for offset, blob in placed), key=lambda each: each[0])
        else:
            numbered = list(enumerate(blobs, start=top - len(blobs) + 1))
        kept = Kept(policy, epoch=epoch, offset=top)
        kept.restore([self._payloads.unpack(channel, policy, epoch, offset, blob) for offset, blob in numbered])
        return kept

    def _ask(self, channel: str, followed: Followed) -> None:
        if not followed.mending:
            followed.mending = self._ask_reading(channel)

    # --- what readers want ---

    def recover(
        self, channel: str, *, epoch: str | None, offset: int, limit: int
    ) -> Recovered | asyncio.Future[Recovered]:
        """As `Broker.recover`. Raises HubError(not_available)."""
        followed = self._followed.get(channel)
        if followed is None or followed.kept is None:
            raise away()
        if epoch is not None and followed.lacks(epoch, offset):
            self._ask(channel, followed)
            if not followed.mending:
                raise away()
            read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            followed.waiting.append(read)
            return asyncio.ensure_future(self._recover_after(read, channel, epoch, offset, limit))
        followed.kept.expire(self._clock.now_ms())
        return followed.kept.recover(epoch=epoch, offset=offset, limit=limit)

    async def _recover_after(
        self, read: asyncio.Future[None], channel: str, epoch: str, offset: int, limit: int
    ) -> Recovered:
        await read
        followed = self._followed.get(channel)
        if followed is None or followed.kept is None:
            raise away()
        return followed.kept.recover(epoch=epoch, offset=offset, limit=limit)

    def history(self, channel: str, *, after: int, limit: int, reverse: bool) -> Recovered | None:
        """As `Broker.history`; None when this node does not have all of it."""
        followed = self._followed.get(channel)
        if followed is None or followed.kept is None or not followed.whole:
            return None
        followed.kept.expire(self._clock.now_ms())
        return followed.kept.read(after=after, limit=limit, reverse=reverse)


def read_arguments(policy: Namespace, run_id: str, history: int) -> tuple[str | int, ...]:
    """For `read.lua`: with an epoch of its own for a channel that has none."""
    return run_id, secrets.token_urlsafe(6), mode(policy), history


def mode(policy: Namespace) -> str:
    if policy.latest:
        return "l"
    return "h" if policy.history_size else "n"
