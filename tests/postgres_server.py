"""A real Postgres with all tables, for the tests of one folder."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.migrate import migrate


@contextmanager
def migrated_postgres(folder: Path) -> Iterator[str]:
    """Yields its address."""
    embedded = EmbeddedPostgres(folder)
    address = asyncio.run(embedded.__aenter__())

    async def prepare() -> None:
        async with Database.open(address) as database:
            await migrate(database)

    try:
        asyncio.run(prepare())
        yield address
    finally:
        asyncio.run(embedded.__aexit__(None, None, None))
