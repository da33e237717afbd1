from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.errors import Conflict, Rejected
from storage.messages import LAST, READ, READ_BACK, Head, MessageLog, NewMessage, Stored

pytestmark = pytest.mark.asyncio

NOW_MS = 1_732_330_000_123
LONG_KEY = random.Random(1).randbytes(9_000).hex()  # too long for an index even when compressed


def message(channel: str = "orders:alice", body: bytes = b"{}", **fields: Any) -> NewMessage:
    known: dict[str, Any] = {"type": "ORDER_EVENT", "timestamp_ms": NOW_MS, "publisher": "alice"}
    return NewMessage(channel=channel, body=body, **(known | fields))


async def appended(log: MessageLog, *batch: NewMessage) -> list[Stored]:
    answers = await log.append(batch)
    assert all(isinstance(answer, Stored) for answer in answers), answers
    return [answer for answer in answers if isinstance(answer, Stored)]


async def test_messages_come_back_byte_for_byte_in_order(log: MessageLog) -> None:
    bodies = [b'{"b":1,"a":2}', b'{"text":"\\u0000 \xc3\xa9"}', b"\x00\xff not json"]
    stored = await appended(log, *(message(body=body, key="k", trace="t") for body in bodies))
    read = await log.read("orders:alice", after=0, limit=10)
    assert [answer.offset for answer in stored] == [1, 2, 3]
    assert [found.body for found in read] == bodies
    assert {(f.channel, f.type, f.key, f.publisher, f.timestamp_ms, f.trace) for f in read} == {
        ("orders:alice", "ORDER_EVENT", "k", "alice", NOW_MS, "t")
    }
    assert {found.epoch for found in read} == {stored[0].epoch}


async def test_pages_go_forward_and_backward_between_positions(log: MessageLog) -> None:
    await appended(log, *(message() for _ in range(10)))

    async def offsets(*, after: int, limit: int, reverse: bool = False, before: int | None = None) -> list[int]:
        page = await log.read("orders:alice", after=after, limit=limit, reverse=reverse, before=before)
        return [found.offset for found in page]

    assert await offsets(after=7, limit=2) == [8, 9]
    assert await offsets(after=0, limit=3, reverse=True) == [10, 9, 8]
    assert await offsets(after=0, limit=3, reverse=True, before=8) == [7, 6, 5]
    assert await offsets(after=3, limit=10, before=6) == [4, 5]
    assert await log.read("orders:nobody", after=0, limit=10) == []


@pytest.mark.parametrize("query", [READ, READ_BACK])
async def test_a_page_touches_only_its_own_rows_even_before_the_table_was_analysed(
    db: Database, log: MessageLog, query: str
) -> None:
    for _ in range(10):
        await appended(log, *(message() for _ in range(500)))
    plan = json.loads(await db.fetch_value(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", "orders:alice", 0, LAST, 100))
    assert rows_read(plan[0]["Plan"]) == 100


def rows_read(node: dict[str, Any]) -> int:
    """The most rows that any node of an executed plan produced."""
    here: int = round(node["Actual Rows"]) + node.get("Rows Removed by Filter", 0)
    return max([here, *map(rows_read, node.get("Plans", []))])


async def test_repeating_a_key_answers_the_first_position_and_stores_nothing(log: MessageLog) -> None:
    [first] = await appended(log, message(idempotency_key="k1"))
    [again] = await appended(log, message(idempotency_key="k1", timestamp_ms=NOW_MS + 5_000, trace="another"))
    assert again == Stored(first.offset, first.epoch, NOW_MS, duplicate=True)
    assert await log.find("orders:alice", "alice", "k1") == again
    assert await log.find("orders:alice", "bob", "k1") is None
    assert (await log.heads(["orders:alice"]))["orders:alice"].top == 1


async def test_a_key_belongs_to_its_channel_and_publisher(log: MessageLog) -> None:
    batch = [message(), message("orders:bob"), message(publisher="bob")]
    stored = await appended(log, *(NewMessage(m.channel, m.type, m.body, 1, m.publisher, None, "k") for m in batch))
    assert [(answer.offset, answer.duplicate) for answer in stored] == [(1, False), (1, False), (2, False)]


@pytest.mark.parametrize("other", [{"body": b"[]"}, {"type": "FILL"}, {"key": "another"}])
async def test_a_key_used_for_another_message_is_a_conflict_for_that_one_only(
    log: MessageLog, other: dict[str, Any]
) -> None:
    await appended(log, message(idempotency_key="k1"))
    answers = await log.append([message(), message(idempotency_key="k1", **other), message()])
    assert [type(answer) for answer in answers] == [Stored, Conflict, Stored]
    assert [found.offset for found in await log.read("orders:alice", after=0, limit=10)] == [1, 2, 3]


async def test_duplicates_inside_one_batch(log: MessageLog) -> None:
    keyed = message(idempotency_key="k1")
    answers = await log.append([keyed, message(), keyed, message(body=b"[]", idempotency_key="k1")])
    assert isinstance(answers[0], Stored)
    assert isinstance(answers[2], Stored)
    assert (answers[0].offset, answers[0].duplicate) == (1, False)
    assert (answers[2].offset, answers[2].duplicate) == (1, True)
    assert isinstance(answers[3], Conflict)
    assert (await log.heads(["orders:alice"]))["orders:alice"].top == 2


@pytest.mark.parametrize("poison", [{"trace": "a\0b"}, {"idempotency_key": LONG_KEY}, {"timestamp_ms": 2**70}])
async def test_one_bad_message_does_not_sink_its_neighbours(log: MessageLog, poison: dict[str, Any]) -> None:
    batch = [message(body=b"%d" % number) for number in range(20)]
    batch[13] = message(**poison)
    answers = await log.append(batch)
    assert isinstance(answers[13], Rejected)
    assert [answer.offset for answer in answers if isinstance(answer, Stored)] == list(range(1, 20))
    bodies = [int(found.body) for found in await log.read("orders:alice", after=0, limit=50)]
    assert bodies == [number for number in range(20) if number != 13]


async def test_a_thousand_keys_sent_twice_at_once_are_stored_once_each(db: Database) -> None:
    logs = [MessageLog(db) for _ in range(8)]
    keys = [f"key-{number}" for number in range(1_000)] * 2

    async def publish(log: MessageLog, mine: list[str]) -> list[Stored]:
        return [answer for key in mine for answer in await appended(log, message("orders:one", idempotency_key=key))]

    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(publish(log, keys[place::8]) for place, log in enumerate(logs)))
    outcomes = Counter(answer.duplicate for some in answers for answer in some)
    assert outcomes == {False: 1_000, True: 1_000}
    read = await logs[0].read("orders:one", after=0, limit=2_000)
    assert [found.offset for found in read] == list(range(1, 1_001))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 9)), min_size=1, max_size=12),
        min_size=2,
        max_size=8,
    )
)
async def test_concurrent_appenders_leave_no_gaps_and_never_deadlock(
    new_database: Callable[[], Awaitable[str]], batches: list[list[tuple[int, int | None]]]
) -> None:
    def build(batch: list[tuple[int, int | None]]) -> list[NewMessage]:
        return [message(f"c:{c}", idempotency_key=None if key is None else f"{key}") for c, key in batch]

    twice = batches * 2
    async with Database.open(await new_database()) as db, asyncio.timeout(30):
        log = MessageLog(db)
        answers = await asyncio.gather(*(appended(log, *build(batch)) for batch in twice))

        new: Counter[int] = Counter()
        for batch, some in zip(twice, answers, strict=True):
            new.update(c for (c, _), answer in zip(batch, some, strict=True) if not answer.duplicate)
        keyless = Counter(c for batch in twice for c, key in batch if key is None)
        keyed = Counter(c for c, _ in {(c, key) for batch in batches for c, key in batch if key is not None})
        assert new == keyless + keyed
        for c, count in new.items():
            read = await log.read(f"c:{c}", after=0, limit=1_000)
            assert [found.offset for found in read] == list(range(1, count + 1))
            assert (await log.heads([f"c:{c}"]))[f"c:{c}"].top == count


