from __future__ import annotations

import json
import tracemalloc
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any

import msgpack  # type: ignore[import-untyped]  # ships neither stubs nor py.typed
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from protocol import messages
from protocol.codec import (
    JSON,
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_ITEMS,
    MAX_KEYS,
    MSGPACK,
    Codec,
    check_shape,
    converted,
    decode_error,
    encode_body,
    head,
    publication_json,
    publication_msgpack,
)
from protocol.contracts import ContractExpectation
from protocol.errors import ErrorCode, HubError
from protocol.operations import OPERATIONS
from protocol.trading import OrderReplace, PriceTick
from protocol.vocabulary import DATA_TYPES, CustomMessage, message_type

BOTH = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=lambda codec: codec.name)
COMMANDS = typing.get_args(messages.AnyCommand)
PUSHES_AND_RESULTS = [
    messages.ErrorBody,
    messages.Member,
    messages.Limits,
    messages.Connected,
    messages.Published,
    messages.PresenceResult,
    messages.Unsubscribed,
    messages.PresenceDiff,
    messages.Notice,
    messages.Ping,
    messages.Disconnect,
    messages.Publication,
]
DECODE_ERRORS = {ErrorCode.BAD_REQUEST, ErrorCode.SCHEMA_INVALID, ErrorCode.UNKNOWN_TYPE}

# --- any value of a type ---

text = st.text(max_size=12)
scalars = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.floats(allow_nan=False) | text
free = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, free, max_size=4)


def values(kind: Any, meta: msgspec.Meta | None = None) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(arguments[0], arguments[1])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, UnionType):
        return st.one_of(*[values(each) for each in arguments if each is not msgspec.UnsetType])
    if origin is list:
        least, most = (meta.min_length or 0, min(meta.max_length or 3, 3)) if meta else (0, 3)
        return st.lists(values(arguments[0]), min_size=least, max_size=most)
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*[values(each) for each in arguments])
    if origin is dict:
        return st.dictionaries(values(arguments[0]), values(arguments[1]), max_size=3)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return structs(kind)
    if kind is str:
        if meta and meta.pattern:
            limit = meta.max_length or 1_000
            return st.from_regex(meta.pattern, fullmatch=True).filter(lambda found: len(found) <= limit)
        return st.text(min_size=(meta.min_length or 0) if meta else 0, max_size=12)
    if kind is int:
        lowest = meta.ge if meta and meta.ge is not None else -MAX_INTEGER
        highest = meta.le if meta and meta.le is not None else MAX_INTEGER
        return st.integers(int(lowest), int(highest))
    if kind is float:
        lowest = max(0.001, (meta.ge or 0) if meta else 0)
        return st.floats(lowest, max(lowest, 1))
    strategies = {bool: st.booleans(), type(None): st.none(), Any: free}
    return strategies[kind]


def structs(struct: Any, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(struct, include_extras=True)
    names = [field.name for field in msgspec.structs.fields(struct)]
    fields = {name: given[name] if name in given else values(hints[name]) for name in names}
    if struct is PriceTick:  # one price is required
        fields["price"] = st.just("1.5")
    return st.builds(struct, **fields)


# --- round trips ---


@BOTH
@pytest.mark.parametrize(
    "struct", [each for each in COMMANDS if each is not messages.Publish], ids=lambda s: s.__name__
)
@given(data=st.data())
@settings(max_examples=40)
def test_a_command_survives_the_wire(codec: Codec, struct: Any, data: st.DataObject) -> None:
    command = data.draw(structs(struct))
    assert codec.decode(codec.encode(command)) == [command]


@BOTH
@given(data=st.data())
@settings(max_examples=40)
def test_a_publish_survives_the_wire_with_its_message_still_raw(codec: Codec, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(DATA_TYPES)))
    message = data.draw(structs(message_type(name), type=st.just(name)))
    raw = st.just(msgspec.Raw(codec.encode(message)))
    command = data.draw(structs(messages.Publish, message=raw))
    [decoded] = codec.decode(codec.encode(command))
    assert isinstance(decoded, messages.Publish)
    assert codec.peek_type(decoded.message) == name
    assert codec.message_decoder(name)(decoded.message) == message
    assert msgspec.structs.replace(decoded, message=command.message) == command


@BOTH
@pytest.mark.parametrize("struct", PUSHES_AND_RESULTS, ids=lambda struct: struct.__name__)
@given(data=st.data())
@settings(max_examples=40)
def test_a_push_or_result_survives_the_wire(codec: Codec, struct: Any, data: st.DataObject) -> None:
    value = data.draw(structs(struct))
    assert codec._decoder(struct)(codec.encode(value)) == value


