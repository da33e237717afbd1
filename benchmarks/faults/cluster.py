"""Real processes to be hurt: N hub nodes on one Redis and one Postgres, each with proxies in front.

Only processes started here are touched, always by pid, and all of them end with the harness: nodes and Redis even
when it is killed itself, Postgres when it leaves in any other way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]

from benchmarks.faults.proxy import Proxy
from storage.embedded import EmbeddedPostgres

ROOT = Path(__file__).resolve().parents[2]
NODE_PORTS = range(8600, 8700)
REDIS_PORTS = range(6400, 6450)
READY_LIMIT_S = 30.0
STOP_LIMIT_S = 20.0
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: a forked child must not load anything

# Postgres is killed on purpose here; its keeper's warnings would fill the screen.
logging.getLogger("storage.embedded").setLevel(logging.ERROR)


class Broken(Exception):
    """A process did not do what the harness needs; the text holds the end of its log."""


@contextlib.contextmanager
def reserved_port(among: Sequence[int]) -> Iterator[int]:
    """A port of that range for us alone, also while what listens there is dead: other harnesses respect a file lock."""
    for port in random.sample(among, len(among)):
        lock = os.open(Path(tempfile.gettempdir()) / f"krin-faults-{port}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _is_free(port, lock):
                yield port
                return
        finally:
            os.close(lock)
    raise Broken(f"no free port from {among[0]} to {among[-1]}")


def _is_free(port: int, lock: int) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        return True
    return False


async def eventually(fact: Callable[[], Awaitable[object]] | Callable[[], object], *, within_s: float) -> float:
    """Ask for a fact until it holds; answers how long that took. Raises TimeoutError when the bound is passed."""
    started = time.monotonic()
    async with asyncio.timeout(within_s):
        while True:
            found = fact()
            if isinstance(found, Awaitable):
                found = await found
            if found:
                return time.monotonic() - started
            await asyncio.sleep(0.01)


def _end_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def _spawn(command: list[str], *, log: IO[bytes], cwd: Path, piped: bool = False) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KRIN_")}
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if piped else log,
        stderr=log,
        cwd=cwd,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # Ctrl-C is for the harness, which ends its processes in its own order
        preexec_fn=_end_with_parent,
    )


class Process:
    """One child that can be killed, frozen and started again."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        self.process: asyncio.subprocess.Process | None = None
        self.expected_to_live = False
        self.frozen = False

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def gone(self) -> int:
        """Wait until it has ended; answers its exit code."""
        assert self.process is not None
        return await self.process.wait()

    async def kill(self) -> None:
        self.expected_to_live = False
        self.frozen = False
        self.send(signal.SIGKILL)
        if self.process is not None:
            await self.gone()

    def freeze(self) -> None:
        self.frozen = True
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.frozen = False
        self.send(signal.SIGCONT)

    def log_tail(self, size: int = 3000) -> str:
        with contextlib.suppress(OSError):
            return self.log_path.read_bytes()[-size:].decode(errors="replace")
        return ""


