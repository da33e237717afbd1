"""Documents are made of what is there, by whichever embedder answers, and nobody's words are shown without their yes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest_asyncio
from clock import ManualClock

from hub.clock import SystemClock
from hub.insight.embedding.base import EmbedderUnavailable, Kind, Vectors
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.ingestion import BATCH, Ingestion
from protocol.insights import Insight, Observation
from protocol.knowledge import KnowledgeEntry
from storage.consents import Consents
from storage.database import Database
from storage.indexing import INDEX_FROM_ROWS, DocumentWriter, writing
from storage.insights import InsightTable, StoredInsight
from storage.knowledge import KnowledgeTable
from storage.messages import MessageLog, NewMessage

NOW = datetime(2026, 1, 1, tzinfo=UTC)


MANY = """
INSERT INTO documents (kind, reference, channel, timestamp_ms, type, publisher, content, embedding, embedding_model)
SELECT 'insight', n::text, 'insights:a', 1, 'INSIGHT', 'ann', 'old', $2::real[]::halfvec, $3
FROM generate_series(1, $1) AS n
"""


class Model:
    """An embedder of another house, which may be silent; `shown` is all that it was ever shown."""

    kind: Kind = "semantic"
    needs_consent = True
    unrelated, related = 0.1, 0.3

    def __init__(self, name: str = "model") -> None:
        self.name = name
        self.silent = False
        self.shown: list[str] = []

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.silent:
            raise EmbedderUnavailable("silent")
        self.shown += texts
        return HashingEmbedder().embed_now(texts)


@pytest_asyncio.fixture
async def writer(database: Database) -> AsyncIterator[DocumentWriter]:
    async with writing(database) as made:
        assert made is not None
        yield made


async def say(database: Database, *texts: str, publisher: str = "ann", channel: str = "team:a") -> None:
    bodies = [b'"data":{"text":"%s"}' % text.encode() for text in texts]
    await MessageLog(database).append([NewMessage(channel, "NOTE", body, 1, publisher) for body in bodies])


def ingestion(database: Database, embedder: Any = HashingEmbedder()) -> Ingestion:
    return Ingestion(database, embedder, namespaces=["team", "alerts"], clock=ManualClock())


async def work(made: Ingestion, writer: DocumentWriter) -> None:
    await made.look_after(writer)
    while await made.step(writer):
        pass


async def models(database: Database) -> list[tuple[str, str | None]]:
    rows = await database.fetch("SELECT content, embedding_model FROM documents ORDER BY id")
    return [tuple(row) for row in rows]


async def test_a_restart_goes_on_where_the_last_one_stopped(database: Database, writer: DocumentWriter) -> None:
    batch = BATCH["lexical"]
    await say(database, *(str(n) + " times" for n in range(batch + 1)))
    first = ingestion(database)
    assert await first.step(writer)
    second = ingestion(database)
    await work(second, writer)

    assert (first.stored, second.stored) == (batch, 1)
    assert len(await models(database)) == batch + 1


async def test_the_backlog_is_counted(database: Database, writer: DocumentWriter) -> None:
    await say(database, "one", "two")
    made = ingestion(database)
    await made.look_after(writer)
    before = made.behind
    await work(made, writer)

    assert (before, made.behind) == (2, 0)


async def test_only_configured_namespaces_are_read(database: Database, writer: DocumentWriter) -> None:
    await say(database, "secret", channel="orders:ann")
    await work(ingestion(database), writer)

    assert await models(database) == []


async def test_a_silent_model_holds_nothing_up_and_its_vectors_are_made_up_for(
    database: Database, writer: DocumentWriter
) -> None:
    model = Model()
    model.needs_consent = False
    model.silent = True
    made = ingestion(database, model)
    await say(database, "one", "two")
    await work(made, writer)
    meanwhile = await models(database)
    model.silent = False
    await work(made, writer)

    assert meanwhile == [("note: one", None), ("note: two", None)]
    assert await models(database) == [("note: one", "model"), ("note: two", "model")]
    assert (made.embedded, made.stale) == (2, 0)


async def test_after_a_change_of_model_everything_is_embedded_anew_and_the_progress_is_told(
    database: Database, writer: DocumentWriter
) -> None:
    batch = BATCH["semantic"]
    await say(database, *(f"text {n}" for n in range(batch + 5)))
    await work(ingestion(database), writer)
    other = Model("other")
    other.needs_consent = False
    made = ingestion(database, other)
    await made.look_after(writer)
    progress = [(made.stale, made.embedded)]
    while await made.step(writer):
        progress.append((made.stale, made.embedded))

    assert progress == [(batch + 5, 0), (5, batch), (0, batch + 5)]
    assert {model for _, model in await models(database)} == {"other"}


async def test_c90_nobodys_words_are_shown_to_a_model_without_their_consent(
    database: Database, writer: DocumentWriter
) -> None:
    await Consents(database).put("ann", "ai_processing", True, source="cli", now=NOW, by="ann")
    await Consents(database).put("cid", "ai_processing", True, source="cli", now=NOW, by="cid")
    await Consents(database).put("cid", "ai_processing", False, source="cli", now=NOW, by="cid")
    for name in ("ann", "bob", "cid"):
        await say(database, f"said by {name}", publisher=name)
    model = Model()
    await work(ingestion(database, model), writer)

    assert model.shown == ["note: said by ann"]
    assert [name for _, name in await models(database)] == ["model", None, None]


async def test_an_insight_that_was_taken_back_before_it_was_read_is_not_found(
    database: Database, writer: DocumentWriter
) -> None:
    table = InsightTable(database)
    for id, statement in (("old", "it stalls"), ("new", "it goes on")):
        insight = Insight(
            insight_id=id,
            kind="RISK",
            subject="team:a",
            statement=statement,
            evidence=[Observation(ref="1", value="x")],
            confidence=1.0,
            source="llm:oracle",
            generated_at=1,
        )
        stored = StoredInsight(id=id, subject="team:a", upto=1, insight=insight, made_us=1, expires_us=2)
        await table.store(stored, authors=[])
        body = b'"data":{"statement":"%s"}' % statement.encode()
        await MessageLog(database).append([NewMessage("insights:team:a", "INSIGHT", body, 1, "krin", key=id)])
    await table.retract("old", "no", now_us=3)
    await MessageLog(database).append(
        [NewMessage("insights:team:a", "INSIGHT_RETRACTED", b'"data":{"reason":"no"}', 1, "krin", key="old")]
    )
    made = Ingestion(database, HashingEmbedder(), namespaces=["insights"], clock=ManualClock())
    await work(made, writer)

    assert [content for content, _ in await models(database)] == ["insight: it goes on"]


async def test_knowledge_is_found_by_whoever_may_read_its_project(database: Database, writer: DocumentWriter) -> None:
    table = KnowledgeTable(database)
    for project, number in ((None, 1), ("alpha", 2)):
        await table.add(
            KnowledgeEntry(
                entry_id=f"00000000-0000-0000-0000-00000000000{number}",
                kind="BEST_PRACTICE",
                title="Retry with jitter",
                body="Else all come back at once.",
                tags=["retries"],
                project_id=project,
                author="ann",
                added_at=number * 1000,
            )
        )
    await work(ingestion(database), writer)
    rows = await database.fetch(
        "SELECT kind, channel, type, publisher, timestamp_ms, content FROM documents ORDER BY id"
    )

    assert sorted(row["channel"] for row in rows) == ["system:knowledge", "team:alpha"]
    assert {(row["kind"], row["type"], row["publisher"]) for row in rows} == {("knowledge", "BEST_PRACTICE", "")}
    assert "jitter\nretries\nElse" in rows[0]["content"]


async def test_documents_are_made_while_their_index_is_built(database: Database) -> None:
    embedder = HashingEmbedder()
    [vector] = embedder.embed_now(["old"])
    await database.execute(MANY, INDEX_FROM_ROWS, vector.tolist(), embedder.name)
    made = Ingestion(database, embedder, namespaces=["team"], clock=SystemClock())
    async with database.session() as late, asyncio.timeout(30):
        async with late.transaction():
            await late.execute("LOCK TABLE documents IN ROW EXCLUSIVE MODE")  # the build waits for this to end
            running = asyncio.create_task(made.run())
            while not await database.fetch_value("SELECT count(*) FROM pg_index WHERE NOT indisvalid"):
                await asyncio.sleep(0.01)
            await say(database, "new")
            while await database.fetch_value("SELECT count(*) FROM documents WHERE content LIKE '%new'") == 0:
                await asyncio.sleep(0.01)
        while await database.fetch_value("SELECT count(*) FROM pg_index WHERE NOT indisvalid"):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
