"""The specification cannot drift: its examples are decoded by the real codec, its tables are held against the code."""

from __future__ import annotations

import asyncio
import json
import re
import typing
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import msgspec
import pytest

from hub.connections import connection
from hub.edge.envelope import HTTP_STATUS
from hub.namespaces import DEFAULTS, Namespaces
from protocol import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, messages, trading
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK, encode_body, head, publication_json, publication_msgpack
from protocol.errors import ErrorCode
from protocol.vocabulary import DATA_TYPES

README = (Path(__file__).parents[2] / "protocol" / "README.md").read_text()
EXAMPLE = re.compile(r"```json ([a-zA-Z ]+)\n(.*?)\n```\n\n```msgpack\n([0-9a-f\n]+?)\n```", re.DOTALL)
EXAMPLES = EXAMPLE.findall(README)
RESULTS: dict[str, Any] = {
    each.__name__: each
    for each in (
        messages.Connected,
        messages.SubscribeResult,
        messages.Published,
        messages.HistoryResult,
        messages.ReplayResult,
        messages.PresenceResult,
        messages.SearchResult,
        messages.ExplainResult,
    )
}
PUSHES = (messages.PresenceDiff, messages.Unsubscribed, messages.Notice, messages.Ping, messages.Disconnect)


def examples(kind: str) -> list[Any]:
    """(JSON text, msgpack bytes) of every example of one kind."""
    return [
        pytest.param(text, bytes.fromhex(hexed.replace("\n", "")), id=f"{kind}-{number}")
        for number, (name, text, hexed) in enumerate(EXAMPLES)
        if name == kind
    ]


def section(heading: str) -> str:
    """The text below a heading, up to the next one of the same or a higher level."""
    level = heading.index(" ")
    start = README.index(f"\n{heading}\n")
    following = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(README, start + len(heading) + 2)
    return README[start : following.start() if following else len(README)]


def rows(text: str) -> list[list[str]]:
    """The cells of all table rows in a text."""
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("|---")
    ]


def fields_of(text: str) -> dict[str, bool]:
    """Field -> required, from a table `field | type | required | meaning`."""
    return {row[0].strip("`"): row[2] == "yes" for row in rows(text) if len(row) == 4 and row[2] in ("yes", "no")}


def declared(struct: Any) -> dict[str, bool]:
    return {field.encode_name: field.required for field in msgspec.structs.fields(struct)}


# --- examples ---


def test_every_json_example_has_its_msgpack_twin() -> None:
    assert len(EXAMPLES) == README.count("```json ") == README.count("```msgpack") > 50


@pytest.mark.parametrize(
    ("text", "packed"), [pytest.param(text, bytes.fromhex(hexed.replace("\n", ""))) for _, text, hexed in EXAMPLES]
)
def test_the_hex_of_an_example_is_exactly_the_json_beside_it(text: str, packed: bytes) -> None:
    unpacked = msgpack.unpackb(packed)
    assert unpacked == json.loads(text)
    # Byte for byte, in the order of the text: what an encoder without surprises makes of it.
    assert msgpack.packb(json.loads(text)) == packed


@pytest.mark.parametrize(("text", "packed"), examples("command"))
def test_a_command_example_is_accepted_by_the_codec_in_both_formats(text: str, packed: bytes) -> None:
    told = json.loads(text)
    expected = told if isinstance(told, list) else [told]
    for codec, payload in ((JSON, text), (JSON, text.encode()), (MSGPACK, packed)):
        decoded = codec.decode(payload)
        assert len(decoded) == len(expected)
        for command, sent in zip(decoded, expected, strict=True):
            assert not isinstance(command, tuple), command
            if isinstance(command, messages.Publish):
                type_name = codec.peek_type(command.message)
                message = codec.message_decoder(type_name)(command.message)
                assert msgspec.to_builtins(message) == sent["message"]
                namespace, _ = Namespaces().of(command.channel)
                assert namespace.accepts(type_name)
            else:  # nothing the example says is lost or defaulted away
                assert sent.items() >= json.loads(msgspec.json.encode(command)).items()
                assert set(sent) <= set(declared(type(command))) | {"type"}


