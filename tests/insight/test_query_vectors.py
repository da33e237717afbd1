"""A query's vector is made once for whoever asks, in advance where it can be guessed, and never against his will."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from clock import ManualClock

from hub.audit.reads import Reads
from hub.caller import Caller
from hub.channels.access import Access
from hub.insight.caching.cache import Cache
from hub.insight.caching.lifetime import FIRST_S
from hub.insight.caching.prefetching import Markov
from hub.insight.caching.store import MemoryStore
from hub.insight.embedding.base import EmbedderUnavailable, Kind, Vectors
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.queries import QueryVectors
from hub.insight.search.service import MAX_ASKING, SearchService
from hub.namespaces import Namespaces
from hub.observe.requests import served
from protocol.messages import Search
from storage.consents import Consents
from storage.database import Database
from storage.vectors import Documents

ANN = Caller(user="ann", roles=frozenset({"trader"}), transport="rest")
BOB = Caller(user="bob", roles=frozenset({"trader"}), transport="rest")


class Model(HashingEmbedder):
    """Somebody else's: it needs consent, costs something, and is counted."""

    kind: Kind = "semantic"
    needs_consent = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.down:
            raise EmbedderUnavailable("the model does not answer")
        self.asked += texts
        await self.answers.wait()
        return await super().embed(texts)


class RecordingStore(MemoryStore):
    """Remembers under which key it was last given something."""

    key = ""

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self.key = key
        await super().put(key, value, ttl_s=ttl_s)


class Desk:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.model = Model()
        self.store = RecordingStore(clock=self.clock)
        self.markov = Markov()
        cache = Cache("query", self.store, clock=self.clock)
        self.queries = QueryVectors(self.model, cache, markov=self.markov, clock=self.clock)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_vector_is_made_once_for_each_who_asks(desk: Desk) -> None:
    """How quickly an answer comes would tell what another searches for."""
    first = await desk.queries.of("margin calls", ANN)
    assert await desk.queries.of("margin calls", ANN) == first
    assert desk.model.asked == ["margin calls"]
    assert await desk.queries.of("margin calls", BOB) == first
    assert desk.model.asked == ["margin calls"] * 2
    assert np.linalg.norm(first) == pytest.approx(1.0)


async def test_the_request_hears_whether_it_was_kept(desk: Desk) -> None:
    heard = []
    for query in ("a", "a", "b"):
        with served(desk.clock) as request:
            await desk.queries.of(query, ANN)
            heard.append(request.measured()["cache"])
    assert heard == ["miss", "hit", "miss"]


async def test_an_old_vector_serves_while_the_model_is_away(desk: Desk) -> None:
    first = await desk.queries.of("margin calls", ANN)
    desk.clock.advance(FIRST_S + 1)
    desk.model.down = True
    assert await desk.queries.of("margin calls", ANN) == first
    with pytest.raises(EmbedderUnavailable):
        await desk.queries.of("something else", ANN)


async def test_what_a_dashboard_asks_next_is_there_before_it_asks(desk: Desk) -> None:
    panels = ("orders stuck", "agents blocked", "risk alerts")
    for _ in range(4):
        for panel in panels:
            await desk.queries.of(panel, ANN)
    desk.clock.advance(30 * 3600)  # a night: nothing is kept
    desk.model.asked.clear()
    async with asyncio.timeout(5):
        running = asyncio.ensure_future(desk.queries.run())
        for place, panel in enumerate(panels):
            await desk.queries.of(panel, ANN)
            while len(desk.model.asked) < min(place + 2, len(panels)):
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    assert desk.model.asked == list(panels)  # each once, and the second and third in advance
    assert desk.markov.hits >= 2


async def test_habits_of_one_say_nothing_of_another(desk: Desk) -> None:
    for _ in range(4):
        for query in "ab":
            await desk.queries.of(query, ANN)
    guesses = desk.markov.guesses
    for query in "ab":
        await desk.queries.of(query, BOB)
    assert guesses > 0
    assert desk.markov.guesses == guesses


async def test_what_is_no_vector_is_not_believed(desk: Desk) -> None:
    first = await desk.queries.of("margin calls", ANN)
    key = desk.store.key
    kept = await desk.store.get(key)
    assert kept is not None
    for forged in (kept[:16], kept[:-1], kept[:16] + np.full(len(first), np.nan, "<f4").tobytes(), b"x"):
        await desk.store.put(key, forged, ttl_s=60)
        assert await desk.queries.of("margin calls", ANN) == first


def searches_of(desk: Desk, database: Database) -> SearchService:
    namespaces = Namespaces()
    return SearchService(
        Documents(database),
        desk.model,
        Consents(database),
        namespaces=namespaces,
        access=Access(namespaces, report=lambda event: None),
        reads=Reads(report=lambda event: None, clock=desk.clock),
        queries=desk.queries,
    )


async def test_a_model_that_is_silent_holds_up_no_search_by_words(desk: Desk, database: Database) -> None:
    desk.model.needs_consent = False
    desk.model.answers.clear()
    searches = searches_of(desk, database)
    waiting = [asyncio.create_task(searches.vector(f"query {n}", ANN)) for n in range(MAX_ASKING)]
    hybrid = [asyncio.create_task(searches.search(Search(id=1, query=f"query {n}"), ANN)) for n in range(8)]
    async with asyncio.timeout(30):
        while len(desk.model.asked) < MAX_ASKING:
            await asyncio.sleep(0)
        by_words = await searches.search(Search(id=1, query="margin", mode="text"), ANN)
        degraded = [await each for each in hybrid]
        desk.model.answers.set()
        vectors = [await each for each in waiting]

    assert by_words.degraded is None
    assert {each.mode for each in degraded} == {"text"}
    assert all(each.degraded and "asked too much at once" in each.degraded for each in degraded)
    assert len(vectors) == MAX_ASKING


async def test_who_waits_no_longer_leaves_the_question_to_be_answered(desk: Desk, database: Database) -> None:
    """So that what asks the model learns how it is, and the next one finds the answer."""
    desk.model.needs_consent = False
    desk.model.answers.clear()
    searches = searches_of(desk, database)
    gone = asyncio.create_task(searches.vector("margin calls", ANN))
    async with asyncio.timeout(30):
        while not desk.model.asked:
            await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait([gone])
        desk.model.answers.set()
        while not await desk.store.get(desk.store.key):
            await asyncio.sleep(0)
        await searches.vector("margin calls", ANN)

    assert desk.model.asked == ["margin calls"]


async def test_c90_what_is_kept_is_not_used_without_consent(desk: Desk, database: Database) -> None:
    searches = searches_of(desk, database)
    await desk.queries.of("margin calls", ANN)
    with pytest.raises(EmbedderUnavailable, match="agreed"):
        await searches.vector("margin calls", ANN)
