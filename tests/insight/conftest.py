"""A real Postgres for what is found and kept: one server for the session, emptied for each test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate

EMPTY = """
TRUNCATE channels, messages, documents, document_positions, document_requests, knowledge_entries, consents,
    ai_enhanced_sessions, restrictions, revocations, jobs, model_spending, insights, insight_feedback, error_groups CASCADE
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
    async with Database.open(dsn, command_timeout_s=30) as opened:
        await opened.execute(EMPTY)
        yield opened
