"""The log of orders: one writer, all or nothing, names used once, a chain that shows what was changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from storage.database import Database
from storage.errors import StorageError
from storage.leadership import Fenced
from storage.messages import MessageLog, NewMessage
from storage.orders import LogEnd, NewEvent, NewName, NewOrder, OrderBatch, OrderLog, Taken
from storage.privacy import Privacy

NOW_US = 1_732_330_000_123_000


@pytest.fixture
def orders(db: Database) -> OrderLog:
    return OrderLog(db)


def happening(order_id: str = "o-1", exec_type: str = "SUBMIT", **fields: Any) -> NewEvent:
    known: dict[str, Any] = {"account": "ann", "exec_id": exec_type, "ts_event": NOW_US, "body": b'{"b":1, "a":2}'}
    return NewEvent(order_id, exec_type=exec_type, **(known | fields))


def message(channel: str = "orders:ann") -> NewMessage:
    return NewMessage(channel, "EXECUTION_REPORT", b'"data":{}', NOW_US // 1000, "krin")


def first(order_id: str = "o-1", name: str = "c-1", account: str = "ann") -> OrderBatch:
    return OrderBatch(
        orders=[NewOrder(order_id, account, "BTC-USD", "BUY", 0)],
        names=[NewName(account, name, order_id, b"asked")],
        events=[happening(order_id, account=account), happening(order_id, "PENDING_NEW", account=account)],
        messages=[message(f"orders:{account}"), message(f"risk:{account}"), message(f"orders:{account}")],
    )


async def test_a_commit_writes_orders_events_and_messages_together(orders: OrderLog, log: MessageLog) -> None:
    end = await orders.take_over("n1")
    stored, end = await orders.commit(first(), end, now_us=NOW_US)
    assert [each.offset for each in stored] == [1, 1, 2]
    assert (end.epoch, end.sequence) == (1, 2)
    [one, two] = await orders.events("o-1")
    assert (one.sequence, one.account, one.body, one.recorded_us) == (1, "ann", b'{"b":1, "a":2}', NOW_US)
    assert two.hash == end.hash
    assert [row.offset for row in await log.read("orders:ann", after=0, limit=10)] == [1, 2]
    assert await orders.find("ann", "c-1") == ("o-1", b"asked")
    assert [event async for event in orders.open_events()] == [one, two]


async def test_a_commit_goes_on_where_the_one_before_ended(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    _, end = await orders.commit(first(), end, now_us=NOW_US)
    stored, end = await orders.commit(OrderBatch(events=[happening(exec_type="NEW")]), end, now_us=NOW_US + 1)
    assert (stored, end.sequence) == ([], 3)
    assert await orders.verify() is None


async def test_an_engine_that_was_replaced_writes_nothing(orders: OrderLog, log: MessageLog) -> None:
    old = await orders.take_over("n1")
    new = await orders.take_over("n2")
    with pytest.raises(Fenced):
        await orders.commit(first(), old, now_us=NOW_US)
    assert (await log.head("orders:ann")).top == 0
    assert await orders.events("o-1") == []
    _, end = await orders.commit(first(), new, now_us=NOW_US)
    assert end.epoch == 2


async def test_an_engine_that_has_missed_a_commit_of_its_own_writes_nothing(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    await orders.commit(first(), end, now_us=NOW_US)
    with pytest.raises(Fenced):  # as if the answer had been lost
        await orders.commit(first("o-2", "c-2"), end, now_us=NOW_US)


async def test_a_name_is_used_once_and_for_ever(orders: OrderLog, log: MessageLog) -> None:
    end = await orders.take_over("n1")
    _, end = await orders.commit(first(), end, now_us=NOW_US)
    _, end = await orders.commit(
        OrderBatch(events=[happening(exec_type="CANCELED")], ended=["o-1"]), end, now_us=NOW_US
    )
    again = first("o-2")
    again.names.insert(0, NewName("ann", "c-9", "o-2", b"x"))
    with pytest.raises(Taken) as taken:
        await orders.commit(again, end, now_us=NOW_US)
    assert taken.value.places == [1]
    assert (await log.head("orders:ann")).top == 2
    assert await orders.find("ann", "c-9") is None
    await orders.commit(first("o-2", account="bob"), end, now_us=NOW_US)  # of another account it is another name


async def test_only_what_may_still_trade_is_read_at_a_start(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    for number in range(4):
        _, end = await orders.commit(first(f"o-{number}", f"c-{number}"), end, now_us=NOW_US)
    _, end = await orders.commit(OrderBatch(ended=["o-1", "o-2"]), end, now_us=NOW_US)
    _, end = await orders.commit(OrderBatch(reopened=["o-2"]), end, now_us=NOW_US)
    assert [event.order_id async for event in orders.open_events()] == ["o-0"] * 2 + ["o-2"] * 2 + ["o-3"] * 2


async def test_executions_come_in_order_with_what_they_are_about(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    _, end = await orders.commit(first(), end, now_us=NOW_US)
    trades = [happening(exec_type="TRADE", exec_id=f"t-{n}", body=b"%d" % n) for n in range(3)]
    await orders.commit(OrderBatch(events=trades, ended=["o-1"]), end, now_us=NOW_US)
    found = [each async for each in orders.executions()]
    assert [(each.event.body, each.symbol, each.side) for each in found] == [
        (b"%d" % n, "BTC-USD", "BUY") for n in range(3)
    ]


async def test_an_accounts_orders_are_listed_from_the_newest(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    for number in range(5):
        _, end = await orders.commit(first(f"o-{number}", f"c-{number}"), end, now_us=NOW_US)
    newest = await orders.orders("ann", limit=2)
    assert [order_id for order_id, _ in newest] == ["o-4", "o-3"]
    assert [order_id for order_id, _ in await orders.orders("ann", before=newest[-1][1])] == ["o-2", "o-1", "o-0"]
    assert await orders.orders("ann", symbol="ETH-USD") == await orders.orders("bob") == []


@pytest.mark.parametrize("statement", ["UPDATE order_events SET body = '{}'", "DELETE FROM order_events"])
async def test_the_audit_trail_cannot_be_changed(orders: OrderLog, db: Database, statement: str) -> None:
    await orders.commit(first(), await orders.take_over("n1"), now_us=NOW_US)
    with pytest.raises(StorageError):
        await db.execute(statement)
    assert await orders.verify() is None


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        ("""UPDATE order_events SET body = '{"b":1, "a":3}' WHERE sequence = 2""", 2),
        ("UPDATE order_events SET account = 'bob' WHERE sequence = 1", 1),
        ("DELETE FROM order_events WHERE sequence = 2", 2),
        ("DELETE FROM order_events WHERE sequence = 4", 4),
    ],
)
async def test_a_change_behind_our_back_breaks_the_chain(
    orders: OrderLog, db: Database, change: str, broken: int
) -> None:
    end = await orders.take_over("n1")
    _, end = await orders.commit(first(), end, now_us=NOW_US)
    await orders.commit(first("o-2", "c-2"), end, now_us=NOW_US)
    async with db.connection() as connection, connection.transaction():
        await connection.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
        await connection.execute(change)
    assert await orders.verify() == broken


async def test_an_erased_person_leaves_places_and_hashes_in_the_trail(orders: OrderLog, db: Database) -> None:
    end = await orders.take_over("n1")
    _, end = await orders.commit(first(), end, now_us=NOW_US)
    await orders.commit(first("o-2", account="bob"), end, now_us=NOW_US)
    privacy = Privacy(db, seal=lambda record, owner: b"sealed", own=["orders"], hold_days={})
    now = datetime(2026, 1, 1, tzinfo=UTC)
    await privacy.erase("ann", await privacy.begin("ann", "erase", now=now), b"hash", by="root", now=now)
    assert await orders.find("ann", "c-1") is None
    assert [event.body async for event in orders.all_events()] == [b"null"] * 2 + [b'{"b":1, "a":2}'] * 2
    assert [event.order_id async for event in orders.open_events()] == ["o-2"] * 2
    assert await orders.verify() is None


async def test_one_engine_leads_and_the_next_follows_when_it_is_gone(db: Database) -> None:
    first_log, second_log = OrderLog(db), OrderLog(db)
    async with first_log.leadership() as led:
        assert led is not None
        async with second_log.leadership() as other:
            assert other is None
    async with asyncio.timeout(5):
        while True:  # the lock goes with the session, which Postgres ends in its own time
            async with second_log.leadership() as other:
                if other is not None:
                    break
            await asyncio.sleep(0.01)


async def test_switches_are_kept_until_they_are_disarmed(orders: OrderLog) -> None:
    await orders.set_switch("ann", NOW_US)
    await orders.set_switch("ann", NOW_US + 1)
    await orders.set_switch("bob", NOW_US)
    await orders.set_switch("bob", None)
    assert await orders.switches() == {"ann": NOW_US + 1}


async def test_a_big_batch_is_one_commit(orders: OrderLog) -> None:
    end = await orders.take_over("n1")
    batch = OrderBatch(
        orders=[NewOrder(f"o-{n}", "ann", "BTC-USD", "BUY", n) for n in range(500)],
        names=[NewName("ann", f"c-{n}", f"o-{n}", b"x") for n in range(500)],
        events=[happening(f"o-{n}") for n in range(500)],
        messages=[message() for _ in range(500)],
    )
    stored, end = await orders.commit(batch, end, now_us=NOW_US)
    assert [each.offset for each in stored] == list(range(1, 501))
    assert end == LogEnd(1, 500, end.hash)
    assert await orders.verify() is None