def test_there_is_an_example_of_every_command() -> None:
    shown = {message["type"] for text, _ in (p.values for p in examples("command")) for message in _each(text)}
    assert shown == {tag_of(command) for command in typing.get_args(messages.AnyCommand)}


def _each(text: Any) -> Iterator[dict[str, Any]]:
    told = json.loads(text)
    yield from told if isinstance(told, list) else [told]


def tag_of(struct: Any) -> str:
    tag: str = struct.__struct_config__.tag
    return tag


REPLIES = [name for name, _, _ in EXAMPLES if name.startswith("reply ")]


@pytest.mark.parametrize(
    ("kind", "text", "packed"),
    [
        pytest.param(kind.removeprefix("reply "), text, bytes.fromhex(hexed.replace("\n", "")), id=f"{kind}-{number}")
        for number, (kind, text, hexed) in enumerate(EXAMPLES)
        if kind.startswith("reply ")
    ],
)
def test_a_reply_example_is_what_the_hub_would_send(kind: str, text: str, packed: bytes) -> None:
    reply = msgspec.json.decode(text, type=messages.Reply)
    assert msgspec.msgpack.decode(packed, type=messages.Reply) == reply
    told = json.loads(text)
    if kind == "error":
        error = msgspec.convert(told["error"], messages.ErrorBody)
        assert msgspec.to_builtins(error) == told["error"]
        code = ErrorCode(error.code)
        assert (error.name, error.temporary) == (code.wire_name, code.temporary)
    elif kind == "empty":
        assert reply.result == {}
    elif kind != "any":
        result = msgspec.json.decode(msgspec.json.encode(told["result"]), type=RESULTS[kind])
        assert json.loads(msgspec.json.encode(result)) == told["result"]
    if kind == "Connected":
        for each in told["result"]["subscriptions"].values():
            if "error" in each:
                msgspec.convert(each["error"], messages.ErrorBody)
            else:
                msgspec.json.decode(msgspec.json.encode(each), type=messages.SubscribeResult)
    for message in told.get("result", {}).get("messages", []) if isinstance(told.get("result"), dict) else []:
        check_publication(message)


def test_there_is_an_example_of_every_result_and_an_error() -> None:
    assert {name.removeprefix("reply ") for name in REPLIES} >= {*RESULTS, "error", "empty"}


@pytest.mark.parametrize(("text", "packed"), examples("push"))
def test_a_push_example_is_what_the_hub_would_send(text: str, packed: bytes) -> None:
    kind: Any = typing.Union[PUSHES]  # noqa: UP007 - made from a tuple
    push = msgspec.json.decode(text, type=kind)
    assert msgspec.msgpack.decode(packed, type=kind) == push
    assert json.loads(msgspec.json.encode(push)) == json.loads(text)


def test_there_is_an_example_of_every_push() -> None:
    assert {json.loads(p.values[0])["type"] for p in examples("push")} == {tag_of(push) for push in PUSHES}


@pytest.mark.parametrize(("text", "packed"), examples("publication"))
def test_a_publication_example_is_what_the_hub_would_send(text: str, packed: bytes) -> None:
    check_publication(json.loads(text))
    assert msgspec.msgpack.decode(packed, type=messages.Publication) == msgspec.json.decode(
        text, type=messages.Publication
    )


def check_publication(told: dict[str, Any]) -> None:
    """Publish what the example shows through the real encoders: the same message must come out."""
    assert set(told) <= set(declared(messages.Publication))
    msgspec.convert(told, messages.Publication)
    sent = {name: told[name] for name in ("type", "data", "trace", "coordination") if name in told}
    message = JSON.message_decoder(told["type"])(msgspec.json.encode(sent))
    body = encode_body(message, key=told.get("key"), publisher=told.get("publisher"))
    opening = head(told["type"], told["channel"], told["offset"], told["timestamp"])
    made = publication_json(opening + body, epoch=told.get("epoch"), skipped=told.get("skipped", 0))
    assert json.loads(made) == told
    assert msgpack.unpackb(publication_msgpack(made)) == told
    namespace, _ = Namespaces().of(told["channel"])
    assert namespace.accepts(told["type"])


