"""Where a reader stands in one channel, and what the next message means to it. Pure.

Recoverable and durable channels count without holes: the next offset is the last one plus one, less is a repeat, more
is a gap. A filtered subscription sees holes that are none. A channel of the class `latest` may skip values and, when
the hub conflates for a slow reader, send keys out of turn: there, order holds per key only, and nothing is ever a gap.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from hub.client.wire import Incoming
from protocol.positions import Position

MAX_KEYS = 100_000  # keys a latest channel is remembered by


class Verdict(enum.Enum):
    APPLY = "apply"
    REPEAT = "repeat"
    GAP = "gap"
    RESET = "reset"
    """Apply; but it belongs to another history of the channel than what came before."""


class Cursor:
    """`position`: up to where the application already has the channel. `sparse`: a filter leaves messages out."""

    __slots__ = ("_keys", "epoch", "latest", "offset", "sparse")

    def __init__(self, position: Position | None = None, *, sparse: bool = False) -> None:
        self.epoch = position.epoch if position else ""  # empty until it is known
        self.offset = position.offset if position else 0
        self.latest = False
        self.sparse = sparse
        self._keys: dict[str | None, int] = {}  # of a latest channel: the newest offset seen of each key

    @property
    def position(self) -> Position | None:
        return Position(self.epoch, self.offset) if self.epoch else None

    @property
    def resume_from(self) -> Position | None:
        """What to send as `recover`. Nothing for a latest channel: under conflation the highest offset seen says
        nothing about the other keys, whose newest values may still have been on their way when the connection broke.
        """
        return None if self.latest else self.position

    def take(self, offset: int, key: str | None = None, epoch: str | None = None) -> Verdict:
        """Judge a live message, and move on to it when it is to be applied."""
        if epoch is not None and epoch != self.epoch:
            self.epoch = epoch
            self.offset = offset
            self._keys = {key: offset} if self.latest else {}
            return Verdict.RESET
        if self.latest:
            if offset <= self._keys.get(key, 0):
                return Verdict.REPEAT
            self._remember(key, offset)
            self.offset = max(self.offset, offset)
            return Verdict.APPLY
        if offset <= self.offset:
            return Verdict.REPEAT
        if offset > self.offset + 1 and not self.sparse:
            return Verdict.GAP
        self.offset = offset
        return Verdict.APPLY

    def join(
        self, epoch: str, offset: int, messages: Sequence[Incoming], *, latest: bool, recovered: bool
    ) -> list[Incoming]:
        """Continue from a subscribe result; answers those of its messages that are new, in order."""
        fresh = list(messages)
        if latest:
            if epoch != self.epoch:
                self._keys = {}
            fresh = [each for each in fresh if each.offset > self._keys.get(each.key, 0)]
            for each in fresh:
                self._remember(each.key, each.offset)
        elif recovered:
            fresh = [each for each in fresh if each.offset > self.offset]
        fresh.sort(key=_offset)  # a snapshot comes in order of its keys
        self.epoch = epoch
        self.offset = max(offset, fresh[-1].offset) if fresh else offset
        self.latest = latest
        return fresh

    def _remember(self, key: str | None, offset: int) -> None:
        keys = self._keys
        if key not in keys and len(keys) >= MAX_KEYS:
            del keys[next(iter(keys))]
        keys[key] = offset


def _offset(message: Incoming) -> int:
    return message.offset