@BOTH
@given(number=st.integers(0, MAX_INTEGER), result=free, error=structs(messages.ErrorBody), failed=st.booleans())
def test_a_reply_survives_the_wire(
    codec: Codec, number: int, result: Any, error: messages.ErrorBody, failed: bool
) -> None:
    reply = messages.Reply(id=number, error=error) if failed else messages.Reply(id=number, result=result)
    decoded = codec._decoder(messages.Reply)(codec.encode(reply))
    assert decoded == reply
    assert (decoded.result is UNSET) == failed


@BOTH
@given(data=st.data())
def test_an_array_of_commands_is_those_commands_in_order(codec: Codec, data: st.DataObject) -> None:
    commands = data.draw(st.lists(st.one_of(*map(structs, (messages.Subscribe, messages.Pong, messages.Refresh)))))
    assert codec.decode(codec.array([codec.encode(each) for each in commands]) if commands else codec.encode([])) == (
        commands
    )


@pytest.mark.parametrize("name", sorted(DATA_TYPES))
@given(data=st.data())
@settings(max_examples=30)
def test_a_published_message_comes_out_as_it_went_in_in_both_formats(name: str, data: st.DataObject) -> None:
    message = data.draw(structs(message_type(name), type=st.just(name)))
    key = data.draw(st.none() | st.text(min_size=1, max_size=8))
    skipped = data.draw(st.integers(0, 3))
    epoch = data.draw(st.none() | st.just("e"))
    try:
        body = encode_body(message, key=key, publisher="p")
    except HubError as error:
        assert error.code is ErrorCode.BAD_REQUEST  # NUL, or beyond the limits of shape
        return
    wire = publication_json(head(name, "custom:a", 7, 8) + body, epoch=epoch, skipped=skipped)
    told = json.loads(wire)
    assert msgpack.unpackb(publication_msgpack(wire)) == told
    assert msgspec.convert(told["data"], DATA_TYPES[name]) == message.data
    publication = msgspec.json.decode(wire, type=messages.Publication)
    assert (publication.type, publication.channel, publication.offset, publication.timestamp) == (
        name,
        "custom:a",
        7,
        8,
    )
    assert (publication.key, publication.publisher, publication.epoch) == (key, "p", epoch)
    assert (publication.skipped, publication.trace) == (skipped, message.trace)
    assert publication.coordination == message.coordination


@given(objects)
def test_a_custom_message_is_carried_as_json(data: dict[str, Any]) -> None:
    try:
        body = encode_body(CustomMessage(type="NOTE", data=data), key=None, publisher=None)
    except HubError as error:
        assert "\0" in json.dumps(data, ensure_ascii=False) or "\\u0000" in json.dumps(data)
        assert error.code is ErrorCode.BAD_REQUEST
        return
    assert json.loads(b"{" + body + b"}") == {"data": data}


# --- what a stranger may send ---


def answers(codec: Codec, payload: bytes | str) -> list[tuple[int, HubError]]:
    """The errors for a frame. Anything raised fails the test."""
    found = codec.decode(payload)
    assert isinstance(found, list)
    refused = [each for each in found if isinstance(each, tuple)]
    for number, error in refused:
        assert 0 <= number <= MAX_INTEGER
        assert error.code in DECODE_ERRORS
    return refused


@BOTH
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_answered_and_never_raise(codec: Codec, payload: bytes) -> None:
    answers(codec, payload)


@given(st.text(max_size=200))
def test_arbitrary_text_is_answered_and_never_raises(payload: str) -> None:
    answers(JSON, payload)


@BOTH
@given(data=st.data())
def test_a_valid_frame_with_a_few_bytes_changed_never_raises(codec: Codec, data: st.DataObject) -> None:
    payload = bytearray(codec.encode(data.draw(structs(messages.Connect))))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    answers(codec, bytes(payload[: data.draw(st.integers(0, len(payload)))]))


