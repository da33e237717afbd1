"""Whether what a front end expects is what the hub does: each difference between the two, found in the hub's structs.

Rule: who reads must understand all that may come; who sends must send only what is understood. Pure.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from hub.caller import Caller
from hub.dispatch import Method, convert
from hub.namespaces import Namespaces
from protocol.contracts import (
    CallExpectation,
    ChannelExpectation,
    ContractExpectation,
    ContractReport,
    FieldExpectation,
    JsonKind,
    MessageExpectation,
    Violation,
    ViolationCode,
)
from protocol.coordination import NextSteps
from protocol.errors import HubError
from protocol.messages import Publication
from protocol.operations import OPERATIONS, Operation
from protocol.vocabulary import DATA_TYPES

COORDINATION: Mapping[str, Any] = {"SPECIALIST_UPDATE": NextSteps}
"""What `coordination` holds, by type; of another type it is free."""

KINDS: Mapping[type[inspect.Type], JsonKind] = {
    inspect.StrType: "string",
    inspect.UUIDType: "string",
    inspect.DateTimeType: "string",
    inspect.IntType: "integer",
    inspect.FloatType: "number",
    inspect.BoolType: "boolean",
    inspect.NoneType: "null",
    inspect.ListType: "array",
    inspect.VarTupleType: "array",
    inspect.SetType: "array",
    inspect.FrozenSetType: "array",
    inspect.DictType: "object",
    inspect.StructType: "object",
}
LITERALS: Mapping[type, JsonKind] = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
STEP = re.compile(r"\[\]|[^.\[\]]+")


class Place(NamedTuple):
    """What may stand at a path. `values`: all strings there may be; none: any. `absent`: there may be nothing."""

    kinds: frozenset[JsonKind]
    values: frozenset[str]
    absent: bool


class NoSuchField(Exception):
    """`near` are the names that there are in its place."""

    def __init__(self, name: str, near: Collection[str]) -> None:
        super().__init__(name)
        self.name = name
        self.near = near


class Contracts:
    """`methods` are the names of all that the hub has, those without an entry in `operations` among them."""

    def __init__(
        self,
        namespaces: Namespaces,
        *,
        methods: Collection[str],
        operations: Mapping[str, Operation] = OPERATIONS,
        types: Mapping[str, Any] = DATA_TYPES,
    ) -> None:
        self._namespaces = namespaces
        self._names = methods
        self._operations = operations
        self._types = types
        self.methods: Mapping[str, Method] = {"contracts.validate": self.validate}

    def validate(self, params: Mapping[str, Any], caller: Caller) -> ContractReport:
        """Raises HubError(schema_invalid)."""
        expected: ContractExpectation = convert(params, ContractExpectation)
        return self.report(expected)

    def report(self, expected: ContractExpectation) -> ContractReport:
        findings = _Findings()
        for index, message in enumerate(expected.messages):
            self._check_message(message, f"messages[{index}]", findings)
        for index, call in enumerate(expected.calls):
            self._check_call(call, f"calls[{index}]", findings)
        for index, channel in enumerate(expected.channels):
            self._check_channel(channel, f"channels[{index}]", findings)
        return ContractReport(
            consumer=expected.consumer,
            valid=not findings.violations,
            violations=findings.violations,
            unchecked=findings.unchecked,
            checked=findings.checked,
        )

    def _check_message(self, message: MessageExpectation, at: str, findings: _Findings) -> None:
        findings.checked += 1
        if message.type not in self._types:
            findings.add(
                "UNKNOWN_TYPE", f"{at}.type", "The hub has no such type of message.", message.type, self._types
            )
            return
        _check_reading(_publication(message.type, self._types[message.type]), message.fields, f"{at}.fields", findings)

    def _check_call(self, call: CallExpectation, at: str, findings: _Findings) -> None:
        findings.checked += 1
        if call.method not in self._names:
            findings.add("UNKNOWN_METHOD", f"{at}.method", "The hub has no such method.", call.method, self._names)
            return
        operation = self._operations.get(call.method)
        if operation is None:
            findings.unchecked.append(f"{at}.method")
            return
        _check_sending(operation.params, call.params, f"{at}.params", findings)
        _check_reading(operation.result, call.result, f"{at}.result", findings)

    def _check_channel(self, channel: ChannelExpectation, at: str, findings: _Findings) -> None:
        findings.checked += 1
        try:
            namespace, _ = self._namespaces.of(channel.channel)
        except HubError:
            known = [name for name, _ in self._namespaces.items()]
            named = channel.channel.partition(":")[0]
            findings.add("UNKNOWN_CHANNEL", f"{at}.channel", "The hub has no such namespace.", named, known)
            return
        for index, type_name in enumerate(channel.types):
            findings.checked += 1
            if not namespace.accepts(type_name):
                where = f"{at}.types[{index}]"
                message = "This channel does not carry messages of this type."
                findings.add("NOT_IN_CHANNEL", where, message, type_name, namespace.types)


class _Findings:
    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.unchecked: list[str] = []
        self.checked = 0

    def add(
        self, code: ViolationCode, at: str, message: str, name: str | None = None, known: Iterable[str] = ()
    ) -> None:
        close = difflib.get_close_matches(name, [*known], n=1) if name is not None else []
        self.violations.append(Violation(code=code, at=at, message=message, did_you_mean=close[0] if close else None))


def _check_reading(root: Any, fields: Mapping[str, FieldExpectation], at: str, findings: _Findings) -> None:
    for expected, place, where in _places(root, fields, at, findings):
        understood = _kinds_of(expected)
        coming = place.kinds - {"null"} if place.absent else place.kinds  # left out, then: the hub sends no default
        if understood and not _covers(understood, coming):
            findings.add("WRONG_TYPE", where, f"It may be: {', '.join(sorted(coming))}.")
        if expected.always and place.absent:
            findings.add("MAY_BE_ABSENT", where, "The hub may leave it out.")
        if expected.values is not None and (more := place.values - {*expected.values}):
            findings.add("UNKNOWN_VALUE", where, f"It may also be: {', '.join(sorted(more))}.")


def _check_sending(root: Any, fields: Mapping[str, FieldExpectation], at: str, findings: _Findings) -> None:
    for expected, place, where in _places(root, fields, at, findings):
        sent = _kinds_of(expected)
        if not _covers(place.kinds, sent):
            findings.add("WRONG_TYPE", where, f"It has to be: {', '.join(sorted(place.kinds))}.")
        if expected.values is not None and place.values and (wrong := {*expected.values} - place.values):
            findings.add("UNKNOWN_VALUE", where, f"Not understood: {', '.join(sorted(wrong))}.")
    always = {STEP.findall(path)[0] for path, expected in fields.items() if expected.always}
    for field in _shape(root).fields:
        if field.required and field.encode_name not in always:
            findings.add("MISSING_PARAM", f"{at}.{field.encode_name}", "This has to be sent each time.")


def _places(
    root: Any, fields: Mapping[str, FieldExpectation], at: str, findings: _Findings
) -> Iterator[tuple[FieldExpectation, Place, str]]:
    """Each field that can be compared, with what the hub says of it."""
    for path, expected in fields.items():
        where = f"{at}.{path}"
        findings.checked += 1
        try:
            place = _find(_shape(root), STEP.findall(path))
        except NoSuchField as missing:
            findings.add("UNKNOWN_FIELD", where, "There is no such field.", missing.name, missing.near)
            continue
        if place is None:
            findings.unchecked.append(where)
        else:
            yield expected, place, where


def _find(root: inspect.Type, steps: Sequence[str]) -> Place | None:
    """None: the path leads into what may be anything. Raises NoSuchField."""
    here, absent = [*_alternatives(root)], False
    for step in steps:
        if any(_free(each) for each in here):
            return None
        found = [inner for each in here for inner in _step(each, step)]
        if not found:
            near = [field.encode_name for each in here if isinstance(each, inspect.StructType) for field in each.fields]
            raise NoSuchField(step, near)
        absent = any(may_be_absent for _, may_be_absent in found)
        here = [alternative for kind, _ in found for alternative in _alternatives(kind)]
    if any(_free(each) for each in here):
        return None
    return Place(
        kinds=frozenset(kind for each in here for kind in _kinds(each)),
        values=frozenset(value for each in here for value in _values(each)),
        absent=absent,
    )


def _step(kind: inspect.Type, step: str) -> Iterator[tuple[inspect.Type, bool]]:
    """What one step leads to, and whether it may be absent there. An item of a list never is: there is one or none."""
    match kind:
        case inspect.ListType() | inspect.VarTupleType() if step == "[]":
            yield kind.item_type, False
        case inspect.DictType() if step != "[]":
            yield kind.value_type, True
        case inspect.StructType():
            omitted = kind.cls.__struct_config__.omit_defaults
            for field in kind.fields:
                if field.encode_name == step:
                    unset = any(_is_unset(each) for each in _alternatives(field.type))
                    yield field.type, unset or (omitted and not field.required)


def _alternatives(kind: inspect.Type) -> Iterator[inspect.Type]:
    match kind:
        case inspect.Metadata():
            yield from _alternatives(kind.type)
        case inspect.UnionType():
            for each in kind.types:
                yield from _alternatives(each)
        case _:
            yield kind


def _kinds(kind: inspect.Type) -> Iterator[JsonKind]:
    if isinstance(kind, inspect.LiteralType):
        yield from (LITERALS[type(value)] for value in kind.values)
    elif not _is_unset(kind):
        yield KINDS[type(kind)]


def _values(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.LiteralType):
        yield from (value for value in kind.values if isinstance(value, str))


def _free(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.AnyType | inspect.RawType)


def _is_unset(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.CustomType) and kind.cls is msgspec.UnsetType


def _kinds_of(expected: FieldExpectation) -> frozenset[JsonKind]:
    match expected.type:
        case None:
            return frozenset()
        case str():
            return frozenset({expected.type})
        case several:
            return frozenset(several)


def _covers(wide: Collection[JsonKind], narrow: Collection[JsonKind]) -> bool:
    """Whether whoever takes each of `wide` copes with each of `narrow`. An integer is a number."""
    return all(each in wide or (each == "integer" and "number" in wide) for each in narrow)


@functools.cache
def _shape(kind: Any) -> Any:
    return inspect.type_info(kind)


@functools.cache
def _publication(name: str, data: Any) -> type[msgspec.Struct]:
    """A Publication of that type, with all that is known of its parts."""
    coordination = COORDINATION.get(name, dict[str, Any])
    return msgspec.defstruct(
        f"Publication{name.title().replace('_', '')}",
        [("data", data), ("coordination", coordination | None, None)],
        bases=(Publication,),
        frozen=True,
        omit_defaults=True,
        kw_only=True,
    )
