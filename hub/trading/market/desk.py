"""The market put together: what all sources say goes in, what is published comes out. Pure: it is told the time.

Rules. Each symbol has one price, made of its sources' quotes (see `consolidation` and `failover`). It is published when
it changed, and again after `REFRESH_US` if the sources have confirmed it since; a price that nobody stands behind any
more is said once, as STALE, and one of a halted instrument once, as HALTED. The book is that of all the sources in
the price together, at most once per interval; there is none while they cross. Trades of all sources make one tape.
A book that missed an update takes its source out of the price until a snapshot has mended it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from msgspec.structs import replace

from hub.trading.decimals import EXACT, text
from hub.trading.market.books import CHECKSUM_LEVELS, checksum
from hub.trading.market.consolidation import Rules, SourceQuote, consolidate, fault, outliers_of
from hub.trading.market.events import Amended, BookSnapshot, BookUpdate, Candle, Event, Listed, Quote, TradePrint
from hub.trading.market.failover import Failover, decide
from hub.trading.market.source import Role
from hub.trading.market.tape import Tape
from hub.trading.market.tracking import BookGap, BookTracker
from hub.trading.outgoing import Outgoing
from protocol.trading import (
    Book,
    Instrument,
    Level,
    PriceTick,
    Quality,
    QuoteState,
    Side,
    SourceStatus,
    Trade,
    TradeCorrection,
)

CONSOLIDATED = "consolidated"
SOURCES_CHANNEL = "sources:all"
REFRESH_US = 1_000_000
DOWN_AFTER_US = 5_000_000
RESYNC_AFTER_US = 5_000_000  # a snapshot that was asked for and did not come is asked for again
REMEMBERED_TRADES = 1000  # ids per source and symbol, to know a repetition after a reconnect
MAX_WAITING = 20_000  # messages that nobody has fetched; the oldest go first
TRADED = frozenset({"TRADING", "CANCEL_ONLY", "POST_ONLY", "LIMIT_ONLY", "AUCTION"})  # in the others there is no price

State = Literal["CONNECTED", "RECONNECTING", "SUSPECT", "DOWN"]


class _Feed:
    """One source's connection and how it does."""

    __slots__ = (
        "connected",
        "disputed",
        "gaps",
        "heard_us",
        "last_event_us",
        "lost",
        "lost_us",
        "name",
        "reason",
        "reconnects",
        "role",
        "standing_in",
        "told",
    )

    def __init__(self, name: str, role: Role, now_us: int) -> None:
        self.name = name
        self.role: Role = role
        self.connected = False
        self.lost_us = now_us
        self.reason: str | None = None  # of the last loss
        self.heard_us = now_us
        self.last_event_us: int | None = None
        self.lost: dict[str, str] = {}  # symbol whose book is not complete -> why
        self.disputed: set[str] = set()  # symbols in which it is an outlier
        self.standing_in: set[str] = set()
        self.gaps = 0
        self.reconnects = -1  # the first connection is none
        self.told: tuple[State, str | None] | None = None

    def health(self, now_us: int, rules: Rules) -> tuple[State, str | None]:
        if not self.connected:
            state: State = "DOWN" if now_us - self.lost_us >= DOWN_AFTER_US else "RECONNECTING"
            return state, self.reason
        if self.lost:
            return "SUSPECT", next(iter(self.lost.values()))
        if now_us - self.heard_us > rules.stale_after_us:
            return "SUSPECT", "connected, but silent"
        if self.disputed:
            return "SUSPECT", "quotes far from the other sources"
        return "CONNECTED", "stands in for the primary sources" if self.standing_in else None


