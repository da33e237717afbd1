"""docs/tutorials/from-socketio.md, done as it says: its program runs as it stands, but for the hub's address."""

from __future__ import annotations

import asyncio
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from official_socketio import install
from processes import ROOT
from sockets import PATIENCE_S, peer

TUTORIAL = ROOT / "docs" / "tutorials" / "from-socketio.md"


class Line:
    """A line between the program and the hub, which can be cut."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._address)
        self._open |= {writer, there_writer}
        try:
            await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))
        finally:
            self._open -= {writer, there_writer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    def cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()


@asynccontextmanager
async def line_to(hub: Any) -> AsyncIterator[Line]:
    line = Line(hub.address)
    server = await asyncio.start_server(line.carry, "127.0.0.1", 0)
    async with server:
        line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield line
        line.cut()


async def test_the_program_is_in_the_room_and_comes_back_with_nothing_missed(hub: Any, tmp_path: Path) -> None:
    (program,) = re.findall(r"```js\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    assert len([line for line in program.splitlines() if line.strip()]) <= 20
    install(tmp_path)
    async with line_to(hub) as line, peer(hub, hub.token("pub")) as publisher:
        (tmp_path / "app.mjs").write_text(program.replace("http://127.0.0.1:8000", line.url))
        token = {"KRIN_TOKEN": hub.token("ada", "agent")}
        process = await asyncio.create_subprocess_exec(
            "node", "app.mjs", cwd=tmp_path, env=os.environ | token, stdout=PIPE
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(3 * PATIENCE_S):
                assert await process.stdout.readline() == b"in the room\n"
                assert await process.stdout.readline() == b"NOTE hello\n"
                line.cut()
                await publisher.publish("custom:lobby", data={"text": "while you were out"})
                assert await process.stdout.readline() == b"NOTE while you were out\n"
                assert await process.stdout.readline() == b"back, and nothing was missed\n"
        finally:
            process.kill()
            await process.wait()
