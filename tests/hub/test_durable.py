"""Durable channels over a real log: acknowledged means committed, and a lost bell costs time but never a message."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from clock import ManualClock
from doubles import publication

from hub.brokers.base import Recovered
from hub.brokers.local import LocalBroker
from hub.channels.durable import RESOLVE_S, SWEEP_INTERVAL_S, TAIL_MESSAGES, DurableChannels
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published
from storage.database import Database
from storage.errors import Busy, OutcomeUnknown, StorageError, Unavailable
from storage.messages import Head, MessageLog, NewMessage, Stored

CHANNEL = "team:alpha"


class FaultyLog(MessageLog):
    """The real log, whose answers can get lost on the way, or which can be out of reach."""

    lost_answers = 0
    refused = 0
    unreachable = False
    failure: StorageError = Unavailable("the database is away")
    asked = 0  # in vain

    async def append(self, batch: Sequence[NewMessage]) -> list[Stored | StorageError]:
        if self.unreachable or self.refused:
            self.refused = max(0, self.refused - 1)
            return [Unavailable("the database is away")] * len(batch)
        done = await super().append(batch)
        if self.lost_answers:
            self.lost_answers -= 1
            return [OutcomeUnknown("the connection was lost")] * len(batch)
        return done

    async def heads(self, channels: object) -> dict[str, Head]:
        if self.unreachable:
            self.asked += 1
            raise self.failure
        return await super().heads(channels)  # type: ignore[arg-type]


class Bell(LocalBroker):
    """The in-process broker as a bell that can be broken, or ring in the wrong order."""

    broken = False
    held: list[Publication] | None = None

    def ring(self, publication: Publication) -> None:
        if self.held is not None:
            self.held.append(publication)
        elif not self.broken:
            super().ring(publication)


class Node:
    """One node's durable channels, as a test sees them: what was delivered, and a hand on its clock."""

    def __init__(self, log: MessageLog) -> None:
        self.log = log
        self.clock = ManualClock()
        self.delivered: list[Publication] = []
        self.durable = DurableChannels(log, deliver=self.delivered.append, clock=self.clock)
        self.bell = Bell(self.durable.receive, clock=self.clock)
        self.durable.ring_with(self.bell)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Node]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work) for work in (self.durable.commit(), self.durable.mend(), self.durable.sweep())
            ]
            await self.clock.until_somebody_sleeps()
            yield self
            for task in tasks:
                task.cancel()

    def start_publish(
        self, text: str = "", *, channel: str = CHANNEL, publisher: str = "ann", idempotency_key: str | None = None
    ) -> asyncio.Future[Published]:
        made = publication(channel, text=text, publisher=publisher, timestamp=self.clock.now_ms())
        return self.durable.publish(made, idempotency_key=idempotency_key)

    async def publish(self, text: str = "", *, channel: str = CHANNEL, idempotency_key: str | None = None) -> Published:
        async with asyncio.timeout(10):
            return await self.start_publish(text, channel=channel, idempotency_key=idempotency_key)

    async def follow(self, channel: str = CHANNEL) -> None:
        async with asyncio.timeout(5):
            await self.durable.follow(channel)

    async def recover(self, epoch: str | None, offset: int, limit: int = 10_000) -> Recovered:
        found = self.durable.recover(CHANNEL, epoch=epoch, offset=offset, limit=limit)
        return found if isinstance(found, Recovered) else await found

    async def until(self, fact: Callable[[], bool], *, tick_s: float = 0.0) -> None:
        """Wait for a fact, letting this node's time pass meanwhile if asked."""
        async with asyncio.timeout(10):
            while not fact():
                if tick_s:
                    self.clock.advance(tick_s)
                await asyncio.sleep(0.001)

    @property
    def offsets(self) -> list[int]:
        return [each.offset for each in self.delivered]


@pytest.fixture
def log(database: Database) -> FaultyLog:
    return FaultyLog(database)


@pytest_asyncio.fixture
async def node(log: FaultyLog) -> AsyncIterator[Node]:
    async with Node(log).running() as running:
        yield running