@BOTH
@given(message=objects | free)
def test_any_object_is_answered_under_its_own_id(codec: Codec, message: Any) -> None:
    for number, _ in answers(codec, codec.encode(message)):
        if isinstance(message, dict):
            sent = message.get("id")
            usable = isinstance(sent, int) and not isinstance(sent, bool) and 0 < sent <= MAX_INTEGER
            assert number == (sent if usable else 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"[" * 100_000,
        b'{"type":"call","id":1,"method":"a","params":' + b'{"a":' * 50_000,
        b'{"type":"call","id":1,"method":"a","params":{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}}",
        b'{"type":' + b"[" * 10_000,
    ],
    ids=["arrays", "objects", "closed", "in the type"],
)
def test_a_nesting_bomb_of_json_is_refused(payload: bytes) -> None:
    [(_, error)] = answers(JSON, payload)
    assert error.code is ErrorCode.BAD_REQUEST


@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 100_000,
        b"\x81\xa1a" * 50_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x05",
        b"\x91\xdd\xff\xff\xff\xff\xc0",
    ],
    ids=["arrays", "maps", "array header", "map header", "bin header", "str header", "ext header", "inner header"],
)
def test_a_bomb_of_msgpack_is_refused_without_allocating(payload: bytes) -> None:
    tracemalloc.start()
    try:
        [(_, error)] = answers(MSGPACK, payload)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.code is ErrorCode.BAD_REQUEST
    assert peak < 4_000_000


@pytest.mark.parametrize(
    "number", ["1" + "0" * 4000, str(2**53), "0", "-1", "1.5", "1e400", "NaN", "true", '"1"', "null"]
)
def test_an_id_outside_its_bounds_is_refused_and_not_repeated(number: str) -> None:
    [(told, error)] = answers(JSON, f'{{"type":"unsubscribe","id":{number},"channel":"a:b"}}')
    assert told == 0
    assert error.code in (ErrorCode.SCHEMA_INVALID, ErrorCode.BAD_REQUEST)
    assert len(error.message) < 200


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e400", "01", "0x1", "+1", "1."])
def test_numbers_that_json_does_not_have_are_refused(literal: str) -> None:
    [(_, error)] = answers(JSON, f'{{"type":"call","id":1,"method":"a","params":{{"a":{literal}}}}}')
    assert error.code in (ErrorCode.BAD_REQUEST, ErrorCode.SCHEMA_INVALID)


@pytest.mark.parametrize("spelled", [r'"\ud800"', r'"\udc00a"', r'"\ud800\ud800"'])
def test_a_lone_surrogate_never_becomes_text(spelled: str) -> None:
    for command in (
        f'{{"type":"connect","id":1,"name":{spelled}}}',
        f'{{"type":"call","id":1,"method":"a","params":{{"a":{spelled}}}}}',
    ):
        [(_, error)] = answers(JSON, command)
        assert error.code is ErrorCode.BAD_REQUEST


def test_bytes_that_are_not_utf8_are_refused() -> None:
    [(_, error)] = answers(JSON, b'{"type":"connect","id":1,"name":"\xff"}')
    assert error.code is ErrorCode.BAD_REQUEST
    [(_, error)] = answers(
        MSGPACK, b"\x82\xa4type\xa7connect\xa2id\x01".replace(b"\x82", b"\x83") + b"\xa4name\xa1\xff"
    )
    assert error.code is ErrorCode.BAD_REQUEST


def test_of_a_name_that_stands_twice_the_last_counts() -> None:
    [command] = JSON.decode('{"type":"subscribe","id":1,"channel":"a:b","channel":"c:d"}')
    assert isinstance(command, messages.Subscribe)
    assert command.channel == "c:d"


@given(objects, objects)
def test_what_was_checked_is_what_is_sent_even_with_repeated_names(first: Any, second: Any) -> None:
    raw = f'{{"type":"NOTE","data":{json.dumps(first)},"data":{json.dumps(second)}}}'.encode()
    try:
        body = encode_body(JSON.message_decoder("NOTE")(raw), key=None, publisher=None)
    except HubError:
        return
    assert json.loads(b"{" + body + b"}") == {"data": second}


@BOTH
def test_an_empty_array_says_nothing(codec: Codec) -> None:
    assert codec.decode(codec.encode([])) == []


@BOTH
def test_one_wrong_message_does_not_spoil_its_neighbours(codec: Codec) -> None:
    sent = [
        {"type": "unsubscribe", "id": 1, "channel": "a:b"},
        {"type": "nope", "id": 2},
        {"type": "unsubscribe", "id": 3},
        7,
        {"type": "pong", "time": 4},
    ]
    first, second, third, fourth, fifth = codec.decode(codec.encode(sent))
    assert first == messages.Unsubscribe(id=1, channel="a:b")
    assert [(each[0], each[1].code) for each in (second, third, fourth) if isinstance(each, tuple)] == [
        (2, ErrorCode.UNKNOWN_TYPE),
        (3, ErrorCode.SCHEMA_INVALID),
        (0, ErrorCode.BAD_REQUEST),
    ]
    assert fifth == messages.Pong(time=4)


