"""Momentum: long while the fast average of the closes is above the slow one, flat or short while it is below."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from hub.trading.strategies.base import Intent, Interval, Setting, Strategy
from protocol.fields import Quantity
from protocol.trading import Bar, PriceTick, Side

SURE = ("LIVE", "DEGRADED")


class MomentumParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`fast` and `slow` count bars of `interval`; `band_bps` is how far apart the averages must be to change sides."""

    qty: Quantity
    interval: Interval = "1s"
    fast: Annotated[int, Meta(ge=1, le=1_000)] = 10
    slow: Annotated[int, Meta(ge=2, le=10_000)] = 30
    band_bps: Annotated[float, Meta(ge=0, le=1_000)] = 0.5
    short: bool = True

    def __post_init__(self) -> None:
        if not Decimal(self.qty):
            raise ValueError("`qty` must be above 0")
        if self.fast >= self.slow:
            raise ValueError("`fast` must be below `slow`")


class _Averages:
    """Exponential averages of the closes of one symbol. Floats will do: they decide when, never for how much."""

    __slots__ = ("_fast", "_seen", "_slow")

    def __init__(self) -> None:
        self._fast = self._slow = 0.0
        self._seen = 0

    def add(self, close: float, fast: int, slow: int) -> float | None:
        """How far the fast one is above the slow one, in basis points; None before `slow` closes."""
        self._seen += 1
        if self._seen == 1:
            self._fast = self._slow = close
        self._fast += (close - self._fast) * 2 / (fast + 1)
        self._slow += (close - self._slow) * 2 / (slow + 1)
        return (self._fast / self._slow - 1) * 10_000 if self._seen >= slow else None


class Momentum(Strategy):
    """Takes what stands at the touch with orders that are filled at once or not at all, one at a time per symbol."""

    def __init__(self, setting: Setting, parameters: MomentumParameters) -> None:
        self._blotter = setting.blotter
        self._wanted = parameters
        self.intervals = (parameters.interval,)
        self._qty = Decimal(parameters.qty)
        self._averages = {symbol: _Averages() for symbol in setting.symbols}
        self._targets: dict[str, Decimal] = {}
        self._ticks: dict[str, PriceTick] = {}

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        self._ticks[tick.symbol] = tick
        return ()

    def on_bar(self, bar: Bar, now_us: int) -> Iterable[Intent]:
        wanted, averages = self._wanted, self._averages.get(bar.symbol)
        if averages is None or bar.interval != wanted.interval or not bar.closed or bar.revision:
            return ()
        ahead = averages.add(float(bar.close), wanted.fast, wanted.slow)
        if ahead is None:
            return ()
        if ahead > wanted.band_bps:
            self._targets[bar.symbol] = self._qty
        elif ahead < -wanted.band_bps:
            self._targets[bar.symbol] = -self._qty if wanted.short else Decimal(0)
        return self._toward(bar.symbol)

    def on_stop(self, now_us: int) -> Iterable[Intent]:
        """Goes home flat, as far as the market lets it."""
        self._targets = dict.fromkeys(self._targets, Decimal(0))
        return [intent for symbol in self._targets for intent in self._toward(symbol)]

    def _toward(self, symbol: str) -> list[Intent]:
        missing = self._targets.get(symbol, Decimal(0)) - self._blotter.position(symbol)
        tick = self._ticks.get(symbol)
        if not missing or tick is None or tick.state not in SURE or any(self._blotter.open(symbol)):
            return []
        touch = tick.ask if missing > 0 else tick.bid
        if touch is None:
            return []
        side: Side = "BUY" if missing > 0 else "SELL"
        return [self._blotter.submit(symbol, side, abs(missing), price=Decimal(touch), tif="IOC")]
