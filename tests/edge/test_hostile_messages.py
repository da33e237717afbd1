"""Wrong messages through the public door: each gets a documented error, the connection lives, nothing leaks."""

from __future__ import annotations

import json
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships no stubs
import pytest
from sockets import BINARY, TEXT, Peer, RawSocket, peer, unique

LEAKS = ("Traceback", "msgspec", "asyncpg", "python", "/hub/", ".py", "0x", "Error(", "object at", "postgres")


def error(reply: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = reply["error"]
    text = json.dumps(found).lower()
    assert not [leak for leak in LEAKS if leak.lower() in text]
    assert set(found) <= {"code", "name", "message", "temporary", "retry_after_ms", "path"}
    assert {"code", "name", "message", "temporary"} <= set(found)
    return found


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "nul",
        "[",
        "[[",
        '"',
        "{'type':'connect'}",
        "\x00",
        "{}{}",
        "[1,2",
        "NaN",
        "-",
        "é",
        '{"a":1,}',
    ],
)
async def test_broken_json_is_a_bad_request_without_an_id(hub: Any, bystander: Peer, text: str) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.connection.send(text)
        reply = await client.reply(0)

        assert error(reply)["code"] == 1007
        assert "result" in await client.ask("subscribe", channel=unique("custom"))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x92\x01",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd9\x02\xff\xfe",
        b"\x81\xc7\x00\x01\x01",
        b"\x80\x80",
    ],
)
async def test_broken_msgpack_is_a_bad_request_without_an_id(hub: Any, bystander: Peer, payload: bytes) -> None:
    async with peer(hub, hub.token("ann"), binary=True) as client:
        await client.connection.send(payload)
        reply = await client.reply(0)

        assert error(reply)["code"] in (1004, 1007, 1013)
        assert "result" in await client.ask("subscribe", channel=unique("custom"))