@BOTH
@pytest.mark.parametrize("kind", [None, "", "Connect", "connect ", 7, ["connect"], {"a": 1}, "SUBSCRIBE"])
def test_an_unknown_or_missing_command_type_is_named_as_such(codec: Codec, kind: Any) -> None:
    message = {"id": 5} | ({} if kind is None else {"type": kind})
    [(number, error)] = answers(codec, codec.encode(message))
    assert (number, error.code, error.path) == (5, ErrorCode.UNKNOWN_TYPE, "$.type")


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "subscribe", "id": 1}, "$"),
    ({"type": "subscribe", "id": 1, "channel": 7}, "$.channel"),
    ({"type": "subscribe", "id": 1, "channel": "ab"}, "$.channel"),
    ({"type": "subscribe", "id": 1, "channel": "a:" + "b" * 254}, "$.channel"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "extra": 1}, "$"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "recover": {"epoch": "e"}}, "$.recover"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "recover": {"epoch": "e", "offset": "1"}}, "$.recover.offset"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "rewind": -1}, "$.rewind"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "rewind": 10_001}, "$.rewind"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "rewind": "30"}, "$.rewind"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "rewind": "30s\n"}, "$.rewind"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "max_rate": 0}, "$.max_rate"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "max_rate": 1001}, "$.max_rate"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "filter": {"keys": []}}, "$.filter.keys"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "filter": {"keys": ["a", ""]}}, "$.filter.keys[1]"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "filter": {"types": ["tick"]}}, "$.filter.types[0]"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "presence": 1}, "$.presence"),
    ({"type": "connect", "id": 1, "token": ""}, "$.token"),
    ({"type": "connect", "id": 1, "token": "t" * 8193}, "$.token"),
    ({"type": "connect", "id": 1, "kind": "robot"}, "$.kind"),
    ({"type": "connect", "id": 1, "name": "n" * 129}, "$.name"),
    ({"type": "connect", "id": 1, "subscriptions": []}, "$.subscriptions"),
    ({"type": "connect", "id": 1, "subscriptions": {"ab": {}}, "name": ""}, "$.name"),
    ({"type": "connect", "id": 1, "subscriptions": {"a:b": {"presence": 1}}, "extra": 1}, "$"),
    ({"type": "subscribe", "id": 1, "channel": None}, "$.channel"),
    ({"type": "subscribe", "id": None, "channel": "a:b"}, "$.id"),
    ({"type": "subscribe", "id": 1, "channel": "a:b", "recover": {"epoch": "e", "offset": None}}, "$.recover.offset"),
    ({"type": "subscribe", "id": 1, "channel": 7, "presence": None}, "$.channel"),
    ({"type": "replay", "id": 1, "channels": ["a:b", None], "from": 1, "speed": None}, "$.channels[1]"),
    ({"type": "replay", "id": 1, "channels": ["a:b"], "from": None}, "$.from"),
    ({"type": "publish", "id": 1, "channel": "a:b"}, "$"),
    ({"type": "publish", "id": 1, "channel": "a:b", "message": {}, "key": ""}, "$.key"),
    ({"type": "publish", "id": 1, "channel": "a:b", "message": {}, "ttl_ms": 0}, "$.ttl_ms"),
    ({"type": "publish", "id": 1, "channel": "a:b", "message": {}, "ttl_ms": 86_400_001}, "$.ttl_ms"),
    ({"type": "publish", "id": 1, "channel": "a:b", "message": {}, "idempotency_key": 5}, "$.idempotency_key"),
    ({"type": "history", "id": 1, "channel": "a:b", "limit": 0}, "$.limit"),
    ({"type": "history", "id": 1, "channel": "a:b", "limit": 1001}, "$.limit"),
    ({"type": "history", "id": 1, "channel": "a:b", "since": 7}, "$.since"),
    ({"type": "search", "id": 1, "query": ""}, "$.query"),
    ({"type": "search", "id": 1, "query": "a", "mode": "magic"}, "$.mode"),
    ({"type": "call", "id": 1, "method": "orders..submit"}, "$.method"),
    ({"type": "call", "id": 1, "method": "a", "params": []}, "$.params"),
    ({"type": "refresh", "id": 1}, "$"),
    ({"type": "pong"}, "$"),
    ({"type": "pong", "time": "1"}, "$.time"),
]


