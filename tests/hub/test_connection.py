"""A connection's life, second by second: deadlines, pings, expiry, stalls, goodbyes, and one reply per command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio
from scene import Client, Scene

from hub.auth.service import ACCESS_TTL_S
from hub.connections.connection import (
    CONNECT_TIMEOUT_S,
    MAX_ERRORS,
    MAX_IN_FLIGHT,
    PONG_TIMEOUT_S,
    STALL_TIMEOUT_S,
    TOKEN_WARNING_S,
)
from hub.connections.registry import CHECK_INTERVAL_S, CHECKED_AT_ONCE
from protocol.close_codes import CloseCode
from storage.database import Database

ROOM = "custom:room"
PING_S = 25.0


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def goodbye(client: Client) -> dict[str, Any]:
    """The last message, which must be a disconnect with the close frame's code."""
    last = client.messages[-1]
    assert last["type"] == "disconnect"
    assert client.socket.closed is not None
    assert client.socket.closed[0] == last["code"]
    return last


async def test_who_says_nothing_is_sent_away_after_ten_seconds(scene: Scene) -> None:
    client = scene.socket()
    await scene.tick(1, times=int(CONNECT_TIMEOUT_S) - 1)
    assert client.socket.closed is None
    await scene.tick(1)

    assert goodbye(client)["code"] == CloseCode.NO_CONNECT
    assert goodbye(client)["reconnect"] is False
    assert len(scene.registry) == 0


async def test_looking_after_many_lets_messages_through_in_between(scene: Scene) -> None:
    clients = [scene.socket() for _ in range(CHECKED_AT_ONCE + 1)]
    await scene.tick(1, times=int(CONNECT_TIMEOUT_S) - 1)
    scene.clock.advance(1)
    async with asyncio.timeout(5):
        while clients[0].socket.closed is None:
            await asyncio.sleep(0)
    assert clients[-2].socket.closed is not None
    assert clients[-1].socket.closed is None  # the loop had its turn first
    await scene.tick(0)
    assert len(scene.registry) == 0


async def test_who_only_sends_wrong_commands_is_sent_away_after_ten_seconds_too(scene: Scene) -> None:
    client = scene.socket()
    for _ in range(int(CONNECT_TIMEOUT_S)):
        client.send(client.command("subscribe", channel=ROOM))
        await scene.tick(1)

    assert goodbye(client)["code"] in (CloseCode.NO_CONNECT, CloseCode.TOO_MANY_ERRORS)


async def test_a_quiet_client_is_pinged_once_and_stays_if_it_answers(scene: Scene) -> None:
    client = await scene.client()
    for _ in range(3):
        now = scene.clock.now_ms()
        await scene.tick(1, times=int(PING_S) + 1)
        ping = await client.until(lambda each, since=now: each["type"] == "ping" and each["time"] > since)  # type: ignore[misc]
        client.send({"type": "pong", "time": ping["time"]})
        await scene.tick(1)

    assert sum(each["type"] == "ping" for each in client.messages) == 3
    assert client.socket.closed is None
    assert client.connection.rtt_ms is not None


async def test_a_client_that_does_not_answer_the_ping_is_gone_after_its_time(scene: Scene) -> None:
    client = await scene.client()
    await scene.tick(1, times=int(PING_S + PONG_TIMEOUT_S) + 2)

    assert goodbye(client)["code"] == CloseCode.NO_PONG
    assert goodbye(client)["reconnect"] is True
    assert sum(each["type"] == "ping" for each in client.messages) == 1


async def test_any_frame_counts_as_life(scene: Scene) -> None:
    client = await scene.client()
    for _ in range(6):
        await scene.tick(1, times=int(PING_S) - 2)
        await client.ask("unsubscribe", channel=ROOM)

    assert client.socket.closed is None
    assert not any(each["type"] == "ping" for each in client.messages)


async def test_a_jump_of_the_wall_clock_ends_nobody_but_the_expired(scene: Scene) -> None:
    client = await scene.client()
    scene.clock.jump(-3600)
    await scene.tick(1, times=3)
    scene.clock.jump(3600 + 90)
    await scene.tick(1, times=3)

    assert client.socket.closed is None


