"""Keeps a book only as long as it can be believed.

A source proves completeness in one of two ways, and the event itself says which: numbered updates (`first_id` to
`last_id`: each must follow the one before) or a checksum over the resulting book. After a gap the book is empty until
the next snapshot.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from hub.trading.market.books import OrderBook
from hub.trading.market.events import BookSnapshot, BookUpdate

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
        """Start over from here. Raises BookGap when it is too old for the updates seen since: ask for another."""
        early = list(self._early)
        self._early.clear()
        self.book.depth = event.depth
        self.book.load(event.bids, event.asks)
        self.ready = True
        self._last_id = event.last_id
        for at, update in enumerate(early):
            try:
                self.update(update)
            except BookGap:  # only the first can miss its predecessor: the buffer itself has no holes
                for later in early[at + 1 :]:
                    self.update(later)
                raise

    def update(self, event: BookUpdate) -> bool:
        """Apply an update; False: nothing changed (it was old, or there is no snapshot yet). Raises BookGap."""
        if event.first_id is not None and event.last_id is not None:
            before = self._last_id
            if before is not None and event.last_id <= before:
                return False
            if before is not None and event.first_id > before + 1:
                self._lose()
                self._buffer(event)  # the next snapshot may be older than this one
                raise BookGap(event.symbol, "sequence", before + 1, event.first_id)
            self._last_id = event.last_id
            if not self.ready:
                self._buffer(event)
        if not self.ready:
            return False
        self.book.apply(event.bids, event.asks)
        if event.checksum is not None and (found := self.book.checksum()) != event.checksum:
            self._lose()
            raise BookGap(event.symbol, "checksum", event.checksum, found)
        return True

    def _buffer(self, event: BookUpdate) -> None:
        self._early.append(event)
        self._last_id = event.last_id

    def _lose(self) -> None:
        self.ready = False
        self._last_id = None
        self._early.clear()
        self.book.clear()