@BOTH
@pytest.mark.parametrize(("message", "path"), WRONG, ids=[f"{m['type']} {path}" for m, path in WRONG])
def test_a_wrong_field_is_named_by_its_path(codec: Codec, message: dict[str, Any], path: str) -> None:
    [(number, error)] = answers(codec, codec.encode(message))
    assert (number, error.code, error.path) == (message.get("id") or 0, ErrorCode.SCHEMA_INVALID, path)
    assert "regex" not in error.message, "a pattern is said in words"


@BOTH
def test_a_subscription_of_connect_that_is_wrong_is_refused_alone_with_the_errors_of_subscribe(codec: Codec) -> None:
    wrong: dict[str, tuple[Any, str]] = {
        "ab": ({}, "$.channel"),
        "a:" + "b" * 254: ({}, "$.channel"),
        "a:1": (7, "$"),
        "a:2": (None, "$"),
        "a:3": ({"presence": "yes"}, "$.presence"),
        "a:4": ({"filter": {"keys": ["k", ""]}}, "$.filter.keys[1]"),
        "a:5": ({"recover": {"epoch": "e", "offset": None}, "presence": None}, "$.recover.offset"),
        "a:6": ({"type": "subscribe"}, "$"),
    }
    right = {"a:b": {}, "a:c": {"presence": True}, "a:d": {"presence": None, "filter": {"keys": ["k"]}}}
    subscriptions = right | {channel: options for channel, (options, _) in wrong.items()}
    sent = {"type": "connect", "id": 1, "version": None, "name": "n", "subscriptions": subscriptions}
    [connect] = codec.decode(codec.encode(sent))

    assert isinstance(connect, messages.Connect)
    assert (connect.id, connect.name, list(connect.subscriptions)) == (1, "n", list(subscriptions))
    told = {}
    for channel, options in connect.subscriptions.items():
        if isinstance(options, messages.RefusedOptions):
            assert options.error.code is ErrorCode.SCHEMA_INVALID
            told[channel] = options.error.path
    assert told == {channel: path for channel, (_, path) in wrong.items()}
    assert connect.subscriptions["a:c"] == messages.SubscribeOptions(presence=True)
    assert connect.subscriptions["a:d"] == messages.SubscribeOptions(filter=messages.Filter(keys=["k"]))


@BOTH
@given(secret=st.from_regex(r"s3cret-[a-z]{8}", fullmatch=True))
def test_an_error_never_repeats_a_value(codec: Codec, secret: str) -> None:
    for message in (
        {"type": secret, "id": 1},
        {"type": "connect", "id": 1, "kind": secret},
        {"type": "connect", "id": 1, "token": [secret]},
        {"type": "subscribe", "id": 1, "channel": "a:b", "rewind": secret},
        {"type": "search", "id": 1, "query": "a", "mode": secret},
        {"type": "call", "id": 1, "method": secret},
    ):
        [(_, error)] = answers(codec, codec.encode(message))
        assert secret not in str(error)


