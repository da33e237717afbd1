"""Searching with somebody's rights: exactly what they may read is found, through every mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from doubles import caller
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_readable import CALLERS, WORDS

from hub.audit.reads import Reads
from hub.caller import Caller
from hub.channels.access import Access
from hub.guard.events import SecurityEvent
from hub.insight.embedding.base import EmbedderUnavailable, Kind, Vectors
from hub.insight.embedding.hashing import HashingEmbedder
from hub.insight.search.ingestion import Ingestion
from hub.insight.search.service import SearchService
from hub.namespaces import Namespace, Namespaces
from protocol.errors import ErrorCode, HubError
from protocol.messages import Search
from storage.consents import Consents
from storage.database import Database
from storage.indexing import writing
from storage.messages import MessageLog, NewMessage
from storage.vectors import Documents

NAMESPACES = Namespaces(
    {
        "team": Namespace(promise="durable", subscribe=("agent:team", "*:role")),
        "tea": Namespace(promise="durable", subscribe=("trader",), tenant_scoped=True),
        "desk": Namespace(promise="durable", subscribe=("trader:own", "agent:team"), tenant_scoped=True),
        "orders": Namespace(promise="durable", subscribe=("trader:own",), audit_reads=True),
    }
)
EVERY_CHANNEL = [
    f"{prefix}:{name}"
    for prefix, _ in NAMESPACES.items()
    for name in (*WORDS, *(f"{a}/{b}" for a in WORDS for b in WORDS))
]
SECRET = "the breaker opened"


def readable_by(who: Caller) -> set[str]:
    access = Access(NAMESPACES, report=lambda event: None)
    return {each for each in EVERY_CHANNEL if access.decide(who, "subscribe", each).allowed}


class Mute:
    """An embedder whose model does not answer."""

    name, unrelated, related = "mute", 0.1, 0.3
    kind: Kind = "semantic"
    needs_consent = False

    async def embed(self, texts: Any) -> Vectors:
        raise EmbedderUnavailable("the model does not answer")


@pytest_asyncio.fixture
async def everywhere(database: Database) -> AsyncIterator[Database]:
    """One message in every channel."""
    await database.execute("TRUNCATE messages, documents, document_positions, document_requests")
    body = b'"data":{"text":"%s"}' % SECRET.encode()
    await MessageLog(database).append([NewMessage(each, "NOTE", body, 1, "ann") for each in EVERY_CHANNEL])
    ingestion = Ingestion(database, HashingEmbedder(), namespaces=[*dict(NAMESPACES.items())], clock=ManualClock())
    async with writing(database) as writer:
        assert writer is not None
        while await ingestion.step(writer):
            pass
    yield database


def service(database: Database, embedder: Any = HashingEmbedder(), events: list[SecurityEvent] | None = None) -> Any:
    report = [].append if events is None else events.append
    access = Access(NAMESPACES, report=report)
    reads = Reads(report=report, clock=ManualClock())
    made = SearchService(
        Documents(database), embedder, Consents(database), namespaces=NAMESPACES, access=access, reads=reads
    )
    made.reads = reads  # type: ignore[attr-defined]  # for the test that looks at them
    return made


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(who=CALLERS, mode=st.sampled_from(("semantic", "text", "hybrid")))
async def test_c64_whatever_is_granted_a_search_finds_what_may_be_read_and_nothing_else(
    everywhere: Database, who: Caller, mode: Any
) -> None:
    hits = (await service(everywhere).search(Search(id=1, query=SECRET, mode=mode, limit=100), who)).hits
    may = readable_by(who)

    assert {hit.channel for hit in hits} <= may
    assert len(hits) == min(len(may), 100)


async def test_c64_a_hidden_document_changes_nothing_in_the_answer(everywhere: Database) -> None:
    """Neither the order nor the scores tell that there is something better that one may not see."""
    who = caller("ann", "trader")
    command = Search(id=1, query=SECRET, limit=100)
    before = await service(everywhere).search(command, who)
    await everywhere.execute("DELETE FROM documents WHERE channel <> ALL ($1)", list(readable_by(who)))
    after = await service(everywhere).search(command, who)

    assert len(before.hits) > 2
    assert before.hits == after.hits


@pytest.mark.parametrize("mode", ["semantic", "text", "hybrid"])
async def test_c61_c64_a_channel_that_may_not_be_read_answers_as_one_that_does_not_exist(
    everywhere: Database, mode: Any
) -> None:
    told = []
    for channel in ("orders:bob", "orders:nobody"):
        with pytest.raises(HubError) as refused:
            await service(everywhere).search(
                Search(id=1, query=SECRET, mode=mode, channel=channel), caller("ann", "trader")
            )
        told.append((refused.value.code, refused.value.message))
    assert told[0] == told[1] == (ErrorCode.PERMISSION_DENIED, "you may not subscribe to this channel or read it")


async def test_reads_of_what_is_audited_are_written_down(everywhere: Database) -> None:
    events: list[SecurityEvent] = []
    searches = service(everywhere, events=events)
    await searches.search(Search(id=1, query=SECRET, channel="orders:ann"), caller("ann", "trader"))
    searches.reads.flush()

    assert [(each.name, each.user, each.target) for each in events] == [("sensitive_read", "ann", "orders:ann")]


async def test_without_vectors_a_hybrid_search_goes_by_words_and_says_so(everywhere: Database) -> None:
    who = caller("ann", "admin")
    answer = await service(everywhere, Mute()).search(Search(id=1, query=SECRET), who)
    with pytest.raises(HubError) as refused:
        await service(everywhere, Mute()).search(Search(id=1, query=SECRET, mode="semantic"), who)

    assert (len(answer.hits), answer.mode, answer.embedding_model) == (10, "text", None)
    assert answer.degraded == "the model does not answer: found by words alone"
    assert refused.value.code is ErrorCode.NOT_AVAILABLE


async def test_vectors_of_another_model_are_not_compared(everywhere: Database) -> None:
    class Other(HashingEmbedder):
        name = "other"

    assert (
        await service(everywhere, Other()).search(Search(id=1, query=SECRET, mode="semantic"), caller("ann", "admin"))
    ).hits == []
