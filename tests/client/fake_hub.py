"""A hub that does what a test's script says, and a TCP proxy that can be cut."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

T = TypeVar("T")
SOON_S = 10.0


async def soon(awaitable: Awaitable[T]) -> T:
    """What must happen, and will within moments."""
    async with asyncio.timeout(SOON_S):
        return await awaitable


class Peer:
    """One client's connection, as the hub sees it. Messages are plain dictionaries."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.done = asyncio.Event()
        self._text = socket.subprotocol != "krin.v1.msgpack"
        self._format: Any = msgspec.json if self._text else msgspec.msgpack
        self._inbox: deque[dict[str, Any]] = deque()

    async def frame(self) -> list[dict[str, Any]]:
        """The messages of the next frame."""
        decoded = self._format.decode(await soon(self.socket.recv(decode=False)))
        return decoded if isinstance(decoded, list) else [decoded]

    async def expect(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next message, which must be of this type and have these fields."""
        if not self._inbox:
            self._inbox.extend(await self.frame())
        message = self._inbox.popleft()
        assert message["type"] == kind, message
        assert {name: message.get(name) for name in fields} == fields
        return message

    async def send(self, *messages: dict[str, Any]) -> None:
        """Messages as one frame."""
        payload = self._format.encode(messages[0] if len(messages) == 1 else list(messages))
        await self.socket.send(payload, text=self._text)

    async def reply(self, command: dict[str, Any], **result: Any) -> None:
        await self.send({"type": "reply", "id": command["id"], "result": result})

    async def refuse(self, command: dict[str, Any], code: int, *, temporary: bool = False, **fields: Any) -> None:
        await self.send({"type": "reply", "id": command["id"], "error": refusal(code, temporary=temporary, **fields)})

    async def welcome(self, command: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Answer `connect`; `subscriptions` are the results, by channel. Returns the command."""
        command = command or await self.expect("connect")
        limits = {
            "max_message_bytes": 65_536,
            "max_subscriptions": 100,
            "max_commands_in_flight": 256,
            "max_publishes_per_s": 1000,
            "outbox_bytes": 1_048_576,
        }
        result = {
            "client": "c1",
            "session": command.get("session") or "s1",
            "user": "ada",
            "node": "n1",
            "version": "0",
            "ping_interval_ms": 25_000,
            "limits": limits,
            "server_time": 0,
            "subscriptions": {},
        }
        await self.reply(command, **{**result, **fields})
        return command

    async def accept_subscribe(self, **result: Any) -> dict[str, Any]:
        command = await self.expect("subscribe")
        await self.reply(command, **{**joined(command["channel"]), **result})
        return command

    async def placed(self, command: dict[str, Any], offset: int) -> None:
        await self.reply(command, channel=command["channel"], epoch="e1", offset=offset, timestamp=1)

    async def close(self, code: int, reason: str = "", **disconnect: Any) -> None:
        """As the hub does: `disconnect`, then the close frame."""
        if disconnect:
            await self.send({"type": "disconnect", "code": code, "reason": reason, **disconnect})
        await self.socket.close(code, reason)
        self.done.set()

    def cut(self) -> None:
        self.socket.transport.abort()
        self.done.set()


class FakeHub:
    """`await hub.accept()` is the next client that connected."""

    def __init__(self) -> None:
        self.refusals: deque[tuple[int, dict[str, str], str]] = deque()  # answers to handshakes, before any is accepted
        self._server: Server | None = None
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()
        self._peers: list[Peer] = []

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{next(iter(self._server.sockets)).getsockname()[1]}"

    async def accept(self) -> Peer:
        return await soon(self._arrived.get())

    async def welcome(self, **fields: Any) -> Peer:
        peer = await self.accept()
        await peer.welcome(**fields)
        return peer

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            subprotocols=["krin.v1.json", "krin.v1.msgpack"],
            process_request=self._greet,
            compression=None,
            ping_interval=None,
            close_timeout=1,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        for peer in self._peers:
            peer.cut()
        self._server.close()
        await self._server.wait_closed()

    def _greet(self, connection: ServerConnection, request: Request) -> Response | None:
        assert request.path == "/ws"
        if not self.refusals:
            return None
        status, headers, body = self.refusals.popleft()
        return Response(status, HTTPStatus(status).phrase, Headers(headers), body.encode())

    async def _serve(self, socket: ServerConnection) -> None:
        peer = Peer(socket)
        self._peers.append(peer)
        self._arrived.put_nowait(peer)
        await peer.done.wait()


class Proxy:
    """Passes bytes on to a hub, until it is cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._left: int | None = None
        self.connections = 0

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/ws"

    def cut(self) -> None:
        """Reset every connection in both directions, whatever is under way."""
        self._left = None
        for writer in list(self._writers):
            writer.transport.abort()

    def cut_after(self, count: int) -> None:
        """Let that many more bytes through to clients, which may end within a frame, and cut."""
        self._left = count

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._writers |= {writer, far_writer}
        try:
            await asyncio.gather(self._copy(reader, far_writer), self._copy(far_reader, writer, down=True))
        finally:
            self._writers -= {writer, far_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool = False) -> None:
        try:
            while data := await reader.read(65_536):
                left = self._left if down else None
                writer.write(data[:left])
                await writer.drain()
                if left is None:
                    continue
                if len(data) >= left:
                    self.cut()
                    return
                self._left = left - len(data)
        except OSError:
            pass
        finally:
            writer.transport.abort()


def publication(offset: int, channel: str = "custom:a", **fields: Any) -> dict[str, Any]:
    message = {
        "type": "NOTE",
        "channel": channel,
        "offset": offset,
        "timestamp": 1_700_000_000_000,
        "data": {"n": offset},
    }
    return {**message, **fields}


def joined(channel: str = "custom:a", **fields: Any) -> dict[str, Any]:
    """A subscribe result."""
    result = {
        "channel": channel,
        "epoch": "e1",
        "offset": 0,
        "promise": "recoverable",
        "recovered": False,
        "reason": "not_requested",
        "messages": [],
    }
    return {**result, **fields}


def refusal(code: int, *, temporary: bool = False, **fields: Any) -> dict[str, Any]:
    return {"code": code, "name": "some_name", "message": "no", "temporary": temporary, **fields}
