"""A real Postgres for the tests of durable channels: one server for the session, an emptied log for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.messages import MessageLog
from storage.migrate import migrate

# The order log refuses to be emptied by anybody who does not say so.
EMPTY_ORDERS = """
ALTER TABLE order_events DISABLE TRIGGER USER;
TRUNCATE order_events, orders, order_names, order_switches;
ALTER TABLE order_events ENABLE TRIGGER USER;
UPDATE order_engine SET epoch = 0, sequence = 0, hash = decode(repeat('00', 32), 'hex');
"""


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    embedded = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    address = asyncio.run(embedded.__aenter__())

    async def prepare() -> None:
        async with Database.open(address) as database:
            await migrate(database)

    try:
        asyncio.run(prepare())
        yield address
    finally:
        asyncio.run(embedded.__aexit__(None, None, None))


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database.open(dsn) as opened:
        await opened.execute("TRUNCATE channels CASCADE")
        await opened.execute(EMPTY_ORDERS)
        yield opened


@pytest.fixture
def log(database: Database) -> MessageLog:
    return MessageLog(database)