@pytest.mark.parametrize(
    ("message", "code", "path"),
    [
        ({"type": "nope", "id": 7}, 1004, "$.type"),
        ({"type": "PUBLISH", "id": 7}, 1004, "$.type"),
        ({"id": 7}, 1004, "$.type"),
        ({"type": 3, "id": 7}, 1004, "$.type"),
        ({"type": None, "id": 7}, 1004, "$.type"),
        ({"type": "subscribe", "id": 7, "channel": 3}, 1013, "$.channel"),
        ({"type": "subscribe", "id": 7}, 1013, "$"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "recover": {"epoch": 1, "offset": 1}}, 1013, "$.recover.epoch"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "recover": {"epoch": "e", "offset": "1"}}, 1013, "$.recover.offset"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "recover": {"epoch": "e", "offset": -1}}, 1013, "$.recover.offset"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "recover": {"epoch": "e", "offset": 2**60}}, 1013, "$.recover.offset"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "rewind": -1}, 1013, "$.rewind"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "rewind": 10_001}, 1013, "$.rewind"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "rewind": "soon"}, 1013, "$.rewind"),
        ({"type": "subscribe", "id": 7, "channel": "prices:X", "max_rate": 0}, 1013, "$.max_rate"),
        ({"type": "subscribe", "id": 7, "channel": "prices:X", "max_rate": 1e300}, 1013, "$.max_rate"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "filter": {"keys": []}}, 1013, "$.filter.keys"),
        ({"type": "subscribe", "id": 7, "channel": "custom:x", "surprise": 1}, 1013, "$"),
        ({"type": "publish", "id": 7, "channel": "custom:x"}, 1013, "$"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": 3}, 1013, "$.message"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": []}, 1013, "$.message"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"data": {}}}, 1013, "$.message.type"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE"}}, 1013, "$.message"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "note", "data": {}}}, 1013, "$.message.type"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": 3}}, 1013, "$.message.data"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}, "offset": 9}}, 1013, "$.message"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "publisher": "bob"}, 1013, "$"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "ttl_ms": 0}, 1013, "$.ttl_ms"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "key": ""}, 1013, "$.key"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "key": "k" * 129}, 1013, "$.key"),
        ({"type": "publish", "id": 7, "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "idempotency_key": 5}, 1013, "$.idempotency_key"),
        ({"type": "publish", "id": 7, "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": 1.5}}}, 1013, "$.message.data.bid"),
        ({"type": "publish", "id": 7, "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1e5"}}}, 1013, "$.message.data.bid"),
        ({"type": "publish", "id": 7, "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X"}}}, 1013, "$.message.data"),
        ({"type": "publish", "id": 7, "channel": "prices:X", "message": {"type": "TRADE", "data": {}}}, 1004, "$.message.type"),
        ({"type": "history", "id": 7, "channel": "custom:x", "limit": 0}, 1013, "$.limit"),
        ({"type": "history", "id": 7, "channel": "custom:x", "limit": 1001}, 1013, "$.limit"),
        ({"type": "history", "id": 7, "channel": "custom:x", "limit": True}, 1013, "$.limit"),
        ({"type": "history", "id": 7, "channel": "nope:x"}, 1002, "$.channel"),
        ({"type": "subscribe", "id": 7, "channel": "nope:x"}, 1002, "$.channel"),
        ({"type": "subscribe", "id": 7, "channel": "custom"}, 1007, "$.channel"),
        ({"type": "subscribe", "id": 7, "channel": "custom:a b"}, 1007, "$.channel"),
        ({"type": "subscribe", "id": 7, "channel": "custom:\n"}, 1007, "$.channel"),
        ({"type": "subscribe", "id": 7, "channel": "custom:" + "x" * 300}, 1013, "$.channel"),
        ({"type": "unsubscribe", "id": 7, "channel": "custom:never"}, 1007, "$.channel"),
        ({"type": "presence", "id": 7, "channel": "prices:X"}, 1007, "$.channel"),
        ({"type": "call", "id": 7, "method": "os.system"}, 1004, "$.method"),
        ({"type": "call", "id": 7, "method": "__class__"}, 1013, "$.method"),
        ({"type": "call", "id": 7, "method": "x", "params": []}, 1013, "$.params"),
        ({"type": "call", "id": 7, "method": "contracts.validate", "params": {"consumer": "x", "messages": [{}]}}, 1013, "$.params.messages[0]"),
        ({"type": "call", "id": 7, "method": "contracts.validate", "params": {"consumer": None}}, 1013, "$.params.consumer"),
        ({"type": "refresh", "id": 7, "token": ""}, 1013, "$.token"),
        ({"type": "refresh", "id": 7, "token": "x" * 9_000}, 1013, "$.token"),
        ({"type": "connect", "id": 7, "token": "x.y.z"}, 1007, None),
    ],
    ids=lambda value: json.dumps(value)[:90] if isinstance(value, dict) else None,
)  # fmt: skip
@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
async def test_a_wrong_command_gets_its_documented_error_with_its_id_and_path(
    hub: Any, message: dict[str, Any], code: int, path: str | None, binary: bool
) -> None:
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        client.number = 100
        await client.send(message)
        found = error(await client.reply(7))

        assert (found["code"], found.get("path")) == (code, path)
        assert "result" in await client.ask("subscribe", channel=unique("custom"))


@pytest.mark.parametrize("number", [0, -1, 2**53, 2**70, 1.5, "7", None, True, [], {}])
async def test_an_id_that_is_none_is_answered_under_zero(hub: Any, number: Any) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.send({"type": "subscribe", "id": number, "channel": "custom:x"})
        found = error(await client.reply(0))

        assert (found["code"], found.get("path")) == (1013, "$.id")


async def test_one_wrong_message_in_a_frame_does_not_spoil_the_others(hub: Any) -> None:
    async with peer(hub, hub.token("ann")) as client:
        good = client.command("subscribe", channel=unique("custom"))
        other = client.command("subscribe", channel=unique("custom"))
        await client.send(good, {"type": "nope", "id": 90}, 3, other)

        assert "result" in await client.reply(good["id"])
        assert "result" in await client.reply(other["id"])
        assert error(await client.reply(90))["code"] == 1004
        assert error(await client.reply(0))["code"] in (1004, 1007)


async def test_a_command_before_connect_is_unauthorized_and_connect_still_works(hub: Any) -> None:
    async with peer(hub) as client:
        reply = await client.ask("subscribe", channel="custom:x")
        connected = await client.ask("connect", token=hub.token("ann"))

        assert error(reply)["code"] == 1001
        assert "result" in connected


