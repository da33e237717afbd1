"""Input controls by number (C27 to C37): what a message may hold, over both wire formats and both doors."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgpack  # type: ignore[import-untyped]  # ships no stubs
import msgspec
import pytest
from sockets import BINARY, Peer, RawSocket, peer, unique

from protocol.messages import (
    Call,
    Connect,
    Explain,
    History,
    Presence,
    Publish,
    Refresh,
    Replay,
    Search,
    Subscribe,
    Unsubscribe,
)

BIG = 2**53


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"a": value}
    return value


async def refused(client: Peer, data: Any, *, via: str = "publish") -> dict[str, Any]:
    """The error that free-form data is answered with, published or as a method's parameters."""
    if via == "call":
        reply = await client.ask("call", method="hub.time", params={"free": data})
    else:
        reply = await client.ask("publish", channel=unique("custom"), message={"type": "NOTE", "data": {"free": data}})
    error: dict[str, Any] = reply["error"]
    return error


# --- C27: shape


@pytest.mark.parametrize("via", ["publish", "call"])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(
    "data",
    [nested(33), nested(200), {f"k{n}": 0 for n in range(257)}, [0] * 10_001],
    ids=["depth 33", "depth 200", "257 keys", "10,001 items"],
)
async def test_c27_too_deep_too_many_keys_and_too_many_items_are_bad_requests(
    hub: Any, binary: bool, data: Any, via: str
) -> None:
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        assert (await refused(client, data, via=via))["name"] == "bad_request"
        assert client.closed is None


@pytest.mark.parametrize("binary", [False, True])
async def test_c27_what_lies_just_within_the_bounds_is_taken(hub: Any, binary: bool) -> None:
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        for data in (nested(30), {f"k{n}": 0 for n in range(256)}, [0] * 10_000):
            await client.publish(unique("custom"), data={"free": data})


async def test_c27_a_hundred_thousand_brackets_are_a_bad_request_at_every_door(
    hub: Any, http: httpx.AsyncClient, bystander: Peer
) -> None:
    bomb = "[" * 60_000
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        raw.send(bomb.encode())
        _, payload = await raw.frame()
        assert json.loads(payload)["error"]["name"] == "bad_request"
    headers = {"authorization": f"Bearer {hub.token('ann')}"}
    answer = await http.post("/v1/publish", content=f'{{"channel":"custom:a","message":{bomb}', headers=headers)
    assert answer.status_code == 400


# --- C28: numbers


@pytest.mark.parametrize("via", ["publish", "call"])
@pytest.mark.parametrize("number", [BIG, -BIG, 2**63, 2**64 - 1])
@pytest.mark.parametrize("binary", [False, True])
async def test_c28_an_integer_a_browser_cannot_hold_is_a_bad_request(
    hub: Any, binary: bool, number: int, via: str
) -> None:
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        error = await refused(client, number, via=via)
        assert error["name"] == "bad_request"
        assert str(number) not in error["message"]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "0x10", "01", "1" * 4000, "1." + "1" * 400 + "e400"])  # fmt: skip
async def test_c28_no_number_is_taken_that_json_cannot_say(hub: Any, text: str) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        raw.send(b'{"type":"publish","id":2,"channel":"custom:c28","message":{"type":"NOTE","data":{"n":%s}}}' % text.encode())  # fmt: skip
        _, payload = await raw.frame()
        assert json.loads(payload)["error"]["name"] in ("bad_request", "schema_invalid")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
async def test_c28_msgpack_has_no_way_around_it(hub: Any, number: float) -> None:
    async with peer(hub, hub.token("ann"), binary=True) as client:
        assert (await refused(client, number))["name"] == "bad_request"


# --- C29: what was checked is what is sent


async def test_c29_of_two_equal_keys_one_travels_and_it_is_the_one_that_was_checked(hub: Any) -> None:
    channel = unique("custom")
    async with peer(hub, hub.token("bob")) as reader, RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        await reader.ask("subscribe", channel=channel)
        text = (
            '{"type":"publish","id":2,"channel":"prices:no","channel":"CHANNEL","message":'
            '{"type":"NOTE","data":{"a":"evil","a":"good","free":{"b":1,"b":2}}}}'
        )
        raw.send(text.replace("CHANNEL", channel).encode())
        _, payload = await raw.frame()
        assert "result" in json.loads(payload)
        message = await reader.until_offset(channel, 1)
    assert message["data"] == {"a": "good", "free": {"b": 2}}


# --- C30: text


