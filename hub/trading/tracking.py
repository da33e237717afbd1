"""Keeps a book only as long as it can be believed.

A source proves completeness in one of two ways, and the event itself says which: numbered updates (`first_id`, `last_id`:
each must follow the one before) or a checksum over the resulting book. After a gap the book is empty until a new snapshot.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from hub.trading.books import OrderBook
from hub.trading.events import BookSnapshot, BookUpdate

BUFFERED_UPDATES = 1000


class BookGap(Exception):
    """An update was lost, or the book is wrong for another reason. `expected` and `found` are ids or checksums."""

    def __init__(self, symbol: str, kind: Literal["sequence", "checksum"], expected: int, found: int) -> None:
        super().__init__(f"{symbol}: {kind} {found}, expected {expected}")
        self.symbol = symbol
        self.kind = kind
        self.expected = expected
        self.found = found


class BookTracker:
    """One symbol's book at one source.

    Numbered updates that come before the snapshot are kept and applied behind it, as Binance prescribes: drop what the
    snapshot contains, the next must overlap or follow it, every later one must follow its predecessor.
    """

    def __init__(self, symbol: str) -> None:
        self.book = OrderBook(symbol)
        self.ready = False
        self._last_id: int | None = None
        self._early: deque[BookUpdate] = deque(maxlen=BUFFERED_UPDATES)

    def snapshot(self, event: BookSnapshot) -> None:
        """Start over from here. Raises BookGap if updates between the snapshot and what came before it are missing."""
        early = list(self._early)
        self._early.clear()
        self.book.depth = event.depth
        self.book.load(event.bids, event.asks)
        self.ready = True
        self._last_id = event.last_id
        for update in early:
            self.update(update)

    def update(self, event: BookUpdate) -> bool:
        """Apply an update; False: nothing changed (it was old, or there is no snapshot yet). Raises BookGap."""
        if event.first_id is not None and event.last_id is not None:
            if not self._follows(event.first_id, event.last_id):
                return False
            if not self.ready:
                self._early.append(event)
        if not self.ready:
            return False
        self.book.apply(event.bids, event.asks)
        if event.checksum is not None and (found := self.book.checksum()) != event.checksum:
            self._lose()
            raise BookGap(event.symbol, "checksum", event.checksum, found)
        return True

    def _follows(self, first_id: int, last_id: int) -> bool:
        """Whether these updates are new. Raises BookGap when some before them are missing."""
        before = self._last_id
        if before is not None:
            if last_id <= before:
                return False
            if first_id > before + 1:
                self._lose()
                raise BookGap(self.book.symbol, "sequence", before + 1, first_id)
        self._last_id = last_id
        return True

    def _lose(self) -> None:
        self.ready = False
        self._last_id = None
        self._early.clear()
        self.book.clear()
