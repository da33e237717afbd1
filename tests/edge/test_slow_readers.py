"""Readers that do not read: they lose their connection, never the hub its memory, and nobody else anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from sockets import CLOSE, Metrics, Peer, RawSocket, peer, unique

KIB = 1024


async def joined(hub: Any, stack: contextlib.AsyncExitStack, channel: str) -> RawSocket:
    """A client that has joined a channel and from now on reads nothing."""
    made = await stack.enter_async_context(RawSocket.upgraded(hub, token=hub.token("stuck"), receive_buffer=4096))
    made.send(json.dumps({"type": "subscribe", "id": 2, "channel": channel}).encode())
    await made.frame()
    return made


async def sent_away(metrics: Metrics) -> float:
    return await metrics.count("krin_connections_ended", how="slow_consumer")


def publications(frames: list[tuple[int, bytes]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for opcode, payload in frames:
        if opcode != CLOSE:
            message = json.loads(payload)
            found += message if isinstance(message, list) else [message]
    return found


async def test_readers_that_may_lose_nothing_are_sent_away_at_the_bound_and_others_miss_nothing(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    channel, metrics = unique("custom"), Metrics(hub)
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(peer(hub, hub.token("pub")))
        healthy = await stack.enter_async_context(peer(hub, hub.token("healthy")))
        await healthy.ask("subscribe", channel=channel)
        before = await sent_away(metrics)
        stuck = [await joined(hub, stack, channel) for _ in range(10)]
        slowest, last = 0.0, 0
        async with asyncio.timeout(30):
            while await sent_away(metrics) < before + len(stuck):
                for _ in range(20):
                    started = time.monotonic()
                    last = (await publisher.publish(channel, data={"t": "x" * 30 * KIB}))["offset"]
                    slowest = max(slowest, time.monotonic() - started)
        grown = memory.grown_mib
        await healthy.until_offset(channel, last)
        endings = [await each.rest() for each in stuck]

    assert healthy.offsets(channel) == list(range(1, last + 1))
    assert slowest < 1.0
    assert grown < 120  # the channel's history is up to 64 MiB of it, the ten bounds 10 MiB
    for frames in endings:
        got = [each["offset"] for each in publications(frames) if "offset" in each]
        assert got == list(range(1, len(got) + 1))
        if frames[-1][0] == CLOSE:
            assert frames[-1][1][:2] == (4102).to_bytes(2, "big")
            assert publications(frames)[-1]["code"] == 4102
            assert publications(frames)[-1]["reconnect"] is True


async def test_a_reader_of_ticks_that_stops_reading_is_sent_away_after_ten_seconds_without_progress(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    channel, metrics = unique("prices"), Metrics(hub)
    async with contextlib.AsyncExitStack() as stack:
        feed = await stack.enter_async_context(peer(hub, hub.token("feed")))
        before = await sent_away(metrics)
        stuck = await joined(hub, stack, channel)
        started, number = time.monotonic(), 0
        async with asyncio.timeout(40):
            while await sent_away(metrics) == before:
                for _ in range(20):
                    number += 1
                    tick = {"symbol": "X", "bid": str(number), "ext": {"pad": "x" * 20 * KIB}}
                    await feed.publish(channel, "PRICE_TICK", tick)
        took = time.monotonic() - started
        frames = await stuck.rest()

    ticks = [each for each in publications(frames) if "offset" in each]
    assert took > 9
    assert memory.grown_mib < 32
    assert [each["offset"] for each in ticks] == sorted({each["offset"] for each in ticks})
    if frames[-1][0] == CLOSE:
        assert publications(frames)[-1]["code"] == 4102


async def test_a_reader_that_pauses_and_goes_on_has_the_newest_value_and_knows_what_it_missed(
    hub: Any, bystander: Peer
) -> None:
    channel, metrics = unique("prices"), Metrics(hub)
    async with contextlib.AsyncExitStack() as stack:
        feed = await stack.enter_async_context(peer(hub, hub.token("feed")))
        slow = await joined(hub, stack, channel)
        number = 0
        async with asyncio.timeout(8):
            conflated = await metrics.value("krin_conflated")
            while await metrics.value("krin_conflated") < conflated + 50:
                for _ in range(20):
                    number += 1
                    tick = {"symbol": "X", "bid": str(number), "ext": {"pad": "x" * 20 * KIB}}
                    await feed.publish(channel, "PRICE_TICK", tick)
        seen: list[dict[str, Any]] = []
        async with asyncio.timeout(10):
            while not seen or seen[-1]["offset"] < number:
                seen += [each for each in publications([await slow.frame()]) if "offset" in each]

    assert seen[-1]["data"]["bid"] == str(number)
    assert len(seen) + sum(each.get("skipped", 0) for each in seen) == number
    assert [each["offset"] for each in seen] == sorted({each["offset"] for each in seen})


async def test_asking_for_much_and_reading_nothing_does_not_fill_the_hubs_memory(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    channel = unique("custom")
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(peer(hub, hub.token("pub")))
        for _ in range(200):
            await publisher.publish(channel, data={"t": "x" * 50 * KIB})
        grown_before = memory.grown_mib
        greedy = await stack.enter_async_context(
            RawSocket.upgraded(hub, token=hub.token("greedy"), receive_buffer=4096)
        )
        commands = [{"type": "history", "id": 10 + n, "channel": channel, "limit": 1000} for n in range(100)]
        greedy.send(json.dumps(commands).encode())  # 1 GB of answers, were they all made
        peak = 0.0
        async with asyncio.timeout(10):
            for _ in range(100):
                peak = max(peak, memory.grown_mib - grown_before)
                await publisher.ask("unsubscribe", channel="custom:never")
                await asyncio.sleep(0.01)  # the pace, not a wait for a fact

    assert peak < 100


async def test_joining_many_channels_with_long_histories_at_once_does_not_fill_the_hubs_memory(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    channels = [unique("custom") for _ in range(10)]
    async with contextlib.AsyncExitStack() as stack:
        publisher = await stack.enter_async_context(peer(hub, hub.token("pub")))
        for channel in channels:
            for _ in range(100):
                await publisher.publish(channel, data={"t": "x" * 50 * KIB})
        grown_before = memory.grown_mib
        peak = 0.0
        for _ in range(10):
            greedy = await stack.enter_async_context(RawSocket.upgraded(hub, receive_buffer=4096))
            connect = {
                "type": "connect",
                "id": 1,
                "token": hub.token("greedy"),
                "subscriptions": {channel: {"rewind": 1000} for channel in channels},
            }
            greedy.send(json.dumps(connect).encode())
            await publisher.ask("unsubscribe", channel="custom:never")
            peak = max(peak, memory.grown_mib - grown_before)

    assert peak < 200  # ten readers, 50 MB of history each


async def test_a_reader_that_does_recover_a_long_history_gets_all_of_it_in_frames_it_can_take(
    hub: Any, bystander: Peer
) -> None:
    channel = unique("team")
    async with peer(hub, hub.token("pub")) as publisher:
        update = [{"specialist_id": "s1", "ext": {"pad": "x" * 40 * KIB}}]
        placed = [await publisher.publish(channel, "SPECIALIST_UPDATE", update) for _ in range(150)]
    async with peer(hub, hub.token("reader")) as reader:
        reply = await reader.ask("subscribe", channel=channel, recover={"epoch": placed[0]["epoch"], "offset": 0})
        recovered = [each["offset"] for each in reply["result"]["messages"]]
        if recovered[-1:] != [150]:
            await reader.until_offset(channel, 150)
        live = reader.offsets(channel)

    assert reply["result"]["recovered"] is True
    assert [*recovered, *live] == list(range(1, 151))
