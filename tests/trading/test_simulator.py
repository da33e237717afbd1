from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.trading.market.books import checksum
from hub.trading.market.simulator import DEFAULT_INSTRUMENTS, SIMULATED, SimulatedMarket, instruments
from hub.trading.outgoing import Outgoing
from protocol.trading import Bar, Book, PriceTick, SourceStatus, Trade

from .wire import check_message

START_US = 1_700_000_000_000_000
STEP_US = 100_000


def run(seed: int, seconds: int, *, count: int = 5, fault_every_s: float = 60.0) -> list[Outgoing]:
    market = SimulatedMarket(seed, start_us=START_US, instruments=instruments(count), fault_every_s=fault_every_s)
    return [each for n in range(seconds * 10) for each in market.step(START_US + n * STEP_US)]


@pytest.fixture(scope="module")
def ten_minutes() -> list[Outgoing]:
    return run(7, 600, fault_every_s=40)


def test_every_message_is_one_the_hub_accepts_and_says_that_it_is_simulated(ten_minutes: list[Outgoing]) -> None:
    for channel, kind, data, key in ten_minutes:
        check_message(channel, kind, data)
        assert data.ext == SIMULATED
        assert key == (data.source if kind == "SOURCE_STATUS" else None)


def test_a_market_shows_all_that_a_market_can_show(ten_minutes: list[Outgoing]) -> None:
    kinds = Counter(each.type for each in ten_minutes)
    assert kinds.keys() == {"PRICE_TICK", "TRADE", "BOOK", "BAR", "SOURCE_STATUS"}
    assert {each.channel.partition(":")[0] for each in ten_minutes} == {"prices", "trades", "book", "bars", "status"}
    ticks = [each.data for each in ten_minutes if isinstance(each.data, PriceTick)]
    assert {tick.symbol for tick in ticks} == {each.symbol for each in DEFAULT_INSTRUMENTS}
    assert {tick.state for tick in ticks} >= {"LIVE", "DEGRADED", "STALE"}
    reasons = {each.reason for tick in ticks if tick.quality for each in tick.quality.excluded}
    assert reasons >= {"DISCONNECTED", "STALE", "OUTLIER"}
    states = {each.data.state for each in ten_minutes if isinstance(each.data, SourceStatus)}
    assert states == {"CONNECTED", "RECONNECTING", "DOWN", "SUSPECT"}


def test_the_same_seed_gives_the_same_market_and_another_seed_another() -> None:
    assert run(3, 30) == run(3, 30)
    assert run(3, 30) != run(4, 30)


def test_a_symbols_market_does_not_depend_on_the_others() -> None:
    alone = [each for each in run(3, 60, count=1) if each.channel != "status:feeds"]
    among_others = [each for each in run(3, 60, count=8) if each.channel.endswith(":BTC-USD")]
    assert alone == among_others


@given(st.lists(st.integers(0, 1_500_000), min_size=1, max_size=20))
@settings(max_examples=25)
def test_it_does_not_matter_in_how_many_steps_time_passes(pauses_us: list[int]) -> None:
    stepwise, at_once = (SimulatedMarket(5, start_us=START_US, instruments=instruments(2)) for _ in range(2))
    now_us = START_US
    found: list[Outgoing] = []
    for pause_us in pauses_us:
        now_us += pause_us
        found += stepwise.step(now_us)
    expected: list[Outgoing] = []
    for at_us in range(START_US, now_us + 1, STEP_US):
        expected += at_once.step(at_us)
    assert found == expected


def test_prices_and_sizes_are_multiples_of_tick_and_lot(ten_minutes: list[Outgoing]) -> None:
    by_symbol = {each.symbol: each for each in DEFAULT_INSTRUMENTS}
    for _, _, data, _ in ten_minutes:
        if isinstance(data, SourceStatus | Bar):
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


def test_a_stale_price_is_said_once_and_there_is_no_trade_until_it_is_live_again(ten_minutes: list[Outgoing]) -> None:
    state: dict[str, str | None] = {}
    stale = 0
    for _, _, data, _ in ten_minutes:
        if isinstance(data, PriceTick):
            assert not (data.state == "STALE" and state.get(data.symbol) == "STALE")
            state[data.symbol] = data.state
            stale += data.state == "STALE"
        if isinstance(data, Trade | Book):
            assert state[data.symbol] != "STALE"
    assert stale


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
    for _, _, data, _ in ten_minutes:
        if isinstance(data, PriceTick):
            ticks[data.symbol] = data
        if isinstance(data, Book):
            bids, asks = [Decimal(price) for price, _ in data.bids], [Decimal(price) for price, _ in data.asks]
            assert bids == sorted(set(bids), reverse=True) and asks == sorted(set(asks))
            assert bids[0] < asks[0]
            assert len(bids) == len(asks) == 10
            tick = ticks[data.symbol]
            assert (data.bids[0], data.asks[0]) == ((tick.bid, tick.bid_size), (tick.ask, tick.ask_size))
            assert data.checksum == checksum(data.bids, data.asks)
            assert data.ts_recv is not None and data.ts_recv - last.get(data.symbol, 0) >= 250_000
            last[data.symbol] = data.ts_recv


def test_bars_agree_with_the_trades(ten_minutes: list[Outgoing]) -> None:
    trades = [each.data for each in ten_minutes if isinstance(each.data, Trade)]
    closed = [each.data for each in ten_minutes if isinstance(each.data, Bar) and each.data.closed]
    assert {bar.interval for bar in closed} == {"1s", "1m"}
    assert len({(bar.symbol, bar.interval, bar.start) for bar in closed}) == len(closed)
    for bar in closed[:400]:
        inside = [each for each in trades if each.symbol == bar.symbol and bar.start <= (each.ts_event or 0) < bar.end]
        assert bar.trade_count == len(inside)
        assert (bar.open, bar.close) == (inside[0].price, inside[-1].price)
        assert Decimal(bar.volume) == sum(Decimal(each.size) for each in inside)


def test_after_a_suspension_the_market_goes_on_from_now() -> None:
    market = SimulatedMarket(1, start_us=START_US)
    market.step(START_US)
    later_us = START_US + 8 * 3600 * 1_000_000
    messages = market.step(later_us)
    assert len(messages) < 50
    assert {each.data.ts_event for each in messages if isinstance(each.data, Trade)} <= {later_us}
    assert market.step(START_US) == [], "time that goes back makes nothing happen"


def test_as_many_instruments_as_asked_for() -> None:
    assert [each.symbol for each in instruments(2)] == ["BTC-USD", "ETH-USD"]
    assert len({each.symbol for each in instruments(100)}) == 100
    assert len(run(1, 1, count=100)) > 500


@pytest.mark.parametrize("rate", [0, -1, 1001])
def test_an_impossible_rate_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        SimulatedMarket(1, start_us=START_US, rate=rate)
