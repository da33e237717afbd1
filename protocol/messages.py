"""Commands, replies and pushes of protocol v1 as typed structs: schema, validation and decoding in one declaration.

A command carries the client's `id` and is answered by exactly one Reply with that id. A push has no id.
Every struct is tagged: the wire field `type` names it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from protocol.close_codes import CloseCode
from protocol.errors import HubError
from protocol.fields import (
    ChannelName,
    CommandId,
    Count,
    IdempotencyKey,
    Key,
    MessageType,
    Micros,
    Millis,
    Name,
    Proof,
    Token,
    TtlMs,
    shaped,
)
from protocol.positions import Position

Kind = Literal["dashboard", "trader", "agent"]
Promise = Literal["durable", "recoverable", "latest"]
Reason = Literal[
    "not_requested",
    "epoch_changed",
    "offset_too_old",
    "history_disabled",
    "limit_exceeded",
    "broker_unavailable",
]
Rewind = (
    Annotated[int, Meta(ge=0, le=10_000, description="that many newest messages")]
    | Annotated[str, shaped(r"^[0-9]{1,9}(ms|s|m|h)\Z", 'an age such as "30s"')]
)


MaxAge = Annotated[int, Meta(ge=1, le=3_600_000, description="milliseconds")]
MinQuality = Literal["LIVE", "DEGRADED", "DISPUTED"]
Verdict = Literal[
    "delivered",
    "waiting",
    "conflated",
    "filtered",
    "expired",
    "dropped",
    "not_permitted",
    "not_subscribed",
    "not_arrived",
    "unknown",
]
SearchMode = Literal["semantic", "text", "hybrid"]


class Filter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Which messages of a channel a subscriber wants. Both lists must let a message pass; None lets all pass."""

    keys: Annotated[list[Key], Meta(min_length=1, max_length=256)] | None = None
    types: Annotated[list[MessageType], Meta(min_length=1, max_length=32)] | None = None


class SubscribeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How to subscribe: the fields of `subscribe` without id and channel, as `connect` carries them."""

    recover: Position | None = None
    rewind: Rewind | None = None
    max_rate: Annotated[float, Meta(gt=0, le=1000, description="messages per second and key")] | None = None
    max_age_ms: MaxAge | None = None
    min_quality: MinQuality | None = None
    filter: Filter | None = None
    presence: bool = False


class RefusedOptions(SubscribeOptions, frozen=True, kw_only=True):
    """Stands in a Connect, and never on the wire, for a subscription whose name or options are wrong."""

    error: HubError


class Command(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True, tag_field="type"
):
    id: CommandId


class Connect(Command, frozen=True, tag="connect"):
    """The first command of a connection. `token` may be left out when the handshake carried `Authorization`."""

    token: Token | None = None
    proof: Proof | None = None
    name: Name | None = None
    kind: Kind | None = None
    version: Name | None = None
    session: Name | None = None
    subscriptions: dict[ChannelName, SubscribeOptions] = {}


class Subscribe(Command, frozen=True, tag="subscribe"):
    channel: ChannelName
    recover: Position | None = None
    rewind: Rewind | None = None
    max_rate: Annotated[float, Meta(gt=0, le=1000)] | None = None
    max_age_ms: MaxAge | None = None
    min_quality: MinQuality | None = None
    filter: Filter | None = None
    presence: bool = False

    def options(self) -> SubscribeOptions:
        return SubscribeOptions(
            recover=self.recover,
            rewind=self.rewind,
            max_rate=self.max_rate,
            max_age_ms=self.max_age_ms,
            min_quality=self.min_quality,
            filter=self.filter,
            presence=self.presence,
        )


class Unsubscribe(Command, frozen=True, tag="unsubscribe"):
    channel: ChannelName


class Presence(Command, frozen=True, tag="presence"):
    channel: ChannelName


class Publish(Command, frozen=True, tag="publish"):
    """`message` stays raw until the channel's namespace has said which types it accepts."""

    channel: ChannelName
    message: msgspec.Raw
    key: Key | None = None
    idempotency_key: IdempotencyKey | None = None
    ttl_ms: TtlMs | None = None
    timing: bool = False


class History(Command, frozen=True, tag="history"):
    channel: ChannelName
    since: Position | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    reverse: bool = False


class Replay(Command, frozen=True, tag="replay"):
    """Stored messages once more, in the order of their time. Without `to` the channels are joined at the end.

    `speed` 1 is the pace at which they were published, 0 as fast as the reader takes them.
    """

    channels: Annotated[list[ChannelName], Meta(min_length=1, max_length=16)]
    from_: Millis = msgspec.field(name="from")
    to: Millis | None = None
    speed: Annotated[float, Meta(ge=0, le=1000)] = 1.0


class Explain(Command, frozen=True, tag="explain"):
    """What became of a message for the caller's connections on this node.

    `client`: for that connection only. Somebody else's needs the role admin.
    """

    channel: ChannelName
    offset: Annotated[int, Meta(ge=1, le=2**53 - 1)]
    client: Name | None = None


