"""What a front end expects of the hub, and what the hub says to it: `contracts.validate`.

A place within a message or a result is a path: `data.blockers[].kind`, `coordination.critical_path`.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocol.fields import ChannelName, ChannelPart, Count, MessageType, Micros, Name, Text, shaped

JsonKind = Literal["string", "integer", "number", "boolean", "object", "array", "null"]
FieldPath = Annotated[
    str, shaped(r"^(\[\]|[^.\[\]]+)(\[\]|\.[^.\[\]]+)*\Z", "a path such as user.mail or items[].id", max_length=256)
]
MethodName = Annotated[str, Meta(min_length=1, max_length=64)]
MOST_EXPECTED = 200


class FieldExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is done with a field. `type`: each JSON type that may be read there, or that is sent.

    `always`: it cannot be read without it. `values`: all that are understood, or all that are sent.
    """

    type: JsonKind | Annotated[list[JsonKind], Meta(min_length=1, max_length=7)] | None = None
    always: bool = False
    values: Annotated[list[Text], Meta(max_length=100)] | None = None


Fields = Annotated[dict[FieldPath, FieldExpectation], Meta(max_length=MOST_EXPECTED)]


class MessageExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is read of messages of a type: paths begin at the publication (`data.state`, `timestamp`)."""

    type: MessageType
    fields: Fields = {}


class CallExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What is sent with a call, and read of its result. `params` are all that are sent; `always`: each time."""

    method: MethodName
    params: Fields = {}
    result: Fields = {}


class ChannelExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The types of messages that are expected in a channel, or published there."""

    channel: ChannelName
    types: Annotated[list[MessageType], Meta(max_length=64)] = []


class ContractExpectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `contracts.validate`: everything that a front end relies on."""

    consumer: Name
    version: Text = ""
    messages: Annotated[list[MessageExpectation], Meta(max_length=MOST_EXPECTED)] = []
    calls: Annotated[list[CallExpectation], Meta(max_length=MOST_EXPECTED)] = []
    channels: Annotated[list[ChannelExpectation], Meta(max_length=MOST_EXPECTED)] = []


ViolationCode = Literal[
    "UNKNOWN_TYPE",
    "UNKNOWN_METHOD",
    "UNKNOWN_CHANNEL",
    "UNKNOWN_FIELD",
    "MISSING_PARAM",
    "WRONG_TYPE",
    "MAY_BE_ABSENT",
    "UNKNOWN_VALUE",
    "NOT_IN_CHANNEL",
]


class Violation(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`at` is the place in the expectation; `did_you_mean` a name of the hub's that is close."""

    code: ViolationCode
    at: Text
    message: Text
    did_you_mean: Text | None = None


class ContractReport(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Result of `contracts.validate`. `valid`: no violation. `checked` counts the fields, types, methods and channels
    that were compared; `unchecked` are the places about which the hub promises nothing, such as free-form objects."""

    consumer: Name
    valid: bool
    violations: list[Violation] = []
    unchecked: list[Text] = []
    checked: Count = 0


class ContractAnnounce(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `contracts.announce`. `contract` names what changes, such as a type, a method or a table."""

    project_id: ChannelPart
    contract: Name
    version: Name
    change: Annotated[str, Meta(min_length=1, max_length=4096)]
    effective_at: Micros


class ContractChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """The data of SCHEMA_CHANGE_ANNOUNCED, and of CONTRACT_CHANGED once it is in force."""

    contract: Name
    version: Name
    change: Text
    effective_at: Micros
    announced_by: Name | None = None
    ts_event: Micros | None = None
