from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from contextlib import aclosing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from clock import ManualClock

from hub.clock import Clock, SystemClock
from hub.trading.market.books import checksum
from hub.trading.market.captures import CaptureError
from hub.trading.market.feed import feed_replay
from hub.trading.market.replay import replay
from hub.trading.outgoing import Outgoing
from protocol.trading import Bar, Book, PriceTick, SourceStatus, Trade

from .virtual_clock import JumpingClock
from .wire import check_message


async def played(path: Path, speed: float = 0, clock: Clock | None = None) -> list[Outgoing]:
    async with aclosing(replay(path, speed, clock or SystemClock())) as messages:
        return [message async for message in messages]


async def test_coinbase_replayed_without_a_pace_waits_for_nothing(coinbase: Path) -> None:
    async with asyncio.timeout(60):
        messages = await played(coinbase, clock=ManualClock())  # whoever waits for this clock waits for ever
    kinds = Counter(each.type for each in messages)
    assert kinds.keys() == {"PRICE_TICK", "TRADE", "BOOK", "BAR", "TICKER", "SOURCE_STATUS"}
    assert (kinds["TRADE"], kinds["SOURCE_STATUS"]) == (46, 2)


@pytest.mark.parametrize("name", ["coinbase", "kraken", "binance_us"])
async def test_every_replayed_message_is_one_the_hub_accepts(captures: Path, name: str) -> None:
    for channel, kind, data, key in await played(captures / f"{name}.txt"):
        check_message(channel, kind, data)
        assert data.source == (name if kind in ("TRADE", "SOURCE_STATUS") else "consolidated")
        assert data.ext == {"replayed": True}
        assert key == (name if kind == "SOURCE_STATUS" else None)
        if kind != "SOURCE_STATUS":
            assert channel.endswith(f":{data.symbol}")
            assert "XBT" not in data.symbol


@pytest.mark.parametrize("name", ["coinbase", "kraken", "binance_us"])
async def test_numbers_follow_each_other_per_channel(captures: Path, name: str) -> None:
    last: defaultdict[str, int] = defaultdict(int)
    for channel, _, data, _ in await played(captures / f"{name}.txt"):
        if isinstance(data, PriceTick | Trade | Book):
            number = data.last_seq if isinstance(data, Book) else data.seq
            assert number == last[channel] + 1
            last[channel] = number
    assert last


def tops_of_coinbase(path: Path) -> dict[str, list[tuple[str | None, ...]]]:
    """Per symbol each new top of the book, from plain dictionaries that are searched anew for every message."""
    sides: dict[tuple[str, str], dict[Decimal, tuple[str, str]]] = {}
    expected: defaultdict[str, list[tuple[str | None, ...]]] = defaultdict(list)
    for line in path.read_text().splitlines():
        raw = json.loads(line.partition(": ")[2]) if line[:1].isdigit() else {}
        if raw.get("type") not in ("snapshot", "l2update"):
            continue
        symbol = raw["product_id"]
        changes = raw.get("changes") or [("buy", *each) for each in raw["bids"]] + [
            ("sell", *each) for each in raw["asks"]
        ]
        for side, price, size in changes:
            levels = sides.setdefault((symbol, side), {})
            levels[Decimal(price)] = (price, size)
            if Decimal(size) == 0:
                del levels[Decimal(price)]
        bids, asks = sides[symbol, "buy"], sides[symbol, "sell"]
        top = (*bids[max(bids)], *asks[min(asks)], "LIVE")
        if not expected[symbol] or expected[symbol][-1] != top:
            expected[symbol].append(top)
    return dict(expected)


async def test_a_price_is_published_exactly_when_the_top_of_the_book_changed(coinbase: Path) -> None:
    expected = await asyncio.to_thread(tops_of_coinbase, coinbase)
    published: defaultdict[str, list[tuple[str | None, ...]]] = defaultdict(list)
    for _, _, data, _ in await played(coinbase):
        if isinstance(data, PriceTick) and _shown(data) not in published[data.symbol][-1:]:  # a price is confirmed
            published[data.symbol].append(_shown(data))
    for tops in expected.values():
        tops.append((*tops[-1][:4], "STALE"))  # at the end of the recording
    assert published == expected


def _shown(tick: PriceTick) -> tuple[str | None, ...]:
    return tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.state


async def test_books_are_thinned_out_and_the_newest_is_never_left_unsaid(kraken: Path) -> None:
    published: dict[str, list[Book]] = defaultdict(list)
    ticks: dict[str, PriceTick] = {}
    for _, _, data, _ in await played(kraken):
        if isinstance(data, Book):
            published[data.symbol].append(data)
            assert len(data.bids) <= 10 and len(data.asks) <= 10
            assert data.checksum == checksum(data.bids, data.asks)
        if isinstance(data, PriceTick):
            ticks[data.symbol] = data
    assert len(published) == 10
    for symbol, books in published.items():
        times = [book.ts_pub or 0 for book in books]
        gaps = [after - before for before, after in pairwise(times[:-1])]  # the last comes at the end
        assert not gaps or min(gaps) >= 100_000
        assert (books[-1].bids[0][0], books[-1].asks[0][0]) == (ticks[symbol].bid, ticks[symbol].ask)


