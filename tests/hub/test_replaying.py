"""Time travel: stored channels once more, merged by time, at any pace, and then live without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from scene import Client, Scene

from hub.caller import SYSTEM
from hub.channels.replaying import BURST_BYTES, MAX_REPLAYS, PAGE
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK, Codec
from protocol.errors import HubError
from protocol.messages import Replay
from storage.database import Database

TEAM = "team:alpha"
ROOM = "custom:room"
TASK = {"task_id": "t", "state": "WORKING"}


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


async def say(scene: Scene, channel: str, *, count: int = 1, every_s: float = 0.0, data: Any = None) -> None:
    """Publish from somewhere else; each message takes its time."""
    speaker = await scene.client("speaker", "admin")
    for _ in range(count):
        if channel.startswith("team:"):
            await speaker.publish(channel, "TASK_STATUS_UPDATE", TASK)
        else:
            await speaker.publish(channel, data=data or {})
        scene.clock.advance(every_s)
    speaker.connection.lost()


async def at_rest(scene: Scene) -> None:
    """Until everything that can go on without time has gone on."""
    for _ in range(50):
        await asyncio.sleep(0)


async def reply_in_time(scene: Scene, client: Client, command: dict[str, Any]) -> dict[str, Any]:
    """The reply, while time passes as fast as the work gets done."""
    async with asyncio.timeout(5):
        while not client.replies(command["id"]):
            scene.clock.advance(0.1)
            await asyncio.sleep(0.001)
    return client.replies(command["id"])[0]


def order(client: Client) -> list[tuple[str, int]]:
    return [(each["channel"], each["offset"]) for each in client.messages if "data" in each and "offset" in each]


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
async def test_channels_are_merged_by_time_and_then_live_without_a_gap(scene: Scene, codec: Codec) -> None:
    start = scene.clock.now_ms()
    for channel in (TEAM, ROOM, ROOM, TEAM, ROOM):
        await say(scene, channel, every_s=1.0)
    client = await scene.client(codec=codec)

    reply = await client.ask("replay", channels=[ROOM, TEAM], speed=0, **{"from": start})
    await say(scene, ROOM)
    await say(scene, TEAM)
    await client.until_offset(TEAM, 3)
    await client.until_offset(ROOM, 4)

    past = [(TEAM, 1), (ROOM, 1), (ROOM, 2), (TEAM, 2), (ROOM, 3)]
    assert order(client)[:5] == past
    assert sorted(order(client)[5:]) == [(ROOM, 4), (TEAM, 3)]
    result = reply["result"]
    assert result["replayed"] == 5
    assert {channel: (each["recovered"], each["offset"]) for channel, each in result["subscriptions"].items()} == {
        ROOM: (True, 3),
        TEAM: (True, 2),
    }
    assert client.messages.index(reply) > max(
        place for place, each in enumerate(client.messages) if (each.get("channel"), each.get("offset")) in past
    )


@pytest.mark.parametrize("channel", [TEAM, ROOM])
@pytest.mark.parametrize(("first", "last"), [(1, 9), (3, 5), (9, 9), (4, 3), (10, 9)])
async def test_from_and_to_choose_to_the_millisecond(scene: Scene, channel: str, first: int, last: int) -> None:
    start = scene.clock.now_ms()
    await say(scene, channel, count=9, every_s=1.0)
    client = await scene.client()

    from_ms, to_ms = start + (first - 1) * 1000, start + max(first - 1, last - 1) * 1000
    if last < first:
        from_ms += 1  # between two messages
        to_ms = from_ms
    reply = await client.ask("replay", channels=[channel], to=to_ms, speed=0, **{"from": from_ms})

    assert [offset for _, offset in order(client)] == list(range(first, last + 1))
    assert reply["result"] == {"replayed": len(order(client))}
    assert "result" in await client.ask("subscribe", channel=channel)


async def test_a_replay_of_many_pages_sends_each_message_once(scene: Scene) -> None:
    count = 3 * PAGE + 1
    await say(scene, ROOM, count=count, every_s=0.001)
    client = await scene.client()

    reply = await client.ask("replay", channels=[ROOM], speed=0, **{"from": 0})

    assert reply["result"]["replayed"] == count
    assert [offset for _, offset in order(client)] == list(range(1, count + 1))


async def test_messages_come_at_the_pace_asked_for(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, ROOM, count=2, every_s=10.0)
    client = await scene.client()

    command = client.command("replay", channels=[ROOM], speed=2, to=scene.clock.now_ms(), **{"from": start - 4000})
    client.send(command)
    heard = []
    for _ in range(8):
        await at_rest(scene)
        heard.append(len(order(client)))
        scene.clock.advance(1.0)

    assert heard == [0, 0, 1, 1, 1, 1, 1, 2]
    assert (await client.reply(command["id"]))["result"] == {"replayed": 2}


async def test_what_is_published_while_a_replay_runs_is_part_of_it(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, ROOM, every_s=10.0)
    await say(scene, TEAM, every_s=1.0)
    client = await scene.client()

    command = client.command("replay", channels=[ROOM, TEAM], speed=5, **{"from": start})
    client.send(command)
    await client.until_offset(ROOM, 1)
    await say(scene, ROOM)
    reply = await reply_in_time(scene, client, command)

    assert order(client) == [(ROOM, 1), (TEAM, 1), (ROOM, 2)]
    assert reply["result"]["subscriptions"][ROOM]["offset"] == 2


async def test_who_unsubscribes_leaves_that_part_of_the_replay(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, ROOM, count=3, every_s=10.0)
    await say(scene, TEAM)
    client = await scene.client()

    command = client.command("replay", channels=[ROOM, TEAM], **{"from": start})
    client.send(command)
    await client.until_offset(ROOM, 1)
    assert "result" in await client.ask("unsubscribe", channel=ROOM)
    reply = await reply_in_time(scene, client, command)

    assert order(client) == [(ROOM, 1), (TEAM, 1)]
    assert list(reply["result"]["subscriptions"]) == [TEAM]
    assert "result" in await client.ask("subscribe", channel=ROOM)


async def test_a_replay_ends_at_once_when_its_last_channel_is_left(scene: Scene) -> None:
    await say(scene, ROOM)
    await say(scene, TEAM)
    client = await scene.client()
    command = client.command("replay", channels=[ROOM, TEAM], **{"from": 0})
    client.send(command)
    await at_rest(scene)

    await client.ask("unsubscribe", channel=ROOM)
    await at_rest(scene)
    assert not client.replies(command["id"])
    await client.ask("unsubscribe", channel=TEAM)

    assert (await client.reply(command["id"]))["result"] == {"replayed": 0}
    again = await client.ask("replay", channels=[ROOM, TEAM], speed=0, **{"from": 0})
    assert again["result"]["replayed"] == 2


async def slow_replay(scene: Scene) -> tuple[Client, dict[str, Any]]:
    """The command of a replay of 20 messages, to a reader whose socket takes a few of them."""
    await say(scene, ROOM, count=20, data={"text": "x" * (BURST_BYTES // 4)})
    client = await scene.client()
    client.socket.pending = client.connection.outbox.limit_bytes // 4
    command = client.command("replay", channels=[ROOM], speed=0, **{"from": 0})
    client.send(command)
    return client, command


async def test_a_replay_whose_reader_is_slow_ends_at_once_when_its_last_channel_is_left(scene: Scene) -> None:
    client, command = await slow_replay(scene)
    await client.until_offset(ROOM, 1)

    await client.ask("unsubscribe", channel=ROOM)

    assert 0 < (await client.reply(command["id"]))["result"]["replayed"] < 20


async def test_who_loses_the_right_to_a_channel_hears_no_more_of_it(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, TEAM, count=2, every_s=10.0)
    client = await scene.client("ann", "admin")

    command = client.command("replay", channels=[TEAM], **{"from": start})
    client.send(command)
    await client.until_offset(TEAM, 1)
    assert "result" in await client.ask("refresh", token=scene.token("ann", "nobody", teams=()))

    assert (await reply_in_time(scene, client, command))["result"] == {"replayed": 1}
    assert order(client) == [(TEAM, 1)]
    assert any(each["type"] == "unsubscribed" for each in client.messages)


async def test_a_slow_reader_is_waited_for(scene: Scene) -> None:
    client, command = await slow_replay(scene)
    for _ in range(5):
        await at_rest(scene)
        scene.clock.advance(1.0)
    some = len(order(client))
    client.socket.pending = 0

    assert (await reply_in_time(scene, client, command))["result"]["replayed"] == 20
    assert 0 < some < 20


async def test_a_client_that_goes_leaves_nothing_behind(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, ROOM, count=2, every_s=10.0)
    client = await scene.client(session="s")
    client.send(client.command("replay", channels=[ROOM], **{"from": start}))
    await client.until_offset(ROOM, 1)

    client.connection.close(CloseCode.REPLACED)
    client.connection.lost()
    await at_rest(scene)

    assert client.connection.subscriptions == {}
    assert scene.fanout.channels() == []
    again = await scene.client()
    assert "result" in await again.ask("replay", channels=[ROOM], speed=0, **{"from": start})


async def test_one_replay_at_a_time_and_so_many_on_a_node(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, ROOM, count=2, every_s=10.0)
    client = await scene.client()
    client.send(client.command("replay", channels=[ROOM], **{"from": start}))
    await client.until_offset(ROOM, 1)

    second = await client.ask("replay", channels=[TEAM], speed=0, **{"from": 0})
    assert second["error"]["name"] == "limit_exceeded"
    others = [await scene.client(f"user-{number}", "admin") for number in range(MAX_REPLAYS)]
    for other in others:
        other.send(other.command("replay", channels=[ROOM], **{"from": start}))
    await at_rest(scene)
    refused = [each["error"]["name"] for other in others for each in other.messages if "error" in each]
    assert refused == ["overloaded"]


@pytest.mark.parametrize(
    ("fields", "name", "path"),
    [
        ({"channels": [ROOM, ROOM]}, "bad_request", "$.channels"),
        ({"channels": [ROOM, "prices:X"]}, "bad_request", "$.channels[1]"),
        ({"channels": ["nope:x"]}, "unknown_channel", "$.channels[0]"),
        ({"channels": [ROOM, TEAM]}, "already_subscribed", "$.channels[1]"),
        ({"channels": [ROOM], "to": 4}, "bad_request", "$.to"),
        ({"channels": [ROOM], "speed": 0.0001}, "schema_invalid", "$.speed"),
        ({"channels": [ROOM], "speed": float("nan")}, "schema_invalid", "$.speed"),
        ({"channels": [ROOM], "speed": -1}, "schema_invalid", "$.speed"),
        ({"channels": []}, "schema_invalid", "$.channels"),
        ({"channels": [f"custom:{n}" for n in range(17)]}, "schema_invalid", "$.channels"),
        ({"channels": ["orders:bob"]}, "permission_denied", "$.channels[0]"),
    ],
)
async def test_a_replay_that_cannot_be_says_why_and_holds_no_place(
    scene: Scene, fields: dict[str, Any], name: str, path: str
) -> None:
    client = await scene.client("ann", "trader", "agent", codec=MSGPACK)
    await client.ask("subscribe", channel=TEAM)

    error = (await client.ask("replay", **{"from": 5, **fields}))["error"]

    assert (error["name"], error.get("path")) == (name, path)
    assert list(client.connection.subscriptions) == [TEAM]


async def test_a_history_that_is_cut_off_meanwhile_ends_the_replay(scene: Scene) -> None:
    start = scene.clock.now_ms()
    await say(scene, TEAM, count=PAGE + 2, every_s=0.1)
    client = await scene.client()
    command = client.command("replay", channels=[TEAM], **{"from": start})
    client.send(command)
    await client.until_offset(TEAM, 1)

    await scene.log.trim(TEAM, keep=1)

    assert (await reply_in_time(scene, client, command))["error"]["name"] == "unrecoverable_position"
    assert client.connection.subscriptions == {}


async def test_a_replay_needs_a_socket(scene: Scene) -> None:
    command = Replay(id=1, channels=[ROOM], from_=0)

    with pytest.raises(HubError, match="WebSocket"):
        await scene.dispatcher.handle(command, SYSTEM)
