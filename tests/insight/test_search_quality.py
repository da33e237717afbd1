"""How good the rankings are: over the labelled set with both kinds of embedder, and against an exact search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from clock import ManualClock
from labelled import TOPICS
from openai_server import openai_server
from test_openai_embedder import embedder

from hub.audit.reads import Reads
from hub.caller import Caller
from hub.channels.access import Access
from hub.insight.embedding.base import Embedder
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.service import SearchService
from hub.namespaces import Namespaces
from protocol.messages import Search, SearchMode
from storage.consents import Consents
from storage.database import Database
from storage.indexing import Embedded, NewDocument, keep_index, writing
from storage.vectors import DIMENSIONS, Documents, Scope

MODES: tuple[SearchMode, ...] = ("semantic", "text", "hybrid")
ANN = Caller(user="ann", roles=frozenset({"admin"}), transport="rest")
CLUSTERS, ROWS, QUERIES, K = 100, 3000, 30, 10


def document(number: int, text: str, channel: str = "alerts:a") -> NewDocument:
    return NewDocument("message", str(number), channel, number, "ALERT", "ann", text)


def ndcg(hits: Sequence[str], wanted: Sequence[str]) -> float:
    """Of the first ten, all answers being worth the same."""
    gained = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits[:10]) if hit in wanted)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(10, len(wanted))))


async def quality(database: Database, embedder: Embedder) -> dict[str, float]:
    """Mean nDCG@10 by mode."""
    texts = [text for said, _ in TOPICS for text in said]
    async with writing(database) as writer:
        assert writer is not None
        vectors = [*await embedder.embed(texts)]
        await writer.store([document(*each) for each in enumerate(texts)], Embedded(embedder.name, vectors))
    namespaces = Namespaces()
    access = Access(namespaces, report=lambda event: None)
    reads = Reads(report=lambda event: None, clock=ManualClock())
    searches = SearchService(
        Documents(database), embedder, Consents(database), namespaces=namespaces, access=access, reads=reads
    )

    async def hits(query: str, mode: SearchMode) -> list[str]:
        found = await searches.search(Search(id=1, query=query, mode=mode, channel="alerts:a"), ANN)
        return [texts[hit.timestamp] for hit in found.hits]

    questions = [(question, said) for said, asked in TOPICS for question in asked]
    assert len(questions) >= 60
    return {
        mode: float(np.mean([ndcg(await hits(question, mode), said) for question, said in questions])) for mode in MODES
    }


async def test_offline_hybrid_is_at_least_as_good_as_the_better_of_its_halves(database: Database) -> None:
    reached = await quality(database, HashingEmbedder())

    assert reached["hybrid"] >= max(reached["semantic"], reached["text"]), reached
    assert reached["hybrid"] > 0.5, reached  # half of the questions are asked in other words, which nobody here knows


async def test_with_a_model_hybrid_is_at_least_as_good_as_the_better_of_its_halves(database: Database) -> None:
    async with openai_server() as server:
        made = embedder(server, needs_consent=False)
        reached = await quality(database, made)
        await made.close()

    assert reached["hybrid"] >= max(reached["semantic"], reached["text"]), reached
    assert reached["hybrid"] > 0.9, reached


@pytest.mark.parametrize("kind", ["hnsw", "ivfflat"])
async def test_the_index_finds_what_an_exact_search_finds(database: Database, kind: Any) -> None:
    """`python -m benchmarks search` measures the same with 50,000 rows."""
    documents = Documents(database)
    vectors, queries = clustered(np.random.default_rng(7))
    async with writing(database) as writer:
        assert writer is not None
        assert not await keep_index(database, "m", kind, from_rows=ROWS)
        for start in range(0, ROWS, 1000):
            rows = range(start, start + 1000)
            made = [document(n, "x", f"team:{'few' if n % 20 == 0 else 'many'}") for n in rows]
            await writer.store(made, Embedded("m", [*vectors[start : start + 1000]]))
        assert await keep_index(database, "m", kind, from_rows=ROWS)
        assert not await keep_index(database, "m", kind, from_rows=ROWS)
    recalls: dict[str, list[float]] = {}
    for scope in (Scope(prefixes=("team:",)), Scope(names=("team:few",))):
        for query in queries:
            exact, found = [
                await documents.nearest(query.tolist(), "m", scope, above=-1.0, limit=K, exact=exact)
                for exact in (True, False)
            ]
            recalls.setdefault(str(scope), []).append(len({*exact} & {*found}) / K)
    plan = await database.fetch(
        "EXPLAIN SELECT id FROM documents WHERE embedding_model = 'm' ORDER BY embedding <=> $1::real[]::halfvec LIMIT 9",
        queries[0].tolist(),
    )

    assert f"documents_near_{kind}" in str(plan)
    assert [float(np.mean(each)) >= 0.95 for each in recalls.values()] == [True, True], recalls


async def test_what_is_new_and_like_nothing_else_is_found_beside_the_index(database: Database) -> None:
    """Of 1,000 copies each has copies alone for its neighbours: none leads to what is not like them."""
    alike, other = np.eye(2, DIMENSIONS, dtype=np.float32)
    async with writing(database) as writer:
        assert writer is not None
        await writer.store([document(n, "x") for n in range(1000)], Embedded("m", [alike] * 1000))
        assert await keep_index(database, "m", "hnsw", from_rows=1000)
        await writer.store([document(1000, "another")], Embedded("m", [other]))
    everything = Scope(prefixes=("alerts:",))
    found = await Documents(database).nearest(other.tolist(), "m", everything, above=0.5, limit=K, exact=False)
    newest = await Documents(database).newest()

    assert found == [newest]


def clustered(random: np.random.Generator) -> tuple[Any, Any]:
    """Vectors as texts have them: many about few things. Pure noise has no near neighbours to find."""
    centres = random.normal(size=(CLUSTERS, DIMENSIONS))

    def near(count: int) -> Any:
        rows = centres[random.integers(CLUSTERS, size=count)] + 0.7 * random.normal(size=(count, DIMENSIONS))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return near(ROWS), near(QUERIES)
