"""Where a reader stands in a channel, and how missed and live messages become one gapless run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Protocol, TypeVar

import msgspec
from msgspec import Meta

from protocol.fields import Count


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """(epoch, offset): the epoch names one history of a channel, the offset counts its messages from 1.

    Offset 0 is the position before the first message.
    """

    epoch: Annotated[str, Meta(max_length=64)]
    offset: Count


class Placed(Protocol):
    """Anything that has an offset in its channel."""

    @property
    def offset(self) -> int: ...


P = TypeVar("P", bound=Placed)


class Gap(Exception):
    """History and live messages do not join: `expected` is the first offset nobody has."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"offset {expected} is missing")
        self.expected = expected


def merge_recovered(since: int, history: Sequence[P], live: Iterable[P]) -> list[P]:
    """Join what history holds after `since` with what arrived live meanwhile.

    The result is ordered by offset, without repeats, and starts at `since + 1`. Raises Gap when an offset
    inside it is missing; a caller then reads history again or reports the position as unrecoverable.
    """
    merged: list[P] = []
    expected = since + 1
    for message in sorted([*history, *live], key=lambda placed: placed.offset):
        if message.offset < expected:
            continue
        if message.offset > expected:
            raise Gap(expected)
        merged.append(message)
        expected += 1
    return merged