async def test_c43_a_token_about_to_expire_is_announced_once_and_ends_the_connection_within_a_second(
    scene: Scene,
) -> None:
    assert 300 <= ACCESS_TTL_S <= 900
    client = scene.socket()
    reply = await client.ask("connect", token=scene.token(ttl_s=60))
    expires_at = reply["result"]["expires_at"]

    async def at(before_end_ms: int) -> list[str]:
        """What was noticed once the connection is looked at so long before the end, as happens once a second."""
        scene.clock.advance((expires_at - before_end_ms - scene.clock.now_ms()) / 1000)
        client.send({"type": "pong", "time": 1})
        client.connection.check()
        await asyncio.sleep(0)
        return [each["code"] for each in client.messages if each["type"] == "notice"]

    assert CHECK_INTERVAL_S <= 1
    assert await at(int(TOKEN_WARNING_S * 1000) + 100) == []
    assert await at(int(TOKEN_WARNING_S * 1000)) == ["token_expiring"]
    await at(100)
    assert client.socket.closed is None
    await at(0)
    assert client.socket.closed == (4202, "token expired")
    assert goodbye(client)["reconnect"] is True
    assert [each["code"] for each in client.messages if each["type"] == "notice"] == ["token_expiring"]


async def test_c43_a_refresh_prolongs_the_connection(scene: Scene) -> None:
    client = scene.socket()
    await client.ask("connect", token=scene.token(ttl_s=60))
    reply = await client.ask("refresh", token=scene.token(ttl_s=300))
    for _ in range(5):
        await scene.tick(1, times=20)
        client.send({"type": "pong", "time": 1})

    assert reply["result"]["expires_at"] > scene.clock.now_ms()
    assert client.socket.closed is None


async def test_a_refresh_with_somebody_elses_or_a_broken_token_changes_nothing(scene: Scene) -> None:
    client = await scene.client("ann", "dashboard")
    foreign = await client.ask("refresh", token=scene.token("bob", "admin"))
    broken = await client.ask("refresh", token="x.y.z")

    assert foreign["error"]["code"] == broken["error"]["code"] == 1010
    assert client.connection.caller.user == "ann"
    assert client.connection.caller.roles == frozenset({"dashboard"})
    assert client.socket.closed is None


async def test_a_reader_that_makes_no_progress_is_sent_away_and_slow_progress_is_enough_to_stay(scene: Scene) -> None:
    stuck, slow = await scene.client("a"), await scene.client("b")
    for each in (stuck, slow):
        each.socket.pending = 100_000
        each.connection.blocked()
    for second in range(int(STALL_TIMEOUT_S) + 2):
        slow.socket.pending = 100_000 - second
        slow.send({"type": "pong", "time": 1})
        await scene.tick(1)

    assert goodbye(stuck)["code"] == CloseCode.SLOW_CONSUMER
    assert slow.socket.closed is None


async def test_a_reader_over_the_bound_is_sent_away_with_a_way_back(scene: Scene) -> None:
    reader, publisher = await scene.client("reader"), await scene.client("pub")
    await reader.ask("subscribe", channel=ROOM)
    reader.connection.blocked()
    for _ in range(40):
        await publisher.publish(ROOM, data={"text": "x" * 50_000})
    async with asyncio.timeout(5):
        while reader.socket.closed is None:
            await asyncio.sleep(0.001)

    assert goodbye(reader)["code"] == CloseCode.SLOW_CONSUMER
    assert goodbye(reader)["reconnect"] is True
    assert reader.connection.outbox.waiting_bytes <= 1 << 20
    assert scene.fanout.listeners(ROOM) == 0


async def test_ticks_alone_never_end_a_slow_reader_and_its_last_value_is_the_newest(scene: Scene) -> None:
    reader, feed = await scene.client("reader"), await scene.client("feed")
    await reader.ask("subscribe", channel="prices:X")
    reader.connection.blocked()
    for number in range(500):
        await feed.publish("prices:X", "PRICE_TICK", {"symbol": "X", "bid": str(number), "ext": {"pad": "x" * 5_000}})
    reader.connection.unblocked()
    await reader.until_offset("prices:X", 500)

    assert reader.socket.closed is None
    assert reader.publications("prices:X")[-1]["skipped"] == 499
    assert any(each["type"] == "notice" and each["code"] == "conflating" for each in reader.messages)


async def test_nothing_is_written_after_the_goodbye(scene: Scene) -> None:
    client, publisher = await scene.client(), await scene.client("pub")
    await client.ask("subscribe", channel=ROOM)
    client.connection.close(CloseCode.DRAINING, retry_after_ms=7)
    client.send(client.command("history", channel=ROOM))
    await publisher.publish(ROOM)
    client.connection.push({"type": "ping", "time": 1})
    await scene.tick(1, times=3)

    assert goodbye(client) == {
        "type": "disconnect",
        "code": 4200,
        "reason": "draining",
        "reconnect": True,
        "retry_after_ms": 7,
    }


