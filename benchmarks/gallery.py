"""Thousands of WebSocket clients on one epoll of their own, read past asyncio's transports.

Measured on one core: 2.5 us for each read this way, 9.2 us with asyncio's BufferedProtocol, 9.7 us with uvloop's; a
generator that costs more than the server it measures measures itself. The epoll hangs in the event loop as one
readable file, so everything else (timers, publishers, waiting) is ordinary asyncio.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from benchmarks import wire
from benchmarks.histogram import Histogram
from benchmarks.plans import Target

CHUNK = 256 * 1024
SPARE = 256  # room in front of what was read, for what an earlier read left over
EVENTS = 128  # handled before the loop may look after its timers
RESET = struct.pack("ii", 1, 0)
KEEPALIVE_S = 15.0
PORTS_PER_ADDRESS = 20_000
IP_BIND_ADDRESS_NO_PORT = 24

CONNECTING, UPGRADING, JOINING, LIVE, GONE = range(5)
now_ns = time.monotonic_ns


class FineSelector(selectors.EpollSelector):
    """epoll waits whole milliseconds; a publisher needs its moment to some microseconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], (), (), timeout)
            timeout = 0
        return super().select(timeout)


def fine_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(FineSelector())


class Member:
    """One client. `got` counts deliveries; `left` is what remains of the frame being read."""

    __slots__ = (
        "close_code",
        "edge",
        "got",
        "head",
        "index",
        "left",
        "live_ns",
        "parser",
        "reads",
        "recv",
        "retry_after_ms",
        "sampled",
        "sock",
        "started_ns",
        "state",
        "tail",
        "target",
    )

    def __init__(self, index: int, target: Target, *, sampled: bool = False, reads: bool = True) -> None:
        self.index = index
        self.target = target
        self.sampled = sampled
        self.reads = reads
        self.got = 0
        self.sock: socket.socket | None = None
        self.recv: Callable[[memoryview], int] = _nothing
        self.state = GONE
        self.left = 0
        self.head = b""
        self.tail = b""
        self.edge = b""
        self.parser: wire.FrameParser | None = None
        self.started_ns = 0
        self.live_ns = 0
        self.close_code = 0
        self.retry_after_ms = 0


def _nothing(view: memoryview) -> int:
    raise BlockingIOError