@pytest.mark.parametrize(
    ("roles", "command"),
    [
        (("dashboard",), {"type": "publish", "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {}}}),
        (("dashboard",), {"type": "publish", "channel": "team:alpha", "message": {"type": "ALERT", "data": {}}}),
        (("trader",), {"type": "subscribe", "channel": "orders:bob"}),
        (("trader",), {"type": "history", "channel": "orders:bob"}),
        (("trader",), {"type": "history", "channel": "orders:nobody-ever"}),
        (("trader",), {"type": "publish", "channel": "orders:bob", "message": {"type": "ORDER_EVENT", "data": {}}}),
        (("feed",), {"type": "subscribe", "channel": "team:alpha"}),
        (("feed",), {"type": "presence", "channel": "team:alpha"}),
        (("agent",), {"type": "subscribe", "channel": "approvals:admin"}),
    ],
)
async def test_what_a_role_may_not_do_is_permission_denied_whether_or_not_the_channel_exists(
    hub: Any, roles: tuple[str, ...], command: dict[str, Any]
) -> None:
    async with peer(hub, hub.token("ann", *roles, teams=())) as client:
        await client.send(command | {"id": 50})
        found = error(await client.reply(50))

        assert (found["code"], found["path"]) == (1003, "$.channel")


@pytest.mark.parametrize("binary", [False, True], ids=["json", "msgpack"])
@pytest.mark.parametrize("bomb", ["arrays", "objects"])
@pytest.mark.parametrize("depth", [40, 500, 1_500, 20_000])
async def test_a_nesting_bomb_is_a_bad_request_wherever_it_is_put(
    hub: Any, bystander: Peer, binary: bool, bomb: str, depth: int
) -> None:
    if binary:
        nested = (b"\x91" if bomb == "arrays" else b"\x81\xa1a") * depth + b"\x01"
        inside = (
            b"\x84\xa4type\xa7publish\xa2id\x07\xa7channel\xa8custom:x\xa7message\x82\xa4type\xa4NOTE\xa4data\x81\xa1x"
        )
        frames: list[bytes | str] = [nested, inside + nested]
    else:
        opening, closing = ("[", "]") if bomb == "arrays" else ('{"a":', "}")
        text = opening * depth + "1" + closing * depth
        frames = [
            text,
            '{"type":"publish","id":7,"channel":"custom:x","message":{"type":"NOTE","data":{"x":' + text + "}}}",
            '{"type":"call","id":7,"method":"nope","params":{"x":' + text + "}}",
            opening * depth,
        ]
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        for each in frames:
            if len(each) > 65_000:
                continue
            seen = len(client.messages)
            await client.connection.send(each)
            assert error(await client.next_after(seen))["code"] in (1004, 1007, 1013)


@pytest.mark.parametrize(
    "data",
    [
        {"n": 2**53},
        {"n": -(2**53)},
        {"n": 10**400},
        {"list": [0] * 10_001},
        {f"k{number}": 0 for number in range(257)},
        {"text": "a\x00b"},
    ],
    ids=["2^53", "-2^53", "10^400", "10,001 items", "257 keys", "NUL"],
)
@pytest.mark.parametrize(
    "place", ["custom data", "coordination", "artifacts", "ext of an update", "ext of a tick", "ext of a task"]
)
async def test_what_a_browser_or_a_database_cannot_hold_is_refused_wherever_it_is_put(
    hub: Any, data: dict[str, Any], place: str
) -> None:
    update = {"specialist_id": "s1"}
    channel, message = {
        "custom data": ("custom:x", {"type": "NOTE", "data": data}),
        "coordination": ("custom:x", {"type": "NOTE", "data": {}, "coordination": data}),
        "artifacts": ("team:t", {"type": "SPECIALIST_UPDATE", "data": [update | {"artifacts": [data]}]}),
        "ext of an update": ("team:t", {"type": "SPECIALIST_UPDATE", "data": [update | {"ext": data}]}),
        "ext of a tick": ("prices:X", {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1", "ext": data}}),
        "ext of a task": ("team:t", {"type": "TASK_CREATED", "data": {"task_id": "t1", "ext": data}}),
    }[place]
    async with peer(hub, hub.token("ann")) as client:
        reply = await client.ask("publish", channel=channel, message=message)

        assert error(reply)["code"] in (1007, 1013)


@pytest.mark.parametrize(
    "value",
    [msgpack.ExtType(5, b"x"), {1: "a"}, {True: 1}, {None: 1}, {b"k": 1}, b"bytes", msgpack.Timestamp(1, 0)],
    ids=repr,
)
async def test_what_only_msgpack_can_say_is_refused_or_arrives_as_json_would_have_it(hub: Any, value: Any) -> None:
    channel = unique("custom")
    async with peer(hub, hub.token("ann"), binary=True) as client, peer(hub, hub.token("bob")) as reader:
        await reader.ask("subscribe", channel=channel)
        reply = await client.ask("publish", channel=channel, message={"type": "NOTE", "data": {"x": value}})
        if "error" in reply:
            assert error(reply)["code"] in (1007, 1013)
        else:
            await reader.until_offset(channel, 1)


async def test_two_keys_that_become_one_in_json_do_not_travel_as_a_duplicate(hub: Any) -> None:
    channel = unique("custom")
    async with (
        peer(hub, hub.token("ann"), binary=True) as client,
        RawSocket.upgraded(hub, token=hub.token("bob")) as raw,
    ):
        raw.send(json.dumps({"type": "subscribe", "id": 2, "channel": channel}).encode())
        await raw.frame()
        reply = await client.ask(
            "publish", channel=channel, message={"type": "NOTE", "data": {"x": {1: "a", "1": "b"}}}
        )
        if "error" not in reply:
            _, payload = await raw.frame()
            assert payload.count(b'"1":') == 1


async def test_ten_thousand_subscriptions_end_at_the_limit_and_the_rest_live_on(hub: Any, bystander: Peer) -> None:
    prefix = unique("custom")
    async with peer(hub, hub.token("ann")) as client:
        for start in range(1, 10_001, 500):
            await client.send(
                *({"type": "subscribe", "id": 1_000 + n, "channel": f"{prefix}-{n}"} for n in range(start, start + 500))
            )
        await client.until(lambda each: each.get("id") == 11_000)
        replies = [each for each in client.messages if each["type"] == "reply" and each["id"] > 1_000]
        accepted = [each for each in replies if "result" in each]

        assert len(replies) == 10_000
        assert len(accepted) == 1_024
        assert {error(each)["code"] for each in replies if "error" in each} == {1006}
        await client.publish(f"{prefix}-1")
        await client.until_offset(f"{prefix}-1", 1)


async def test_an_id_still_in_flight_is_a_bad_request(hub: Any) -> None:
    async with peer(hub, hub.token("ann")) as client:
        command = {"type": "publish", "id": 70, "channel": "team:t", "message": {"type": "ALERT", "data": {}}}
        command["message"] = {"type": "TASK_CREATED", "data": {"task_id": "t1"}}
        await client.send(command, command)
        await client.until(lambda each: each.get("id") == 70 and "result" in each)
        refused = await client.until(lambda each: each.get("id") == 70 and "error" in each)

        assert (error(refused)["code"], error(refused)["path"]) == (1007, "$.id")


@pytest.mark.parametrize(("subprotocol", "opcode"), [("krin.v1.json", BINARY), ("krin.v1.msgpack", TEXT)])
async def test_c19_a_frame_of_the_other_format_ends_the_connection_as_bad_protocol(
    hub: Any, bystander: Peer, subprotocol: str, opcode: int
) -> None:
    async with RawSocket.upgraded(hub, subprotocol=subprotocol) as raw:
        raw.send(b"{}" if opcode == TEXT else b"\x80", opcode=opcode)

        assert await raw.close_code() in (4000, 1003)


async def test_ten_nonsense_messages_end_the_connection_with_too_many_errors(hub: Any, bystander: Peer) -> None:
    async with peer(hub, hub.token("ann")) as client:
        for _ in range(10):
            await client.connection.send("{")

        assert await client.until_closed() == 4007
        assert client.messages[-1]["type"] == "disconnect"
        assert client.messages[-1]["reconnect"] is False


async def test_a_frame_of_thirty_thousand_wrong_messages_does_not_stop_the_hub(hub: Any, bystander: Peer) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.connection.send("[" + "1," * 30_000 + "1]")

        assert await client.until_closed() == 4007
        assert len([each for each in client.messages if each["type"] == "reply"]) <= 12


async def test_an_empty_array_is_no_message_and_no_error(hub: Any) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.connection.send("[]")

        assert "result" in await client.ask("subscribe", channel=unique("custom"))
        assert [each["type"] for each in client.messages] == ["reply", "reply"]


async def test_a_message_larger_than_its_namespace_allows_is_payload_too_large(hub: Any) -> None:
    async with peer(hub, hub.token("ann"), binary=True) as client:
        text = "\x01" * 20_000  # a byte each on the wire, six in JSON
        reply = await client.ask("publish", channel=unique("custom"), message={"type": "NOTE", "data": {"t": text}})

        assert error(reply)["code"] == 1016