async def test_a_reply_of_the_same_turn_still_goes_out_before_the_goodbye(scene: Scene) -> None:
    client = await scene.client()
    command = client.command("unsubscribe", channel=ROOM)
    client.send(command)
    client.connection.close(CloseCode.DRAINING)

    assert len(client.replies(command["id"])) == 1
    goodbye(client)


async def test_an_id_in_flight_may_not_be_used_again_and_may_once_it_is_answered(scene: Scene) -> None:
    client = await scene.client()
    command = client.command("history", channel=ROOM)
    client.send(command, command)
    async with asyncio.timeout(5):
        while len(client.replies(command["id"])) < 2:
            await asyncio.sleep(0.001)
    answers = client.replies(command["id"])
    client.send(command)
    async with asyncio.timeout(5):
        while len(client.replies(command["id"])) < 3:
            await asyncio.sleep(0.001)

    assert sorted("error" in each for each in answers) == [False, True]
    assert next(each["error"]["code"] for each in answers if "error" in each) == 1007
    assert "result" in client.replies(command["id"])[-1]


async def test_every_command_gets_exactly_one_reply_in_a_frame_full_of_them(scene: Scene) -> None:
    client = await scene.client()
    commands = [client.command("history", channel=ROOM) for _ in range(100)]
    commands += [client.command("publish", channel=ROOM, message={"type": "NOTE", "data": {}}) for _ in range(50)]
    commands += [client.command("subscribe", channel="nope:x"), client.command("subscribe", channel=ROOM)]
    client.send(*commands)
    for each in commands:
        await client.reply(each["id"])

    assert all(len(client.replies(each["id"])) == 1 for each in commands)


async def test_too_many_commands_in_flight_pause_reading_and_then_it_goes_on(scene: Scene) -> None:
    client = await scene.client()
    for _ in range(MAX_IN_FLIGHT):
        client.send(client.command("history", channel=ROOM))
    paused = not client.socket.reading
    await client.reply(client.number)

    assert paused
    assert client.socket.reading


async def test_the_advertised_number_of_commands_in_flight_is_enforced_within_one_frame_too(scene: Scene) -> None:
    client = await scene.client()
    client.send(*(client.command("history", channel=ROOM) for _ in range(3 * MAX_IN_FLIGHT)))

    assert len(client.connection._in_flight or ()) <= MAX_IN_FLIGHT
    await client.reply(client.number)


async def test_a_client_that_sends_nonsense_is_cut_off_and_one_that_errs_now_and_then_is_not(scene: Scene) -> None:
    nonsense, clumsy = await scene.client("a"), await scene.client("b")
    for _ in range(MAX_ERRORS):
        nonsense.connection.receive("{")
    for _ in range(3 * MAX_ERRORS):
        clumsy.connection.receive("{")
        await scene.tick(5)

    assert goodbye(nonsense)["code"] == CloseCode.TOO_MANY_ERRORS
    assert clumsy.socket.closed is None


async def test_the_same_session_from_the_same_user_replaces_the_older_connection(scene: Scene) -> None:
    first = await scene.client("ann", session="s1")
    second = await scene.client("ann", session="s1")

    assert goodbye(first)["code"] == CloseCode.REPLACED
    assert second.socket.closed is None


async def test_another_users_session_name_neither_ends_nor_shields_a_connection(scene: Scene) -> None:
    first = await scene.client("ann", session="s1")
    stranger = await scene.client("bob", "dashboard", session="s1")
    assert first.socket.closed is None
    second = await scene.client("ann", session="s1")

    assert goodbye(first)["code"] == CloseCode.REPLACED
    assert second.socket.closed is None
    assert stranger.socket.closed is None


async def test_connecting_twice_is_refused_and_harmless(scene: Scene) -> None:
    client = await scene.client("ann", "dashboard")
    again = await client.ask("connect", token=scene.token("bob", "admin"))

    assert again["error"]["code"] == 1007
    assert client.connection.caller.user == "ann"


async def test_what_a_pong_claims_cannot_be_used_to_fake_a_round_trip(scene: Scene) -> None:
    client = await scene.client()
    for claimed in (0, -1, 2**60, scene.clock.now_ms() + 10_000):
        client.send({"type": "pong", "time": claimed})

    assert client.connection.rtt_ms is None
    assert client.socket.closed is None


async def test_a_lost_socket_frees_its_connection_at_once(scene: Scene) -> None:
    client = await scene.client()
    await client.ask("subscribe", channel=ROOM)
    client.send(*(client.command("history", channel=ROOM) for _ in range(20)))
    client.connection.lost()
    client.connection.lost()
    await scene.tick(1)

    assert len(scene.registry) == 0
    assert scene.fanout.channels() == []
    assert client.connection.caller.connection is None
