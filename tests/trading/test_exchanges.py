from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hub.trading.market.captures import parse_coinbase, split_line
from hub.trading.market.events import BookSnapshot, BookUpdate, Event, Listed, TradePrint
from hub.trading.market.source import SourceLost
from hub.trading.market.tracking import BookTracker

pytest.importorskip("ccxt")

from hub.trading.market.exchanges import ExchangeSource, UnknownExchange, _number, _step

from .exchange_server import CoinbaseServer

SYMBOL = "SKL-BTC"
CREDENTIALS = {"apiKey": "key", "secret": "c2VjcmV0", "password": "any"}  # Coinbase's books are for customers


def source(address: str, symbols: Sequence[str] = (SYMBOL,)) -> ExchangeSource:
    api = {"public": f"http://{address}", "ws": f"ws://{address}"}
    options = {"urls": {"api": api}, **CREDENTIALS}
    return ExchangeSource("coinbase", "coinbaseexchange", symbols, options=options)


def recorded(coinbase: Path, symbol: str) -> tuple[BookTracker, list[TradePrint]]:
    """The book at the end of the recording, and its trades, by the hub's own reading of it."""
    tracker, trades = BookTracker(symbol), []
    for line in coinbase.read_bytes().splitlines():
        received = split_line(line)
        for event in parse_coinbase(received[1]) if received is not None else []:
            if isinstance(event, BookSnapshot) and event.symbol == symbol:
                tracker.snapshot(event)
            elif isinstance(event, BookUpdate) and event.symbol == symbol:
                tracker.update(event)
            elif isinstance(event, TradePrint) and event.symbol == symbol:
                trades.append(event)
    return tracker, trades


async def read(live: ExchangeSource) -> list[Event]:
    """Everything until the exchange hangs up."""
    events: list[Event] = []
    with pytest.raises(SourceLost):
        async with asyncio.timeout(60), aclosing(live.events()) as batches:
            async for batch in batches:
                events += batch
    return events


async def test_a_live_exchange_gives_books_trades_and_instruments_digit_for_digit(captures: Path) -> None:
    coinbase = captures / "coinbase.txt"
    server = CoinbaseServer(coinbase, captures / "coinbase_rest.txt", expected=2)
    async with server.serving() as address:
        events = await read(source(address))
    tracker, trades = await asyncio.to_thread(recorded, coinbase, SYMBOL)
    (listing,) = [event.instrument for event in events if isinstance(event, Listed)]
    assert (listing.symbol, listing.base, listing.quote, listing.status) == (SYMBOL, "SKL", "BTC", "TRADING")
    assert Decimal(listing.tick_size) == Decimal("0.00000001")
    books = [event for event in events if isinstance(event, BookSnapshot)]
    bids, asks = tracker.book.top(50)
    assert (exact(books[-1].bids), exact(books[-1].asks)) == (exact(bids), exact(asks))
    found = {str(event.trade_id): event for event in events if isinstance(event, TradePrint)}
    expected = {str(trade.trade_id): trade for trade in trades if not trade.repeated}
    assert found.keys() >= expected.keys() != set()
    for trade_id, trade in expected.items():
        assert (found[trade_id].price, found[trade_id].size) == (trade.price, trade.size)
        assert found[trade_id].aggressor == trade.aggressor


def exact(levels: Sequence[tuple[str, str]]) -> list[tuple[Decimal, Decimal]]:
    return [(Decimal(price), Decimal(size)) for price, size in levels]


async def test_an_exchange_that_cannot_be_reached_is_a_lost_source() -> None:
    with pytest.raises(SourceLost):
        async with asyncio.timeout(30), aclosing(source("127.0.0.1:9").events()) as batches:
            async for _ in batches:
                pass


async def test_a_symbol_that_is_not_traded_there_is_a_lost_source(captures: Path) -> None:
    server = CoinbaseServer(captures / "coinbase.txt", captures / "coinbase_rest.txt", expected=2)
    async with server.serving() as address:
        with pytest.raises(SourceLost, match="NOPE-USD"):
            async with asyncio.timeout(30), aclosing(source(address, ["NOPE-USD"]).events()) as batches:
                async for _ in batches:
                    pass


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1"])
def test_a_number_that_is_no_price_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="sent"):
        _number(Decimal(number))


def test_an_exchange_that_ccxt_does_not_know_is_refused() -> None:
    with pytest.raises(UnknownExchange, match="atlantis"):
        ExchangeSource("x", "atlantis", ["BTC-USD"])


@pytest.mark.parametrize(
    ("precision", "places", "step"), [("0.01", False, "0.01"), (8, True, "0.00000001"), (0, True, "1"), (1, False, "1")]
)
def test_steps_are_read_in_either_of_ccxts_ways(precision: Any, places: bool, step: str) -> None:
    assert _step(precision, places) == step
