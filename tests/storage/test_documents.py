"""Documents as Postgres keeps them: made once, found within a scope, never older than their message."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import pytest_asyncio

from storage.database import Database
from storage.indexing import DocumentWriter, Embedded, NewDocument, Page, ReadMessage, writing
from storage.messages import MessageLog, NewMessage
from storage.privacy import Privacy
from storage.vectors import DIMENSIONS, Documents, Scope

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMESPACES = ["team", "alerts"]
ALL = Scope(prefixes=("team:", "alerts:"))


def message(channel: str, text: str, publisher: str = "ann") -> NewMessage:
    return NewMessage(channel, "NOTE", b'"data":{"text":"%s"}' % text.encode(), 1, publisher)


def document(read: ReadMessage) -> NewDocument:
    return NewDocument(
        kind="message",
        reference=f"{read.channel_id}:{read.offset}",
        channel=read.channel,
        timestamp_ms=read.timestamp_ms,
        type=read.type,
        publisher=read.publisher,
        content=read.body.decode(),
        message=read,
    )


def axis(*places: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Unit vectors along these dimensions."""
    return np.eye(DIMENSIONS, dtype=np.float32)[list(places)]


async def index(db: Database, *, limit: int = 100) -> Page:
    """One round of whoever makes documents; the vector of the document at offset n points along dimension n."""
    async with writing(db) as writer:
        assert writer is not None
        changed = await writer.requested(NAMESPACES, limit=limit)
        shown = [document(each) for each in changed if not each.hidden]
        await writer.store(shown, None, answered=changed)
        page = await writer.unread(NAMESPACES, limit=limit)
        shown = [document(each) for each in page.messages if not each.hidden]
        vectors = axis(*(each.message.offset for each in shown if each.message))
        await writer.store(shown, Embedded("model", list(vectors)), positions=page.positions)
        return page


async def texts(db: Database) -> list[str]:
    return [row[0] for row in await db.fetch('SELECT content FROM documents ORDER BY channel, "offset"')]


@pytest_asyncio.fixture
async def indexed(db: Database, log: MessageLog) -> Documents:
    await log.append([message("team:a", text) for text in ("breaker opened", "tests are red", "breaker closed")])
    await log.append([message("alerts:x", "breaker opened")])
    await index(db)
    return Documents(db)


