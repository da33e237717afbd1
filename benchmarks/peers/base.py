"""What a peer is: how to start it, how its readers join, how its publisher speaks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.krin import compact
from benchmarks.plans import Stream, Target
from benchmarks.processes import ServerProcess, Unavailable, find, free_port
from benchmarks.wire import STAMP_SLOT

HERE = Path(__file__).parent / "servers"
INSTALL_LIMIT_S = 240.0
# What Krin delivers for one tick, byte for byte as long: a peer carries it as it is.
PAYLOAD = compact(
    {
        "type": "PRICE_TICK",
        "channel": "prices:BTC-USD",
        "offset": 1234,
        "timestamp": 1732330000123,
        "data": {"symbol": "BTC-USD", "bid": "67001.25", "ask": "67001.50", "ext": {"s": f"TS={STAMP_SLOT}"}},
        "publisher": "feed",
    }
)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A peer that serves. `stream` makes the publisher for a rate."""

    pids: Sequence[int]
    reader: Target
    stream: Callable[[float], Stream]
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """`start(folder, cores)` is a context manager; it raises Unavailable with what is missing here."""

    name: str
    title: str
    start: Callable[[Path, set[int] | None], AbstractContextManager[Running]]


def cache() -> Path:
    """Where peers are installed that are fetched at run time."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "krin-bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pip_installed(*packages: str) -> Path:
    """A folder with these packages, installed once by pip. Raises Unavailable."""
    folder = cache() / ("py-" + "-".join(packages))
    if not (folder / "done").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), *packages]
        _install(command, f"pip cannot install {' '.join(packages)}")
        (folder / "done").touch()
    return folder


def npm_installed(*packages: str) -> Path:
    """A folder whose node_modules has these packages, installed once by npm. Raises Unavailable."""
    npm = find("npm")
    find("node")
    folder = cache() / ("npm-" + "-".join(packages))
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages]
        _install(command, f"npm cannot install {' '.join(packages)}")
        (folder / "done").touch()
    return folder


def _install(command: list[str], complaint: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{complaint} within {INSTALL_LIMIT_S:.0f} s") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Unavailable(f"{complaint}: {last[:160]}")


@contextmanager
def echo_server(
    folder: Path,
    on: set[int] | None,
    command: Callable[[int], Sequence[str]],
    *,
    env: dict[str, str] | None = None,
    version: str = "",
) -> Iterator[Running]:
    """A server that sends what comes in on /pub to everybody on /sub, as it is."""
    port = free_port()
    with ServerProcess(command(port), port=port, log=folder / "peer.log", on=on, env=env) as process:
        yield Running(
            pids=[process.pid],
            reader=Target(port=port, path="/sub"),
            stream=lambda rate: Stream(target=Target(port=port, path="/pub"), messages=[PAYLOAD], rate_per_s=rate),
            version=version,
        )


def script(name: str, port: int) -> list[str]:
    """A Python server of ours beside this file."""
    return [sys.executable, str(HERE / name), str(port)]
