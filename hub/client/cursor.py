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

    __slots__ = ("_floor", "_keys", "epoch", "latest", "offset", "sparse")

    def __init__(self, position: Position | None = None, *, sparse: bool = False) -> None:
        self.epoch = position.epoch if position else ""  # empty until it is known
        self.offset = position.offset if position else 0
        self.latest = False
        self.sparse = sparse
        self._floor = 0  # the newest value of every key up to here has been seen
        self._keys: dict[str | None, int] = {}  # and of these keys up to here

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
            self._floor = 0
            self._keys = {key: offset} if self.latest else {}
            return Verdict.RESET
        if self.latest:
            if offset <= self._seen(key):
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

    def join(self, epoch: str, offset: int, messages: Sequence[Incoming], *, latest: bool) -> list[Incoming]:
        """Continue from a subscribe result; answers those of its messages that are new, in order."""
        self.latest = latest
        if epoch == self.epoch:
            messages = [each for each in messages if each.offset > self._seen(each.key)]
        if epoch != self.epoch or offset >= self.offset:
            self.epoch = epoch
            self.offset = self._floor = offset
            self._keys = {}
        else:  # offsets never go back within an epoch: this node lags behind the one we came from
            for each in messages:
                self._remember(each.key, each.offset)
        return sorted(messages, key=_offset)  # a snapshot comes in order of its keys

    def _seen(self, key: str | None) -> int:
        return self._keys.get(key, self._floor) if self.latest else self.offset

    def _remember(self, key: str | None, offset: int) -> None:
        keys = self._keys
        if key not in keys and len(keys) >= MAX_KEYS:
            del keys[next(iter(keys))]
        keys[key] = offset


def _offset(message: Incoming) -> int:
    return message.offset