@pytest.mark.parametrize("text", [r"\ud800", r"\udfff", r"\ud800x", r"\udc00\ud800", r"\u0000", r"a\u0000b"])
@pytest.mark.parametrize("where", ['"data":{"t":"%s"}', '"data":{"%s":1}', '"data":{},"coordination":{"t":"%s"}'])
async def test_c30_lone_surrogates_and_nul_are_bad_requests(hub: Any, text: str, where: str) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        message = where.replace("%s", text)
        raw.send(f'{{"type":"publish","id":2,"channel":"custom:c30","message":{{"type":"NOTE",{message}}}}}'.encode())
        _, payload = await raw.frame()
        assert json.loads(payload)["error"]["name"] == "bad_request"


@pytest.mark.parametrize("text", [r"\ud800", r"\udc00\ud800", r"\u0000", r"a\u0000b"])
@pytest.mark.parametrize("params", ['{"t":"%s"}', '{"%s":1}', '{"t":[{"u":"%s"}]}'])
async def test_c30_lone_surrogates_and_nul_are_bad_requests_in_the_parameters_of_a_call(
    hub: Any, text: str, params: str
) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        raw.send(f'{{"type":"call","id":2,"method":"hub.time","params":{params.replace("%s", text)}}}'.encode())
        _, payload = await raw.frame()
        assert json.loads(payload)["error"]["name"] == "bad_request"


async def test_a_backslash_before_u0000_is_text_and_not_nul(hub: Any) -> None:
    async with RawSocket.upgraded(hub, token=hub.token("ann")) as raw:
        raw.send(rb'{"type":"call","id":2,"method":"hub.time","params":{"t":"\\u0000"}}')
        _, payload = await raw.frame()
        assert "result" in json.loads(payload)


# --- C31 and C63: fields

