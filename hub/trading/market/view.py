"""The market as the trading side knows it: the newest of what was published of every symbol.

It hears what everybody hears and nothing else, so that a decision can be checked against the channels.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from hub.clock import Clock
from hub.trading.decimals import EXACT, ratio
from protocol.trading import Book, Instrument, MarketReference, PriceTick, Trade, TradeCorrection

VWAP_WINDOW_US = 300_000_000
VWAP_TRADES = 10_000  # of one symbol: the older ones leave the window early
VWAP_EXTRA_PLACES = 4

_at_us = attrgetter("at_us")

MarketMessage = PriceTick | Trade | TradeCorrection | Book | Instrument


class _Print(NamedTuple):
    at_us: int
    name: tuple[str | None, str | None]  # source and id: two sources may give the same id
    price: Decimal
    size: Decimal


class _Window:
    """The trades of the last five minutes with their sums: an order's check must not add up thousands of them."""

    __slots__ = ("_notional", "_prints", "_volume")

    def __init__(self) -> None:
        self._prints: deque[_Print] = deque()
        self._notional = self._volume = Decimal(0)

    def add(self, trade: _Print) -> None:
        if self._prints and trade.at_us < self._prints[-1].at_us:
            insort(self._prints, trade, key=_at_us)  # it came late
        else:
            self._prints.append(trade)
        self._count(trade, 1)
        if len(self._prints) > VWAP_TRADES:
            self._count(self._prints.popleft(), -1)

    def amend(self, name: tuple[str | None, str | None], corrected: _Print | None) -> None:
        for at, each in enumerate(self._prints):
            if each.name == name:
                self._count(each, -1)
                if corrected is None:
                    del self._prints[at]
                else:
                    self._prints[at] = corrected._replace(at_us=each.at_us)
                    self._count(corrected, 1)
                return

    def last(self) -> Decimal | None:
        return self._prints[-1].price if self._prints else None

    def vwap(self, oldest_us: int) -> Decimal | None:
        while self._prints and self._prints[0].at_us < oldest_us:
            self._count(self._prints.popleft(), -1)
        if not self._prints or not self._volume:
            return None
        exponent = self._prints[-1].price.as_tuple().exponent
        places = -exponent if isinstance(exponent, int) and exponent < 0 else 0
        return ratio(self._notional, self._volume, places + VWAP_EXTRA_PLACES)

    def _count(self, trade: _Print, sign: int) -> None:
        size = trade.size if sign > 0 else trade.size.copy_negate()
        self._notional = EXACT.add(self._notional, EXACT.multiply(trade.price, size))
        self._volume = EXACT.add(self._volume, size)


class _Seen:
    """What is known of one symbol."""

    __slots__ = ("book", "instrument", "last", "tick", "window")

    def __init__(self) -> None:
        self.tick: PriceTick | None = None
        self.book: Book | None = None
        self.instrument: Instrument | None = None
        self.last: Decimal | None = None
        self.window = _Window()


class MarketView:
    """One owner feeds it with `hear`; whoever listens is told after it has taken the message in."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._listeners: list[Callable[[MarketMessage], None]] = []

    def listen(self, hear: Callable[[MarketMessage], None]) -> None:
        """`hear` is called with every message, in order; it must not raise and must not block."""
        self._listeners.append(hear)

    def hear(self, message: MarketMessage) -> None:
        seen = self._seen.get(message.symbol)
        if seen is None:
            seen = self._seen[message.symbol] = _Seen()
        match message:
            case PriceTick():
                seen.tick = message
            case Trade():
                self._on_trade(seen, message)
            case TradeCorrection():
                _amend(seen, message)
            case Book():
                seen.book = message
            case Instrument():
                seen.instrument = message
        for hear in self._listeners:
            hear(message)

    def symbols(self) -> Iterable[str]:
        return self._seen.keys()

    def tick(self, symbol: str) -> PriceTick | None:
        seen = self._seen.get(symbol)
        return seen.tick if seen is not None else None

    def reference(self, symbol: str) -> MarketReference | None:
        """The newest quote with its age by now; None: the symbol was never quoted."""
        tick = self.tick(symbol)
        if tick is None:
            return None
        made_us = tick.ts_event if tick.ts_event is not None else tick.ts_recv
        return MarketReference(
            symbol=symbol,
            bid=tick.bid,
            ask=tick.ask,
            mid=tick.mid,
            state=tick.state,
            age_us=max(0, self._clock.now_us() - made_us) if made_us is not None else None,
            seq=tick.seq,
        )

    def last(self, symbol: str) -> Decimal | None:
        """The price of the last trade."""
        seen = self._seen.get(symbol)
        return seen.last if seen is not None else None

    def mark(self, symbol: str) -> Decimal | None:
        """What one unit is worth by the newest price: the mid, else the last trade."""
        tick = self.tick(symbol)
        for price in (tick.mid, tick.price) if tick is not None else ():
            if price is not None:
                return Decimal(price)
        return self.last(symbol)

    def vwap(self, symbol: str) -> Decimal | None:
        """The average price of the last five minutes, weighted by volume; None without a trade."""
        seen = self._seen.get(symbol)
        if seen is None:
            return None
        return seen.window.vwap(self._clock.now_us() - VWAP_WINDOW_US)

    def book(self, symbol: str) -> Book | None:
        seen = self._seen.get(symbol)
        return seen.book if seen is not None else None

    def instrument(self, symbol: str) -> Instrument | None:
        seen = self._seen.get(symbol)
        return seen.instrument if seen is not None else None

    def _on_trade(self, seen: _Seen, trade: Trade) -> None:
        at_us = trade.ts_event or trade.ts_recv or self._clock.now_us()
        seen.window.add(_Print(at_us, (trade.source, trade.trade_id), Decimal(trade.price), Decimal(trade.size)))
        seen.last = seen.window.last()


def _amend(seen: _Seen, correction: TradeCorrection) -> None:
    """What was corrected or withdrawn counts as it should have been said."""
    corrected = None
    if correction.corrected_price is not None and correction.corrected_size is not None:
        trade_id = correction.corrected_trade_id or correction.original_trade_id
        corrected = _Print(
            0, (correction.source, trade_id), Decimal(correction.corrected_price), Decimal(correction.corrected_size)
        )
    seen.window.amend((correction.source, correction.original_trade_id), corrected)
    seen.last = seen.window.last() or seen.last
