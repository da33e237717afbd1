"""A TCP proxy that can cut, freeze and delay what passes through it: the network's faults without the network.

Frozen means half-open: both ends keep their connection, new ones are accepted, and no byte arrives. Thawing delivers
what was on its way, as a healed network does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
CHUNK = 65_536


class Link:
    """One proxied connection."""

    def __init__(self, downstream: Streams) -> None:
        self.to_server = asyncio.Event()
        self.to_client = asyncio.Event()
        self.delay_s = 0.0
        self.client_port: int = downstream[1].get_extra_info("peername")[1]
        self._writers = [downstream[1]]
        self.thaw()

    def freeze(self, *, replies_only: bool = False) -> None:
        """Hold every byte back; with `replies_only` what the client sends still arrives."""
        self.to_client.clear()
        if not replies_only:
            self.to_server.clear()

    def thaw(self) -> None:
        self.to_client.set()
        self.to_server.set()

    def cut(self) -> None:
        """End it at once in both directions; what was held back is lost."""
        for writer in self._writers:
            writer.transport.abort()
        self.thaw()

    async def serve(self, downstream: Streams, connect: Connect) -> None:
        try:
            upstream = await connect()
        except OSError:
            self.cut()
            return
        self._writers.append(upstream[1])
        pumps = [
            asyncio.ensure_future(self._pump(downstream[0], upstream[1], self.to_server)),
            asyncio.ensure_future(self._pump(upstream[0], downstream[1], self.to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            for writer in self._writers:
                writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, may_pass: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await may_pass.wait()
                sink.write(data)
                await sink.drain()
            await may_pass.wait()  # the end of the stream travels behind its bytes


class Proxy:
    """Listens on a loopback port of its own: `async with Proxy(connect) as proxy`."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._frozen: dict[str, bool] | None = None
        self.links: dict[Link, asyncio.Task[None]] = {}
        self.delay_s = 0.0
        self.port = 0

    @classmethod
    def to_port(cls, port: int) -> Proxy:
        return cls(lambda: asyncio.open_connection("127.0.0.1", port))

    @classmethod
    def to_unix(cls, path: str) -> Proxy:
        return cls(lambda: asyncio.open_unix_connection(path))

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self.links.values())
        self.cut()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self, *, replies_only: bool = False) -> None:
        """Every connection, and every one made until `thaw`."""
        self._frozen = {"replies_only": replies_only}
        for link in self.links:
            link.freeze(replies_only=replies_only)

    def thaw(self) -> None:
        self._frozen = None
        for link in self.links:
            link.thaw()

    def cut(self) -> None:
        for link in list(self.links):
            link.cut()

    def delay(self, seconds: float) -> None:
        self.delay_s = seconds
        for link in self.links:
            link.delay_s = seconds

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("socket")
        if peer is not None:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link((reader, writer))
        link.delay_s = self.delay_s
        if self._frozen is not None:
            link.freeze(**self._frozen)
        task = asyncio.ensure_future(link.serve((reader, writer), self._connect))
        self.links[link] = task
        task.add_done_callback(lambda done: self._ended(link, done))

    def _ended(self, link: Link, done: asyncio.Task[None]) -> None:
        self.links.pop(link, None)
        if not done.cancelled():
            done.exception()  # a broken pipe is what a proxy is for
