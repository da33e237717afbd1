"""The official Socket.IO client for JavaScript, from npm, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dashboard.tools import absent
from sockets import PATIENCE_S

PACKAGE = "socket.io-client@4.8"
INSTALL_S = 120


def install(folder: Path) -> Path:
    """The program that drives it, beside the package that it needs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        absent("node and npm are not installed")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode != 0:
        absent(f"npm cannot install {PACKAGE}: {done.stderr[-500:]}")
    return Path(shutil.copy(Path(__file__).with_name("socketio_client.mjs"), folder))


class SocketIo:
    """One client. `heard` is every event so far, by name and first argument."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._reader = asyncio.create_task(self._read())
        self._news = asyncio.Event()
        self._number = 0
        self._acks: dict[int, Any] = {}
        self.heard: list[tuple[str, Any]] = []

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "ack" in told:
                self._acks[told["ack"]] = told.get("value")
            else:
                self.heard.append((told["event"], told["args"][0] if len(told["args"]) == 1 else told["args"]))
            self._news.set()

    async def do(self, action: str, **fields: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": action, **fields}).encode() + b"\n")
        await self._process.stdin.drain()

    async def ask(self, action: str, **fields: Any) -> Any:
        self._number += 1
        await self.do(action, ack=self._number, **fields)
        return await self._found(lambda: self._acks.get(self._number))

    async def emit(self, event: str, *args: Any) -> dict[str, Any]:
        """The acknowledgement of an event."""
        acknowledged: dict[str, Any] = await self.ask("emit", event=event, args=args)
        return acknowledged

    async def next(self, name: str, wanted: Callable[[Any], bool] = lambda _: True, *, after: int = 0) -> Any:
        """The first event of that name, waited for, beyond the `after` first ones of any name."""
        found = await self._found(
            lambda: next(([told] for each, told in self.heard[after:] if each == name and wanted(told)), None)
        )
        return found[0]

    async def first(self, *names: str) -> tuple[str, Any]:
        """The first event of any of these names, waited for."""
        found: tuple[str, Any] = await self._found(
            lambda: next((each for each in self.heard if each[0] in names), None)
        )
        return found

    async def publication(self, channel: str, offset: int) -> dict[str, Any]:
        found: dict[str, Any] = await self.next("message", lambda m: (m["channel"], m["offset"]) == (channel, offset))
        return found

    def offsets(self, channel: str) -> list[int]:
        return [told["offset"] for name, told in self.heard if name == "message" and told["channel"] == channel]

    async def _found(self, look: Callable[[], Any]) -> Any:
        async with asyncio.timeout(PATIENCE_S):
            while (found := look()) is None:
                assert not self._reader.done(), "the client has ended"
                self._news.clear()
                await self._news.wait()
        return found

    async def ended(self) -> None:
        self._reader.cancel()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@asynccontextmanager
async def socket_io(program: Path, hub: Any, auth: dict[str, Any], **options: Any) -> AsyncIterator[SocketIo]:
    """A client that has begun to connect."""
    process = await asyncio.create_subprocess_exec("node", str(program), stdin=PIPE, stdout=PIPE)
    made = SocketIo(process)
    try:
        await made.do("open", url=hub.url, auth=auth, options=options)
        yield made
    finally:
        await made.ended()
