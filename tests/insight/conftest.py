"""A real Postgres for what is found and kept: one server for the session, emptied for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from postgres_server import migrated_postgres

from storage.database import Database

EMPTY = """
TRUNCATE channels, messages, documents, document_positions, document_requests, knowledge_entries, consents,
    ai_enhanced_sessions, restrictions, revocations, jobs, model_spending, insights, insight_feedback, error_groups CASCADE
"""


@pytest.fixture(scope="session")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest_asyncio.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with Database.open(dsn, command_timeout_s=30) as opened:
        await opened.execute(EMPTY)
        yield opened
