"""What stands in for a socket and for the event loop where a test decides when a turn ends, and a log that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from hub.caller import Caller, Grant
from hub.connections.outbox import Outbox
from hub.connections.verdicts import Notes
from hub.publication import Publication
from protocol import frames
from protocol.codec import JSON, Codec
from storage.database import Database
from storage.errors import Unavailable
from storage.messages import Head, MessageLog, StoredMessage


class Turns:
    """An event loop that runs only when told to: `end` runs what was scheduled for the end of this turn."""

    def __init__(self) -> None:
        self.now = 0.0
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._soon.append(lambda: callback(*arguments))

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        timer = Timer(lambda: callback(*arguments))
        self._timers.append((when, timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        return self.call_at(self.now + delay, callback, *arguments)

    def end(self) -> None:
        """End this turn and all that follow from it."""
        while self._soon or any(when <= self.now for when, _ in self._timers):
            self.once()

    def once(self) -> None:
        """End this turn."""
        soon, self._soon = self._soon, []
        due = [timer for when, timer in self._timers if when <= self.now]
        self._timers = [(when, timer) for when, timer in self._timers if when > self.now]
        for callback in [*soon, *due]:
            callback()

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.end()


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def __call__(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        self._callback = None


class RecordingSocket:
    """Keeps what is written. `room` bytes go out; then it says stop, as a transport does, until `take` makes room."""

    def __init__(self, room: int | None = None) -> None:
        self.write: Callable[[bytes], None] = self._write
        self.fd = -1
        self.writes: list[bytes] = []
        self.room = room
        self.pending = 0
        self.outbox: Outbox | None = None
        self.reading = True
        self.closed: tuple[int, str] | None = None
        self.on_block: Callable[[], None] | None = None

    def _write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.room is not None:
            self.pending += len(data)
            if self.pending > self.room:
                self.stop()

    def stop(self) -> None:
        if self.on_block is not None:
            self.on_block()
        elif self.outbox is not None:
            self.outbox.block()

    def buffered(self) -> int:
        return self.pending

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def abort(self) -> None:
        self.closed = (1006, "")

    def messages(self) -> list[Any]:
        """Everything written so far, decoded, frames of several messages taken apart."""
        found: list[Any] = []
        for write in self.writes:
            found += unpacked(write)
        return found


def unpacked(frame: bytes) -> list[Any]:
    decode = msgspec.json.decode if frame[0] == frames.TEXT else msgspec.msgpack.decode
    decoded = [decode(payload) for payload in frames.payloads(frame)]
    return [each for one in decoded for each in (one if isinstance(one, list) else [one])]


def publication(
    channel: str,
    offset: int = 0,
    *,
    key: str | None = None,
    conflatable: bool = False,
    epoch: str = "e1",
    type: str = "NOTE",
    text: str = "",
    publisher: str | None = None,
    timestamp: int = 1_732_330_000_000,
    expires_at: float | None = None,
) -> Publication:
    body = b'"data":' + msgspec.json.encode({"n": offset, "text": text})
    if key is not None:
        body += b',"key":' + msgspec.json.encode(key)
    made = Publication(
        channel,
        type,
        body=body,
        timestamp=timestamp,
        key=key,
        publisher=publisher,
        conflatable=conflatable,
        expires_at=expires_at,
    )
    if offset:
        made.place(epoch, offset)
    return made


def outbox(
    socket: RecordingSocket,
    *,
    touch: Callable[[Outbox], None],
    codec: Codec = JSON,
    limit_bytes: int = 1 << 20,
    on_overflow: Callable[[], None] = lambda: None,
    on_pressure: Callable[[str, str | None], None] = lambda code, channel: None,
    notes: Notes = Notes(),
) -> Outbox:
    made = Outbox(
        socket,
        codec,
        limit_bytes=limit_bytes,
        touch=touch,
        on_overflow=on_overflow,
        on_pressure=on_pressure,
        notes=notes,
    )
    socket.outbox = made
    return made


def caller(
    user: str = "ann",
    *roles: str,
    teams: tuple[str, ...] = (),
    grant: Grant = Grant(),
    tenant: str = "",
    amr: tuple[str, ...] = ("pwd", "otp", "mfa"),
    connection: Any = None,
) -> Caller:
    return Caller(
        user=user,
        roles=frozenset(roles),
        teams=frozenset(teams),
        grant=grant,
        tenant=tenant,
        transport="websocket",
        amr=amr,
        connection=connection,
    )


class SlowLog(MessageLog):
    """The real log, whose pages are on their way until `arrive` is set."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.pages = 0
        self.unreachable = False
        self.arrive = asyncio.Event()

    async def page(
        self, channel: str, *, after: int, limit: int, reverse: bool = False, before: int | None = None
    ) -> tuple[Head, list[StoredMessage]]:
        self.pages += 1
        if self.unreachable:
            await self.arrive.wait()
            raise Unavailable("the database is away")
        page = await super().page(channel, after=after, limit=limit, reverse=reverse, before=before)
        await self.arrive.wait()
        return page

    async def until_read(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.pages < count:
                await asyncio.sleep(0.001)
