"""What the market offers for a symbol now: the consolidated top, and behind it the levels of the book.

Rules: what one order took is gone for the next, until the market speaks again. A price nobody stands behind (STALE,
DISPUTED, HALTED) offers nothing. A quote without a size offers any quantity.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import NamedTuple

from hub.trading.decimals import EXACT
from protocol.trading import Book, Level, PriceTick, QuoteState, Side

TRADABLE: frozenset[QuoteState | None] = frozenset({None, "LIVE", "DEGRADED"})  # None: the publisher does not say
ANY_SIZE = Decimal("Infinity")


class Offer(NamedTuple):
    price: Decimal
    size: Decimal


class Depth:
    """One symbol's. The sides are by who takes: BUY takes the asks."""

    def __init__(self) -> None:
        self._lot_size = Decimal(1)
        self._tick: PriceTick | None = None
        self._book: Book | None = None
        self._left: dict[Side, deque[Offer]] = {}  # built when asked for: most ticks meet no order

    @property
    def state(self) -> QuoteState | None:
        return self._tick.state if self._tick is not None else "STALE"

    @property
    def tradable(self) -> bool:
        return self.state in TRADABLE

    def quote(self, tick: PriceTick, lot_size: Decimal) -> None:
        """Sizes are rounded down to whole lots: nobody can be given a part of one."""
        self._tick = tick
        self._lot_size = lot_size
        self._left.clear()

    def book(self, book: Book) -> None:
        """A whole book, not an update. What it says counts from the next tick on: the top is newer than it."""
        self._book = book

    def offers(self, taker: Side) -> Iterable[Offer]:
        """Best first."""
        return self._side(taker)

    def best(self, taker: Side) -> Offer | None:
        side = self._side(taker)
        return side[0] if side else None

    def take(self, taker: Side, qty: Decimal) -> None:
        """From the best offer; not more than it has."""
        side = self._side(taker)
        price, size = side.popleft()
        if qty < size:
            side.appendleft(Offer(price, EXACT.subtract(size, qty)))

    def _side(self, taker: Side) -> deque[Offer]:
        side = self._left.get(taker)
        if side is None:
            side = self._left[taker] = deque(self._levels(taker)) if self.tradable else deque()
        return side

    def _levels(self, taker: Side) -> Iterator[Offer]:
        tick = self._tick
        if tick is None:
            return
        price, size = (tick.ask, tick.ask_size) if taker == "BUY" else (tick.bid, tick.bid_size)
        price = price or tick.price
        if price is None:
            return
        top = Decimal(price)
        if (whole := self._whole_lots(ANY_SIZE if size is None else Decimal(size))) > 0:
            yield Offer(top, whole)
        for behind in self._behind(taker, top):
            if (whole := self._whole_lots(behind.size)) > 0:
                yield Offer(behind.price, whole)

    def _behind(self, taker: Side, top: Decimal) -> Iterator[Offer]:
        """The book's levels that are worse than the top; better ones are from before the tick."""
        if self._book is None:
            return
        levels: list[Level] = self._book.asks if taker == "BUY" else self._book.bids
        for price, size in levels:
            level = Decimal(price)
            if level > top if taker == "BUY" else level < top:
                yield Offer(level, Decimal(size))

    def _whole_lots(self, size: Decimal) -> Decimal:
        if size.is_infinite():
            return size
        return EXACT.multiply(EXACT.divide_int(size, self._lot_size), self._lot_size)