def test_there_is_an_example_of_every_domain_type_and_of_a_custom_one() -> None:
    shown = {json.loads(p.values[0])["type"] for p in examples("publication")}
    assert shown > set(DATA_TYPES)
    for name in DATA_TYPES:
        assert f'"type":"{name}"' in section(f"### {name}")


# --- tables ---


@pytest.mark.parametrize(
    "command", [each for each in typing.get_args(messages.AnyCommand) if each is not messages.Pong], ids=tag_of
)
def test_every_field_of_a_command_is_in_its_table(command: Any) -> None:
    first_table = re.search(r"(?:^\|.*\n)+", section(f"### {tag_of(command)}"), re.MULTILINE)
    assert first_table is not None
    expected = {name: required for name, required in declared(command).items() if name != "id"}
    assert fields_of(first_table[0]) == expected


@pytest.mark.parametrize(
    ("heading", "struct"),
    [
        ("### connect", messages.Connected),
        ("### subscribe", messages.SubscribeResult),
        ("### publish", messages.Published),
        ("### history", messages.HistoryResult),
        ("### replay", messages.ReplayResult),
        ("### presence", messages.Member),
        ("### explain", messages.Explained),
        ("## 8 Publications", messages.Publication),
        ("## 14 Errors", messages.ErrorBody),
    ],
)
def test_every_field_of_a_result_is_in_a_table_of_its_section(heading: str, struct: Any) -> None:
    said = [(row[0].strip("`"), row[2]) for row in rows(section(heading)) if len(row) == 4]
    for name, required in declared(struct).items():
        assert (name, "yes" if required else "no") in said, name


@pytest.mark.parametrize("struct", [*PUSHES, messages.Limits, messages.PresenceResult, messages.Filter], ids=str)
def test_every_field_of_a_push_is_named(struct: Any) -> None:
    for name in declared(struct):
        assert f"`{name}`" in README or f"`limits.{name}`" in README or f'"{name}":' in README, name


def test_the_error_table_is_the_code() -> None:
    told = [tuple(row[:3]) for row in rows(section("## 14 Errors")) if row[0].isdigit()]
    assert told == [(str(code.value), f"`{code.wire_name}`", "yes" if code.temporary else "no") for code in ErrorCode]


def test_the_close_code_table_is_the_code() -> None:
    told = [tuple(row[:3]) for row in rows(section("## 15 Close codes")) if row[0].isdigit()]
    assert told == [(str(code.value), code.reason, "yes" if code.reconnect else "no") for code in CloseCode]


def test_the_table_of_recovery_reasons_is_the_code() -> None:
    told = [row[0] for row in rows(section("## 10 Recovery"))][1:]
    assert told == [f"`{reason}`" for reason in typing.get_args(messages.Reason)]


def test_the_table_of_verdicts_is_the_code() -> None:
    told = [row[0] for row in rows(section("### explain")) if len(row) == 2][1:]
    assert told == [f"`{verdict}`" for verdict in typing.get_args(messages.Verdict)]


def test_the_table_of_notices_is_the_code() -> None:
    hints = typing.get_type_hints(messages.Notice)
    told = [row[0] for row in rows(section("### notice"))][1:]
    assert told == [f"`{code}`" for code in typing.get_args(hints["code"])]


