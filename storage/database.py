"""The one door to Postgres: a pool, one connection out of the pool for the group commit, and errors in our own words.

Rule: what happened before a statement was sent is `Unavailable`; what happened after and is not the server's own word
on that statement is `OutcomeUnknown`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed

from storage.errors import Busy, Conflict, OutcomeUnknown, Rejected, StorageError, Unavailable

TCP_USER_TIMEOUT_MS = 5_000

# While the server is away the pool logs a traceback at every attempt to refill itself; our callers hear of it anyway.
logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
SETTINGS = (*DURABLE, "data_checksums")


class Stopwatch(Protocol):
    """Started when somebody begins to wait for Postgres, also for a connection of the pool, and stopped after."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


watching: ContextVar[Stopwatch | None] = ContextVar("watching", default=None)
"""Whose time with Postgres is measured: the pool's statements of this context, not those of a group commit."""


Heard = Callable[[str, float], None]
"""Hears of every statement of a database that has ended, well or not: its text, without arguments, and seconds."""

GiveWay = Callable[[int], None]
"""Is told the server's process, by its id, that works for a session which gives way to all others."""


class Queries(Protocol):
    """What `Database` and `Writer` have in common. Every method is one round trip and one transaction of its own.

    Raises:
        Unavailable: definitely not done.
        OutcomeUnknown: maybe committed; for a statement that only reads, repeat it.
        Conflict, Rejected: the server's word on this statement; nothing was done.
    """

    async def fetch(self, query: str, *arguments: Any) -> list[Any]: ...
    async def fetch_row(self, query: str, *arguments: Any) -> Any: ...
    async def fetch_value(self, query: str, *arguments: Any) -> Any: ...
    async def execute(self, query: str, *arguments: Any) -> str: ...


class _Statements:
    """The methods of `Queries` over `connection()`, which lends a connection and translates what goes wrong."""

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        raise NotImplementedError
        yield

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        async with self.connection() as connection:
            rows: list[Any] = await connection.fetch(query, *arguments)
            return rows

    async def fetch_row(self, query: str, *arguments: Any) -> Any:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetch_value(self, query: str, *arguments: Any) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        async with self.connection() as connection:
            return str(await connection.execute(query, *arguments))


