"""Bring a database to the schema of this version: numbered SQL files, in order, each once.

A file runs in a transaction with its record in `schema_migrations`, unless its first line is
`-- krin: no-transaction`. Such a file may run again after a crash, so it must be written to allow that.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from importlib import resources
from typing import Any, NamedTuple

import asyncpg  # type: ignore[import-untyped]  # ships neither stubs nor py.typed

from storage import audit
from storage.audit import AuditEntry
from storage.database import Database
from storage.errors import StorageError
from storage.indexing import INDEX_PREFIX

LOCK = 0x6B72696E  # "krin": one node migrates, the others wait and then find nothing to do
NO_TRANSACTION = "-- krin: no-transaction"
FILE_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


class Migration(NamedTuple):
    number: int
    name: str
    sql: str

    @property
    def label(self) -> str:
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def in_transaction(self) -> bool:
        return not self.sql.startswith(NO_TRANSACTION)


def packaged() -> list[Migration]:
    """The migrations that come with this version, in order."""
    found = []
    for file in (resources.files("storage") / "migrations").iterdir():
        if match := FILE_NAME.fullmatch(file.name):
            found.append(Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return sorted(found)


async def migrate(db: Database, migrations: list[Migration] | None = None) -> list[str]:
    """Run what has not run yet and answer the names of it; waits for another node that is migrating.

    Raises:
        StorageError: a migration failed (nothing of it was kept), or one that has run was changed since.
    """
    async with db.session() as session:
        # Asked for again and again, not waited for: a waiting statement holds a snapshot, and an index that is being
        # built concurrently by the holder waits for all older snapshots to go.
        while not await session.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
            await asyncio.sleep(0.05)
        await session.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations (number int PRIMARY KEY, name text NOT NULL,"
            " checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = {row["number"]: row for row in await session.fetch("SELECT * FROM schema_migrations")}
        ran = []
        for migration in packaged() if migrations is None else migrations:
            if migration.number in done:
                _compare(migration, done[migration.number]["checksum"])
                continue
            await _run(session, migration)
            ran.append(migration.label)
        await _rebuild_invalid_indexes(session)
        return ran


def _compare(migration: Migration, checksum: str) -> None:
    if migration.checksum != checksum:
        raise StorageError(
            f"Migration {migration.label} was changed after it ran on this database:"
            " restore the file, and put the change into a new migration."
        )


async def _run(session: Any, migration: Migration) -> None:
    try:
        if migration.in_transaction:
            async with session.transaction():
                await session.execute(migration.sql)
                await _record(session, migration)
        else:
            await session.execute(migration.sql)
            async with session.transaction():
                await _record(session, migration)
    except asyncpg.InsufficientPrivilegeError as error:
        hint = "; a superuser must run CREATE EXTENSION vector once" if "EXTENSION" in migration.sql else ""
        raise StorageError(f"Migration {migration.label} is not permitted: {error}{hint}.") from error
    except asyncpg.FeatureNotSupportedError as error:
        raise StorageError(f"The database server lacks the extension pgvector: {error}.") from error
    except asyncpg.PostgresError as error:
        raise StorageError(f"Migration {migration.label} failed: {error}.") from error


async def _record(session: Any, migration: Migration) -> None:
    record = "INSERT INTO schema_migrations (number, name, checksum) VALUES ($1, $2, $3)"
    await session.execute(record, migration.number, migration.name, migration.checksum)
    if await session.fetchval("SELECT to_regclass('audit_log') IS NOT NULL"):  # from the migration that makes it on
        detail = {"checksum": migration.checksum}
        await audit.append(session, AuditEntry(event="sys_schema_migrated", target=migration.label, detail=detail))


async def _rebuild_invalid_indexes(session: Any) -> None:
    """A CREATE INDEX CONCURRENTLY that was cut off leaves an index that costs every write and serves no query.

    Not those of the documents: `keep_index` builds them while the hub runs and mends what it left. To rebuild one that
    is just being built is a deadlock, each waiting for the other's snapshot.
    """
    leftovers = await session.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname ~ '_ccnew[0-9]*$' AS is_draft"
        " FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        " JOIN pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE NOT i.indisvalid AND n.nspname = current_schema() AND NOT starts_with(c.relname, $1)",
        INDEX_PREFIX,
    )
    for leftover in leftovers:
        # A REINDEX that was cut off leaves a draft of its own beside the index it was to replace.
        verb = "DROP INDEX CONCURRENTLY" if leftover["is_draft"] else "REINDEX INDEX CONCURRENTLY"
        await session.execute(f"{verb} {leftover['name']}")
