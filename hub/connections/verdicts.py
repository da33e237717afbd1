"""What did not reach a reader as it was sent, and why: the newest of it on this node, for whoever asks by `explain`.

Rule: only what is out of the ordinary is noted, never a delivery. What a subscription covers and nobody noted was
written, unless it still waits. A slow reader has many notes a second, so that one is an append and nothing else;
whoever asks looks through them all.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Literal

MAX_NOTES = 16_384  # of all readers together, some 200 bytes each: looked through in a millisecond

Outcome = Literal["conflated", "filtered", "expired"]
Note = tuple[int, str, str, int, Outcome, int | None]
"""(reader, channel, epoch, offset, outcome, the offset that came in its place)."""


class Notes:
    """The ring. `add` notes; readers have numbers, so that nobody is held on to who has left."""

    def __init__(self, *, limit: int = MAX_NOTES) -> None:
        self.limit = limit
        self._ring: deque[Note] = deque(maxlen=limit)
        self._readers = itertools.count(1)
        self.add = self._ring.append

    def reader(self) -> int:
        return next(self._readers)

    def find(
        self, reader: int, channel: str, epoch: str, offset: int, *, noted: int
    ) -> tuple[Outcome, int | None] | Literal["forgotten"] | None:
        """What was noted of a message. `noted`: how many notes this reader has ever had.

        Notes are lost oldest first. One that came with a newer value is about an earlier offset, as are all before it:
        nothing is lost that is about that offset or a later one.
        """
        own = [note for note in self._ring if note[0] == reader]
        here = [note for note in own if note[1] == channel and note[2] == epoch]
        for note in here:
            if note[3] == offset:
                return note[4], note[5]
        if len(own) == noted:
            return None
        known_from = next((note[5] for note in here if note[5] is not None), None)
        return None if known_from is not None and offset >= known_from else "forgotten"
