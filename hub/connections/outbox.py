"""What waits for one client, bounded in bytes. Rule: nothing here awaits.

While the socket keeps up, nothing waits: frames shared by all subscribers of a format go straight to the transport.
Once the transport says stop, messages queue here: those that may not be dropped in order, conflatable ones as the
newest value per channel and key. If the bound is reached by messages that may not be dropped, the reader is too slow.
"""

from __future__ import annotations

import os
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hub.connections.verdicts import Notes, Outcome
from hub.publication import Publication
from protocol import frames
from protocol.codec import Codec, place_mark

# One frame carries at most about this much when a queue drains: a client need not buffer more to read a message.
DRAIN_BYTES = 64 * 1024


class Socket(Protocol):
    """The way out of one connection. After `close` or a loss, `write` does nothing."""

    fd: int
    """Where to write past the transport, which costs a seventh less; -1: nowhere.

    Only while nothing is buffered, and not after a loss.
    """

    write: Callable[[bytes], None]
    """Hand over whole frames, or what is left of them. Calls `Outbox.block` before it returns if some is buffered."""

    def buffered(self) -> int:
        """Bytes handed over and not yet taken by the kernel."""
        ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; the connection is cut shortly after even if the peer never answers."""
        ...

    def abort(self) -> None: ...


class Batch:
    """Publications of one channel in order. Joined and framed once per format, on first use."""

    __slots__ = ("_json", "_msgpack", "publications")

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self._json: bytes | None = None
        self._msgpack: bytes | None = None

    def frame(self, codec: Codec) -> bytes:
        if codec.opcode == frames.TEXT:
            if self._json is None:
                self._json = codec.frame(self.parts(codec))
            return self._json
        if self._msgpack is None:
            self._msgpack = codec.frame(self.parts(codec))
        return self._msgpack

    def parts(self, codec: Codec) -> list[bytes]:
        return [publication.encoded(codec) for publication in self.publications]


FrameCache = dict[tuple[Batch, ...], bytes]


class Outbox:
    """See the module. `ready`: nothing waits and the socket takes more; only then may `transmit` be called directly."""

    __slots__ = (
        "_blocked",
        "_bytes",
        "_closed",
        "_latest",
        "_note",
        "_queue",
        "_socket",
        "_touch",
        "_warned",
        "codec",
        "conflated",
        "entry",
        "fd",
        "limit_bytes",
        "mixed",
        "noted",
        "on_overflow",
        "on_pressure",
        "pending",
        "reader",
        "ready",
        "release",
        "touched",
        "write",
    )

    def __init__(
        self,
        socket: Socket,
        codec: Codec,
        *,
        limit_bytes: int,
        touch: Callable[[Outbox], None],
        on_overflow: Callable[[], None],
        on_pressure: Callable[[str, str | None], None],
        notes: Notes,
    ) -> None:
        """`touch` schedules `flush` for the end of the loop turn.

        `on_overflow` is called once when the bound is reached; `on_pressure(notice code, channel)` when messages begin
        to be conflated or three quarters of the bound are used.
        """
        self.codec = codec
        self.fd = socket.fd
        self.entry: bytes | None = None  # what `hub.connections.burst` keeps here, for as long as this outbox is open
        self.release: Callable[[int], None] | None = None  # lets go of the socket, which otherwise could not be closed
        self.write = socket.write
        self.ready = True
        self.limit_bytes = limit_bytes
        self.pending: list[bytes | Batch] = []  # of this turn, in order, to be written by `flush`
        self.mixed = False  # `pending` holds more than batches: replies, pushes
        self.conflated = 0
        self.on_overflow = on_overflow
        self.on_pressure = on_pressure
        self.touched = False
        self.reader = notes.reader()
        self.noted = 0
        self._note = notes.add
        self._socket = socket
        self._blocked = False
        self._closed = False
        self._touch = touch
        self._queue: deque[bytes] | None = None
        self._latest: OrderedDict[tuple[str, str], tuple[Publication, int]] | None = None
        self._bytes = 0
        self._warned = False

    @property
    def waiting_bytes(self) -> int:
        """Everything not yet taken by the kernel, as far as the bound counts it."""
        return self._bytes + self._socket.buffered()

    @property
    def blocked(self) -> bool:
        return self._blocked

    @property
    def closed(self) -> bool:
        return self._closed

    def note(self, publication: Publication, outcome: Outcome, by: int | None = None) -> None:
        """This reader does not get a publication. Not for what is delivered, or still waits."""
        self.noted += 1
        self._note((self.reader, publication.channel, publication.epoch, publication.offset, outcome, by))

    def holds(self, channel: str, offset: int) -> bool:
        """Whether a publication still waits here. Looks at everything that does: not for the hot path."""
        mark = place_mark(self.codec, channel, offset)
        for each in [*self.pending, *(self._queue or ())]:
            if isinstance(each, bytes):
                if mark in each:
                    return True
            elif any(waiting.channel == channel and waiting.offset == offset for waiting in each.publications):
                return True
        latest = () if self._latest is None else self._latest.values()
        return any(waiting.channel == channel and waiting.offset == offset for waiting, _ in latest)

    def push(self, part: bytes) -> None:
        """Send one encoded message (a reply, a ping, a notice) at the end of this turn."""
        if self._closed:
            return
        self.ready = False
        self.mixed = True
        self.pending.append(part)
        if not self.touched:
            self._touch(self)

    def transmit(self, data: bytes) -> None:
        """Write complete frames now. Only while `ready`."""
        sent = 0
        try:
            if self.fd >= 0:
                sent = os.write(self.fd, data)
        except OSError:  # the kernel's buffer is full, or the peer is gone: the transport finds out which
            pass
        if sent != len(data):
            self.write(data[sent:])

    def add(self, batch: Batch) -> None:
        """Send a batch at the end of this turn, together with whatever else comes up."""
        if self._closed:
            return
        self.ready = False
        self.pending.append(batch)
        if not self.touched:
            self._touch(self)

    def push_publication(self, publication: Publication, skipped: int) -> None:
        """Send one publication whose bytes are this subscriber's own."""
        if self._blocked:
            self._enqueue(publication, skipped)
        else:
            self.push(publication.encoded_with(self.codec, skipped=skipped))

    def flush(self, cache: FrameCache) -> None:
        """Write what this turn collected, as one frame. `cache` shares frames between equal sets of batches."""
        self.touched = False
        if self._closed:
            self.pending.clear()
            return
        if self._blocked:
            pending, self.pending, self.mixed = self.pending, [], False
            for each in pending:
                if isinstance(each, Batch):
                    for publication in each.publications:
                        self._enqueue(publication, 0)
                else:
                    self._enqueue_part(each)
            return
        pending = self.pending
        if self.mixed:
            data = self.codec.frame(self.take_pending())
        elif len(pending) == 1:
            data = pending[0].frame(self.codec)  # type: ignore[union-attr]  # not mixed: batches only
        elif pending:
            key: tuple[Batch, ...] = tuple(pending)  # type: ignore[arg-type]
            data = cache.get(key, b"")
            if not data:
                data = cache[key] = self.codec.frame(self.take_pending())
        else:
            return
        pending.clear()
        self.ready = True
        self.transmit(data)

    def take_pending(self) -> list[bytes]:
        """This turn's messages in order, encoded; they are pending no more."""
        parts: list[bytes] = []
        for each in self.pending:
            if isinstance(each, Batch):
                parts.extend(each.parts(self.codec))
            else:
                parts.append(each)
        self.pending = []
        self.mixed = False
        return parts

    def block(self) -> None:
        """The transport's buffer is full."""
        self._blocked = True
        self.ready = False

    def unblock(self, now: float) -> None:
        """The transport takes more: drain in order, then the newest values that are still worth sending."""
        self._blocked = False
        queue = self._queue
        while queue and not self._blocked:
            self.write(self.codec.frame(self._take(queue)))
        latest = self._latest
        while latest and not self._blocked:
            self.write(self.codec.frame(self._take_latest(latest, now)))
        if not self._blocked:
            self._queue = self._latest = None
            self._bytes = 0
            self._warned = False
            self.ready = not self.pending

    def forget(self, channel: str) -> None:
        """The subscription has ended: its values that still wait are not sent any more."""
        if self._latest is not None:
            for key in [key for key in self._latest if key[0] == channel]:
                self._bytes -= len(self._latest.pop(key)[0].body)

    def close(self) -> None:
        """Nothing is written from here on, and nobody is held on to: memory is free without a collector's run."""
        self._closed = True
        if self.release is not None:
            self.release(self.fd)
        self.entry = self.release = None
        self.on_overflow = _nobody
        self.on_pressure = _nobody
        self.ready = False
        self._queue = self._latest = None
        self._bytes = 0

    def _take(self, queue: deque[bytes]) -> list[bytes]:
        parts: list[bytes] = []
        size = 0
        while queue and size < DRAIN_BYTES:
            part = queue.popleft()
            parts.append(part)
            size += len(part)
        self._bytes -= size
        return parts

    def _take_latest(
        self, latest: OrderedDict[tuple[str, str], tuple[Publication, int]], now: float
    ) -> Sequence[bytes]:
        parts: list[bytes] = []
        size = 0
        while latest and size < DRAIN_BYTES:
            _, (publication, skipped) = latest.popitem(last=False)
            self._bytes -= len(publication.body)
            if publication.expires_at is not None and publication.expires_at < now:
                self.note(publication, "expired")
                continue
            parts.append(publication.encoded_with(self.codec, skipped=skipped))
            size += len(parts[-1])
        return parts

    def _enqueue(self, publication: Publication, skipped: int) -> None:
        if not publication.conflatable:
            self._enqueue_part(publication.encoded_with(self.codec, skipped=skipped))
            return
        if self._closed:
            return
        latest = self._latest
        if latest is None:
            latest = self._latest = OrderedDict()
            self.on_pressure("conflating", publication.channel)
        key = (publication.channel, publication.key or "")
        waiting = latest.get(key)
        if waiting is not None:
            self.conflated += 1
            old = waiting[0]
            self.noted += 1
            self._note((self.reader, key[0], old.epoch, old.offset, "conflated", publication.offset))
            skipped += waiting[1] + 1
            self._bytes -= len(waiting[0].body)
        # Re-inserting would let a busy key starve behind quiet ones' turns; keeping its place keeps it fair.
        latest[key] = (publication, skipped)
        self._bytes += len(publication.body)
        self._check_bound()

    def _enqueue_part(self, part: bytes) -> None:
        if self._closed:
            return
        if self._queue is None:
            self._queue = deque()
        self._queue.append(part)
        self._bytes += len(part)
        self._check_bound()

    def _check_bound(self) -> None:
        """What waits may not be dropped: the newest value of a key no more than an order."""
        if self._bytes > self.limit_bytes:
            overflow = self.on_overflow
            self.close()
            overflow()
        elif not self._warned and self._bytes > self.limit_bytes * 3 // 4:
            self._warned = True
            self.on_pressure("outbox_high", None)


def _nobody(*_: object) -> None:
    """Whoever was to be told is gone."""
