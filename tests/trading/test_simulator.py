from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.trading.market.books import checksum
from hub.trading.market.simulator import DEFAULT_INSTRUMENTS, DEFAULT_VENUES, SIMULATED, SimulatedMarket, instruments
from hub.trading.outgoing import Outgoing
from protocol.trading import Bar, Book, Instrument, PriceTick, SourceStatus, Ticker, Trade

from .simulation import START_US, STEP_US, Simulation, simulated
from .wire import check_message


def run(seed: int, seconds: int, *, count: int = 5, **options: float) -> list[Outgoing]:
    return simulated(seed, seconds, instruments=instruments(count), **options)


@pytest.fixture(scope="module")
def ten_minutes() -> list[Outgoing]:
    return run(7, 600, fault_every_s=40, halt_every_s=300)


def test_every_message_is_one_the_hub_accepts_and_says_that_it_is_simulated(ten_minutes: list[Outgoing]) -> None:
    for channel, kind, data, key in ten_minutes:
        check_message(channel, kind, data)
        assert data.ext == SIMULATED
        assert key == (data.source if kind == "SOURCE_STATUS" else None)


def test_a_market_shows_all_that_a_market_can_show(ten_minutes: list[Outgoing]) -> None:
    kinds = Counter(each.type for each in ten_minutes)
    assert kinds.keys() == {"PRICE_TICK", "TRADE", "BOOK", "BAR", "TICKER", "INSTRUMENT", "SOURCE_STATUS"}
    namespaces = {each.channel.partition(":")[0] for each in ten_minutes}
    assert namespaces == {"prices", "trades", "book", "bars", "ticker", "instruments", "sources"}
    ticks = [each.data for each in ten_minutes if isinstance(each.data, PriceTick)]
    assert {tick.symbol for tick in ticks} == {each.symbol for each in DEFAULT_INSTRUMENTS}
    assert {tick.state for tick in ticks} >= {"LIVE", "DEGRADED", "STALE", "HALTED"}
    reasons = {each.reason for tick in ticks if tick.quality for each in tick.quality.excluded}
    assert reasons >= {"DISCONNECTED", "STALE", "OUTLIER"}
    statuses = [each.data for each in ten_minutes if isinstance(each.data, SourceStatus)]
    assert {status.state for status in statuses} == {"CONNECTED", "RECONNECTING", "DOWN", "SUSPECT"}
    assert max(status.gap_count for status in statuses) > 0


def test_a_secondary_venue_stands_in_for_the_primary_one() -> None:
    venues = (DEFAULT_VENUES[0], DEFAULT_VENUES[3])
    messages = simulated(7, 120, instruments=instruments(1), venues=venues, fault_every_s=15)
    statuses = [each.data for each in messages if isinstance(each.data, SourceStatus)]
    standing_in = {status.source for status in statuses if status.reason == "stands in for the primary sources"}
    assert standing_in == {"sim-delta"}


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    assert run(3, 30) == run(3, 30)
    assert run(3, 30) != run(4, 30)


def test_a_symbols_market_does_not_depend_on_the_others() -> None:
    alone = [each for each in run(3, 60, count=1) if each.channel != "sources:all"]
    among_others = [each for each in run(3, 60, count=8) if each.channel.endswith(":BTC-USD")]
    assert alone == among_others


@given(st.lists(st.integers(0, 1_500_000), min_size=1, max_size=20))
@settings(max_examples=25)
def test_it_does_not_matter_in_how_many_steps_time_passes(pauses_us: list[int]) -> None:
    stepwise, at_once = (SimulatedMarket(5, start_us=START_US, instruments=instruments(2)) for _ in range(2))
    now_us = START_US
    for pause_us in pauses_us:
        now_us += pause_us
        stepwise.step(now_us)
    for at_us in range(START_US, now_us + 1, STEP_US):
        at_once.step(at_us)
    for venue in stepwise.venues:
        assert stepwise.arrived(venue.name) == at_once.arrived(venue.name)


def test_prices_and_sizes_are_multiples_of_tick_and_lot(ten_minutes: list[Outgoing]) -> None:
    by_symbol = {each.symbol: each for each in DEFAULT_INSTRUMENTS}
    for _, _, data, _ in ten_minutes:
        if isinstance(data, SourceStatus | Bar | Ticker | Instrument):
            continue
        instrument = by_symbol[data.symbol]
        pairs: list[tuple[str | None, str | None]] = []
        if isinstance(data, PriceTick):
            pairs = [(data.bid, data.bid_size), (data.ask, data.ask_size)]
        elif isinstance(data, Trade):
            pairs = [(data.price, data.size)]
        elif isinstance(data, Book):
            pairs = [*data.bids, *data.asks]
        for price, size in pairs:
            assert price is not None and size is not None
            assert Decimal(price) > 0 and Decimal(size) > 0
            assert Decimal(price).as_tuple().exponent == Decimal(instrument.tick_size).as_tuple().exponent
            assert Decimal(size) % Decimal(instrument.lot_size) == 0


