"""A real Postgres for the tests of durable channels: one server for the session, an emptied log for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from postgres_server import migrated_postgres

from storage.database import Database
from storage.messages import MessageLog

# The order log refuses to be emptied by anybody who does not say so.
EMPTY_ORDERS = """
ALTER TABLE order_events DISABLE TRIGGER USER;
TRUNCATE order_events, orders, order_names, order_switches;
ALTER TABLE order_events ENABLE TRIGGER USER;
UPDATE order_engine SET epoch = 0, sequence = 0, hash = decode(repeat('00', 32), 'hex');
"""


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    # A busy machine needs longer than a hub would wait: what a statement takes is judged in benchmarks.
    async with Database.open(dsn, command_timeout_s=30) as opened:
        await opened.execute("TRUNCATE channels CASCADE")
        await opened.execute(EMPTY_ORDERS)
        yield opened


@pytest.fixture
def log(database: Database) -> MessageLog:
    return MessageLog(database)