class Search(Command, frozen=True, tag="search"):
    query: Annotated[str, Meta(min_length=1, max_length=2000)]
    channel: ChannelName | None = None
    mode: SearchMode = "hybrid"
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class Call(Command, frozen=True, tag="call"):
    """An operation of one of the domains, such as `orders.submit`."""

    method: Annotated[
        str, shaped(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\Z", "a method such as orders.submit", max_length=64)
    ]
    params: dict[str, Any] = {}


class Refresh(Command, frozen=True, tag="refresh"):
    token: Token
    proof: Proof | None = None


class Pong(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="pong"):
    """Answers a Ping with its `time`. Carries no id and gets no reply."""

    time: Millis


AnyCommand = (
    Connect | Subscribe | Unsubscribe | Presence | Publish | History | Replay | Explain | Search | Call | Refresh | Pong
)


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    code: int
    name: str
    message: str
    temporary: bool
    retry_after_ms: int | None = None
    path: str | None = None

    @classmethod
    def of(cls, error: HubError) -> ErrorBody:
        code = error.code
        return cls(
            code=code.value,
            name=code.wire_name,
            message=error.message,
            temporary=code.temporary,
            retry_after_ms=error.retry_after_ms,
            path=error.path,
        )


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="reply"):
    """Exactly one of `result` and `error` is set. `id` 0 answers a frame that could not be read as a command."""

    id: int
    result: Any | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """One connection present in a channel."""

    client: str
    user: str
    kind: str | None = None
    name: str | None = None


class SubscribeResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Where the subscription starts, what it promises, and what was missed.

    `recovered` true: `messages` continue the given position gaplessly and in order. False: `reason` says why,
    and `messages` hold the current snapshot (latest values), what `rewind` asked for, or nothing.
    """

    channel: str
    epoch: str
    offset: int
    promise: Promise
    recovered: bool
    messages: list[msgspec.Raw]
    reason: Reason | None = None
    members: list[Member] | None = None


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a client must stay within; each number is enforced. 0, or absent: not limited in that."""

    max_message_bytes: int
    max_subscriptions: int
    max_commands_in_flight: int
    max_publishes_per_s: int
    outbox_bytes: int
    max_bytes_per_s: int = 0
    max_subscribes_per_s: int = 0
    max_reads_per_s: int = 0


class Connected(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `connect`. A subscription that failed holds {error} instead of a SubscribeResult."""

    client: str
    session: str
    user: str
    node: str
    version: str
    expires_at: int | None = None
    ping_interval_ms: int
    limits: Limits
    server_time: int
    subscriptions: dict[str, Any]


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """When the hub read a publish, had checked it, and had placed it, by the hub's clock."""

    received: Micros
    checked: Micros
    placed: Micros


class Published(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `publish`. `duplicate`: this idempotency key was published before; the position is the original's."""

    channel: str
    epoch: str
    offset: int
    timestamp: int
    duplicate: bool = False
    timing: Timing | None = None


class HistoryResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`epoch` and `offset` are the channel's newest position; `more` says that the limit cut the answer short."""

    channel: str
    epoch: str
    offset: int
    messages: list[msgspec.Raw]
    more: bool


class ReplayResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Sent at the end. `subscriptions`, of a replay without `to`, are as in Connected and continue what was replayed;
    a channel that was left meanwhile is not among them."""

    replayed: int
    subscriptions: dict[str, Any] = {}


class Explained(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One connection's verdict and, for people, why. `by`: the offset of the value that took its place."""

    client: str
    verdict: Verdict
    reason: str
    by: int | None = None
    rtt_ms: int | None = None


class ExplainResult(msgspec.Struct, frozen=True, kw_only=True):
    channel: str
    offset: int
    connections: list[Explained]


class SearchHit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`offset` and `epoch` are a message's place in its channel: `history` and `recover` go on from there.

    `score` compares the hits of one answer and nothing else.
    """

    kind: Literal["message", "knowledge", "insight", "session"]
    channel: str
    timestamp: int
    type: str
    snippet: str
    score: float
    offset: int | None = None
    epoch: str | None = None
    publisher: str | None = None


class SearchResult(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The best hits first. `embedding_kind` says what the vectors can do: a lexical one knows no synonyms.

    `degraded` says why `mode` is not the one that was asked for.
    """

    hits: list[SearchHit]
    mode: SearchMode
    embedding_model: str | None = None
    embedding_kind: Literal["semantic", "lexical"] | None = None
    degraded: str | None = None


class PresenceResult(msgspec.Struct, frozen=True, kw_only=True):
    channel: str
    members: list[Member]


class Unsubscribed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="unsubscribed"):
    """The hub ended a subscription."""

    channel: str
    code: int
    reason: str


class PresenceDiff(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="presence_diff"):
    channel: str
    joins: list[Member]
    leaves: list[Member]


class Notice(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type", tag="notice"):
    """Something the client should know and need not answer."""

    code: Literal["conflating", "outbox_high", "token_expiring", "latency_slo", "degraded", "restored"]
    channel: str | None = None
    detail: str


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    time: Millis


class Disconnect(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type", tag="disconnect"):
    """Sent just before the close frame that carries the same code."""

    code: int
    reason: str
    reconnect: bool
    retry_after_ms: int | None = None

    @classmethod
    def of(cls, code: CloseCode, retry_after_ms: int | None = None, reason: str | None = None) -> Disconnect:
        return cls(
            code=code.value,
            reason=reason or code.reason,
            reconnect=code.reconnect,
            retry_after_ms=retry_after_ms,
        )


class Publication(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A message of a channel as a client reads it. `type` is the domain type, so this struct is not tagged.

    `epoch` is present when it changed; `skipped` counts the values of this key that were merged into this one.
    """

    type: MessageType
    channel: ChannelName
    offset: Count
    timestamp: Millis
    data: Any
    epoch: str | None = None
    key: str | None = None
    publisher: str | None = None
    skipped: int = 0
    trace: str | None = None
    coordination: dict[str, Any] | None = None
