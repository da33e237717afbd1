"""Bytes to typed messages and back, in JSON and msgpack. Decoding validates in the same step.

A publication is encoded once per format. Its *body* is a JSON fragment without braces, `"data":{...},"key":"..."`,
made before the offset is known; wire bytes are the head (type, channel, offset, timestamp) spliced onto it.
JSON is the canonical form: it is what brokers and the durable log carry.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, TypeVar, get_args

import msgspec
import orjson

from protocol import SUBPROTOCOL_JSON, SUBPROTOCOL_MSGPACK, frames
from protocol.errors import ErrorCode, HubError
from protocol.fields import EXPECTED, ChannelName
from protocol.messages import AnyCommand, Connect, RefusedOptions, SubscribeOptions
from protocol.nulls import opened, without_nulls
from protocol.vocabulary import MESSAGE_TYPES, CustomMessage, Message

MAX_FRAME_BYTES = 512 * 1024
TRACE = b',"trace":'
TRACEPARENT_BYTES = 55
MAX_DEPTH = 32
MAX_KEYS = 256
MAX_ITEMS = 10_000
MAX_INTEGER = 2**53 - 1
MAX_ERROR_TEXT = 128

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What decoding raises for input that is wrong."""

T = TypeVar("T")
COMMANDS: dict[Any, type[AnyCommand]] = {kind.__struct_config__.tag: kind for kind in get_args(AnyCommand)}
_PATH = re.compile(r"(.*) - at (`key` in )?`(.*)`\Z", re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class _Peek(msgspec.Struct):
    """What can be told of a message that failed to decode."""

    type: Any = None
    id: Any = None


class Codec:
    """One wire format. Two instances exist: JSON and MSGPACK."""

    def __init__(
        self,
        name: str,
        *,
        subprotocol: str,
        opcode: int,
        decoder: Callable[[Any], Any],
        encode: Callable[[Any], bytes],
        array: Callable[[Sequence[bytes]], bytes],
    ) -> None:
        self.name = name
        self.subprotocol = subprotocol
        self.opcode = opcode
        self.encode = encode
        self.array = array
        self._decoder = decoder
        self._null = encode(None)
        self._frame: Callable[[Any], AnyCommand | list[AnyCommand]] = decoder(AnyCommand | list[AnyCommand])
        self._one: Callable[[Any], AnyCommand] = decoder(AnyCommand)
        self._raws: Callable[[Any], msgspec.Raw | list[msgspec.Raw]] = decoder(list[msgspec.Raw])
        self._fields: Callable[[Any], dict[str, msgspec.Raw]] = decoder(dict[str, msgspec.Raw])
        self._peek: Callable[[Any], _Peek] = decoder(_Peek)
        # one entry per listed type, filled when it is first needed: a publisher's own names are without number
        self._messages: dict[str, Callable[[Any], Message] | None] = dict.fromkeys(MESSAGE_TYPES)
        self._custom: Callable[[Any], Message] = decoder(CustomMessage)

    def decode(self, payload: bytes | str) -> list[AnyCommand | tuple[int, HubError]]:
        """The commands of one frame, in order; each that is wrong stands as (id, error), id 0 where none was read."""
        try:
            decoded = self._frame(payload)
        except UNREADABLE:
            return self._decode_singly(payload)
        return decoded if isinstance(decoded, list) else [decoded]  # type: ignore[return-value]

    def _decode_singly(self, payload: bytes | str) -> list[AnyCommand | tuple[int, HubError]]:
        """The slow path of a frame with something wrong in it: its other messages still count."""
        try:
            raws: Any = self._raws(payload)
        except UNREADABLE:
            raws = [payload]
        if not raws:
            return []
        return [self._decode_one(raw) for raw in raws]

    def _decode_one(self, raw: Any) -> AnyCommand | tuple[int, HubError]:
        try:
            return self._one(raw)
        except UNREADABLE as failure:
            try:
                peek = self._peek(raw)
            except UNREADABLE:
                return 0, HubError(ErrorCode.BAD_REQUEST, f"this is not a {self.name} message or array of messages")
            known = isinstance(peek.id, int) and not isinstance(peek.id, bool) and 0 < peek.id <= MAX_INTEGER
            kind = COMMANDS.get(peek.type) if isinstance(peek.type, str) else None
            try:
                return self._command(raw, kind, failure)
            except HubError as error:
                return (peek.id if known else 0), error

    def _command(self, raw: Any, kind: type[AnyCommand] | None, failure: Exception) -> AnyCommand:
        """A command that failed to decode, where it can be understood all the same. Raises HubError."""
        if kind is None and isinstance(failure, msgspec.ValidationError):
            raise HubError(ErrorCode.UNKNOWN_TYPE, "unknown or missing command type", path="$.type")
        try:
            command: AnyCommand = self.decode_again(raw, kind, failure)
        except HubError as error:
            if kind is not Connect or not (error.path or "").startswith("$.subscriptions"):
                raise
            try:
                fields = self._fields(raw)
                subscriptions = self._fields(fields.pop("subscriptions"))
            except UNREADABLE:
                raise error from None
            command = self.read(self.encode(fields), Connect)
            options = {channel: self._options(channel, each) for channel, each in subscriptions.items()}
            command = msgspec.structs.replace(command, subscriptions=options)
        return command

    def _options(self, channel: str, options: msgspec.Raw) -> SubscribeOptions:
        """Those of one subscription of `connect`, with the errors of `subscribe`."""
        try:
            converted(channel, ChannelName, "$.channel")
            read: SubscribeOptions = self.read(options, SubscribeOptions)
        except HubError as error:
            return RefusedOptions(error=error)
        return read

    def read(self, raw: Any, kind: Any) -> Any:
        """Anything else than a frame, as `kind`. Raises HubError, as `decode_error`."""
        try:
            return self._decoder(kind)(raw)
        except UNREADABLE as failure:
            return self.decode_again(raw, kind, failure)

    def decode_again(self, raw: Any, kind: Any, failure: Exception, prefix: str = "$") -> Any:
        """What failed to decode as `kind`, without the nulls of optional fields. Raises HubError, as `decode_error`."""
        whole = msgspec.Raw(raw)
        if isinstance(failure, msgspec.ValidationError) and self._null in bytes(whole):
            try:
                return self._decoder(kind)(self.encode(without_nulls(whole, kind, self._opened)))
            except UNREADABLE as failed:
                failure = failed
        raise decode_error(failure, prefix) from None

    def _opened(self, value: Any, shape: type[Any]) -> Any:
        if not isinstance(value, msgspec.Raw):
            return opened(value, shape)
        try:
            return self._fields(value) if shape is dict else self._raws(value)
        except UNREADABLE:
            return None

    def message_decoder(self, type_name: str) -> Callable[[Any], Message]:
        """A decoder for messages of one domain type."""
        found = self._messages.get(type_name, self._custom)
        return found if found is not None else self._make_message_decoder(type_name)

    def _make_message_decoder(self, type_name: str) -> Callable[[Any], Message]:
        decode: Callable[[Any], Message] = self._decoder(MESSAGE_TYPES[type_name])
        self._messages[type_name] = decode
        return decode

    def peek_type(self, raw: Any) -> str:
        """The `type` of a message. Raises HubError(schema_invalid) when there is none."""
        try:
            peek = self._peek(raw)
        except UNREADABLE:
            raise HubError(ErrorCode.SCHEMA_INVALID, "expected an object", path="$.message") from None
        if not isinstance(peek.type, str):
            raise HubError(ErrorCode.SCHEMA_INVALID, "a message needs a `type`", path="$.message.type")
        return peek.type

    def frame(self, parts: Sequence[bytes]) -> bytes:
        """Encoded messages as one WebSocket frame, or several where one would be too large for cautious clients."""
        if len(parts) < 2 or sum(map(len, parts)) <= MAX_FRAME_BYTES:
            return frames.frame(self.array(parts), self.opcode)
        middle = len(parts) // 2
        return self.frame(parts[:middle]) + self.frame(parts[middle:])


def decode_error(failure: Exception, prefix: str = "$") -> HubError:
    """A decoding failure as the peer should read it: what was expected and where, never the value."""
    if isinstance(failure, RecursionError):
        return HubError(ErrorCode.BAD_REQUEST, "nested too deeply")
    if not isinstance(failure, msgspec.ValidationError):
        return HubError(ErrorCode.BAD_REQUEST, "malformed message")
    text = str(failure)
    match = _PATH.match(text)
    expected, path = (match[1], prefix + match[3][1:]) if match else (text, prefix)
    if match and match[2] and expected.startswith("Expected `str`, got"):
        return HubError(ErrorCode.BAD_REQUEST, "the keys of an object are strings", path=path)
    expected = EXPECTED.get(expected, expected)
    if expected.startswith("Invalid"):  # msgspec quotes the value, which may be anything
        expected = "Invalid value"
    elif len(expected) > MAX_ERROR_TEXT:  # and the name of a field, which may be as long as the message
        expected = "Object contains unknown field"
    return HubError(ErrorCode.SCHEMA_INVALID, expected, path=path)


def converted(value: Any, kind: Any, prefix: str = "$", *, strict: bool = True) -> Any:
    """Decoded data as a `kind`, in which null for an optional field leaves it out. Raises HubError(schema_invalid)."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError:
        try:
            return msgspec.convert(without_nulls(value, kind), kind, strict=strict)
        except msgspec.ValidationError as failure:
            raise decode_error(failure, prefix) from None


def check_shape(value: Any, path: str) -> None:
    """Bounds on free-form data: what JSON can say, depth, keys, items, integers a browser can hold. Raises HubError."""
    stack = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        kind = type(item)
        if kind is dict:
            if len(item) > MAX_KEYS:
                raise HubError(ErrorCode.BAD_REQUEST, f"an object has at most {MAX_KEYS} keys", path=path)
            if not all(type(key) is str for key in item):
                raise HubError(ErrorCode.BAD_REQUEST, "the keys of an object are strings", path=path)
            children: Any = item.values()
        elif kind is list:
            if len(item) > MAX_ITEMS:
                raise HubError(ErrorCode.BAD_REQUEST, f"an array has at most {MAX_ITEMS} items", path=path)
            children = item
        elif kind is int:
            if not -MAX_INTEGER <= item <= MAX_INTEGER:
                raise HubError(ErrorCode.BAD_REQUEST, "integers lie within 2^53; send others as strings", path=path)
            continue
        elif item is None or kind is str or kind is bool or (kind is float and isfinite(item)):
            continue
        else:  # msgpack knows binary, timestamps and infinities
            raise HubError(ErrorCode.BAD_REQUEST, "data must be representable as JSON", path=path)
        if depth > MAX_DEPTH:
            raise HubError(ErrorCode.BAD_REQUEST, f"nested deeper than {MAX_DEPTH}", path=path)
        stack.extend((child, depth + 1) for child in children)


def _free_fields(kind: type) -> tuple[str, ...]:
    """The fields of a struct that hold free-form data."""
    found = _FREE_FIELDS.get(kind)
    if found is None:
        found = tuple(field.name for field in msgspec.structs.fields(kind) if "Any" in str(field.type))
        _FREE_FIELDS[kind] = found
    return found


_FREE_FIELDS: dict[type, tuple[str, ...]] = {}  # one entry per struct of the vocabulary


def _check_free_data(data: Any) -> None:
    if isinstance(data, dict):
        check_shape(data, "$.message.data")
    elif isinstance(data, list):
        for item in data:
            _check_free_data(item)
    else:
        for name in _free_fields(type(data)):
            if value := getattr(data, name):
                check_shape(value, f"$.message.data.{name}")


def encode_body(message: Message, *, key: str | None, publisher: str | None) -> bytes:
    """A publication's body: the JSON fragment that follows its head. Raises HubError for what cannot be carried."""
    _check_free_data(message.data)
    body = b'"data":' + msgspec.json.encode(message.data)
    if message.coordination is not None:
        check_shape(message.coordination, "$.message.coordination")
        body += b',"coordination":' + msgspec.json.encode(message.coordination)
    if key is not None:
        body += b',"key":' + orjson.dumps(key)
    if publisher is not None:
        body += b',"publisher":' + orjson.dumps(publisher)
    if message.trace is not None:
        body += TRACE + orjson.dumps(message.trace)  # last: see `trace_of`
    if b"\\u0000" in body:
        refuse_nul(body, "$.message")
    return body


def trace_of(body: bytes) -> bytes:
    """The W3C traceparent of a publication's body; empty where there is none, or something else."""
    found = body[-TRACEPARENT_BYTES - 1 : -1]
    return found if body[-TRACEPARENT_BYTES - 2 - len(TRACE) : -TRACEPARENT_BYTES - 1] == TRACE + b'"' else b""


def without_trace(body: bytes) -> bytes:
    """What makes two publications the same: who traces one adds nothing to it."""
    return body[: -TRACEPARENT_BYTES - 2 - len(TRACE)] if trace_of(body) else body


def refuse_nul(encoded: bytes, path: str) -> None:
    """JSON can say NUL, and Postgres cannot keep it. Raises HubError."""
    if _NUL.search(encoded):
        raise HubError(ErrorCode.BAD_REQUEST, "text must not contain NUL", path=path)


def head(type_name: str, channel: str, offset: int, timestamp: int) -> bytes:
    """The JSON opening of a publication, up to where its body follows.

    Both names passed grammars without quotes, backslashes or controls, so they need no escaping.
    """
    return f'{{"type":"{type_name}","channel":"{channel}","offset":{offset},"timestamp":{timestamp},'.encode()


def place_mark(codec: Codec, channel: str, offset: int) -> bytes:
    """The bytes by which the head of an encoded publication says its place."""
    if codec is JSON:
        return f'"channel":"{channel}","offset":{offset},"timestamp":'.encode()
    return b"".join(map(msgspec.msgpack.encode, ("channel", channel, "offset", offset, "timestamp")))


def publication_json(head_and_body: bytes, *, epoch: str | None = None, skipped: int = 0) -> bytes:
    """A complete publication from head and body, with the fields that only some deliveries carry."""
    if epoch is not None:
        head_and_body += b',"epoch":' + orjson.dumps(epoch)
    if skipped:
        head_and_body += b',"skipped":%d' % skipped
    return head_and_body + b"}"


def publication_msgpack(publication: bytes) -> bytes:
    """The msgpack twin of a complete JSON publication."""
    return msgspec.msgpack.encode(msgspec.json.decode(publication))


def _json_decoder(kind: Any) -> Callable[[Any], Any]:
    return msgspec.json.Decoder(kind).decode


def _msgpack_decoder(kind: Any) -> Callable[[Any], Any]:
    return msgspec.msgpack.Decoder(kind).decode


JSON = Codec(
    "JSON",
    subprotocol=SUBPROTOCOL_JSON,
    opcode=frames.TEXT,
    decoder=_json_decoder,
    encode=msgspec.json.encode,
    array=frames.json_array,
)
MSGPACK = Codec(
    "msgpack",
    subprotocol=SUBPROTOCOL_MSGPACK,
    opcode=frames.BINARY,
    decoder=_msgpack_decoder,
    encode=msgspec.msgpack.encode,
    array=frames.msgpack_array,
)
CODECS = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
