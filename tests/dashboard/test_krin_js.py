"""The browser SDK against a hub that follows a script: what it must survive, and what it must never do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import pytest_asyncio

from .peers import Client, ScriptedHub, connected, joined, node_command, publication, running_client
from .tools import absent

ROOM = "custom:room"
Start = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(scope="session")
def node() -> list[str]:
    command = node_command()
    if isinstance(command, str):
        absent(command)
    return command


@pytest_asyncio.fixture
async def hub() -> AsyncIterator[ScriptedHub]:
    async with ScriptedHub().running() as running:
        yield running


@pytest.fixture
def start(node: list[str], hub: ScriptedHub) -> Start:
    def starting(**options: Any) -> AbstractAsyncContextManager[Client]:
        return running_client(node, hub.url, **options)

    return starting


async def test_one_connect_says_who_we_are_and_asks_for_every_channel(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM, options={"rewind": 5, "filter": {"types": ["NOTE"]}})
        await client.do("subscribe", channel="prices:BTC", options={"max_rate": 4})
        await client.do("connect")
        command = await (await hub.connection()).expect("connect")

    assert command["token"] == "t1"
    assert command["name"] == "test"
    assert command["kind"] == "dashboard"
    assert command["subscriptions"] == {
        ROOM: {"rewind": 5, "filter": {"types": ["NOTE"]}},
        "prices:BTC": {"max_rate": 4},
    }


async def test_a_frame_may_hold_one_message_or_many(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 0)})
        await side.push(publication(ROOM, 1))
        await side.push(publication(ROOM, 2), {"type": "of_a_later_version"}, publication(ROOM, 3))

        assert await client.offsets(3) == [1, 2, 3]


async def test_it_resumes_from_its_position_and_drops_what_it_has(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM, options={"rewind": 5})
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 7, publication(ROOM, 6), publication(ROOM, 7))})
        await side.push(publication(ROOM, 8), publication(ROOM, 8), publication(ROOM, 7))
        assert await client.offsets(3) == [6, 7, 8]
        await side.drop()

        again = await hub.connection()
        missed = [publication(ROOM, offset) for offset in (8, 9, 10)]
        command = await again.welcome({ROOM: joined(ROOM, 10, *missed, recovered=True)})
        await again.push(publication(ROOM, 10), publication(ROOM, 11))

        assert command["session"] == "s1"
        assert command["subscriptions"] == {ROOM: {"recover": {"epoch": "e1", "offset": 8}}}
        assert await client.offsets(3) == [9, 10, 11]
        assert client.seen("lost") == []


async def test_latest_values_keep_their_order_per_key_only(hub: ScriptedHub, start: Start) -> None:
    channel = "status:hub"

    def value(offset: int, key: str) -> dict[str, Any]:
        return publication(channel, offset, key=key)

    async with start() as client:
        await client.do("subscribe", channel=channel)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({channel: joined(channel, 4, value(2, "a"), value(4, "b"), promise="latest")})
        # b waited in the outbox and was merged: its offset is older than a's, and still news. A jump is no gap.
        await side.push(value(12, "a"), value(9, "b"), value(8, "b"), value(12, "a"))
        assert await client.offsets(4) == [2, 4, 12, 9]
        await side.drop()

        again = await hub.connection()
        snapshot = [value(12, "a"), value(11, "b")]
        command = await again.welcome({channel: joined(channel, 12, *snapshot, promise="latest")})
        await again.push(value(13, "a"))

        # No position: b@11 lies before the newest offset we have seen, and we have not seen it.
        assert command["subscriptions"] == {channel: {}}
        assert await client.offsets(2) == [11, 13]
        assert client.seen("lost") == []


async def test_a_gap_is_mended_by_joining_again(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 1)})
        await side.push(publication(ROOM, 2), publication(ROOM, 5), publication(ROOM, 6))

        assert (await side.expect("unsubscribe"))["channel"] == ROOM
        command = await side.expect("subscribe")
        missed = [publication(ROOM, offset) for offset in (3, 4, 5, 6, 7)]
        await side.reply(command, joined(ROOM, 7, *missed, recovered=True), publication(ROOM, 8))

        assert command["recover"] == {"epoch": "e1", "offset": 2}
        assert await client.offsets(7) == [2, 3, 4, 5, 6, 7, 8]
        assert client.seen("lost") == []


async def test_a_gap_nobody_can_mend_is_reported_and_not_asked_for_forever(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 0)})
        for _ in range(3):
            await side.push(publication(ROOM, 5))
            await side.expect("unsubscribe")
            command = await side.expect("subscribe")
            await side.reply(command, joined(ROOM, 0, recovered=True))
        await side.push(publication(ROOM, 5))

        assert (await client.event("lost"))["reason"] == "gap"
        assert await client.offsets(1) == [5]


async def test_a_filtered_subscription_knows_no_gaps(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM, options={"filter": {"types": ["NOTE"]}})
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 1)})
        await side.push(publication(ROOM, 4), publication(ROOM, 9))

        assert await client.offsets(2) == [4, 9]


async def test_another_epoch_starts_over_and_says_so(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 40)})
        await side.push(publication(ROOM, 41), publication(ROOM, 1, epoch="e2"), publication(ROOM, 2))
        assert await client.offsets(3) == [41, 1, 2]
        assert (await client.event("lost"))["reason"] == "epoch_changed"
        await client.do("position", channel=ROOM)
        assert (await client.event("result", op="position"))["value"] == {"epoch": "e2", "offset": 2}
        await side.drop()

        again = await hub.connection()
        await again.welcome({ROOM: joined(ROOM, 0, epoch="e3", reason="epoch_changed")})
        await again.push(publication(ROOM, 1))

        assert (await client.event("lost"))["reason"] == "epoch_changed"
        assert await client.offsets(1) == [1]


@pytest.mark.parametrize("code", [4000, 4003, 4008])
async def test_a_final_close_ends_it_for_good(hub: ScriptedHub, start: Start, code: int) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.event("result", op="connect")
        await client.do("call", method="orders.submit", params={})
        await side.expect("call")
        await side.close(code, "because")

        state = await client.event("state", state="closed")
        assert (state["code"], state["reason"], state["final"]) == (code, "because", True)
        assert (await client.event("refused", op="call"))["name"] == "connection_lost"
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {}})
        assert (await client.event("refused", op="publish"))["name"] == "closed"
        await client.do("connect")  # only the application brings it back
        await hub.connection()
        assert hub.accepted == 2


async def test_the_hubs_own_delay_is_kept(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        goodbye = {"type": "disconnect", "code": 4200, "reason": "draining", "reconnect": True, "retry_after_ms": 37}
        await side.push(goodbye)
        await side.close(4200)

        state = await client.event("state", state="reconnecting")
        assert (state["code"], state["reason"], state["retry_in_ms"]) == (4200, "draining", 37)
        await (await hub.connection()).welcome()
        await client.event("state", state="open")


async def test_without_a_delay_it_waits_longer_each_time_within_its_bound(hub: ScriptedHub, start: Start) -> None:
    async with start(backoff={"min_ms": 1, "max_ms": 8}) as client:
        await client.do("connect")
        for attempt in range(1, 6):
            await (await hub.connection()).drop()
            state = await client.event("state", state="reconnecting")
            assert state["attempt"] == attempt
            assert 0 <= state["retry_in_ms"] <= min(8, 2**attempt)


async def test_a_publish_goes_out_again_under_the_same_key_after_a_reconnect(hub: ScriptedHub, start: Start) -> None:
    placed = {"channel": ROOM, "epoch": "e1", "offset": 9, "timestamp": 5, "duplicate": True}
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {"n": 1}})
        first = await side.expect("publish")
        await side.drop()

        again = await hub.connection()
        await again.welcome()
        second = await again.expect("publish")
        await again.reply(second, placed)

        assert len(first["idempotency_key"]) == 32
        assert second["idempotency_key"] == first["idempotency_key"]
        assert second["message"] == first["message"] == {"type": "NOTE", "data": {"n": 1}}
        assert (await client.event("result", op="publish"))["value"] == placed


async def test_a_publish_goes_out_again_after_a_temporary_error_and_not_after_another(
    hub: ScriptedHub, start: Start
) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {}}, options={"idempotency_key": "k"})
        for wait in ({"retry_after_ms": 1}, {}):
            command = await side.expect("publish")
            assert command["idempotency_key"] == "k"
            await side.refuse(command, code=1011, name="rate_limited", temporary=True, **wait)
        await side.refuse(await side.expect("publish"), code=1013, name="schema_invalid")

        refused = await client.event("refused", op="publish")
        assert (refused["name"], refused["code"]) == ("schema_invalid", 1013)


async def test_what_is_published_without_a_connection_waits_for_one(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        command = await side.expect("connect")
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {"n": 1}})
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {"n": 2}})
        await client.do("position", channel=ROOM)  # answered (with an error) once both publishes were taken
        await client.event("refused", op="position")
        await side.reply(command, connected({}))

        assert [(await side.expect("publish"))["message"]["data"]["n"] for _ in range(2)] == [1, 2]


async def test_a_call_is_not_repeated_behind_the_applications_back(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.do("call", method="orders.submit", params={"qty": "1"})
        await client.do("history", channel=ROOM, options={"limit": 3})
        await side.expect("call")
        await side.expect("history")
        await side.drop()

        again = await hub.connection()
        await again.welcome()
        history = await again.expect("history")  # reading twice harms nobody

        assert (await client.event("refused", op="call"))["name"] == "connection_lost"
        assert history["limit"] == 3


async def test_a_message_too_large_for_the_hub_is_refused_here(hub: ScriptedHub, start: Start) -> None:
    # Sent, it would end the connection with 4008, for good.
    async with start() as client:
        await client.do("connect")
        await (await hub.connection()).welcome()
        await client.event("result", op="connect")
        await client.do("publish", channel=ROOM, message={"type": "NOTE", "data": {"text": "ø" * 33_000}})

        assert (await client.event("refused", op="publish"))["name"] == "payload_too_large"


async def test_ping_is_answered_with_its_time(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await side.push({"type": "ping", "time": 123})

        assert (await side.expect("pong"))["time"] == 123


async def test_any_answer_measures_the_round_trip(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.event("result", op="connect")
        await client.do("ping")
        await side.refuse(await side.expect("call"), code=1004, name="unknown_type")

        latency = await client.event("latency", type="ping")
        assert latency["rtt_ms"] > 0
        assert (await client.event("result", op="ping"))["value"] == latency["rtt_ms"]


async def test_a_silent_hub_is_left(hub: ScriptedHub, start: Start) -> None:
    async with start(pong_timeout_ms=5) as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome(ping_interval_ms=10)

        assert (await client.event("state", state="reconnecting"))["reason"] == "the hub fell silent"
        assert await side.closed_by_client() == 1000
        await hub.connection()


async def test_one_forbidden_channel_leaves_the_others_alone(hub: ScriptedHub, start: Start) -> None:
    denied = {"error": {"code": 1003, "name": "permission_denied", "message": "no", "temporary": False}}
    away = {"error": {"code": 1008, "name": "not_available", "message": "no", "temporary": True, "retry_after_ms": 1}}
    async with start() as client:
        for channel in ("orders:bob", "team:alpha", ROOM):
            await client.do("subscribe", channel=channel)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({"orders:bob": denied, "team:alpha": away, ROOM: joined(ROOM, 0)})
        retried = await side.expect("subscribe")
        await side.reply(retried, joined("team:alpha", 3, promise="durable"))
        await side.push(publication(ROOM, 1))

        assert (await client.event("ended"))["channel"] == "orders:bob"
        assert retried["channel"] == "team:alpha"
        assert (await client.event("subscribed", channel="team:alpha"))["promise"] == "durable"
        assert await client.offsets(1) == [1]


async def test_a_refused_token_is_asked_for_once_more(hub: ScriptedHub, start: Start) -> None:
    async with start(token=["old", "new", "newer"]) as client:
        await client.do("connect")
        side = await hub.connection()
        await side.refuse(await side.expect("connect"), code=1009, name="token_expired")
        side = await hub.connection()
        assert (await side.welcome())["token"] == "new"
        assert [(await client.event("token"))["expired"] for _ in range(2)] == [False, True]

        await side.push({"type": "notice", "code": "token_expiring", "detail": "30 s"})
        assert (await side.expect("refresh"))["token"] == "newer"
        await side.close(4202)

        state = await client.event("state", state="closed")  # the function says that there are no more
        assert (state["final"], state["reason"]) == (True, "no token: signed out")


async def test_a_token_refused_twice_is_final(hub: ScriptedHub, start: Start) -> None:
    async with start(token=["old", "new", "newer"]) as client:
        await client.do("connect")
        for _ in range(2):
            side = await hub.connection()
            await side.refuse(await side.expect("connect"), code=1010, name="token_invalid")

        state = await client.event("state", state="closed")
        assert (state["final"], state["code"]) == (True, 4002)
        assert hub.accepted == 2


async def test_a_refused_fixed_token_is_final(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.refuse(await side.expect("connect"), code=1010, name="token_invalid")

        assert (await client.event("state", state="closed"))["code"] == 4002
        assert (await client.event("refused", op="connect"))["name"] == "closed"


async def test_many_subscriptions_travel_in_frames_the_hub_takes(hub: ScriptedHub, start: Start) -> None:
    channels = [f"custom:{'x' * 60}{number}" for number in range(2000)]
    async with start() as client:
        for channel in channels:
            await client.do("subscribe", channel=channel)
        await client.do("connect")
        side = await hub.connection()
        command = await side.expect("connect")
        first = list(command["subscriptions"])
        await side.reply(command, connected({channel: joined(channel, 0) for channel in first}))
        rest = [(await side.expect("subscribe"))["channel"] for _ in range(2000 - len(first))]

        assert 500 < len(first) < 2000
        assert first + rest == channels
        assert max(len(frame) for frame in side.frames) < 65_536


async def test_who_is_present_is_kept_up_to_date(hub: ScriptedHub, start: Start) -> None:
    ada, bob = {"client": "1", "user": "ada"}, {"client": "2", "user": "bob"}
    async with start() as client:
        await client.do("subscribe", channel=ROOM, options={"presence": True})
        await client.do("connect")
        side = await hub.connection()
        command = await side.welcome({ROOM: joined(ROOM, 0, members=[ada])})
        await side.push({"type": "presence_diff", "channel": ROOM, "joins": [bob], "leaves": [ada]})

        assert command["subscriptions"] == {ROOM: {"presence": True}}
        assert [(await client.event("members"))["names"] for _ in range(2)] == [["ada"], ["bob"]]


async def test_unsubscribing_while_the_answer_is_under_way_leaves_nothing_behind(
    hub: ScriptedHub, start: Start
) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        command = await side.expect("connect")
        await client.do("unsubscribe", channel=ROOM)
        await client.event("result", op="unsubscribe")
        await side.reply(command, connected({ROOM: joined(ROOM, 0)}), publication(ROOM, 1))

        assert (await side.expect("unsubscribe"))["channel"] == ROOM
        assert client.seen("message") == []


async def test_a_late_answer_to_an_earlier_subscription_is_not_taken_for_the_new_one(
    hub: ScriptedHub, start: Start
) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.event("result", op="connect")
        await client.do("subscribe", channel=ROOM)
        earlier = await side.expect("subscribe")
        await client.do("unsubscribe", channel=ROOM)
        await client.do("subscribe", channel=ROOM)
        await side.expect("unsubscribe")
        later = await side.expect("subscribe")
        await side.reply(earlier, joined(ROOM, 5, publication(ROOM, 5)))
        await side.reply(later, joined(ROOM, 7))
        await side.push(publication(ROOM, 8))

        assert await client.offsets(1) == [8]
        assert (await client.event("subscribed"))["offset"] == 7


async def test_a_subscription_the_hub_ended_comes_back_only_if_the_hub_says_so(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 3)})
        await side.push({"type": "unsubscribed", "channel": ROOM, "code": 2500, "reason": "insufficient state"})
        command = await side.expect("subscribe")
        await side.reply(command, joined(ROOM, 3, recovered=True))
        await side.push({"type": "unsubscribed", "channel": ROOM, "code": 2001, "reason": "permission revoked"})

        assert command["recover"] == {"epoch": "e1", "offset": 3}
        assert (await client.event("ended"))["name"] == "unsubscribed"


async def test_a_handler_that_throws_breaks_nothing(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("subscribe", channel=ROOM, fail=True)
        await client.do("connect")
        side = await hub.connection()
        await side.welcome({ROOM: joined(ROOM, 0)})
        await side.push(publication(ROOM, 1), publication(ROOM, 2))

        assert await client.offsets(2) == [1, 2]
        assert (await client.event("error"))["message"] == "a handler's own mistake"


async def test_closing_says_goodbye(hub: ScriptedHub, start: Start) -> None:
    async with start() as client:
        await client.do("connect")
        side = await hub.connection()
        await side.welcome()
        await client.event("result", op="connect")
        await client.do("close")

        assert await side.closed_by_client() == 1000
        assert (await client.event("state", state="closed"))["final"] is True