@pytest_asyncio.fixture
async def other(log: FaultyLog) -> AsyncIterator[Node]:
    """A second node on the same database, whose bells the first one does not hear."""
    async with Node(log).running() as running:
        yield running


async def test_what_is_acknowledged_is_in_postgres(node: Node, log: FaultyLog) -> None:
    published = await asyncio.gather(*(node.publish(f"m{number}") for number in range(20)))
    stored = await log.read(CHANNEL, after=0, limit=100)

    assert sorted(each.offset for each in published) == [each.offset for each in stored] == list(range(1, 21))
    assert {each.epoch for each in published} == {stored[0].epoch}


async def test_publishes_that_arrive_together_are_committed_together(node: Node) -> None:
    await asyncio.gather(*(node.publish(f"m{number}") for number in range(300)))

    assert node.durable.committed == 300
    assert node.durable.commits < 10


async def test_a_follower_gets_what_is_published_after_it_came_and_in_order(node: Node) -> None:
    await node.publish("before")
    await node.follow()
    node.delivered.clear()  # a node that does not follow hands on what it hears; nobody listens there
    await asyncio.gather(*(node.publish(f"m{number}") for number in range(50)))
    await node.until(lambda: len(node.delivered) == 50)

    assert node.offsets == list(range(2, 52))


async def test_a_repeated_key_is_stored_and_delivered_once(node: Node, log: FaultyLog) -> None:
    await node.follow()
    first = await node.publish("once", idempotency_key="k1")
    again = await node.publish("once", idempotency_key="k1")
    await node.publish("last")
    await node.until(lambda: len(node.delivered) == 2)

    assert (again.offset, again.timestamp, again.duplicate) == (first.offset, first.timestamp, True)
    assert node.offsets == [1, 2]
    assert len(await log.read(CHANNEL, after=0, limit=10)) == 2


async def test_a_key_with_another_message_is_a_conflict_and_its_neighbours_are_stored(node: Node) -> None:
    await node.publish("once", idempotency_key="k1")
    conflict = node.start_publish("twice", idempotency_key="k1")
    neighbour = node.start_publish("neighbour")
    async with asyncio.timeout(5):
        with pytest.raises(HubError) as caught:
            await conflict
        stored = await neighbour

    assert caught.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert stored.offset == 2


async def test_a_message_whose_bell_was_lost_arrives_with_the_next_sweep(node: Node) -> None:
    await node.follow()
    node.bell.broken = True
    for number in range(3):
        await node.publish(f"m{number}")
    assert node.delivered == []

    node.clock.advance(SWEEP_INTERVAL_S)
    await node.until(lambda: len(node.delivered) == 3)

    assert node.offsets == [1, 2, 3]
    assert node.durable.mended == 3


async def test_a_message_of_another_node_arrives_without_any_bell(node: Node, other: Node) -> None:
    await node.follow()
    for number in range(5):
        await other.publish(f"m{number}")
    node.clock.advance(SWEEP_INTERVAL_S)
    await node.until(lambda: len(node.delivered) == 5)

    assert node.offsets == [1, 2, 3, 4, 5]


async def test_a_bell_after_a_lost_one_mends_the_gap_at_once(node: Node) -> None:
    await node.follow()
    node.bell.broken = True
    await node.publish("lost")
    node.bell.broken = False
    await node.publish("heard")
    await node.until(lambda: len(node.delivered) == 2)

    assert node.offsets == [1, 2]