def test_the_namespace_table_is_the_code() -> None:
    def told(words: tuple[str, ...]) -> str:
        return ", ".join(f"`{word}`" for word in words)

    table = {row[0].strip("`"): row[1:] for row in rows(section("## 16 Default namespaces"))[1:]}
    assert list(table) == list(DEFAULTS)
    for name, policy in DEFAULTS.items():
        history = {"durable": "everything", "latest": "newest per key"}.get(
            policy.promise, f"{policy.history_size} messages, {policy.history_ttl_s} s"
        )
        assert table[name] == [
            policy.promise,
            "any" if policy.types == ("*",) else told(policy.types),
            told(policy.publish),
            told(policy.subscribe),
            history,
            "yes" if policy.presence else "no",
        ], name


def _struct(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind


def structs() -> dict[str, Any]:
    """Every struct of the vocabulary by the heading under which its fields stand."""
    found: dict[str, Any] = {}
    for name, kind in DATA_TYPES.items():
        if _struct(kind) not in found.values():
            found[f"### {name}"] = _struct(kind)
    for struct in list(found.values()):
        for kind in typing.get_type_hints(struct, include_extras=True).values():
            for part in _parts(kind):
                if isinstance(part, type) and issubclass(part, msgspec.Struct):
                    found[f"#### {part.__name__}"] = part
    found["#### Exclusion"] = trading.Exclusion
    return found


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    if typing.get_origin(kind) in (typing.Union, UnionType, list, typing.Annotated):
        for part in typing.get_args(kind):
            yield from _parts(part)


@pytest.mark.parametrize(("heading", "struct"), structs().items(), ids=list(structs()))
def test_the_field_table_of_a_domain_type_is_the_code(heading: str, struct: Any) -> None:
    text = section(heading)
    text = text.split("\n#### ")[0] if heading.startswith("### ") else text
    assert fields_of(text) == declared(struct)
    told = {row[0].strip("`"): row[1] for row in rows(text)}
    for name, kind in typing.get_type_hints(struct, include_extras=True).items():
        for part in _parts(kind):
            if typing.get_origin(part) is typing.Literal:
                assert told[name] == " ".join(f"`{value}`" for value in typing.get_args(part)), name


def test_types_that_share_a_table_say_so() -> None:
    first: dict[Any, str] = {}
    for name, kind in DATA_TYPES.items():
        if (other := first.setdefault(_struct(kind), name)) != name:
            assert f"Fields as in [{other}]" in section(f"### {name}")


def test_subprotocols_are_named() -> None:
    assert f"`{SUBPROTOCOL_JSON}`" in README
    assert f"`{SUBPROTOCOL_MSGPACK}`" in README


def test_the_http_status_of_every_error_is_the_code() -> None:
    text = " ".join(section("## 18 REST").split()).partition("The HTTP status follows the error:")[2]
    told = {
        name: int(status)
        for status, names in re.findall(r"(\d{3})((?: `\w+`,?)+)", text)
        for name in re.findall(r"\w+", names)
    }
    assert told == {code.wire_name: status for code, status in HTTP_STATUS.items()}


def test_the_numbers_of_a_connections_life_are_the_code() -> None:
    life = " ".join(section("## 5 Life of a connection").split())
    assert f"within **{connection.CONNECT_TIMEOUT_S:.0f} s**" in life
    assert f"`ping_interval_ms` + {connection.PONG_TIMEOUT_S:.0f} s" in life
    assert f"{connection.TOKEN_WARNING_S:.0f} s before" in life
    flow = " ".join(section("## 12 Flow control").split())
    assert f"for {connection.STALL_TIMEOUT_S:.0f} s not a single byte" in flow
    told = {row[0]: row[1] for row in rows(section("## 13 Limits"))}
    assert told["malformed messages"] == f"{connection.MAX_ERRORS} within {connection.ERROR_WINDOW_S:.0f} s"
    assert told["commands in flight (`max_commands_in_flight`)"] == str(connection.MAX_IN_FLIGHT)


def test_every_link_inside_the_document_leads_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors


# --- the appendix ---


def appendix() -> Any:
    """The `Krin` class of the appendix. It may import nothing but the standard library and websockets."""
    [source] = re.findall(r"```python\n(.*?)\n```", section("## Appendix: a complete client"), re.DOTALL)
    scope: dict[str, Any] = {}
    exec(compile(source, "protocol/README.md", "exec"), scope)
    return scope["Krin"]


async def test_the_client_of_the_appendix_gets_each_durable_message_once_across_cuts(
    hub: Any, proxy: Any, waiter: Any
) -> None:
    krin = appendix()
    channel = f"team:{uuid.uuid4().hex}"
    got: list[tuple[int, Any]] = []
    resets: list[str] = []

    def apply(name: str, message: dict[str, Any]) -> None:
        got.append((message["offset"], message["data"][0]["message"]))
        waiter.notify()

    reader = krin(
        proxy.ws_url, lambda: hub.token("reader", "dashboard"), apply, lambda name, reason: resets.append(reason)
    )
    writer = krin(hub.ws_url, lambda: hub.token("writer", "agent"), lambda name, message: None)
    reading = asyncio.create_task(reader.run(channel))
    writing = asyncio.create_task(writer.run())

    async def publish(*numbers: int) -> None:
        for number in numbers:
            update = [{"specialist_id": "s", "message": str(number)}]
            await writer.publish(channel, "SPECIALIST_UPDATE", update)

    try:
        async with asyncio.timeout(30):
            await reader.connected.wait()
            await publish(1, 2, 3)
            await waiter.until(lambda: len(got) == 3)
            for start in (4, 14, 24):
                proxy.cut()
                await publish(*range(start, start + 10))
                proxy.mend()
                await waiter.until(lambda start=start: len(got) == start + 9)
            await publish(34)
            await waiter.until(lambda: len(got) == 34)
    finally:
        for task in (reading, writing):
            task.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)
    assert got == [(number, str(number)) for number in range(1, 35)]
    assert resets == []
    assert proxy.accepted >= 4


