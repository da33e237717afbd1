"""The failure table, row by row: a fault on purpose, and what an observer must see.

The bounds of the table are multiplied by SLACK: they are behaviour here and no benchmark, and two busy cores are slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import msgpack
import pytest
import pytest_asyncio
import redis.asyncio
from cluster_scene import (
    Reader,
    connected,
    degraded,
    health,
    new_channel,
    new_key,
    publish,
    publish_command,
    publish_until_acknowledged,
    replies,
    stored,
)

from benchmarks.faults.cluster import Cluster, Node, eventually
from benchmarks.faults.wire import Lost, Wire

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLACK = 4
RECOVERS_S = 30  # where the table has no bound: long enough for a node to start on a slow machine


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("rows")
    async with Cluster(folder) as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(running: Cluster) -> Cluster:
    """Everything is up and as it should be, whatever the test before has left behind."""
    running.postgres.thaw()
    await running.postgres.start_again()
    running.redis.thaw()
    if not running.redis.alive:
        await running.redis.start()
    for node in running.nodes:
        node.thaw()
        for proxy in (node.proxy, node.redis_proxy, node.postgres_proxy):
            proxy.thaw()
        if node.plants or node.through_postgres_proxy or not node.alive:
            await restart(node)
    await eventually(lambda: all_well(running), within_s=RECOVERS_S)
    return running


async def all_well(cluster: Cluster) -> bool:
    return all([(await health(node))["status"] == "OK" for node in cluster.nodes])


async def restart(node: Node, *plants: str, through_postgres_proxy: bool = False) -> None:
    await node.kill()
    node.plants = plants
    node.through_postgres_proxy = through_postgres_proxy
    await node.start()


def error(reply: dict[str, Any]) -> str:
    return str(reply["error"]["name"])


async def test_row_01_a_node_killed_before_the_commit_has_stored_nothing_and_a_retry_stores_once(
    cluster: Cluster,
) -> None:
    doomed, other = cluster.nodes
    await restart(doomed, "die-before-commit")
    channel, key = new_channel("durable"), new_key("die-now")

    with pytest.raises(Lost):
        await publish(doomed, channel, key)
    assert await stored(cluster, channel) == []

    result = await publish_until_acknowledged(other, channel, key, within_s=2 * SLACK)
    assert "duplicate" not in result
    assert await stored(cluster, channel) == [(result["offset"], key)]


async def test_row_02_a_node_killed_after_the_commit_has_stored_once_and_a_retry_learns_where(
    cluster: Cluster,
) -> None:
    doomed, other = cluster.nodes
    await restart(doomed, "die-after-commit")
    channel, key = new_channel("durable"), new_key("die-now")

    with pytest.raises(Lost):
        await publish(doomed, channel, key)
    assert await stored(cluster, channel) == [(1, key)]

    result = await publish_until_acknowledged(other, channel, key, within_s=2 * SLACK)
    assert (result["offset"], result["duplicate"]) == (1, True)
    assert await stored(cluster, channel) == [(1, key)]


async def test_row_03_a_message_whose_bell_never_rang_is_delivered_by_the_other_nodes_sweep(cluster: Cluster) -> None:
    doomed, other = cluster.nodes
    await restart(doomed, "mute")
    channel, key = new_channel("durable"), new_key()

    async with Reader.at(other, channel) as reader:
        assert "result" in await publish(doomed, channel, key)
        await doomed.kill()
        await reader.sees(key, within_s=1.5 * SLACK)


async def test_row_04_readers_of_a_node_killed_in_mid_fan_out_resume_elsewhere_without_a_gap(cluster: Cluster) -> None:
    doomed, other = cluster.nodes
    channel = new_channel("durable")
    keys = [new_key() for _ in range(300)]

    async with Reader.at(doomed, channel) as reader:
        publisher = await Wire.open(doomed.ws_url, cluster.token, lambda push: None)
        publishing = asyncio.ensure_future(replies(publisher, [publish_command(channel, key) for key in keys]))
        await eventually(lambda: len(reader.seen) >= 20, within_s=RECOVERS_S)
        await doomed.kill()
        answered = await publishing
        resumed_from = reader.offset
        await reader.connect(other, within_s=10 * SLACK)
        assert reader.recovered
        for key, reply in zip(keys, answered, strict=True):
            if reply is None:
                await publish_until_acknowledged(other, channel, key, within_s=RECOVERS_S)
        await reader.sees(*keys, within_s=RECOVERS_S)

    assert resumed_from >= 20
    assert reader.offsets == list(range(1, len(keys) + 1))
    assert len(set(reader.keys)) == len(keys)


async def test_row_05_a_draining_node_says_goodbye_ends_in_time_and_loses_nothing(cluster: Cluster) -> None:
    leaving, other = cluster.nodes
    channel = new_channel("durable")
    keys = [new_key() for _ in range(100)]
    stuck = await Wire.open(leaving.ws_url, cluster.token, lambda push: None)
    stuck._socket.transport.pause_reading()
    publisher = await Wire.open(leaving.ws_url, cluster.token, lambda push: None)

    publishing = asyncio.ensure_future(replies(publisher, [publish_command(channel, key) for key in keys]))
    code, took_s = await leaving.terminate()
    answered = await publishing
    stuck.cut()

    assert code == 0
    assert took_s <= 15
    goodbye = publisher.goodbye
    assert goodbye is not None
    assert (goodbye["code"], goodbye["reconnect"]) == (4200, True)
    assert goodbye["retry_after_ms"] <= 10_000
    kept = {key for _, key in await stored(cluster, channel)}
    for key, reply in zip(keys, answered, strict=True):
        if reply is not None and "error" in reply:
            assert error(reply) == "not_available"
            assert reply["error"]["retry_after_ms"] > 0
            assert key not in kept
        elif reply is not None:
            assert key in kept
    for key in keys:
        await publish_until_acknowledged(other, channel, key, within_s=RECOVERS_S)
    assert sorted(key for _, key in await stored(cluster, channel)) == sorted(keys)


async def assert_degraded_without_redis(cluster: Cluster, *, within_s: float) -> None:
    """Rows 7 and 8: what every node shows while Redis is away."""
    for node in cluster.nodes:
        await eventually(lambda node=node: degraded(node, "redis"), within_s=within_s)
        for promise in ("recoverable", "latest"):
            assert error(await publish(node, new_channel(promise), new_key())) == "not_available"


async def assert_durable_goes_on(cluster: Cluster, reader: Reader) -> None:
    """From the node the reader is not at: the bell cannot ring, the sweep brings it."""
    key = new_key()
    assert "result" in await publish(cluster.nodes[0], reader.channel, key)
    await reader.sees(key, within_s=1.5 * SLACK)


async def test_row_07_without_redis_durable_goes_on_and_the_rest_is_refused_until_it_is_back(cluster: Cluster) -> None:
    channel = new_channel("recoverable")
    before = (await publish(cluster.nodes[0], channel, new_key()))["result"]
    async with Reader.at(cluster.nodes[1], new_channel("durable")) as reader:
        await cluster.redis.kill()
        await assert_degraded_without_redis(cluster, within_s=3 * SLACK)
        await assert_durable_goes_on(cluster, reader)

        await cluster.redis.start()
        await eventually(lambda: all_well(cluster), within_s=1 * SLACK)
        after = await publish_until_acknowledged(cluster.nodes[0], channel, new_key(), within_s=1 * SLACK)
        assert after["epoch"] != before["epoch"]
        assert reader.offsets == [1]


async def test_row_08_a_frozen_redis_is_noticed_and_treated_as_one_that_is_away(cluster: Cluster) -> None:
    async with Reader.at(cluster.nodes[1], new_channel("durable")) as reader:
        cluster.redis.freeze()
        await assert_degraded_without_redis(cluster, within_s=3 * SLACK)
        await assert_durable_goes_on(cluster, reader)

        cluster.redis.thaw()
        await eventually(lambda: all_well(cluster), within_s=1 * SLACK)
        for node in cluster.nodes:
            await publish_until_acknowledged(node, new_channel("recoverable"), new_key(), within_s=1 * SLACK)


Comeback = Callable[[Cluster], Awaitable[None]]


async def come_back_empty(cluster: Cluster) -> None:
    await cluster.redis.kill()
    cluster.redis.forget()
    await cluster.redis.start()


async def come_back_older(cluster: Cluster) -> None:
    await cluster.redis.kill()
    await cluster.redis.start()


@pytest.mark.parametrize("come_back", [come_back_empty, come_back_older])
async def test_row_10_no_offset_is_given_twice_under_one_epoch_after_redis_lost_some(
    cluster: Cluster, come_back: Comeback
) -> None:
    node, other = cluster.nodes
    channel = new_channel("recoverable")
    keys = [new_key() for _ in range(6)]
    async with Reader.at(node, channel) as gone:
        given = [(await publish(node, channel, key))["result"] for key in keys[:2]]
        await cluster.redis.save()
        given += [(await publish(node, channel, key))["result"] for key in keys[2:4]]
        await gone.sees(*keys[:4], within_s=RECOVERS_S)
        gone.cut()

        await come_back(cluster)
        await eventually(lambda: all_well(cluster), within_s=RECOVERS_S)
        given.append(await publish_until_acknowledged(other, channel, keys[4], within_s=RECOVERS_S))
        await gone.connect(node)
        assert (gone.recovered, gone.reason) == (False, "epoch_changed")
        given.append(await publish_until_acknowledged(other, channel, keys[5], within_s=RECOVERS_S))
        await gone.sees(keys[5], within_s=RECOVERS_S)

    assert len({each["epoch"] for each in given[:4]}) == 1
    assert len({(each["epoch"], each["offset"]) for each in given}) == len(given)
    assert given[4]["epoch"] not in {each["epoch"] for each in given[:4]}


async def test_row_10_whoever_stayed_is_told_of_the_new_epoch_even_if_somebody_joined_in_between(
    cluster: Cluster,
) -> None:
    node = cluster.nodes[0]
    channel = new_channel("recoverable")
    first, second = new_key(), new_key()
    async with Reader.at(node, channel) as stayed:
        before = (await publish(node, channel, first))["result"]
        await stayed.sees(first, within_s=RECOVERS_S)
        await come_back_empty(cluster)
        await eventually(lambda: all_well(cluster), within_s=RECOVERS_S)
        async with Reader.at(node, channel) as newcomer:
            # Until this node has read the new history: then the newcomer's join names it.
            async def knows_the_new_epoch() -> bool:
                await newcomer.connect(node)
                return newcomer.epoch != before["epoch"]

            newcomer.epoch = ""
            await eventually(knows_the_new_epoch, within_s=RECOVERS_S)
            after = await publish_until_acknowledged(node, channel, second, within_s=RECOVERS_S)
            await stayed.sees(second, within_s=RECOVERS_S)
            await newcomer.sees(second, within_s=RECOVERS_S)
    assert after["epoch"] != before["epoch"]
    assert stayed.seen == [(before["epoch"], 1, first), (after["epoch"], 1, second)]


async def assert_others_unaffected(cluster: Cluster) -> None:
    """Rows 11 to 13: recoverable and latest messages pass while Postgres is away."""
    for promise in ("recoverable", "latest"):
        channel, key = new_channel(promise), new_key()
        async with Reader.at(cluster.nodes[1], channel) as reader:
            assert "result" in await publish(cluster.nodes[0], channel, key)
            await reader.sees(key, within_s=1 * SLACK)


async def test_row_11_without_postgres_durable_is_refused_at_once_and_nothing_acknowledged_is_lost(
    cluster: Cluster,
) -> None:
    channel = new_channel("durable")
    before, during, after = new_key(), new_key(), new_key()
    async with Reader.at(cluster.nodes[1], channel) as reader:
        assert "result" in await publish(cluster.nodes[0], channel, before)
        cluster.postgres.kill()
        await eventually(lambda: not cluster.postgres.processes(), within_s=RECOVERS_S)
        for node in cluster.nodes:
            started = monotonic()
            assert error(await publish(node, channel, during)) in ("not_available", "timeout")
            assert monotonic() - started <= 2 * SLACK
            assert error(await publish(node, channel, during)) == "not_available"
            assert await degraded(node, "postgres")
        await assert_others_unaffected(cluster)

        await cluster.postgres.start_again()
        await publish_until_acknowledged(cluster.nodes[0], channel, after, within_s=2 * SLACK)
        await eventually(lambda: all_well(cluster), within_s=2 * SLACK)
        await reader.sees(before, after, within_s=1.5 * SLACK)
    assert await stored(cluster, channel) == [(1, before), (2, after)]
    assert reader.keys == [before, after]


async def test_row_12_a_killed_backend_restarts_postgres_and_every_message_is_stored_once(cluster: Cluster) -> None:
    channel = new_channel("durable")
    keys = [new_key() for _ in range(200)]
    async with Reader.at(cluster.nodes[1], channel) as reader, connected(cluster.nodes[0]) as wire:
        publishing = asyncio.ensure_future(replies(wire, [publish_command(channel, key) for key in keys]))
        await cluster.postgres.kill_backend()
        answered = await publishing
        await eventually(cluster.postgres.answers, within_s=RECOVERS_S)
        assert {error(reply) for reply in answered if reply and "error" in reply} <= {"not_available", "timeout"}
        for key, reply in zip(keys, answered, strict=True):
            if reply is None or "error" in reply:
                await publish_until_acknowledged(cluster.nodes[0], channel, key, within_s=RECOVERS_S)
        await reader.sees(*keys, within_s=RECOVERS_S)
    assert sorted(key for _, key in await stored(cluster, channel)) == sorted(keys)
    assert reader.offsets == list(range(1, len(keys) + 1))


async def test_row_13_a_frozen_postgres_is_an_error_and_not_a_wait(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    channel, key, later = new_channel("durable"), new_key(), new_key()
    assert "result" in await publish(node, channel, new_key())
    cluster.postgres.freeze()

    started = monotonic()
    first = asyncio.ensure_future(publish(node, channel, key))
    second = asyncio.ensure_future(publish(node, channel, later))
    while not first.done():
        asked = monotonic()
        await health(node)  # the loop is never blocked
        assert monotonic() - asked < 1
        await asyncio.wait([first], timeout=0.2)
    # Nothing may be said of it but that nobody knows.
    assert error(await first) in ("timeout", "not_available")
    assert error(await second) in ("timeout", "not_available")
    assert monotonic() - started <= 4.5 * 2
    await assert_others_unaffected(cluster)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {cluster.token}"}, timeout=15) as http:
        answer = await http.get(f"http://127.0.0.1:{node.port}/v1/history/{channel}")
    assert answer.status_code == 503

    cluster.postgres.thaw()
    for each in (key, later):
        await publish_until_acknowledged(node, channel, each, within_s=RECOVERS_S)
    assert sorted(each for _, each in (await stored(cluster, channel))[1:]) == sorted([key, later])


async def test_row_16_a_reply_of_postgres_that_never_came_is_looked_up_by_key(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    await restart(node, through_postgres_proxy=True)
    channel, first, key = new_channel("durable"), new_key(), new_key()
    async with Reader.at(cluster.nodes[1], channel) as reader, connected(node) as wire:
        assert "result" in await wire.send(publish_command(channel, first))
        links = list(node.postgres_proxy.links)
        for link in links:
            link.freeze(replies_only=True)
        waiting = wire.send(publish_command(channel, key))
        await eventually(lambda: is_stored(cluster, channel, key), within_s=RECOVERS_S)
        for link in links:
            link.cut()
        reply = await waiting
        assert "result" in reply, reply
        assert reply["result"]["offset"] == 2
        await reader.sees(key, within_s=1.5 * SLACK)
    assert await stored(cluster, channel) == [(1, first), (2, key)]


async def is_stored(cluster: Cluster, channel: str, key: str) -> bool:
    return key in [each for _, each in await stored(cluster, channel)]


async def test_row_20_a_node_cut_from_redis_alone_is_degraded_alone(cluster: Cluster) -> None:
    cut, other = cluster.nodes
    channel = new_channel("recoverable")
    missed, last = new_key(), new_key()
    async with Reader.at(cut, new_channel("durable")) as durable, Reader.at(cut, channel) as recoverable:
        cut.redis_proxy.freeze()
        await eventually(lambda: degraded(cut, "redis"), within_s=3 * SLACK)
        assert (await health(other))["status"] == "OK"
        assert error(await publish(cut, channel, new_key())) == "not_available"
        assert "result" in await publish(other, channel, missed)
        for node in cluster.nodes:
            key = new_key()
            assert "result" in await publish(node, durable.channel, key)
            await durable.sees(key, within_s=1.5 * SLACK)

        cut.redis_proxy.thaw()
        await eventually(lambda: all_well(cluster), within_s=1 * SLACK)
        await publish_until_acknowledged(cut, channel, last, within_s=1 * SLACK)
        await recoverable.sees(missed, last, within_s=1.5 * SLACK)
    assert durable.offsets == [1, 2]
    assert recoverable.keys == [missed, last]
    assert recoverable.offsets == [1, 2]


async def test_row_24_bells_that_come_twice_or_out_of_order_reach_the_application_once_and_in_order(
    cluster: Cluster,
) -> None:
    silent, node = cluster.nodes
    await restart(silent, "mute")
    channel = new_channel("durable")
    keys = [new_key() for _ in range(6)]
    async with Reader.at(node, channel) as reader, aclosing(bell_rope(cluster)) as rope:
        placed = [(await publish(silent, channel, key))["result"] for key in keys]
        for place in (2, 0, 4, 2, 1, 0, 3, 5, 5):
            await rope.publish(f"krin:{{{channel}}}", bell(placed[place], keys[place]))
        await reader.sees(*keys, within_s=1.5 * SLACK)
        await publish_until_acknowledged(node, channel, last := new_key(), within_s=RECOVERS_S)
        await reader.sees(last, within_s=RECOVERS_S)
    assert reader.keys == [*keys, last]
    assert reader.offsets == list(range(1, len(keys) + 2))


async def test_row_24_repeated_bells_of_other_channels_are_dropped(cluster: Cluster) -> None:
    node = cluster.nodes[0]
    for promise in ("recoverable", "latest"):
        channel = new_channel(promise)
        keys = [new_key() for _ in range(4)]
        async with Reader.at(node, channel) as reader, aclosing(bell_rope(cluster)) as rope:
            listening = rope.pubsub()
            await listening.subscribe(f"krin:{{{channel}}}")
            for key in keys[:3]:
                assert "result" in await publish(node, channel, key)
            rung = [message["data"] async for message in first_of(listening, 3)]
            for payload in (rung[1], rung[0], rung[2], rung[1]):
                await rope.publish(f"krin:{{{channel}}}", payload)
            assert "result" in await publish(node, channel, keys[3])
            await reader.sees(keys[3], within_s=RECOVERS_S)
            await listening.aclose()
        assert reader.keys == keys


def bell_rope(cluster: Cluster) -> Any:
    """A connection to Redis of the test's own."""
    return redis.asyncio.Redis(port=cluster.redis.port, protocol=2)


