"""Joining a channel: recovered without a gap, then live; and leaving it, at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from doubles import SlowLog
from scene import Client, Scene

from protocol.codec import JSON, MSGPACK, Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import SubscribeOptions
from storage.database import Database

TEAM = "team:alpha"
ROOM = "custom:room"
UPDATE = [{"specialist_id": "s1"}]


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def tick(bid: str, symbol: str = "X") -> dict[str, Any]:
    return {"symbol": symbol, "bid": bid}


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
async def test_a_durable_channel_is_recovered_from_a_position_and_goes_on_live(scene: Scene, codec: Codec) -> None:
    publisher = await scene.client("pub")
    placed = [await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE) for _ in range(5)]
    reader = await scene.client("ann", codec=codec)
    reply = await reader.ask("subscribe", channel=TEAM, recover={"epoch": placed[0]["epoch"], "offset": 2})
    await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
    await reader.until_offset(TEAM, 6)

    assert reply["result"]["recovered"] is True
    assert reader.seen(TEAM) == [3, 4, 5, 6]


async def test_one_connect_joins_every_channel_and_a_wrong_one_does_not_keep_the_others_away(scene: Scene) -> None:
    client = scene.socket()
    reply = await client.ask(
        "connect",
        token=scene.token(),
        subscriptions={TEAM: {}, ROOM: {"presence": None}, "nope:x": {}, "custom:": {}, "ab": {}, "team:b": {"x": 1}},
    )
    joined = reply["result"]["subscriptions"]

    assert joined[TEAM]["channel"] == TEAM
    assert joined[ROOM]["channel"] == ROOM
    assert joined["nope:x"]["error"]["code"] == 1002
    assert joined["custom:"]["error"]["code"] == 1007
    assert [joined[each]["error"]["code"] for each in ("ab", "team:b")] == [1013, 1013]
    assert [joined[each]["error"]["path"] for each in ("ab", "team:b")] == ["$.channel", "$"]
    await client.publish(ROOM)
    await client.until_offset(ROOM, 1)


async def test_a_durable_channel_left_while_connect_is_under_way_does_not_spoil_the_connect(scene: Scene) -> None:
    client = scene.socket()
    connect = client.command("connect", token=scene.token(), subscriptions={TEAM: {}, ROOM: {}})
    client.send(connect, client.command("unsubscribe", channel=TEAM))
    reply = await client.reply(connect["id"])

    assert "result" in reply, reply
    assert reply["result"]["subscriptions"][ROOM]["channel"] == ROOM
    await client.publish(ROOM)
    await client.until_offset(ROOM, 1)


async def test_a_ready_channel_left_while_connect_waits_for_another_does_not_spoil_the_connect(scene: Scene) -> None:
    client = scene.socket()
    connect = client.command("connect", token=scene.token(), subscriptions={TEAM: {}, ROOM: {}, "custom:b": {}})
    client.send(connect, client.command("unsubscribe", channel=ROOM))
    reply = await client.reply(connect["id"])

    assert "result" in reply, reply
    for number, channel in enumerate([TEAM, "custom:b"]):
        assert reply["result"]["subscriptions"][channel]["channel"] == channel
        kind, data = (("SPECIALIST_UPDATE", UPDATE), ("NOTE", {}))[number]
        await client.publish(channel, kind, data)
        await client.until_offset(channel, 1)


async def test_leaving_while_joining_ends_the_join_with_an_error_and_joining_again_works(scene: Scene) -> None:
    client = await scene.client()
    first, leave, second = (
        client.command("subscribe", channel=TEAM),
        client.command("unsubscribe", channel=TEAM),
        client.command("subscribe", channel=TEAM),
    )
    client.send(first, leave, second)

    assert (await client.reply(first["id"]))["error"]["code"] == ErrorCode.NOT_AVAILABLE
    assert "result" in await client.reply(leave["id"])
    assert "result" in await client.reply(second["id"])
    await client.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
    await client.until_offset(TEAM, 1)
    assert client.seen(TEAM) == [1]


async def test_leaving_in_the_moment_the_position_became_known_is_no_internal_error(scene: Scene) -> None:
    client = await scene.client()
    joining = scene.subscriptions.join(client.connection, client.connection.caller, TEAM, SubscribeOptions())
    assert not joining.ready
    await asyncio.wait([scene.durable._tails[TEAM].opened])
    scene.subscriptions.unsubscribe(client.connection, TEAM)
    with pytest.raises(HubError):
        await joining.prepare()
        joining.finish()


@pytest.mark.parametrize("turns", range(12))
async def test_leaving_after_any_number_of_turns_never_breaks_a_join(scene: Scene, turns: int) -> None:
    client = await scene.client()
    join = client.command("subscribe", channel=TEAM)
    client.send(join)
    await asyncio.wait([scene.durable._tails[TEAM].opened])
    for _ in range(turns):
        await asyncio.sleep(0)
    client.send(client.command("unsubscribe", channel=TEAM))
    reply = await client.reply(join["id"])

    assert reply.get("error", {}).get("code") != ErrorCode.INTERNAL
    assert scene.fanout.listeners(TEAM) == 0


async def test_nothing_of_a_channel_follows_the_answer_to_unsubscribe(scene: Scene) -> None:
    client, publisher = await scene.client(), await scene.client("pub")
    await client.ask("subscribe", channel=ROOM)
    await publisher.publish(ROOM)
    leave = client.command("unsubscribe", channel=ROOM)
    client.send(leave)
    await publisher.publish(ROOM)
    await client.reply(leave["id"])
    await client.ask("history", channel=ROOM)
    order = [each["type"] for each in client.messages]

    assert "NOTE" not in order[order.index("reply", 2) + 1 :]
    assert client.seen(ROOM) == [1]


async def test_a_blocked_reader_that_leaves_and_joins_again_never_sees_an_older_value(scene: Scene) -> None:
    reader, feed = await scene.client(), await scene.client("feed")
    await reader.ask("subscribe", channel="prices:X")
    await feed.publish("prices:X", "PRICE_TICK", tick("1"))
    await reader.until_offset("prices:X", 1)
    reader.connection.blocked()
    await feed.publish("prices:X", "PRICE_TICK", tick("2"))  # waits in the reader's outbox
    await _settled(scene)
    reader.send(reader.command("unsubscribe", channel="prices:X"))
    await feed.publish("prices:X", "PRICE_TICK", tick("3"))
    reader.send(reader.command("subscribe", channel="prices:X"))
    await _settled(scene)
    reader.connection.unblocked()
    await reader.until_offset("prices:X", 3)
    await _settled(scene)

    assert reader.seen("prices:X") == sorted(set(reader.seen("prices:X")))


async def test_nothing_of_a_channel_waits_in_the_outbox_after_it_was_left(scene: Scene) -> None:
    reader, feed = await scene.client(), await scene.client("feed")
    await reader.ask("subscribe", channel="prices:X")
    reader.connection.blocked()
    await feed.publish("prices:X", "PRICE_TICK", tick("1"))
    await _settled(scene)
    leave = reader.command("unsubscribe", channel="prices:X")
    reader.send(leave)
    await _settled(scene)
    reader.connection.unblocked()
    await reader.reply(leave["id"])
    order = [each["type"] for each in reader.messages]

    assert "PRICE_TICK" not in order[len(order) - 1 - order[::-1].index("reply") :]


async def test_a_snapshot_comes_oldest_first(scene: Scene) -> None:
    feed = await scene.client("feed")
    for key in ("a", "b", "a"):
        await feed.publish("prices:X", "PRICE_TICK", tick("1"), key=key)
    reader = await scene.client()
    reply = await reader.ask("subscribe", channel="prices:X")

    assert [each["offset"] for each in reply["result"]["messages"]] == [2, 3]


@pytest.mark.parametrize("channel", [ROOM, TEAM])
async def test_rewind_brings_that_many_newest_messages_oldest_first(scene: Scene, channel: str) -> None:
    publisher = await scene.client("pub")
    kind, data = ("NOTE", {}) if channel == ROOM else ("SPECIALIST_UPDATE", UPDATE)
    for _ in range(5):
        await publisher.publish(channel, kind, data)
    reader = await scene.client()
    await reader.ask("subscribe", channel=channel, rewind=3)
    await publisher.publish(channel, kind, data)
    await reader.until_offset(channel, 6)

    assert reader.seen(channel) == [3, 4, 5, 6]


async def test_rewind_by_time_brings_what_is_not_older(scene: Scene) -> None:
    publisher = await scene.client("pub")
    await publisher.publish(ROOM)
    await scene.tick(20)
    await publisher.publish(ROOM)
    await scene.tick(20)
    reader = await scene.client()
    await reader.ask("subscribe", channel=ROOM, rewind="30s")

    assert reader.seen(ROOM) == [2]


async def test_rewind_by_nothing_brings_nothing(scene: Scene) -> None:
    publisher = await scene.client("pub")
    await publisher.publish(ROOM)
    reader = await scene.client()
    reply = await reader.ask("subscribe", channel=ROOM, rewind=0)

    assert reply["result"]["messages"] == []
    assert reply["result"]["offset"] == 1


async def test_a_message_committed_while_a_rewind_reads_is_delivered_once(database: Database) -> None:
    log = SlowLog(database)
    async with Scene(database, log=log).running() as scene:
        publisher, reader = await scene.client("pub"), await scene.client()
        for _ in range(3):
            await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
        asked = reader.command("subscribe", channel=TEAM, rewind=10)
        reader.send(asked)
        await log.until_read(1)
        await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
        log.arrive.set()
        reply = await reader.reply(asked["id"])
        await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
        await reader.until_offset(TEAM, 5)

        assert reader.seen(TEAM) == [1, 2, 3, 4, 5]
        assert reply["result"]["offset"] == reply["result"]["messages"][-1]["offset"]


async def test_expired_messages_do_not_make_a_recovery_a_lie(scene: Scene) -> None:
    """They are left out, and the position goes on over them: nothing is missing."""
    publisher = await scene.client("pub")
    first = await publisher.publish(ROOM)
    for ttl in ({"ttl_ms": 1000}, {}, {"ttl_ms": 1000}):
        await publisher.publish(ROOM, **ttl)
    await scene.tick(2)
    reader = await scene.client()
    reply = await reader.ask("subscribe", channel=ROOM, recover={"epoch": first["epoch"], "offset": 1})
    explained = await reader.ask("explain", channel=ROOM, offset=2)
    await publisher.publish(ROOM)
    await reader.until_offset(ROOM, 5)

    assert (reply["result"]["recovered"], reply["result"]["offset"]) == (True, 4)
    assert reader.seen(ROOM) == [3, 5]
    assert explained["result"]["connections"][0]["verdict"] == "expired"


async def test_a_rewind_leaves_out_what_has_expired(scene: Scene) -> None:
    publisher = await scene.client("pub")
    await publisher.publish(ROOM)
    await publisher.publish(ROOM, ttl_ms=1000)
    await scene.tick(2)
    reader = await scene.client()
    reply = await reader.ask("subscribe", channel=ROOM, rewind=10)

    assert reader.seen(ROOM) == [1]
    assert reply["result"]["offset"] == 2


async def test_what_follows_a_long_recovery_has_no_holes_where_messages_have_expired(scene: Scene) -> None:
    """A client would take a hole there for a gap, and recover once more."""
    publisher, reader = await scene.client("pub"), await scene.client()
    for number in range(20):
        first = await publisher.publish(ROOM, data={"t": "x" * 60_000}, **({"ttl_ms": 1000} if number % 2 else {}))
    await scene.tick(2)
    reply = await reader.ask("subscribe", channel=ROOM, recover={"epoch": first["epoch"], "offset": 0})
    await reader.until_offset(ROOM, 20)
    result = reply["result"]

    assert [each["offset"] for each in result["messages"]] == [*range(1, result["offset"] + 1, 2)]
    assert reader.seen(ROOM)[len(result["messages"]) :] == [*range(result["offset"] + 1, 21)]


async def test_an_expired_latest_value_is_not_in_the_snapshot(scene: Scene) -> None:
    feed = await scene.client("feed")
    await feed.publish("prices:X", "PRICE_TICK", tick("1"), ttl_ms=1000)
    await scene.tick(2)
    reply = await (await scene.client()).ask("subscribe", channel="prices:X")

    assert reply["result"]["messages"] == []


async def test_a_filter_holds_for_recovered_and_live_messages_alike(scene: Scene) -> None:
    publisher = await scene.client("pub")
    for key in ("a", "b"):
        await publisher.publish(ROOM, key=key)
    reader = await scene.client()
    await reader.ask("subscribe", channel=ROOM, rewind=10, filter={"keys": ["b"]})
    for key in ("a", "b"):
        await publisher.publish(ROOM, key=key)
    await reader.until_offset(ROOM, 4)

    assert reader.seen(ROOM) == [2, 4]


async def test_a_filter_holds_for_what_comes_while_a_long_recovery_is_sent_in_pieces(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    for _ in range(20):
        first = await publisher.publish(ROOM, key="wanted", data={"t": "x" * 60_000})
    join = reader.command(
        "subscribe", channel=ROOM, recover={"epoch": first["epoch"], "offset": 0}, filter={"keys": ["wanted"]}
    )
    reader.send(join)
    for key in ("other", "wanted", "other"):  # in the same turn, before the second piece
        message = {"type": "NOTE", "data": {}}
        publisher.send(publisher.command("publish", channel=ROOM, key=key, message=message))
    await reader.until_offset(ROOM, 22)
    await _settled(scene)

    assert reader.seen(ROOM) == [*range(1, 21), 22]


async def test_the_offset_in_the_answer_is_that_of_the_last_message_in_it(scene: Scene) -> None:
    publisher, reader = await scene.client("pub"), await scene.client()
    for _ in range(20):
        last = await publisher.publish(ROOM, data={"t": "x" * 60_000})
    reply = await reader.ask("subscribe", channel=ROOM, recover={"epoch": last["epoch"], "offset": 0})
    await reader.until_offset(ROOM, 20)

    assert reply["result"]["offset"] == reply["result"]["messages"][-1]["offset"]
    assert reader.seen(ROOM) == list(range(1, 21))


async def test_what_a_channel_does_not_offer_is_refused_before_anything_happens(scene: Scene) -> None:
    client = await scene.client()
    rate = await client.ask("subscribe", channel=ROOM, max_rate=1)
    presence = await client.ask("subscribe", channel="prices:X", presence=True)

    assert (rate["error"]["code"], rate["error"]["path"]) == (1007, "$.max_rate")
    assert (presence["error"]["code"], presence["error"]["path"]) == (1007, "$.presence")
    assert client.connection.subscriptions == {}


async def test_the_same_channel_twice_is_refused_and_the_first_lives_on(scene: Scene) -> None:
    client = await scene.client()
    await client.ask("subscribe", channel=ROOM)
    again = await client.ask("subscribe", channel=ROOM)
    await client.publish(ROOM)
    await client.until_offset(ROOM, 1)

    assert again["error"]["code"] == 1005
    assert client.seen(ROOM) == [1]


async def test_no_subscription_beyond_the_limit_and_room_again_after_leaving(scene: Scene) -> None:
    client = await scene.client()
    for number in range(50):
        assert "result" in await client.ask("subscribe", channel=f"custom:{number}")
    beyond = await client.ask("subscribe", channel="custom:beyond")
    await client.ask("unsubscribe", channel="custom:0")
    again = await client.ask("subscribe", channel="custom:beyond")

    assert beyond["error"]["code"] == 1006
    assert "result" in again


async def test_many_who_join_a_busy_durable_channel_at_once_all_see_it_whole(scene: Scene) -> None:
    publisher = await scene.client("pub")
    first = await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
    readers: list[Client] = []

    async def write() -> None:
        for _ in range(60):
            await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)

    async def join() -> None:
        for number in range(20):
            reader = await scene.client(f"r{number}")
            await reader.ask("subscribe", channel=TEAM, recover={"epoch": first["epoch"], "offset": 0})
            readers.append(reader)

    await asyncio.gather(write(), join())
    for reader in readers:
        await reader.until_offset(TEAM, 61)
        assert reader.seen(TEAM) == list(range(1, 62))


async def test_after_everybody_has_gone_nothing_is_left_of_them(scene: Scene) -> None:
    for number in range(20):
        client = await scene.client(f"u{number}")
        for channel in (ROOM, TEAM, "prices:X"):
            await client.ask("subscribe", channel=channel, presence=channel == ROOM)
        client.connection.lost()

    assert scene.fanout.channels() == []
    assert len(scene.registry) == 0
    assert scene.durable._tails == {}
    assert scene.presence.members(ROOM) == []


async def test_a_refresh_with_fewer_roles_ends_what_they_no_longer_allow(scene: Scene) -> None:
    client = await scene.client("ann", "dashboard")
    await client.ask("subscribe", channel=TEAM)
    await client.ask("subscribe", channel="prices:X")
    await client.ask("refresh", token=scene.token("ann", "feed"))
    publisher = await scene.client("pub")
    await publisher.publish(TEAM, "SPECIALIST_UPDATE", UPDATE)
    await publisher.publish("prices:X", "PRICE_TICK", tick("1"))
    await client.until_offset("prices:X", 1)
    ended = [each for each in client.messages if each["type"] == "unsubscribed"]

    assert client.seen(TEAM) == []
    assert [(each["channel"], each["code"]) for each in ended] == [(TEAM, ErrorCode.PERMISSION_DENIED.value)]


async def _settled(scene: Scene) -> None:
    """A few turns of the loop: enough for anything that needs no wire."""
    for _ in range(20):
        await asyncio.sleep(0.001)  # the pace, not a wait for a fact
