"""Null for an optional field means that the field is left out.

The structs have no such null: each field has one type. It is taken out once decoding has failed, so that what is right
at once costs nothing.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec

NULLS = (None, msgspec.Raw(b"null"), msgspec.Raw(b"\xc0"))

Opened = Callable[[Any, type[Any]], Any]
"""(value, dict or list) -> its parts as one of those; None where it is something else."""


class _Field(NamedTuple):
    """`left_out`: by null. `inner`: the type of the structs in it; None where there are none."""

    left_out: bool
    inner: Any


def opened(value: Any, shape: type[Any]) -> Any:
    """The parts of what is decoded already."""
    return value if isinstance(value, shape) else None


def without_nulls(value: Any, kind: Any, opened: Opened = opened) -> Any:
    """`value` without the nulls of optional fields, as far as it looks like a `kind`. Free-form data keeps its own."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return without_nulls(value, arguments[0], opened)
    if origin in (typing.Union, types.UnionType):
        for each in arguments:
            value = without_nulls(value, each, opened)
    elif origin is list and (items := opened(value, list)) is not None:
        return [without_nulls(each, arguments[0], opened) for each in items]
    elif origin is dict and (entries := opened(value, dict)) is not None:
        return {name: without_nulls(each, arguments[1], opened) for name, each in entries.items()}
    elif _is_struct(kind) and (entries := opened(value, dict)) is not None:
        return _without_nulls(entries, _fields(kind), opened)
    return value


def _without_nulls(entries: dict[str, Any], fields: dict[str, _Field], opened: Opened) -> dict[str, Any]:
    left = {}
    for name, value in entries.items():
        field = fields.get(name, UNKNOWN)
        if not (field.left_out and value in NULLS):
            left[name] = value if field.inner is None else without_nulls(value, field.inner, opened)
    return left


UNKNOWN = _Field(left_out=False, inner=None)


@functools.cache
def _fields(struct: type[msgspec.Struct]) -> dict[str, _Field]:
    return {
        field.encode_name: _Field(
            left_out=not field.required and not _takes_null(field.type),
            inner=field.type if _holds_structs(field.type) else None,
        )
        for field in msgspec.structs.fields(struct)
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _takes_null(kind: Any) -> bool:
    """Or tells what is absent from all that may be said: there, null is never a guess of ours."""
    return kind in (Any, types.NoneType, msgspec.Raw, msgspec.UnsetType) or (
        typing.get_origin(kind) in (typing.Union, types.UnionType) and any(map(_takes_null, typing.get_args(kind)))
    )


def _holds_structs(kind: Any) -> bool:
    return _is_struct(kind) or any(map(_holds_structs, typing.get_args(kind)))
