"""The failure table, row by row: a fault on purpose, and what an observer must see.

Tested elsewhere: 14 and 27 in tests/edge/test_machine_limits.py; 17 and 18 in tests/edge/test_slow_readers.py; 23
wherever a clock jumps (test_broker_contract.py, test_connection.py).

The bounds of the table are multiplied by SLACK: they are behaviour here and no benchmark, and two busy cores are slow.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
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
from hub.brokers.redis.payloads import Payloads
from hub.brokers.redis.seals import Seals
from hub.clock import SystemClock
from hub.namespaces import DEFAULTS
from hub.publication import Publication

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


async def test_row_06_a_rolling_restart_of_both_nodes_loses_and_repeats_nothing(cluster: Cluster) -> None:
    channel = new_channel("durable")
    keys: list[str] = []
    over = asyncio.Event()

    async def publish_on() -> None:
        """As a client does it: wherever somebody answers, until it is acknowledged."""
        while not over.is_set():
            keys.append(new_key())
            acknowledged = False
            while not acknowledged:
                for node in cluster.nodes:
                    with suppress(Lost, OSError):
                        acknowledged = acknowledged or "result" in await publish(node, channel, keys[-1])

    async with Reader.at(cluster.nodes[0], channel) as reader, asyncio.TaskGroup() as group:
        group.create_task(publish_on())
        for leaving, other in (cluster.nodes, cluster.nodes[::-1]):
            await eventually(lambda: len(reader.seen) >= len(keys) // 2 + 1, within_s=RECOVERS_S)
            code, _ = await leaving.terminate()
            assert code == 0
            await reader.connect(other)
            assert reader.recovered
            await leaving.start()
        over.set()
    async with Reader.at(cluster.nodes[1], channel) as late:
        assert late.offset == len(keys)
    assert sorted(key for _, key in await stored(cluster, channel)) == sorted(keys)
    assert reader.offsets == list(range(1, len(reader.offsets) + 1))
    assert len(set(reader.keys)) == len(reader.keys)


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


@pytest.mark.parametrize("promise", ["durable", "recoverable", "latest"])
async def test_row_09_a_subscriber_that_redis_cuts_comes_back_and_misses_nothing(
    cluster: Cluster, promise: str
) -> None:
    node, other = cluster.nodes
    channel = new_channel(promise)
    keys = [new_key() for _ in range(3)]
    async with Reader.at(node, channel) as reader, aclosing(bell_rope(cluster)) as rope:
        assert "result" in await publish(other, channel, keys[0])
        await reader.sees(keys[0], within_s=RECOVERS_S)
        before = await reconnects(node)
        assert await rope.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 2  # as for output beyond the limit
        await publish_until_acknowledged(other, channel, keys[1], within_s=RECOVERS_S)
        await eventually(lambda: came_back(node, before), within_s=1 * SLACK)
        await publish_until_acknowledged(other, channel, keys[2], within_s=RECOVERS_S)
        await reader.sees(keys[2], within_s=1.5 * SLACK)
    assert reader.keys == (keys if promise != "latest" else [key for key in keys if key in reader.keys])
    assert reader.offsets == sorted(set(reader.offsets))


async def came_back(node: Node, before: float) -> bool:
    return await reconnects(node) == before + 1 and (await health(node))["status"] == "OK"


async def reconnects(node: Node) -> float:
    return float(re.search(r"^krin_bell_reconnects_total (\S+)", await metrics(node), re.MULTILINE)[1])  # type: ignore[index]


async def metrics(node: Node) -> str:
    async with httpx.AsyncClient(timeout=5) as http:
        return (await http.get(f"http://127.0.0.1:{node.port}/metrics")).text


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


async def test_row_15_a_postgres_restored_to_an_older_state_begins_new_epochs_and_says_so(cluster: Cluster) -> None:
    node, other = cluster.nodes
    channel = new_channel("durable")
    kept, gone, new = new_key(), new_key(), new_key()
    async with Reader.at(node, channel) as reader:
        before = await publish_until_acknowledged(node, channel, kept, within_s=RECOVERS_S)
        await cluster.postgres.keep_copy()
        await publish_until_acknowledged(node, channel, gone, within_s=RECOVERS_S)
        await reader.sees(kept, gone, within_s=RECOVERS_S)
        reader.cut()
        for each in cluster.nodes:
            await each.kill()
        await cluster.postgres.restore()
        for each in cluster.nodes:
            await each.start_again()
        await reader.connect(other)
        assert (reader.recovered, reader.reason) == (False, "epoch_changed")
        after = await publish_until_acknowledged(node, channel, new, within_s=RECOVERS_S)
        await reader.sees(new, within_s=RECOVERS_S)
    assert after["epoch"] != before["epoch"]
    assert await stored(cluster, channel) == [(1, kept), (2, new)]
    assert reader.seen[-1] == (after["epoch"], 2, new)
    logs = node.log_tail() + other.log_tail()
    assert logs.count("the database was restored") == 1


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


async def test_row_19_a_half_open_client_is_let_go_and_resumes_where_it_stood(cluster: Cluster) -> None:
    node, other = cluster.nodes
    channel = new_channel("durable")
    keys = [new_key() for _ in range(2)]
    async with Reader.at(node, channel) as reader:
        assert "result" in await publish(other, channel, keys[0])
        await reader.sees(keys[0], within_s=RECOVERS_S)
        held = (await health(node))["connections"]
        node.proxy.freeze()
        await eventually(lambda: lets_go(node, held), within_s=(2 + 10) + SLACK)  # ping interval and pong timeout
        assert "result" in await publish(other, channel, keys[1])
        node.proxy.thaw()
        await reader.connect(node)
        await reader.sees(*keys, within_s=RECOVERS_S)
    assert reader.recovered
    assert reader.keys == keys


async def lets_go(node: Node, held: int) -> bool:
    return bool((await health(node))["connections"] < held)


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


async def test_row_21_a_node_cut_from_postgres_alone_acknowledges_nothing_and_delivers_what_it_hears(
    cluster: Cluster,
) -> None:
    cut, other = cluster.nodes
    await restart(cut, through_postgres_proxy=True)
    channel = new_channel("durable")
    heard, refused = new_key(), new_key()
    async with Reader.at(cut, channel) as reader:
        cut.postgres_proxy.freeze()
        assert error(await publish(cut, channel, refused)) in ("timeout", "not_available")
        assert "result" in await publish(other, channel, heard)
        await reader.sees(heard, within_s=1.5 * SLACK)
        await eventually(lambda: degraded(cut, "postgres"), within_s=RECOVERS_S)
        assert (await health(other))["status"] == "OK"

        cut.postgres_proxy.thaw()
        await publish_until_acknowledged(cut, channel, refused, within_s=RECOVERS_S)
        await reader.sees(heard, refused, within_s=RECOVERS_S)
    assert sorted(reader.keys) == sorted([heard, refused])
    assert reader.offsets == [1, 2]


async def test_row_22_a_node_that_slept_serves_no_stale_position_and_keeps_its_clients(cluster: Cluster) -> None:
    asleep, other = cluster.nodes
    readers: dict[str, tuple[Reader, list[str]]] = {}
    async with AsyncExitStack() as stack:
        for promise in ("durable", "recoverable", "latest"):
            channel = new_channel(promise)
            reader = await stack.enter_async_context(Reader.at(asleep, channel))
            readers[promise] = reader, [new_key() for _ in range(3)]
            assert "result" in await publish(other, channel, readers[promise][1][0])
            await reader.sees(readers[promise][1][0], within_s=RECOVERS_S)
        asleep.freeze()
        slept_from = monotonic()
        for reader, keys in readers.values():
            assert "result" in await publish(other, reader.channel, keys[1])
        await eventually(lambda: monotonic() - slept_from > 5, within_s=RECOVERS_S)
        asleep.thaw()
        for reader, keys in readers.values():
            await reader.sees(keys[1], within_s=1.5 * SLACK)
            await publish_until_acknowledged(other, reader.channel, keys[2], within_s=RECOVERS_S)
            await reader.sees(keys[2], within_s=1.5 * SLACK)
            assert reader.keys == keys
            assert reader.offsets == [1, 2, 3]


async def test_row_24_bells_that_come_twice_or_out_of_order_reach_the_application_once_and_in_order(
    cluster: Cluster,
) -> None:
    silent, node = cluster.nodes
    await restart(silent, "mute")
    channel = new_channel("durable")
    keys = [new_key() for _ in range(6)]
    payloads = Payloads(Seals(await bell_secret(cluster)), clock=SystemClock())
    async with Reader.at(node, channel) as reader, aclosing(bell_rope(cluster)) as rope:
        placed = [(await publish(silent, channel, key))["result"] for key in keys]
        for place in (2, 0, 4, 2, 1, 0, 3, 5, 5):
            await rope.publish(f"krin:{{{channel}}}", payloads.bell(rung(channel, placed[place], keys[place])))
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


async def bell_secret(cluster: Cluster) -> bytes:
    [row] = await cluster.postgres.query("SELECT secret FROM shared_secrets WHERE name = 'bells'")
    secret: bytes = row["secret"]
    return secret


def rung(channel: str, placed: dict[str, Any], key: str) -> Publication:
    """What a node rings after the commit of this message."""
    body = b'"data":[{"specialist_id":"%s"}],"key":"%s","publisher":"faults"' % (key.encode(), key.encode())
    publication = Publication(
        channel, "SPECIALIST_UPDATE", body=body, timestamp=placed["timestamp"], key=key, publisher="faults"
    )
    publication.place(placed["epoch"], placed["offset"])
    return publication


async def rejected_bells(node: Node) -> dict[str, float]:
    """By reason, from the metrics."""
    found = re.findall(r'^krin_bells_rejected_total\{reason="(\w+)"\} (\S+)', await metrics(node), re.MULTILINE)
    return {reason: float(count) for reason, count in found}


@pytest.mark.parametrize("promise", ["durable", "recoverable", "latest"])
async def test_row_25_c73_c26_what_no_node_has_sealed_is_counted_and_not_delivered(
    cluster: Cluster, promise: str
) -> None:
    node, other = cluster.nodes
    channel, elsewhere = new_channel(promise), new_channel(promise)
    stranger = Payloads(Seals(b"not the key of this cluster, 32 b"), clock=SystemClock())
    before = await rejected_bells(node)
    async with (
        Reader.at(node, channel) as reader,
        Reader.at(node, elsewhere) as second,
        aclosing(bell_rope(cluster)) as rope,
    ):
        listening = rope.pubsub()
        await listening.subscribe(f"krin:{{{channel}}}")
        first_key = new_key()
        first = (await publish(other, channel, first_key))["result"]
        await reader.sees(first_key, within_s=RECOVERS_S)
        [genuine] = [message["data"] async for message in first_of(listening, 1)]
        await listening.aclose()

        epoch, offset, rest = genuine.split(b" ", 2)
        next_place = b"%s %d " % (epoch, int(offset) + 1)
        forged = stranger.bell(rung(channel, {**first, "offset": first["offset"] + 1}, "forged"))
        for where, payload in [
            (channel, forged),
            (channel, next_place + rest),  # the same message once more, at the next place
            (channel, next_place + rest.replace(first_key.encode(), first_key.encode()[::-1])),
            (elsewhere, genuine),
            (channel, pickle.dumps(Bomb())),
            (channel, b""),
        ]:
            await rope.publish(f"krin:{{{where}}}", payload)
        await rope.publish("krin:all", pickle.dumps(Bomb()))

        key, elsewhere_key = new_key(), new_key()
        assert "result" in await publish(other, channel, key)
        assert "result" in await publish(other, elsewhere, elsewhere_key)
        await reader.sees(key, within_s=RECOVERS_S)
        await second.sees(elsewhere_key, within_s=RECOVERS_S)
        assert reader.keys == [first_key, key]
        assert second.keys == [elsewhere_key]
    after = await rejected_bells(node)
    assert sum(after.values()) - sum(before.values()) == 7
    assert after["malformed"] - before["malformed"] == 2
    assert (await health(node))["status"] == "OK"


class Bomb:
    """What a pickle does when it is loaded: here, end the process."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


async def test_row_26_a_position_older_than_what_is_kept_is_never_partly_replayed(cluster: Cluster) -> None:
    node, other = cluster.nodes
    channel = new_channel("recoverable")
    size = DEFAULTS["custom"].history_size
    async with Reader.at(node, channel) as reader, connected(other) as wire:
        first = new_key()
        assert "result" in await publish(other, channel, first)
        await reader.sees(first, within_s=RECOVERS_S)
        reader.cut()
        keys = [new_key() for _ in range(size + 1)]
        for start in range(0, len(keys), 200):
            sent = await replies(wire, [publish_command(channel, key) for key in keys[start : start + 200]])
            assert all("result" in reply for reply in sent if reply)
        for at in (node, other):
            reader.epoch, reader.offset = reader.seen[0][0], reader.seen[0][1]
            await reader.connect(at)
            assert (reader.recovered, reader.reason) == (False, "offset_too_old")
            assert reader.offset == size + 2
            reader.cut()
    assert reader.keys == [first]


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