async def test_a_head_is_known_before_the_first_message_and_asking_makes_no_channel(log: MessageLog) -> None:
    asked = await log.heads(["a:1", "a:2", "a:1"])
    [stored] = await appended(log, message("a:1"))
    assert asked["a:1"] == Head(stored.epoch, top=0, first=1)
    assert asked["a:1"].epoch != asked["a:2"].epoch
    assert len(asked["a:1"].epoch) >= 8
    assert await log.head("a:1") == Head(stored.epoch, top=1, first=1)
    assert await log.head("a:2") == asked["a:2"]
    assert await log.channels("a:") == ["a:1"]


async def test_trim_keeps_the_newest_and_tells_the_first_that_is_left(log: MessageLog) -> None:
    [first, *_] = await appended(log, *(message(timestamp_ms=NOW_MS + number) for number in range(10)))
    assert await log.trim("orders:alice", keep=6) == 4
    assert await log.head("orders:alice") == Head(first.epoch, top=10, first=5)
    assert [found.offset for found in await log.read("orders:alice", after=0, limit=2)] == [5, 6]
    assert [found.offset for found in await log.read("orders:alice", after=0, limit=9, reverse=True)][-1] == 5
    assert await log.trim("orders:alice", before_ms=NOW_MS + 7) == 3
    assert await log.head("orders:alice") == Head(first.epoch, top=10, first=8)
    assert await log.trim("orders:alice", keep=5) == 0
    assert await log.trim("orders:alice", before_ms=NOW_MS + 99) == 3
    assert await log.head("orders:alice") == Head(first.epoch, top=10, first=11)
    assert await log.trim("orders:nobody", keep=1) == 0
    [after] = await appended(log, message())
    assert (after.offset, after.epoch) == (11, first.epoch)
    assert [found.offset for found in await log.read("orders:alice", after=0, limit=10)] == [11]


async def test_keys_are_found_through_their_index_by_a_plan_made_while_the_table_was_empty(db: Database) -> None:
    async with db.writer() as writer:
        log = MessageLog(db, writer=writer)
        for number in range(40):
            await appended(log, *(message(idempotency_key=f"{number}-{place}") for place in range(100)))
        read = "SELECT pg_stat_force_next_flush(), idx_tup_read FROM pg_stat_user_indexes WHERE indexrelname = $1"
        async with writer.connection() as connection:
            await connection.fetchrow(read, "messages_idempotency")
            before = (await connection.fetchrow(read, "messages_idempotency"))["idx_tup_read"]
            primary = (await connection.fetchrow(read, "messages_pkey"))["idx_tup_read"]
        await appended(log, *(message(idempotency_key=f"39-{place}") for place in range(100)))
        async with writer.connection() as connection:
            await connection.fetchrow(read, "messages_idempotency")
            after = (await connection.fetchrow(read, "messages_idempotency"))["idx_tup_read"]
            assert after - before == 100
            assert (await connection.fetchrow(read, "messages_pkey"))["idx_tup_read"] == primary
