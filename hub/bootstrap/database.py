"""The database of a node: also of a command that needs nothing else of the hub."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from hub.config import Settings
from storage.database import Database, Heard
from storage.embedded import EmbeddedPostgres
from storage.lineage import verify_lineage
from storage.migrate import migrate

logger = logging.getLogger("krin")


@asynccontextmanager
async def open_database(
    settings: Settings, *, heard: Heard | None = None
) -> AsyncIterator[tuple[Database, EmbeddedPostgres | None]]:
    """The configured Postgres, or the embedded one of the data folder; migrated and checked for durability."""
    embedded = None
    async with AsyncExitStack() as inner:
        dsn = settings.database_url
        if dsn is None:
            embedded = EmbeddedPostgres(settings.data_dir)
            dsn = await inner.enter_async_context(embedded)
        database = await inner.enter_async_context(Database.open(dsn, heard=heard))
        if ran := await migrate(database):
            logger.info("the database was migrated: %d steps, to %s", len(ran), ran[-1])
        await database.durability_settings()
        if (restored := await verify_lineage(database)) is not None:
            logger.warning("the database was restored (%s, now %s): every channel has a new epoch", *restored)
        yield database, embedded
