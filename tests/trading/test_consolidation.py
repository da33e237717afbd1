from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from hub.trading.market.consolidation import Rules, SourceQuote, consolidate, outliers_of
from protocol.trading import Exclusion, PriceTick

from .wire import check_message

NOW_US = 1_700_000_000_000_000
RULES = Rules(stale_after_us=2_000_000, outlier_bps=50)


def quote(
    source: str, bid: str, ask: str, *, age_us: int = 1000, connected: bool = True, size: str = "1"
) -> SourceQuote:
    return SourceQuote(
        source=source,
        bid=bid,
        bid_size=size,
        ask=ask,
        ask_size=size,
        ts_event=NOW_US - age_us,
        ts_recv=NOW_US - age_us + 500,
        connected=connected,
    )


def tick_of(*quotes: SourceQuote, outliers: tuple[str, ...] = (), sources: tuple[str, ...] = ()) -> PriceTick:
    tick = consolidate("X-USD", quotes, now_us=NOW_US, rules=RULES, outliers=outliers, sources=sources)
    assert tick is not None and tick.quality is not None
    return tick


def excluded(tick: PriceTick) -> list[Exclusion]:
    assert tick.quality is not None
    return tick.quality.excluded


def test_the_price_is_the_best_bid_and_the_best_ask_with_their_sources() -> None:
    tick = tick_of(
        quote("a", "99.90", "100.10"), quote("b", "99.95", "100.20", age_us=3000), quote("c", "99.80", "100.05")
    )
    assert (tick.bid, tick.ask, tick.mid, tick.state) == ("99.95", "100.05", "100.000", "LIVE")
    quality = tick.quality
    assert quality is not None
    assert (quality.bid_source, quality.ask_source) == ("b", "c")
    assert (quality.sources_ok, quality.sources_total, quality.excluded) == (3, 3, [])
    assert (quality.spread_bps, quality.dispersion_bps) == ("10.00", "15.00")
    assert (quality.age_us, tick.ts_event) == (3000, NOW_US - 1000), "as old as the older side, as new as the newer"


def test_each_unusable_quote_is_left_out_with_its_reason() -> None:
    tick = tick_of(
        quote("good", "99", "101"),
        quote("gone", "99", "101", connected=False),
        quote("old", "99", "101", age_us=2_000_001),
        quote("crossed", "101", "101"),
        quote("empty", "99", "101", size="0.000"),
        sources=("good", "mute"),
    )
    assert tick.state == "DEGRADED"
    assert {each.source: each.reason for each in excluded(tick)} == {
        "mute": "NO_QUOTE",
        "gone": "DISCONNECTED",
        "old": "STALE",
        "crossed": "CROSSED",
        "empty": "EMPTY",
    }
    assert tick.quality is not None and (tick.quality.sources_ok, tick.quality.sources_total) == (1, 6)


def test_without_a_usable_quote_there_is_no_price() -> None:
    assert consolidate("X-USD", [quote("a", "1", "2", connected=False)], now_us=NOW_US, rules=RULES) is None
    assert consolidate("X-USD", [], now_us=NOW_US, rules=RULES) is None


def test_an_outlier_among_three_is_left_out_and_taken_back_below_half_the_limit() -> None:
    far, near = quote("c", "100.50", "100.62"), quote("c", "100.20", "100.40")
    others = quote("a", "99.9", "100.1"), quote("b", "99.9", "100.1")
    first = tick_of(*others, far)
    assert excluded(first) == [Exclusion("c", "OUTLIER")]
    assert outliers_of(first) == {"c"}
    assert tick_of(*others, near).state == "LIVE", "30 basis points do not make an outlier"
    assert excluded(tick_of(*others, near, outliers=("c",))) == [Exclusion("c", "OUTLIER")], "but keep one out"
    assert tick_of(*others, quote("c", "100.1", "100.3"), outliers=("c",)).state == "LIVE"


def test_two_sources_that_disagree_are_disputed_and_both_stay() -> None:
    tick = tick_of(quote("a", "99", "101"), quote("b", "109", "111"))
    assert (tick.state, excluded(tick)) == ("DISPUTED", [])


def test_crossing_sources_are_said_to_cross_and_nothing_is_swapped() -> None:
    tick = tick_of(quote("a", "100.2", "100.4"), quote("b", "99.8", "100.1"), quote("c", "99.9", "100.3"))
    assert (tick.bid, tick.ask, tick.mid) == ("100.2", "100.1", "100.10")
    assert tick.quality is not None and tick.quality.crossed
    assert tick.quality.spread_bps == "-9.99"


def test_of_equal_prices_the_larger_size_is_quoted() -> None:
    tick = tick_of(quote("a", "99", "101", size="2"), quote("b", "99.0", "101.0", size="10"))
    assert (tick.bid_size, tick.ask_size) == ("10", "10")


cents = st.integers(5_000, 15_000)
quotes = st.lists(
    st.tuples(cents, st.integers(-5, 300), st.integers(0, 3_000_000), st.booleans(), st.integers(0, 5)), max_size=6
)


@given(quotes)
def test_whatever_the_sources_say_the_tick_is_valid_and_made_of_quotes_that_were_given(
    raw: list[tuple[int, int, int, bool, int]],
) -> None:
    given_quotes = [
        quote(f"s{n}", f"{bid / 100:.2f}", f"{(bid + width) / 100:.2f}", age_us=age, connected=up, size=str(size))
        for n, (bid, width, age, up, size) in enumerate(raw)
    ]
    tick = consolidate("X-USD", given_quotes, now_us=NOW_US, rules=RULES)
    if tick is None:
        return
    check_message("prices:X-USD", "PRICE_TICK", tick)
    quality = tick.quality
    assert quality is not None
    assert quality.sources_ok + len(quality.excluded) == quality.sources_total == len(given_quotes)
    assert (quality.bid_source, tick.bid) in [(each.source, each.bid) for each in given_quotes]
    assert (quality.ask_source, tick.ask) in [(each.source, each.ask) for each in given_quotes]
    assert quality.crossed == (Decimal(tick.bid or 0) >= Decimal(tick.ask or 0))
