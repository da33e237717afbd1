"""One real hub for the session, started as a user starts it: `python -m hub serve` with a data folder of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, settings

from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import load

# The machine that runs this may be busy with other things: slowness of an example proves nothing.
settings.register_profile("krin", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("krin")

ROOT = Path(__file__).parent.parent
STOP_S = 20


class RunningHub:
    """A hub in a process of its own. `url` is http://HOST:PORT, `ws_url` the address of its WebSocket."""

    def __init__(self, url: str, data_dir: Path, process: subprocess.Popen[str]) -> None:
        self.url = url
        self.ws_url = url.replace("http", "ws", 1) + "/ws"
        self.data_dir = data_dir
        self.process = process

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def token(self, name: str, *roles: str, teams: tuple[str, ...] = ("*",), ttl_s: int = 3600) -> str:
        """An access token as `krin token` prints it. Without roles: admin."""
        tokens = make_tokens(load(data_dir=str(self.data_dir)), SystemClock())
        return tokens.issue(name, roles=roles or ("admin",), teams=teams, ttl_s=ttl_s, principal="operator")


def start_hub(data_dir: Path, *options: str) -> RunningHub:
    """Start `krin serve` on a free port and wait until it says that it is ready."""
    log = (data_dir / "stderr.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--port", "0", "--data-dir", str(data_dir), *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    log.close()
    line = _first_line(process.stdout)
    if not line.startswith("ready "):
        process.kill()
        process.wait()
        pytest.fail(f"the hub did not start: {line}\n{(data_dir / 'stderr.log').read_text()}")
    return RunningHub(line.split()[1], data_dir, process)


def stop_hub(running: RunningHub) -> None:
    running.process.terminate()
    try:
        running.process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
    if running.process.stdout is not None:
        running.process.stdout.close()


def _first_line(stream: IO[str] | None) -> str:
    """The ready line; what ends without one ends its output, so this cannot wait for ever on a dead process."""
    assert stream is not None
    return next((line for line in stream if line.strip()), "")


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    running = start_hub(tmp_path_factory.mktemp("hub"), "--drain-timeout", "0")
    try:
        yield running
    finally:
        stop_hub(running)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningHub]]:
    """Starts hubs with options of their own, which live as long as the tests of a module."""
    running: list[RunningHub] = []

    def one_more(*options: str) -> RunningHub:
        running.append(start_hub(tmp_path_factory.mktemp("hub"), *options))
        return running[-1]

    try:
        yield one_more
    finally:
        for each in running:
            stop_hub(each)