class Node(Process):
    """One hub node. Clients reach it through `proxy`, it reaches Redis through `redis_proxy`."""

    def __init__(self, cluster: Cluster, index: int, port: int) -> None:
        super().__init__(f"node{index}", cluster.folder)
        self.cluster = cluster
        self.port = port
        self.proxy = Proxy.to_port(port)
        self.redis_proxy = Proxy.to_port(cluster.redis.port)
        self.postgres_proxy = Proxy(cluster.postgres.connect)
        self.plants: tuple[str, ...] = cluster.plants
        self.through_postgres_proxy = False
        self.options: tuple[str, ...] = ()

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.proxy.port}/ws"

    async def start(self) -> float:
        """Start and wait until it says that it is ready; answers the seconds. Raises Broken when it ends instead."""
        started = time.monotonic()
        with self.log_path.open("ab") as log:
            self.process = await _spawn(self._command(), log=log, cwd=ROOT, piped=True)
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(READY_LIMIT_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line.startswith(b"ready "):
            await self.kill()
            raise Broken(f"{self.name} did not start: {self.log_tail()}")
        self.expected_to_live = True
        watched = asyncio.ensure_future(self._watch(self.process))
        self.cluster.watchers.add(watched)
        watched.add_done_callback(self.cluster.watchers.discard)
        return time.monotonic() - started

    async def start_again(self, *, within_s: float = 60.0) -> None:
        """Start, again and again: a node does not start without its database, and a supervisor would do just that."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                await self.start()
                return
            except Broken:
                if time.monotonic() > deadline:
                    raise

    async def terminate(self) -> tuple[int, float]:
        """SIGTERM: drain and end. Answers the exit code and the seconds it took."""
        self.expected_to_live = False
        started = time.monotonic()
        self.send(signal.SIGTERM)
        async with asyncio.timeout(STOP_LIMIT_S):
            code = await self.gone()
        return code, time.monotonic() - started

    def _command(self) -> list[str]:
        module = ["benchmarks.faults.planted", ",".join(self.plants)] if self.plants else ["hub"]
        dsn = self.cluster.postgres.dsn
        if self.through_postgres_proxy:
            dsn = f"postgresql://krin@127.0.0.1:{self.postgres_proxy.port}/postgres?sslmode=disable"
        options = {
            "--port": self.port,
            "--data-dir": self.cluster.folder,
            "--database-url": dsn,
            "--redis-url": f"redis://127.0.0.1:{self.redis_proxy.port}/0",
            "--node": self.name,
            "--ping-interval": 2,
            "--drain-timeout": 1,
            "--log-level": "warning",
        }
        words = [str(word) for pair in options.items() for word in pair]
        return [sys.executable, "-m", *module, "serve", *words, *self.options]

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self.process is process and self.expected_to_live:
            self.expected_to_live = False
            self.cluster.died.append(f"{self.name} ended by itself with {code}: {self.log_tail(1500)}")


class RedisServer(Process):
    """One redis-server of our own. What it remembers after a kill is chosen at `start`."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__("redis", folder)
        self.folder = folder / "redis"
        self.folder.mkdir(exist_ok=True)
        self.port = port
        self.append_only = False

    async def start(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise Broken("redis-server is not installed")
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        command += ["--appendonly", "yes" if self.append_only else "no", "--appendfsync", "everysec"]
        with self.log_path.open("ab") as log:
            self.process = await _spawn(command, log=log, cwd=self.folder)
        try:
            await eventually(self.answers, within_s=READY_LIMIT_S)
        except TimeoutError:
            raise Broken(f"redis did not start: {self.log_tail()}") from None

    async def answers(self) -> bool:
        try:
            return await self.ask("PING") == "+PONG"
        except (OSError, EOFError):
            return False

    async def ask(self, *words: str) -> str:
        """One command over a connection of its own; the first line of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write((" ".join(words) + "\r\n").encode())
            return (await reader.readline()).decode().strip()
        finally:
            writer.close()

    async def save(self) -> None:
        await self.ask("SAVE")

    def forget(self) -> None:
        """Let the next start find nothing."""
        for path in (*self.folder.glob("*.rdb"), *self.folder.glob("appendonlydir/*")):
            path.unlink(missing_ok=True)


class Postgres:
    """A Postgres of the harness, so that a node's death does not touch it. It comes back only when told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pg"
        self.cluster_folder = self.folder / "postgres"
        self._embedded = EmbeddedPostgres(self.folder)
        self.dsn = ""
        self._frozen: list[psutil.Process] = []

    async def __aenter__(self) -> Postgres:
        self.dsn = await self._embedded.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        await self._embedded.__aexit__(kind, error, trace)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A raw connection for a proxy."""
        folder = parse_qs(urlsplit(self.dsn).query)["host"][0]
        return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")

    async def query(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows over a connection of its own: the harness's own look at the truth."""
        connection = await asyncpg.connect(self.dsn, timeout=10)
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
            return found
        finally:
            await connection.close(timeout=5)

    async def answers(self) -> bool:
        try:
            await self.query("SELECT 1")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        return True

    def processes(self) -> list[psutil.Process]:
        """The postmaster first, then its children."""
        try:
            pid = int((self.cluster_folder / "postmaster.pid").read_text().split("\n", 1)[0])
            postmaster = psutil.Process(pid)
            if Path(postmaster.cwd()) != self.cluster_folder.resolve():
                return []
            return [postmaster, *postmaster.children(recursive=True)]
        except (OSError, ValueError, psutil.Error):
            return []

    def kill(self, *, everything: bool = False) -> None:
        """kill -9 of the postmaster; with `everything` of all its processes at once, and what they held in memory."""
        found = self.processes()
        for process in found if everything else found[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    async def kill_backend(self) -> None:
        """kill -9 of one process that serves a node. Postgres then ends all the others, and starts again by itself."""
        rows = await self.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'krin'")
        _, *children = self.processes()
        serving = [process for process in children if process.pid in {row["pid"] for row in rows}]
        serving[0].kill()
        await eventually(lambda: not self._any_alive(children), within_s=READY_LIMIT_S)

    def freeze(self) -> None:
        self._frozen = self.processes()
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []

    async def start_again(self) -> None:
        await self._embedded.ensure_running()
        await eventually(self.answers, within_s=READY_LIMIT_S)

    async def keep_copy(self) -> None:
        """A cold backup of the whole cluster, beside it."""
        await self._stop()
        await self._copy(self.cluster_folder, self.folder / "copy")
        await self.start_again()

    async def restore(self) -> None:
        """Back to the copy by archive recovery, as a restore to a point in time ends: on a new timeline."""
        await self._stop()
        await asyncio.to_thread(shutil.rmtree, self.cluster_folder)
        await self._copy(self.folder / "copy", self.cluster_folder)
        for name, text in {"recovery.signal": "", "postgresql.auto.conf": "restore_command = 'false'\n"}.items():
            path = self.cluster_folder / name
            with path.open("a") as file:
                file.write(text)
            owner = self.cluster_folder.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
        await self.start_again()

    async def _stop(self) -> None:
        found = self.processes()
        if found:
            found[0].send_signal(signal.SIGINT)
            await eventually(lambda: not self._any_alive(found), within_s=READY_LIMIT_S)

    @staticmethod
    def _any_alive(processes: list[psutil.Process]) -> bool:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    return True
        return False

    @staticmethod
    async def _copy(source: Path, target: Path) -> None:
        done = await asyncio.create_subprocess_exec("cp", "-a", str(source), str(target))
        if await done.wait() != 0:
            raise Broken(f"could not copy {source}")


class Cluster:
    """`async with Cluster(folder, nodes=2) as cluster`: everything is up inside, and gone after."""

    def __init__(
        self, folder: Path, *, nodes: int = 2, plants: tuple[str, ...] = (), append_only: bool = False
    ) -> None:
        """`append_only`: Redis keeps its log on disk, and comes back with all but the last second."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.plants = plants
        self.append_only = append_only
        self.postgres = Postgres(folder)
        self.redis: RedisServer
        self.nodes: list[Node] = []
        self.died: list[str] = []  # nodes that ended though nobody had asked them to
        self.watchers: set[asyncio.Future[None]] = set()
        self.token = ""
        self._count = nodes
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Cluster:
        try:
            await self._stack.enter_async_context(self.postgres)
            self.redis = RedisServer(self.folder, self._stack.enter_context(reserved_port(REDIS_PORTS)))
            ports = [self._stack.enter_context(reserved_port(NODE_PORTS)) for _ in range(self._count)]
            self.redis.append_only = self.append_only
            self._stack.push_async_callback(self._end)
            await self.redis.start()
            for index, port in enumerate(ports):
                node = Node(self, index, port)
                self.nodes.append(node)
                for proxy in (node.proxy, node.redis_proxy, node.postgres_proxy):
                    await self._stack.enter_async_context(proxy)
            await self.nodes[0].start()
            await asyncio.gather(*(node.start() for node in self.nodes[1:]))
            self.token = await self._token()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _end(self) -> None:
        for process in (*self.nodes, self.redis):
            await process.kill()
        for watcher in list(self.watchers):
            await watcher

    async def _token(self) -> str:
        words = ["token", "faults", "--role", "admin", "--ttl", "1d", "--data-dir", str(self.folder)]
        made = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hub", *words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
        )
        out, _ = await made.communicate()
        if made.returncode != 0:
            raise Broken("no token could be made")
        return out.decode().strip()