async def test_every_message_is_read_once_and_in_pages(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", str(n)) for n in range(5)] + [message("custom:a", "not durable here")])
    pages = [await index(db, limit=2) for _ in range(4)]
    await log.append([message("team:a", "5")])
    pages.append(await index(db, limit=2))

    assert [[each.offset for each in page.messages] for page in pages] == [[1, 2], [3, 4], [5], [], [6]]
    assert len(await texts(db)) == 6


async def test_a_page_is_shared_by_all_that_are_behind(db: Database, log: MessageLog) -> None:
    flood = [message("team:flood", str(n)) for n in range(50)]
    await log.append([*flood, *(message(f"alerts:{n}", "one") for n in range(4))])
    page = await index(db, limit=10)

    assert len(page.messages) == 4 + 2
    assert {each.channel for each in page.messages} == {"team:flood", *(f"alerts:{n}" for n in range(4))}


async def test_what_was_trimmed_before_it_was_read_is_passed_over(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", str(n)) for n in range(6)])
    await log.trim("team:a", keep=1)
    pages = [await index(db, limit=2) for _ in range(4)]

    assert [[each.offset for each in page.messages] for page in pages] == [[], [], [6], []]


async def test_one_at_a_time_makes_documents(db: Database) -> None:
    async with writing(db) as first, writing(db) as second:
        assert first is not None
        assert second is None
    async with writing(db) as third:
        assert third is not None


@pytest.mark.parametrize("exact", [True, False, None])
async def test_the_nearest_of_the_model_in_scope_come_first(indexed: Documents, exact: bool | None) -> None:
    async def nearest(scope: Scope, model: str = "model", above: float = 0.5) -> list[int]:
        vector = (axis(1)[0] + 0.5 * axis(2)[0]).tolist()
        ids = await indexed.nearest(vector, model, scope, above=above, limit=2, exact=exact)
        return [each.offset for each in await indexed.found(ids, "x") if each.offset]

    assert await nearest(Scope(names=("team:a",)), above=0.1) == [1, 2]
    assert await nearest(Scope(names=("team:a",))) == [1]
    assert await nearest(ALL) == [1, 1]
    assert await nearest(Scope()) == []
    assert await nearest(ALL, model="another") == []


async def test_a_vector_that_says_nothing_is_near_to_nothing(indexed: Documents) -> None:
    assert await indexed.nearest([0.0] * DIMENSIONS, "model", ALL, above=-1.0, limit=5) == []


async def test_words_are_found_by_their_stems_and_those_with_all_of_them_first(indexed: Documents) -> None:
    every, some = await indexed.by_words("breakers opened", ALL, limit=9)

    assert [each.offset for each in await indexed.found([*every, *some], "x")] == [1, 1, 3]
    assert (len(every), len(some)) == (2, 1)
    assert await indexed.by_words("red opening", Scope(names=("alerts:x",)), limit=9) == ([], [4])
    assert await indexed.by_words("breaker", Scope(flat_prefixes=("alerts:",)), limit=9) == ([4], [])


@pytest.mark.parametrize("query", ["the", "", "!!! & | :*", "\\'\"%_", "breaker & !opened <-> x", "x" * 2000])
async def test_no_query_is_a_mistake(indexed: Documents, query: str) -> None:
    every, some = await indexed.by_words(query, ALL, limit=9)
    await indexed.found([*every, *some], query)


async def test_a_hit_knows_its_place_and_shows_where_the_words_are(indexed: Documents, log: MessageLog) -> None:
    [red], _ = await indexed.by_words("red", ALL, limit=9)
    [hit] = await indexed.found([red], "red")
    assert (hit.channel, hit.offset, hit.epoch) == ("team:a", 2, (await log.head("team:a")).epoch)
    assert "tests are red" in hit.snippet


async def test_c86_erasing_a_person_erases_the_documents_of_their_messages(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", "hers"), message("team:a", "his", "bob")])
    await index(db)
    privacy = Privacy(db, seal=lambda record, owner: b"", own=[], hold_days={})
    await privacy.erase("ann", await privacy.begin("ann", "erase", now=NOW), b"hash", by="root", now=NOW)

    assert ["his" in text for text in await texts(db)] == [True]
    await index(db)  # the request that the erasure left behind brings nothing back
    assert len(await texts(db)) == 1
    assert await db.fetch_value("SELECT count(*) FROM document_requests") == 0


async def test_c91_what_is_restricted_is_not_found_until_it_is_released(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", "before")])
    await index(db)
    privacy = Privacy(db, seal=lambda record, owner: b"", own=[], hold_days={})
    await privacy.restrict("ann", await privacy.begin("ann", "restrict", now=NOW), by="root", now=NOW)
    gone = await texts(db)
    await log.append([message("team:a", "meanwhile")])
    await index(db)
    still_gone = await texts(db)
    await privacy.release("ann", by="root", now=NOW)
    await index(db)

    assert (gone, still_gone) == ([], [])
    assert ["before" in text or "meanwhile" in text for text in await texts(db)] == [True, True]


async def test_c91_a_corrected_message_is_found_by_what_it_says_now(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", "wrong")])
    await index(db)
    privacy = Privacy(db, seal=lambda record, owner: b"", own=[], hold_days={})
    request = await privacy.begin("ann", "correct", now=NOW)
    await privacy.correct("ann", request, "team:a", 1, b'"data":{"text":"right"}', None, by="root", now=NOW)
    between = await texts(db)
    await index(db)

    assert between == []
    assert await texts(db) == ['"data":{"text":"right"}']


async def test_c86_a_message_erased_while_it_was_being_read_leaves_no_document(db: Database, log: MessageLog) -> None:
    await log.append([message("team:a", "secret"), message("team:a", "his", "bob")])
    privacy = Privacy(db, seal=lambda record, owner: b"", own=[], hold_days={})
    async with writing(db) as writer:
        assert writer is not None
        page = await writer.unread(NAMESPACES, limit=9)
        await privacy.erase("ann", await privacy.begin("ann", "erase", now=NOW), b"hash", by="root", now=NOW)
        await writer.store([document(each) for each in page.messages], None, positions=page.positions)

    assert ["his" in text for text in await texts(db)] == [True]


async def test_what_is_left_out_is_forgotten_and_read_again_when_it_is_not(db: Database, indexed: Documents) -> None:
    before = await texts(db)
    async with writing(db) as writer:
        assert writer is not None
        await writer.leave_out_others(NAMESPACES)
        assert await texts(db) == before
        await writer.leave_out_others(["alerts"])
    left = await texts(db)
    await index(db)

    assert (len(before), len(left)) == (4, 1)
    assert await texts(db) == before


async def test_trimmed_messages_take_their_documents_with_them(
    db: Database, indexed: Documents, log: MessageLog
) -> None:
    await log.trim("team:a", keep=1)
    assert len(await texts(db)) == 2


async def test_storing_reads_the_messages_it_is_about_and_no_others(db: Database, log: MessageLog) -> None:
    """Though the plan is made for a table that has next to none."""
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'messages'::regclass"
    fetched = []
    async with db.session() as session:
        writer = DocumentWriter(session)
        for count in (1, 1000):
            await log.append([message("team:a", str(n)) for n in range(count)])
            page = await writer.unread(NAMESPACES, limit=1)
            async with session.transaction():
                before = await session.fetchval(read)
                await writer.store([document(each) for each in page.messages], None, positions=page.positions)
                fetched.append(await session.fetchval(read) - before)

    assert fetched == [1, 1]