class Database(_Statements):
    """A pool of connections. It heals by itself: a broken connection is dropped, and the next use opens a new one."""

    def __init__(self, pool: Any, *, connect: _Connector, acquire_timeout_s: float, give_way: GiveWay) -> None:
        self._pool = pool
        self._connect = connect
        self._acquire_timeout_s = acquire_timeout_s
        self._give_way = give_way

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        dsn: str,
        *,
        min_size: int = 1,
        max_size: int = 8,
        connect_timeout_s: float = 5.0,
        command_timeout_s: float = 2.0,
        acquire_timeout_s: float = 1.0,
        heard: Heard | None = None,
        give_way: GiveWay = lambda pid: None,
    ) -> AsyncGenerator[Database]:
        """Connect, so that a wrong address is known at once, and close within `command_timeout_s` at the end.
        Raises:
            StorageError: one sentence that names host and database, never a user's password.
        """
        connect = _Connector(dsn, timeout_s=connect_timeout_s, command_timeout_s=command_timeout_s, heard=heard)
        try:
            pool = await connect.pool(min_size=min_size, max_size=max_size)
        except asyncpg.ClientConfigurationError:  # its text may hold the password
            why = "an address is written as postgresql://user:password@host:port/database"
            raise StorageError(f"The database at {connect.place} cannot be reached: {why}.") from None
        except Exception as error:
            # Not chained: the driver's traceback holds the DSN in its locals and arguments.
            raise _refusal(error, connect.place) from None
        try:
            yield cls(pool, connect=connect, acquire_timeout_s=acquire_timeout_s, give_way=give_way)
        finally:
            try:
                async with asyncio.timeout(command_timeout_s):
                    await pool.close()
            except BaseException as error:
                pool.terminate()
                if not isinstance(error, Exception):
                    raise

    async def warm(self) -> None:
        """Have half of the connections open that the pool may have: the other half is not kept from anybody.

        Raises StorageError.
        """
        async with AsyncExitStack() as stack:
            for _ in range(self._pool.get_max_size() // 2):
                await stack.enter_async_context(self.connection())

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """Lend an asyncpg connection for one statement or, with `connection.transaction()`, several.

        The whole block must end within the command timeout, so that a frozen server is an error and not a wait.
        """
        stopwatch = watching.get()
        if stopwatch is not None:
            stopwatch.start()
        try:
            try:
                async with asyncio.timeout(self._acquire_timeout_s):
                    connection = await self._pool.acquire()
            except Exception as error:
                if isinstance(error, TimeoutError) and self._all_in_use():
                    raise Busy(f"All connections to the database at {self._connect.place} are in use.") from None
                raise _refusal(error, self._connect.place) from None
            try:
                async with _deadline(connection, self._connect.command_timeout_s):
                    yield connection
            finally:
                await self._pool.release(connection)
        finally:
            if stopwatch is not None:
                stopwatch.stop()

    def _all_in_use(self) -> bool:
        return bool(self._pool.get_size() == self._pool.get_max_size() and not self._pool.get_idle_size())

    @asynccontextmanager
    async def writer(self) -> AsyncGenerator[Writer]:
        """One connection of its own, so that slow readers of the pool never hold up the group commit."""
        writer = Writer(self._connect, connect_timeout_s=self._acquire_timeout_s)
        try:
            yield writer
        finally:
            await writer.close()

    @asynccontextmanager
    async def session(self, *, gives_way: bool = False) -> AsyncGenerator[Any]:
        """A fresh connection without a statement timeout, for migrations and other long work.

        gives_way: the work can wait for everybody else's.
        """
        try:
            connection = await self._connect.session()
        except Exception as error:
            raise _refusal(error, self._connect.place) from None
        try:
            async with _deadline(connection, None):
                if gives_way:
                    self._give_way(await connection.fetchval("SELECT pg_backend_pid()"))
                yield connection
        finally:
            await _close(connection)

    async def ping(self) -> None:
        """Answer when Postgres answers. Raises `StorageError`."""
        await self.fetch_value("SELECT 1")

    async def durability_settings(self) -> dict[str, str]:
        """Answer the settings that "acknowledged means committed" rests on, and refuse if one of them is off.

        `data_checksums` comes with them to be warned of: without it a disk's lie is not noticed, which is not refused.

        Raises:
            StorageError: a setting is off, or this server is a read-only standby.
        """
        async with self.connection() as connection:
            if await connection.fetchval("SELECT pg_is_in_recovery()"):
                raise StorageError("The database is a read-only standby; give the address of the primary.")
            settings = {name: await connection.fetchval("SELECT current_setting($1)", name) for name in SETTINGS}
        # Any level but "off" waits for the local disk; "local" and above differ in what they ask of standbys.
        off = [name for name in DURABLE if settings[name] == "off"]
        if off:
            raise StorageError(
                f"The database has {' and '.join(off)} off, so a commit may be lost: durable channels need it on."
            )
        return settings


class Writer(_Statements):
    """One connection outside the pool, opened at first use and again after a failure; one statement at a time."""

    def __init__(self, connect: _Connector, *, connect_timeout_s: float) -> None:
        self._connect = connect
        self._connect_timeout_s = connect_timeout_s
        self._connection: Any = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """As `Database.connection`; waits for the statement before it."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                try:
                    # A frozen server accepts the socket and says nothing: everybody behind would wait as long.
                    async with asyncio.timeout(self._connect_timeout_s):
                        self._connection = await self._connect.connection()
                except Exception as error:
                    raise _refusal(error, self._connect.place) from None
            async with _deadline(self._connection, self._connect.command_timeout_s):
                yield self._connection

    async def close(self) -> None:
        if self._connection is not None:
            await _close(self._connection)
            self._connection = None


class _Connector:
    """The address and how to connect to it: the only holder of the DSN."""

    def __init__(self, dsn: str, *, timeout_s: float, command_timeout_s: float, heard: Heard | None) -> None:
        self.place = _place(dsn)
        self.command_timeout_s = command_timeout_s
        self._dsn = dsn
        self._timeout_s = timeout_s
        self._heard = heard

    async def pool(self, *, min_size: int, max_size: int) -> Any:
        return await asyncpg.create_pool(
            self._dsn, min_size=min_size, max_size=max_size, init=self._prepare, reset=_no_reset, **self._options()
        )

    async def connection(self) -> Any:
        connection = await asyncpg.connect(self._dsn, **self._options())
        await self._prepare(connection)
        return connection

    async def session(self) -> Any:
        connection = await asyncpg.connect(
            self._dsn, timeout=self._timeout_s, server_settings={"application_name": "krin"}
        )
        await _prepare(connection)
        return connection

    async def _prepare(self, connection: Any) -> None:
        await _prepare(connection)
        if (heard := self._heard) is not None:
            connection.add_query_logger(lambda record: heard(record.query, record.elapsed))

    def _options(self) -> dict[str, Any]:
        # The server gives up a little before we do: then it says so itself, and the outcome is known.
        limit_ms = str(max(1, int(self.command_timeout_s * 900)))
        return {
            "timeout": self._timeout_s,
            "server_settings": {
                "application_name": "krin",
                # Plans kept from when the tables were small would outlive that; planning anew costs about 0.1 ms.
                "plan_cache_mode": "force_custom_plan",
                "statement_timeout": limit_ms,
                # A node that freezes inside a transaction must not hold a channel's head for everybody.
                "idle_in_transaction_session_timeout": limit_ms,
            },
        }


def is_outcome_unknown(error: BaseException) -> bool:
    """Whether a statement that ended with this error of the driver may have been committed all the same.

    Only the server's own report about the statement counts as "not done". A lost connection, a timeout and whatever
    the driver says about its own state do not: it hides the first cause behind a second error.
    """
    if isinstance(error, asyncpg.exceptions.DataError):
        return False  # from the server (class 22) or from encoding an argument before anything was sent
    if isinstance(error, asyncpg.PostgresError):
        state = str(getattr(error, "sqlstate", None) or "")
        if state.startswith("08") or state == "40003":
            return True
        # 57014: cancelled or timed out, and rolled back. 57P03: not yet taking connections.
        return state.startswith("57") and state not in ("57014", "57P03")
    return isinstance(error, asyncpg.InterfaceError | OSError | TimeoutError | EOFError | asyncpg.InternalClientError)


def translated(error: BaseException) -> StorageError | None:
    """The `StorageError` for an error of the driver after a statement was sent, or None if it is not the store's."""
    if isinstance(error, StorageError):
        return error
    if is_outcome_unknown(error):
        return OutcomeUnknown(f"The database did not confirm the work: {type(error).__name__}.")
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return None
    state = str(getattr(error, "sqlstate", None) or "22000")
    said = str(error).split("\n", 1)[0]
    if state == "23505":
        return Conflict(f"That is already stored: {said}.")
    # 22: data; 23: constraint; 54: beyond a limit, such as a key too long for an index.
    if state[:2] in ("22", "23", "54"):
        return Rejected(f"The database refuses the value: {said}.")
    # 25: read-only; 40: rolled back; 53: out of disk, memory or connections; 55: locked; 57: cancelled or starting.
    if state[:2] in ("25", "40", "53", "55", "57"):
        return Unavailable(f"The database cannot do it now: {said}.")
    return StorageError(f"The database refuses: {said}.")


@asynccontextmanager
async def _deadline(connection: Any, limit_s: float | None) -> AsyncGenerator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except BaseException as error:
        # A statement cut off in the middle leaves a connection in no known state, and the driver's own
        # cancel request doubles the wait on a frozen server: drop it, the server ends the statement itself.
        if is_outcome_unknown(error) or isinstance(error, asyncio.CancelledError):
            with suppress(asyncpg.InterfaceError):  # the pool may have taken the dead connection back already
                connection.terminate()
        told = translated(error)
        if told is None or told is error:
            raise
        raise told from error


def _refusal(error: BaseException, place: str) -> Unavailable:
    """Why no connection was to be had; the driver's own words are kept only where they cannot hold a secret."""
    if isinstance(error, StorageError):
        return Unavailable(str(error))
    if isinstance(error, TimeoutError):
        why = "it did not answer in time"
    elif isinstance(error, OSError):
        why = (error.strerror or type(error).__name__).lower()
    elif isinstance(error, asyncpg.PostgresError):
        why = str(error).split("\n", 1)[0]
    else:
        why = f"the address or connection is not usable ({type(error).__name__})"
    return Unavailable(f"The database at {place} cannot be reached: {why}.")


def _place(dsn: str) -> str:
    """Host, port and database of a DSN, for people. A malformed one is not named: its password could be anywhere."""
    try:
        parts = urlsplit(dsn)
        host = parts.hostname or parse_qs(parts.query).get("host", ["localhost"])[0]
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the given address"
    if not parts.scheme or dsn.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment:
        return "the given address"
    return f"{host}{port}{parts.path}"


async def _prepare(connection: Any) -> None:
    peer = connection._transport.get_extra_info("socket")  # asyncpg has no public way to its socket
    if peer is not None and peer.family != socket.AF_UNIX:
        keep_alive(peer)


def keep_alive(peer: Any) -> None:
    """Make the kernel give up on a TCP peer that has gone silent; by default it would wait a quarter of an hour."""
    options = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3}
    options["TCP_USER_TIMEOUT"] = TCP_USER_TIMEOUT_MS
    # A second handle on the same socket: what uvloop hands out has no setsockopt.
    with socket.socket(fileno=os.dup(peer.fileno())) as handle:
        for name, value in options.items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            with suppress(AttributeError, OSError):  # not every platform has every one
                handle.setsockopt(level, getattr(socket, name), value)


async def _no_reset(connection: Any) -> None:
    # The usual reset is a round trip for state that we never leave behind: an open transaction is rolled back
    # by the driver all the same.
    return None


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=1)
    except Exception:
        connection.terminate()


def columns(rows: Iterable[Sequence[Any]], *, width: int = 0) -> list[list[Any]]:
    """Rows turned into the arrays that `unnest` takes; `width` empty ones if there are no rows."""
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(width)]
