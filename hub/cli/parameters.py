"""What is typed on a command line, checked before anything is asked; and what the shell offers for it."""

from __future__ import annotations

import math
import re
from typing import Any

import click
import msgspec
from click.shell_completion import CompletionItem

import protocol.messages
from hub.namespaces import ANY_TYPE, DEFAULTS
from protocol.channels import split_channel
from protocol.errors import HubError
from protocol.fields import Name
from protocol.vocabulary import DATA_TYPES

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
DURATION = re.compile(r"(0*[1-9][0-9]{0,9})([smhd])\Z")
AMOUNT = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?\Z")
TYPE_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}\Z")


class Duration(click.ParamType[int]):
    """`90s`, `15m`, `1h`, `7d` -> seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if (given := DURATION.match(value)) is None:
            self.fail("use a number with s, m, h or d, such as 1h", param, ctx)
        return int(given[1]) * UNITS_S[given[2]]


class Number(click.FloatRange):
    """Within its bounds, which `nan` has passed in click's own: it is neither below nor above anything."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no number", param, ctx)
        return number


class PersonName(click.ParamType[str]):
    """Of a person, an agent or a program, as the REST routes take it."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            checked: str = msgspec.convert(value, Name)
        except msgspec.ValidationError:
            self.fail("a name has 1 to 128 characters", param, ctx)
        return checked


class Rewind(click.ParamType[int | str]):
    """`10` messages, or what is as old as `30s`: as the protocol has it."""

    name = "rewind"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        start = int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value
        try:
            checked: int | str = msgspec.convert(start, protocol.messages.Rewind)
        except msgspec.ValidationError:
            self.fail("use a count up to 10000, or how old with ms, s, m or h, such as 30s", param, ctx)
        return checked


class Channel(click.ParamType[str]):
    name = "channel"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            split_channel(value)
        except HubError as failure:
            self.fail(f"{failure.message}, such as custom:hello", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Namespaces: which channels there are, only a hub could say."""
        return [CompletionItem(f"{name}:", type="nospace") for name in DEFAULTS if name.startswith(incomplete)]


class TypeName(click.ParamType[str]):
    """Of a message."""

    name = "type"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not TYPE_NAME.match(value):
            self.fail("a type is written as PRICE_TICK: capitals, digits and _, at most 64", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Those that the channel takes, where it has been named and is of a built-in namespace."""
        namespace = DEFAULTS.get(str(ctx.params.get("channel")).partition(":")[0])
        types = DATA_TYPES if namespace is None or namespace.types == ANY_TYPE else namespace.types
        return [CompletionItem(name) for name in types if name.startswith(incomplete)]


class Amount(click.ParamType[str]):
    """Money and quantities, as text: a float would change them."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not AMOUNT.match(value):
            self.fail("use a number such as 0.01", param, ctx)
        return str(value)
