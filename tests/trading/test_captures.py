"""The recordings of three exchanges, read and checked against what the exchanges themselves said.

Comparisons use `json` on the raw line where they can, so that a parser is not checked against itself.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.market.captures import (
    CaptureError,
    Parse,
    binance_snapshot,
    binance_symbol,
    binance_symbols,
    kraken_symbol,
    parse_binance,
    parse_coinbase,
    parse_kraken,
    parser_for,
    recognise,
    seconds_to_micros,
    split_line,
)
from hub.trading.market.events import BookSnapshot, BookUpdate, Candle, Event, Quote, TradePrint
from hub.trading.market.tracking import BookGap, BookTracker


def received(path: Path, parse: Parse) -> Iterator[tuple[int, bytes, list[Event]]]:
    """(line number, message, events) of the lines that hold a message."""
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if (found := split_line(line)) is not None:
            yield number, found[1], parse(found[1])


def follow(trackers: dict[str, BookTracker], event: Event) -> None:
    if isinstance(event, BookSnapshot):
        trackers.setdefault(event.symbol, BookTracker(event.symbol)).snapshot(event)
    elif isinstance(event, BookUpdate):
        trackers.setdefault(event.symbol, BookTracker(event.symbol)).update(event)


# Coinbase ------------------------------------------------------------------------------------------------------------


def test_coinbase_book_agrees_with_every_ticker(coinbase: Path) -> None:
    """A ticker states best bid and ask beside each trade; the book was built from other messages.

    They may differ for one reason only. On subscription Coinbase repeats the last ticker, as old as the last trade,
    while the snapshot is of now. Such a ticker is the product's first, states the trade that `last_match` repeats, and
    is older than anything that the product's book was updated with.
    """
    trackers: dict[str, BookTracker] = {}
    classes: Counter[str] = Counter()
    differing: dict[str, dict[str, Any]] = {}
    last_matches: dict[str, dict[str, Any]] = {}
    first_updates: dict[str, int] = {}
    seen: set[str] = set()
    for number, message, events in received(coinbase, parse_coinbase):
        raw = json.loads(message)
        if raw["type"] == "last_match":
            last_matches[raw["product_id"]] = raw
        for event in events:
            follow(trackers, event)
            if isinstance(event, BookUpdate) and event.ts_event is not None:
                first_updates.setdefault(event.symbol, event.ts_event)
            if not isinstance(event, Quote):
                continue
            bid, ask = trackers[event.symbol].book.best()
            assert bid is not None and ask is not None
            equal = (Decimal(bid[0]), Decimal(ask[0])) == (Decimal(raw["best_bid"]), Decimal(raw["best_ask"]))
            first = event.symbol not in seen
            seen.add(event.symbol)
            classes[f"{'first' if first else 'later'}, {'equal' if equal else 'different'}"] += 1
            if not equal:
                assert first, f"line {number}: {event.symbol} book {bid[0]}/{ask[0]}, ticker {event.bid}/{event.ask}"
                differing[event.symbol] = {"ts_event": event.ts_event, "trade_id": raw["trade_id"]}
    for symbol, ticker in differing.items():
        assert ticker["trade_id"] == last_matches[symbol]["trade_id"], f"{symbol}: not the repeated trade"
        assert ticker["ts_event"] < first_updates[symbol], f"{symbol}: the ticker is no older than the book"
    assert classes == {"first, equal": 3, "first, different": 7, "later, equal": 36}


def test_coinbase_book_is_never_crossed_and_never_empty(coinbase: Path) -> None:
    trackers: dict[str, BookTracker] = {}
    updates = 0
    for _, _, events in received(coinbase, parse_coinbase):
        for event in events:
            follow(trackers, event)
            if isinstance(event, BookSnapshot | BookUpdate):
                updates += 1
                book = trackers[event.symbol].book
                assert None not in book.best()
                assert not book.crossed
    assert (updates, len(trackers)) == (5901, 10)


def test_coinbase_matches_are_trades_without_a_gap(coinbase: Path) -> None:
    trades: defaultdict[str, list[TradePrint]] = defaultdict(list)
    for _, message, events in received(coinbase, parse_coinbase):
        for event in events:
            if isinstance(event, TradePrint):
                trades[event.symbol].append(event)
                raw = json.loads(message)
                assert (event.price, event.size, event.repeated) == (
                    raw["price"],
                    raw["size"],
                    raw["type"] == "last_match",
                )
                assert event.aggressor == ("BUYER" if raw["side"] == "sell" else "SELLER"), "`side` is the maker's"
    assert Counter(trade.repeated for each in trades.values() for trade in each) == {True: 10, False: 36}
    for symbol, each in trades.items():
        assert each[0].repeated, symbol
        ids = [trade.trade_id for trade in each]
        assert ids == list(range(ids[0], ids[0] + len(ids))), symbol


def test_coinbase_time_is_read_to_the_microsecond() -> None:
    (event,) = parse_coinbase(
        b'{"type":"l2update","product_id":"A-B","changes":[["buy","1.50","0.0"],["sell","2","3"]],'
        b'"time":"2021-04-17T16:43:37.075687Z"}'
    )
    assert event == BookUpdate(symbol="A-B", bids=[("1.50", "0.0")], asks=[("2", "3")], ts_event=1618677817075687)


# Kraken --------------------------------------------------------------------------------------------------------------


def kraken_updates(path: Path) -> list[BookSnapshot | BookUpdate]:
    events = [event for _, _, events in received(path, parse_kraken) for event in events]
    return [event for event in events if isinstance(event, BookSnapshot | BookUpdate)]


def test_every_kraken_checksum_is_verified(kraken: Path) -> None:
    trackers: dict[str, BookTracker] = {}
    verified = 0
    for number, message, events in received(kraken, parse_kraken):
        stated = [part["c"] for part in json.loads(message)[1:-2] if "c" in part] if message[:1] == b"[" else []
        for event in events:
            follow(trackers, event)  # raises on a mismatch
            if stated:
                assert str(trackers[event.symbol].book.checksum()) == stated[-1], f"line {number}"  # type: ignore[union-attr]  # only books here
                verified += 1
    assert (verified, len(trackers)) == (4269, 10)


def test_a_kraken_message_in_two_parts_is_one_update(kraken: Path) -> None:
    in_two_parts = 0
    for _, message, events in received(kraken, parse_kraken):
        if message[:1] == b"[" and len(json.loads(message)) == 5:
            (event,) = events
            assert isinstance(event, BookUpdate)
            assert event.asks and event.bids and event.checksum is not None
            in_two_parts += 1
    assert in_two_parts == 1


def test_a_lost_kraken_update_is_noticed_with_the_symbols_next_message(kraken: Path) -> None:
    """Leave out one update at a time. The next message of the symbol fails its checksum, unless the book is right
    all the same: because the loss was outside the top ten, or because that message sets the same levels again."""
    events = [event for event in kraken_updates(kraken) if event.symbol == "ETH-CHF"]
    assert len(events) > 300
    outcomes: Counter[str] = Counter()
    whole = BookTracker("ETH-CHF")
    for at, event in enumerate(events[:-1]):
        if isinstance(event, BookSnapshot):
            whole.snapshot(event)
            continue
        holed = BookTracker("ETH-CHF")
        bids, asks = whole.book.top(1000)
        holed.snapshot(BookSnapshot(symbol="ETH-CHF", bids=bids, asks=asks, depth=1000))
        whole.update(event)
        following = events[at + 1]
        assert isinstance(following, BookUpdate)
        try:
            holed.update(following)
        except BookGap as gap:
            assert gap.kind == "checksum"
            outcomes["noticed"] += 1
        else:
            check = BookTracker("ETH-CHF")
            bids, asks = whole.book.top(1000)
            check.snapshot(BookSnapshot(symbol="ETH-CHF", bids=bids, asks=asks, depth=1000))
            check.update(following)
            assert holed.book.top(10) == check.book.top(10)
            outcomes["top ten right all the same"] += 1
    assert outcomes["noticed"] > 100
    assert outcomes.total() == len(events) - 2


# Binance US ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def symbols(captures: Path) -> dict[str, str]:
    line = (captures / "binance_us_rest.txt").read_bytes().splitlines()[0]
    return binance_symbols(line.partition(b" -> ")[2].partition(b": ")[2])


def test_binance_updates_are_numbered_without_a_gap(binance: Path, symbols: dict[str, str]) -> None:
    trackers: dict[str, BookTracker] = {}
    counts: Counter[str] = Counter()
    for _, _, events in received(binance, parser_for("binance_us", symbols)):
        for event in events:
            follow(trackers, event)  # raises on a gap
            counts[type(event).__name__] += 1
    assert counts == {"BookUpdate": 336, "Quote": 128, "TradePrint": 11, "Candle": 5}
    assert trackers.keys() == {"COMP-USDT", "CRV-USDT", "OMG-BUSD", "ZRX-USDT"}


def test_every_lost_binance_update_is_noticed(binance: Path, symbols: dict[str, str]) -> None:
    updates: defaultdict[str, list[BookUpdate]] = defaultdict(list)
    for _, _, events in received(binance, parser_for("binance_us", symbols)):
        for event in events:
            if isinstance(event, BookUpdate):
                updates[event.symbol].append(event)
    noticed = 0
    for symbol, each in updates.items():
        for lost in range(1, len(each) - 1):
            tracker = BookTracker(symbol)
            tracker.snapshot(BookSnapshot(symbol=symbol, bids=[], asks=[], last_id=each[lost - 1].last_id))
            with pytest.raises(BookGap) as caught:
                tracker.update(each[lost + 1])
            assert caught.value.expected == each[lost].first_id
            noticed += 1
    assert noticed == 336 - 2 * len(updates)


def test_binance_depth_agrees_with_the_best_prices_stated_at_the_same_update(
    binance: Path, symbols: dict[str, str]
) -> None:
    """bookTicker and depth are numbered together. Where both stop at the same number and the depth stream has mentioned
    the level, the sizes are equal. (Levels from before the recording are unknown: there is no snapshot in it.)"""
    known: defaultdict[str, dict[tuple[str, str], str]] = defaultdict(dict)
    quotes: defaultdict[str, dict[int, Quote]] = defaultdict(dict)
    outcomes: Counter[str] = Counter()
    for _, _, events in received(binance, parser_for("binance_us", symbols)):
        for event in events:
            if isinstance(event, Quote) and event.update_id is not None:
                quotes[event.symbol][event.update_id] = event
            if isinstance(event, BookUpdate) and event.last_id is not None:
                levels = known[event.symbol]
                levels.update({("bid", price): size for price, size in event.bids})
                levels.update({("ask", price): size for price, size in event.asks})
                if (quote := quotes[event.symbol].get(event.last_id)) is None:
                    continue
                for side, price, size in (("bid", quote.bid, quote.bid_size), ("ask", quote.ask, quote.ask_size)):
                    found = levels.get((side, price))
                    outcomes["unknown" if found is None else "equal" if found == size else "different"] += 1
    assert outcomes == {"equal": 95, "unknown": 19}


def test_a_binance_book_continues_the_rest_snapshot_by_the_exchanges_recipe() -> None:
    def depth(first: int, last: int, size: str) -> bytes:
        data = {"e": "depthUpdate", "E": 5, "s": "AUSDT", "U": first, "u": last, "b": [["9.0", size]], "a": []}
        return json.dumps({"stream": "ausdt@depth@100ms", "data": data}).encode()

    tracker = BookTracker("A-USDT")
    for message in (depth(8, 10, "8"), depth(11, 13, "11")):
        (event,) = parse_binance(message, {})
        assert isinstance(event, BookUpdate)
        tracker.update(event)
    tracker.snapshot(binance_snapshot("A-USDT", b'{"lastUpdateId":12,"bids":[["9.0","1"]],"asks":[["9.5","1"]]}'))
    assert tracker.book.best() == (("9.0", "11"), ("9.5", "1"))


def test_binance_names_are_looked_up_because_they_cannot_be_guessed(symbols: dict[str, str]) -> None:
    assert len(symbols) == 121
    assert all(binance_symbol(name, symbols) == ours for name, ours in symbols.items())
    wrong = {name for name, ours in symbols.items() if binance_symbol(name, {}) != ours}
    assert wrong == {"BNBUSD"}
    assert binance_symbol("BTC", {}) == "BTC"


def test_binance_trades_and_bars(binance: Path, symbols: dict[str, str]) -> None:
    for _, message, events in received(binance, parser_for("binance_us", symbols)):
        data = json.loads(message)["data"]
        for event in events:
            if isinstance(event, TradePrint):
                assert (event.price, event.size, event.trade_id) == (data["p"], data["q"], data["a"])
                assert event.ts_event == data["T"] * 1000
                assert event.aggressor == ("SELLER" if data["m"] else "BUYER")
            if isinstance(event, Candle):
                bar, kline = event.bar, data["k"]
                assert (bar.open, bar.high, bar.low, bar.close) == tuple(kline[each] for each in "ohlc")
                assert (bar.end - bar.start, bar.start % 60_000_000) == (60_000_000, 0)
                assert (bar.trade_count, bar.closed) == (kline["n"], kline["x"])


# All -----------------------------------------------------------------------------------------------------------------


def test_lines_that_record_something_else_are_skipped() -> None:
    assert split_line(b"1618677817.0618958: {}") == (1618677817061896, b"{}")
    for line in (
        b"",
        b"wss://ws.kraken.com <-> 1618678132.38",
        b'wss://ws.kraken.com <- 1618678132.8: {"event":"subscribe"}',
        b'configuration: {"trades":[]}',
        b"nan: {}",
        b"1618677817.06",
    ):
        assert split_line(line) is None, line


def test_a_recording_names_its_exchange(captures: Path) -> None:
    for name, source in (("coinbase", "coinbase"), ("binance_us", "binance_us"), ("kraken", "kraken")):
        lines = (captures / f"{name}.txt").read_bytes().splitlines()
        assert recognise(lines[0]) == source
        assert {recognise(line) for line in lines if split_line(line)} <= {source, None}, "by the message alone"
        assert any(recognise(line) for line in lines if split_line(line))
    assert recognise(b"1.0: {}") is None
    assert recognise(b"hello") is None


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (parse_coinbase, b'{"type":"heartbeat","product_id":"A-B"}'),
        (parse_coinbase, b'{"type":"something new"}'),
        (parse_kraken, b'{"event":"heartbeat"}'),
        (parse_kraken, b'[1,[["1","2","3","b","l",""]],"trade","XBT/USD"]'),
        (lambda message: parse_binance(message, {}), b'{"stream":"a@something","data":{}}'),
        (lambda message: parse_binance(message, {}), b'{"result":null,"id":1}'),
    ],
)
def test_messages_that_say_nothing_about_the_market_become_no_events(parse: Parse, message: bytes) -> None:
    assert parse(message) == []


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (parse_coinbase, b"{"),
        (parse_coinbase, b'{"type":"snapshot","product_id":"A-B","bids":[["NaN","1"]],"asks":[]}'),
        (parse_coinbase, b'{"type":"l2update","product_id":"A-B","changes":[["buy","1e5","1"]]}'),
        (parse_kraken, b'[1,{"a":[["1","2","soon"]]},"book-10","XBT/USD"]'),
        (parse_kraken, b'[1,{"a":[["1","2","3"]],"c":"x"},"book-10","XBT/USD"]'),
        (parse_kraken, b'["book-10","XBT/USD"]'),
        (lambda message: parse_binance(message, {}), b'{"stream":"a@depth","data":{"U":"1"}}'),
    ],
)
def test_a_malformed_message_is_a_capture_error(parse: Parse, message: bytes) -> None:
    with pytest.raises(CaptureError):
        parse(message)


def test_kraken_names_become_ours() -> None:
    assert kraken_symbol("XBT/CHF") == "BTC-CHF"
    assert kraken_symbol("KSM/XBT") == "KSM-BTC"
    assert kraken_symbol("XDG/USD") == "DOGE-USD"


@given(st.integers(0, 10**11), st.integers(0, 999_999))
def test_seconds_become_microseconds_exactly(seconds: int, micros: int) -> None:
    assert seconds_to_micros(f"{seconds}.{micros:06}") == seconds * 1_000_000 + micros
    assert seconds_to_micros(f"{seconds}.{micros:06}9") == seconds * 1_000_000 + micros
    assert seconds_to_micros(str(seconds)) == seconds * 1_000_000