COMMANDS: dict[str, tuple[type, dict[str, Any]]] = {
    "connect": (Connect, {}),
    "subscribe": (Subscribe, {"channel": "custom:a"}),
    "unsubscribe": (Unsubscribe, {"channel": "custom:a"}),
    "presence": (Presence, {"channel": "custom:a"}),
    "publish": (Publish, {"channel": "custom:a", "message": {"type": "NOTE", "data": {}}}),
    "history": (History, {"channel": "custom:a"}),
    "replay": (Replay, {"channels": ["custom:a"], "from": 0}),
    "explain": (Explain, {"channel": "custom:a", "offset": 1}),
    "search": (Search, {"query": "x"}),
    "call": (Call, {"method": "hub.time"}),
    "refresh": (Refresh, {"token": "t"}),
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
async def test_c31_an_unknown_field_is_schema_invalid_and_never_echoed(hub: Any, command: str) -> None:
    _, fields = COMMANDS[command]
    async with peer(hub, hub.token("ann")) as client:
        error = (await client.ask(command, **fields, canary_field="canary value"))["error"]
        assert error["name"] == "schema_invalid"
        assert "canary value" not in json.dumps(error)


@pytest.mark.parametrize("command", sorted(COMMANDS))
async def test_c31_a_field_of_another_kind_is_schema_invalid_with_its_path(hub: Any, command: str) -> None:
    kind, fields = COMMANDS[command]
    wrong = [field.encode_name for field in msgspec.structs.fields(kind) if field.name not in ("id", "message")]
    async with peer(hub, hub.token("ann")) as client:
        for name in wrong[:4]:  # below the number that ends a connection
            error = (await client.ask(command, **(fields | {name: [["canary value"]]})))["error"]
            assert error["name"] == "schema_invalid", name
            assert error["path"].startswith(f"$.{name}"), name
            assert "canary" not in json.dumps(error)


@pytest.mark.parametrize("type_name", ["subscribes", "PUBLISH", "", "__class__", 7, None])
async def test_c31_an_unknown_type_is_unknown_type(hub: Any, type_name: Any) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.send({"type": type_name, "id": 9})
        assert (await client.reply(9))["error"]["name"] == "unknown_type"


@pytest.mark.parametrize("field", ["publisher", "timestamp", "offset", "epoch", "tenant", "skipped"])
async def test_c63_what_the_hub_sets_nobody_else_may_set(hub: Any, http: httpx.AsyncClient, field: str) -> None:
    message = {"type": "NOTE", "data": {}}
    async with peer(hub, hub.token("ann")) as client:
        outside = await client.ask("publish", channel="custom:a", message=message, **{field: "mallory"})
        inside = await client.ask("publish", channel="custom:a", message=message | {field: "mallory"})
        assert outside["error"]["name"] == inside["error"]["name"] == "schema_invalid"
    body = {"channel": "custom:a", "message": message, field: "mallory"}
    answer = await http.post("/v1/publish", json=body, headers={"authorization": f"Bearer {hub.token('ann')}"})
    assert answer.status_code == 422


# --- C32 and C33: names

HOSTILE_NAMES = [
    "custom:\u0430dmin", "custom:a\u200bb", "custom:a\u202eb", "custom:\ufb01x", "custom:e\u0301", "custom:a\x00b",
    "custom:a\\..\\b", "custom:*", "custom:a*", "custom:[", "custom:a\r\nSET x", "custom:a\n", "custom:a b", "custom:",
    ":a", "custom", "CUSTOM:a", "custom:" + "a" * 249, "custom:a%00", "custom:a\"b", "custom:../../etc", "custom:{a}",
    "custom:a?b", "cust*:a", "__keyspace@0__:a", "krin:limits", "custom:<script>",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_c32_a_hostile_name_of_a_channel_is_refused_by_every_command(hub: Any, name: str) -> None:
    allowed = {"bad_request", "schema_invalid", "unknown_channel"}
    async with peer(hub, hub.token("ann")) as client:
        for command in ("subscribe", "publish", "history", "presence"):
            error = (await client.ask(command, **(COMMANDS[command][1] | {"channel": name})))["error"]
            assert error["name"] in allowed, command


@pytest.mark.parametrize("name", ["custom:a(a+)+$", "custom:a|b", "custom:^a", "custom:a.b", "custom:$a"])
async def test_c33_a_name_that_looks_like_a_pattern_is_only_a_name(hub: Any, name: str) -> None:
    async with peer(hub, hub.token("ann")) as client:
        await client.ask("subscribe", channel=name)
        await client.publish("custom:aaaaaaaaaaaaaaaaaaaaaaaa!")
        await client.publish("custom:a")
        await client.publish(name)
        await client.until_offset(name, 1)
        assert {each["channel"] for each in client.messages if "data" in each} == {name}


# --- C34 and C36: msgpack


@pytest.mark.parametrize(
    "payload",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x91" * 60_000,
        b"\xc1",
        b"",
        msgpack.packb(msgpack.ExtType(5, b"x" * 1000)),
        msgpack.packb({1: 2}),
        b"\x82\xa4type\xa7connect\xa2id\x01\xff",
    ],
    ids=["array", "map", "string", "binary", "ext", "nesting", "unused", "empty", "ext value", "int key", "trailing"],
)
async def test_c34_a_msgpack_bomb_is_an_error_and_allocates_nothing(
    hub: Any, bystander: Peer, memory: Any, payload: bytes
) -> None:
    async with RawSocket.upgraded(hub, subprotocol="krin.v1.msgpack") as raw:
        raw.send(payload, opcode=BINARY)
        _, answer = await raw.frame()
        assert msgpack.unpackb(answer)["error"]["name"] in ("bad_request", "unknown_type", "schema_invalid")
    assert memory.grown_mib < 32


@pytest.mark.parametrize("data", [msgpack.ExtType(1, b"x"), b"bytes", msgpack.Timestamp(1), {1: 2}, {b"k": 1}])
async def test_c34_what_only_msgpack_can_say_does_not_get_into_a_message(hub: Any, data: Any) -> None:
    async with peer(hub, hub.token("ann"), binary=True) as client:
        for via in ("publish", "call"):
            assert (await refused(client, data, via=via))["name"] in ("bad_request", "schema_invalid")


async def test_c36_thousands_of_colliding_integer_keys_are_refused(hub: Any, bystander: Peer) -> None:
    colliding = {n << 44: 0 for n in range(6_000)}
    async with peer(hub, hub.token("ann"), binary=True) as client:
        assert (await refused(client, colliding))["name"] in ("bad_request", "schema_invalid")


# --- C35 and C37


@pytest.mark.parametrize("binary", [False, True])
async def test_c35_who_keeps_sending_wrong_messages_is_sent_away_with_4007(hub: Any, binary: bool) -> None:
    async with peer(hub, hub.token("ann"), binary=binary) as client:
        for number in range(10):
            await client.send({"type": "publish", "id": number + 2, "channel": 7})
        assert await client.until_closed() == 4007
        assert sum("error" in each for each in client.messages) == 10


async def test_c37_the_same_key_with_the_same_body_is_one_message_and_with_another_a_conflict(
    hub: Any, http: httpx.AsyncClient
) -> None:
    for channel in (unique("custom"), "team:c37-" + unique("x")[7:]):
        kind = "NOTE" if channel.startswith("custom") else "ALERT"
        data = {"alert_id": "a", "severity": "INFO", "title": "t"} if kind == "ALERT" else {"n": 1}
        async with peer(hub, hub.token("ann")) as client:
            first = await client.publish(channel, kind, data, idempotency_key="k")
            again = await client.publish(channel, kind, data, idempotency_key="k")
            other = data | ({"title": "u"} if kind == "ALERT" else {"n": 2})
            conflict = await client.ask(
                "publish", channel=channel, message={"type": kind, "data": other}, idempotency_key="k"
            )
        assert (again["offset"], again["duplicate"]) == (first["offset"], True)
        assert conflict["error"]["name"] == "idempotency_conflict"