@BOTH
@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"type": "PRICE_TICK", "data": {"symbol": "A", "bid": 1.5}}, "$.message.data.bid"),
        ({"type": "PRICE_TICK", "data": {"symbol": "A", "bid": "1e5"}}, "$.message.data.bid"),
        ({"type": "PRICE_TICK", "data": {"symbol": "A B", "bid": "1"}}, "$.message.data.symbol"),
        ({"type": "PRICE_TICK", "data": {"symbol": "A"}}, "$.message.data"),
        ({"type": "BOOK", "data": {"symbol": "A", "depth": 1, "bids": [["1", "-2"]]}}, "$.message.data.bids[0][1]"),
        ({"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": "s"}, {}]}, "$.message.data[1]"),
        ({"type": "SPECIALIST_UPDATE", "data": {}}, "$.message.data"),
        ({"type": "NOTE", "data": []}, "$.message.data"),
        ({"type": "NOTE", "data": {}, "extra": 1}, "$.message"),
        ({"type": "note", "data": {}}, "$.message.type"),
    ],
)
def test_a_wrong_field_of_a_message_is_named_by_its_path(codec: Codec, message: dict[str, Any], path: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        codec.message_decoder(message["type"])(codec.encode(message))
    error = decode_error(caught.value, "$.message")
    assert (error.code, error.path) == (ErrorCode.SCHEMA_INVALID, path)
    assert "regex" not in error.message


@pytest.mark.parametrize(
    ("message", "path"),
    [
        ({"type": "NOTE", "data": {1: 2}}, "$.message.data"),
        ({"type": "NOTE", "data": {"a": {b"b": 2}}}, "$.message.data"),
        ({"type": "PRICE_TICK", "data": {"symbol": "A", "bid": "1", 7: 8}}, "$.message.data"),
        ({"type": "NOTE", "data": {}, 7: 8}, "$.message"),
        ({"type": "STATUS", "data": {"component": "c", "state": "OK", "ext": {1: 2}}}, "$.message.data.ext"),
    ],
    ids=str,
)
def test_keys_that_are_no_strings_are_a_bad_request(message: dict[Any, Any], path: str) -> None:
    raw = msgpack.packb(message)
    with pytest.raises(HubError) as caught:
        try:
            encode_body(MSGPACK.message_decoder(message["type"])(raw), key=None, publisher=None)
        except msgspec.ValidationError as failure:
            MSGPACK.decode_again(raw, message_type(message["type"]), failure, "$.message")
    assert (caught.value.code, caught.value.path) == (ErrorCode.BAD_REQUEST, path)


def test_a_field_called_type_that_is_missing_in_params_is_no_unknown_command() -> None:
    params = {"consumer": "x", "messages": [{"fields": {}}]}
    with pytest.raises(HubError) as caught:
        converted(params, ContractExpectation, "$.params")
    assert (caught.value.code, caught.value.path) == (ErrorCode.SCHEMA_INVALID, "$.params.messages[0]")


# --- null for an optional field ---

ONE_OF = {PriceTick: "price", OrderReplace: "qty"}  # optional fields of which one is required


def optional(struct: Any) -> set[str]:
    names = {field.encode_name for field in msgspec.structs.fields(struct) if not field.required}
    return names - {ONE_OF.get(struct)}


def with_required(struct: Any) -> st.SearchStrategy[dict[str, Any]]:
    """The least that a struct needs, as it goes over the wire."""
    hints = typing.get_type_hints(struct, include_extras=True)
    raw = st.just({"type": "NOTE", "data": {"a": None}})
    needed = {
        field.name: raw if field.type is msgspec.Raw else values(hints[field.name])
        for field in msgspec.structs.fields(struct)
        if field.required
    }
    if struct in ONE_OF:
        needed[ONE_OF[struct]] = st.just("1.5")
    wire = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag
    return st.fixed_dictionaries(needed).map(
        lambda found: (
            ({"type": tag} if tag else {}) | {wire[name]: msgspec.to_builtins(value) for name, value in found.items()}
        )
    )


@BOTH
@pytest.mark.parametrize("struct", COMMANDS, ids=lambda struct: struct.__name__)
@given(data=st.data())
@settings(max_examples=10)
def test_null_for_an_optional_field_of_a_command_leaves_it_out(codec: Codec, struct: Any, data: st.DataObject) -> None:
    fields = data.draw(with_required(struct))
    [expected] = codec.decode(codec.encode(fields))
    assert isinstance(expected, struct)
    for name in optional(struct):
        assert codec.decode(codec.encode(fields | {name: None})) == [expected]
    assert codec.decode(codec.encode(fields | dict.fromkeys(optional(struct)))) == [expected]


@BOTH
@pytest.mark.parametrize("name", sorted(DATA_TYPES))
@given(data=st.data())
@settings(max_examples=3)
def test_null_for_an_optional_field_of_a_message_leaves_it_out(codec: Codec, name: str, data: st.DataObject) -> None:
    several = typing.get_origin(DATA_TYPES[name]) is list
    struct = typing.get_args(DATA_TYPES[name])[0] if several else DATA_TYPES[name]
    fields = data.draw(with_required(struct))
    nulls = fields | dict.fromkeys(optional(struct))
    expected = {"type": name, "data": [fields] if several else fields}
    sent = {"type": name, "data": [nulls] if several else nulls, "trace": None, "coordination": None}
    assert codec.read(codec.encode(sent), message_type(name)) == codec.message_decoder(name)(codec.encode(expected))


@pytest.mark.parametrize("method", sorted(OPERATIONS))
@given(data=st.data())
@settings(max_examples=3)
def test_null_for_an_optional_parameter_leaves_it_out(method: str, data: st.DataObject) -> None:
    struct = OPERATIONS[method].params
    fields = data.draw(with_required(struct))
    assert converted(fields | dict.fromkeys(optional(struct)), struct) == msgspec.convert(fields, struct)


@BOTH
def test_null_is_left_out_within_structs_and_kept_within_free_form_data(codec: Codec) -> None:
    sent = {
        "type": "SPECIALIST_UPDATE",
        "data": [{"specialist_id": "s", "blockers": None, "ext": {"blockers": None, "a": [None]}}],
        "coordination": {"b": None},
    }
    raw = codec.encode(sent)
    with pytest.raises(msgspec.ValidationError) as caught:
        codec.message_decoder("SPECIALIST_UPDATE")(raw)
    message = codec.decode_again(raw, message_type("SPECIALIST_UPDATE"), caught.value)
    body = json.loads(b"{" + encode_body(message, key=None, publisher=None) + b"}")
    assert body == {
        "data": [{"specialist_id": "s", "ext": {"blockers": None, "a": [None]}}],
        "coordination": {"b": None},
    }


@BOTH
@pytest.mark.parametrize("struct", COMMANDS, ids=lambda struct: struct.__name__)
@given(data=st.data())
@settings(max_examples=10)
def test_null_for_a_required_field_is_refused(codec: Codec, struct: Any, data: st.DataObject) -> None:
    fields = data.draw(with_required(struct))
    name = data.draw(st.sampled_from(sorted(fields.keys() - {"type", "message"})))
    [(_, error)] = answers(codec, codec.encode(fields | dict.fromkeys(optional(struct)) | {name: None}))
    assert (error.code, error.path) == (ErrorCode.SCHEMA_INVALID, f"$.{name}")


@BOTH
@given(st.binary(max_size=100))
def test_the_type_of_any_raw_message_is_told_or_refused(codec: Codec, raw: bytes) -> None:
    try:
        assert isinstance(codec.peek_type(raw), str)
    except HubError as error:
        assert error.code is ErrorCode.SCHEMA_INVALID
        assert error.path in ("$.message", "$.message.type")


@BOTH
def test_names_of_types_that_are_not_listed_are_not_kept(codec: Codec) -> None:
    codec.message_decoder("NOTE")
    tracemalloc.start()
    try:
        for number in range(200):
            codec.message_decoder(f"A{number}" + "x" * 10_000)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 100_000


# --- limits of shape ---


def nested(depth: int, leaf: Any = None) -> Any:
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(MAX_DEPTH),
        nested(MAX_DEPTH, 5),
        dict.fromkeys(map(str, range(MAX_KEYS))),
        [None] * MAX_ITEMS,
        MAX_INTEGER,
        -MAX_INTEGER,
        {"a": [MAX_INTEGER, True, 1e300, "9" * 400]},
    ],
    ids=["depth", "depth with leaf", "keys", "items", "largest", "smallest", "mixed"],
)
def test_what_is_just_within_the_limits_passes(value: Any) -> None:
    check_shape(value, "$.x")


