"""What a channel has kept as a pandas DataFrame: `pip install 'krin-hub[pandas]'`.

    from hub.client import dataframes
    from hub.client.sync import connect

    with connect(url, token=token) as krin:
        bars = dataframes.read(krin, "bars:1m:BTC-USD")
        bars.set_index("start")["close"].plot()

A row for each message (of SPECIALIST_UPDATE: for each specialist); the index is the message's offset. After
`timestamp`, `type`, `key` and `publisher` comes a column for each field of the data, in the types of the protocol:
prices and quantities are floats, or Decimals with `exact`; times are UTC with the precision that they have on the
wire; integers and booleans know what is missing. Fields of custom types get the types that pandas finds.

`read` holds the whole of what it reads. `read_in_parts` yields it in parts, of which one is held at a time.
"""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from decimal import Decimal
from types import NoneType, UnionType
from typing import Annotated, Any

import msgspec

from hub.client.sync import Client
from hub.client.wire import Message
from protocol.fields import DecimalString, Micros, Millis, Quantity
from protocol.positions import Position
from protocol.vocabulary import DATA_TYPES

try:
    import pandas as pd
except ImportError as missing:
    raise ImportError("hub.client.dataframes needs pandas: pip install 'krin-hub[pandas]'") from missing

PAGE = 1000  # messages asked for at once; the hub may send fewer
ROWS = 50_000  # of a part, by default

Column = Callable[[list[Any]], "pd.Series[Any]"]


def read(
    krin: Client,
    channel: str,
    *,
    types: Collection[str] = (),
    since: Position | None = None,
    exact: bool = False,
) -> pd.DataFrame:
    """Everything that a channel has kept after `since`, oldest first. `types`: of these message types only.

    Raises HubError, Disconnected.
    """
    return dataframe_of(_messages(krin, channel, since), types=types, exact=exact)


def read_in_parts(
    krin: Client,
    channel: str,
    *,
    types: Collection[str] = (),
    since: Position | None = None,
    exact: bool = False,
    rows: int = ROWS,
) -> Iterator[pd.DataFrame]:
    """As `read`, in parts of so many messages, each read when it is asked for.

    What `since` needs to go on after a part is its `attrs["position"]`.
    """
    part: list[Message] = []
    for message in _messages(krin, channel, since):
        part.append(message)
        if len(part) >= rows:
            yield dataframe_of(part, types=types, exact=exact)
            part = []
    if part:
        yield dataframe_of(part, types=types, exact=exact)


def dataframe_of(messages: Iterable[Message], *, types: Collection[str] = (), exact: bool = False) -> pd.DataFrame:
    """Messages as rows, however they were come by: as those of a subscription or of a page of history."""
    table = _Table(exact=exact)
    for name in types:
        table.expect(name)
    for message in messages:
        table.take(message, wanted=not types or message.type in types)
    return table.dataframe()


def _messages(krin: Client, channel: str, since: Position | None) -> Iterator[Message]:
    while True:
        page = krin.history(channel, since, PAGE)
        yield from page.messages
        if not page.more:
            return
        since = page.messages[-1].position


class _Table:
    """Columns as they grow. One whose field first comes later is filled with what a message without it means."""

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._expected: set[str] = set()
        self._offsets: list[int] = []
        self._envelope: dict[str, list[Any]] = {name: [] for name in ENVELOPE}
        self._fields: dict[str, list[Any]] = {}
        self._kinds: dict[str, str] = {}
        self._position: Position | None = None

    def expect(self, name: str) -> None:
        """There may be messages of this type: their fields are columns."""
        if name not in self._expected:
            self._expected.add(name)
            for field, kind in fields_of(name).items():
                if self._kinds.setdefault(field, kind) != kind:
                    self._kinds[field] = "any"  # of two types that mean something different by it
                self._fields.setdefault(field, [None] * len(self._offsets))

    def take(self, message: Message, *, wanted: bool) -> None:
        self._position = message.position
        if not wanted:
            return
        self.expect(message.type)
        for data in message.data if isinstance(message.data, list) else [message.data]:
            for name in data.keys() - fields_of(message.type).keys():
                self._kinds[name] = "any"  # and in any type: nothing declares it
                self._fields.setdefault(name, [None] * len(self._offsets))
            self._row(message, {**defaults_of(message.type), **data})

    def _row(self, message: Message, data: Mapping[str, Any]) -> None:
        for name, values in self._fields.items():
            values.append(data.get(name))
        for name, values in self._envelope.items():
            values.append(getattr(message, name))
        self._offsets.append(message.offset)

    def dataframe(self) -> pd.DataFrame:
        columns = {name: self._column(ENVELOPE[name], values) for name, values in self._envelope.items()}
        for name, values in self._fields.items():
            taken = f"data.{name}" if name in columns else name
            columns[taken] = self._column(self._kinds[name], values)
        made = pd.DataFrame(columns)
        made.index = pd.Index(self._offsets, dtype="int64", name="offset")
        made.attrs["position"] = self._position
        return made

    def _column(self, kind: str, values: list[Any]) -> pd.Series[Any]:
        return (_exactly if self._exact and kind == "decimal" else COLUMNS[kind])(values)


def _times(unit: str) -> Column:
    return lambda values: pd.to_datetime(pd.Series(values, dtype="Int64"), unit=unit, utc=True).dt.as_unit(unit)


def _exactly(values: list[Any]) -> pd.Series[Any]:
    return pd.Series([None if value is None else Decimal(value) for value in values], dtype="object")


COLUMNS: Mapping[str, Column] = {
    "decimal": lambda values: pd.Series(values, dtype="object").astype("float64"),
    "micros": _times("us"),
    "millis": _times("ms"),
    "integer": lambda values: pd.Series(values, dtype="Int64"),
    "number": lambda values: pd.Series(values, dtype="float64"),
    "flag": lambda values: pd.Series(values, dtype="boolean"),
    "text": lambda values: pd.Series(values, dtype="object"),
    "any": lambda values: pd.Series(values, dtype="object").infer_objects(),
}
ENVELOPE = {"timestamp": "millis", "type": "text", "key": "text", "publisher": "text"}
PLAIN = {int: "integer", float: "number", bool: "flag", str: "text"}
SHARED = {DecimalString: "decimal", Quantity: "decimal", Micros: "micros", Millis: "millis"}


def _struct_of(name: str) -> type[msgspec.Struct] | None:
    kind = DATA_TYPES.get(name)
    found: type[msgspec.Struct] | None = typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind
    return found


@functools.cache
def fields_of(name: str) -> dict[str, str]:
    """The fields of a message type's data, and which kind of column each is. none of a custom one."""
    struct = _struct_of(name)
    return {field.encode_name: kind_of(field.type) for field in msgspec.structs.fields(struct)} if struct else {}


@functools.cache
def defaults_of(name: str) -> dict[str, Any]:
    """What a message of this type means by leaving a field out."""
    struct = _struct_of(name)
    return {
        field.encode_name: field.default
        for field in (msgspec.structs.fields(struct) if struct else ())
        if field.default is not msgspec.NODEFAULT
    }


def kind_of(declared: Any) -> str:
    """The kind of column that holds values of a field."""
    if found := SHARED.get(declared):
        return found
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, UnionType):
        kinds = {kind_of(each) for each in arguments if each is not NoneType}
        return kinds.pop() if len(kinds) == 1 else "any"
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin is typing.Literal:
        return "text"
    return PLAIN.get(declared, "any")
