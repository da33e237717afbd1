"""One embedded Postgres for the session, and a database of its own, already migrated, for each test."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import pytest
import pytest_asyncio

from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.messages import MessageLog
from storage.migrate import migrate

TEMPLATE = "krin_template"


@dataclass
class Server:
    dsn: str
    numbers: Iterator[int]

    async def create_database(self, template: str) -> str:
        """A new database as a copy of `template`; answers its DSN."""
        name = f"test_{next(self.numbers)}"
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        finally:
            await connection.close()
        return self.address(name)

    def address(self, database: str) -> str:
        return self.dsn.replace("/postgres?", f"/{database}?", 1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("krin"))
    found = Server(asyncio.run(embedded.__aenter__()), itertools.count())
    try:
        asyncio.run(_make_template(found))
        yield found
    finally:
        asyncio.run(embedded.__aexit__(None, None, None))


async def _make_template(server: Server) -> None:
    connection = await asyncpg.connect(server.dsn)
    await connection.execute(f"CREATE DATABASE {TEMPLATE}")
    await connection.close()
    async with Database.open(server.address(TEMPLATE)) as db:
        await migrate(db)


@pytest_asyncio.fixture
async def dsn(server: Server) -> str:
    """The address of a migrated database that nobody else uses."""
    return await server.create_database(TEMPLATE)


@pytest_asyncio.fixture
async def empty_dsn(server: Server) -> str:
    return await server.create_database("template1")


@pytest_asyncio.fixture
async def db(dsn: str) -> AsyncGenerator[Database]:
    async with Database.open(dsn, max_size=8, command_timeout_s=30) as database:
        yield database


@pytest_asyncio.fixture
async def log(db: Database) -> MessageLog:
    return MessageLog(db)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture(scope="session")
def new_database(server: Server) -> Callable[[], Awaitable[str]]:
    """Makes a migrated database: for a property, which needs one per example."""
    return lambda: server.create_database(TEMPLATE)