@pytest.mark.parametrize(
    "value",
    [
        nested(MAX_DEPTH + 1),
        dict.fromkeys(map(str, range(MAX_KEYS + 1))),
        [None] * (MAX_ITEMS + 1),
        MAX_INTEGER + 1,
        -MAX_INTEGER - 1,
        {"a": [{"b": 10**4000}]},
        nested(100_000),
    ],
    ids=["depth", "keys", "items", "too large", "too small", "4,000 digits", "bomb"],
)
def test_what_is_just_beyond_the_limits_is_refused(value: Any) -> None:
    with pytest.raises(HubError) as caught:
        check_shape(value, "$.x")
    assert (caught.value.code, caught.value.path) == (ErrorCode.BAD_REQUEST, "$.x")


def _fits(value: Any, depth: int = 1) -> bool:
    match value:
        case dict():
            return len(value) <= 2 and depth <= 3 and all(_fits(each, depth + 1) for each in value.values())
        case list():
            return len(value) <= 2 and depth <= 3 and all(_fits(each, depth + 1) for each in value)
        case bool():
            return True
        case int():
            return abs(value) <= 9
    return True


@given(
    st.recursive(
        st.integers(-12, 12) | st.booleans() | st.text(max_size=1),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner, max_size=3),
    )
)
def test_the_check_of_shape_agrees_with_a_recursive_model(value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:  # small limits, so that examples reach them
        for name, limit in (("DEPTH", 3), ("KEYS", 2), ("ITEMS", 2), ("INTEGER", 9)):
            patch.setattr(f"protocol.codec.MAX_{name}", limit)
        try:
            check_shape(value, "$")
            passed = True
        except HubError:
            passed = False
    assert passed == _fits(value)


@given(st.lists(st.sampled_from(["\\", "\0", "u0000", "0", '"', "a"]), max_size=12).map("".join))
def test_nul_is_refused_and_what_only_looks_like_it_is_not(text: str) -> None:
    try:
        body = encode_body(CustomMessage(type="NOTE", data={"a": text}), key=None, publisher=None)
    except HubError as error:
        assert (error.code, "\0" in text) == (ErrorCode.BAD_REQUEST, True)
    else:
        assert "\0" not in text
        assert json.loads(b"{" + body + b"}") == {"data": {"a": text}}


@pytest.mark.parametrize("value", [msgpack.ExtType(5, b"x"), {("a",): 1}], ids=["extension", "array as key"])
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    raw = msgpack.packb({"type": "NOTE", "data": {"v": value}})
    try:
        message = MSGPACK.message_decoder("NOTE")(raw)
    except msgspec.MsgspecError:
        return
    with pytest.raises(HubError) as caught:
        encode_body(message, key=None, publisher=None)
    assert caught.value.code is ErrorCode.BAD_REQUEST


# --- what must not get into a channel, because not everybody could read it there ---


def _published(message: dict[str, Any], *, codec: Codec = JSON, key: str | None = None) -> bytes:
    decoded = codec.message_decoder(message["type"])(codec.encode(message))
    return publication_json(head(message["type"], "team:a", 1, 1) + encode_body(decoded, key=key, publisher="p"))


@pytest.mark.parametrize("field", ["ext", "artifacts"])
@pytest.mark.parametrize("value", [2**70, nested(40, 1)], ids=["integer", "depth"])
def test_free_objects_inside_an_array_of_data_are_bounded_too(field: str, value: Any) -> None:
    inner: Any = {"n": value}
    update = {"specialist_id": "s", field: inner if field == "ext" else [inner]}
    with pytest.raises(HubError):
        _published({"type": "SPECIALIST_UPDATE", "data": [update]})


@pytest.mark.parametrize("place", ["key", "trace"])
def test_nul_is_refused_wherever_it_stands(place: str) -> None:
    message: dict[str, Any] = {"type": "NOTE", "data": {}} | ({"trace": "\0"} if place == "trace" else {})
    with pytest.raises(HubError):
        _published(message, key="\0" if place == "key" else None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"ab", msgpack.Timestamp(1, 0)], ids=str)
