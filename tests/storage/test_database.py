from __future__ import annotations

import asyncio
import os
import signal
import socket
import traceback
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest

from storage.database import TCP_USER_TIMEOUT_MS, Database, is_outcome_unknown, keep_alive, translated
from storage.embedded import EmbeddedPostgres
from storage.errors import Busy, Conflict, OutcomeUnknown, Rejected, StorageError, Unavailable
from storage.messages import MessageLog, NewMessage, Stored
from storage.migrate import migrate

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("postgresql://krin:s3cret@127.0.0.1:1/krin", "127.0.0.1:1/krin"),
        ("postgresql://krin:s3cret@nowhere.invalid/krin", "nowhere.invalid/krin"),
        ("postgresql://krin:s3cret@/krin?host=%2Fnowhere", "/nowhere/krin"),
        ("postgresql://krin:s3cret@s3cret/s3cret@127.0.0.1:1/krin", "the given address"),
        ("postgresql://krin:s3cret?@127.0.0.1:1/krin", "the given address"),
        ("s3cret", "the given address"),
    ],
)
async def test_an_unreachable_database_is_one_sentence_without_the_password(address: str, place: str) -> None:
    with pytest.raises(StorageError) as caught:
        async with Database.open(address, connect_timeout_s=2):
            pass
    said = str(caught.value)
    assert said.startswith(f"The database at {place} cannot be reached: ")
    assert "\n" not in said
    # What a traceback prints is this error alone: the driver's would bring the DSN.
    assert "s3cret" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


async def test_what_the_server_says_about_a_statement_is_known(db: Database) -> None:
    await db.execute("CREATE TABLE things (id int PRIMARY KEY)")
    await db.execute("INSERT INTO things VALUES (1)")
    with pytest.raises(Conflict):
        await db.execute("INSERT INTO things VALUES (1)")
    with pytest.raises(Rejected):
        await db.execute("INSERT INTO things VALUES ($1)", 2**40)
    with pytest.raises(Rejected):
        await db.fetch_value("SELECT $1::text", "a\0b")
    with pytest.raises(Unavailable):
        async with db.connection() as connection:
            await connection.execute("SET statement_timeout = 10; SELECT pg_sleep(5)")


async def test_a_backend_that_dies_under_a_statement_leaves_the_outcome_unknown(db: Database) -> None:
    with pytest.raises(OutcomeUnknown):
        await db.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    await db.ping()


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (asyncpg.ConnectionDoesNotExistError("lost"), True),
        (asyncpg.InterfaceError("cannot call Transaction.__aexit__()"), True),
        (asyncpg.AdminShutdownError("bye"), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncpg.DataError("bad"), False),
        (asyncpg.UniqueViolationError("twice"), False),
        (asyncpg.CannotConnectNowError("starting"), False),
        (asyncpg.QueryCanceledError("statement timeout"), False),
        (asyncpg.DeadlockDetectedError("deadlock"), False),
    ],
)
async def test_only_the_servers_own_word_makes_an_outcome_known(error: Exception, unknown: bool) -> None:
    assert is_outcome_unknown(error) is unknown
    assert isinstance(translated(error), OutcomeUnknown) is unknown


async def test_an_error_of_the_caller_passes_through_unchanged(db: Database) -> None:
    with pytest.raises(KeyError):
        async with db.connection():
            raise KeyError("mine")
    await db.ping()


async def test_waiting_for_a_connection_is_bounded(dsn: str) -> None:
    async with Database.open(dsn, max_size=1, acquire_timeout_s=0.05) as db, db.connection():
        with pytest.raises(Busy):
            await db.ping()


async def test_a_server_that_never_answers_costs_one_command_timeout(dsn: str) -> None:
    async with Database.open(dsn, command_timeout_s=0.3) as db, Database.open(dsn) as other:
        loop = asyncio.get_running_loop()
        async with db.connection() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(pid, signal.SIGSTOP)
        try:
            began = loop.time()
            with pytest.raises(OutcomeUnknown):
                await db.ping()
            assert loop.time() - began < 1.0
            await db.ping()  # on a new connection
        finally:
            os.kill(pid, signal.SIGCONT)
        await other.ping()


async def test_the_writer_reopens_its_connection_after_a_failure(db: Database) -> None:
    async with db.writer() as writer:
        pid = await writer.fetch_value("SELECT pg_backend_pid()")
        with pytest.raises(OutcomeUnknown):
            await writer.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert await writer.fetch_value("SELECT pg_backend_pid()") != pid


async def test_durability_settings_are_on_or_refused(db: Database) -> None:
    settings = await db.durability_settings()
    assert settings == dict.fromkeys(["fsync", "synchronous_commit", "full_page_writes", "data_checksums"], "on")


async def test_a_database_that_may_lose_commits_is_refused(dsn: str) -> None:
    async with Database.open(dsn) as db:
        name = await db.fetch_value("SELECT current_database()")
        await db.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with Database.open(dsn) as db:
        with pytest.raises(StorageError, match="has synchronous_commit off"):
            await db.durability_settings()


async def test_everything_heals_when_postgres_is_killed_and_comes_back(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    async with server as dsn, Database.open(dsn) as db, db.writer() as writer:
        await migrate(db)
        log = MessageLog(db, writer=writer)

        async def append(key: str) -> object:
            return (await log.append([NewMessage("orders:a", "O", b"{}", 1, "p", idempotency_key=key)]))[0]

        assert isinstance(await append("before"), Stored)
        os.kill(int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        during = await append("during")
        assert isinstance(during, Stored | OutcomeUnknown | Unavailable)
        async with asyncio.timeout(20):
            while not await server.ensure_running():
                await asyncio.sleep(0.01)
            while not isinstance(await append("during"), Stored):
                await asyncio.sleep(0.01)
        await db.ping()
        assert [found.offset for found in await log.read("orders:a", after=0, limit=10)] == [1, 2]


async def test_tcp_connections_notice_a_silent_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        keep_alive(peer)
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == TCP_USER_TIMEOUT_MS


async def test_a_pool_that_is_warmed_has_its_connections_open_before_anybody_needs_them(dsn: str) -> None:
    opened = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    async with Database.open(dsn, max_size=6) as database:
        before = await database.fetch_value(opened)
        await database.warm()
        assert await database.fetch_value(opened) == before + 2
