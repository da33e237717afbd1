"""Market making: a bid below and an offer above the middle, both moved away from the side that fills too often."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from hub.trading.decimals import EXACT, midpoint
from hub.trading.strategies.base import Intent, Setting, Strategy
from hub.trading.strategies.blotter import Own
from protocol.fields import Quantity
from protocol.trading import PriceTick, Side, TradingState

SURE = ("LIVE", "DEGRADED")
SIDES: tuple[Side, ...] = ("BUY", "SELL")
BPS = Decimal(10_000)


class MarketMakingParameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`half_spread_bps` is the distance of each quote from the middle, `skew_bps` how far both are moved when the
    position is `max_position`, at which the side that would add to it is not quoted. A quote is moved when it is
    `requote_bps` off, and each side at most once per `pause_ms`."""

    qty: Quantity
    max_position: Quantity
    half_spread_bps: Quantity = "5"
    skew_bps: Quantity = "5"
    requote_bps: Quantity = "1"
    pause_ms: Annotated[int, Meta(ge=0, le=60_000)] = 500

    def __post_init__(self) -> None:
        if not 0 < Decimal(self.qty) <= Decimal(self.max_position):
            raise ValueError("`qty` must be above 0 and at most `max_position`")


class MarketMaking(Strategy):
    def __init__(self, setting: Setting, parameters: MarketMakingParameters) -> None:
        self._blotter = setting.blotter
        self._instrument = setting.instrument
        self._symbols = setting.symbols
        self._qty = Decimal(parameters.qty)
        self._max_position = Decimal(parameters.max_position)
        self._half_spread_bps = Decimal(parameters.half_spread_bps)
        self._skew_bps = Decimal(parameters.skew_bps)
        self._requote_bps = Decimal(parameters.requote_bps)
        self._pause_us = parameters.pause_ms * 1000
        self._moved_us: dict[tuple[str, Side], int] = {}
        self._disabled = False

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        instrument = self._instrument(tick.symbol)
        if tick.symbol not in self._symbols or instrument is None:
            return []
        crossed = tick.quality is not None and tick.quality.crossed
        if self._disabled or tick.state not in SURE or tick.bid is None or tick.ask is None or crossed:
            return self._blotter.cancel_open(tick.symbol)
        intents: list[Intent] = []
        for side in SIDES:
            price = self._price(tick.symbol, side, Decimal(tick.bid), Decimal(tick.ask), Decimal(instrument.tick_size))
            intents += self._quote(tick.symbol, side, price, now_us)
        return intents

    def on_disconnect(self, now_us: int) -> Iterable[Intent]:
        return [cancel for symbol in self._symbols for cancel in self._blotter.cancel_open(symbol)]

    def on_trading_disabled(self, state: TradingState, now_us: int) -> Iterable[Intent]:
        self._disabled = state.mode != "ACTIVE"
        return self.on_disconnect(now_us) if self._disabled else ()

    def on_stop(self, now_us: int) -> Iterable[Intent]:
        return self.on_disconnect(now_us)

    def _price(self, symbol: str, side: Side, bid: Decimal, ask: Decimal, tick_size: Decimal) -> Decimal | None:
        """Where to quote, short of what would trade at once; None: not at all, there is enough of it."""
        position = self._blotter.position(symbol)
        if (position if side == "BUY" else -position) + self._qty > self._max_position:
            return None
        skew_bps = EXACT.divide(EXACT.multiply(self._skew_bps, position), self._max_position)
        away_bps = -self._half_spread_bps if side == "BUY" else self._half_spread_bps
        price = EXACT.multiply(midpoint(bid, ask), EXACT.add(1, EXACT.divide(EXACT.subtract(away_bps, skew_bps), BPS)))
        rounding = ROUND_FLOOR if side == "BUY" else ROUND_CEILING
        ticks = EXACT.divide(price, tick_size).to_integral_value(rounding=rounding)
        price = EXACT.multiply(ticks, tick_size)
        price = min(price, ask - tick_size) if side == "BUY" else max(price, bid + tick_size)
        return price if price > 0 else None

    def _quote(self, symbol: str, side: Side, price: Decimal | None, now_us: int) -> list[Intent]:
        own = next((each for each in self._blotter.open(symbol) if each.side == side), None)
        if own is not None and not own.idle:
            return []
        if price is None:
            return [] if own is None else [self._blotter.cancel(own)]
        if (own is not None and not self._off(own, price)) or not self._may_move(symbol, side, now_us):
            return []
        if own is not None:
            return [self._blotter.replace(own, price=price)]
        return [self._blotter.submit(symbol, side, self._qty, price=price, post_only=True)]

    def _off(self, own: Own, price: Decimal) -> bool:
        if own.price is None:
            return True
        return abs(own.price - price) * BPS > self._requote_bps * price

    def _may_move(self, symbol: str, side: Side, now_us: int) -> bool:
        last_us = self._moved_us.get((symbol, side))
        if last_us is not None and now_us - last_us < self._pause_us:
            return False
        self._moved_us[symbol, side] = now_us
        return True