class _Line:
    """What one source says about one symbol."""

    __slots__ = ("feed", "quote", "quoted", "resync_us", "seen", "tracker")

    def __init__(self, feed: _Feed, symbol: str) -> None:
        self.feed = feed
        self.tracker = BookTracker(symbol)
        self.quote: SourceQuote | None = None
        self.quoted = False  # the source states its best bid and ask itself
        self.resync_us: int | None = None  # when a snapshot was last asked for
        self.seen: OrderedDict[int | str, None] = OrderedDict()

    def repeats(self, trade_id: int | str) -> bool:
        if trade_id in self.seen:
            return True
        self.seen[trade_id] = None
        if len(self.seen) > REMEMBERED_TRADES:
            self.seen.popitem(last=False)
        return False

    def levels(self, side: Side, depth: int) -> list[Level]:
        """The source's side of the book, which begins with what it quotes."""
        bids, asks = self.tracker.book.top(depth)
        buys = side == "BUY"
        levels = bids if buys else asks
        if not self.quoted or self.quote is None:
            return levels
        top = (self.quote.bid, self.quote.bid_size) if buys else (self.quote.ask, self.quote.ask_size)
        best = Decimal(top[0])
        return [top] + [each for each in levels if (Decimal(each[0]) < best if buys else Decimal(each[0]) > best)]


class _Market:
    """One symbol."""

    __slots__ = (
        "book_changed",
        "book_due_us",
        "book_seq",
        "changed",
        "check_us",
        "failover",
        "instrument",
        "lines",
        "symbol",
        "tape",
        "tick",
        "tick_seq",
        "trade_seq",
        "used",
    )

    def __init__(self, symbol: str, tape: Tape) -> None:
        self.symbol = symbol
        self.tape = tape
        self.lines: dict[str, _Line] = {}
        self.failover = Failover()
        self.instrument: Instrument | None = None
        self.tick: PriceTick | None = None  # as last published
        self.used: list[_Line] = []  # in that price
        self.changed = False
        self.check_us: int | None = None  # when the price may change by the passing of time alone
        self.book_changed = False
        self.book_due_us = 0
        self.tick_seq = self.trade_seq = self.book_seq = 0

    @property
    def halted(self) -> bool:
        return self.instrument is not None and self.instrument.status not in TRADED