async def test_times_are_those_of_the_recording(coinbase: Path) -> None:
    trades = [data for _, _, data, _ in await played(coinbase) if isinstance(data, Trade)]
    trade = next(each for each in trades if each.trade_id == "280232")
    assert (trade.ts_event, trade.ts_recv) == (1618677817089723, 1618677817129516)
    assert (trade.symbol, trade.aggressor_side, trade.conditions) == ("SKL-BTC", "BUYER", [])
    assert [each.conditions for each in trades].count(["REPEATED"]) == 10


async def test_binance_publishes_stated_quotes_and_trades_but_no_levels_behind_them_without_a_snapshot(
    binance: Path,
) -> None:
    messages = await played(binance)
    kinds = Counter(each.type for each in messages)
    assert (kinds["TRADE"], kinds["SOURCE_STATUS"]) == (11, 2)
    closed = [each.data for each in messages if isinstance(each.data, Bar) and each.data.closed]
    assert sum(bar.trade_count for bar in closed if bar.interval == "1s") == 11
    assert {(len(each.data.bids), len(each.data.asks)) for each in messages if isinstance(each.data, Book)} == {(1, 1)}
    quote = next(each.data for each in messages if isinstance(each.data, PriceTick))
    assert (quote.bid, quote.ask, quote.ask_size) == ("13.76640000", "13.79520000", "31.57000000")
    assert quote.ts_event == quote.ts_recv, "bookTicker has no time of its own"


async def test_the_pace_is_the_recorded_one_divided_by_the_speed(binance: Path) -> None:
    at_once = await played(binance)
    for speed in (1.0, 10.0):
        clock = JumpingClock()
        assert await played(binance, speed, clock) == at_once, "the output does not depend on the speed"
        assert sum(clock.slept_s) == pytest.approx(30.815882 / speed, abs=0.001)
        assert min(clock.slept_s) > 0


async def test_at_speed_zero_nothing_waits(binance: Path) -> None:
    clock = JumpingClock()
    await played(binance, 0, clock)
    assert clock.slept_s == []


@pytest.mark.parametrize("speed", [-1.0, float("nan"), float("inf")])
async def test_a_speed_that_is_none_is_refused(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        await played(tmp_path / "none.txt", speed)


def book_line(seconds: int, changes: dict[str, Any]) -> str:
    return f"{seconds}.5: " + json.dumps([1, changes, "book-10", "XBT/USD"])


async def test_a_lost_kraken_update_is_told_and_the_price_is_stale_until_the_next_snapshot(tmp_path: Path) -> None:
    whole = {"as": [["12.0", "1.0", "1.000000"]], "bs": [["10.0", "1.0", "1.000000"]]}
    good = checksum([("10.0", "2.0")], [("12.0", "1.0")])
    path = tmp_path / "any.txt"
    path.write_text(
        "\n".join(
            [
                "wss://ws.kraken.com <-> 1.0",
                book_line(1, whole),
                book_line(2, {"b": [["10.0", "2.0", "2.000000"]], "c": str(good)}),
                book_line(3, {"b": [["10.0", "3.0", "3.000000"]], "c": "1"}),
                book_line(4, {"b": [["10.0", "4.0", "4.000000"]], "c": "2"}),
                book_line(5, whole),
            ]
        )
    )
    messages = await played(path)
    ticks = [each.data for each in messages if isinstance(each.data, PriceTick)]
    assert [(tick.bid_size, tick.state) for tick in ticks] == [
        ("1.0", "LIVE"),
        ("2.0", "LIVE"),
        ("2.0", "STALE"),
        ("1.0", "LIVE"),
        ("1.0", "STALE"),
    ]
    statuses = [each.data for each in messages if isinstance(each.data, SourceStatus)]
    assert [(status.state, status.gap_count) for status in statuses] == [
        ("CONNECTED", 0),
        ("SUSPECT", 1),
        ("CONNECTED", 1),
        ("DOWN", 1),
    ]
    assert statuses[1].reason == f"BTC-USD: checksum {checksum([('10.0', '3.0')], [('12.0', '1.0')])}, expected 1"


async def test_a_lost_binance_update_is_told(binance: Path, tmp_path: Path) -> None:
    lines = (await asyncio.to_thread(binance.read_text)).splitlines()
    depth = [at for at, line in enumerate(lines) if "compusdt@depth@" in line]
    del lines[depth[5]]
    path = tmp_path / "holed.txt"
    path.write_text("\n".join(lines))
    states = [each.data.state for each in await played(path) if isinstance(each.data, SourceStatus)]
    assert states == ["CONNECTED", "SUSPECT", "DOWN"]


async def test_an_unreadable_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.txt"
    path.write_text('wss://ws-feed.pro.coinbase.com <-> 1.0\n2.0: {"type":"snapshot","product_id":')
    with pytest.raises(CaptureError, match=r"cut\.txt, line 2"):
        await played(path)


async def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "poem.txt"
    path.write_text("Tyger Tyger, burning bright\n")
    with pytest.raises(CaptureError, match="not a recording"):
        await played(path)


async def test_a_feed_publishes_all_in_order_and_counts(binance: Path) -> None:
    published: list[Outgoing] = []

    async def publish(
        channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        published.append(Outgoing(channel, type, data, key))

    count = await feed_replay(publish, binance, 0, SystemClock())
    assert published == await played(binance)
    assert count == len(published)
