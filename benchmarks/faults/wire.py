"""A small client of protocol v1 of its own: websockets and json, nothing of the hub's. Independence is the point."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

CONNECT_LIMIT_S = 3.0
SILENCE_LIMIT_S = 8.0  # the nodes of the harness ping after 2 s
Push = Callable[[dict[str, Any]], None]
"""Called while the frame is being read: what follows a reply in its frame must find the reply taken in."""


class Lost(Exception):
    """The connection is gone: what was sent and not answered has an unknown outcome."""


class Wire:
    """One connection. Pushes go to `on_push` in the order in which they came; replies to whoever asked."""

    def __init__(self, socket: ClientConnection, on_push: Push) -> None:
        self._socket = socket
        self._on_push = on_push
        self._replies: dict[int, tuple[asyncio.Future[dict[str, Any]], Push | None]] = {}
        self._number = 0
        self._sending: set[asyncio.Future[None]] = set()
        self.closed = asyncio.Event()
        self.goodbye: dict[str, Any] | None = None  # the hub's `disconnect`, if it sent one
        self._reader = asyncio.ensure_future(self._read_all())

    @classmethod
    async def open(
        cls,
        url: str,
        token: str,
        on_push: Push,
        *,
        subscriptions: dict[str, Any] | None = None,
        on_reply: Push | None = None,
    ) -> Wire:
        """Connect and subscribe in one command, whose reply goes to `on_reply`. Raises Lost."""
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S):
                socket = await connect(
                    url,
                    subprotocols=["krin.v1.json"],  # type: ignore[list-item]
                    compression=None,
                    ping_interval=None,
                    max_size=None,
                    close_timeout=1,
                    proxy=None,
                )
        except (OSError, TimeoutError, WebSocketException, EOFError) as failure:
            raise Lost(str(failure)) from None
        wire = cls(socket, on_push)
        try:
            async with asyncio.timeout(CONNECT_LIMIT_S * 3):
                command = {"type": "connect", "token": token, "subscriptions": subscriptions or {}}
                reply = await wire.send(command, on_reply)
            if "error" in reply:
                raise Lost(reply["error"]["name"])
        except BaseException as failure:
            wire.cut()
            if isinstance(failure, TimeoutError):
                raise Lost("no reply to connect") from None
            raise
        return wire

    def send(self, command: dict[str, Any], on_reply: Push | None = None) -> asyncio.Future[dict[str, Any]]:
        """Send a command; the future holds its whole reply, or fails with Lost."""
        if self.closed.is_set():
            raise Lost("closed")
        self._number += 1
        number = self._number
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply, on_reply
        self._send({"id": number, **command})
        return reply

    def cut(self) -> None:
        """As a pulled cable: no goodbye."""
        self._socket.transport.abort()
        self._end()

    async def close(self) -> None:
        with contextlib.suppress(OSError, TimeoutError, WebSocketException):
            async with asyncio.timeout(2):
                await self._socket.close()
        self.cut()

    async def _read_all(self) -> None:
        try:
            while True:
                async with asyncio.timeout(SILENCE_LIMIT_S):
                    frame = await self._socket.recv()
                messages = json.loads(frame)
                for message in messages if isinstance(messages, list) else [messages]:
                    self._take(message)
        except (OSError, TimeoutError, WebSocketException, EOFError):
            self._socket.transport.abort()
        finally:
            self._end()

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "reply":
                reply, on_reply = self._replies.pop(message["id"], (None, None))
                if on_reply is not None:
                    on_reply(message)
                if reply is not None and not reply.done():
                    reply.set_result(message)
            case "ping":
                self._send({"type": "pong", "time": message["time"]})
            case "disconnect":
                self.goodbye = message
            case "notice" | "presence_diff" | "unsubscribed":
                pass
            case _:
                self._on_push(message)

    def _send(self, message: dict[str, Any]) -> None:
        """In the order of calls; a failure shows as the end of the connection."""
        sending = asyncio.ensure_future(self._socket.send(json.dumps(message, separators=(",", ":"))))
        self._sending.add(sending)
        sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Future[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()

    def _end(self) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._reader.cancel()
        for reply, _ in self._replies.values():
            if not reply.done():
                reply.set_exception(Lost("connection lost"))
                reply.exception()
        self._replies.clear()