def test_msgpack_values_that_json_does_not_have_are_refused_and_not_changed(value: Any) -> None:
    raw = msgpack.packb({"type": "NOTE", "data": {"v": value}})
    with pytest.raises(HubError):
        encode_body(MSGPACK.message_decoder("NOTE")(raw), key=None, publisher=None)


def types_within(kind: Any, met: set[Any]) -> Iterator[Any]:
    """This type and those of its parts, as they are annotated."""
    yield kind
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind not in met:
            met.add(kind)
            for field in msgspec.structs.fields(kind):
                yield from types_within(field.type, met)
    elif typing.get_origin(kind) is not typing.Annotated or typing.get_args(kind)[0] is not float:
        for each in typing.get_args(kind):
            yield from types_within(each, met)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_no_field_for_a_number_takes_one_that_json_does_not_have(number: float) -> None:
    raw, met = msgpack.packb(number), set[Any]()
    roots = [*COMMANDS, *DATA_TYPES.values(), *(operation.params for operation in OPERATIONS.values())]
    kinds = [kind for root in roots for kind in types_within(root, met)]
    numbers = [kind for kind in kinds if kind is float or (typing.get_args(kind) or (0,))[0] is float]
    assert len(numbers) > 20
    for kind in numbers:
        with pytest.raises(msgspec.ValidationError):
            MSGPACK._decoder(kind)(raw)


@pytest.mark.parametrize("price", ["\u0661\u0662", "1.\u0be7", "\uff11"])
def test_a_decimal_has_ascii_digits(price: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        _published({"type": "PRICE_TICK", "data": {"symbol": "A", "bid": price}})


@pytest.mark.parametrize("offset", ["-1", str(2**53), "1" + "0" * 4000], ids=["negative", "2^53", "4,000 digits"])
def test_an_offset_in_a_command_is_bounded(offset: str) -> None:
    since = f'{{"epoch":"e","offset":{offset}}}'
    [(_, error)] = answers(JSON, f'{{"type":"history","id":1,"channel":"a:b","since":{since}}}')
    assert error.path == "$.since.offset"
