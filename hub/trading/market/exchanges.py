"""Live exchanges through ccxt, which knows their protocols, keeps their books and mends them after a gap.

Rules: numbers are exact decimals from the exchange's own digits, never floats. A connection is one ccxt client with a
task per symbol and kind of data; when one of them fails all end, and the source is lost until it is connected again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any

import ccxt.pro

from hub.trading.decimals import text
from hub.trading.market.events import BookSnapshot, Event, Listed, TradePrint
from hub.trading.market.source import Role, SourceLost
from protocol.trading import Instrument, Level

DEPTH = 50  # levels per side that are taken over from ccxt's book
MAX_WAITING = 10_000  # events that the hub has not taken in; then the exchange is not read
FINEST = "0.00000001"  # the step where an exchange names none
TRADES_KEPT = 1000  # by ccxt, per symbol


class UnknownExchange(ValueError):
    """ccxt has no live exchange of that id."""


class _Exact:
    """Makes of a ccxt client one that reads numbers as they are written: ccxt itself makes floats of them."""

    number = Decimal

    @staticmethod
    def safe_float(source: Any, key: Any, default: Any = None) -> Any:
        try:
            return Decimal(str(source[key]))
        except (LookupError, TypeError, ArithmeticError):
            return default


class ExchangeSource:
    marks: Mapping[str, Any] | None = None

    def __init__(
        self,
        name: str,
        exchange: str,
        symbols: Sequence[str],
        *,
        role: Role = "PRIMARY",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """`options` goes to ccxt's constructor. Raises UnknownExchange."""
        if exchange not in ccxt.pro.exchanges:
            raise UnknownExchange(f"ccxt has no live exchange {exchange!r}")
        self.name = name
        self.role: Role = role
        self.symbols = symbols
        self._kind = type(exchange, (_Exact, getattr(ccxt.pro, exchange)), {})
        self._options = dict(options or {})

    async def events(self) -> AsyncGenerator[Sequence[Event]]:
        client = self._kind({"options": {"tradesLimit": TRADES_KEPT}, **self._options})
        tasks: list[asyncio.Task[None]] = []
        arrived: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        try:
            await client.load_markets()
            names = {symbol: self._market(client, symbol)["symbol"] for symbol in self.symbols}
            places = client.precisionMode == ccxt.DECIMAL_PLACES
            yield [Listed(_instrument(symbol, client.markets[each], places)) for symbol, each in names.items()]
            tasks = [asyncio.create_task(each) for each in self._watches(client, names, arrived)]
            async for events in _batches(arrived, tasks):
                yield events
        except ccxt.BaseError as failure:
            raise SourceLost(type(failure).__name__) from failure  # its text may hold addresses and answers
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()

    async def resync(self, symbol: str) -> None:
        raise SourceLost("ccxt mends its books itself")

    def _market(self, client: Any, symbol: str) -> Any:
        try:
            return client.market(symbol.replace("-", "/", 1))
        except ccxt.BadSymbol:
            raise SourceLost(f"{self.name} does not trade {symbol}") from None

    def _watches(
        self, client: Any, names: Mapping[str, str], arrived: asyncio.Queue[Event]
    ) -> list[Coroutine[Any, Any, None]]:
        watches = [_watch_book(client, symbol, theirs, arrived) for symbol, theirs in names.items()]
        if client.has.get("watchTrades"):
            watches += [_watch_trades(client, symbol, theirs, arrived) for symbol, theirs in names.items()]
        return watches


async def _batches(
    arrived: asyncio.Queue[Event], tasks: Sequence[asyncio.Task[None]]
) -> AsyncGenerator[Sequence[Event]]:
    """What has arrived together, until one of the tasks ends. Raises what it raised."""
    failed = asyncio.gather(*tasks)
    while True:
        waiting = asyncio.ensure_future(arrived.get())
        try:
            await asyncio.wait((waiting, failed), return_when=asyncio.FIRST_COMPLETED)
            events = [waiting.result()] if waiting.done() else []
        finally:
            waiting.cancel()
        while not arrived.empty():
            events.append(arrived.get_nowait())
        if events:
            yield events
        else:
            await failed


async def _watch_book(client: Any, symbol: str, theirs: str, arrived: asyncio.Queue[Event]) -> None:
    while True:
        try:
            book = await client.watch_order_book(theirs)
        except ccxt.ChecksumError:
            continue  # ccxt has dropped the book and subscribes anew
        await arrived.put(
            BookSnapshot(
                symbol=symbol,
                bids=_levels(book["bids"]),
                asks=_levels(book["asks"]),
                depth=DEPTH,
                ts_event=_micros(book["timestamp"]),
            )
        )


async def _watch_trades(client: Any, symbol: str, theirs: str, arrived: asyncio.Queue[Event]) -> None:
    while True:
        for trade in await client.watch_trades(theirs):
            if trade["price"] is None or trade["amount"] is None:
                continue
            await arrived.put(
                TradePrint(
                    symbol=symbol,
                    price=_number(trade["price"]),
                    size=_number(trade["amount"]),
                    trade_id=trade["id"] or f"{trade['timestamp']}-{trade['price']}-{trade['amount']}",
                    aggressor="SELLER" if trade["side"] == "sell" else "BUYER",
                    ts_event=_micros(trade["timestamp"]),
                )
            )


def _levels(side: Sequence[Sequence[Decimal]]) -> list[Level]:
    return [(_number(level[0]), _number(level[1])) for level in side[:DEPTH]]


def _number(number: Decimal) -> str:
    """Raises ValueError for what is no price or size."""
    if not number.is_finite() or number < 0:
        raise ValueError(f"an exchange sent {number}")
    return text(number)


def _micros(milliseconds: int | None) -> int | None:
    return milliseconds * 1000 if milliseconds is not None else None


def _instrument(symbol: str, market: Mapping[str, Any], places: bool) -> Instrument:
    """`places`: the exchange counts decimals instead of naming steps."""
    precision, limits = market["precision"], market["limits"]
    return Instrument(
        symbol=symbol,
        base=market["base"],
        quote=market["quote"],
        tick_size=_step(precision.get("price"), places),
        lot_size=_step(precision.get("amount"), places),
        min_qty=_limit(limits, "amount", "min"),
        max_qty=_limit(limits, "amount", "max"),
        min_notional=_limit(limits, "cost", "min"),
        max_notional=_limit(limits, "cost", "max"),
        status="HALT" if market.get("active") is False else "TRADING",
    )


def _step(precision: Any, places: bool) -> str:
    if precision is None:
        return FINEST
    return text(Decimal(1).scaleb(-int(precision)) if places else Decimal(str(precision)))


def _limit(limits: Mapping[str, Any], kind: str, which: str) -> str | None:
    limit = (limits.get(kind) or {}).get(which)
    return text(Decimal(str(limit))) if limit else None
