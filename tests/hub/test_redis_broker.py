"""What only the Redis broker does: few rights, sealed messages, histories read when somebody asks for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from clock import ManualClock
from doubles import publication
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError
from redis_bench import ShiftedClock, hub_user, running_broker
from redis_server import redis_server

from hub.brokers.redis import RedisBroker
from hub.brokers.redis.payloads import Payloads, base
from hub.brokers.redis.seals import MAX_ORIGINS, SEAL_BYTES, NotSealed, Seals, Seen
from hub.brokers.redis.server import Server, known_holes
from hub.guard.events import SecurityEvent
from hub.insight.caching.store import RedisStore
from hub.namespaces import Namespace
from hub.publication import Publication

KEY = bytes(range(32))
RECOVERABLE = Namespace(promise="recoverable", history_size=50)
DURABLE = Namespace(promise="durable")


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with redis_server() as started:
        yield started


# --- C71: the hub's user


@pytest.mark.parametrize(
    "words",
    [
        *(["KEYS", "*"], ["CONFIG", "GET", "*"], ["EVAL", "return 1", "0"], ["FLUSHALL"], ["SHUTDOWN", "NOSAVE"]),
        *(["ACL", "LIST"], ["MONITOR"], ["CLIENT", "LIST"], ["REPLICAOF", "NO", "ONE"]),
        *(
            ["HGET", "elsewhere", "x"],
            ["HSET", "elsewhere", "x", "1"],
            ["PUBLISH", "elsewhere", "x"],
            ["GET", "krin:x"],
        ),
    ],
    ids=lambda words: " ".join(words),
)
async def test_c71_the_hubs_user_may_nothing_beyond_what_the_hub_needs(url: str, words: list[str]) -> None:
    async with Redis.from_url(url) as admin:
        await admin.execute_command(*hub_user()[0])
    async with Redis.from_url(url.replace("unix://", "unix://krin:PASSWORD@")) as client:
        with pytest.raises(NoPermissionError):
            await client.execute_command(*words)


async def test_c71_the_hubs_user_may_keep_what_the_cache_keeps(url: str) -> None:
    async with Redis.from_url(url) as admin:
        await admin.execute_command(*hub_user()[0])
    store = RedisStore(url.replace("unix://", "unix://krin:PASSWORD@"), clock=ManualClock())
    assert await store.claim("a", ttl_s=10)
    assert not await store.claim("a", ttl_s=10)
    await store.put("a", b"one", ttl_s=10)
    assert await store.get("a") == b"one"
    await store.release("a", ttl_s=10)
    assert await store.claim("a", ttl_s=10)
    await store.aclose()


@pytest.mark.parametrize(
    ("version", "warned"),
    [
        *(("6.2.14", True), ("6.2.20", False), ("7.0.15", True), ("7.2.10", True), ("7.2.11", False)),
        *(("7.4.5", True), ("8.0.4", False), ("8.2.1", True), ("8.4.0", False), ("255.255.255", False), ("", False)),
    ],
)
def test_c72_versions_with_known_holes_are_warned_of(version: str, warned: bool) -> None:
    assert (known_holes(version) is not None) is warned


# --- C73: seals


@given(
    channel=st.text(min_size=1, max_size=20),
    place=st.binary(max_size=20),
    content=st.binary(max_size=50),
    data=st.data(),
)
def test_c73_a_seal_fits_exactly_what_was_sealed(
    channel: str, place: bytes, content: bytes, data: st.DataObject
) -> None:
    seals = Seals(KEY)
    seal = seals.seal(channel, place, content)
    Seals(KEY).check(channel, place, seal, content)

    changed = data.draw(st.sampled_from(["channel", "place", "content", "seal", "key"]))
    at = data.draw(st.integers(0, SEAL_BYTES * 8 - 1))
    with pytest.raises(NotSealed, match="forged"):
        (Seals(bytes(32)) if changed == "key" else seals).check(
            channel + "x" if changed == "channel" else channel,
            place + b"x" if changed == "place" else place,
            flipped(seal, at) if changed == "seal" else seal,
            content + b"x" if changed == "content" else content,
        )


@given(
    channel=st.text(max_size=4), place=st.binary(max_size=4), content=st.binary(max_size=4), split=st.integers(-4, 4)
)
def test_c73_bytes_cannot_move_from_one_part_to_the_next(
    channel: str, place: bytes, content: bytes, split: int
) -> None:
    seals = Seals(KEY)
    seal = seals.seal(channel, place, content)
    both = place + content
    cut = len(place) + split
    if split and 0 <= cut <= len(both):
        with pytest.raises(NotSealed):
            seals.check(channel, both[:cut], seal, both[cut:])


def flipped(data: bytes, bit: int) -> bytes:
    number = int.from_bytes(data, "big") ^ (1 << bit)
    return number.to_bytes(len(data), "big")


def test_c73_what_was_seen_is_a_replay_and_what_follows_is_not() -> None:
    one, other, seen = Seals(KEY), Seals(KEY), Seen()
    first, second = one.seal("c", b"", b""), one.seal("c", b"", b"")
    seen.note(first)
    seen.note(other.seal("c", b"", b""))
    seen.note(second)
    for again in (first, second):
        with pytest.raises(NotSealed, match="replayed"):
            seen.note(again)


def test_nodes_that_are_gone_are_not_remembered_for_ever() -> None:
    seen = Seen()
    for _ in range(MAX_ORIGINS + 10):
        seen.note(Seals(KEY).seal("c", b"", b""))

    assert len(seen._newest) == MAX_ORIGINS


@given(st.binary(max_size=200))
def test_c26_whatever_arrives_is_refused_and_nothing_else_happens(payload: bytes) -> None:
    payloads = Payloads(Seals(KEY), clock=ShiftedClock())
    for policy in (RECOVERABLE, DURABLE):
        with pytest.raises(NotSealed):
            payloads.open("custom:x", policy, payload, Seen())
    with pytest.raises(NotSealed):
        payloads.open_announcement(payload, Seen())


@given(st.lists(st.tuples(st.text(max_size=10), st.binary(max_size=50)), min_size=1, max_size=5), st.data())
def test_a_batch_opens_as_what_was_packed_without_the_repeats(
    parts: list[tuple[str, bytes]], data: st.DataObject
) -> None:
    payloads = Payloads(Seals(KEY), clock=ShiftedClock())
    content = b"".join(
        payloads.pack(Publication("custom:x", "NOTE", body=body, timestamp=1, key=key)) for key, body in parts
    )
    skipped = sorted(data.draw(st.sets(st.integers(0, len(parts) - 1))))
    head = f"e1 7 {','.join(map(str, skipped))} ".encode()
    opened = payloads.open("custom:x", RECOVERABLE, head + payloads.batch_seal("custom:x", content) + content, Seen())

    left = [part for index, part in enumerate(parts) if index not in skipped]
    assert [(each.key, each.body) for each in opened] == left
    assert [each.offset for each in opened] == list(range(7, 7 + len(left)))


async def test_c73_nodes_with_different_keys_do_not_hear_each_other_and_say_so(url: str) -> None:
    delivered: list[Publication] = []
    events: list[SecurityEvent] = []
    async with (
        running_broker(url, delivered.append, report=events.append) as (here, _, _),
        running_broker(url, lambda each: None, secret=bytes(32)) as (stranger, _, _),
    ):
        joined = here.subscribe("custom:x", RECOVERABLE)
        assert joined is not None
        await joined
        for _ in range(3):
            await stranger.publish(publication("custom:x"), RECOVERABLE)
        async with asyncio.timeout(5):
            while here.rejected["forged"] < 3:
                await asyncio.sleep(0.01)

    assert delivered == []
    assert [(event.name, event.target, event.allowed) for event in events] == [
        ("malicious_extraneous", "krin:{custom:x}", False)
    ]


# --- histories


async def test_a_history_is_read_when_a_reader_resumes_and_then_once_for_all(url: str) -> None:
    async with running_broker(url, lambda each: None) as (here, _, _), Redis.from_url(url) as admin:
        for number in range(10):
            last = await here.publish(
                publication("custom:x", timestamp=here._clock.now_ms(), text=str(number)), RECOVERABLE
            )
        joined = here.subscribe("custom:x", RECOVERABLE)
        assert joined is not None
        await joined
        followed = here._mirror.get("custom:x")
        assert followed is not None
        assert followed.kept is not None
        assert not followed.kept.history
        before = await calls(admin, "lrange")
        found = await asyncio.gather(
            *(
                asyncio.ensure_future(each)
                for each in [
                    here.recover("custom:x", RECOVERABLE, epoch=last.epoch, offset=number, limit=100)
                    for number in range(5)
                ]
                if isinstance(each, asyncio.Future)
            )
        )
        again = here.recover("custom:x", RECOVERABLE, epoch=last.epoch, offset=2, limit=100)
        after = await calls(admin, "lrange")

    assert [(each.complete, len(each.messages)) for each in found] == [(True, 10 - number) for number in range(5)]
    assert not isinstance(again, asyncio.Future)
    assert [each.offset for each in again.messages] == list(range(3, 11))
    assert after - before == 1


async def calls(admin: Redis, command: str) -> int:
    stats = await admin.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def test_a_broker_that_is_cancelled_in_the_moment_its_connection_fails_ends(url: str) -> None:
    broker = RedisBroker(url, lambda each: None, secret=KEY, report=lambda event: None, clock=ShiftedClock())
    running = asyncio.create_task(broker.run())

    def fail(payload: bytes) -> None:
        running.cancel()
        raise OSError("lost")

    broker.listen("fail", fail)
    await broker.connected()
    async with asyncio.timeout(5):
        while not running.done():
            broker.announce("fail", b"")
            await asyncio.wait([running], timeout=0.05)
    assert running.cancelled()


class Forgetful(RedisBroker):
    """Reads as redis-py does on Python 3.11 at the worst moment: it is cancelled, and goes on."""

    async def read(self, server: Server, channels: set[str]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def test_a_read_that_forgets_its_cancellation_does_not_keep_a_lost_session(url: str) -> None:
    broker = Forgetful(url, lambda each: None, secret=KEY, report=lambda event: None, clock=ShiftedClock())
    running = asyncio.create_task(broker.run())
    await broker.connected()
    broker.subscribe("custom:x", RECOVERABLE)
    async with Redis.from_url(url) as admin, asyncio.timeout(10):
        while not broker._subscribed.get(base("custom:x")):
            await asyncio.sleep(0.01)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        while not (broker.reconnects and broker.available):
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
