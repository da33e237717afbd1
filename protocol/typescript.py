"""The protocol as TypeScript: each message type's data, what each method takes and answers, the results of commands.

`python -m protocol.typescript > hub/dashboard/protocol.d.ts`; a test holds that file against this module.

What comes from a hub leaves defaults out, so that whatever has one is optional, and null only where it means something.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec

import protocol
from protocol import fields, messages, risk, trading
from protocol.errors import ErrorCode
from protocol.operations import OPERATIONS, NoParams
from protocol.positions import Position
from protocol.vocabulary import DATA_TYPES

LINE = 120
MET = (
    Position,
    messages.Kind,
    messages.Connected,
    messages.ErrorBody,
    messages.ExplainResult,
    messages.Filter,
    messages.HistoryResult,
    messages.Notice,
    messages.PresenceResult,
    messages.Publication,
    messages.Published,
    messages.SearchResult,
    messages.SubscribeOptions,
    messages.SubscribeResult,
)
"""What is neither a message's data nor a method's, and a client meets all the same."""

NAMES = {trading.Position: "AccountPosition", risk.ApprovalState: "OrderApproval"}
"""Structs that have the name of something else."""

NUMBERS = ("DecimalString", "Quantity", "Micros", "Millis")
"""Of the shared field types those that say a unit."""

CHOICES = {"Kind": "ClientKind", "Presence": "SpecialistPresence", "Promise": "Promised", "Reason": "RecoveryReason"}
"""Names of choices that say too little without their module, or something else in TypeScript."""

PLAIN = {str: "string", int: "number", float: "number", bool: "boolean", types.NoneType: "null", Any: "any"}


def declarations() -> str:
    """The declarations as one module of TypeScript, without anything that runs."""
    return "\n\n".join(_Module().blocks()) + "\n"


class _Module:
    def __init__(self) -> None:
        self._structs: dict[str, type[msgspec.Struct]] = {}
        self._choices: dict[str, Any] = {}
        self._names = _aliases()

    def blocks(self) -> Iterator[str]:
        data = _members({name: self.of(kind) for name, kind in DATA_TYPES.items()})
        methods = _members(
            {
                f'"{name}"': f"{{ params: {self._params(each.params)}; result: {self.of(each.result)} }}"
                for name, each in OPERATIONS.items()
            }
        )
        for each in MET:
            self.of(each)
        structs = {name: self._declare(name, struct) for name, struct in _settled(self._structs)}
        if both := structs.keys() & self._choices.keys():
            raise ValueError(f"a struct and a choice are called {both}")
        yield "// Krin's protocol, made by `python -m protocol.typescript` from the structs of protocol/. Do not edit."
        for name in NUMBERS:
            kind = getattr(fields, name)
            yield f"/** {_description(kind)} */\nexport type {name} = {PLAIN[typing.get_args(kind)[0]]};"
        for name, kind in sorted(self._choices.items()):
            yield f"export type {name} ={_union(map(_literal, typing.get_args(kind)), 2)};"
        names = _union((_literal(code.wire_name) for code in ErrorCode), 2)
        yield f"/** The `name` of an error of the hub. */\nexport type ErrorName ={names};"
        for _, block in sorted(structs.items()):
            yield block
        yield f"/** The `data` of each message type. */\nexport interface DataTypes {{\n{data}\n}}"
        yield f"/** What each method of `call` takes and answers. */\nexport interface Methods {{\n{methods}\n}}"

    def of(self, kind: Any) -> str:
        """A type of Python as one of TypeScript; the structs and choices that it names are declared."""
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if name := self._names.get(kind):
            if origin is Literal:
                self._choices[name] = kind
            return name
        if origin is Annotated:
            return self.of(arguments[0])
        if origin is Literal:
            return " | ".join(map(_literal, arguments))
        if origin in (typing.Union, types.UnionType):
            return " | ".join(self.of(each) for each in arguments if each is not msgspec.UnsetType)
        if origin is dict:
            return f"Record<{self.of(arguments[0])}, {self.of(arguments[1])}>"
        if origin is tuple and arguments[-1] is not Ellipsis:
            return f"[{', '.join(map(self.of, arguments))}]"
        if origin in (list, tuple):
            item = self.of(arguments[0])
            return f"({item})[]" if " " in item and not item.startswith("Record<") else f"{item}[]"
        if kind is msgspec.Raw:
            return "Publication"
        if inspect.isclass(kind) and issubclass(kind, msgspec.Struct):
            name = NAMES.get(kind, kind.__name__)
            if self._structs.setdefault(name, kind) is not kind:
                raise ValueError(f"two structs are called {name}")
            return name
        return PLAIN[kind]

    def _params(self, kind: type[msgspec.Struct]) -> str:
        return "{}" if kind is NoParams else self.of(kind)

    def _declare(self, name: str, struct: type[msgspec.Struct]) -> str:
        said = {_key(field): self._field(struct, field) for field in msgspec.structs.fields(struct)}
        heading = f"export interface {name}"
        if struct is messages.Publication:
            heading += "<Type extends string = string, Data = any>"
            said |= {"type": "Type", "data": "Data"}
        if isinstance(tag := struct.__struct_config__.tag, str):
            said = {"type": _literal(tag), **said}
        return f"{_comment(struct)}{heading} {{\n{_members(said)}\n}}"

    def _field(self, struct: type[msgspec.Struct], field: msgspec.structs.FieldInfo) -> str:
        kind = self.of(field.type)
        if field.default is None and struct.__struct_config__.omit_defaults:
            kind = kind.removesuffix(" | null")
        return kind


def _settled(found: dict[str, type[msgspec.Struct]]) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Each of what is found, and of what is found while they are taken."""
    taken: set[str] = set()
    while left := found.keys() - taken:
        for name in left:
            taken.add(name)
            yield name, found[name]


def _aliases() -> dict[Any, str]:
    """The names of shared field types and of choices, by what they stand for."""
    found: dict[Any, str] = {getattr(fields, name): name for name in NUMBERS}
    for each in pkgutil.iter_modules(protocol.__path__):
        if each.name == __name__.rpartition(".")[2]:
            continue
        for name, value in vars(importlib.import_module(f"protocol.{each.name}")).items():
            if typing.get_origin(value) is Literal and not name.startswith("_"):
                found.setdefault(value, CHOICES.get(name, name))
    return found


def _key(field: msgspec.structs.FieldInfo) -> str:
    return field.encode_name if field.required else f"{field.encode_name}?"


def _literal(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _union(parts: Iterable[str], indent: int) -> str:
    """The alternatives, on one line if they fit."""
    alternatives = list(parts)
    line = " " + " | ".join(alternatives)
    pad = "\n" + " " * indent + "| "
    return line if len(line) < LINE - 40 else pad + pad.join(alternatives)


def _members(said: dict[str, str]) -> str:
    return "\n".join(f"  {name}: {kind};" for name, kind in said.items())


def _description(kind: Any) -> str:
    (meta,) = typing.get_args(kind)[1:]
    return str(meta.description)


def _comment(struct: type[msgspec.Struct]) -> str:
    text = inspect.cleandoc(struct.__doc__ or "").splitlines()
    if not text or struct.__doc__ == msgspec.Struct.__doc__:
        return ""
    if len(text) == 1:
        return f"/** {text[0]} */\n"
    return "/**\n" + "".join(f" * {line}".rstrip() + "\n" for line in text) + " */\n"


if __name__ == "__main__":
    print(declarations(), end="")
