"""The WebSocket protocol by itself: bytes in, bytes out, and timers that run only when told to."""

from __future__ import annotations

import asyncio
import gc
import struct
import weakref
from typing import Any

import pytest
import uvicorn
from doubles import Turns
from uvicorn.server import ServerState
from websockets.asyncio.client import connect

from hub.edge.raw import EXTENSION, MESSAGE_S, HttpProtocol, RawWebSocketProtocol

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: " + KEY + b"\r\n\r\n"
)


class Loop(Turns):
    """Its timers are ours; tasks are the real loop's."""

    def create_task(self, work: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work)


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closing = False
        self.reading = True

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


class Sender:
    """A client that sends bytes as it likes, and a receiver that keeps what became of them."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.transport = Transport()
        self.received: list[bytes | str] = []
        self.violations: list[int] = []
        config = uvicorn.Config(self._attach, interface="asgi3", lifespan="off", log_config=None, ws_ping_interval=None)
        config.load()
        self.protocol = RawWebSocketProtocol(config, ServerState(), {}, self.loop)  # type: ignore[arg-type]
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    async def _attach(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        scope["extensions"][EXTENSION].attach(self)

    async def upgrade(self) -> None:
        self.protocol.data_received(UPGRADE)
        async with asyncio.timeout(5):
            while self.protocol.receiver is None:
                await asyncio.sleep(0)
        self.transport.written = b""

    def receive(self, payload: bytes | str) -> None:
        self.received.append(payload)

    def blocked(self) -> None: ...

    def unblocked(self) -> None: ...

    def violated(self, code: int) -> None:
        self.violations.append(code)

    def lost(self) -> None: ...

    def send(self, *data: bytes) -> None:
        """Each as one read."""
        for each in data:
            self.protocol.data_received(each)

    @property
    def close_frame(self) -> bytes:
        """The payload of the close frame, when that is all that was written."""
        assert self.transport.written[0] == 0x88
        assert len(self.transport.written) == 2 + self.transport.written[1]
        return self.transport.written[2:]


@pytest.fixture
async def sender() -> Sender:
    made = Sender()
    await made.upgrade()
    return made


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    return struct.pack("!BBI", fin << 7 | opcode, 0x80 | len(payload), 0) + payload


def code(number: int) -> bytes:
    return struct.pack("!H", number)


PART, REST = frame(b"ab", fin=False), frame(b"cd", opcode=0)


@pytest.mark.parametrize(
    "begun",
    [
        [frame(b"{}")[:1]],
        [frame(b"{}")[:2], frame(b"{}")[2:4]],
        [frame(b"{}")[:-1]],
        [PART],
        [PART, frame(b"", opcode=0, fin=False)],
        [frame(b"{}") + PART],
        [frame(b"{}") + frame(b"{}")[:3], frame(b"{}")[3:4]],
        [frame(b"a", opcode=9)[:3]],
    ],
    ids=range(8),
)
async def test_c24_a_message_that_is_not_complete_after_ten_seconds_is_1008(sender: Sender, begun: list[bytes]) -> None:
    assert MESSAGE_S == 10.0
    sender.send(*begun)
    sender.loop.pass_time(9.9)
    assert not sender.transport.written
    sender.loop.pass_time(0.1)

    assert sender.close_frame[:2] == code(1008)
    assert sender.transport.closing


async def test_c24_one_byte_a_second_and_pings_between_do_not_prolong_it(sender: Sender) -> None:
    sender.send(PART)
    for byte in frame(b"x" * 100, opcode=0):
        if sender.transport.closing:
            break
        sender.send(bytes([byte]))
        sender.loop.pass_time(1.0)

    assert sender.loop.now == 10.0
    assert sender.close_frame[:2] == code(1008)


async def test_c24_a_client_that_always_begins_the_next_message_with_the_last_may_stay(sender: Sender) -> None:
    sender.send(PART)
    for _ in range(10):
        sender.loop.pass_time(9.0)
        sender.send(REST + PART)
    sender.send(REST)
    sender.loop.pass_time(100.0)

    assert sender.received == ["abcd"] * 11
    assert not sender.transport.written


async def test_c24_a_ping_that_came_in_pieces_leaves_nothing_to_wait_for(sender: Sender) -> None:
    ping = frame(b"a", opcode=9)
    sender.send(ping[:3], ping[3:])
    sender.loop.pass_time(100.0)

    assert sender.transport.written == b"\x8a\x01a"


async def test_c24_while_we_do_not_read_the_time_of_the_sender_does_not_run(sender: Sender) -> None:
    sender.send(PART)
    sender.protocol.pause_reading()
    sender.loop.pass_time(60.0)
    assert not sender.transport.written
    sender.protocol.resume_reading()
    sender.send(REST)

    assert sender.received == ["abcd"]


@pytest.mark.parametrize("payload", [b"", code(1000), code(1001) + b"bye", code(4999)])
async def test_a_goodbye_within_a_fragmented_message_is_echoed(sender: Sender, payload: bytes) -> None:
    sender.send(PART, frame(payload, opcode=8))

    assert sender.close_frame == payload
    assert sender.transport.closing


async def test_a_goodbye_within_a_fragmented_message_after_ours_is_answered_no_more(sender: Sender) -> None:
    sender.send(PART)
    sender.protocol.close(4200, "draining")
    sender.transport.written = b""
    sender.send(frame(code(1000), opcode=8))

    assert not sender.transport.written
    assert sender.transport.closing


@pytest.mark.parametrize(
    ("sent", "violations"),
    [
        ([frame(b"{}", opcode=3)], [1002]),
        ([b"\x81\x02{}"], [1002]),  # not masked
        ([PART, frame(b"x")], [1002]),
        ([frame(b"\x03", opcode=8)], [1002]),
        ([frame(b"\xff\xfe")], [1007]),
        ([frame(code(1000) + b"\xff", opcode=8)], [1007]),
        ([struct.pack("!BBQI", 0x81, 0xFF, 1 << 40, 0)], [1009]),
        ([PART, *[frame(b"", opcode=0, fin=False)] * 64], [1008]),
        ([frame(b"", opcode=9) * 20], [1008]),
        ([frame(b"good")], []),
        ([frame(code(1000), opcode=8)], []),
        ([PART, frame(code(1000), opcode=8)], []),
    ],
    ids=range(12),
)
async def test_a_broken_frame_is_told_once_and_a_good_one_never(
    sender: Sender, sent: list[bytes], violations: list[int]
) -> None:
    sender.send(*sent)

    assert sender.violations == violations


async def test_a_message_that_never_ends_or_comes_after_our_goodbye_is_no_violation(sender: Sender) -> None:
    sender.send(PART)
    sender.loop.pass_time(10.0)
    assert sender.transport.closing
    late = Sender()
    await late.upgrade()
    late.protocol.close(4200, "draining")
    late.send(frame(b"{}", opcode=3))

    assert sender.violations == late.violations == []


class Keeper:
    """A receiver that only knows when the end has come."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def receive(self, payload: bytes | str) -> None: ...

    def blocked(self) -> None: ...

    def unblocked(self) -> None: ...

    def violated(self, code: int) -> None: ...

    def lost(self) -> None:
        self.ended.set()


@pytest.mark.parametrize("ending", ["by the client", "by the hub", "by a cut"])
async def test_a_connection_that_has_ended_is_free_without_the_collector(ending: str) -> None:
    keeper = Keeper()
    remains: list[weakref.ref[Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raw = scope["extensions"][EXTENSION]
        raw.attach(keeper)
        remains.extend(weakref.ref(each) for each in (raw, raw.transport, raw.conn))

    config = uvicorn.Config(app, http=HttpProtocol, ws=RawWebSocketProtocol, lifespan="off", log_config=None)
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: HttpProtocol(config=config, server_state=ServerState(), app_state={}), "127.0.0.1", 0
    )
    gc.collect()
    gc.disable()
    try:
        async with server, asyncio.timeout(10):
            client = await connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            while not remains:
                await asyncio.sleep(0.001)
            if ending == "by a cut":
                client.transport.abort()
            elif ending == "by the hub":
                remains[0]().close(4000, "enough")  # type: ignore[union-attr]
            await client.close()
            await keeper.ended.wait()
            while any(each() is not None for each in remains):
                await asyncio.sleep(0.001)
    finally:
        gc.enable()
