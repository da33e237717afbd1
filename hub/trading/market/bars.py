"""Bars from trades: half-open intervals [start, end) aligned to UTC, keyed by start.

Pure. An interval without a trade has no bar.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

from hub.trading.decimals import EXACT, ratio, text
from protocol.trading import Bar, Trade

Interval = Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]
INTERVAL_US: dict[Interval, int] = {
    "1s": 1_000_000,
    "1m": 60_000_000,
    "5m": 300_000_000,
    "15m": 900_000_000,
    "1h": 3_600_000_000,
    "4h": 14_400_000_000,
    "1d": 86_400_000_000,
}
VWAP_EXTRA_PLACES = 4


class BarBuilder:
    """Builds the bars of one symbol and interval. Trades come in the order of their time; call `close` before `add`."""

    def __init__(self, symbol: str, interval: Interval, *, source: str, ext: dict[str, Any] | None = None) -> None:
        self._symbol = symbol
        self._interval: Interval = interval
        self._source = source
        self._ext = ext
        self._prices: list[Decimal] = []  # open, high, low, close of the open interval; empty: no trade yet
        self._start = 0
        self._volume = self._quote_volume = self._taker_buy = Decimal(0)
        self._trades = 0
        self._revision = 0
        self._changed = False

    def add(self, trade: Trade) -> None:
        """Count a trade, whose `ts_event` must be known and inside the open interval."""
        if trade.ts_event is None:
            raise ValueError("a trade without time belongs to no bar")
        price, size = Decimal(trade.price), Decimal(trade.size)
        if not self._prices:
            self._open(trade.ts_event, price)
        elif trade.ts_event >= self._end:
            raise ValueError("the interval of the bar is over: close it first")
        _, high, low, _ = self._prices
        self._prices[1:] = [max(high, price), min(low, price), price]
        self._volume = EXACT.add(self._volume, size)
        self._quote_volume = EXACT.add(self._quote_volume, EXACT.multiply(price, size))
        if trade.aggressor_side == "BUYER":
            self._taker_buy = EXACT.add(self._taker_buy, size)
        self._trades += 1
        self._changed = True

    def close(self, now_us: int) -> Bar | None:
        """The finished bar, once its interval is over."""
        if not self._prices or now_us < self._end:
            return None
        bar = self._bar(closed=True)
        self._prices.clear()
        return bar

    def update(self) -> Bar | None:
        """The unfinished bar as it stands, if it changed since it was last asked for."""
        if not self._prices or not self._changed:
            return None
        bar = self._bar(closed=False)
        self._revision += 1
        self._changed = False
        return bar

    @property
    def _end(self) -> int:
        return self._start + INTERVAL_US[self._interval]

    def _open(self, ts_event: int, price: Decimal) -> None:
        self._start = ts_event - ts_event % INTERVAL_US[self._interval]
        self._prices = [price] * 4
        self._volume = self._quote_volume = self._taker_buy = Decimal(0)
        self._trades = self._revision = 0

    def _bar(self, *, closed: bool) -> Bar:
        opened, high, low, last = (text(price) for price in self._prices)
        places = len(last.partition(".")[2]) + VWAP_EXTRA_PLACES
        return Bar(
            symbol=self._symbol,
            interval=self._interval,
            start=self._start,
            end=self._end,
            open=opened,
            high=high,
            low=low,
            close=last,
            volume=text(self._volume),
            quote_volume=text(self._quote_volume),
            vwap=text(ratio(self._quote_volume, self._volume, places)) if self._volume else None,
            taker_buy_volume=text(self._taker_buy),
            trade_count=self._trades,
            closed=closed,
            revision=self._revision,
            source=self._source,
            ext=self._ext,
        )
