"""hub.client.client against a hub that follows a script: dialling, coming back, commands, the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal

import pytest
from fake_hub import FakeHub, joined, publication, refusal, soon

from hub.client import Client, Disconnected, ErrorCode, HubError
from hub.client.client import websocket_url
from hub.client.link import batches

QUICK = {"token": "t1", "backoff_s": (0.0, 0.0)}


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://hub:8000", "ws://hub:8000/ws"),
        ("https://hub/", "wss://hub/ws"),
        ("ws://hub:8000/ws", "ws://hub:8000/ws"),
        ("wss://hub/behind/a/proxy/ws?x=1", "wss://hub/behind/a/proxy/ws?x=1"),
        ("http://[::1]:8000", "ws://[::1]:8000/ws"),
    ],
)
def test_any_usual_way_to_write_the_address_will_do(url: str, normal: str) -> None:
    assert websocket_url(url) == normal


@pytest.mark.parametrize("url", ["hub:8000", "ftp://hub", "http://", ""])
def test_what_is_not_an_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Client(url, token="t")


# --- coming in ---


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_the_first_message_says_who_we_are(fake: FakeHub, codec: Literal["json", "msgpack"]) -> None:
    welcoming = asyncio.create_task(fake.accept())

    async def hub() -> Any:
        peer = await welcoming
        command = await peer.welcome()
        return peer, command

    script = asyncio.create_task(hub())
    states: list[str] = []
    async with Client(fake.url, token="t1", name="desk", kind="trader", codec=codec, on_state=states.append) as krin:
        peer, command = await soon(script)
        assert peer.socket.subprotocol == f"krin.v1.{codec}"
        assert (command["token"], command["name"], command["kind"]) == ("t1", "desk", "trader")
        assert (krin.user, krin.session) == ("ada", "s1")
        assert krin.limits is not None
    assert states == ["connecting", "open", "closed"]


async def test_a_refused_token_ends_it_before_it_began(fake: FakeHub) -> None:
    async def hub() -> None:
        peer = await fake.accept()
        await peer.refuse(await peer.expect("connect"), 1010)

    script = asyncio.create_task(hub())
    with pytest.raises(Disconnected) as caught:
        await Client(fake.url, token="bad").__aenter__()
    assert caught.value.code == 4002
    assert isinstance(caught.value.__cause__, HubError)
    await soon(script)


async def test_an_expired_token_is_final_only_for_those_who_have_no_other(fake: FakeHub) -> None:
    async def hub() -> None:
        peer = await fake.accept()
        await peer.refuse(await peer.expect("connect", token="t1"), 1009)

    script = asyncio.create_task(hub())
    with pytest.raises(Disconnected):
        await Client(fake.url, **QUICK).__aenter__()
    await soon(script)

    tokens = iter(["t1", "t2"])

    async def hub_again() -> None:
        await hub()
        peer = await fake.accept()
        await peer.welcome(await peer.expect("connect", token="t2"))

    script = asyncio.create_task(hub_again())
    async with Client(fake.url, token=lambda: next(tokens), backoff_s=(0.0, 0.0)):
        await soon(script)


async def test_a_handshake_refused_for_now_is_tried_again_and_one_refused_for_good_is_not(fake: FakeHub) -> None:
    fake.refusals.append((503, {"Retry-After": "0"}, "draining"))
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token="t1", backoff_s=(60.0, 60.0)):
        await soon(script)

    fake.refusals.append((401, {}, "no such user"))
    with pytest.raises(Disconnected, match="401 no such user"):
        await Client(fake.url, **QUICK).__aenter__()


async def test_a_hub_that_is_not_there_is_a_timeout() -> None:
    with pytest.raises(TimeoutError, match="no connection to ws:"):
        await Client("http://127.0.0.1:1", token="t1", timeout_s=0.2, backoff_s=(0.01, 0.01)).__aenter__()


async def test_an_error_of_the_application_comes_out_as_it_is(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    with pytest.raises(KeyError):
        async with Client(fake.url, **QUICK):
            await soon(script)
            raise KeyError("mine")


async def test_a_client_is_used_inside_its_context() -> None:
    with pytest.raises(RuntimeError, match="inside"):
        await Client("http://hub", token="t").publish("custom:a", "NOTE", {})


# --- coming back ---


async def test_after_a_loss_one_connect_carries_session_and_positions(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    states: list[str] = []
    async with Client(fake.url, **QUICK, on_state=states.append) as krin:
        peer = await soon(script)
        first, second = krin.subscribe("custom:a"), krin.subscribe("custom:b", rewind=5)
        ready = asyncio.gather(first.ready(), second.ready())
        await peer.accept_subscribe(offset=3)
        await peer.accept_subscribe(messages=[publication(1, "custom:b")], offset=1)
        await soon(ready)
        await peer.send(publication(4), publication(5))
        assert [(await soon(anext(first))).offset for _ in range(2)] == [4, 5]
        peer.cut()

        peer = await fake.accept()
        connect = await peer.expect("connect", session="s1")
        assert connect["subscriptions"] == {
            "custom:a": {"recover": {"epoch": "e1", "offset": 5}},
            "custom:b": {"recover": {"epoch": "e1", "offset": 1}},
        }
        results = {
            "custom:a": joined(offset=7, recovered=True, messages=[publication(6), publication(7)]),
            "custom:b": joined("custom:b", offset=1, recovered=True),
        }
        await peer.welcome(connect, subscriptions=results)
        await peer.send(publication(7), publication(8))
        assert [(await soon(anext(first))).offset for _ in range(3)] == [6, 7, 8]
        assert (await soon(anext(second))).offset == 1
    assert states == ["connecting", "open", "reconnecting", "open", "closed"]


async def test_a_callable_token_is_asked_for_each_connection(fake: FakeHub) -> None:
    numbers = iter(range(1, 10))

    async def token() -> str:
        return f"t{next(numbers)}"

    async def hub() -> None:
        for number in (1, 2):
            peer = await fake.accept()
            await peer.welcome(await peer.expect("connect", token=f"t{number}"))
            if number == 1:
                peer.cut()

    script = asyncio.create_task(hub())
    async with Client(fake.url, token=token, backoff_s=(0.0, 0.0)):
        await soon(script)


async def test_a_token_about_to_expire_is_refreshed(fake: FakeHub) -> None:
    tokens = iter(["t1", "t2"])
    notices: list[str] = []
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token=lambda: next(tokens), on_notice=lambda each: notices.append(each.code)):
        peer = await soon(script)
        await peer.send({"type": "notice", "code": "token_expiring", "detail": "soon"})
        await peer.reply(await peer.expect("refresh", token="t2"), expires_at=1)
    assert notices == ["token_expiring"]


async def test_a_token_function_that_fails_is_asked_again(fake: FakeHub) -> None:
    answers = iter([OSError("the issuer is away"), None])

    def token() -> str:
        if (failure := next(answers)) is not None:
            raise failure
        return "t1"

    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token=token, backoff_s=(0.0, 0.0)):
        await soon(script)


async def test_the_hubs_own_delay_goes_before_the_backoff(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token="t1", backoff_s=(600.0, 600.0)):
        peer = await soon(script)
        await peer.close(4200, "draining", reconnect=True, retry_after_ms=1)
        await fake.welcome()


async def test_a_connection_on_which_nothing_is_heard_is_given_up(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome(ping_interval_ms=20))
    async with Client(fake.url, **QUICK, silence_s=0.05):
        await soon(script)
        await fake.welcome()


async def test_a_ping_is_answered_with_its_time(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK):
        peer = await soon(script)
        await peer.send({"type": "ping", "time": 1234})
        await peer.expect("pong", time=1234)


async def test_messages_of_a_type_from_the_future_are_passed_over(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK):
        peer = await soon(script)
        await peer.send({"type": "weather", "wind": [1, 2]}, {"type": "ping", "time": 1, "more": True})
        await peer.expect("pong", time=1)


async def test_what_is_no_message_costs_the_connection_not_the_client(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK):
        peer = await soon(script)
        await peer.socket.send("{no json")
        await fake.welcome()


async def test_subscriptions_too_many_for_one_message_follow_it(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    channels = [f"custom:{'x' * 200}{number}" for number in range(300)]
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        subscriptions = [krin.subscribe(channel) for channel in channels]
        ready = asyncio.gather(*(each.ready() for each in subscriptions))
        for _ in channels:
            await peer.accept_subscribe()
        await soon(ready)
        peer.cut()

        peer = await fake.accept()
        connect = await peer.expect("connect")
        first = connect["subscriptions"]
        assert 0 < len(first) < len(channels)
        await peer.welcome(connect, subscriptions={channel: joined(channel, recovered=True) for channel in first})
        rest = [(await peer.expect("subscribe"))["channel"] for _ in range(len(channels) - len(first))]
        assert sorted([*first, *rest]) == sorted(channels)


async def test_who_was_replaced_comes_back_as_someone_else(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        await peer.close(4205, "replaced", reconnect=True)
        peer = await fake.accept()
        connect = await peer.expect("connect")
        assert "session" not in connect
        await peer.welcome(connect, session="s2")
        await peer.send({"type": "ping", "time": 1})
        await peer.expect("pong")
        assert krin.session == "s2"
        peer.cut()
        await (await fake.accept()).expect("connect", session="s2")


# --- the end ---


async def test_a_final_close_reaches_everyone_who_waits(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        subscription = krin.subscribe("custom:a")
        reading = asyncio.create_task(anext(subscription))
        await peer.accept_subscribe()
        calling = asyncio.create_task(krin.call("orders.submit"))
        publishing = asyncio.create_task(krin.publish("custom:a", "NOTE", {}))
        await peer.expect("call")
        await peer.expect("publish")
        await peer.send(publication(1))
        await peer.close(4003, "forbidden", reconnect=False)

        assert (await soon(reading)).offset == 1  # what had come before is not lost
        for waiting in (anext(subscription), calling, publishing):
            with pytest.raises(Disconnected) as caught:
                await soon(waiting)
            assert (caught.value.code, caught.value.reason) == (4003, "forbidden")
        with pytest.raises(Disconnected):
            await krin.history("custom:a")
        with pytest.raises(Disconnected):
            await anext(krin.subscribe("custom:b"))
        assert krin.state == "closed"


@pytest.mark.parametrize("code", [4000, 4001, 4002, 4003, 4004, 4008, 1002, 1009])
async def test_final_close_codes_are_final_without_a_word_before_them(fake: FakeHub, code: int) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        calling = asyncio.create_task(krin.call("team.plan"))
        await peer.expect("call")
        await peer.close(code)
        with pytest.raises(Disconnected, match=str(code)):
            await soon(calling)


@pytest.mark.parametrize("code", [1001, 1011, 1012, 4100, 4102, 4200, 4201, 4205])
async def test_other_close_codes_mean_come_back(fake: FakeHub, code: int) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK):
        await (await soon(script)).close(code)
        await fake.welcome()


async def test_leaving_ends_loops_quietly_and_calls_with_an_error(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())

    async def read() -> int:
        return sum([1 async for _ in krin.subscribe("custom:a")])

    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        reading = asyncio.create_task(read())
        await peer.accept_subscribe()
        calling = asyncio.create_task(krin.call("team.plan"))
        await peer.expect("call")
    assert await soon(reading) == 0
    with pytest.raises(Disconnected, match="1000"):
        await soon(calling)


# --- commands ---


async def test_commands_of_one_turn_leave_in_one_frame(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        publishing = asyncio.gather(*(krin.publish("custom:a", "NOTE", {"n": n}) for n in range(10)))
        frame = await peer.frame()
        assert [command["message"]["data"]["n"] for command in frame] == list(range(10))
        for offset, command in enumerate(frame, start=1):
            await peer.placed(command, offset)
        assert [placed.offset for placed in await soon(publishing)] == list(range(1, 11))


def test_a_frame_stays_within_the_limit_of_the_hub() -> None:
    parts = [b"x" * size for size in (10, 40, 40, 95, 1, 1)]
    found = list(batches(parts, 100))
    assert [part for batch in found for part in batch] == parts
    assert all(len(b"[" + b",".join(batch) + b"]") <= 100 for batch in found)
    assert len(found) == 3


async def test_a_publish_is_repeated_under_its_key_when_the_connection_breaks(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        publishing = asyncio.create_task(krin.publish("custom:a", "NOTE", {"n": 1}, key="k", trace="00-1"))
        first = await peer.expect("publish", channel="custom:a", key="k")
        peer.cut()

        peer = await fake.welcome()
        again = await peer.expect("publish", idempotency_key=first["idempotency_key"], message=first["message"])
        await peer.placed(again, 4)
        assert (await soon(publishing)).offset == 4


async def test_a_publish_meets_temporary_errors_with_patience_and_others_with_an_exception(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token="t1", backoff_s=(600.0, 600.0)) as krin:
        peer = await soon(script)
        publishing = asyncio.create_task(krin.publish("custom:a", "NOTE", {}, idempotency_key="mine"))
        await peer.refuse(await peer.expect("publish", idempotency_key="mine"), 1011, temporary=True, retry_after_ms=1)
        await peer.refuse(await peer.expect("publish", idempotency_key="mine"), 1003, path="$.channel")
        with pytest.raises(HubError) as caught:
            await soon(publishing)
        assert (caught.value.code, caught.value.path) == (ErrorCode.PERMISSION_DENIED, "$.channel")


async def test_patience_ends_with_the_error_that_tried_it(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token="t1", timeout_s=0.3) as krin:
        peer = await soon(script)
        publishing = asyncio.create_task(krin.publish("orders:a", "NOTE", {}))
        await peer.refuse(await peer.expect("publish"), 1008, temporary=True, retry_after_ms=60_000)
        with pytest.raises(HubError, match="not_available"):
            await soon(publishing)


async def test_without_retry_a_publish_is_sent_once(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        publishing = asyncio.create_task(krin.publish("custom:a", "NOTE", {}, retry=False))
        assert "idempotency_key" not in await peer.expect("publish")
        peer.cut()
        with pytest.raises(HubError, match="timeout"):
            await soon(publishing)


async def test_a_call_whose_reply_is_lost_is_not_repeated(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        calling = asyncio.create_task(krin.call("orders.submit", symbol="BTC-USD", method="limit"))
        await peer.expect("call", method="orders.submit", params={"symbol": "BTC-USD", "method": "limit"})
        peer.cut()
        with pytest.raises(HubError) as caught:
            await soon(calling)
        assert caught.value.code is ErrorCode.TIMEOUT

        peer = await fake.accept()
        calling = asyncio.create_task(krin.call("team.plan"))  # not sent yet: it waits for the connection
        await peer.welcome()
        await peer.reply(await peer.expect("call", method="team.plan"), steps=[1])
        assert await soon(calling) == {"steps": [1]}


async def test_a_question_is_asked_again_after_a_loss(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        asking = asyncio.create_task(krin.history("custom:a", limit=2))
        await peer.expect("history", limit=2)
        peer.cut()
        peer = await fake.welcome()
        command = await peer.expect("history", limit=2)
        await peer.reply(command, channel="custom:a", epoch="e1", offset=2, messages=[publication(2)], more=True)
        page = await soon(asking)
        assert (page.epoch, page.offset, page.more) == ("e1", 2, True)
        assert page.messages[0].position.epoch == "e1"


@pytest.mark.parametrize(
    "command",
    [
        lambda krin: krin.publish("custom:a", "NOTE", {}, key=""),
        lambda krin: krin.publish("custom:a", "NOTE", {}, ttl_ms=-1),
        lambda krin: krin.history("custom:a", limit=0),
        lambda krin: krin.call("Not A Method"),
        lambda krin: krin.search(""),
        lambda krin: krin.publish("custom:a", "NOTE", {"text": "x" * 70_000}),
    ],
)
async def test_what_the_hub_would_hang_up_for_is_refused_here(fake: FakeHub, command: Callable[[Client], Any]) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        with pytest.raises(HubError, match=r"schema_invalid|payload_too_large"):
            await soon(command(krin))
        await peer.send({"type": "ping", "time": 1})
        await peer.expect("pong")  # and nothing before it


async def test_an_error_of_a_newer_hub_keeps_its_name(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        calling = asyncio.create_task(krin.call("team.plan"))
        command = await peer.expect("call")
        await peer.send({"type": "reply", "id": command["id"], "error": {**refusal(1999), "name": "out_of_tea"}})
        with pytest.raises(HubError, match="out_of_tea"):
            await soon(calling)


async def test_a_cancelled_command_leaves_nothing_behind(fake: FakeHub) -> None:
    script = asyncio.create_task(fake.welcome())
    async with Client(fake.url, **QUICK) as krin:
        peer = await soon(script)
        publishing = asyncio.create_task(krin.publish("custom:a", "NOTE", {}))
        command = await peer.expect("publish")
        publishing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publishing
        await peer.placed(command, 1)  # nobody waits for it any more
        peer.cut()
        peer = await fake.welcome()
        await peer.send({"type": "ping", "time": 1})
        await peer.expect("pong")  # and no publish before it
