"""Two nodes on one Redis Cluster: slots move, servers die and freeze, and each channel keeps its order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from clock import ManualClock
from doubles import publication
from redis_bench import hub_user, running_broker
from redis_cluster import ClusterServer, RedisCluster, redis_cluster

from hub.brokers.redis import RedisBroker
from hub.brokers.redis.payloads import base
from hub.guard.sharing import RedisCounters
from hub.insight.caching.store import RedisStore
from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published

POLICY = Namespace(promise="recoverable", history_size=100)
FAILOVER_S = 30


class Node:
    """One hub node, as far as Redis sees it."""

    def __init__(self) -> None:
        self.broker: RedisBroker
        self.seen: dict[str, list[tuple[str, int]]] = defaultdict(list)

    def take(self, publication: Publication) -> None:
        self.seen[publication.channel].append((publication.epoch, publication.offset))

    async def listen(self, channel: str) -> None:
        if (joined := self.broker.subscribe(channel, POLICY)) is not None:
            async with asyncio.timeout(5):
                await joined

    async def publish(self, channel: str) -> Published:
        async with asyncio.timeout(5):
            return await self.broker.publish(publication(channel, text="m"), POLICY)

    async def publish_until_placed(self, channel: str) -> Published:
        """As a client does it: again, for as long as the refusal is temporary."""
        async with asyncio.timeout(FAILOVER_S):
            while True:
                try:
                    return await self.publish(channel)
                except HubError as refusal:
                    assert refusal.code in (ErrorCode.NOT_AVAILABLE, ErrorCode.TIMEOUT)
                    await asyncio.sleep(0.05)


async def eventually(fact: Callable[[], object], *, within_s: float = FAILOVER_S) -> None:
    async with asyncio.timeout(within_s):
        while not fact():
            await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[RedisCluster]:
    async with redis_cluster() as started:
        yield started


@pytest_asyncio.fixture
async def nodes(cluster: RedisCluster) -> AsyncIterator[list[Node]]:
    made = [Node(), Node()]
    async with AsyncExitStack() as stack:
        for node in made:
            node.broker, _, _ = await stack.enter_async_context(running_broker(cluster.url, node.take))
        yield made


def channel_of(cluster: RedisCluster, server: ClusterServer) -> str:
    """A channel whose slot this server has."""
    names = (f"custom:{number}" for number in range(1_000))
    return next(name for name in names if cluster.owner_of(base(name)) is server)


async def heard_channel(cluster: RedisCluster, server: ClusterServer, listener: Node) -> str:
    """Such a channel, with a node that listens to it."""
    channel = channel_of(cluster, server)
    await listener.listen(channel)
    return channel


async def test_what_one_node_publishes_on_any_server_reaches_the_other_in_order(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    here, there = nodes
    channels = [f"custom:{number}" for number in range(60)]
    assert {cluster.owner_of(base(channel)) for channel in channels} == set(cluster.masters)
    for channel in channels:
        await there.listen(channel)
    for _ in range(20):
        await asyncio.gather(*(here.publish(channel) for channel in channels))

    await eventually(lambda: sum(map(len, there.seen.values())) == 20 * len(channels))
    assert all([offset for _, offset in there.seen[channel]] == list(range(1, 21)) for channel in channels)


async def test_subscriptions_and_messages_stay_on_the_server_of_their_slot(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    channel = "custom:x"
    await nodes[0].listen(channel)
    await nodes[1].publish(channel)

    owner = cluster.owner_of(base(channel))
    for server in cluster.masters:
        has_it = server is owner
        assert (base(channel).encode() in server.ask("PUBSUB SHARDCHANNELS")) is has_it
        assert bool(server.ask("KEYS", "krin:*:m")) is has_it


async def test_a_slot_that_moves_refuses_for_a_while_and_gives_no_position_twice(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    here, there = nodes
    source, target, _ = cluster.masters
    channel = await heard_channel(cluster, source, there)
    placed = [await here.publish(channel) for _ in range(3)]

    cluster.begin_move(base(channel), source, target)
    with pytest.raises(HubError) as refusal:
        await here.publish(channel)
    assert (refusal.value.code, refusal.value.retry_after_ms) == (ErrorCode.NOT_AVAILABLE, 200)
    cluster.finish_move(base(channel), source, target)
    placed += [await here.publish_until_placed(channel) for _ in range(3)]

    expected = [(each.epoch, each.offset) for each in placed]
    await eventually(lambda: there.seen[channel][-1:] == expected[-1:])
    assert len(set(expected)) == len(expected)
    assert there.seen[channel] == expected


async def test_a_subscription_follows_its_slot_even_when_nobody_publishes_meanwhile(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    here, there = nodes
    source, target, _ = cluster.masters
    channel = await heard_channel(cluster, source, there)
    cluster.begin_move(base(channel), source, target)
    cluster.finish_move(base(channel), source, target)

    await eventually(lambda: base(channel).encode() in target.ask("PUBSUB SHARDCHANNELS"))
    last = await here.publish_until_placed(channel)
    await eventually(lambda: there.seen[channel] == [(last.epoch, last.offset)])


async def test_a_replica_takes_over_for_a_dead_server_and_no_position_is_given_twice(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    here, there = nodes
    doomed, other, _ = cluster.masters
    await cluster.add_replica_of(doomed)
    channel = await heard_channel(cluster, doomed, there)
    untouched = await heard_channel(cluster, other, there)
    before = [await here.publish(channel) for _ in range(3)]
    await eventually(lambda: len(there.seen[channel]) == 3)

    doomed.kill()
    await eventually(lambda: not here.broker.available)
    await here.publish_until_placed(untouched)
    after = [await here.publish_until_placed(channel) for _ in range(3)]

    expected = [(each.epoch, each.offset) for each in (*before, *after)]
    await eventually(lambda: there.seen[channel][-1:] == expected[-1:])
    assert len(set(expected)) == len(expected)
    seen = there.seen[channel]
    assert [each for each in seen if each in expected] == expected
    await eventually(lambda: all(node.broker.available for node in nodes))
    assert {epoch for epoch, _ in there.seen[untouched]} == {there.seen[untouched][0][0]}


async def test_the_probe_finds_one_frozen_server_and_the_others_serve_on(
    cluster: RedisCluster, nodes: list[Node]
) -> None:
    here, there = nodes
    frozen, other, _ = cluster.masters
    missing = await heard_channel(cluster, frozen, there)
    untouched = await heard_channel(cluster, other, there)
    frozen.freeze()
    await eventually(lambda: not there.broker.available and not here.broker.available, within_s=12)

    with pytest.raises(HubError):
        await here.publish(missing)
    await here.publish_until_placed(untouched)
    await eventually(lambda: there.seen[untouched])
    frozen.thaw()
    await here.publish_until_placed(missing)
    await eventually(lambda: there.seen[missing])


async def test_nodes_add_up_their_limits_in_a_cluster_too(cluster: RedisCluster) -> None:
    for words in hub_user():
        for server in cluster.masters:
            server.ask(*words)
    counters = [RedisCounters(cluster.url.replace("://", "://krin:PASSWORD@")) for _ in range(2)]
    assert await counters[0].add(7, {"a": 1.0, "b": 2.0}) == {"a": 1.0, "b": 2.0}
    assert await counters[1].add(7, {"a": 0.5}) == {"a": 1.5}
    for each in counters:
        await each.aclose()


async def test_nodes_share_a_cache_in_a_cluster_too(cluster: RedisCluster) -> None:
    for words in hub_user():
        for server in cluster.masters:
            server.ask(*words)
    clock = ManualClock()
    url = cluster.url.replace("://", "://krin:PASSWORD@")
    one, two = RedisStore(url, clock=clock), RedisStore(url, clock=clock)
    assert await one.claim("a", ttl_s=10)
    assert not await two.claim("a", ttl_s=10)
    await one.put("a", b"one", ttl_s=10)
    await one.release("a", ttl_s=10)
    assert await two.get("a") == b"one"
    assert await two.claim("a", ttl_s=10)
    for each in (one, two):
        await each.aclose()
