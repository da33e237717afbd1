"""Where orders go."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from hub.clock import Clock
from hub.config import TradingSettings
from hub.trading.venues.matching import Fees, Matcher
from hub.trading.venues.paper import Latency, PaperVenue
from protocol.trading import Instrument


def make_paper_venue(
    settings: TradingSettings,
    *,
    instrument: Callable[[str], Instrument | None],
    position: Callable[[str, str], Decimal],
    clock: Clock,
) -> PaperVenue:
    """`position(account, symbol)` is asked before the first trade of a symbol there. Let it `hear` the market."""
    fees = Fees(maker_bps=Decimal(settings.paper_maker_bps), taker_bps=Decimal(settings.paper_taker_bps))
    latency = Latency(least_ms=settings.paper_latency_ms, jitter_ms=settings.paper_jitter_ms)
    matcher = Matcher(instrument=instrument, position=position, fees=fees)
    return PaperVenue(matcher, clock=clock, latency=latency, seed=settings.paper_seed)
