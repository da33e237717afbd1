"""The fast way to and from a WebSocket: uvicorn's sans-I/O protocol with the ASGI queues left out.

After the handshake the endpoint attaches a receiver; from then on messages are handed to it as they are parsed, frames
built elsewhere are written straight to the transport, and no task is left behind per connection. Until then, and for
everything the receiver does not do, this is uvicorn's own `WebSocketsSansIOProtocol`.

It also closes what uvicorn 0.54 leaves open: pings answered into a full buffer, endless fragments, messages and
handshakes that never end, header errors without an answer, and peers that never read their goodbye.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import BaseTransport
from collections.abc import Callable
from typing import Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request

EXTENSION = "krin.raw"
MAX_FRAGMENTS = 64
PINGS_PER_S = 5.0
PING_BURST = 10.0
MAX_UNREAD_BYTES = 64 * 1024  # a peer that does not read as much gets no more answers to its pings
MESSAGE_S = 10.0  # from a message's first bytes to its last
HANDSHAKE_S = 5.0
BODY_S = 5.0
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADER_BYTES = 8192
MAX_HEADERS = 128
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
NO_CODE = 1005  # stands for a close frame without a code
CUT_S = 2.0  # from our goodbye to the cut, for a peer that does not answer it
NOTSENT_LOWAT_BYTES = 128 * 1024
TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; the socket module has no name for it before 3.12


class Receiver(Protocol):
    """What the other end of `attach` must do."""

    def receive(self, payload: bytes | str) -> None: ...

    def blocked(self) -> None: ...

    def unblocked(self) -> None: ...

    def violated(self, code: int) -> None: ...

    def lost(self) -> None: ...


class RawWebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket. Implements hub.connections.outbox.Socket once a receiver is attached."""

    max_fragments = MAX_FRAGMENTS
    message_s = MESSAGE_S
    receiver: Receiver | None = None
    _rest: asyncio.TimerHandle | None = None  # until the rest of a message must be here
    _cutter: asyncio.TimerHandle | None = None
    _ping_tokens = PING_BURST
    _pinged_at = 0.0

    # --- hub.connections.outbox.Socket ---

    @property
    def fd(self) -> int:
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.get_extra_info("sslcontext") is not None:
            return -1
        return int(sock.fileno())

    @property
    def write(self) -> Callable[[bytes], None]:
        return self.transport.write

    def buffered(self) -> int:
        return self.transport.get_write_buffer_size()

    def pause_reading(self) -> None:
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self, code: int, reason: str) -> None:
        if self.close_sent or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self._goodbye()

    def abort(self) -> None:
        self.transport.abort()

    def attach(self, receiver: Receiver) -> None:
        """Hand everything that comes in to the receiver. The ASGI task may end; the connection lives on."""
        self.receiver = receiver
        # Whatever the kernel does not take is reported at once: what waits, waits in the outbox, where it is counted
        # and conflated, and nothing is written past bytes that are still in the transport.
        self.transport.set_write_buffer_limits(high=0)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    # --- uvicorn's protocol ---

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        if (sock := transport.get_extra_info("socket")) is not None and sock.family != socket.AF_UNIX:
            # Ticks should wait here, where they can be conflated, and not unsent in the kernel.
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_LOWAT_BYTES)
        self._cutter = self.loop.call_later(HANDSHAKE_S, self._cut_unless_open)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_cutter()
        self._stop_waiting()
        super().connection_lost(exc)
        self._detach()
        # Without these circles memory is free at once: the parser is a generator that holds its own protocol, asyncio's
        # transport holds itself by this bound callback.
        self.conn.parser.close()
        vars(self.transport).pop("_read_ready_cb", None)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.transport.is_closing():
            self.transport.write(b"".join(self.conn.data_to_send()))  # the 431 or 414 that uvicorn keeps to itself
            self.transport.close()

    def handle_events(self) -> None:
        events = self.conn.events_received()
        for event in events:
            if self.transport.is_closing():
                return
            if isinstance(event, Request):
                self.handle_connect(event)
            elif isinstance(event, Frame):
                self._handle_frame(event)
        # Not a single event: bytes from within a frame. What begins behind the last event counts from its next bytes.
        if not events or self.frames:
            if self._rest is None:
                self._rest = self.loop.call_later(self.message_s, self._give_up)
        elif self._rest is not None:
            self._stop_waiting()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if not self.close_sent:
            self.scope["extensions"][EXTENSION] = self  # type: ignore[assignment]  # ASGI knows only dictionaries

    def send_receive_event_to_app(self) -> None:
        if self._rest is not None:
            self._stop_waiting()
        if self.receiver is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        frames = self.frames
        payload: bytes | str = frames[0] if len(frames) == 1 else b"".join(frames)
        self.frames = []
        if self.curr_msg_data_type == "text":
            try:
                payload = str(payload, "utf-8")  # type: ignore[arg-type]
            except UnicodeDecodeError:
                self._fail(1007, "invalid UTF-8")
                return
        self.receiver.receive(payload)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.receiver is not None:
            self.receiver.blocked()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.receiver is not None:
            self.receiver.unblocked()

    def shutdown(self) -> None:
        super().shutdown()
        self._detach()
        self._cut_after(CUT_S)

    def handle_parser_exception(self) -> None:
        if (goodbye := self.conn.close_rcvd) is not None and not self.close_sent:
            # It came within a fragmented message: still a goodbye to be echoed (RFC 6455 5.5.1), not websockets' 1002.
            self.conn.data_to_send()
            payload = b"" if goodbye.code == NO_CODE else goodbye.serialize()
            self.transport.write(Frame(Opcode.CLOSE, payload).serialize(mask=False))
        elif self.conn.close_sent is not None:
            self._tell(self.conn.close_sent.code)
        super().handle_parser_exception()
        self._detach()
        self._cut_after(CUT_S)

    async def run_asgi(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            self.logger.exception("the WebSocket endpoint failed")
            self.send_500_response()
        if self.receiver is None:
            self._stop_cutter()
            if self.close_timer is None:
                self.transport.close()
            self._cut_after(CUT_S)
            return
        # Attached: nobody reads these again, and ten thousand of them are a hundred megabytes.
        del self.scope, self.request, self.response
        self._stop_cutter()

    def _handle_frame(self, event: Frame) -> None:
        match event.opcode:
            case Opcode.TEXT:
                self.handle_text(event)
            case Opcode.BINARY:
                self.handle_bytes(event)
            case Opcode.CONT:
                if len(self.frames) >= self.max_fragments:
                    self._fail(1008, "too many fragments")
                else:
                    self.handle_cont(event)
            case Opcode.PING:
                self._handle_ping()
            case Opcode.PONG:
                self.handle_pong(event)
            case Opcode.CLOSE:
                self.handle_close(event)

    def _handle_ping(self) -> None:
        now = self.loop.time()
        self._ping_tokens = min(PING_BURST, self._ping_tokens + (now - self._pinged_at) * PINGS_PER_S) - 1
        self._pinged_at = now
        if self._ping_tokens < 0 or self.buffered() > MAX_UNREAD_BYTES:
            self.conn.data_to_send()  # the pong is thrown away: nobody reads it
            self._fail(1008, "ping flood")
        else:
            self.handle_ping()

    def _give_up(self) -> None:
        self._rest = None
        if self.transport.is_reading():
            self._end(1008, "a message took too long")  # and no violation: lines break down
        else:  # it is we who keep it waiting
            self._rest = self.loop.call_later(self.message_s, self._give_up)

    def _stop_waiting(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None

    def _fail(self, code: int, reason: str) -> None:
        """End a connection whose peer broke the WebSocket protocol."""
        self._tell(code)
        self._end(code, reason)

    def _tell(self, code: int) -> None:
        if self.receiver is not None and not self.close_sent:
            self.receiver.violated(code)

    def _end(self, code: int, reason: str) -> None:
        if self.close_sent:
            return
        self.conn.fail(code, reason)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._goodbye()
        self._detach()
        self.transport.pause_reading()
        self.transport.close()

    def _detach(self) -> None:
        """Our close frame is out, or the socket is gone: no message may follow, however long the bytes take."""
        if self.receiver is not None:
            self.receiver.lost()
            self.receiver = None

    def _goodbye(self) -> None:
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self._cut_after(CUT_S)

    def handle_close(self, event: Frame) -> None:
        super().handle_close(event)
        self._detach()
        if self.close_sent:
            self.transport.close()  # the peer echoed our close frame
        self._cut_after(CUT_S)

    def _cut_unless_open(self) -> None:
        self._cutter = None
        if not self.handshake_complete:
            self.transport.abort()

    def _cut_after(self, seconds: float) -> None:
        """`transport.close` waits for the buffer to drain; a peer that never reads would keep us for ever."""
        self._stop_cutter()
        self._cutter = self.loop.call_later(seconds, self.transport.abort)

    def _stop_cutter(self) -> None:
        if self._cutter is not None:
            self._cutter.cancel()
            self._cutter = None


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with bounds: on the size of a request's head, and on the time for head and body."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _headers = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._arm(HANDSHAKE_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._too_large()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._headers = 0
        if self._deadline is None:
            self._arm(HANDSHAKE_S)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers += 1
        if self._headers > MAX_HEADERS or len(name) + len(value) > MAX_HEADER_BYTES:
            raise _HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._disarm()
        self._arm(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if isinstance(sys.exc_info()[1], httptools.HttpParserCallbackError):
            self._too_large()
        else:
            super().send_400_response(msg)

    def handle_websocket_upgrade(self) -> None:
        self._disarm()
        super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # it holds this protocol, whose work ends here

    def _too_large(self) -> None:
        self._disarm()
        self.transport.write(TOO_LARGE)
        self.transport.close()

    def _arm(self, seconds: float) -> None:
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _HeadTooLarge(Exception):
    """Raised through the parser, which turns it into HttpParserCallbackError."""
