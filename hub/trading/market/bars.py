"""Bars from trades: half-open intervals [start, end) aligned to UTC, keyed by start.

Pure. An interval without a trade has no bar. A bar is closed when its interval is over; a trade that comes late, or is
corrected or withdrawn, makes a new revision of it, but only within `grace_us` after its end.
"""

from __future__ import annotations

from decimal import Decimal
from operator import attrgetter
from typing import Any, Literal, NamedTuple

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
GRACE_US = 5_000_000
MAX_TRADES = 20_000  # of one interval, kept to work it out anew; beyond, a correction changes its sums only


class _Counted(NamedTuple):
    at_us: int
    name: tuple[str | None, str | None]  # two sources may give the same id
    price: Decimal
    size: Decimal
    taker_buy: bool


def _counted(trade: Trade) -> _Counted:
    if trade.ts_event is None:
        raise ValueError("a trade without time belongs to no bar")
    price, size = Decimal(trade.price), Decimal(trade.size)
    return _Counted(trade.ts_event, (trade.source, trade.trade_id), price, size, trade.aggressor_side == "BUYER")


_at_us = attrgetter("at_us")


class _Making:
    """One interval and what was traded in it."""

    __slots__ = (
        "changed",
        "close",
        "closed",
        "count",
        "high",
        "low",
        "open",
        "quote_volume",
        "revision",
        "start_us",
        "taker_buy",
        "told",
        "trades",
        "volume",
    )

    def __init__(self, start_us: int) -> None:
        self.start_us = start_us
        self.trades: list[_Counted] = []
        self.closed = False
        self.changed = False  # since it was last told
        self.told = False  # as closed
        self.revision = 0
        self.open: _Counted | None = None
        self.close: _Counted | None = None
        self.high = self.low = Decimal(0)
        self._empty()

    def _empty(self) -> None:
        """No trades; the prices stay, for a bar that was told must not vanish when they are all withdrawn."""
        self.volume = self.quote_volume = self.taker_buy = Decimal(0)
        self.count = 0

    def add(self, trade: _Counted) -> None:
        if len(self.trades) < MAX_TRADES:
            self.trades.append(trade)
        self._count(trade)
        self.changed = True

    def _count(self, trade: _Counted) -> None:
        if self.open is None or not self.count or trade.at_us < self.open.at_us:
            self.open = trade
        if self.close is None or not self.count or trade.at_us >= self.close.at_us:
            self.close = trade
        self.high = max(self.high, trade.price) if self.count else trade.price
        self.low = min(self.low, trade.price) if self.count else trade.price
        self._sum(trade, 1)

    def _sum(self, trade: _Counted, sign: int) -> None:
        size = trade.size if sign > 0 else trade.size.copy_negate()
        self.volume = EXACT.add(self.volume, size)
        self.quote_volume = EXACT.add(self.quote_volume, EXACT.multiply(trade.price, size))
        if trade.taker_buy:
            self.taker_buy = EXACT.add(self.taker_buy, size)
        self.count += sign

    def amend(self, original: _Counted, corrected: _Counted | None) -> None:
        """Take one trade back and put another in its place."""
        at = next((n for n, each in enumerate(self.trades) if each.name == original.name), None)
        self.changed = True
        whole = len(self.trades) == self.count
        self._sum(original, -1)
        if corrected is not None:
            self._sum(corrected, 1)
        if at is None or not whole:
            return
        self.trades[at : at + 1] = [corrected] if corrected is not None else []
        if not self.trades:
            self._empty()
            return
        # Adding up thousands of trades anew would take a tenth of a second.
        self.open = min(self.trades, key=_at_us)
        self.close = max(reversed(self.trades), key=_at_us)
        prices = [trade.price for trade in self.trades]
        self.high, self.low = max(prices), min(prices)


class BarBuilder:
    """Builds the bars of one symbol and interval."""

    def __init__(
        self,
        symbol: str,
        interval: Interval,
        *,
        source: str,
        ext: dict[str, Any] | None = None,
        grace_us: int = GRACE_US,
    ) -> None:
        self._symbol = symbol
        self._interval: Interval = interval
        self._length_us = INTERVAL_US[interval]
        self._source = source
        self._ext = ext
        self._grace_us = grace_us
        self._makings: dict[int, _Making] = {}  # those that may still change, by start
        self._now_us = 0

    def add(self, trade: Trade) -> bool:
        """Count a trade, whose `ts_event` must be known. False: it came too late, its bar stays as it is."""
        counted = _counted(trade)
        if (making := self._making(counted.at_us)) is None:
            return False
        making.add(counted)
        return True

    def amend(self, original: Trade, corrected: Trade | None) -> bool:
        """Count another trade in place of one that was counted, or none. False: its bar can no longer change."""
        counted = _counted(original)
        making = self._makings.get(self._start_us(counted.at_us))
        if making is None:
            return False
        making.amend(counted, _counted(corrected)._replace(at_us=counted.at_us) if corrected is not None else None)
        return True

    def due(self, now_us: int) -> list[Bar]:
        """Bars that are finished by now, and new revisions of those that were."""
        self._now_us = max(self._now_us, now_us)
        bars = []
        for start_us, making in sorted(self._makings.items()):
            if start_us + self._length_us > now_us:
                continue
            if not making.closed or making.changed:
                making.closed = True
                bars.append(self._tell(making))
            if start_us + self._length_us + self._grace_us <= now_us:
                del self._makings[start_us]
        return bars

    def update(self) -> list[Bar]:
        """The unfinished bars as they stand, if they changed since they were last told."""
        return [self._tell(each) for each in self._makings.values() if not each.closed and each.changed]

    def _start_us(self, at_us: int) -> int:
        return at_us - at_us % self._length_us

    def _making(self, at_us: int) -> _Making | None:
        start_us = self._start_us(at_us)
        making = self._makings.get(start_us)
        if making is None:
            if start_us + self._length_us + self._grace_us <= self._now_us:
                return None
            making = self._makings[start_us] = _Making(start_us)
        return making

    def _tell(self, making: _Making) -> Bar:
        making.changed = False
        assert making.open is not None and making.close is not None  # made for a trade
        if making.told:
            making.revision += 1
        making.told = making.closed
        last = text(making.close.price)
        places = len(last.partition(".")[2]) + VWAP_EXTRA_PLACES
        return Bar(
            symbol=self._symbol,
            interval=self._interval,
            start=making.start_us,
            end=making.start_us + self._length_us,
            open=text(making.open.price),
            high=text(making.high),
            low=text(making.low),
            close=last,
            volume=text(making.volume),
            quote_volume=text(making.quote_volume),
            vwap=text(ratio(making.quote_volume, making.volume, places)) if making.volume else None,
            taker_buy_volume=text(making.taker_buy),
            trade_count=making.count,
            closed=making.closed,
            revision=making.revision,
            source=self._source,
            ext=self._ext,
        )
