from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest

from storage.database import Database
from storage.embedded import NICENESS, SOCKET_NAME, EmbeddedPostgres, give_way
from storage.errors import StorageError

pytestmark = pytest.mark.asyncio

HOLDER = """
import asyncio, sys
from pathlib import Path
from storage.embedded import EmbeddedPostgres

async def main():
    async with EmbeddedPostgres(Path(sys.argv[1])) as dsn:
        print(dsn, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def another_process(data_dir: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A process of its own that has the server of `data_dir` open until its stdin is closed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(data_dir)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert (await process.stdout.readline()).startswith(b"postgresql://")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def run(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    return
            except FileNotFoundError:
                return
            await asyncio.sleep(0.01)


async def test_a_second_start_finds_the_data_of_the_first(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as dsn:
        await run(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        pid = postmaster_pid(data_dir)
    await gone(pid)
    async with EmbeddedPostgres(data_dir) as dsn:
        assert await run(dsn, "SELECT answer FROM kept") == 42
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await run(dsn, f"SELECT current_setting('{setting}')") == "on"


async def test_a_killed_process_leaves_data_and_nothing_in_the_way(data_dir: Path) -> None:
    async with another_process(data_dir) as process:
        async with EmbeddedPostgres(data_dir) as dsn:
            await run(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        process.send_signal(signal.SIGKILL)
        await process.wait()
    orphan = postmaster_pid(data_dir)
    async with EmbeddedPostgres(data_dir) as dsn:
        assert postmaster_pid(data_dir) == orphan
        assert await run(dsn, "SELECT answer FROM kept") == 42
    await gone(orphan)


async def test_an_orphan_started_with_other_settings_is_replaced(data_dir: Path) -> None:
    async with another_process(data_dir) as process:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    orphan = postmaster_pid(data_dir)
    opts = data_dir / "postgres" / "postmaster.opts"
    opts.write_text(opts.read_text().replace('"--jit=off"', '"--jit=on"'))
    async with EmbeddedPostgres(data_dir) as dsn:
        assert postmaster_pid(data_dir) != orphan
        assert await run(dsn, "SELECT 1") == 1


async def test_two_processes_share_one_server_and_the_last_one_stops_it(data_dir: Path) -> None:
    async with another_process(data_dir) as process:
        pid = postmaster_pid(data_dir)
        async with EmbeddedPostgres(data_dir) as dsn:
            assert postmaster_pid(data_dir) == pid
        assert await run(dsn, "SELECT 1") == 1
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
        await gone(pid)


async def test_many_who_start_at_once_get_one_server(data_dir: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        dsns = await asyncio.gather(
            *(stack.enter_async_context(EmbeddedPostgres(data_dir)) for _ in range(4)),
        )
        assert len(set(dsns)) == 1
        assert await run(dsns[0], "SELECT 1") == 1


async def test_a_pid_file_whose_pid_now_belongs_to_somebody_else_is_no_obstacle(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir):
        pid_file = data_dir / "postgres" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    async with EmbeddedPostgres(data_dir) as dsn:
        assert await run(dsn, "SELECT 1") == 1


async def test_a_creation_that_was_cut_off_is_begun_again(data_dir: Path) -> None:
    (data_dir / "postgres.new" / "base").mkdir(parents=True)
    (data_dir / "postgres.new" / "PG_VERSION").write_text("18")
    async with EmbeddedPostgres(data_dir) as dsn:
        assert await run(dsn, "SELECT 1") == 1
    assert not (data_dir / "postgres.new").exists()


async def test_a_killed_server_is_started_again_by_its_user(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    async with server as dsn:
        await run(dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert await server.ensure_running() is False
        pid = postmaster_pid(data_dir)
        os.kill(pid, signal.SIGKILL)
        await gone(pid)
        assert await server.ensure_running() is True
        assert await run(dsn, "SELECT answer FROM kept") == 42


async def test_a_deep_data_folder_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 20) / ("deeper" * 10)
    async with EmbeddedPostgres(deep) as dsn:
        assert await run(dsn, "SELECT 1") == 1
        assert not (deep / "postgres" / SOCKET_NAME).exists()


async def test_a_folder_with_a_blank_and_a_percent_sign_works(tmp_path: Path) -> None:
    async with EmbeddedPostgres(tmp_path / "my data 100%") as dsn:
        assert await run(dsn, "SELECT 1") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused what it could do itself")
async def test_root_may_keep_the_data_where_nobody_else_can_go(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with EmbeddedPostgres(closed / "data") as dsn:
        assert await run(dsn, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


async def test_a_data_folder_that_cannot_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        await EmbeddedPostgres(tmp_path / "file" / "data").__aenter__()
    assert str(caught.value) == (
        f"The data folder {tmp_path}/file/data cannot be used for a database: Not a directory."
    )


async def test_a_start_that_is_cancelled_leaves_no_server(data_dir: Path) -> None:
    starting = asyncio.create_task(EmbeddedPostgres(data_dir).__aenter__())
    pid_file = data_dir / "postgres" / "postmaster.pid"
    async with asyncio.timeout(20):
        while not pid_file.exists():
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not pid_file.exists()


async def test_what_can_wait_gives_way_to_all_other_work(tmp_path: Path) -> None:
    async with (
        EmbeddedPostgres(tmp_path) as dsn,
        Database.open(dsn, give_way=give_way) as db,
        db.session(gives_way=True) as patient,
        db.session() as other,
    ):
        processes = [await each.fetchval("SELECT pg_backend_pid()") for each in (patient, other)]
        assert [os.getpriority(os.PRIO_PROCESS, each) for each in processes] == [NICENESS, 0]
