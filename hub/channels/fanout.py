"""The way out: one publication to everyone on this node who listens.

Rule: nothing here awaits. What arrives within one turn of the event loop is collected per channel, and each subscriber
is written to once: the bytes are joined and framed once per wire format and shared by all who get the same.
A large audience is written to in slices, between which the loop reads on; each reader gets everything up to its own
slice, so that a message waits for one round through the audience at most, and not for two.
Order holds per channel. This is the hot path: no logging, no per-subscriber encoding, no tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVarTuple

from hub.channels.shaping import Shaper
from hub.connections.burst import Burst, write_each
from hub.connections.outbox import Batch, FrameCache, Outbox
from hub.publication import Publication

logger = logging.getLogger("krin.fanout")

Ts = TypeVarTuple("Ts")

Written = Callable[[Sequence[Publication], int], None]
"""Told of publications that were just written to so many readers. Once for each slice, so it costs no reader much."""

MAX_BUFFERED = 20_000  # publications per subscription that is being recovered
SLICE = 512  # writes, two to three milliseconds, before the loop may read again
MAX_UNMEASURED = 1024
MAX_GAPS = 64  # remembered per channel
MAX_RECENT = 256  # headings per channel that somebody filters
# When messages come faster than a round takes, a pause as long as the round, up to this, lets them leave in fewer and
# larger writes: at 1,000 messages/s to 1,000 readers a quarter less CPU here and fewer wake-ups there, no later.
MAX_PAUSE_S = 0.004


def _unmeasured(publications: Sequence[Publication], readers: int) -> None:
    """Nobody measures."""


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
    """Who listens to one channel on this node, and what is not yet on its way to all of them."""

    __slots__ = ("busy", "changed", "direct", "epoch", "gaps", "log", "newest", "recent", "special")

    def __init__(self) -> None:
        self.epoch: str | None = None
        self.newest = 0  # the last offset that came; 0: none yet
        self.gaps: deque[range] | None = None  # offsets that never came to this node
        self.recent: deque[Heading] | None = None  # of what was offered one by one: a filter can be asked again
        self.changed = False  # somebody may have joined under another epoch
        self.direct: dict[Listener, Outbox] = {}
        self.special: dict[Listener, None] = {}  # buffering or shaped
        self.log: list[Publication] = []
        self.busy = False  # the log is not empty, and the fan-out knows

    def skip(self, publication: Publication) -> None:
        """This one does not follow the newest: it is the first, or of another epoch, or some in between were lost."""
        if publication.offset > self.newest > 0:
            if self.gaps is None:
                self.gaps = deque(maxlen=MAX_GAPS)
            self.gaps.append(range(self.newest + 1, publication.offset))

    def lost(self, offset: int) -> bool:
        return self.gaps is not None and any(offset in gap for gap in self.gaps)


class Heading(NamedTuple):
    offset: int
    type: str
    key: str | None


class Rotation:
    """The way of one channel's messages round its audience, who must not change meanwhile.

    `marks`: of this round, (readers before this index, how much of the log they had before it). `visited`: the same
    for the next one.
    """

    __slots__ = ("_batch", "_range", "audience", "index", "log", "marks", "ring", "visited")

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.log = audience.log
        self.ring = [*audience.direct.values()]
        self.index = 0
        self.marks = [(len(self.ring), 0)]
        self.visited: list[tuple[int, int]] = []
        self._range = (0, 0)  # of the log, which the batch holds
        self._batch = Batch()

    @property
    def between_rounds(self) -> bool:
        return self.index == 0

    def advance(self, limit: int) -> Iterator[tuple[Sequence[Outbox], Batch]]:
        """The next readers, at most `limit` and to the end of the round, with what each of them has not had yet."""
        end = len(self.log)
        while self.marks and limit:
            upto, position = self.marks[0]
            stop = upto
            if position < end:
                stop = min(upto, self.index + limit)
                limit -= stop - self.index
                yield self.ring[self.index : stop], self._batch_of(position, end)
            if stop == upto:
                del self.marks[0]
            self.index = stop
            if self.visited and self.visited[-1][1] == end:
                del self.visited[-1]
            self.visited.append((stop, end))
        if not self.marks:
            self._next_round()

    def done(self) -> bool:
        return self.between_rounds and not self.log

    def _batch_of(self, start: int, end: int) -> Batch:
        """Most slices of a round have the same to write: they share it."""
        if self._range != (start, end):
            self._range = (start, end)
            self._batch = Batch()
            self._batch.publications = self.log[start:end]
        return self._batch

    def _next_round(self) -> None:
        had = self.visited[0][1]  # by those who were first: the least
        del self.log[:had]
        self.marks = [(upto, position - had) for upto, position in self.visited]
        self.visited = []
        self.index = 0
        self._range = (0, 0)


class Fanout:
    """Owns who listens here. Channel state beyond that (offsets, history) is the broker's."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        burst: Burst = write_each,
        written: Written = _unmeasured,
        slice_writes: int = SLICE,
    ) -> None:
        self._loop = loop
        self._burst = burst
        self._written = written
        self._slice = slice_writes
        self._not_before = 0.0
        self._audiences: dict[str, Audience] = {}
        self._dirty: list[Audience] = []
        self._rotation: Rotation | None = None
        self._touched: deque[Outbox] = deque()
        self._handed_over: list[tuple[Batch, int]] = []  # to outboxes that are all written before any of it is measured
        self._scheduled = False
        self._began: float | None = None
        self._taken = 0  # publications since everyone had a turn
        self.delivered = 0  # publications times subscribers, for the metrics

    def deliver(self, publication: Publication) -> None:
        """Hand a publication to every local listener. Called in offset order per channel."""
        audience = self._audiences.get(publication.channel)
        if audience is None:
            return
        if publication.epoch != audience.epoch:
            audience.changed = audience.epoch is not None
            audience.epoch = publication.epoch
            audience.newest = 0
            audience.gaps = audience.recent = None
        if publication.offset != audience.newest + 1:
            audience.skip(publication)
        audience.newest = publication.offset
        if audience.changed:
            # On every message from now on: the first one may be merged or filtered away before a reader sees it.
            publication.announces_epoch = True
        if audience.direct:
            self.delivered += len(audience.direct)
            self._taken += 1
            audience.log.append(publication)
            if not audience.busy:
                audience.busy = True
                self._dirty.append(audience)
                self._schedule()
        if audience.special:
            self._guarded(_offer, audience, publication)

    def add(self, channel: str, listener: Listener) -> None:
        """Start listening: what is delivered from here on is buffered until `go_live`."""
        audience = self._audiences.get(channel)
        if audience is None:
            audience = self._audiences[channel] = Audience()
        listener.buffer = []
        audience.special[listener] = None

    def go_live(self, channel: str, listener: Listener, epoch: str) -> list[Publication]:
        """End buffering; returns what was buffered. The caller answers the subscriber within the same turn."""
        audience = self._audiences[channel]
        if audience.epoch is None:
            audience.epoch = epoch
        elif audience.epoch != epoch:  # newcomer and audience joined under different epochs: the next message tells all
            audience.changed = True
        buffered = listener.buffer or []
        listener.buffer = None
        if listener.shaper is None and listener in audience.special:
            self._settle(audience)  # what came before this moment is not for the newcomer
            del audience.special[listener]
            audience.direct[listener] = listener.outbox
        return buffered

    def hold(self, channel: str, listener: Listener, publications: list[Publication]) -> None:
        """Buffer again, beginning with these, until the next `go_live`."""
        audience = self._audiences[channel]
        self._settle(audience)
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
        if listener in audience.direct:
            self._settle(audience)
            del audience.direct[listener]
        audience.special.pop(listener, None)
        if listener.shaper is not None:
            listener.shaper.close()
        if audience.direct or audience.special:
            return False
        del self._audiences[channel]
        return True

    def audience(self, channel: str) -> Audience | None:
        """To be looked at only."""
        return self._audiences.get(channel)

    def listeners(self, channel: str) -> int:
        audience = self._audiences.get(channel)
        return len(audience.direct) + len(audience.special) if audience else 0

    def channels(self) -> list[str]:
        return list(self._audiences)

    @property
    def writing(self) -> bool:
        """A round is under way: `flush` has more to do."""
        return bool(self._touched or self._rotation)

    def touch(self, outbox: Outbox) -> None:
        """This outbox has something to write at the end of the turn."""
        outbox.touched = True
        self._touched.append(outbox)
        self._schedule()

    def flush(self) -> None:
        """Write what this turn collected, or as much of it as fits into one slice."""
        self._scheduled = False
        if self._began is None:
            self._began = self._loop.time()
        dirty = self._dirty
        if dirty:
            self._dirty = []
            if len(dirty) == 1 and self._rotation is None:
                self._rotation = Rotation(dirty[0])
            else:
                for audience in dirty:
                    self._hand_over(audience)
        if self._touched:
            self._write_touched()
        rotation = self._rotation
        if rotation is not None:
            for outboxes, batch in rotation.advance(self._slice):
                self._guarded(self._send, outboxes, batch)
            if rotation.done():
                rotation.audience.busy = False
                self._rotation = rotation = None
        if not self._touched and (rotation is None or rotation.between_rounds):
            self._pause()
        if self.writing:
            self._schedule()

    def _send(self, outboxes: Sequence[Outbox], batch: Batch) -> None:
        """The common case: everyone gets the very same bytes."""
        ready = [outbox for outbox in outboxes if outbox.ready]
        if len(ready) != len(outboxes):
            for outbox in outboxes:
                if not outbox.ready:
                    outbox.add(batch)
        codecs = {outbox.codec for outbox in ready}
        for codec in codecs:
            same = ready if len(codecs) == 1 else [outbox for outbox in ready if outbox.codec is codec]
            self._burst(same, batch.frame(codec))
        self._written(batch.publications, len(outboxes))

    def _write_touched(self) -> None:
        touched = self._touched
        cache: FrameCache = {}
        for _ in range(min(self._slice, len(touched))):
            self._guarded(touched.popleft().flush, cache)
        if self._handed_over and (not touched or len(self._handed_over) > MAX_UNMEASURED):
            for batch, readers in self._handed_over:
                self._written(batch.publications, readers)
            self._handed_over.clear()

    def _pause(self) -> None:
        """Everyone had a turn."""
        if self._taken > 1 and self._began is not None:
            ended = self._loop.time()
            self._not_before = ended + min(ended - self._began, MAX_PAUSE_S)
        self._taken = 0
        self._began = None

    def _guarded(self, step: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """One message that cannot be encoded must not leave everybody else unwritten."""
        try:
            step(*arguments)
        except Exception:
            logger.exception("a batch could not be written")

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            if self._loop.time() < self._not_before:
                self._loop.call_at(self._not_before, self.flush)
            else:
                self._loop.call_soon(self.flush)

    def _hand_over(self, audience: Audience) -> None:
        """Leave what is in the log to each reader's outbox, which is written once for all of its channels."""
        batch = Batch()
        batch.publications, audience.log = audience.log, []
        audience.busy = False
        self._handed_over.append((batch, len(audience.direct)))
        touched = self._touched
        for outbox in audience.direct.values():
            outbox.pending.append(batch)
            outbox.ready = False
            if not outbox.touched:
                outbox.touched = True
                touched.append(outbox)

    def _settle(self, audience: Audience) -> None:
        """Leave the log to the outboxes, before the audience changes."""
        rotation = self._rotation
        if rotation is not None and rotation.audience is audience:
            while not rotation.done():
                for outboxes, batch in rotation.advance(len(rotation.ring)):
                    for outbox in outboxes:
                        outbox.add(batch)
            audience.busy = False
            self._rotation = None
        elif audience.busy:
            self._dirty.remove(audience)
            self._hand_over(audience)
            self._schedule()


def _offer(audience: Audience, publication: Publication) -> None:
    """To those who get publications one by one: what they are being recovered for, or their own selection."""
    if audience.recent is None:
        audience.recent = deque(maxlen=MAX_RECENT)
    audience.recent.append(Heading(publication.offset, publication.type, publication.key))
    for listener in [*audience.special]:
        if listener.buffer is not None:
            listener.buffer.append(publication)
            if len(listener.buffer) > MAX_BUFFERED:
                listener.overrun = True
                del listener.buffer[0]  # what is lost here shows as a gap when the buffer is merged
        elif listener.shaper is not None:
            listener.shaper.offer(publication)