class Gallery:
    """Owner of the members' sockets. The callbacks tell of their lives: in (with the server's greeting), lost, refused.

    Without `on_refused` a refused dial makes `open` and `all_live` fail.
    """

    def __init__(
        self,
        *,
        one_byte: bool = True,
        on_live: Callable[[Member, bytes], None] | None = None,
        on_lost: Callable[[Member], None] | None = None,
        on_refused: Callable[[Member], None] | None = None,
        listen_for_goodbye: bool = False,
        small_buffers: bool = False,
    ) -> None:
        """`one_byte`: "=" occurs in stamps only, and a single byte is counted ten times faster than three."""
        self.members: list[Member] = []
        self.latencies = {mark: Histogram() for mark in "STUV"}
        self.gapless: list[int] | None = None  # per member, stamps marked "S", where somebody wants them counted
        self.recording = False
        self.bytes_in = 0
        self.reads = 0
        self.lost = 0
        self.refused: list[str] = []
        self.last_ns = 0
        self._needle = b"=" if one_byte else b"TS="
        self._on_live = on_live
        self._on_lost = on_lost
        self._on_refused = on_refused
        self._goodbyes = listen_for_goodbye
        self._small_buffers = small_buffers
        self._epoll = select.epoll()
        self._by_fd: dict[int, Member] = {}
        self._buffer = bytearray(SPARE + CHUNK)
        self._view = memoryview(self._buffer)[SPARE:]
        self._waiting: deque[Member] = deque()
        self._under_way = 0
        self._in_flight = 256
        self._all_live: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self.drain)
        self._keeper: asyncio.TimerHandle | None = None

    # --- opening ---

    async def open(self, members: Sequence[Member], *, in_flight: int = 256, limit_s: float = 120.0) -> None:
        """Connect these members, `in_flight` at a time; returns when each is live. Raises Refused, TimeoutError."""
        self.members += [member for member in members if member.sock is None and member.started_ns == 0]
        self.begin(members, in_flight=in_flight)
        async with asyncio.timeout(limit_s):
            await self.all_live()
        if self._keeper is None:
            self._keeper = self._loop.call_later(KEEPALIVE_S, self._keep_alive, 0)

    def begin(self, members: Iterable[Member], *, in_flight: int = 256) -> None:
        self._in_flight = in_flight
        self._waiting.extend(members)
        self._fill()

    async def all_live(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._waiting or self._under_way:
            self._all_live = self._loop.create_future()
            await self._all_live

    def _fill(self) -> None:
        while self._waiting and self._under_way < self._in_flight:
            self._dial(self._waiting.popleft())

    def _dial(self, member: Member) -> None:
        target = member.target
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._small_buffers and not member.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        if member.index >= PORTS_PER_ADDRESS:  # one address has about 28,000 ports
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{2 + member.index // PORTS_PER_ADDRESS}", 0))
        member.sock = sock
        member.recv = sock.recv_into
        member.state = CONNECTING
        member.left = 0
        member.head = member.tail = member.edge = b""
        member.close_code = member.retry_after_ms = 0
        member.started_ns = now_ns()
        member.live_ns = 0
        self._under_way += 1
        sock.connect_ex((target.host, target.port))
        self._by_fd[sock.fileno()] = member
        self._epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _settle(self, failure: Exception | None = None) -> None:
        """One dial is over."""
        self._under_way -= 1
        if failure is not None:
            if self._on_refused is None:
                self._failure = self._failure or failure
            self.refused.append(str(failure))
        self._fill()
        if not self._waiting and not self._under_way and self._all_live is not None and not self._all_live.done():
            if self._failure is not None:
                self._all_live.set_exception(self._failure)
            else:
                self._all_live.set_result(None)

    def _advance(self, member: Member, events: int) -> None:
        """A member that is not live yet has news."""
        assert member.sock is not None
        try:
            if member.state == CONNECTING:
                if (error := member.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)) != 0:
                    raise OSError(error, "connect")
                target = member.target
                path = target.path.replace("@I@", str(member.index))
                member.sock.send(wire.upgrade(target.host, target.port, path, target.subprotocol, target.headers))
                member.state = UPGRADING
                self._epoll.modify(member.sock.fileno(), select.EPOLLIN)
                return
            data = member.sock.recv(65_536)
            if not data:
                raise wire.Refused(f"closed before it was live: {member.head[:200].decode('latin-1')}")
            self._greet(member, data)
        except BlockingIOError:
            return
        except (OSError, wire.Refused) as failure:
            self._drop(member)
            self._settle(failure)
            if self._on_refused is not None:
                self._on_refused(member)

    def _greet(self, member: Member, data: bytes) -> None:
        assert member.sock is not None
        target = member.target
        if member.state == UPGRADING:
            found = wire.split_response(member.head + data)
            if found is None:
                member.head += data
                return
            member.head = b""
            data = found[1]
            member.parser = wire.FrameParser()
            opcode = wire.BINARY if target.binary else wire.TEXT
            number = str(member.index).encode()
            if target.hello:
                member.sock.send(b"".join(wire.frame(each.replace(b"@I@", number), opcode) for each in target.hello))
            member.state = JOINING
            if not target.ready:
                self._enter(member, b"", data)
                return
        assert member.parser is not None
        for opcode, payload in member.parser.feed(data):
            if opcode == wire.CLOSE:
                raise wire.Refused(f"closed instead of joined: {payload[:200]!r}")
            if b'"error"' in payload or b"\xa5error" in payload:
                raise wire.Refused(payload[-300:].decode("latin-1"))
            if target.ready in payload:
                self._enter(member, payload, member.parser.rest())
                return

    def _enter(self, member: Member, greeting: bytes, rest: bytes) -> None:
        member.state = LIVE
        member.live_ns = now_ns()
        member.parser = None
        if self._on_live is not None:
            self._on_live(member, greeting)
        if not member.reads and member.sock is not None:
            self._epoll.unregister(member.sock.fileno())
        if rest:
            self._buffer[SPARE : SPARE + len(rest)] = rest
            self._take(member, len(rest))
        self._settle()

    # --- the hot path ---

    def drain(self) -> None:
        """Read what is there, once per readable socket. One complete frame, the usual case, is counted right here."""
        members = self._by_fd
        view = self._view
        buffer = self._buffer
        needle = self._needle
        plain = not self._goodbyes
        for fd, events in self._epoll.poll(0, EVENTS):
            member = members.get(fd)
            if member is None:
                continue
            if member.state != LIVE:
                self._advance(member, events)
                continue
            try:
                size = member.recv(view)
            except BlockingIOError:
                continue
            except OSError:
                size = 0
            if not size:
                self._end(member)
                continue
            if plain and not member.sampled and not member.left and not member.head and size > 4:
                length = buffer[SPARE + 1]
                whole = length + 2 if length < 126 else 4 + (buffer[SPARE + 2] << 8 | buffer[SPARE + 3])
                if size == whole and length < 127 and not buffer[SPARE] & 0x08:
                    self.bytes_in += size
                    self.reads += 1
                    member.got += buffer.count(needle, SPARE + (2 if length < 126 else 4), SPARE + size)
                    continue
            self._take(member, size)

    def _take(self, member: Member, size: int) -> None:
        """Count the deliveries in what was just read: frame by frame, by headers only."""
        buffer = self._buffer
        needle = self._needle
        self.bytes_in += size
        self.reads += 1
        at = SPARE
        end = SPARE + size
        if member.sampled:
            self._measure(member, end)
        if self._goodbyes and (found := buffer.find(b'"type":"disconnect"', SPARE, end)) >= 0:
            self._hear_goodbye(member, bytes(buffer[found:end]))
        if member.head:
            at -= len(member.head)
            buffer[at:SPARE] = member.head
            member.head = b""
        left = member.left
        while True:
            if left:
                stop = at + left
                if stop > end:
                    stop = end
                member.got += buffer.count(needle, at, stop)
                if len(needle) > 1:
                    if member.edge:  # a marker that was cut by the end of the last read
                        member.got += (member.edge + buffer[at : min(at + 2, stop)]).count(needle)
                    member.edge = (
                        (member.edge + bytes(buffer[max(at, stop - 2) : stop]))[-2:] if stop - at < left else b""
                    )
                left -= stop - at
                at = stop
            if at == end:
                break
            found_header = wire.header(buffer, at, end)
            if found_header is None:
                member.head = bytes(buffer[at:end])
                break
            first, head, length = found_header
            if first & 0x08:
                if end - at < head + length:
                    member.head = bytes(buffer[at:end])
                    break
                self._control(member, first & 0x0F, bytes(buffer[at + head : at + head + length]))
                at += head + length
                continue
            at += head
            left = length
        member.left = left

    def _measure(self, member: Member, end: int) -> None:
        """Latency of each stamp in what was just read; one that is cut waits for the rest of it."""
        at = SPARE
        if member.tail:
            at -= len(member.tail)
            self._buffer[at:SPARE] = member.tail
        now = self.last_ns = now_ns()
        stop = at
        recording = self.recording
        latencies = self.latencies
        gapless = self.gapless
        for match in wire.STAMP.finditer(self._buffer, at, end):
            stop = match.end()
            mark = chr(match[1][0])
            if recording:
                latencies[mark].record(now - int(match[2]))
            if gapless is not None and mark == "S":
                gapless[member.index] += 1
        member.tail = bytes(self._buffer[max(stop, end - 21) : end])

    def _control(self, member: Member, opcode: int, payload: bytes) -> None:
        if member.sock is None:
            return
        try:
            if opcode == wire.PING:
                member.sock.send(wire.frame(payload, wire.PONG))
            elif opcode == wire.CLOSE:
                member.close_code = int.from_bytes(payload[:2], "big")
                member.sock.send(wire.frame(payload[:2], wire.CLOSE))
        except OSError:
            pass

    def _hear_goodbye(self, member: Member, data: bytes) -> None:
        _, found, after = data.partition(b'"retry_after_ms":')
        digits = after[:7].split(b"}")[0].split(b",")[0]
        member.retry_after_ms = int(digits) if found and digits.isdigit() else 0

    # --- ending ---

    def _drop(self, member: Member) -> None:
        if member.sock is not None:
            self._by_fd.pop(member.sock.fileno(), None)
            member.sock.close()  # closing takes it out of the epoll
            member.sock = None
        member.recv = _nothing
        member.state = GONE

    def _end(self, member: Member) -> None:
        self._drop(member)
        self.lost += 1
        if self._on_lost is not None:
            self._on_lost(member)

    def cut(self, member: Member) -> None:
        """Lose the connection as a network does: no goodbye, a reset at most."""
        if member.sock is not None:
            member.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._drop(member)

    def cut_waiting(self) -> int:
        """How many that never read were cut off by the server: what their sockets say when they finally look."""
        found = 0
        for member in self.members:
            if member.reads or member.sock is None:
                continue
            try:
                for _ in range(64):
                    if not member.sock.recv(CHUNK):
                        found += 1
                        break
            except BlockingIOError:
                pass
            except OSError:
                found += 1
        return found

    def _keep_alive(self, start: int) -> None:
        """A tenth of the members every tenth of the interval."""
        for member in self.members[start::10]:
            if member.state == LIVE and member.target.keepalive and member.sock is not None:
                opcode = wire.BINARY if member.target.binary else wire.TEXT
                try:
                    member.sock.send(wire.frame(member.target.keepalive, opcode))
                except OSError:
                    pass
        self._keeper = self._loop.call_later(KEEPALIVE_S / 10, self._keep_alive, (start + 1) % 10)

    def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        for member in self.members:
            self.cut(member)
        self._epoll.close()

    def reset(self) -> None:
        """Forget what was counted so far."""
        for member in self.members:
            member.got = 0
        self.bytes_in = self.reads = 0
        self.latencies = {mark: Histogram() for mark in self.latencies}

    @property
    def live(self) -> int:
        return sum(member.state == LIVE for member in self.members)
