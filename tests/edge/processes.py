"""Hubs and commands in processes of their own, as a user runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import load

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 20


def krin(
    *arguments: str, timeout_s: float = 30, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    with subprocess.Popen(
        [sys.executable, "-m", "hub", *arguments],
        cwd=ROOT,
        env=os.environ | (environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.terminate()  # gently: it may have started a database
            process.communicate(timeout=STOP_S)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class HubProcess:
    """A hub that a test may treat as badly as it likes."""

    def __init__(
        self, data_dir: Path, *options: str, command: str = "serve", environment: dict[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.stderr")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hub", command, "--data-dir", str(data_dir), *options],
                cwd=ROOT,
                env=os.environ | (environment or {}),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith(("ready http://", "ready https://")), self.log.read_text()
        self.url = line.split()[1]
        self.ws_url = self.url.replace("http", "ws", 1) + "/ws"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.partition("://")[2].rpartition(":")
        return host, int(port)

    def token(self, name: str, *roles: str, teams: tuple[str, ...] = ("*",), ttl_s: int = 3600) -> str:
        tokens = make_tokens(load(data_dir=str(self.data_dir)), SystemClock())
        return tokens.issue(name, roles=roles or ("admin",), teams=teams, ttl_s=ttl_s, principal="operator")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_S)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def exit_code(self) -> int:
        """Wait for the end without holding up this loop."""
        return await asyncio.to_thread(self.process.wait, STOP_S)


@contextmanager
def running(
    data_dir: Path,
    *options: str,
    port: int = 0,
    command: str = "serve",
    environment: dict[str, str] | None = None,
) -> Iterator[HubProcess]:
    """A hub until the end of the block; stopped by force if need be."""
    hub = HubProcess(data_dir, "--port", str(port), *options, command=command, environment=environment)
    try:
        yield hub
    finally:
        hub.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            hub.process.wait(STOP_S)
        hub.process.kill()
        hub.process.wait()
        assert hub.process.stdout is not None
        hub.process.stdout.close()
