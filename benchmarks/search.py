"""How fast and how complete a search is, and what making documents costs those who only listen."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import krin
from benchmarks.histogram import Histogram
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.results import record
from benchmarks.runner import run_load, server_cores
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.indexing import DocumentWriter, Embedded, NewDocument, keep_index, writing
from storage.migrate import migrate
from storage.vectors import DIMENSIONS, Documents, Scope

MODEL = "bench"
TOPICS = 500
SPREAD = 0.7  # of a topic, in units of the distance between topics
K = 10
BATCH = 500
EVERYTHING = Scope(prefixes=("team:",))
ONE_PERCENT = Scope(names=("team:few",))
MARGIN_S = 90.0

Vectors = NDArray[np.float32]


def search(*, rows: int = 50_000, queries: int = 200) -> dict[str, Any]:
    """An index that searches on against comparing with every vector: all may be read, and one document in a hundred."""
    with krin.workplace() as folder:
        figures = asyncio.run(_measured(EmbeddedPostgres(folder), rows, queries))
    return record("search", f"search-{rows}", {"rows": rows, "queries": queries, "k": K}, figures)


async def _measured(postgres: EmbeddedPostgres, rows: int, queries: int) -> dict[str, Any]:
    random = np.random.default_rng(7)
    centres = random.normal(size=(TOPICS, DIMENSIONS)).astype(np.float32)
    async with postgres as dsn, Database.open(dsn, command_timeout_s=60) as database:
        await migrate(database)
        async with writing(database) as writer:
            assert writer is not None
            began = time.perf_counter()
            await _fill(writer, rows, centres, random)
            stored = time.perf_counter()
            await keep_index(database, MODEL, "hnsw", from_rows=0)
            figures: dict[str, Any] = {"store_s": round(stored - began, 1)}
            figures["build_s"] = round(time.perf_counter() - stored, 1)
        await database.execute("ANALYZE documents")
        asked = _near(centres, queries, random)
        documents = Documents(database)
        for name, scope in (("all", EVERYTHING), ("one_percent", ONE_PERCENT)):
            figures |= {f"{key}_{name}": value for key, value in (await _compared(documents, scope, asked)).items()}
    return figures


async def _fill(writer: DocumentWriter, rows: int, centres: Vectors, random: np.random.Generator) -> None:
    for start in range(0, rows, BATCH):
        made = [
            NewDocument(
                kind="message",
                reference=str(number),
                channel="team:few" if number % 100 == 0 else "team:many",
                timestamp_ms=number,
                type="NOTE",
                publisher="bench",
                content="words",
            )
            for number in range(start, min(start + BATCH, rows))
        ]
        await writer.store(made, Embedded(MODEL, [*_near(centres, len(made), random)]))


async def _compared(documents: Documents, scope: Scope, asked: Vectors) -> dict[str, Any]:
    """Recall of the index, and milliseconds of both ways and of the one that a search takes."""
    recalls = []
    times = {"exact": Histogram(), "index": Histogram(), "search": Histogram()}
    for query in asked:
        found = {}
        for way, exact in (("exact", True), ("index", False), ("search", None)):
            began = time.perf_counter_ns()
            found[way] = await documents.nearest(query.tolist(), MODEL, scope, above=-1.0, limit=K, exact=exact)
            times[way].record(time.perf_counter_ns() - began)
        recalls.append(len({*found["exact"]} & {*found["index"]}) / K)
    milliseconds = {
        f"{way}_ms": {"p50": round(each.quantile(0.5) / 1e6, 2), "p95": round(each.quantile(0.95) / 1e6, 2)}
        for way, each in times.items()
    }
    return {"recall": round(float(np.mean(recalls)), 4), **milliseconds}


def _near(centres: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """Vectors as texts have them: many about few things. Among pure noise nothing is near."""
    noise = random.normal(size=(count, DIMENSIONS)).astype(np.float32)
    rows = centres[random.integers(len(centres), size=count)] + SPREAD * noise
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def ingest(
    *, subscribers: int = 1000, rate: float = 100, messages: float = 5000, rounds: int = 6, seconds: float = 10
) -> dict[str, Any]:
    """Prices to N subscribers while `messages`/s of durable ones come in, with documents made of them and without."""
    p99: dict[str, list[float]] = {"without": [], "with": []}
    documents = 0.0
    for _ in range(rounds):
        for which in p99:
            figures = _broadcast(subscribers, rate, messages, seconds, documents=which == "with")
            p99[which].append(figures["latency_ms"]["p99"])
            documents += figures.pop("documents")
    medians = {which: float(np.median(each)) for which, each in p99.items()}
    figures |= {
        "p99_ms_without": p99["without"],
        "p99_ms_with": p99["with"],
        "p99_ratio": round(medians["with"] / medians["without"], 3),
        "documents_per_s": round(documents / rounds / seconds, 1),
    }
    parameters = {
        "subscribers": subscribers,
        "rate": rate,
        "messages_per_s": messages,
        "rounds": rounds,
        "seconds": seconds,
    }
    return record("ingest", f"ingest-{subscribers}x{rate:g}-{messages:g}", parameters, figures)


def _broadcast(subscribers: int, rate: float, messages: float, seconds: float, *, documents: bool) -> dict[str, Any]:
    with krin.workplace() as folder:
        config = folder / "search.toml"
        config.write_text("" if documents else "[search]\nnamespaces = []\n")
        with krin.hub(folder, on=server_cores(), options=("--config", str(config))) as node:
            target = node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"])
            agent = node.token("agent", "agent")
            # Readers follow message 1 of each stream: the durable ones have but one, and nobody reads it.
            prices = [krin.tick("ETH-USD"), krin.tick("BTC-USD")]
            reports = [node.stream(agent, [krin.update(f"bench{n}")], messages / 4, batch=True) for n in range(4)]
            plan = FanoutPlan(
                audience=Audience(targets=[target], count=subscribers, follows=[[1]]),
                streams=[node.stream(node.token("feed", "feed"), prices, 2 * rate), *reports],
                seconds=seconds,
                pids=[node.pid],
            )
            figures = run_load(plan, title="ingest", limit_s=seconds + MARGIN_S)
            figures["documents"] = node.metrics().get("krin_documents_stored_total", 0)
    return figures
