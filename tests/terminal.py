"""A program at a terminal of its own: a pseudo-terminal, what is typed there and what is written to it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import signal
import struct
import sys
import termios
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[1]
KRIN = (sys.executable, "-m", "hub")
SOON_S = 20.0
STEER = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and where to write


class Terminal:
    """`text` is all that was written to it, without colours and movements."""

    def __init__(self, *command: str, rows: int = 30, columns: int = 160, **environment: str) -> None:
        self._command = command
        self._environment = environment
        self._size = (rows, columns)
        self._written = bytearray()
        self._changed = asyncio.Event()

    @property
    def text(self) -> str:
        return STEER.sub("", self._written.decode(errors="replace"))

    async def shows(self, *texts: str) -> None:
        """Wait until each of them was written."""
        async with asyncio.timeout(SOON_S):
            while not all(text in self.text for text in texts):
                self._changed.clear()
                await self._changed.wait()

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    async def interrupt(self) -> int:
        """Ctrl-C, and the exit code."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(SOON_S):
            return await self.process.wait()

    async def __aenter__(self) -> Self:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *self._size, 0, 0))
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm"} | self._environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            self._written += os.read(self._ours, 65_536)
        except OSError:  # its last writer has gone
            asyncio.get_running_loop().remove_reader(self._ours)
        self._changed.set()
