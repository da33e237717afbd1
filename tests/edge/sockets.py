"""Clients of the public door: a well-behaved one, one that breaks every rule, and a plain HTTP one."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no stubs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PATIENCE_S = 30  # a hub that builds the index of its documents makes none meanwhile: 8 s on a slow machine
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10


class Peer:
    """A client that speaks the protocol. Everything received is kept in `messages`."""

    def __init__(self, connection: ClientConnection, *, binary: bool = False) -> None:
        self.connection = connection
        self.binary = binary
        self.number = 0
        self.messages: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self._reader = asyncio.create_task(self._read())
        self._news = asyncio.Event()

    async def _read(self) -> None:
        try:
            async for frame in self.connection:
                message = json.loads(frame) if isinstance(frame, str) else msgpack.unpackb(frame)
                self.messages += message if isinstance(message, list) else [message]
                self._news.set()
        except ConnectionClosed:
            pass
        self.closed = (self.connection.close_code or 1006, self.connection.close_reason or "")
        self._news.set()

    async def send(self, *messages: Any) -> None:
        """One frame."""
        whole = list(messages) if len(messages) != 1 else messages[0]
        await self.connection.send(msgpack.packb(whole) if self.binary else json.dumps(whole))

    def command(self, type: str, **fields: Any) -> dict[str, Any]:
        self.number += 1
        return {"type": type, "id": self.number, **fields}

    async def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        command = self.command(type, **fields)
        await self.send(command)
        return await self.reply(command["id"])

    async def reply(self, number: int) -> dict[str, Any]:
        return await self.until(lambda each: each["type"] == "reply" and each["id"] == number)

    async def publish(self, channel: str, type: str = "NOTE", data: Any = None, **fields: Any) -> dict[str, Any]:
        reply = await self.ask("publish", channel=channel, message={"type": type, "data": data or {}}, **fields)
        assert "result" in reply, reply
        found: dict[str, Any] = reply["result"]
        return found

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message of that kind, waited for."""
        seen = 0
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while seen < len(self.messages):
                    if wanted(self.messages[seen]):
                        return self.messages[seen]
                    seen += 1
                assert self.closed is None, f"closed with {self.closed}"
                self._news.clear()
                await self._news.wait()

    async def next_after(self, seen: int) -> dict[str, Any]:
        """The first message beyond the `seen` first ones."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.messages) <= seen:
                assert self.closed is None, f"closed with {self.closed}"
                self._news.clear()
                await self._news.wait()
        return self.messages[seen]

    async def until_offset(self, channel: str, offset: int) -> dict[str, Any]:
        return await self.until(lambda each: each.get("channel") == channel and each.get("offset") == offset)

    async def until_closed(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait([self._reader])
        assert self.closed is not None
        return self.closed[0]

    def offsets(self, channel: str) -> list[int]:
        return [each["offset"] for each in self.messages if each.get("channel") == channel and "data" in each]


@asynccontextmanager
async def peer(
    hub: Any, token: str | None = None, *, binary: bool = False, headers: dict[str, str] | None = None, **fields: Any
) -> AsyncIterator[Peer]:
    """An open socket; with a token, `connect` has been answered."""
    protocol = Subprotocol("krin.v1.msgpack" if binary else "krin.v1.json")
    async with connect(
        hub.ws_url,
        subprotocols=[protocol],
        max_size=None,
        additional_headers=headers,
        compression=None,
    ) as connection:
        made = Peer(connection, binary=binary)
        if token is not None:
            reply = await made.ask("connect", token=token, **fields)
            assert "result" in reply, reply
        try:
            yield made
        finally:
            await connection.close()
            await asyncio.wait([made._reader])


class RawSocket:
    """Bytes on a TCP connection, and frames as one likes, right or wrong."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def open(cls, hub: Any, *, receive_buffer: int | None = None) -> AsyncIterator[RawSocket]:
        """A TCP connection that has sent nothing yet."""
        made = socket.socket()
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, hub.address)
        reader, writer = await asyncio.open_connection(sock=made, limit=1 << 14)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()

    @classmethod
    @asynccontextmanager
    async def upgraded(
        cls, hub: Any, *, subprotocol: str = "krin.v1.json", token: str | None = None, receive_buffer: int | None = None
    ) -> AsyncIterator[RawSocket]:
        """A WebSocket whose frames the test writes itself; with a token, `connect` has been answered."""
        async with cls.open(hub, receive_buffer=receive_buffer) as made:
            status, _ = await made.upgrade(subprotocol=subprotocol)
            assert status == 101
            if token is not None:
                made.send(json.dumps({"type": "connect", "id": 1, "token": token}).encode())
                opcode, payload = await made.frame()
                assert opcode == TEXT
                assert b'"result"' in payload
            yield made

    async def upgrade(
        self,
        *,
        subprotocol: str | None = "krin.v1.json",
        path: str = "/ws",
        headers: dict[str, str | None] | None = None,
    ) -> tuple[int, bytes]:
        """Ask for a WebSocket; answers (status, everything up to the end of the headers)."""
        whole: dict[str, str | None] = {
            "Host": "localhost",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": subprotocol,
        } | (headers or {})
        lines = [f"{name}: {value}" for name, value in whole.items() if value is not None]
        self.writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("latin-1"))
        return await self.response()

    async def response(self) -> tuple[int, bytes]:
        """(status, head) of an HTTP answer; (0, b"") when the connection ended without one."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        return int(head.split(b" ", 2)[1]), head

    def send(
        self,
        payload: bytes,
        *,
        opcode: int = TEXT,
        fin: bool = True,
        masked: bool = True,
        rsv: int = 0,
        declared: int | None = None,
    ) -> None:
        self.writer.write(frame(payload, opcode=opcode, fin=fin, masked=masked, rsv=rsv, declared=declared))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame from the hub: (opcode, payload). Raises IncompleteReadError at the end."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readexactly(2)
            assert head[1] < 128, "a server frame must not be masked"
            size = head[1]
            if size == 126:
                [size] = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                [size] = struct.unpack("!Q", await self.reader.readexactly(8))
            return head[0] & 15, await self.reader.readexactly(size)

    async def rest(self) -> list[tuple[int, bytes]]:
        """Every frame until the connection ends."""
        found = []
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                found.append(await self.frame())
        return found

    async def close_code(self) -> int | None:
        """The code of the hub's close frame; None when the connection ended without one."""
        frames = await self.rest()
        closing = [payload for opcode, payload in frames if opcode == CLOSE]
        assert len(closing) <= 1, "two close frames"
        assert not closing or frames[-1][0] == CLOSE, "something came after the close frame"
        return int(struct.unpack("!H", closing[0][:2])[0]) if closing else None

    async def ended(self) -> None:
        """Wait until the hub has ended the connection, whatever it still sends."""
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while await self.reader.read(1 << 16):
                    pass


