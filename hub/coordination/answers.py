"""The answer a question admits, as a subset of JSON Schema. Rule: what cannot be checked is refused, never let pass.

There is no `pattern`: an expression of a peer's could keep the hub busy for as long as the peer likes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from protocol.errors import ErrorCode, HubError
from protocol.fields import Count, Text

JsonType = Literal["object", "array", "string", "number", "integer", "boolean", "null"]

MAX_DEPTH = 8


class AnswerSchema(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"):
    """The keywords mean what JSON Schema 2020-12 says; any other keyword is unknown here."""

    type: JsonType | None = None
    title: Text = ""
    description: Text = ""
    enum: list[Any] | None = None
    const: Any | UnsetType = UNSET
    properties: dict[str, AnswerSchema] = {}
    required: list[str] = []
    additional_properties: bool = True
    items: AnswerSchema | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    min_length: Count = 0
    max_length: Count | None = None
    min_items: Count = 0
    max_items: Count | None = None


def read_schema(schema: Mapping[str, Any]) -> AnswerSchema:
    """Raises HubError(schema_invalid) for a keyword the hub does not check, or nesting beyond `MAX_DEPTH`."""
    try:
        read = msgspec.convert(schema, AnswerSchema)
    except msgspec.ValidationError as failure:
        message = "The hub cannot check answers against this schema."
        raise HubError(ErrorCode.SCHEMA_INVALID, message, path="$.params.response_schema") from failure
    if _depth(read) > MAX_DEPTH:
        raise HubError(ErrorCode.SCHEMA_INVALID, "The schema is nested too deep.", path="$.params.response_schema")
    return read


def check_answer(schema: AnswerSchema, value: Any, *, path: str = "$.params.payload") -> None:
    """Raises HubError(schema_invalid) with the path of what does not fit."""
    if schema.type is not None and not _is_a(value, schema.type):
        raise _unfit(path, f"Expected {schema.type}.")
    if schema.const is not UNSET and not same_json(value, schema.const):
        raise _unfit(path, "Expected another value.")
    if schema.enum is not None and not any(same_json(value, each) for each in schema.enum):
        raise _unfit(path, "Expected one of the values of the schema.")
    match value:
        case bool():
            pass
        case int() | float():
            _check_size(value, schema.minimum, schema.maximum, path)
        case str():
            _check_size(len(value), schema.min_length, schema.max_length, path)
        case list():
            _check_size(len(value), schema.min_items, schema.max_items, path)
            if schema.items is not None:
                for index, each in enumerate(value):
                    check_answer(schema.items, each, path=f"{path}[{index}]")
        case dict():
            _check_object(schema, value, path)


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal. To Python `true` is 1; to JSON it is not."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
        case list(), list():
            return len(one) == len(other) and all(map(same_json, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _check_object(schema: AnswerSchema, value: dict[str, Any], path: str) -> None:
    for name in schema.required:
        if name not in value:
            raise _unfit(f"{path}.{name}", "This field is required.")
    for name, each in value.items():
        if name in schema.properties:
            check_answer(schema.properties[name], each, path=f"{path}.{name}")
        elif not schema.additional_properties:
            raise _unfit(path, "A field is not in the schema.")


def _check_size(size: float, least: float | None, most: float | None, path: str) -> None:
    # Written so that NaN, which compares with nothing, does not fit.
    if (least is not None and not size >= least) or (most is not None and not size <= most):
        raise _unfit(path, "Out of the schema's bounds.")


def _is_a(value: Any, expected: JsonType) -> bool:
    match expected:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "null":
            return value is None
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "integer":
            return not isinstance(value, bool) and (
                isinstance(value, int) or (isinstance(value, float) and value.is_integer())
            )


def _depth(schema: AnswerSchema) -> int:
    inner = [*schema.properties.values(), *([schema.items] if schema.items is not None else [])]
    return 1 + max(map(_depth, inner), default=0)


def _unfit(path: str, message: str) -> HubError:
    return HubError(ErrorCode.SCHEMA_INVALID, message, path=path)
