"""`GET /ws`: from the HTTP handshake to a Connection."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from starlette.types import Receive, Scope, Send

from hub.auth.service import Authentication
from hub.channels.fanout import Fanout
from hub.clock import Clock
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.registry import Registry
from hub.connections.verdicts import Notes
from hub.dispatch import Dispatcher
from hub.edge.credentials import Credentials, Unwelcome, claims_of, token_in_url
from hub.edge.raw import EXTENSION
from hub.edge.refusals import refuse_websocket
from hub.guard.events import Report
from protocol import frames
from protocol.codec import CODECS, JSON, Codec

RETRY_SOON = (b"retry-after", b"2")
QUEUE_FRAMES = 64  # what the fallback hands to a slow ASGI server before it counts as blocked


class WebSocketEndpoint:
    """An ASGI application for the WebSocket route."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        authentication: Authentication,
        registry: Registry,
        fanout: Fanout,
        *,
        credentials: Credentials,
        on_end: Callable[[Connection], None],
        limits: ConnectionLimits,
        notes: Notes,
        report: Report,
        clock: Clock,
    ) -> None:
        self._report = report
        self._dispatcher = dispatcher
        self._authentication = authentication
        self._credentials = credentials
        self._registry = registry
        self._fanout = fanout
        self._on_end = on_end
        self._limits = limits
        self._notes = notes
        self._clock = clock
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        codec = _negotiate(scope["subprotocols"])
        if token_in_url(scope):
            await refuse_websocket(send, 400, "token_in_url: send the token in the first message")
        elif sum(name == b"host" for name, _ in headers) != 1:
            await refuse_websocket(send, 400, "exactly one Host header is needed")
        elif codec is None:
            await refuse_websocket(send, 400, f"unknown subprotocol; offer one of {', '.join(CODECS)}")
        elif self.draining or self._registry.full:
            await refuse_websocket(send, 503, "not accepting connections", headers=[RETRY_SOON])
        else:
            await self._accept(scope, receive, send, codec)

    async def _accept(self, scope: Scope, receive: Receive, send: Send, codec: Codec) -> None:
        try:
            claims = await claims_of(
                scope,
                credentials=self._credentials,
                authentication=self._authentication,
                report=self._report,
                address=_address(scope),
            )
        except Unwelcome as refused:
            await refuse_websocket(send, refused.status, refused.text, headers=[refused.header])
            return
        await send({"type": "websocket.accept", "subprotocol": codec.subprotocol if scope["subprotocols"] else None})
        raw = scope["extensions"].get(EXTENSION) if scope.get("extensions") else None
        if raw is not None:
            raw.attach(self._connection(raw, codec, scope, claims))
            return
        fallback = SendSocket(send, codec)
        connection = self._connection(fallback, codec, scope, claims)
        try:
            await fallback.serve(connection, receive)
        finally:
            connection.lost()

    def _connection(self, socket: Any, codec: Codec, scope: Scope, claims: Any) -> Connection:
        connection = Connection(
            socket,
            codec,
            address=_address(scope),
            url=sys.intern(self._credentials.url(scope)),  # the same for nearly all
            dispatcher=self._dispatcher,
            touch=self._fanout.touch,
            on_end=self._on_end,
            limits=self._limits,
            notes=self._notes,
            report=self._report,
            clock=self._clock,
        )
        connection.claims = claims
        self._registry.add(connection)
        return connection


class UnknownPath:
    """An ASGI application for WebSockets anywhere else: not found, like any other request there."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await refuse_websocket(send, 404, "not found")


class SendSocket:
    """Speaks plain ASGI: for other servers and Starlette's test client. Implements connections.outbox.Socket."""

    def __init__(self, send: Send, codec: Codec) -> None:
        self.fd = -1
        self._send = send
        self._text = codec.opcode == frames.TEXT
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._connection: Connection | None = None
        self._blocked = False
        self._may_read = asyncio.Event()
        self._may_read.set()

    def write(self, data: bytes) -> None:
        for payload in frames.payloads(data):
            self._queue.put_nowait(
                {"type": "websocket.send", "text": payload.decode()}
                if self._text
                else {"type": "websocket.send", "bytes": payload}
            )
        if self._queue.qsize() >= QUEUE_FRAMES and not self._blocked and self._connection is not None:
            self._blocked = True
            self._connection.blocked()

    def buffered(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._may_read.clear()

    def resume_reading(self) -> None:
        self._may_read.set()

    def close(self, code: int, reason: str) -> None:
        self._queue.put_nowait({"type": "websocket.close", "code": code, "reason": reason})

    def abort(self) -> None:
        self._queue.put_nowait({"type": "websocket.close", "code": 1011})

    async def serve(self, connection: Connection, receive: Receive) -> None:
        """Until either side is done. A reader beside the writer: a blocked send never learns of a disconnect."""
        self._connection = connection
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write_all(), name="websocket writer")
            reader = group.create_task(self._read_all(connection, receive), name="websocket reader")
            await asyncio.wait([writer, reader], return_when=asyncio.FIRST_COMPLETED)
            writer.cancel()
            reader.cancel()

    async def _write_all(self) -> None:
        while True:
            message = await self._queue.get()
            try:
                await self._send(message)
            except (OSError, RuntimeError):  # Starlette and servers raise either for a peer that is gone
                return
            if message["type"] == "websocket.close":
                return
            if self._blocked and self._queue.empty() and self._connection is not None:
                self._blocked = False
                self._connection.unblocked()

    async def _read_all(self, connection: Connection, receive: Receive) -> None:
        while True:
            await self._may_read.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            payload = message.get("text") if message.get("text") is not None else message.get("bytes")
            assert payload is not None
            connection.receive(payload)


def _negotiate(offered: list[str]) -> Codec | None:
    """The first subprotocol we know; JSON when none was offered; None when all are unknown."""
    if not offered:
        return JSON
    return next((CODECS[name] for name in offered if name in CODECS), None)


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