class MarketDesk:
    """`take` what sources say, `drain` what is to be published. `now_us` never goes back.

    `marks` goes into the `ext` of everything. `stale_after_us` has the symbols whose quotes live longer or shorter
    than the rules say.
    """

    def __init__(
        self,
        *,
        rules: Rules = Rules(),  # frozen: one does for all
        stale_after_us: Mapping[str, int] | None = None,
        depth: int = 10,
        book_interval_us: int = 250_000,
        marks: Mapping[str, Any] | None = None,
    ) -> None:
        self._rules = rules
        self._rules_of = {
            symbol: replace(rules, stale_after_us=limit_us) for symbol, limit_us in (stale_after_us or {}).items()
        }
        self._depth = depth
        self._book_interval_us = book_interval_us
        self._ext = dict(marks) if marks else None
        self._feeds: dict[str, _Feed] = {}
        self._markets: dict[str, _Market] = {}
        self._out: deque[Outgoing] = deque()
        self.dropped = 0  # messages that nobody fetched in time

    def join(self, source: str, *, role: Role, symbols: Iterable[str], now_us: int) -> None:
        """A source that is expected to quote these symbols, and may quote others."""
        self._feeds[source] = _Feed(source, role, now_us)
        for symbol in symbols:
            self._line(symbol, source)

    def connected(self, source: str, now_us: int) -> None:
        feed = self._feeds[source]
        feed.connected = True
        feed.heard_us = now_us
        feed.reconnects += 1
        for _, line in self._lines_of(source):
            line.resync_us = None

    def lost(self, source: str, now_us: int, reason: str) -> None:
        """The connection is gone, or could not be made."""
        feed = self._feeds[source]
        feed.reason = reason
        if not feed.connected:
            return
        feed.connected = False
        feed.lost_us = now_us
        feed.lost.clear()
        for market, line in self._lines_of(source):
            line.tracker = BookTracker(market.symbol)  # it begins with a snapshot again
            if line.quote is not None:
                line.quote = replace(line.quote, connected=False)  # until it quotes anew
            market.changed = True

    def take(self, source: str, event: Event, now_us: int) -> None:
        feed = self._feeds[source]
        feed.heard_us = now_us
        if isinstance(event, Candle):
            return  # a source's own bars are of its own trades alone
        if isinstance(event, Listed):
            self._list(event.instrument, now_us)
            return
        if event.ts_event is not None:
            feed.last_event_us = max(event.ts_event, feed.last_event_us or 0)
        market, line = self._line(event.symbol, source)
        match event:
            case BookSnapshot() | BookUpdate():
                self._on_book(market, line, event, now_us)
            case Quote():
                self._on_quote(market, line, event, now_us)
            case TradePrint():
                self._on_trade(market, line, event, now_us)
            case Amended():
                self._on_amended(market, source, event, now_us)

    def resyncs(self, now_us: int) -> list[tuple[str, str]]:
        """(source, symbol) of the books for which a snapshot should be asked now. Each is named once per while."""
        wanted = []
        for feed in self._feeds.values():
            for symbol in feed.lost:
                line = self._markets[symbol].lines[feed.name]
                if line.resync_us is None or now_us - line.resync_us >= RESYNC_AFTER_US:
                    line.resync_us = now_us
                    wanted.append((feed.name, symbol))
        return wanted

    def drain(self, now_us: int) -> list[Outgoing]:
        """Everything there is to say by now, in order."""
        for market in self._markets.values():
            if market.changed or (market.check_us is not None and market.check_us <= now_us):
                self._price(market, now_us)
            if market.book_changed and market.book_due_us <= now_us:
                self._book(market, now_us)
            for bar in market.tape.due(now_us):
                self._say(f"bars:{bar.interval}:{bar.symbol}", "BAR", bar)
            if (ticker := market.tape.ticker(now_us, market.tick)) is not None:
                self._say(f"ticker:{market.symbol}", "TICKER", ticker)
        for feed in self._feeds.values():
            self._status(feed, now_us)
        out = [*self._out]
        self._out.clear()
        return out

    @property
    def gaps(self) -> int:
        return sum(feed.gaps for feed in self._feeds.values())

    @property
    def late_trades(self) -> int:
        return sum(market.tape.late for market in self._markets.values())

    # --- what sources say ---

    def _on_book(self, market: _Market, line: _Line, event: BookSnapshot | BookUpdate, now_us: int) -> None:
        feed = line.feed
        try:
            if isinstance(event, BookSnapshot):
                line.tracker.snapshot(event)
            elif not line.tracker.update(event):
                return
        except BookGap as gap:
            feed.gaps += 1
            feed.lost[market.symbol] = str(gap)
            line.resync_us = None
            if line.quote is not None and not line.quoted:
                line.quote = replace(line.quote, complete=False)
            market.changed = market.book_changed = True
            return
        feed.lost.pop(market.symbol, None)
        market.book_changed = True
        if line.quoted:
            return
        bid, ask = line.tracker.book.best()
        if bid is None or ask is None:
            line.quote = None
        else:
            line.quote = _quote(feed.name, bid, ask, event.ts_event, now_us)
        market.changed = True

    def _on_quote(self, market: _Market, line: _Line, event: Quote, now_us: int) -> None:
        if event.bid_size is None or event.ask_size is None:
            return  # Coinbase's ticker of 2021: it comes with trades only and without sizes; the book knows more
        line.quoted = True
        bid, ask = (event.bid, event.bid_size), (event.ask, event.ask_size)
        line.quote = _quote(line.feed.name, bid, ask, event.ts_event, now_us)
        market.changed = market.book_changed = True

    def _on_trade(self, market: _Market, line: _Line, event: TradePrint, now_us: int) -> None:
        if line.repeats(event.trade_id):
            return
        market.trade_seq += 1
        trade = Trade(
            symbol=market.symbol,
            price=event.price,
            size=event.size,
            source=line.feed.name,
            trade_id=str(event.trade_id),
            aggressor_side=event.aggressor,
            conditions=["REPEATED"] if event.repeated else [],
            seq=market.trade_seq,
            ts_event=event.ts_event if event.ts_event is not None else now_us,
            ts_recv=now_us,
            ext=self._ext,
        )
        market.tape.add(trade)
        self._say(f"trades:{market.symbol}", "TRADE", trade)

    def _on_amended(self, market: _Market, source: str, event: Amended, now_us: int) -> None:
        bust = event.corrected_price is None or event.corrected_size is None
        trade_id = str(event.trade_id)
        new_id = str(event.corrected_trade_id) if event.corrected_trade_id is not None else None
        corrected = None
        if event.corrected_price is not None and event.corrected_size is not None:
            corrected = Trade(
                symbol=market.symbol,
                price=event.corrected_price,
                size=event.corrected_size,
                source=source,
                trade_id=new_id or trade_id,
            )
        market.tape.correct(source, trade_id, corrected)
        message = TradeCorrection(
            symbol=market.symbol,
            original_trade_id=trade_id,
            original_price=event.price,
            original_size=event.size,
            corrected_trade_id=None if bust else new_id,
            corrected_price=None if bust else event.corrected_price,
            corrected_size=None if bust else event.corrected_size,
            source=source,
            ts_event=event.ts_event,
            ts_recv=now_us,
            ext=self._ext,
        )
        self._say(f"trades:{market.symbol}", "TRADE_BUST" if bust else "TRADE_CORRECTION", message)

    def _list(self, instrument: Instrument, now_us: int) -> None:
        market = self._market(instrument.symbol)
        known = market.instrument
        if known is not None and replace(instrument, ts_event=None, ext=None) == replace(
            known, ts_event=None, ext=None
        ):
            return
        stamped = instrument if instrument.ts_event is not None else replace(instrument, ts_event=now_us)
        market.instrument = replace(stamped, ext=self._ext) if self._ext else stamped
        market.changed = market.book_changed = True
        self._say(f"instruments:{market.symbol}", "INSTRUMENT", market.instrument)

    # --- what is published ---

    def _price(self, market: _Market, now_us: int) -> None:
        market.changed = False
        before = market.tick
        tick = None if market.halted else self._consolidated(market, now_us)
        if tick is None:
            market.used = []
            market.check_us = None
            state: QuoteState = "HALTED" if market.halted else "STALE"
            if before is None or before.state == state:
                return  # said once: an old price must not look like news
            age_us = max(0, now_us - before.ts_event) if before.ts_event is not None else None
            total = before.quality.sources_total if before.quality is not None else 0
            quality = Quality(sources_ok=0, sources_total=total, age_us=age_us)
            tick = replace(before, state=state, quality=quality)
        elif before is not None and not _is_news(before, tick):
            return
        market.tick_seq += 1
        market.tick = replace(tick, seq=market.tick_seq, ts_pub=now_us, ext=self._ext)
        self._say(f"prices:{market.symbol}", "PRICE_TICK", market.tick)

    def _consolidated(self, market: _Market, now_us: int) -> PriceTick | None:
        rules = self._rules_of.get(market.symbol, self._rules)
        quotes = {name: line.quote for name, line in market.lines.items() if line.quote is not None}
        usable = {name for name, quote in quotes.items() if fault(quote, now_us=now_us, rules=rules) is None}
        primary = {name for name, line in market.lines.items() if line.feed.role == "PRIMARY"}
        market.failover = decide(
            market.failover,
            primary=bool(usable & primary),
            secondary=bool(usable - primary),
            now_us=now_us,
            dwell_us=rules.dwell_us,
        )
        standing_in = market.failover.standing_in and bool(primary)
        asked: Collection[str] = market.lines if market.failover.standing_in else primary
        tick = consolidate(
            market.symbol,
            [quote for name, quote in quotes.items() if name in asked],
            now_us=now_us,
            rules=rules,
            sources=[name for name in market.lines if name in asked],
            outliers=outliers_of(market.tick) if market.tick is not None else (),
            held_back=primary if standing_in else (),
        )
        excluded = {each.source for each in tick.quality.excluded} if tick is not None and tick.quality else set(asked)
        used = [line for name, line in market.lines.items() if name in asked and name not in excluded]
        market.book_changed = market.book_changed or used != market.used
        market.used = used
        outliers = outliers_of(tick) if tick is not None else frozenset()
        for name, line in market.lines.items():
            _toggle(line.feed.disputed, market.symbol, name in outliers)
            _toggle(line.feed.standing_in, market.symbol, standing_in and name not in primary)
        ends = [quotes[name].ts_event + rules.stale_after_us + 1 for name in usable]
        if standing_in and market.failover.clean_since_us is not None:
            ends.append(market.failover.clean_since_us + rules.dwell_us)
        market.check_us = min(ends, default=None)
        return tick

    def _book(self, market: _Market, now_us: int) -> None:
        tick = market.tick
        if tick is None or not market.used or (tick.quality is not None and tick.quality.crossed):
            return
        market.book_changed = False
        market.book_due_us = now_us + self._book_interval_us
        market.book_seq += 1
        sides: tuple[Side, Side] = ("BUY", "SELL")
        bids, asks = (
            together((line.levels(side, self._depth) for line in market.used), side, self._depth) for side in sides
        )
        book = Book(
            symbol=market.symbol,
            depth=self._depth,
            bids=bids,
            asks=asks,
            source=CONSOLIDATED,
            first_seq=market.book_seq,
            last_seq=market.book_seq,
            checksum=checksum(bids[:CHECKSUM_LEVELS], asks[:CHECKSUM_LEVELS]),
            ts_event=tick.ts_event,
            ts_recv=tick.ts_recv,
            ts_pub=now_us,
            ext=self._ext,
        )
        self._say(f"book:{self._depth}:{market.symbol}", "BOOK", book)

    def _status(self, feed: _Feed, now_us: int) -> None:
        health = feed.health(now_us, self._rules)
        if health == feed.told:
            return
        feed.told = health
        status = SourceStatus(
            source=feed.name,
            state=health[0],
            role=feed.role,
            last_ts_event=feed.last_event_us,
            gap_count=feed.gaps,
            reconnects=max(0, feed.reconnects),
            reason=health[1],
            ext=self._ext,
        )
        self._say(SOURCES_CHANNEL, "SOURCE_STATUS", status, feed.name)

    def _say(self, channel: str, kind: str, data: Any, key: str | None = None) -> None:
        if len(self._out) >= MAX_WAITING:
            self._out.popleft()
            self.dropped += 1
        self._out.append(Outgoing(channel, kind, data, key))

    def _market(self, symbol: str) -> _Market:
        market = self._markets.get(symbol)
        if market is None:
            market = self._markets[symbol] = _Market(symbol, Tape(symbol, source=CONSOLIDATED, ext=self._ext))
        return market

    def _line(self, symbol: str, source: str) -> tuple[_Market, _Line]:
        market = self._market(symbol)
        line = market.lines.get(source)
        if line is None:
            line = market.lines[source] = _Line(self._feeds[source], symbol)
        return market, line

    def _lines_of(self, source: str) -> list[tuple[_Market, _Line]]:
        return [(market, market.lines[source]) for market in self._markets.values() if source in market.lines]


