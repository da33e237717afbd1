"""What became of a message: the verdict for a connection, from what the hub holds anyway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from doubles import RecordingSocket, outbox, publication
from hypothesis import given
from hypothesis import strategies as st
from scene import Client, Scene

from hub.channels.subscriptions import MAX_SNAPSHOT_KNOWN
from hub.connections.verdicts import Notes
from hub.namespaces import Namespace
from protocol.codec import JSON, MSGPACK, Codec
from storage.database import Database

ROOM = "custom:room"
STATUS = "values:desk"
TEAM = "team:alpha"


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    latest = Namespace(promise="latest", types=("*",), publish=("*",), subscribe=("*",))
    async with Scene(database, namespaces={"values": latest}).running() as running:
        yield running


async def verdict(asker: Client, channel: str, offset: int, of: Client | None = None) -> dict[str, Any]:
    about = of or asker
    reply = await asker.ask("explain", channel=channel, offset=offset, client=about.connection.id)
    assert "result" in reply, reply
    (told,) = reply["result"]["connections"]
    assert told["client"] == about.connection.id
    found: dict[str, Any] = told
    return found


async def until_verdict(asker: Client, channel: str, offset: int, wanted: str) -> dict[str, Any]:
    """Until it is decided: what is under way within the node waits for a moment."""
    async with asyncio.timeout(5):
        while (told := await verdict(asker, channel, offset))["verdict"] != wanted:
            await asyncio.sleep(0.001)
    return told


async def tell(speaker: Client, text: str, key: str = "k", **fields: Any) -> int:
    placed = await speaker.publish(STATUS, data={"text": text}, key=key, **fields)
    offset: int = placed["offset"]
    return offset


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
async def test_a_live_message_was_delivered_and_the_next_one_has_not_arrived(scene: Scene, codec: Codec) -> None:
    ann = await scene.client(codec=codec)
    await ann.ask("subscribe", channel=ROOM)
    await ann.publish(ROOM)

    assert (await until_verdict(ann, ROOM, 1, "delivered"))["reason"] == "live"
    assert (await verdict(ann, ROOM, 2))["verdict"] == "not_arrived"


async def test_what_recovery_brought_was_delivered_and_what_was_before_it_was_not(scene: Scene) -> None:
    ann = await scene.client()
    placed = [await ann.publish(TEAM, "TASK_STATUS_UPDATE", {"task_id": "t", "state": "WORKING"}) for _ in range(3)]
    second, third = placed[1]["offset"], placed[2]["offset"]
    await ann.ask("subscribe", channel=TEAM, recover={"epoch": placed[0]["epoch"], "offset": placed[0]["offset"]})

    assert "in the answer to subscribe" in (await verdict(ann, TEAM, third))["reason"]
    assert (await verdict(ann, TEAM, second))["verdict"] == "delivered"
    assert (await verdict(ann, TEAM, placed[0]["offset"]))["verdict"] == "not_subscribed"


async def test_a_latest_value_that_came_in_the_snapshot_was_delivered(scene: Scene) -> None:
    ann = await scene.client()
    replaced, first = await tell(ann, "one", key="a"), await tell(ann, "two", key="a")
    other = await tell(ann, "three", key="b")
    assert len((await ann.ask("subscribe", channel=STATUS))["result"]["messages"]) == 2

    assert (await verdict(ann, STATUS, first))["verdict"] == "delivered"
    assert (await verdict(ann, STATUS, other))["reason"] == "in the snapshot"
    assert (await verdict(ann, STATUS, replaced))["verdict"] == "not_subscribed"
    await until_verdict(ann, STATUS, await tell(ann, "four", key="a"), "delivered")
    assert (await verdict(ann, STATUS, first))["verdict"] == "delivered", "also when it has been replaced since"

    await ann.ask("unsubscribe", channel=STATUS)
    await ann.ask("subscribe", channel=STATUS, filter={"keys": ["a"]})
    assert (await verdict(ann, STATUS, other))["verdict"] == "filtered"


async def test_of_a_large_snapshot_it_is_not_remembered_what_was_in_it(scene: Scene) -> None:
    ann = await scene.client()
    offsets = [await tell(ann, "x", key=str(number)) for number in range(MAX_SNAPSHOT_KNOWN + 1)]
    await ann.ask("subscribe", channel=STATUS)

    assert (await verdict(ann, STATUS, offsets[0]))["verdict"] == "unknown"


async def test_what_a_replay_brought_was_delivered(scene: Scene) -> None:
    ann = await scene.client()
    placed = [await ann.publish(TEAM, "TASK_STATUS_UPDATE", {"task_id": "t", "state": "WORKING"}) for _ in range(2)]
    before = placed[0]["offset"] - 1
    asked = asyncio.ensure_future(ann.ask("replay", channels=[TEAM], **{"from": placed[0]["timestamp"]}, speed=0.001))
    assert (await until_verdict(ann, TEAM, placed[0]["offset"], "delivered"))["reason"] == "by the replay"
    await ann.ask("unsubscribe", channel=TEAM)
    assert (await verdict(ann, TEAM, placed[0]["offset"]))["verdict"] == "not_subscribed"
    await asked

    await ann.ask("replay", channels=[TEAM], **{"from": placed[0]["timestamp"]}, speed=0)
    for each in placed:
        assert (await verdict(ann, TEAM, each["offset"]))["reason"] == "by the replay"
    if before:
        assert (await verdict(ann, TEAM, before))["verdict"] == "not_subscribed"
    after = await ann.publish(TEAM, "TASK_STATUS_UPDATE", {"task_id": "t", "state": "WORKING"})
    assert (await until_verdict(ann, TEAM, after["offset"], "delivered"))["reason"] == "live"


async def test_a_slow_reader_is_told_which_value_took_the_place_of_which(scene: Scene) -> None:
    ann, slow = await scene.client(), await scene.client("bob", "admin")
    await slow.ask("subscribe", channel=STATUS)
    slow.connection.blocked()
    first = await tell(ann, "one")
    second = await tell(ann, "two")
    async with asyncio.timeout(5):
        while (told := await verdict(ann, STATUS, first, slow))["verdict"] != "conflated":
            await asyncio.sleep(0.001)

    assert told["by"] == second
    assert (await verdict(ann, STATUS, second, slow))["verdict"] == "waiting"
    slow.connection.unblocked()
    assert (await verdict(ann, STATUS, second, slow))["verdict"] == "delivered"


async def test_a_value_that_outlived_its_time_in_the_outbox_has_expired(scene: Scene) -> None:
    ann, slow = await scene.client(), await scene.client("bob", "admin")
    await slow.ask("subscribe", channel=STATUS)
    slow.connection.blocked()
    offset = await tell(ann, "one", ttl_ms=500)
    async with asyncio.timeout(5):
        while not slow.connection.outbox.waiting_bytes:
            await asyncio.sleep(0.001)
    scene.clock.advance(1.0)
    slow.connection.unblocked()

    assert (await verdict(ann, STATUS, offset, slow))["verdict"] == "expired"


@pytest.mark.parametrize("channel", [ROOM, STATUS])
async def test_a_filter_is_asked_again(scene: Scene, channel: str) -> None:
    ann = await scene.client()
    await ann.ask("subscribe", channel=channel, filter={"keys": ["wanted"]})
    for key in ("other", "wanted", "other"):
        if channel == ROOM:
            await ann.publish(ROOM, key=key)
        else:
            await tell(ann, "x", key=key)

    assert (await until_verdict(ann, channel, 3, "filtered"))["verdict"] == "filtered"
    assert (await verdict(ann, channel, 1))["verdict"] == "filtered"
    assert (await verdict(ann, channel, 2))["verdict"] == "delivered"


async def test_under_a_rate_a_value_waits_or_is_replaced(scene: Scene) -> None:
    ann = await scene.client()
    await ann.ask("subscribe", channel=STATUS, max_rate=0.001)
    for text in ("one", "two", "three"):
        await tell(ann, text)

    assert (await until_verdict(ann, STATUS, 2, "conflated"))["by"] == 3
    assert (await verdict(ann, STATUS, 1))["verdict"] == "delivered"
    assert (await verdict(ann, STATUS, 3))["verdict"] == "waiting"


async def test_a_channel_that_was_left_or_never_joined_is_not_subscribed(scene: Scene) -> None:
    ann = await scene.client()
    await ann.ask("subscribe", channel=ROOM)
    await ann.publish(ROOM)
    await ann.ask("unsubscribe", channel=ROOM)

    assert (await verdict(ann, ROOM, 1))["verdict"] == "not_subscribed"


async def test_whoever_may_not_read_learns_nothing_else(scene: Scene) -> None:
    ann, eve = await scene.client(), await scene.client("eve", "viewer")
    placed = await ann.publish("agent:ann", "NOTE")

    there = await verdict(eve, "agent:ann", placed["offset"])
    nowhere = await verdict(eve, "agent:bob", 7)

    assert there["verdict"] == "not_permitted"
    assert there == nowhere


async def test_only_an_admin_asks_about_somebody_else(scene: Scene) -> None:
    ann, eve = await scene.client(), await scene.client("eve", "viewer")

    refused = await eve.ask("explain", channel=ROOM, offset=1, client=ann.connection.id)
    unknown = await eve.ask("explain", channel=ROOM, offset=1, client="nobody")

    assert refused["error"] == unknown["error"]
    assert refused["error"]["name"] == "permission_denied"
    assert (await verdict(ann, ROOM, 1, eve))["verdict"] in ("not_subscribed", "not_permitted")
    gone = await ann.ask("explain", channel=ROOM, offset=1, client="nobody")
    assert gone["error"]["path"] == "$.client"


async def test_without_a_client_it_is_about_every_connection_of_the_caller(scene: Scene) -> None:
    first, second = await scene.client(), await scene.client()
    await scene.client("bob")
    await second.ask("subscribe", channel=ROOM)
    await second.publish(ROOM)
    await until_verdict(second, ROOM, 1, "delivered")

    told = (await first.ask("explain", channel=ROOM, offset=1))["result"]["connections"]

    assert {each["client"]: each["verdict"] for each in told} == {
        first.connection.id: "not_subscribed",
        second.connection.id: "delivered",
    }


async def test_a_message_that_never_came_to_this_node_was_dropped(scene: Scene) -> None:
    ann = await scene.client()
    await ann.ask("subscribe", channel=ROOM)
    await ann.publish(ROOM)
    epoch = scene.fanout.audience(ROOM).epoch  # type: ignore[union-attr]  # somebody is subscribed
    scene.fanout.deliver(publication(ROOM, 4, epoch=epoch or ""))
    await until_verdict(ann, ROOM, 4, "delivered")

    assert [(await verdict(ann, ROOM, offset))["verdict"] for offset in (1, 2, 3)] == [
        "delivered",
        "dropped",
        "dropped",
    ]


async def test_when_notes_are_gone_the_verdict_is_unknown_and_never_delivered(scene: Scene) -> None:
    ann = await scene.client()
    await ann.ask("subscribe", channel=STATUS, max_rate=0.001)
    last = 0
    for number in range(scene.notes.limit + 5):
        last = await tell(ann, str(number))
    await until_verdict(ann, STATUS, last - 1, "conflated")

    told = [(await verdict(ann, STATUS, offset))["verdict"] for offset in range(2, last)]

    assert set(told) == {"unknown", "conflated"}
    assert told == sorted(told, reverse=True)
    assert told.count("conflated") == scene.notes.limit


def test_an_encoded_message_in_the_queue_is_found_in_both_formats() -> None:
    for codec in (JSON, MSGPACK):
        made = outbox(RecordingSocket(), touch=lambda _: None, codec=codec)
        made.block()
        made.push(publication(ROOM, 41).encoded(codec))
        assert made.holds(ROOM, 41)
        assert not made.holds(ROOM, 4)
        assert not made.holds("custom:roo", 41)
        made.flush({})
        assert made.holds(ROOM, 41)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), max_size=60), st.integers(1, 8))
def test_a_note_is_found_or_known_to_be_forgotten(events: list[tuple[int, int]], limit: int) -> None:
    """Readers of one channel; each event is a step on, in which a reader's last value is replaced by a newer one."""
    notes = Notes(limit=limit)
    readers = [notes.reader() for _ in range(3)]
    waiting = dict.fromkeys(readers, 1)
    noted: dict[int, list[int]] = {reader: [] for reader in readers}
    offset = 1
    for index, step in events:
        offset += step
        reader = readers[index]
        notes.add((reader, "a:x", "e1", waiting[reader], "conflated", offset))
        noted[reader].append(waiting[reader])
        waiting[reader] = offset
    for reader in readers:
        for each in range(1, offset + 1):
            found = notes.find(reader, "a:x", "e1", each, noted=len(noted[reader]))
            assert (found is not None) if each in noted[reader] else (found in (None, "forgotten"))