@pytest.mark.parametrize("seed", range(5))
async def test_bells_in_any_order_and_any_number_of_times_are_delivered_once_in_order(node: Node, seed: int) -> None:
    await node.follow()
    node.bell.held = []
    for number in range(30):
        await node.publish(f"m{number}")
    chance = random.Random(seed)
    rung = node.bell.held + chance.choices(node.bell.held, k=20)
    chance.shuffle(rung)
    for each in rung[: len(rung) // 2]:
        node.durable.receive(each)
    await asyncio.sleep(0)
    for each in rung[len(rung) // 2 :]:
        node.durable.receive(each)
    await node.until(lambda: len(node.delivered) >= 30)

    assert node.offsets == list(range(1, 31))


async def test_a_flood_of_bells_from_the_future_is_bounded_and_mended(node: Node) -> None:
    await node.follow()
    node.bell.held = []
    async with asyncio.timeout(20):
        await asyncio.gather(*(node.start_publish(f"m{number}") for number in range(1_500)))
    for each in reversed(node.bell.held):
        node.durable.receive(each)
    await node.until(lambda: len(node.delivered) >= 1_500)

    assert node.offsets == list(range(1, 1_501))


async def test_a_lost_answer_is_looked_up_and_the_publisher_learns_where_its_message_is(
    node: Node, log: FaultyLog
) -> None:
    await node.follow()
    log.lost_answers = 1
    publishing = node.start_publish("once", idempotency_key="k1")
    await node.until(publishing.done, tick_s=0.05)
    await node.until(lambda: len(node.delivered) == 1, tick_s=SWEEP_INTERVAL_S)

    assert publishing.result().offset == 1
    assert len(await log.read(CHANNEL, after=0, limit=10)) == 1
    assert node.offsets == [1]


async def test_a_publisher_that_asked_once_is_not_told_that_it_was_a_duplicate(node: Node, log: FaultyLog) -> None:
    log.lost_answers = 1
    publishing = node.start_publish("once", idempotency_key="k1")
    await node.until(publishing.done, tick_s=0.05)

    assert publishing.result().duplicate is False


async def test_an_outcome_that_stays_unknown_is_a_timeout_and_a_retry_with_the_key_stores_nothing_twice(
    node: Node, log: FaultyLog
) -> None:
    log.lost_answers = 1_000
    publishing = node.start_publish("once", idempotency_key="k1")
    await node.until(publishing.done, tick_s=RESOLVE_S / 4)
    log.lost_answers = 0
    failure = publishing.exception()
    again = await node.publish("once", idempotency_key="k1")

    assert isinstance(failure, HubError)
    assert failure.code is ErrorCode.TIMEOUT
    assert "idempotency_key" in failure.message
    assert (again.offset, again.duplicate) == (1, True)
    assert len(await log.read(CHANNEL, after=0, limit=10)) == 1


async def test_without_a_key_an_unknown_outcome_is_never_repeated(node: Node, log: FaultyLog) -> None:
    log.lost_answers = 1
    publishing = node.start_publish("once")
    await node.until(publishing.done, tick_s=0.05)

    assert isinstance(failure := publishing.exception(), HubError)
    assert failure.code is ErrorCode.TIMEOUT
    assert len(await log.read(CHANNEL, after=0, limit=10)) == 1


async def test_while_postgres_is_away_publishes_are_refused_and_nothing_was_stored(node: Node, log: FaultyLog) -> None:
    log.unreachable = True
    with pytest.raises(HubError) as caught:
        await node.publish("refused", idempotency_key="k1")
    assert node.durable.available is False
    log.unreachable = False
    accepted = await node.publish("accepted", idempotency_key="k1")

    assert caught.value.code is ErrorCode.NOT_AVAILABLE
    assert caught.value.retry_after_ms
    assert (accepted.offset, accepted.duplicate) == (1, False)
    assert node.durable.available is True


async def test_a_first_listener_while_postgres_is_away_is_told_so_and_may_try_again(node: Node, log: FaultyLog) -> None:
    log.unreachable = True
    with pytest.raises(HubError) as caught:
        await node.follow()
    log.unreachable = False
    await node.follow()

    assert caught.value.code is ErrorCode.NOT_AVAILABLE


async def test_messages_of_an_outage_arrive_when_postgres_is_back(node: Node, other: Node, log: FaultyLog) -> None:
    await node.follow()
    await other.publish("m1")
    log.unreachable = True
    node.clock.advance(SWEEP_INTERVAL_S)
    await node.until(lambda: not node.durable.available)
    log.unreachable = False
    await node.until(lambda: len(node.delivered) == 1, tick_s=SWEEP_INTERVAL_S)

    assert node.offsets == [1]
    assert node.durable.available


async def test_connections_that_are_all_in_use_say_nothing_about_publishing(node: Node, log: FaultyLog) -> None:
    await node.follow()
    log.unreachable, log.failure = True, Busy("all are in use")
    node.clock.advance(SWEEP_INTERVAL_S)
    await node.until(lambda: log.asked > 0)
    await node.clock.until_somebody_sleeps()

    assert node.durable.available


async def test_recovery_from_memory_and_from_postgres_gives_the_same(node: Node) -> None:
    await node.follow()
    async with asyncio.timeout(20):
        placed = await asyncio.gather(*(node.start_publish(f"m{n}") for n in range(TAIL_MESSAGES + 500)))
    await node.until(lambda: len(node.delivered) == TAIL_MESSAGES + 500)
    epoch, top = placed[0].epoch, TAIL_MESSAGES + 500
    for since in (0, 1, 499, 500, 501, top - 1, top):
        found = await node.recover(epoch, since)
        assert (found.complete, found.offset) == (True, top)
        assert [each.offset for each in found.messages] == list(range(since + 1, top + 1))


async def test_every_reason_not_to_recover_is_told(node: Node, log: FaultyLog) -> None:
    await node.follow()
    epoch = [await node.publish(f"m{number}") for number in range(5)][0].epoch
    await node.until(lambda: len(node.delivered) == 5)

    assert (await node.recover(None, 0)).reason == "not_requested"
    assert (await node.recover("another", 3)).reason == "epoch_changed"
    assert (await node.recover(epoch, 6)).reason == "epoch_changed"
    assert (await node.recover(epoch, 1, limit=3)).reason == "limit_exceeded"
    for each in (await node.recover("another", 3), await node.recover(epoch, 1, limit=3)):
        assert (each.complete, each.messages) == (False, [])


async def test_a_position_that_was_trimmed_away_is_too_old_and_never_half_recovered(node: Node, log: FaultyLog) -> None:
    for number in range(10):
        placed = await node.publish(f"m{number}")
    await log.trim(CHANNEL, keep=3)
    await node.follow()
    too_old = await node.recover(placed.epoch, 5)
    in_time = await node.recover(placed.epoch, 7)

    assert (too_old.complete, too_old.reason, too_old.messages) == (False, "offset_too_old", [])
    assert (in_time.complete, [each.offset for each in in_time.messages]) == (True, [8, 9, 10])


async def test_a_restored_database_changes_the_epoch_and_followers_go_on(
    node: Node, other: Node, database: Database
) -> None:
    await node.follow()
    first = await node.publish("before")
    await node.until(lambda: len(node.delivered) == 1)
    await database.execute("UPDATE channels SET epoch = 'another'")
    node.clock.advance(SWEEP_INTERVAL_S)
    await node.until(lambda: node.durable._tails[CHANNEL].epoch != first.epoch)
    after = await node.publish("after")
    await node.until(lambda: len(node.delivered) == 2)

    assert after.epoch != first.epoch
    assert node.delivered[-1].epoch == after.epoch
    assert (await node.recover(first.epoch, 1)).reason == "epoch_changed"


async def test_history_pages_both_ways_and_says_whether_there_is_more(node: Node) -> None:
    for number in range(5):
        await node.publish(f"m{number}")
    forward = await node.durable.history(CHANNEL, after=1, limit=2, reverse=False)
    backward = await node.durable.history(CHANNEL, after=0, limit=2, reverse=True)
    last = await node.durable.history(CHANNEL, after=3, limit=2, reverse=False)

    assert ([each.offset for each in forward.messages], forward.complete) == ([2, 3], False)
    assert ([each.offset for each in backward.messages], backward.complete) == ([5, 4], False)
    assert ([each.offset for each in last.messages], last.complete) == ([4, 5], True)


async def test_history_of_a_channel_nobody_ever_used_is_empty(node: Node) -> None:
    found = await node.durable.history("team:nobody", after=0, limit=10, reverse=False)

    assert (found.offset, found.messages, found.complete) == (0, [], True)


async def test_following_a_channel_does_not_list_it_as_one_that_holds_something(node: Node) -> None:
    await node.publish("hello")
    await node.follow("team:empty")

    assert await node.durable.channels() == [CHANNEL]


async def test_readers_who_come_and_go_leave_no_rows_behind(node: Node, database: Database) -> None:
    """Whoever may subscribe to a namespace may name any channel in it: that must not fill the disk for ever."""
    for number in range(50):
        await node.follow(f"team:never-{number}")
        node.durable.leave(f"team:never-{number}")
    await node.until(lambda: not node.durable._tails)

    async with asyncio.timeout(5):
        while await database.fetch_value("SELECT count(*) FROM channels WHERE top = 0"):
            node.clock.advance(SWEEP_INTERVAL_S)
            await asyncio.sleep(0.02)


async def test_a_follower_that_leaves_before_the_first_answer_harms_nobody(node: Node) -> None:
    opened = node.durable.follow(CHANNEL)
    node.durable.leave(CHANNEL)
    await node.follow(CHANNEL)
    await node.publish("hello")
    await node.until(lambda: len(node.delivered) == 1)

    assert opened.cancelled()


async def test_a_full_queue_is_overloaded_and_says_when_to_come_back(log: FaultyLog) -> None:
    node = Node(log)  # its committer does not run
    with pytest.raises(HubError) as caught:
        for number in range(100_000):
            node.start_publish(f"m{number}")

    assert caught.value.code is ErrorCode.OVERLOADED
    assert caught.value.retry_after_ms


async def test_publishers_that_gave_up_do_not_stop_the_others(node: Node, log: FaultyLog) -> None:
    given_up = [node.start_publish(f"m{number}") for number in range(5)]
    for each in given_up:
        each.cancel()
    accepted = await node.publish("kept")

    assert accepted.offset == 6  # a cancelled wait is not a cancelled publish: it was already on its way
    assert len(await log.read(CHANNEL, after=0, limit=10)) == 6


async def test_a_message_that_postgres_refuses_is_the_publishers_error_and_sinks_no_neighbour(node: Node) -> None:
    bad = node.start_publish("bad", idempotency_key=secrets.token_hex(5_000))
    good = node.start_publish("good")
    async with asyncio.timeout(5):
        with pytest.raises(HubError) as caught:
            await bad
        assert (await good).offset == 1

    assert caught.value.code is ErrorCode.BAD_REQUEST


async def test_c86_what_was_erased_from_the_log_is_not_answered_from_memory(node: Node, database: Database) -> None:
    async with node.running():
        await node.durable.follow(CHANNEL)
        placed = await node.publish("secret")
        assert isinstance(node.durable.recover(CHANNEL, epoch=placed.epoch, offset=0, limit=10), Recovered)  # at hand
        await database.execute("UPDATE messages SET publisher = '', body = convert_to('\"data\":{}', 'UTF8')")
        await node.durable.forget(lambda publisher: publisher == "ann")
        answer = node.durable.recover(CHANNEL, epoch=placed.epoch, offset=0, limit=10)
        assert not isinstance(answer, Recovered)
        assert [each.body for each in (await answer).messages] == [b'"data":{}']


async def test_c86_a_channel_that_was_renamed_away_begins_anew_for_who_still_listens(
    node: Node, database: Database
) -> None:
    async with node.running():
        await node.durable.follow("orders:ann")
        await node.publish("old", channel="orders:ann")
        await database.execute("UPDATE channels SET name = 'orders:erased-1' WHERE name = 'orders:ann'")
        await node.durable.forget(lambda publisher: publisher == "ann")
        await node.publish("new", channel="orders:ann")
    assert [each.offset for each in node.delivered] == [1, 1]