def frame(
    payload: bytes,
    *,
    opcode: int = TEXT,
    fin: bool = True,
    masked: bool = True,
    rsv: int = 0,
    declared: int | None = None,
) -> bytes:
    """A client's frame; `declared` lies about its length."""
    size = len(payload) if declared is None else declared
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not masked:
        return head + payload
    mask = b"\x00\x00\x00\x00" if len(payload) > 100_000 else os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def unique(prefix: str) -> str:
    """A channel nobody else uses."""
    return f"{prefix}:{secrets.token_hex(6)}"


class Metrics:
    """The numbers of `/metrics`, asked over a connection of its own each time."""

    def __init__(self, hub: Any) -> None:
        self._hub = hub

    async def value(self, name: str) -> float:
        return float(self._lines_of(await self._page(), f"{name} ", f"{name}_total ")[0].split()[-1])

    async def count(self, name: str, **label: str) -> float:
        """Of one label; 0 while the page has no line of it."""
        ((key, value),) = label.items()
        page = await self._page()
        assert f"# TYPE {name}_total counter" in page
        found = self._lines_of(page, f'{name}_total{{{key}="{value}"}} ')
        return float(found[0].split()[-1]) if found else 0.0

    async def _page(self) -> str:
        async with RawSocket.open(self._hub) as raw:
            raw.writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(PATIENCE_S):
                return (await raw.reader.read(-1)).decode()

    @staticmethod
    def _lines_of(page: str, *beginnings: str) -> list[str]:
        return [line for line in page.splitlines() if line.startswith(beginnings)]
