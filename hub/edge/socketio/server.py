"""python-socketio's side of the door: its Engine.IO server carries the packets, over WebSockets or by long polling.

Its Socket.IO server has a task for each event and each recipient of a message, an unbounded queue for each client, and
keeps as many binary attachments as a stranger announces. So the sessions are the hub's own: hub.edge.socketio.session.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import parse_qsl

import engineio
from engineio.packet import CLOSE, Packet
from engineio.payload import Payload
from starlette.types import Message, Receive, Scope, Send

from hub.connections.connection import MAX_IN_FLIGHT, PONG_TIMEOUT_S
from hub.edge.raw import EXTENSION
from hub.edge.socketio.door import VISITOR, Visitor
from hub.edge.socketio.packets import Json
from hub.edge.socketio.session import Session, SessionSocket
from hub.edge.streams import Streams
from protocol.errors import HubError

CARRIER = "krin.carrier"  # in the scope of a WebSocket
PACKET_TYPES = frozenset("0123456")
CLOSE_PACKET = str(CLOSE)
NORMAL_CLOSURE = 1000

logger = logging.getLogger("krin.socketio")
# What peers do wrong is told to the guard; python-engineio would write a traceback about it.
_quiet = logging.getLogger("krin.socketio.engine")
_quiet.setLevel(logging.CRITICAL + 1)


class _Client:
    """A session, what sends for it, and the WebSocket that carries it; none while it polls."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.task: asyncio.Task[None] | None = None
        self.carrier: _Carrier | None = None


class SocketIoServer:
    def __init__(self, streams: Streams, *, ping_interval_s: float, max_message_bytes: int) -> None:
        self._streams = streams
        Payload.max_decode_packets = MAX_IN_FLIGHT  # the library's own switch; what comes beyond it, it drops
        self._engine = engineio.AsyncServer(
            async_mode="asgi",
            async_handlers=False,  # one message at a time, and the next once this one has been taken
            ping_interval=ping_interval_s,
            ping_timeout=PONG_TIMEOUT_S,
            max_http_buffer_size=max_message_bytes,
            http_compression=False,  # it would tell of secrets to whoever can add to them
            cors_allowed_origins=[],  # the perimeter has judged that
            json=Json,
            logger=_quiet,
        )
        self._engine.on("connect", self._connected)
        self._engine.on("message", self._message)
        self._engine.on("disconnect", self._disconnected)
        self._app = engineio.ASGIApp(self._engine, engineio_path=None)
        self._clients: dict[str, _Client] = {}  # by Engine.IO's session
        self._group = asyncio.TaskGroup()

    async def run(self) -> None:
        try:
            async with self._group:
                await asyncio.Event().wait()
        finally:
            await self._engine.shutdown()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        sid = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("sid", "")
        if (socket := self._engine.sockets.get(sid)) is not None and socket.closed:
            del self._engine.sockets[sid]  # what comes too late would be an exception there
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        carrier = _Carrier(scope, receive, send)
        if (client := self._clients.get(sid)) is not None:
            client.carrier, carrier.session = carrier, client.session
        await self._app({**scope, CARRIER: carrier}, carrier.receive, carrier.send)

    async def _connected(self, sid: str, environ: dict[str, Any]) -> bool:
        scope = environ["asgi.scope"]
        visitor: Visitor = scope[VISITOR]
        socket = SessionSocket()
        try:
            connection = self._streams.attach(socket, address=visitor.address, url=visitor.url)
        except HubError:
            return False
        connection.claims = visitor.claims
        session = Session(connection, socket)
        client = self._clients[sid] = _Client(session)
        if (carrier := scope.get(CARRIER)) is not None:
            client.carrier, carrier.session = carrier, session
        client.task = self._group.create_task(self._carry(sid, client), name="socket.io")
        return True

    async def _message(self, sid: str, data: Any) -> None:
        client = self._clients.get(sid)
        if client is None:
            return
        try:
            await client.session.receive(data)
        except Exception:
            logger.exception("an event of Socket.IO failed")

    async def _disconnected(self, sid: str, reason: str) -> None:
        client = self._clients.pop(sid, None)
        if client is None:
            return
        client.session.left()
        if client.task is not None and client.task is not asyncio.current_task():
            client.task.cancel()

    async def _carry(self, sid: str, client: _Client) -> None:
        """Send what the session has to say, then end it."""

        async def send(packet: str) -> None:
            await self._engine.send(sid, packet)

        async def taken() -> None:
            if (socket := self._engine.sockets.get(sid)) is not None:
                await socket.queue.join()

        try:
            async with client.session.last_words():
                await client.session.run(send, taken)
                await self._engine.send_packet(sid, Packet(CLOSE))
                await taken()  # whoever polls would find the session gone before that
                await self._engine.disconnect(sid)
            return
        except TimeoutError:
            pass  # it does not read
        except Exception:
            logger.exception("a session of Socket.IO failed")
        if client.carrier is not None:
            client.carrier.cut()
        if (socket := self._engine.sockets.get(sid)) is not None:
            await socket.close(wait=False, abort=True)


class _Carrier:
    """A WebSocket between ASGI and Engine.IO, which minds neither what it is sent nor how to say goodbye."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._raw = (scope.get("extensions") or {}).get(EXTENSION)
        self.session: Session | None = None

    async def receive(self) -> Message:
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive" or (message.get("text") or "")[:1] in PACKET_TYPES:
                return message
            if self.session is None:
                return {"type": "websocket.disconnect", "code": NORMAL_CLOSURE}
            self.session.violated()

    async def send(self, message: Message) -> None:
        if message.get("text") == CLOSE_PACKET and self.session is not None:
            # A packet that clients heed when they poll, and here wait for the end of the WebSocket instead.
            goodbye = self.session.goodbye
            code, reason = (NORMAL_CLOSURE, "") if goodbye is None else (goodbye.value, goodbye.reason)
            message = {"type": "websocket.close", "code": code, "reason": reason}
        await self._send(message)

    def cut(self) -> None:
        if self._raw is not None:
            self._raw.abort()
