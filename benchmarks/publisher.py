"""Publishers: connections whose answers are read, and an open loop that never waits for the server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks import wire
from benchmarks.histogram import Histogram
from benchmarks.plans import Stream, Target

MAX_AT_ONCE = 500  # messages put out in one turn by a publisher that fell behind
MAX_BATCH_BYTES = 16_384  # of one array of messages
OPEN_LIMIT_S = 15.0


class Control(asyncio.Protocol):
    """One WebSocket whose messages are handed over one by one."""

    def __init__(self, target: Target, *, on_message: Callable[[bytes], None] | None = None) -> None:
        self.target = target
        self.ready = asyncio.get_running_loop().create_future()
        self.closed = False
        self.errors: list[str] = []
        self.error_count = 0
        self._on_message = on_message
        self._parser: wire.FrameParser | None = None
        self._head = b""

    @classmethod
    async def open(cls, target: Target, *, on_message: Callable[[bytes], None] | None = None) -> Control:
        """Connect, say hello and wait for the answer. Raises Refused, TimeoutError."""
        async with asyncio.timeout(OPEN_LIMIT_S):
            _, control = await asyncio.get_running_loop().create_connection(
                lambda: cls(target, on_message=on_message), target.host, target.port
            )
            await control.ready
        return control

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = self.target
        path = target.path.replace("@I@", "0")
        transport.write(wire.upgrade(target.host, target.port, path, target.subprotocol, target.headers))

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self._head += data
            try:
                found = wire.split_response(self._head)
            except wire.Refused as failure:
                self._fail(failure)
                return
            if found is None:
                return
            self._parser = wire.FrameParser()
            data = found[1]
            for each in self.target.hello:
                self.send(each.replace(b"@I@", b"0"))
            if not self.target.ready:
                self.ready.set_result(None)
        for opcode, payload in self._parser.feed(data):
            if opcode == wire.PING:
                self._transport.write(wire.frame(payload, wire.PONG))
            elif opcode == wire.CLOSE:
                self.errors.append(f"closed with {int.from_bytes(payload[:2], 'big')} {payload[2:].decode('latin-1')}")
            elif opcode in (wire.TEXT, wire.BINARY):
                self._read(payload)

    def _read(self, payload: bytes) -> None:
        if not self.ready.done():
            if self.target.ready in payload:
                self.ready.set_result(None)
            elif b'"error"' in payload:
                self._fail(wire.Refused(payload[:300].decode("latin-1")))
            return
        if b'"type":"ping"' in payload and self.target.keepalive:
            self.send(self.target.keepalive)
            return
        if b'"error"' in payload or b"\xa5error" in payload:
            self.error_count += 1
            if len(self.errors) < 5:
                self.errors.append(payload[:200].decode("latin-1"))
        if self._on_message is not None:
            self._on_message(payload)

    def _fail(self, failure: Exception) -> None:
        if not self.ready.done():
            self.ready.set_exception(failure)
        self._transport.abort()

    def connection_lost(self, failure: Exception | None) -> None:
        self.closed = True
        if not self.ready.done():
            self.ready.set_exception(wire.Refused("closed before it was ready"))

    def send(self, payload: bytes) -> None:
        self.write(wire.frame(payload, wire.BINARY if self.target.binary else wire.TEXT))

    def write(self, frames: bytes) -> None:
        self._transport.write(frames)

    def close(self) -> None:
        self._transport.abort()


class HttpControl(asyncio.Protocol):
    """A kept-alive HTTP connection for servers that are published to over HTTP; answers are only counted."""

    def __init__(self) -> None:
        self.closed = False
        self.errors: list[str] = []
        self.error_count = 0

    @classmethod
    async def open(cls, target: Target) -> HttpControl:
        async with asyncio.timeout(OPEN_LIMIT_S):
            _, control = await asyncio.get_running_loop().create_connection(cls, target.host, target.port)
        return control

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if b"HTTP/1.1 4" in data or b"HTTP/1.1 5" in data:
            self.error_count += 1
            self.errors = [*self.errors[:4], data[:120].decode("latin-1")]

    def connection_lost(self, failure: Exception | None) -> None:
        self.closed = True

    def write(self, requests: bytes) -> None:
        self._transport.write(requests)

    def close(self) -> None:
        self._transport.abort()


class OpenLoop:
    """Sends message k at start + k / rate, come what may, and stamps it with that moment and not with the real one.

    So a stall of the server, or of this publisher, counts in every message it delayed. `late` says how far this
    publisher itself was behind: that share of a latency is the generator's.
    """

    def __init__(self, stream: Stream, control: Control | HttpControl) -> None:
        self.stream = stream
        self.control = control
        self.sent = [0] * len(stream.messages)
        self.late = Histogram()
        opcode = wire.BINARY if stream.target.binary else wire.TEXT
        self._templates = [
            wire.Template(each, opcode=opcode, framed=not (stream.http or stream.batch)) for each in stream.messages
        ]
        self._number = 0
        self._begun_ns = 0
        self._until_ns = 0
        self._done: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, stream: Stream) -> OpenLoop:
        control = await (HttpControl.open(stream.target) if stream.http else Control.open(stream.target))
        return cls(stream, control)

    @property
    def total(self) -> int:
        return sum(self.sent)

    def forget(self) -> None:
        """Count from here; message numbers go on."""
        self.sent = [0] * len(self.sent)
        self.late = Histogram()

    def start(self, seconds: float) -> asyncio.Future[None]:
        """Begin now. The result resolves when the time is over; `stop` ends it earlier."""
        self._begun_ns = time.monotonic_ns() + 1_000_000
        self._until_ns = self._begun_ns + int(seconds * 1e9)
        self._index = 0
        self._done = self._loop.create_future()
        self._tick()
        return self._done

    def stop(self) -> None:
        self._until_ns = 0

    def _tick(self) -> None:
        now = time.monotonic_ns()
        rate = self.stream.rate_per_s
        kinds = len(self._templates)
        out: list[bytes] = []
        while len(out) < MAX_AT_ONCE:
            due = self._begun_ns + int(self._index * 1e9 / rate)
            if due >= self._until_ns:
                self._send(out)
                if self._done is not None and not self._done.done():
                    self._done.set_result(None)
                return
            if due > now:
                break
            kind = self._number % kinds
            out.append(self._templates[kind].render(due, self._number))
            self.sent[kind] += 1
            self.late.record(now - due)
            self._number += 1
            self._index += 1
        self._send(out)
        if self.control.closed:
            if self._done is not None and not self._done.done():
                self._done.set_exception(wire.Refused(f"the publisher was cut off: {self.control.errors}"))
            return
        self._loop.call_later(max(0.0, (due - time.monotonic_ns()) / 1e9), self._tick)

    def _send(self, out: Sequence[bytes]) -> None:
        if not out:
            return
        if not self.stream.batch:
            self.control.write(b"".join(out))
            return
        step = max(1, MAX_BATCH_BYTES // len(out[0]))
        for start in range(0, len(out), step):
            some = out[start : start + step]
            self.control.write(wire.frame(some[0] if len(some) == 1 else b"[" + b",".join(some) + b"]"))