@pytest.mark.parametrize("gone", ["STALE", "HALTED"])
def test_a_price_nobody_stands_behind_is_said_once_and_has_no_book_until_it_is_live_again(
    ten_minutes: list[Outgoing], gone: str
) -> None:
    state: dict[str, str | None] = {}
    told = 0
    for _, _, data, _ in ten_minutes:
        if isinstance(data, PriceTick):
            assert not data.state == gone == state.get(data.symbol)
            state[data.symbol] = data.state
            told += data.state == gone
        if isinstance(data, Book):
            assert state[data.symbol] != gone
    assert told


def test_sequences_have_no_gap_and_trade_ids_are_unique(ten_minutes: list[Outgoing]) -> None:
    last: defaultdict[str, int] = defaultdict(int)
    ids: set[tuple[str, str | None]] = set()
    for channel, _, data, _ in ten_minutes:
        if isinstance(data, PriceTick | Trade | Book):
            number = data.last_seq if isinstance(data, Book) else data.seq
            assert number == last[channel] + 1
            last[channel] = number
        if isinstance(data, Trade):
            assert (data.symbol, data.trade_id) not in ids
            ids.add((data.symbol, data.trade_id))


def test_a_book_is_sorted_not_crossed_and_begins_with_the_price(ten_minutes: list[Outgoing]) -> None:
    ticks: dict[str, PriceTick] = {}
    last: dict[str, int] = {}
    whole = books = 0
    for _, _, data, _ in ten_minutes:
        if isinstance(data, PriceTick):
            ticks[data.symbol] = data
        if isinstance(data, Book):
            bids, asks = [Decimal(price) for price, _ in data.bids], [Decimal(price) for price, _ in data.asks]
            assert bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))
            assert bids[0] < asks[0]
            assert max(len(bids), len(asks)) <= 10
            whole += len(bids) == len(asks) == 10
            books += 1
            tick = ticks[data.symbol]
            assert (data.bids[0][0], data.asks[0][0]) == (tick.bid, tick.ask)
            assert data.checksum == checksum(data.bids, data.asks)
            assert data.ts_pub is not None and data.ts_pub - last.get(data.symbol, 0) >= 250_000
            last[data.symbol] = data.ts_pub
    assert whole > 0.9 * books > 0


def test_bars_agree_with_the_trades(ten_minutes: list[Outgoing]) -> None:
    trades = [each.data for each in ten_minutes if isinstance(each.data, Trade)]
    newest = {
        (each.data.symbol, each.data.interval, each.data.start): each.data
        for each in ten_minutes
        if isinstance(each.data, Bar) and each.data.closed
    }
    assert {interval for _, interval, _ in newest} == {"1s", "1m", "5m", "15m"}
    assert max(bar.revision for bar in newest.values() if bar.interval == "1s"), "some trades come late"
    for bar in [*newest.values()][:400]:
        inside = [each for each in trades if each.symbol == bar.symbol and bar.start <= (each.ts_event or 0) < bar.end]
        inside.sort(key=lambda each: each.ts_event or 0)
        assert bar.trade_count == len(inside)
        assert (bar.open, bar.close) == (inside[0].price, inside[-1].price)
        assert Decimal(bar.volume) == sum(Decimal(each.size) for each in inside)


def test_after_a_suspension_the_market_goes_on_from_now() -> None:
    market = SimulatedMarket(1, start_us=START_US)
    market.step(START_US)
    later_us = START_US + 8 * 3600 * 1_000_000
    market.step(later_us)
    assert [event for venue in market.venues for event in market.arrived(venue.name)] == [], "nothing was caught up"
    for n in range(1, 101):  # all venues were overdue to fail
        market.step(later_us + n * STEP_US)
    events = [event for venue in market.venues for event in market.arrived(venue.name)]
    assert 0 < len(events) < 5000
    market.step(START_US)  # time that goes back makes nothing happen
    assert [event for venue in market.venues for event in market.arrived(venue.name)] == []


def test_a_book_that_missed_an_update_is_mended_by_a_snapshot() -> None:
    simulation = Simulation(1, instruments=instruments(1), fault_every_s=1e9)
    now_us = START_US
    for _ in range(20):
        now_us += STEP_US
        simulation.step(now_us)
    line = simulation.market._markets["BTC-USD"].lines["sim-beta"]
    line.book_id += 1  # as if an update had been lost on its way
    statuses: list[SourceStatus] = []
    for _ in range(20):
        now_us += STEP_US
        statuses += [each.data for each in simulation.step(now_us) if isinstance(each.data, SourceStatus)]
    assert [(status.source, status.state, status.gap_count) for status in statuses] == [
        ("sim-beta", "SUSPECT", 1),
        ("sim-beta", "CONNECTED", 1),
    ]


def test_as_many_instruments_as_asked_for() -> None:
    assert [each.symbol for each in instruments(2)] == ["BTC-USD", "ETH-USD"]
    assert len({each.symbol for each in instruments(100)}) == 100
    assert len(run(1, 1, count=100)) > 500


@pytest.mark.parametrize("rate", [0, -1, 1001])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        SimulatedMarket(1, start_us=START_US, rate=rate)
