"""The contract of a broker (hub.brokers.base.Broker), for every implementation of it.

A factory is an async context manager that gives a `Bench`: the broker, what it delivered, its clock, and how to let
time pass for it. To put another broker under the contract, add its factory to FACTORIES.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from doubles import publication
from redis_bench import hub_user, running_broker, running_redis_broker
from redis_cluster import RedisCluster, missing_redis_7, redis_cluster

from hub.brokers.base import Broker, Recovered
from hub.brokers.local import IDEMPOTENCY_WINDOW_S, MAX_BYTES, MAX_CHANNELS, SWEEP_INTERVAL_S, LocalBroker
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published

RECOVERABLE = Namespace(promise="recoverable", history_size=5, history_ttl_s=60)
LATEST = Namespace(promise="latest", max_keys=3)
NO_HISTORY = Namespace(promise="recoverable", history_size=0)


@dataclass
class Bench:
    broker: Broker
    clock: Clock
    pass_time: Callable[[float], Awaitable[None]]
    delivered: list[Publication] = field(default_factory=list)

    async def publish(
        self,
        channel: str = "custom:x",
        policy: Namespace = RECOVERABLE,
        *,
        text: str = "",
        key: str | None = None,
        publisher: str | None = "ann",
        idempotency_key: str | None = None,
        type: str = "NOTE",
        ttl_s: float | None = None,
    ) -> Published:
        made = publication(
            channel,
            key=key,
            text=text,
            publisher=publisher,
            timestamp=self.clock.now_ms(),
            conflatable=policy.latest,
            type=type,
            expires_at=None if ttl_s is None else self.clock.monotonic() + ttl_s,
        )
        placed: Published = await answered(self.broker.publish(made, policy, idempotency_key=idempotency_key))
        return placed

    async def fill(self, count: int, channel: str = "custom:x", policy: Namespace = RECOVERABLE) -> Published:
        for number in range(count):
            placed = await self.publish(channel, policy, text=f"m{number}")
        return placed

    async def listen(self, channel: str = "custom:x", policy: Namespace = RECOVERABLE) -> None:
        if (joined := self.broker.subscribe(channel, policy)) is not None:
            async with asyncio.timeout(5):
                await joined

    async def recover(
        self,
        channel: str = "custom:x",
        policy: Namespace = RECOVERABLE,
        *,
        epoch: str | None = None,
        offset: int = 0,
        limit: int = 100,
    ) -> Recovered:
        found: Recovered = await answered(self.broker.recover(channel, policy, epoch=epoch, offset=offset, limit=limit))
        return found

    async def history(
        self,
        channel: str = "custom:x",
        policy: Namespace = RECOVERABLE,
        *,
        after: int = 0,
        limit: int = 100,
        reverse: bool = False,
    ) -> Recovered:
        found: Recovered = await answered(
            self.broker.history(channel, policy, after=after, limit=limit, reverse=reverse)
        )
        return found

    async def channels(self) -> list[str]:
        found: list[str] = await answered(self.broker.channels())
        return found

    async def until_delivered(self, count: int) -> list[Publication]:
        """Delivery may take a trip through a wire: wait for the fact."""
        async with asyncio.timeout(5):
            while len(self.delivered) < count:
                await asyncio.sleep(0)
        return self.delivered


async def answered(answer: Any) -> Any:
    """The value, whether it is at hand or still travels."""
    if isinstance(answer, Awaitable):
        async with asyncio.timeout(5):
            return await answer
    return answer


@asynccontextmanager
async def local_broker(*, max_bytes: int = MAX_BYTES) -> AsyncIterator[Bench]:
    clock = ManualClock()
    delivered: list[Publication] = []
    broker = LocalBroker(delivered.append, clock=clock, max_bytes=max_bytes)
    running = asyncio.create_task(broker.run())
    await clock.until_somebody_sleeps()

    async def pass_time(seconds: float) -> None:
        clock.advance(seconds)
        await clock.until_somebody_sleeps()

    try:
        yield Bench(broker, clock, pass_time, delivered)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def redis_broker() -> AsyncIterator[Bench]:
    delivered: list[Publication] = []
    async with running_redis_broker(delivered.append) as (broker, clock, pass_time):
        yield Bench(broker, clock, pass_time, delivered)


@asynccontextmanager
async def cluster_broker(cluster: RedisCluster | None) -> AsyncIterator[Bench]:
    if cluster is None:
        pytest.skip(missing_redis_7() or "")
    delivered: list[Publication] = []
    cluster.forget()
    servers = [f"redis://127.0.0.1:{server.port}" for server in cluster.masters]
    as_user = cluster.url.replace("://", "://krin:PASSWORD@")
    async with running_broker(as_user, delivered.append, servers=servers) as (broker, clock, pass_time):
        yield Bench(broker, clock, pass_time, delivered)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[RedisCluster | None]:
    """One for all tests; none where it cannot be."""
    if missing_redis_7() is not None:
        yield None
        return
    async with redis_cluster() as started:
        for server in started.masters:
            for words in hub_user():
                server.ask(*words)
        yield started


Factory = Callable[[RedisCluster | None], AbstractAsyncContextManager[Bench]]
FACTORIES: dict[str, Factory] = {
    "local": lambda cluster: local_broker(),
    "redis": lambda cluster: redis_broker(),
    "redis cluster": cluster_broker,
}


@pytest_asyncio.fixture(params=sorted(FACTORIES))
async def bench(request: pytest.FixtureRequest, cluster: RedisCluster | None) -> AsyncIterator[Bench]:
    async with FACTORIES[request.param](cluster) as made:
        yield made


def offsets(found: Recovered) -> list[int]:
    return [each.offset for each in found.messages]


# --- offsets and epochs


async def test_offsets_count_from_one_without_gaps_in_each_channel_by_itself(bench: Bench) -> None:
    x = [(await bench.publish("custom:x")).offset for _ in range(4)]
    y = [(await bench.publish("custom:y")).offset for _ in range(2)]

    assert x == [1, 2, 3, 4]
    assert y == [1, 2]


async def test_a_channel_keeps_its_epoch_and_no_other_channel_has_it(bench: Bench) -> None:
    first, second = await bench.publish("custom:x"), await bench.publish("custom:x")
    other = await bench.publish("custom:y")

    assert first.epoch == second.epoch
    assert first.epoch
    assert other.epoch != first.epoch


async def test_the_epoch_told_before_the_first_message_is_the_first_messages_epoch(bench: Bench) -> None:
    await bench.listen()
    before = await bench.recover()
    placed = await bench.publish()

    assert (before.offset, before.messages) == (0, [])
    assert before.epoch == placed.epoch


async def test_who_left_before_the_first_message_can_go_on_from_there(bench: Bench) -> None:
    await bench.listen()
    before = await bench.recover()
    bench.broker.unsubscribe("custom:x")
    await bench.fill(2)
    await bench.listen()
    found = await bench.recover(epoch=before.epoch, offset=0)

    assert (found.complete, [each.offset for each in found.messages]) == (True, [1, 2])


async def test_a_subscriber_gets_every_message_in_order_with_its_position(bench: Bench) -> None:
    await bench.listen()
    placed = [await bench.publish(text=str(number)) for number in range(20)]

    delivered = await bench.until_delivered(20)

    assert [(each.epoch, each.offset) for each in delivered] == [(each.epoch, each.offset) for each in placed]
    assert [each.channel for each in delivered] == ["custom:x"] * 20


async def test_many_publishers_at_once_still_get_each_offset_once_and_in_order(bench: Bench) -> None:
    await bench.listen()
    placed = await asyncio.gather(*(bench.publish(publisher=f"p{number}") for number in range(50)))

    delivered = await bench.until_delivered(50)

    assert sorted(each.offset for each in placed) == list(range(1, 51))
    assert [each.offset for each in delivered] == list(range(1, 51))


async def test_a_delivered_message_is_what_was_published(bench: Bench) -> None:
    await bench.listen()
    await bench.publish(text='é " \\ \n end', key="k", publisher="ann", type="GREETING")

    [got] = await bench.until_delivered(1)

    assert (got.type, got.key) == ("GREETING", "k")
    assert got.timestamp == bench.clock.now_ms()
    assert b'"n":0' in got.body
    assert 'é \\" \\\\ \\n end'.encode() in got.body


async def test_what_is_read_back_expires_when_what_was_published_does(bench: Bench) -> None:
    before = await bench.publish(ttl_s=30)
    until = bench.clock.monotonic() + 30
    await bench.publish()
    await bench.listen()

    for found in (await bench.recover(epoch=before.epoch, offset=0), await bench.history()):
        expiring, lasting = found.messages
        assert expiring.expires_at == pytest.approx(until, abs=5)
        assert lasting.expires_at is None


async def test_an_idle_channel_that_is_forgotten_comes_back_with_another_epoch_or_its_old_offset(
    bench: Bench,
) -> None:
    before = await bench.fill(3)
    for _ in range(200):
        await bench.pass_time(SWEEP_INTERVAL_S)
    after = await bench.publish()

    assert after.epoch != before.epoch or after.offset == before.offset + 1


async def test_a_channel_with_a_listener_is_never_forgotten(bench: Bench) -> None:
    await bench.listen()
    before = await bench.fill(3)
    for _ in range(200):
        await bench.pass_time(SWEEP_INTERVAL_S)
    after = await bench.publish()

    assert (after.epoch, after.offset) == (before.epoch, 4)


# --- idempotency


async def test_a_repeated_key_gets_the_first_answer_and_nothing_is_published_twice(bench: Bench) -> None:
    await bench.listen()
    first = await bench.publish(text="once", idempotency_key="k1")
    await bench.pass_time(1)
    again = await bench.publish(text="once", idempotency_key="k1")
    last = await bench.publish(text="other")

    assert (again.epoch, again.offset, again.timestamp) == (first.epoch, first.offset, first.timestamp)
    assert again.duplicate
    assert not first.duplicate
    assert last.offset == 2
    await bench.until_delivered(2)
    assert [each.offset for each in bench.delivered] == [1, 2]


@pytest.mark.parametrize("change", ["text", "type"])
async def test_a_key_with_another_message_is_a_conflict_and_publishes_nothing(bench: Bench, change: str) -> None:
    await bench.publish(text="once", idempotency_key="k1")
    with pytest.raises(HubError) as caught:
        await bench.publish(
            text="twice" if change == "text" else "once",
            type="OTHER" if change == "type" else "NOTE",
            idempotency_key="k1",
        )

    assert caught.value.code is ErrorCode.IDEMPOTENCY_CONFLICT
    assert (await bench.publish()).offset == 2


async def test_a_key_belongs_to_its_publisher_and_its_channel(bench: Bench) -> None:
    await bench.publish(text="a", publisher="ann", idempotency_key="k1")
    other_publisher = await bench.publish(text="b", publisher="bob", idempotency_key="k1")
    other_channel = await bench.publish("custom:y", text="c", publisher="ann", idempotency_key="k1")

    assert (other_publisher.offset, other_publisher.duplicate) == (2, False)
    assert (other_channel.offset, other_channel.duplicate) == (1, False)


async def test_a_key_counts_until_its_window_ends_and_not_after(bench: Bench) -> None:
    first = await bench.publish(text="once", idempotency_key="k1")
    await bench.pass_time(IDEMPOTENCY_WINDOW_S - 1)
    within = await bench.publish(text="once", idempotency_key="k1")
    await bench.pass_time(2)
    after = await bench.publish(text="another", idempotency_key="k1")

    assert within.duplicate
    assert after.offset == first.offset + 1
    assert not after.duplicate


async def test_a_key_used_again_after_its_window_is_protected_again(bench: Bench) -> None:
    await bench.publish(text="one", idempotency_key="k1")
    await bench.publish(text="two", idempotency_key="k2")
    await bench.pass_time(IDEMPOTENCY_WINDOW_S + 1)
    second = await bench.publish(text="three", idempotency_key="k1")
    await bench.pass_time(SWEEP_INTERVAL_S)
    again = await bench.publish(text="three", idempotency_key="k1")

    assert again.duplicate
    assert again.offset == second.offset


async def test_a_setback_of_the_wall_clock_does_not_open_the_window(bench: Bench) -> None:
    await bench.publish(text="once", idempotency_key="k1")
    bench.clock.jump(3600)
    again = await bench.publish(text="once", idempotency_key="k1")

    assert again.duplicate


# --- history


async def test_history_is_bounded_by_its_size_and_keeps_the_newest(bench: Bench) -> None:
    await bench.fill(12)

    assert offsets(await bench.history()) == [8, 9, 10, 11, 12]
    assert (await bench.history()).offset == 12


async def test_history_forgets_what_is_older_than_its_age(bench: Bench) -> None:
    await bench.fill(2)
    await bench.pass_time(RECOVERABLE.history_ttl_s - 1)
    await bench.fill(2)
    await bench.pass_time(2)

    assert offsets(await bench.history()) == [3, 4]


async def test_history_pages_forward_and_says_whether_there_is_more(bench: Bench) -> None:
    await bench.fill(5)
    page = await bench.history(after=1, limit=2)
    rest = await bench.history(after=3, limit=2)

    assert (offsets(page), page.complete) == ([2, 3], False)
    assert (offsets(rest), rest.complete) == ([4, 5], True)


async def test_history_pages_backward_from_the_end_or_from_before_an_offset(bench: Bench) -> None:
    await bench.fill(5)
    newest = await bench.history(reverse=True, limit=2)
    older = await bench.history(after=4, reverse=True, limit=2)
    oldest = await bench.history(after=2, reverse=True, limit=2)

    assert (offsets(newest), newest.complete) == ([5, 4], False)
    assert (offsets(older), older.complete) == ([3, 2], False)
    assert (offsets(oldest), oldest.complete) == ([1], True)


async def test_history_of_a_channel_nobody_wrote_to_is_empty(bench: Bench) -> None:
    found = await bench.history("custom:nobody")

    assert (found.offset, found.messages, found.complete) == (0, [], True)


async def test_a_channel_without_history_keeps_none_but_counts_on(bench: Bench) -> None:
    await bench.fill(3, "custom:n", NO_HISTORY)
    found = await bench.history("custom:n", NO_HISTORY)

    assert (found.offset, found.messages) == (3, [])


async def test_only_channels_that_hold_something_are_listed(bench: Bench) -> None:
    await bench.publish("custom:x")
    await bench.listen("custom:y")
    await bench.history("custom:z")

    assert await bench.channels() == ["custom:x"]


# --- latest


async def test_the_snapshot_holds_the_newest_value_of_each_key(bench: Bench) -> None:
    for number, key in enumerate(["a", "b", "a", "b", "a"]):
        await bench.publish("prices:x", LATEST, key=key, text=str(number))
    await bench.listen("prices:x", LATEST)
    found = await bench.recover("prices:x", LATEST)

    assert {each.key: each.offset for each in found.messages} == {"a": 5, "b": 4}
    assert (found.offset, found.complete, found.reason) == (5, False, "not_requested")


async def test_the_snapshot_comes_oldest_first_like_everything_else(bench: Bench) -> None:
    """A reader that drops what is not newer than the last offset it saw must not lose a key by that."""
    for key in ["a", "b", "a"]:
        await bench.publish("prices:x", LATEST, key=key)
    await bench.listen("prices:x", LATEST)

    assert offsets(await bench.recover("prices:x", LATEST)) == [2, 3]
    assert offsets(await bench.history("prices:x", LATEST)) == [2, 3]


async def test_messages_without_a_key_are_one_key(bench: Bench) -> None:
    for _ in range(3):
        await bench.publish("prices:x", LATEST)

    assert offsets(await bench.history("prices:x", LATEST)) == [3]


async def test_a_latest_value_does_not_age(bench: Bench) -> None:
    await bench.publish("prices:x", LATEST, key="a")
    for _ in range(200):
        await bench.pass_time(SWEEP_INTERVAL_S)

    assert offsets(await bench.history("prices:x", LATEST)) == [1]


async def test_beyond_its_keys_a_channel_forgets_the_value_that_is_longest_unchanged(bench: Bench) -> None:
    for key in ["a", "b", "c", "a", "d"]:
        await bench.publish("prices:x", LATEST, key=key)
    found = await bench.history("prices:x", LATEST)

    assert {each.key for each in found.messages} == {"a", "c", "d"}


# --- recovery


async def test_a_position_within_history_is_recovered_without_a_gap(bench: Bench) -> None:
    last = await bench.fill(5)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=2)

    assert (found.complete, found.reason, offsets(found), found.offset) == (True, None, [3, 4, 5], 5)


async def test_the_newest_position_is_recovered_with_nothing_to_tell(bench: Bench) -> None:
    last = await bench.fill(5)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=5)

    assert (found.complete, found.reason, found.messages) == (True, None, [])


async def test_the_very_beginning_can_be_recovered_while_it_is_kept(bench: Bench) -> None:
    last = await bench.fill(5)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=0)

    assert (found.complete, offsets(found)) == (True, [1, 2, 3, 4, 5])


async def test_without_a_position_nothing_is_recovered_and_nothing_is_wrong(bench: Bench) -> None:
    last = await bench.fill(3)
    await bench.listen()
    found = await bench.recover()

    assert (found.epoch, found.offset, found.messages) == (last.epoch, 3, [])
    assert (found.complete, found.reason) == (False, "not_requested")


async def test_another_epoch_is_named_as_the_reason(bench: Bench) -> None:
    await bench.fill(3)
    await bench.listen()
    found = await bench.recover(epoch="another", offset=2)

    assert (found.complete, found.reason, found.messages) == (False, "epoch_changed", [])


async def test_a_position_beyond_the_newest_is_from_another_history(bench: Bench) -> None:
    last = await bench.fill(3)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=4)

    assert (found.complete, found.reason) == (False, "epoch_changed")


async def test_a_position_older_than_what_is_kept_is_never_half_recovered(bench: Bench) -> None:
    last = await bench.fill(12)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=6)
    just_enough = await bench.recover(epoch=last.epoch, offset=7)

    assert (found.complete, found.reason, found.messages) == (False, "offset_too_old", [])
    assert (just_enough.complete, offsets(just_enough)) == (True, [8, 9, 10, 11, 12])


async def test_a_position_whose_messages_have_aged_away_is_too_old(bench: Bench) -> None:
    last = await bench.fill(3)
    await bench.listen()
    await bench.pass_time(RECOVERABLE.history_ttl_s + 1)
    found = await bench.recover(epoch=last.epoch, offset=1)

    assert (found.complete, found.reason, found.messages) == (False, "offset_too_old", [])


async def test_more_than_the_limit_is_named_as_the_reason(bench: Bench) -> None:
    last = await bench.fill(5)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=1, limit=3)
    exactly = await bench.recover(epoch=last.epoch, offset=2, limit=3)

    assert (found.complete, found.reason, found.messages) == (False, "limit_exceeded", [])
    assert (exactly.complete, offsets(exactly)) == (True, [3, 4, 5])


async def test_a_channel_without_history_says_so(bench: Bench) -> None:
    last = await bench.fill(3, "custom:n", NO_HISTORY)
    await bench.listen("custom:n", NO_HISTORY)
    found = await bench.recover("custom:n", NO_HISTORY, epoch=last.epoch, offset=2)
    nothing_missed = await bench.recover("custom:n", NO_HISTORY, epoch=last.epoch, offset=3)

    assert (found.complete, found.reason) == (False, "history_disabled")
    assert nothing_missed.complete


async def test_a_latest_channel_answers_a_missed_position_with_its_snapshot(bench: Bench) -> None:
    for key in ["a", "b", "a"]:
        last = await bench.publish("prices:x", LATEST, key=key)
    await bench.listen("prices:x", LATEST)
    missed = await bench.recover("prices:x", LATEST, epoch=last.epoch, offset=1)
    foreign = await bench.recover("prices:x", LATEST, epoch="another", offset=1)

    assert (missed.complete, missed.reason) == (False, "history_disabled")
    assert {each.key for each in missed.messages} == {"a", "b"}
    assert foreign.reason == "epoch_changed"
    assert {each.key for each in foreign.messages} == {"a", "b"}


async def test_a_negative_position_is_not_a_way_to_more_than_is_kept(bench: Bench) -> None:
    last = await bench.fill(5)
    await bench.listen()
    found = await bench.recover(epoch=last.epoch, offset=-3)

    assert not found.complete
    assert found.messages == []


# --- what nodes tell each other


async def test_what_is_announced_reaches_the_handler_of_its_topic_and_no_other(bench: Bench) -> None:
    heard: list[tuple[str, bytes]] = []
    bench.broker.listen("one", lambda payload: heard.append(("one", payload)))
    bench.broker.listen("two", lambda payload: heard.append(("two", payload)))
    bench.broker.announce("one", b"\x00\xff")
    bench.broker.announce("three", b"nobody listens")
    bench.broker.announce("two", b"last")

    async with asyncio.timeout(5):
        while len(heard) < 2:
            await asyncio.sleep(0)
    assert heard == [("one", b"\x00\xff"), ("two", b"last")]


# --- the bell


async def test_a_rung_publication_arrives_with_the_position_it_had(bench: Bench) -> None:
    durable = Namespace(promise="durable")
    await bench.listen("team:alpha", durable)
    bench.broker.ring(publication("team:alpha", 41, epoch="e9", text="hello"))

    [got] = await bench.until_delivered(1)

    assert (got.channel, got.epoch, got.offset) == ("team:alpha", "e9", 41)


async def test_a_rung_publication_is_kept_nowhere(bench: Bench) -> None:
    bench.broker.ring(publication("team:alpha", 41, epoch="e9"))

    assert await bench.channels() == []


# --- forgetting somebody


async def test_c86_a_forgotten_publisher_leaves_no_message_and_no_hole(bench: Bench) -> None:
    await bench.listen()
    for number, publisher in enumerate(["ann", "bob", "ann", "carol", "dave"]):
        await bench.publish(text=f"m{number}", publisher=publisher, idempotency_key=f"k{number}")
    await bench.until_delivered(5)
    await bench.broker.forget(lambda publisher: publisher == "ann")
    kept = await bench.history()
    assert [(each.offset, each.publisher) for each in kept.messages] == [(4, "carol"), (5, "dave")]
    epoch = kept.epoch
    assert (await bench.recover(epoch=epoch, offset=3)).complete
    assert (await bench.recover(epoch=epoch, offset=1)).reason == "offset_too_old"
    await bench.broker.forget(lambda publisher: True)
    assert (await bench.history()).messages == []
    assert (await bench.publish(text="again")).offset == 6
    await bench.until_delivered(6)
    assert [each.offset for each in (await bench.history()).messages] == [6]


async def test_c86_a_forgotten_publishers_latest_values_are_gone(bench: Bench) -> None:
    await bench.publish("prices:x", LATEST, key="a", publisher="ann")
    await bench.publish("prices:x", LATEST, key="b", publisher="bob")
    await bench.broker.forget(lambda publisher: publisher == "ann")
    assert [each.key for each in (await bench.history("prices:x", LATEST)).messages] == ["b"]


# --- only where everything is in this process


async def test_readers_cannot_use_up_the_channels_of_the_hub() -> None:
    """Whoever may read a namespace may ask for any name in it: that must not keep publishers out."""
    async with local_broker() as bench:
        for number in range(MAX_CHANNELS):
            bench.broker.history(f"custom:{number}", RECOVERABLE, after=0, limit=1, reverse=False)

        assert (await bench.publish("custom:real")).offset == 1


async def test_idempotency_keys_do_not_stay_for_ever() -> None:
    async with local_broker() as bench:
        for number in range(1_000):
            await bench.publish(idempotency_key=f"k{number}")
        await bench.pass_time(IDEMPOTENCY_WINDOW_S + SWEEP_INTERVAL_S)
        await bench.pass_time(SWEEP_INTERVAL_S)
        broker = bench.broker
        assert isinstance(broker, LocalBroker)

        assert not broker._channels["custom:x"].keys if "custom:x" in broker._channels else True


async def test_a_node_that_is_full_takes_from_the_largest_history_and_says_so_to_who_resumes_in_it() -> None:
    """What one channel takes must not cost the others theirs."""
    big = Namespace(promise="recoverable", history_size=10_000)
    async with local_broker(max_bytes=200_000) as bench:
        small = await bench.fill(5, "custom:small", RECOVERABLE)
        last = await bench.fill(1_000, "custom:big", big)
        untouched = await bench.recover("custom:small", RECOVERABLE, epoch=small.epoch, offset=0)
        recent = await bench.recover("custom:big", big, epoch=last.epoch, offset=last.offset - 50, limit=1_000)
        old = await bench.recover("custom:big", big, epoch=last.epoch, offset=0, limit=1_000)

    assert (untouched.complete, len(untouched.messages)) == (True, 5)
    assert (recent.complete, len(recent.messages)) == (True, 50)
    assert (old.complete, old.reason) == (False, "offset_too_old")


async def test_a_node_that_is_full_of_latest_values_refuses_and_recovers_when_there_is_room() -> None:
    many = Namespace(promise="latest", max_keys=10_000)
    async with local_broker(max_bytes=100_000) as bench:
        with pytest.raises(HubError) as refusal:
            for number in range(1_000):
                await bench.publish("prices:x", many, key=str(number))
        held = len((await bench.history("prices:x", many, limit=1_000)).messages)
        await bench.broker.forget(lambda publisher: True)
        await bench.pass_time(SWEEP_INTERVAL_S)
        await bench.publish("prices:x", many, key="again")

    assert refusal.value.code is ErrorCode.OVERLOADED
    assert 50 < held < 300
