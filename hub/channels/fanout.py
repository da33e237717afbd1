"""The way out: one publication to everyone on this node who listens.

Rule: nothing here awaits. What arrives within one turn of the event loop is collected per channel, and each subscriber
is written to once per turn: the bytes of a batch are joined and framed once per wire format and shared.
Order holds per channel. This is the hot path: no logging, no per-subscriber encoding, no tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TypeVar

from hub.channels.shaping import Shaper
from hub.connections.outbox import Batch, FrameCache, Outbox
from hub.publication import Publication

logger = logging.getLogger("krin.fanout")

T = TypeVar("T")

MAX_BUFFERED = 20_000  # publications per subscription that is being recovered
# When messages come faster than a flush takes, a pause as long as the flush, up to this, lets them leave in fewer and
# larger writes: at 1,000 messages/s to 1,000 readers a quarter less CPU here and fewer wake-ups there, no later.
MAX_PAUSE_S = 0.004


class Listener:
    """One subscription as the fan-out sees it.

    `buffer`: while the subscription is being recovered, live publications wait here. `shaper`: this subscriber wants
    less than everything (a rate, a filter), so it gets publications one by one instead of shared batches.
    """

    __slots__ = ("buffer", "outbox", "overrun", "shaper")

    def __init__(self, outbox: Outbox, shaper: Shaper | None = None) -> None:
        self.outbox = outbox
        self.buffer: list[Publication] | None = None
        self.overrun = False  # the buffer was full and lost its oldest
        self.shaper = shaper


class Audience:
    """Who listens to one channel on this node."""

    __slots__ = ("batch", "changed", "direct", "epoch", "special")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.changed = False  # somebody may have joined under another epoch
        self.direct: dict[Listener, Outbox] = {}
        self.special: dict[Listener, None] = {}  # buffering or shaped
        self.batch: Batch | None = None


class Fanout:
    """Owns who listens here. Channel state beyond that (offsets, history) is the broker's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._not_before = 0.0
        self._audiences: dict[str, Audience] = {}
        self._dirty: list[Audience] = []
        self._touched: list[Outbox] = []
        self._scheduled = False
        self.delivered = 0  # publications times subscribers, for the metrics

    def deliver(self, publication: Publication) -> None:
        """Hand a publication to every local listener. Called in offset order per channel."""
        audience = self._audiences.get(publication.channel)
        if audience is None:
            return
        if publication.epoch != audience.epoch:
            audience.changed = audience.epoch is not None
            audience.epoch = publication.epoch
        if audience.changed:
            # On every message from now on: the first one may be merged or filtered away before a reader sees it.
            publication.announces_epoch = True
        batch = audience.batch
        if batch is None:
            batch = audience.batch = Batch()
            self._dirty.append(audience)
            self._schedule()
        batch.publications.append(publication)

    def add(self, channel: str, listener: Listener) -> None:
        """Start listening: what is delivered from here on is buffered until `go_live`."""
        audience = self._audiences.get(channel)
        if audience is None:
            audience = self._audiences[channel] = Audience()
        self._settle(audience)  # what came before this moment is not for the newcomer
        listener.buffer = []
        audience.special[listener] = None

    def go_live(self, channel: str, listener: Listener, epoch: str) -> list[Publication]:
        """End buffering; returns what was buffered. The caller answers the subscriber within the same turn."""
        audience = self._audiences[channel]
        self._settle(audience)
        if audience.epoch is None:
            audience.epoch = epoch
        elif audience.epoch != epoch:  # newcomer and audience joined under different epochs: the next message tells all
            audience.changed = True
        buffered = listener.buffer or []
        listener.buffer = None
        if listener.shaper is None and listener in audience.special:
            del audience.special[listener]
            audience.direct[listener] = listener.outbox
        return buffered

    def hold(self, channel: str, listener: Listener, publications: list[Publication]) -> None:
        """Buffer again, beginning with these, until the next `go_live`."""
        audience = self._audiences[channel]
        audience.direct.pop(listener, None)
        audience.special[listener] = None
        listener.buffer = publications

    def listens(self, channel: str, listener: Listener) -> bool:
        audience = self._audiences.get(channel)
        return audience is not None and (listener in audience.direct or listener in audience.special)

    def remove(self, channel: str, listener: Listener) -> bool:
        """Stop listening. True when nobody on this node listens to the channel any more."""
        audience = self._audiences.get(channel)
        if audience is None:
            return False
        self._settle(audience)
        audience.direct.pop(listener, None)
        audience.special.pop(listener, None)
        if listener.shaper is not None:
            listener.shaper.close()
        if audience.direct or audience.special:
            return False
        del self._audiences[channel]
        return True

    def listeners(self, channel: str) -> int:
        audience = self._audiences.get(channel)
        return len(audience.direct) + len(audience.special) if audience else 0

    def channels(self) -> list[str]:
        return list(self._audiences)

    def touch(self, outbox: Outbox) -> None:
        """This outbox has something to write at the end of the turn."""
        outbox.touched = True
        self._touched.append(outbox)
        self._schedule()

    def flush(self) -> None:
        """Write everything this turn collected."""
        self._scheduled = False
        pending = sum(len(audience.batch.publications) for audience in self._dirty if audience.batch is not None)
        started = self._loop.time()
        self._write_all()
        if pending > 1:
            ended = self._loop.time()
            self._not_before = ended + min(ended - started, MAX_PAUSE_S)

    def _write_all(self) -> None:
        dirty = self._dirty
        if len(dirty) == 1 and not self._touched:
            self._dirty = []
            self._guarded(self._flush_alone, dirty[0])
            if not self._touched:
                return
        elif dirty:
            self._dirty = []
            for audience in dirty:
                self._guarded(self._distribute, audience)
        touched = self._touched
        self._touched = []
        cache: FrameCache = {}
        for outbox in touched:
            self._guarded(outbox.flush, cache)

    def _guarded(self, step: Callable[[T], None], argument: T) -> None:
        """One message that cannot be encoded must not leave everybody else unwritten."""
        try:
            step(argument)
        except Exception:
            logger.exception("a batch could not be written")

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if self._loop.time() < self._not_before:
                self._loop.call_at(self._not_before, self.flush)
            else:
                self._loop.call_soon(self.flush)

    def _flush_alone(self, audience: Audience) -> None:
        """The common case, one busy channel: every subscriber gets the very same bytes."""
        batch = audience.batch
        if batch is None:
            return
        audience.batch = None
        codec = None
        frame = b""
        for outbox in audience.direct.values():
            if outbox.ready:
                if outbox.codec is not codec:
                    codec = outbox.codec
                    frame = batch.frame(codec)
                outbox.write(frame)
            elif outbox.blocked:
                outbox.enqueue(batch)
            else:
                outbox.add(batch)
        self._count(audience, batch)
        if audience.special:
            self._distribute_special(audience, batch)

    def _distribute(self, audience: Audience) -> None:
        batch = audience.batch
        if batch is None:
            return
        audience.batch = None
        touched = self._touched
        for outbox in audience.direct.values():
            outbox.pending.append(batch)
            if not outbox.touched:
                outbox.touched = True
                touched.append(outbox)
        self._count(audience, batch)
        if audience.special:
            self._distribute_special(audience, batch)

    def _distribute_special(self, audience: Audience, batch: Batch) -> None:
        for listener in list(audience.special):
            if listener.buffer is not None:
                listener.buffer.extend(batch.publications)
                if len(listener.buffer) > MAX_BUFFERED:
                    listener.overrun = True
                    del listener.buffer[:-MAX_BUFFERED]  # what is lost here shows as a gap when the buffer is merged
            elif listener.shaper is not None:
                listener.shaper.offer(batch.publications)

    def _settle(self, audience: Audience) -> None:
        """Write out what is pending for this channel, before its audience changes."""
        if audience.batch is not None:
            self._dirty.remove(audience)
            self._flush_alone(audience)

    def _count(self, audience: Audience, batch: Batch) -> None:
        self.delivered += len(audience.direct) * len(batch.publications)
