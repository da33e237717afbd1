"""A receiver of webhooks that behaves as a test wants it to: real HTTP, one request per connection."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sockets import PATIENCE_S


class Request:
    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body
        self.id = headers["webhook-id"]
        self.said: dict[str, Any] = json.loads(body)
        self.data: dict[str, Any] = self.said["data"]

    def signed_by(self, secret: str) -> bool:
        """As Standard Webhooks says a receiver should check it."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        content = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.body
        wanted = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return any(hmac.compare_digest(wanted, each) for each in self.headers["webhook-signature"].split(" "))


class Receiver:
    """`requests`: all of them. Each is answered with the next of `answers`, then with 204; None: never."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.answers: list[int | None] = []
        self.always: int | None = 204
        self._news = asyncio.Event()
        self._hanging: list[asyncio.StreamWriter] = []
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head.split("\r\n")[1:] if line)
            }
            request = Request(headers, await reader.readexactly(int(headers["content-length"])))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            return
        status = self.answers.pop(0) if self.answers else self.always
        self.requests.append(request)
        if status is not None and status < 300:
            self.taken.append(request)
        self._news.set()
        if status is None:
            self._hanging.append(writer)
            return
        more = "location: http://127.0.0.1:1/\r\n" if 300 <= status < 400 else ""
        writer.write(f"HTTP/1.1 {status} X\r\n{more}connection: close\r\ncontent-length: 0\r\n\r\n".encode())
        writer.close()

    async def until(self, count: int, *, taken: bool = True) -> list[Request]:
        """As many requests, waited for: of those that were taken, or of all."""
        async with asyncio.timeout(3 * PATIENCE_S):
            while len(found := self.taken if taken else self.requests) < count:
                self._news.clear()
                await self._news.wait()
        return found

    def hang_up(self) -> None:
        for writer in self._hanging:
            writer.transport.abort()
        self._hanging.clear()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
        try:
            yield made
        finally:
            made.hang_up()
