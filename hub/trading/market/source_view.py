"""One source's market as publications: events go in, ticks, trades, books and bars come out. Pure: it is told the time.

Rules: a PRICE_TICK goes out when price or size at the top changed; a BOOK at most once per interval, always with the
newest state; a trade once. When a book was lost, its symbol's price is said to be STALE until a snapshot restores it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from msgspec.structs import replace

from hub.trading.decimals import midpoint, text
from hub.trading.market.books import CHECKSUM_LEVELS, Best, checksum
from hub.trading.market.events import BookSnapshot, BookUpdate, Candle, Event, Quote, TradePrint
from hub.trading.market.tracking import BookGap, BookTracker
from hub.trading.outgoing import Outgoing
from protocol.trading import Bar, Book, Level, PriceTick, QuoteState, SourceStatus, Trade

STATUS_CHANNEL = "status:feeds"


class _Market:
    """What is known of one symbol at this source."""

    __slots__ = (
        "book_seq",
        "published",
        "quoted",
        "state",
        "symbol",
        "tick_seq",
        "tracker",
        "trade_id",
        "trade_seq",
        "ts_event",
    )

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.tracker = BookTracker(symbol)
        self.published = Best(None, None)  # the top as last published
        self.state: QuoteState = "LIVE"
        self.quoted = False  # the source states its best bid and ask itself
        self.ts_event: int | None = None  # of the newest change to the book
        self.trade_id: int | None = None
        self.tick_seq = 0
        self.trade_seq = 0
        self.book_seq = 0


class SourceView:
    """`marks` goes into every message's `ext`. Times are microseconds; `received_us` never goes back."""

    def __init__(
        self, source: str, *, depth: int = 10, book_interval_us: int = 100_000, marks: dict[str, Any] | None = None
    ) -> None:
        self.source = source
        self.gaps = 0
        self._depth = depth
        self._book_interval_us = book_interval_us
        self._marks = marks
        self._markets: dict[str, _Market] = {}
        self._due: dict[str, int] = {}  # symbol -> when its book goes out; in that order, the interval being constant
        self._lost: set[str] = set()  # symbols whose book waits for a snapshot after a gap
        self._status: Literal["CONNECTED", "SUSPECT", "DOWN"] | None = None
        self._last_event: int | None = None

    def on_event(self, event: Event, received_us: int) -> list[Outgoing]:
        out = self.flush(received_us)
        if self._status is None:
            out.append(self._announce("CONNECTED"))
        match event:
            case BookSnapshot() | BookUpdate():
                out += self._on_book(event, received_us)
            case Quote():
                out += self._on_quote(event, received_us)
            case TradePrint():
                out += self._on_trade(event, received_us)
            case Candle(bar):
                out.append(Outgoing(f"bars:{bar.interval}:{bar.symbol}", "BAR", self._marked(bar)))
        return out

    def next_due_us(self) -> int | None:
        """When `flush` has something to say, if nothing else happens."""
        return next(iter(self._due.values()), None)

    def flush(self, now_us: int) -> list[Outgoing]:
        """The books whose interval is over."""
        out = []
        while (due := self.next_due_us()) is not None and due <= now_us:
            out.append(self._book(next(iter(self._due)), due))
        return out

    def finish(self, now_us: int, reason: str) -> list[Outgoing]:
        """The source has ended: the books still held back, the prices as stale, and the status."""
        out = [self._book(symbol, now_us) for symbol in list(self._due)]
        for market in self._markets.values():
            out += self._stale(market, now_us)
        out.append(self._announce("DOWN", reason))
        return out

    def _on_book(self, event: BookSnapshot | BookUpdate, received_us: int) -> list[Outgoing]:
        market = self._market(event.symbol)
        self._see(event.ts_event)
        try:
            if isinstance(event, BookSnapshot):
                market.tracker.snapshot(event)
            elif not market.tracker.update(event):
                return []
        except BookGap as gap:
            return self._on_gap(market, gap, received_us)
        market.ts_event = event.ts_event
        self._due.setdefault(event.symbol, received_us + self._book_interval_us)
        out = self._restored(event.symbol)
        if not market.quoted:
            out += self._on_top(market, market.tracker.book.best(), event.ts_event, received_us)
        return out

    def _on_gap(self, market: _Market, gap: BookGap, received_us: int) -> list[Outgoing]:
        self.gaps += 1
        self._lost.add(market.symbol)
        self._due.pop(market.symbol, None)
        out = [self._announce("SUSPECT", str(gap))]
        return out if market.quoted else out + self._stale(market, received_us)

    def _stale(self, market: _Market, now_us: int) -> list[Outgoing]:
        """The last price once more, as what it is now. Said once: an old price must not look like news."""
        if market.state == "STALE" or not _quotes(market):
            return []
        return [self._tick(market, now_us, "STALE")]

    def _restored(self, symbol: str) -> list[Outgoing]:
        if symbol not in self._lost:
            return []
        self._lost.discard(symbol)
        return [] if self._lost else [self._announce("CONNECTED")]

    def _on_quote(self, quote: Quote, received_us: int) -> list[Outgoing]:
        self._see(quote.ts_event)
        if quote.bid_size is None or quote.ask_size is None:
            return []  # Coinbase's ticker of 2021: it comes with trades only and without sizes; the book knows more
        market = self._market(quote.symbol)
        market.quoted = True
        best = Best((quote.bid, quote.bid_size), (quote.ask, quote.ask_size))
        return self._on_top(market, best, quote.ts_event, received_us)

    def _on_top(self, market: _Market, best: Best, ts_event: int | None, received_us: int) -> list[Outgoing]:
        if best == market.published and market.state == "LIVE":
            return []
        market.published = best
        if not _quotes(market):
            return []  # an empty book has no price to tell
        return [self._tick(market, received_us, "LIVE", ts_event)]

    def _tick(self, market: _Market, received_us: int, state: QuoteState, ts_event: int | None = None) -> Outgoing:
        market.state = state
        market.tick_seq += 1
        bid, ask = market.published
        tick = PriceTick(
            symbol=market.symbol,
            source=self.source,
            bid=bid[0] if bid else None,
            bid_size=bid[1] if bid else None,
            ask=ask[0] if ask else None,
            ask_size=ask[1] if ask else None,
            mid=text(midpoint(Decimal(bid[0]), Decimal(ask[0]))) if bid and ask else None,
            seq=market.tick_seq,
            state=state,
            ts_event=ts_event,
            ts_recv=received_us,
            ext=self._marks,
        )
        return Outgoing(f"prices:{market.symbol}", "PRICE_TICK", tick)

    def _on_trade(self, trade: TradePrint, received_us: int) -> list[Outgoing]:
        market = self._market(trade.symbol)
        self._see(trade.ts_event)
        if market.trade_id is not None and trade.trade_id <= market.trade_id:
            return []  # a repetition after a reconnect
        market.trade_id = trade.trade_id
        market.trade_seq += 1
        data = Trade(
            symbol=trade.symbol,
            price=trade.price,
            size=trade.size,
            source=self.source,
            trade_id=str(trade.trade_id),
            aggressor_side=trade.aggressor,
            conditions=["REPEATED"] if trade.repeated else [],
            seq=market.trade_seq,
            ts_event=trade.ts_event,
            ts_recv=received_us,
            ext=self._marks,
        )
        return [Outgoing(f"trades:{trade.symbol}", "TRADE", data)]

    def _book(self, symbol: str, now_us: int) -> Outgoing:
        del self._due[symbol]
        market = self._markets[symbol]
        market.book_seq += 1
        bids, asks = market.tracker.book.top(self._depth)
        data = book_message(
            symbol,
            bids,
            asks,
            depth=self._depth,
            source=self.source,
            seq=market.book_seq,
            ts_event=market.ts_event,
            ts_recv=now_us,
            ext=self._marks,
        )
        return Outgoing(f"book:{self._depth}:{symbol}", "BOOK", data)

    def _announce(self, state: Literal["CONNECTED", "SUSPECT", "DOWN"], reason: str | None = None) -> Outgoing:
        self._status = state
        data = SourceStatus(
            source=self.source,
            state=state,
            gap_count=self.gaps,
            reason=reason,
            last_ts_event=self._last_event,
            ext=self._marks,
        )
        return Outgoing(STATUS_CHANNEL, "SOURCE_STATUS", data, self.source)

    def _marked(self, bar: Bar) -> Bar:
        if self._marks is None:
            return bar
        return replace(bar, ext=self._marks)

    def _market(self, symbol: str) -> _Market:
        market = self._markets.get(symbol)
        if market is None:
            market = self._markets[symbol] = _Market(symbol)
        return market

    def _see(self, ts_event: int | None) -> None:
        if ts_event is not None:
            self._last_event = max(ts_event, self._last_event or 0)


def _quotes(market: _Market) -> bool:
    return market.published != (None, None)


def book_message(
    symbol: str,
    bids: list[Level],
    asks: list[Level],
    *,
    depth: int,
    source: str,
    seq: int,
    ts_event: int | None,
    ts_recv: int,
    ext: dict[str, Any] | None,
) -> Book:
    """A snapshot whose checksum the client can verify over the ten best levels of what it got."""
    return Book(
        symbol=symbol,
        depth=depth,
        bids=bids,
        asks=asks,
        source=source,
        first_seq=seq,
        last_seq=seq,
        checksum=checksum(bids[:CHECKSUM_LEVELS], asks[:CHECKSUM_LEVELS]),
        ts_event=ts_event,
        ts_recv=ts_recv,
        ext=ext,
    )
