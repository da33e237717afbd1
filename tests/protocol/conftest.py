"""What the tests of the wire share: a TCP proxy that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio


class CutProxy:
    """Stands between a client and the hub. `cut` breaks every connection as a dying network does: without a goodbye."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.accepted = 0

    @property
    def ws_url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"ws://{host}:{port}/ws"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self._open.set()
        self._abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Break what is open and let nobody through until `mend`."""
        self._open.clear()
        self._abort()

    def mend(self) -> None:
        self._open.set()

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        await self._open.wait()
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(_pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()


@pytest_asyncio.fixture
async def proxy(hub: Any) -> AsyncIterator[CutProxy]:
    found = CutProxy(*hub.address)
    await found.start()
    yield found
    await found.stop()


class Waiter:
    """Lets a test wait for a fact instead of for time: `notify` after a change, `until` it is as wanted."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def notify(self) -> None:
        self._changed.set()

    async def until(self, fact: Callable[[], bool], *, within_s: float = 10) -> None:
        async with asyncio.timeout(within_s):
            while not fact():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
def waiter() -> Waiter:
    return Waiter()
