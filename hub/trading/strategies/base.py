"""What a strategy is: hooks that are told what happened and answer what they would like to do.

A hook neither waits nor reads a clock: the same events at the same times make the same intents, live and in a backtest.
What it answers goes the way of every order of a person: the same checks, the same limits, the same refusals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from hub.trading.strategies.blotter import Blotter
from protocol.trading import (
    Bar,
    ExecutionReport,
    Instrument,
    OrderCancel,
    OrderCancelAll,
    OrderReplace,
    OrderSubmit,
    PriceTick,
    Trade,
    TradingState,
)

Interval = Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]
Intent = OrderSubmit | OrderReplace | OrderCancel | OrderCancelAll


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy is given. `instrument` tells how a symbol trades, None while that is not known."""

    symbols: tuple[str, ...]
    blotter: Blotter
    instrument: Callable[[str], Instrument | None]


class Strategy:
    """Every hook may be left as it is. Times are microseconds. `intervals`: of the bars it wants to be told of."""

    intervals: Sequence[Interval] = ()

    def on_start(self, now_us: int) -> Iterable[Intent]:
        return ()

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        """The newest price of one of its symbols. When they come faster than it works, those between are left out."""
        return ()

    def on_trade(self, trade: Trade, now_us: int) -> Iterable[Intent]:
        return ()

    def on_bar(self, bar: Bar, now_us: int) -> Iterable[Intent]:
        """A finished bar, or a revision of one."""
        return ()

    def on_insight(self, insight: Any, now_us: int) -> Iterable[Intent]:
        """What an agent has to say of one of its symbols."""
        return ()

    def on_execution(self, report: ExecutionReport, now_us: int) -> Iterable[Intent]:
        """Something happened to one of its orders; the blotter knows it already."""
        return ()

    def on_refused(self, intent: Intent, reason: str, now_us: int) -> Iterable[Intent]:
        """An intent that made no report, because nobody could take it. The blotter knows."""
        return ()

    def on_disconnect(self, now_us: int) -> Iterable[Intent]:
        """Something may have been missed: events or reports."""
        return ()

    def on_trading_disabled(self, state: TradingState, now_us: int) -> Iterable[Intent]:
        """A kill switch that it is under was thrown: REDUCING or HALTED."""
        return ()

    def on_stop(self, now_us: int) -> Iterable[Intent]:
        """The last word. Whatever is left of its orders is canceled after it."""
        return ()
