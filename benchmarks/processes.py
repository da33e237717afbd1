"""Server processes: started here, on given cores, ended here by their ids, and gone with us whatever happens."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.machine import ROOT

READY_S = 40.0
STOP_S = 20.0
PORTS: Sequence[int] = range(8700, 8800)
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: a forked child must not load anything


class Unavailable(Exception):
    """A server cannot be measured here; the text says what is missing."""


def as_child(on: set[int] | None, death: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """For `preexec_fn`: bind to cores, and get a signal when the parent dies."""

    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, death)
        if on:
            os.sched_setaffinity(0, on)

    return prepare


def free_port() -> int:
    """A port of ours that nobody listens on."""
    start = os.getpid() % len(PORTS)
    for port in [*PORTS[start:], *PORTS[:start]]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(port)
    raise Unavailable(f"no free port from {PORTS[0]} to {PORTS[-1]}")


class ServerProcess:
    """One server. `ready`: a line of its output that begins so means that it serves; None: the port answers."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int,
        log: Path,
        on: set[int] | None,
        ready: str | None = None,
        env: Mapping[str, str] | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.port = port
        self.first_line = ""
        self._log = log
        self._stop = stop
        self._ready = ready
        clean = {name: value for name, value in os.environ.items() if not name.startswith("KRIN_")}
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if ready else sink,
                stderr=sink,
                env={**clean, **(env or {})},
                start_new_session=True,
                preexec_fn=as_child(on, stop),
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> ServerProcess:
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        if self._ready is not None:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                self.first_line = line.decode(errors="replace").strip()
                if self.first_line.startswith(self._ready):
                    return
            raise Unavailable(f"the server ended: {self._tail()}")
        while time.monotonic() < deadline:
            if not self.alive:
                raise Unavailable(f"the server ended: {self._tail()}")
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise Unavailable(f"the server does not listen: {self._tail()}")

    def _tail(self) -> str:
        return self._log.read_bytes()[-400:].decode(errors="replace").strip()

    def ask_to_stop(self) -> None:
        if self.alive:
            self._process.send_signal(self._stop)

    def wait(self) -> None:
        """Until it has ended, by itself or by force."""
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def stop(self) -> None:
        self.ask_to_stop()
        self.wait()


def find(program: str) -> str:
    """A program on PATH or where Debian keeps those of root. Raises Unavailable."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        raise Unavailable(f"{program} is not installed")
    return found