def together(sides: Iterable[Sequence[Level]], side: Side, depth: int) -> list[Level]:
    """One side of several books: sizes at equal prices add up; best first."""
    sizes: dict[Decimal, Decimal] = {}
    names: dict[Decimal, str] = {}
    for levels in sides:
        for price, size in levels:
            key = Decimal(price)
            names.setdefault(key, price)
            sizes[key] = EXACT.add(sizes[key], Decimal(size)) if key in sizes else Decimal(size)
    best = sorted(sizes, reverse=side == "BUY")[:depth]
    return [(names[key], text(sizes[key])) for key in best]


def _quote(source: str, bid: Level, ask: Level, ts_event: int | None, now_us: int) -> SourceQuote:
    return SourceQuote(
        source=source,
        bid=bid[0],
        bid_size=bid[1],
        ask=ask[0],
        ask_size=ask[1],
        ts_event=min(ts_event, now_us) if ts_event is not None else now_us,  # a clock ahead of ours keeps nothing fresh
        ts_recv=now_us,
    )


def _is_news(before: PriceTick, tick: PriceTick) -> bool:
    """Whether price, size, state or the sources changed, or the old one has not been confirmed for a while."""
    if (before.bid, before.bid_size, before.ask, before.ask_size) != (tick.bid, tick.bid_size, tick.ask, tick.ask_size):
        return True
    assert before.quality is not None and tick.quality is not None
    if before.state != tick.state or before.quality.excluded != tick.quality.excluded:
        return True
    return (tick.ts_event or 0) - (before.ts_event or 0) >= REFRESH_US


def _toggle(names: set[str], name: str, present: bool) -> None:
    if present:
        names.add(name)
    else:
        names.discard(name)
