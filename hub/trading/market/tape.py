"""One symbol's trades, whatever source they come from: its bars of every length and its last 24 hours. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Mapping
from decimal import Decimal
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from hub.trading.decimals import EXACT, ratio, text
from hub.trading.market.bars import GRACE_US, INTERVAL_US, VWAP_EXTRA_PLACES, BarBuilder, Interval
from protocol.trading import Bar, PriceTick, Ticker, Trade

SECOND_US = 1_000_000
MINUTE_US = INTERVAL_US["1m"]
DAY_US = INTERVAL_US["1d"]
UPDATES_PER_BAR = 60  # how often an unfinished bar is told, at most once a second
MAX_CORRECTABLE = 20_000  # trades that are remembered in case they are corrected


class _Minute:
    """What was traded in one minute of the last 24 hours."""

    __slots__ = ("count", "high", "low", "open", "quote_volume", "start_us", "volume")

    def __init__(self, start_us: int, price: Decimal) -> None:
        self.start_us = start_us
        self.open = self.high = self.low = price
        self.volume = self.quote_volume = Decimal(0)
        self.count = 0


class Tape:
    """`late` counts trades that came after the grace of their bars, `unmatched` corrections of unknown trades."""

    def __init__(
        self, symbol: str, *, source: str, ext: Mapping[str, Any] | None = None, grace_us: int = GRACE_US
    ) -> None:
        self._symbol = symbol
        self._source = source
        self._ext = dict(ext) if ext else None
        self._builders = {
            interval: BarBuilder(symbol, interval, source=source, ext=self._ext, grace_us=grace_us)
            for interval in INTERVAL_US
        }
        self._told_us: dict[Interval, int] = {}
        self._trades: OrderedDict[tuple[str | None, str], Trade] = OrderedDict()
        self._minutes: deque[_Minute] = deque()
        self._volume = self._quote_volume = Decimal(0)  # of all of them
        self._last: Trade | None = None
        self._changed = False
        self._ticker_us = 0
        self.late = 0
        self.unmatched = 0

    def add(self, trade: Trade) -> None:
        """Count a trade, whose `ts_event` must be known."""
        assert trade.ts_event is not None
        in_time = [builder.add(trade) for builder in self._builders.values()]
        if not all(in_time):
            self.late += 1
        if trade.trade_id is not None:
            self._trades[trade.source, trade.trade_id] = trade
            if len(self._trades) > MAX_CORRECTABLE:
                self._trades.popitem(last=False)
        if self._last is None or trade.ts_event >= (self._last.ts_event or 0):
            self._last = trade
        self._count(trade, 1)
        self._changed = True

    def correct(self, source: str | None, trade_id: str, corrected: Trade | None) -> Trade | None:
        """Count `corrected` in place of a trade, or nothing. Answers what it was; None: it is not known any more."""
        original = self._trades.pop((source, trade_id), None)
        if original is None:
            self.unmatched += 1
            return None
        if corrected is not None:
            corrected = replace(corrected, ts_event=original.ts_event, aggressor_side=original.aggressor_side)
            self._trades[source, corrected.trade_id or trade_id] = corrected
        in_time = [builder.amend(original, corrected) for builder in self._builders.values()]
        if not all(in_time):
            self.late += 1
        self._count(original, -1)
        if corrected is not None:
            self._count(corrected, 1)
        if self._last is original:
            self._last = corrected or max(reversed(self._trades.values()), key=_at_us, default=None)
        self._changed = True
        return original

    def due(self, now_us: int) -> list[Bar]:
        """Finished bars and their revisions, and now and then the unfinished ones."""
        bars = []
        for interval, builder in self._builders.items():
            bars += builder.due(now_us)
            every_us = max(SECOND_US, INTERVAL_US[interval] // UPDATES_PER_BAR)
            if interval != "1s" and now_us - self._told_us.get(interval, 0) >= every_us:
                self._told_us[interval] = now_us
                bars += builder.update()
        return bars

    def ticker(self, now_us: int, tick: PriceTick | None) -> Ticker | None:
        """The last 24 hours, if something was traded since it was last told, at most once a second."""
        if not self._changed or self._last is None or now_us - self._ticker_us < SECOND_US:
            return None
        while self._minutes and self._minutes[0].start_us <= now_us - DAY_US - MINUTE_US:
            gone = self._minutes.popleft()
            self._volume = EXACT.subtract(self._volume, gone.volume)
            self._quote_volume = EXACT.subtract(self._quote_volume, gone.quote_volume)
        if not self._minutes:
            return None
        self._changed = False
        self._ticker_us = now_us
        last = Decimal(self._last.price)
        opened = self._minutes[0].open
        volume, quote_volume = self._volume, self._quote_volume
        places = len(self._last.price.partition(".")[2])
        change = EXACT.subtract(last, opened)
        return Ticker(
            symbol=self._symbol,
            last=self._last.price,
            last_size=self._last.size,
            open_24h=text(opened),
            high_24h=text(max(minute.high for minute in self._minutes)),
            low_24h=text(min(minute.low for minute in self._minutes)),
            volume_24h=text(volume),
            quote_volume_24h=text(quote_volume),
            vwap_24h=text(ratio(quote_volume, volume, places + VWAP_EXTRA_PLACES)) if volume else None,
            change=text(change),
            change_pct=text(ratio(EXACT.multiply(change, Decimal(100)), opened, 2)) if opened else None,
            bid=tick.bid if tick is not None else None,
            ask=tick.ask if tick is not None else None,
            trade_count=sum(minute.count for minute in self._minutes),
            source=self._source,
            ts_event=self._last.ts_event,
            ext=self._ext,
        )

    def _count(self, trade: Trade, sign: int) -> None:
        assert trade.ts_event is not None
        price, size = Decimal(trade.price), Decimal(trade.size)
        minute = self._minute(trade.ts_event, price)
        if sign < 0:
            size = size.copy_negate()
            self._rework(minute)
        else:
            minute.high, minute.low = max(minute.high, price), min(minute.low, price)
        notional = EXACT.multiply(price, size)
        minute.count += sign
        minute.volume, self._volume = EXACT.add(minute.volume, size), EXACT.add(self._volume, size)
        minute.quote_volume = EXACT.add(minute.quote_volume, notional)
        self._quote_volume = EXACT.add(self._quote_volume, notional)

    def _rework(self, minute: _Minute) -> None:
        """Extremes without the trade that was withdrawn, as far as the others are still remembered."""
        prices = [
            Decimal(trade.price)
            for trade in self._trades.values()
            if minute.start_us <= (trade.ts_event or 0) < minute.start_us + MINUTE_US
        ]
        if prices:
            minute.open, minute.high, minute.low = prices[0], max(prices), min(prices)

    def _minute(self, at_us: int, price: Decimal) -> _Minute:
        start_us = at_us - at_us % MINUTE_US
        if self._minutes and self._minutes[-1].start_us == start_us:
            return self._minutes[-1]
        at = bisect_left(self._minutes, start_us, key=attrgetter("start_us"))
        if at == len(self._minutes) or self._minutes[at].start_us != start_us:
            self._minutes.insert(at, _Minute(start_us, price))
        return self._minutes[at]


def _at_us(trade: Trade) -> int:
    return trade.ts_event or 0
