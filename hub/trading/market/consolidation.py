"""One price out of several sources' quotes. Pure: the result depends on nothing but the arguments.

Rules, in order. A quote is usable if its source is connected and its book complete, it is young enough, its bid is
below its ask and its sizes are not zero. With three or more usable quotes, one whose mid is further than `outlier_bps`
from the median is left out, and taken back below half of that. With two that far apart nobody can say which is wrong:
DISPUTED, both stay. The best bid and ask of the rest are the price; where they cross, the mid is the median of the
sources' mids, and nothing is swapped silently.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence
from decimal import Decimal

import msgspec

from hub.trading.decimals import EXACT, basis_points, midpoint, text
from protocol.trading import Exclusion, PriceTick, Quality, QuoteState


class SourceQuote(msgspec.Struct, frozen=True, kw_only=True):
    """What one source last said about one symbol. Times in microseconds."""

    source: str
    bid: str
    bid_size: str
    ask: str
    ask_size: str
    ts_event: int
    ts_recv: int
    connected: bool = True
    complete: bool = True


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """`dwell_us`: how long a PRIMARY source must have been usable before SECONDARY ones stand back for it."""

    stale_after_us: int = 2_000_000
    outlier_bps: int = 50
    dwell_us: int = 5_000_000


class _Usable(msgspec.Struct, frozen=True):
    quote: SourceQuote
    bid: Decimal
    ask: Decimal
    mid: Decimal


def consolidate(
    symbol: str,
    quotes: Sequence[SourceQuote],
    *,
    now_us: int,
    rules: Rules,
    sources: Collection[str] = (),
    outliers: Collection[str] = (),
    held_back: Collection[str] = (),
) -> PriceTick | None:
    """The consolidated tick, or None when no source is usable (the price is then STALE: the caller has the last one).

    `quotes` holds one entry per source that has quoted, `sources` names all that should, `outliers` those left out as
    outliers last time, `held_back` those that may not take part yet though they could. `seq` is the caller's.
    """
    usable: list[_Usable] = []
    heard = {quote.source for quote in quotes}
    excluded = [Exclusion(source, "NO_QUOTE") for source in sources if source not in heard]
    total = len(quotes) + len(excluded)
    for quote in quotes:
        reason = fault(quote, now_us=now_us, rules=rules) or ("HELD_BACK" if quote.source in held_back else None)
        if reason is not None:
            excluded.append(Exclusion(quote.source, reason))
        else:
            bid, ask = Decimal(quote.bid), Decimal(quote.ask)
            usable.append(_Usable(quote, bid, ask, midpoint(bid, ask)))
    if not usable:
        return None
    kept = _without_outliers(usable, rules, outliers)
    excluded += [Exclusion(each.quote.source, "OUTLIER") for each in usable if each not in kept]
    state: QuoteState = "LIVE" if len(kept) == total else "DEGRADED"
    if len(usable) == 2 and _distance_bps(usable[0].mid, usable[1].mid) > rules.outlier_bps:
        state = "DISPUTED"
    return _tick(symbol, kept, excluded, total=total, state=state, now_us=now_us)


def outliers_of(tick: PriceTick) -> frozenset[str]:
    """The sources that a tick left out as outliers: what the next call of `consolidate` wants to know."""
    if tick.quality is None:
        return frozenset()
    return frozenset(each.source for each in tick.quality.excluded if each.reason == "OUTLIER")


def fault(quote: SourceQuote, *, now_us: int, rules: Rules) -> str | None:
    """Why a quote cannot be used, or None."""
    if not quote.connected:
        return "DISCONNECTED"
    if not quote.complete:
        return "GAP"
    if now_us - quote.ts_event > rules.stale_after_us:
        return "STALE"
    bid = Decimal(quote.bid)
    if bid >= Decimal(quote.ask) or bid <= 0:
        return "CROSSED"
    if not Decimal(quote.bid_size) or not Decimal(quote.ask_size):
        return "EMPTY"
    return None


def _without_outliers(usable: list[_Usable], rules: Rules, outliers: Collection[str]) -> list[_Usable]:
    if len(usable) < 3:
        return usable
    median = statistics.median(each.mid for each in usable)
    limits = (
        Decimal(rules.outlier_bps) / 2 if each.quote.source in outliers else Decimal(rules.outlier_bps)
        for each in usable
    )
    kept = [each for each, limit in zip(usable, limits, strict=True) if _distance_bps(each.mid, median) <= limit]
    return kept or usable


def _distance_bps(mid: Decimal, base: Decimal) -> Decimal:
    return EXACT.divide(EXACT.multiply(abs(EXACT.subtract(mid, base)), Decimal(10_000)), base)


def _tick(
    symbol: str, kept: list[_Usable], excluded: list[Exclusion], *, total: int, state: QuoteState, now_us: int
) -> PriceTick:
    # Of equal prices the larger size, then the earlier source: the answer must not depend on chance.
    bid = max(kept, key=lambda each: (each.bid, Decimal(each.quote.bid_size)))
    ask = max(kept, key=lambda each: (each.ask.copy_negate(), Decimal(each.quote.ask_size)))
    mids = [each.mid for each in kept]
    crossed = bid.bid >= ask.ask
    mid = statistics.median(mids) if crossed else midpoint(bid.bid, ask.ask)
    used = (bid.quote, ask.quote)
    return PriceTick(
        symbol=symbol,
        source="consolidated",
        bid=bid.quote.bid,
        bid_size=bid.quote.bid_size,
        ask=ask.quote.ask,
        ask_size=ask.quote.ask_size,
        mid=text(mid),
        state=state,
        quality=Quality(
            sources_ok=len(kept),
            sources_total=total,
            bid_source=bid.quote.source,
            ask_source=ask.quote.source,
            spread_bps=basis_points(EXACT.subtract(ask.ask, bid.bid), mid),
            dispersion_bps=basis_points(EXACT.subtract(max(mids), min(mids)), mid),
            age_us=max(0, now_us - min(quote.ts_event for quote in used)),
            crossed=crossed,
            excluded=excluded,
        ),
        ts_event=max(quote.ts_event for quote in used),
        # Of all that it rests on: a quote that is not the best one still makes a tick, by its part in `quality`.
        ts_recv=max(each.quote.ts_recv for each in kept),
    )
