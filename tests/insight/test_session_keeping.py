"""Sessions are remembered: made at connect, described, found by their user alone, gone when they have expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from clock import ManualClock

from hub.caller import Caller
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.ingestion import Ingestion
from hub.insight.search.sessions import KEEP_S, LIVES, SessionKeeper
from storage.database import Database
from storage.indexing import writing
from storage.privacy import Privacy
from storage.sessions import DIMENSIONS, Sessions
from storage.users import Users


def connection(user: str, session: str, *channels: str, issued_ms: int = 0) -> Any:
    """As much of a connection as its session is made of."""
    caller = Caller(
        user=user, roles=frozenset(), transport="websocket", kind="dashboard", name="desk", issued_ms=issued_ms
    )
    return SimpleNamespace(
        id=f"{user}-{session}", caller=caller, session=session, subscriptions=dict.fromkeys(channels)
    )


def keeper(database: Database, registry: list[Any], clock: ManualClock) -> SessionKeeper:
    return SessionKeeper(registry, Sessions(database), clock=clock)  # type: ignore[arg-type]  # it is only walked through


async def index(database: Database, clock: ManualClock) -> None:
    ingestion = Ingestion(database, HashingEmbedder(), namespaces=[], clock=clock)
    async with writing(database) as writer:
        assert writer is not None
        while await ingestion.step(writer):
            pass


async def sessions(database: Database) -> list[Any]:
    return await database.fetch(
        "SELECT session_data ->> 'session', ai_insights ->> 'statement', embedding_model FROM ai_enhanced_sessions ORDER BY 1, 2"
    )


async def test_a_session_is_made_described_and_embedded_and_one_that_comes_back_is_the_same(database: Database) -> None:
    clock = ManualClock()
    ann = connection("ann", "s1", "team:a")
    replaced = connection("ann", "s1", "team:a")
    replaced.id = "the one before"
    registry = [replaced, ann, connection("ann", ""), connection("bob", "s1")]
    await keeper(database, registry, clock).look()
    await database.execute('UPDATE ai_enhanced_sessions SET ai_insights = \'{"mood": "calm"}\'')
    await index(database, clock)
    first = await sessions(database)
    kept = await database.fetch("SELECT ai_insights ->> 'mood', vector_dims(embedding) FROM ai_enhanced_sessions")
    await keeper(database, [connection("ann", "s1", "team:a", "alerts:b", "semantic:a+query")], clock).look()
    owed = await sessions(database)
    await index(database, clock)
    documents = await database.fetch("SELECT channel, publisher, content FROM documents ORDER BY channel")

    assert [tuple(each) for each in first] == [
        ("s1", "dashboard desk of ann follows team:a", "hash-1536-v1"),
        ("s1", "dashboard desk of bob follows nothing yet", "hash-1536-v1"),
    ]
    assert [tuple(each) for each in kept] == [("calm", DIMENSIONS)] * 2  # what else is known of it stays
    assert [each[2] for each in owed].count(None) == 1
    assert [tuple(each) for each in documents] == [
        ("sessions:ann", "ann", "dashboard desk of ann follows alerts:b, team:a"),
        ("sessions:bob", "bob", "dashboard desk of bob follows nothing yet"),
    ]


async def test_what_has_not_changed_is_written_again_only_to_live_on(database: Database) -> None:
    clock = ManualClock()
    made = keeper(database, [connection("ann", "s1")], clock)
    expiries = []
    for pause_s in (0, 10, 300):
        clock.advance(pause_s)
        await made.look()
        expiries.append(await database.fetch_value("SELECT expires_at FROM ai_enhanced_sessions"))

    assert [later - expiries[0] for later in expiries] == [timedelta(0), timedelta(0), timedelta(seconds=310)]
    assert expiries[0] == datetime.fromtimestamp(clock.now_ms() / 1000 - 310, UTC) + LIVES


async def test_an_expired_session_is_swept_and_its_document_with_it(database: Database) -> None:
    clock = ManualClock()
    await keeper(database, [connection("ann", "s1")], clock).look()
    await index(database, clock)
    clock.advance(LIVES.total_seconds())
    swept = await Sessions(database).sweep(now=datetime.fromtimestamp(clock.now_ms() / 1000, UTC))

    assert swept == 1
    assert await database.fetch("SELECT FROM documents") == []


async def test_c86_erasing_a_person_erases_their_sessions_with_an_account_and_without(database: Database) -> None:
    clock = ManualClock()
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    await Users(database).create("ann", password_hash=None, roles=["trader"])
    await keeper(database, [connection("ann", "s1"), connection("bob", "s2"), connection("cid", "s3")], clock).look()
    await index(database, clock)
    privacy = Privacy(database, seal=lambda record, owner: b"", own=[], hold_days={})
    for name in ("ann", "bob"):
        await privacy.erase(name, await privacy.begin(name, "erase", now=now), name.encode(), by="root", now=now)

    assert [each[0] for each in await sessions(database)] == ["s3"]
    assert [row[0] for row in await database.fetch("SELECT publisher FROM documents")] == ["cid"]


async def test_c86_whoever_was_erased_a_moment_ago_and_is_still_connected_gets_no_session(database: Database) -> None:
    clock = ManualClock()
    here = keeper(database, [connection("dora", "s1"), connection("emil", "s2")], clock)
    await here.look()
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    privacy = Privacy(database, seal=lambda record, owner: b"", own=[], hold_days={})
    await privacy.erase("dora", await privacy.begin("dora", "erase", now=now), b"dora", by="root", now=now)
    clock.advance(KEEP_S)
    await here.look()
    assert [each[0] for each in await sessions(database)] == ["s2"]

    clock.advance(1)
    await keeper(database, [connection("dora", "s3", issued_ms=clock.now_ms())], clock).look()
    assert [each[0] for each in await sessions(database)] == ["s2", "s3"], "somebody new with the old name"


async def test_c91_a_restricted_person_has_no_sessions_meanwhile(database: Database) -> None:
    clock = ManualClock()
    await database.execute("INSERT INTO restrictions VALUES ('ann', now())")
    await keeper(database, [connection("ann", "s1")], clock).look()

    assert await sessions(database) == []
