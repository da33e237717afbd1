"""What comes from the hub, decoded in one step, and what the application gets of it."""

from __future__ import annotations

import builtins
from typing import Any, TypeVar, overload

import msgspec

from protocol.codec import JSON, MSGPACK, Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import ErrorBody, ExplainResult, Limits, Member, Promise, Published
from protocol.positions import Position
from protocol.vocabulary import DATA_TYPES

T = TypeVar("T")

NOTHING = msgspec.Raw()


class Disconnected(ConnectionError):
    """The connection has ended for good. `code` is the WebSocket close code, or the HTTP status of a refused handshake.

    1000 means that the application itself closed the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{int(code)} {reason}")
        self.code = int(code)
        self.reason = reason

    def again(self) -> Disconnected:
        """One of its own for each who waits: a traceback belongs to one place."""
        copy = Disconnected(self.code, self.reason)
        copy.__cause__ = self.__cause__
        return copy


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """Any message from the hub: `type` decides which of the fields mean something.

    Publications carry a domain type and cannot be told apart by a tag, so one wide struct decodes them all at once.
    """

    type: str
    id: int = 0
    channel: str = ""
    offset: int = 0
    timestamp: int = 0
    data: Any = None
    epoch: str | None = None
    key: str | None = None
    publisher: str | None = None
    skipped: int = 0
    trace: str | None = None
    coordination: dict[str, Any] | None = None
    result: msgspec.Raw = NOTHING
    error: ErrorBody | None = None
    time: int = 0
    code: int | str = 0
    reason: str = ""
    detail: str = ""
    reconnect: bool = True
    retry_after_ms: int | None = None
    joins: list[Member] = []
    leaves: list[Member] = []


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """A SubscribeResult, or the `error` that stands in its place in the result of `connect`."""

    epoch: str = ""
    offset: int = 0
    promise: Promise = "recoverable"
    recovered: bool = False
    reason: str | None = None
    messages: list[Incoming] = []
    members: list[Member] = []
    error: ErrorBody | None = None


class Connected(msgspec.Struct, frozen=True, kw_only=True):
    """The result of `connect`."""

    client: str
    session: str
    user: str
    node: str
    version: str
    ping_interval_ms: int
    server_time: int
    limits: Limits
    expires_at: int | None = None
    subscriptions: dict[str, Joined] = {}


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    epoch: str
    offset: int
    messages: list[Incoming]
    more: bool


class Members(msgspec.Struct, frozen=True, kw_only=True):
    members: list[Member]


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    expires_at: int | None = None


class Message(msgspec.Struct, frozen=True):
    """One message of a channel.

    `data` is plain JSON-like Python. `timestamp` is in milliseconds UTC. `skipped` tells how many older values of this
    `key` the hub merged into this one, which only happens in channels of the class `latest` and under `max_rate`.
    """

    type: str
    channel: str
    offset: int
    epoch: str
    timestamp: int
    data: Any
    key: str | None = None
    publisher: str | None = None
    skipped: int = 0
    trace: str | None = None
    coordination: dict[str, Any] | None = None

    @property
    def position(self) -> Position:
        """Store it together with the effect of the message, and subscribe with `recover` from there."""
        return Position(self.epoch, self.offset)

    @overload
    def typed(self) -> Any: ...

    @overload
    def typed(self, kind: builtins.type[T]) -> T: ...

    def typed(self, kind: Any = None) -> Any:
        """`data` as the struct of `protocol.vocabulary` for this type, or as it is for a custom type; or as a `kind` of
        your own choice: a struct, dataclass or TypedDict.

        Raises msgspec.ValidationError when the data does not fit, as from a hub with a newer vocabulary.
        """
        kind = kind or DATA_TYPES.get(self.type)
        return self.data if kind is None else msgspec.convert(self.data, kind)


class History(msgspec.Struct, frozen=True):
    """`epoch` and `offset` are the channel's newest position; `more` says that the limit cut the answer short."""

    channel: str
    epoch: str
    offset: int
    messages: list[Message]
    more: bool


def message_of(incoming: Incoming, epoch: str) -> Message:
    return Message(
        incoming.type,
        incoming.channel,
        incoming.offset,
        epoch,
        incoming.timestamp,
        incoming.data,
        incoming.key,
        incoming.publisher,
        incoming.skipped,
        incoming.trace,
        incoming.coordination,
    )


def hub_error(body: ErrorBody) -> HubError:
    """An error reply as an exception. A code this client does not know keeps its name in the text."""
    try:
        code = ErrorCode(body.code)
        text = body.message
    except ValueError:
        code = ErrorCode.INTERNAL if body.temporary else ErrorCode.BAD_REQUEST
        text = f"{body.name}: {body.message}"
    return HubError(code, text, path=body.path, retry_after_ms=body.retry_after_ms)


class Format:
    """One wire format as a client speaks it."""

    def __init__(
        self, codec: Codec, decoder: type[msgspec.json.Decoder[Any]] | type[msgspec.msgpack.Decoder[Any]]
    ) -> None:
        self.codec = codec
        self.text = codec is JSON
        self._frame = decoder(Incoming | list[Incoming]).decode
        self.any = decoder(Any).decode
        self.connected = decoder(Connected).decode
        self.joined = decoder(Joined).decode
        self.published = decoder(Published).decode
        self.history = decoder(HistoryPage).decode
        self.members = decoder(Members).decode
        self.explained = decoder(ExplainResult).decode
        self.refreshed = decoder(Refreshed).decode

    def frame(self, payload: bytes) -> list[Incoming]:
        """The messages of one frame. Raises msgspec.MsgspecError."""
        decoded: Incoming | list[Incoming] = self._frame(payload)
        return decoded if isinstance(decoded, list) else [decoded]


FORMATS = {
    "json": Format(JSON, msgspec.json.Decoder),
    "msgpack": Format(MSGPACK, msgspec.msgpack.Decoder),
}
