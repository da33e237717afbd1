"""Order books kept from a snapshot and updates.

Rules: prices and sizes stay the strings the source sent (its checksums are over these digits); they are compared as
exact decimals, never as floats. A book knows nothing of gaps: `tracking.BookTracker` decides whether to believe it.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from protocol.trading import Level, Side

CHECKSUM_LEVELS = 10


class Best(NamedTuple):
    """The top of a book: (price, size) per side, None for an empty side."""

    bid: Level | None
    ask: Level | None


def digits(number: str) -> str:
    """A number as Kraken's checksum reads it: without the point and without leading zeros."""
    return number.replace(".", "").lstrip("0")


def checksum(bids: Iterable[Level], asks: Iterable[Level]) -> int:
    """Kraken's CRC32 over the ten best asks, then the ten best bids, each given best first."""
    parts = [digits(price) + digits(size) for price, size in asks]
    parts += [digits(price) + digits(size) for price, size in bids]
    return zlib.crc32("".join(parts).encode("ascii"))


class _Ladder:
    """One side, worst level first: almost all changes are near the best, so few entries move behind an insertion."""

    __slots__ = ("_keys", "_levels", "_sign")

    def __init__(self, side: Side) -> None:
        self._sign = 0 if side == "BUY" else 1
        self._keys: list[Decimal] = []  # ascending; asks negated, so that the best is last on both sides
        self._levels: list[Level] = []  # parallel to _keys

    def __len__(self) -> int:
        return len(self._keys)

    def set(self, price: str, size: str) -> None:
        key = Decimal(price)
        if not key.is_finite():
            raise ValueError("a price must be a finite number")
        if self._sign:
            key = key.copy_negate()  # exact; unary minus would round to the context's precision
        at = bisect_left(self._keys, key)
        known = at < len(self._keys) and self._keys[at] == key
        if not size.strip("0."):
            if known:
                del self._keys[at], self._levels[at]
        elif known:
            self._levels[at] = (price, size)
        else:
            self._keys.insert(at, key)
            self._levels.insert(at, (price, size))

    def load(self, levels: Iterable[Level]) -> None:
        self._keys.clear()
        self._levels.clear()
        for price, size in levels:
            self.set(price, size)

    def keep(self, depth: int) -> None:
        if (surplus := len(self._keys) - depth) > 0:
            del self._keys[:surplus], self._levels[:surplus]

    def best(self) -> Level | None:
        return self._levels[-1] if self._levels else None

    def best_price(self) -> Decimal | None:
        if not self._keys:
            return None
        return self._keys[-1].copy_abs() if self._sign else self._keys[-1]

    def top(self, depth: int) -> list[Level]:
        return self._levels[: -depth - 1 : -1]


class OrderBook:
    """Price levels of one symbol. `depth` bounds each side: a source that reports only its best 1000 levels
    stops mentioning those that fall out, so they must be forgotten here too."""

    __slots__ = ("_asks", "_bids", "depth", "symbol")

    def __init__(self, symbol: str, *, depth: int | None = None) -> None:
        self.symbol = symbol
        self.depth = depth
        self._bids = _Ladder("BUY")
        self._asks = _Ladder("SELL")

    def load(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Replace everything. Levels may come in any order."""
        self._bids.load(bids)
        self._asks.load(asks)
        self._truncate()

    def set(self, side: Side, price: str, size: str) -> None:
        """Set one level's size; zero deletes it. Raises ValueError or decimal.InvalidOperation for a bad price."""
        (self._bids if side == "BUY" else self._asks).set(price, size)
        self._truncate()

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """One message's changes. Surplus levels go after the last of them, not in between: a message may push a level
        out of the window and then delete a better one."""
        for price, size in bids:
            self._bids.set(price, size)
        for price, size in asks:
            self._asks.set(price, size)
        self._truncate()

    def clear(self) -> None:
        self.load((), ())

    def best(self) -> Best:
        return Best(self._bids.best(), self._asks.best())

    def top(self, depth: int) -> tuple[list[Level], list[Level]]:
        """(bids, asks), best first, at most `depth` each."""
        return self._bids.top(depth), self._asks.top(depth)

    def levels(self) -> tuple[int, int]:
        """How many (bids, asks) there are."""
        return len(self._bids), len(self._asks)

    @property
    def crossed(self) -> bool:
        """Whether the best bid is at or above the best ask, which no matching engine lets stand."""
        bid, ask = self._bids.best_price(), self._asks.best_price()
        return bid is not None and ask is not None and bid >= ask

    def checksum(self) -> int:
        """Kraken's CRC32 over the ten best levels per side."""
        return checksum(*self.top(CHECKSUM_LEVELS))

    def _truncate(self) -> None:
        if self.depth is not None:
            self._bids.keep(self.depth)
            self._asks.keep(self.depth)
