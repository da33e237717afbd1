"""The database of a node: also of a command that needs nothing else of the hub."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from hub.config import Settings
from storage.database import Database, Heard
from storage.embedded import EmbeddedPostgres, give_way
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
        if (dsn := settings.database_url) is None:
            embedded = EmbeddedPostgres(settings.data_dir)
            opened = Database.open(await inner.enter_async_context(embedded), heard=heard, give_way=give_way)
        else:
            opened = Database.open(dsn, heard=heard)
        database = await inner.enter_async_context(opened)
        if ran := await migrate(database):
            logger.info("the database was migrated: %d steps, to %s", len(ran), ran[-1])
        await database.durability_settings()
        if (restored := await verify_lineage(database)) is not None:
            logger.warning("the database was restored (%s, now %s): every channel has a new epoch", *restored)
        yield database, embedded