async def test_the_client_of_the_appendix_repeats_a_publish_whose_reply_was_lost(hub: Any, proxy: Any) -> None:
    channel = f"custom:{uuid.uuid4().hex}"
    client = appendix()(proxy.ws_url, lambda: hub.token("w", "agent"), lambda name, message: None)
    running = asyncio.create_task(client.run())
    try:
        async with asyncio.timeout(20):
            await client.connected.wait()
            sending = asyncio.create_task(client.publish(channel, "NOTE", {"n": 1}, idempotency_key="k"))
            proxy.cut()
            proxy.mend()
            await sending
            again = await client.publish(channel, "NOTE", {"n": 1}, idempotency_key="k")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (again["offset"], again["duplicate"]) == (1, True)


async def test_the_client_of_the_appendix_keeps_the_newest_value_of_each_key(hub: Any, proxy: Any, waiter: Any) -> None:
    krin: Callable[..., Any] = appendix()
    channel = f"status:{uuid.uuid4().hex}"
    newest: dict[str, tuple[int, str]] = {}

    def apply(name: str, message: dict[str, Any]) -> None:
        assert message["offset"] >= newest.get(message["key"], (0, ""))[0]
        newest[message["key"]] = (message["offset"], message["data"]["state"])
        waiter.notify()

    client = krin(proxy.ws_url, lambda: hub.token("d", "admin"), apply)
    writer = krin(hub.ws_url, lambda: hub.token("d", "admin"), lambda name, message: None)
    running = [asyncio.create_task(client.run(channel)), asyncio.create_task(writer.run())]

    async def publish(component: str, state: str) -> int:
        placed = await writer.publish(channel, "STATUS", {"component": component, "state": state})
        offset: int = placed["offset"]
        return offset

    try:
        async with asyncio.timeout(20):
            await client.connected.wait()
            await publish("a", "OK")
            last_b = await publish("b", "OK")
            await waiter.until(lambda: len(newest) == 2)
            proxy.cut()
            last_a = await publish("a", "DOWN")
            proxy.mend()
            await waiter.until(lambda: newest["a"][0] == last_a)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert newest == {"a": (last_a, "DOWN"), "b": (last_b, "OK")}
