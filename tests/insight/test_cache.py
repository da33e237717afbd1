"""One computes, the others wait or take what is old: in one process and between nodes on a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from clock import ManualClock
from redis_server import redis_server

from hub.insight.caching.cache import CLAIM_S, MAX_VALUE_BYTES, POLL_S, WAIT_S, Cache
from hub.insight.caching.lifetime import FIRST_S, LONGEST_S
from hub.insight.caching.store import OVERHEAD_BYTES, MemoryStore, RedisStore


class Source:
    """What is cached: computing waits for `open`, and counts."""

    def __init__(self, value: bytes = b"one") -> None:
        self.value = value
        self.computed = 0
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def compute(self) -> bytes:
        self.computed += 1
        self.begun.set()
        await self.open.wait()
        if not self.value:
            raise LookupError("nothing to give")
        return self.value


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield Cache("test", MemoryStore(clock=clock), clock=clock)
        return
    async with redis_server() as url:
        store = RedisStore(url, clock=clock)
        yield Cache("test", store, clock=clock)
        await store.aclose()


async def test_a_value_is_computed_once_in_its_lifetime(cache: Cache, clock: ManualClock) -> None:
    source = Source()
    assert await cache.get_or_compute("a", source.compute) == (b"one", "miss")
    assert await cache.get_or_compute("a", source.compute) == (b"one", "hit")
    assert await cache.get_or_compute("b", source.compute) == (b"one", "miss")
    clock.advance(FIRST_S + 1)
    source.value = b"two"
    assert await cache.get_or_compute("a", source.compute) == (b"two", "miss")
    assert cache.answers == {"hit": 1, "stale": 0, "miss": 3}
    assert cache.ttl_s < FIRST_S  # it had changed


async def test_what_never_changes_is_kept_for_longer(cache: Cache, clock: ManualClock) -> None:
    source = Source()
    await cache.get_or_compute("a", source.compute)
    clock.advance(FIRST_S + 1)
    await cache.get_or_compute("a", source.compute)
    assert cache.ttl_s == LONGEST_S


async def test_one_computes_and_all_who_came_meanwhile_get_its_value(cache: Cache) -> None:
    source = Source()
    source.open.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        asking = [group.create_task(cache.get_or_compute("a", source.compute)) for _ in range(20)]
        await source.begun.wait()
        source.open.set()
    assert source.computed == 1
    assert sorted(task.result().how for task in asking) == ["hit"] * 19 + ["miss"]


async def test_whoever_comes_while_an_old_value_is_renewed_gets_the_old_one(cache: Cache, clock: ManualClock) -> None:
    source = Source()
    await cache.get_or_compute("a", source.compute)
    clock.advance(FIRST_S + 1)
    source.open.clear()
    source.begun.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        renewing = group.create_task(cache.get_or_compute("a", source.compute))
        await source.begun.wait()
        assert await cache.get_or_compute("a", source.compute) == (b"one", "stale")
        source.open.set()
    assert renewing.result().how == "miss"


async def test_a_failure_is_told_to_all_who_waited_and_kept_by_nobody(cache: Cache) -> None:
    source = Source(b"")
    source.open.clear()
    async with asyncio.timeout(5):
        asking = [asyncio.ensure_future(cache.get_or_compute("a", source.compute)) for _ in range(3)]
        await source.begun.wait()
        source.open.set()
        ends = await asyncio.gather(*asking, return_exceptions=True)
    assert [type(end) for end in ends] == [LookupError] * 3
    source.value = b"one"
    assert (await cache.get_or_compute("a", source.compute)).how == "miss"


async def test_an_old_value_serves_while_no_new_one_can_be_computed(cache: Cache, clock: ManualClock) -> None:
    source = Source()
    await cache.get_or_compute("a", source.compute)
    clock.advance(FIRST_S + 1)
    source.value = b""
    assert await cache.get_or_compute("a", source.compute) == (b"one", "stale")


async def test_others_compute_themselves_when_the_one_who_did_is_broken_off(cache: Cache) -> None:
    source = Source()
    source.open.clear()
    async with asyncio.timeout(5):
        first = asyncio.ensure_future(cache.get_or_compute("a", source.compute))
        await source.begun.wait()
        second = asyncio.ensure_future(cache.get_or_compute("a", source.compute))
        first.cancel()
        await asyncio.wait([first])
        source.open.set()
        assert (await second).value == b"one"


async def test_a_large_value_is_not_kept(cache: Cache) -> None:
    source = Source(b"x" * (MAX_VALUE_BYTES + 1))
    await cache.get_or_compute("a", source.compute)
    assert (await cache.get_or_compute("a", source.compute)).how == "miss"


async def test_memory_is_bounded_and_the_least_recently_used_go_first(clock: ManualClock) -> None:
    store = MemoryStore(max_bytes=3 * (OVERHEAD_BYTES + 10), clock=clock)
    for key in "abc":
        await store.put(key, b"0123456789", ttl_s=10)
    await store.get("a")
    await store.put("d", b"0123456789", ttl_s=10)
    assert [await store.get(key) is not None for key in "abcd"] == [True, False, True, True]
    clock.advance(10)
    assert [await store.get(key) for key in "acd"] == [None] * 3
    assert store.size_bytes == 0


class TwoNodes:
    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.stores = [RedisStore(url, clock=self.clock), RedisStore(url, clock=self.clock)]
        self.one, self.two = (Cache("test", store, clock=self.clock) for store in self.stores)

    async def aclose(self) -> None:
        for store in self.stores:
            await store.aclose()


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[TwoNodes]:
    async with redis_server() as url:
        made = TwoNodes(url)
        yield made
        await made.aclose()


async def test_a_second_node_waits_for_the_first_one_to_compute(nodes: TwoNodes) -> None:
    source = Source()
    source.open.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(nodes.one.get_or_compute("a", source.compute))
        await source.begun.wait()
        second = group.create_task(nodes.two.get_or_compute("a", source.compute))
        await nodes.clock.until_somebody_sleeps()
        source.open.set()
        await asyncio.wait([first])
        nodes.clock.advance(POLL_S)
    assert (first.result().how, second.result().how) == ("miss", "hit")
    assert source.computed == 1


async def test_a_second_node_computes_itself_when_the_first_one_takes_too_long(nodes: TwoNodes) -> None:
    slow, quick = Source(), Source(b"two")
    slow.open.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        first = group.create_task(nodes.one.get_or_compute("a", slow.compute))
        await slow.begun.wait()
        second = group.create_task(nodes.two.get_or_compute("a", quick.compute))
        await nodes.clock.until_somebody_sleeps()
        nodes.clock.advance(WAIT_S)
        await asyncio.wait([second])
        slow.open.set()
    assert (first.result().value, second.result()) == (b"one", (b"two", "miss"))
    assert WAIT_S < CLAIM_S


async def test_without_redis_everybody_computes() -> None:
    async with redis_server() as url:
        pass
    clock = ManualClock()
    store = RedisStore(url, clock=clock)
    cache = Cache("test", store, clock=clock)
    source = Source()
    assert [(await cache.get_or_compute("a", source.compute)).how for _ in range(2)] == ["miss", "miss"]
    assert cache.unavailable > 0
    await store.aclose()