async def first_of(listening: Any, count: int) -> AsyncIterator[dict[str, Any]]:
    async for message in listening.listen():
        if message["type"] == "message":
            yield message
            count -= 1
            if not count:
                return


def bell(placed: dict[str, Any], key: str) -> bytes:
    """What a node rings after the commit of this message."""
    body = b'"data":[{"specialist_id":"%s"}],"key":"%s","publisher":"faults"' % (key.encode(), key.encode())
    packed = msgpack.packb(("SPECIALIST_UPDATE", key, placed["timestamp"], "faults", 0, body))
    return f"{placed['epoch']} {placed['offset']} ".encode() + len(packed).to_bytes(4, "big") + packed


@pytest.mark.parametrize("promise", ["durable", "recoverable", "latest"])
async def test_row_28_clients_that_come_back_at_once_are_all_let_in(cluster: Cluster, promise: str) -> None:
    node, channel = cluster.nodes[0], new_channel(promise)
    joins: list[dict[str, Any]] = []
    wires = await asyncio.gather(
        *(
            Wire.open(
                node.ws_url,
                cluster.token,
                lambda push: None,
                subscriptions={channel: {}},
                on_reply=lambda reply: joins.append(reply["result"]["subscriptions"][channel]),
            )
            for _ in range(30)
        )
    )
    for wire in wires:
        wire.cut()
    assert [join for join in joins if "error" in join] == []


async def test_the_harness_leaves_no_process_behind(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        processes = [*(node.pid for node in cluster.nodes), cluster.redis.pid]
        processes += [process.pid for process in cluster.postgres.processes()]
    for pid in processes:
        with suppress(FileNotFoundError):
            assert (Path("/proc") / str(pid) / "stat").read_text().split(") ")[1][0] == "Z"
