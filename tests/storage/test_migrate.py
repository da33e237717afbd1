from __future__ import annotations

import asyncio

import pytest

from storage.database import Database
from storage.errors import StorageError
from storage.indexing import keep_index
from storage.migrate import Migration, migrate, packaged

pytestmark = pytest.mark.asyncio

TABLES = """
SELECT column_name, CASE WHEN data_type = 'USER-DEFINED' THEN format_type(a.atttypid, a.atttypmod) ELSE data_type END,
       character_maximum_length, is_nullable, column_default
FROM information_schema.columns AS c
JOIN pg_attribute AS a ON a.attrelid = c.table_name::regclass AND a.attname = c.column_name
WHERE c.table_name = $1 AND c.table_schema = 'public' ORDER BY ordinal_position
"""


async def test_migrating_twice_runs_each_migration_once(empty_dsn: str) -> None:
    async with Database.open(empty_dsn) as db:
        first = await migrate(db)
        second = await migrate(db)
        recorded = await db.fetch("SELECT number, name, checksum FROM schema_migrations ORDER BY number")
    assert first == [migration.label for migration in packaged()]
    assert second == []
    assert [(row["number"], row["name"], row["checksum"]) for row in recorded] == [
        (migration.number, migration.name, migration.checksum) for migration in packaged()
    ]


async def test_two_nodes_may_migrate_at_once(empty_dsn: str) -> None:
    async with Database.open(empty_dsn) as one, Database.open(empty_dsn) as other, asyncio.timeout(20):
        ran = await asyncio.gather(migrate(one), migrate(other))
    assert sorted(map(len, ran)) == [0, len(packaged())]


async def test_a_migration_that_was_changed_after_it_ran_is_refused(empty_dsn: str) -> None:
    original = Migration(1, "things", "CREATE TABLE things (id int)")
    changed = original._replace(sql="CREATE TABLE things (id bigint)")
    async with Database.open(empty_dsn) as db:
        await migrate(db, [original])
        with pytest.raises(StorageError, match="0001_things was changed after it ran"):
            await migrate(db, [changed])


async def test_a_migration_that_fails_leaves_nothing_behind(empty_dsn: str) -> None:
    broken = Migration(1, "broken", "CREATE TABLE things (id int); SELECT 1 / 0")
    async with Database.open(empty_dsn) as db:
        with pytest.raises(StorageError, match="0001_broken failed: division by zero"):
            await migrate(db, [broken])
        assert await db.fetch_value("SELECT to_regclass('things')") is None
        assert await db.fetch("SELECT * FROM schema_migrations") == []


async def test_an_index_left_invalid_by_an_interrupted_build_is_rebuilt(empty_dsn: str) -> None:
    things = Migration(1, "things", "CREATE TABLE things (id int); INSERT INTO things VALUES (1), (1)")
    index = Migration(2, "index", "-- krin: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY once ON things (id)")
    async with Database.open(empty_dsn) as db:
        with pytest.raises(StorageError):
            await migrate(db, [things, index])
        valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'once'::regclass"
        assert await db.fetch_value(valid) is False
        await db.execute("DELETE FROM things")
        mended = index._replace(sql=index.sql.replace("CONCURRENTLY once", "CONCURRENTLY IF NOT EXISTS once"))
        await migrate(db, [things, mended])
        assert await db.fetch_value(valid) is True


async def test_an_index_that_a_hub_is_building_is_left_to_it(db: Database) -> None:
    async with db.session() as late, asyncio.timeout(20):
        async with late.transaction():
            await late.execute("LOCK TABLE documents IN ROW EXCLUSIVE MODE")  # the build waits for this to end
            build = asyncio.create_task(keep_index(db, "a-model", "hnsw", from_rows=0))
            while not await db.fetch_value("SELECT count(*) FROM pg_index WHERE NOT indisvalid"):
                await asyncio.sleep(0.01)
            assert await migrate(db) == []
        assert await build


async def test_sessions_table_is_the_one_that_was_asked_for(db: Database) -> None:
    now = "timestamp with time zone"
    assert [tuple(row) for row in await db.fetch(TABLES, "ai_enhanced_sessions")] == [
        ("id", "uuid", None, "NO", "gen_random_uuid()"),
        ("user_id", "uuid", None, "NO", None),
        ("session_data", "jsonb", None, "NO", None),
        ("ai_insights", "jsonb", None, "YES", None),
        ("embedding", "vector(1536)", None, "YES", None),
        ("created_at", now, None, "YES", "now()"),
        ("expires_at", now, None, "NO", None),
        ("embedding_model", "text", None, "YES", None),
    ]
    index = await db.fetch_value("SELECT indexdef FROM pg_indexes WHERE indexname = 'idx_sessions_embedding'")
    assert index.endswith("ON public.ai_enhanced_sessions USING ivfflat (embedding vector_cosine_ops)")


async def test_coordination_table_is_the_one_that_was_asked_for(db: Database) -> None:
    assert [tuple(row) for row in await db.fetch(TABLES, "specialist_coordination")] == [
        ("id", "uuid", None, "NO", "gen_random_uuid()"),
        ("project_id", "uuid", None, "NO", None),
        ("specialist_type", "character varying", 100, "NO", None),
        ("action_type", "character varying", 100, "NO", None),
        ("context", "jsonb", None, "NO", None),
        ("ai_analysis", "jsonb", None, "YES", None),
        ("performance_metrics", "jsonb", None, "YES", None),
        ("timestamp", "timestamp with time zone", None, "YES", "now()"),
    ]
