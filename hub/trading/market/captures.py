"""Recordings of exchanges: one line each, `<unix seconds>: <message>`. Everything here is pure.

Dialects: Coinbase Exchange, Binance US (combined streams), Kraken WebSocket v1. A dialect turns one message into
events; messages that say nothing about the market (subscriptions, heartbeats, unknown types) become none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from hub.trading.market.events import BookSnapshot, BookUpdate, Candle, Event, Quote, TradePrint
from protocol.fields import Quantity
from protocol.trading import Bar, Level

Parse = Callable[[bytes], list[Event]]
T = TypeVar("T")
SourceName = Literal["coinbase", "binance_us", "kraken"]


class CaptureError(ValueError):
    """A message that its exchange's format does not allow."""


def split_line(line: bytes) -> tuple[int, bytes] | None:
    """(microseconds when it was received, message), or None for a line that records something else."""
    seconds, separator, message = line.partition(b": ")
    if not separator or not _SECONDS.fullmatch(seconds):
        return None
    return round(float(seconds) * 1_000_000), message


_SECONDS = re.compile(rb"\d{1,11}(\.\d{1,9})?")


def recognise(line: bytes) -> SourceName | None:
    """Which exchange a line comes from, by the address it was recorded from or else by the look of the message."""
    for host, source in _HOSTS.items():
        if line.startswith(b"wss://" + host):
            return source
    if (received := split_line(line)) is None:
        return None
    message = received[1]
    for pattern, source in _LOOKS.items():
        if pattern.match(message):
            return source
    return None


_HOSTS: dict[bytes, SourceName] = {
    b"ws-feed.pro.coinbase.com": "coinbase",
    b"ws-feed.exchange.coinbase.com": "coinbase",
    b"stream.binance.us": "binance_us",
    b"ws.kraken.com": "kraken",
}
_LOOKS: dict[re.Pattern[bytes], SourceName] = {
    re.compile(rb'\{"type":"(snapshot|l2update|ticker|match|last_match|subscriptions)"'): "coinbase",
    re.compile(rb'\{"stream":"'): "binance_us",
    re.compile(rb'\[\d+,\{"'): "kraken",
}


def parser_for(source: SourceName, symbols: Mapping[str, str] | None = None) -> Parse:
    """The source's parser. `symbols` maps the exchange's names to ours where they cannot be told by looking
    (Binance: BNBUSD is BNB-USD, SHIBUSD is SHIB-USD); see `binance_symbols`."""
    match source:
        case "coinbase":
            return parse_coinbase
        case "kraken":
            return parse_kraken
        case "binance_us":
            known = dict(symbols or {})
            return lambda message: parse_binance(message, known)


def _decode(decoder: msgspec.json.Decoder[T], message: bytes | msgspec.Raw) -> T:
    try:
        return decoder.decode(message)
    except msgspec.DecodeError as wrong:  # ValidationError is one
        raise CaptureError(str(wrong)) from wrong


# Coinbase ------------------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

AwareTime = Annotated[datetime, Meta(tz=True)]


class _CoinbaseHead(msgspec.Struct):
    type: str


class _CoinbaseSnapshot(msgspec.Struct):
    product_id: str
    bids: list[Level]
    asks: list[Level]
    time: AwareTime | None = None


class _CoinbaseUpdate(msgspec.Struct):
    product_id: str
    changes: list[tuple[Literal["buy", "sell"], Quantity, Quantity]]
    time: AwareTime | None = None


class _CoinbaseTicker(msgspec.Struct):
    product_id: str
    price: Quantity
    best_bid: Quantity
    best_ask: Quantity
    best_bid_size: Quantity | None = None
    best_ask_size: Quantity | None = None
    sequence: int | None = None
    time: AwareTime | None = None


class _CoinbaseMatch(msgspec.Struct):
    type: str
    product_id: str
    trade_id: int
    side: Literal["buy", "sell"]  # the maker's
    price: Quantity
    size: Quantity
    time: AwareTime


def _micros(time: datetime | None) -> int | None:
    return None if time is None else (time - EPOCH) // MICROSECOND


def _coinbase_snapshot(message: bytes) -> Event:
    found = _decode(_COINBASE_SNAPSHOT, message)
    return BookSnapshot(symbol=found.product_id, bids=found.bids, asks=found.asks, ts_event=_micros(found.time))


def _coinbase_update(message: bytes) -> Event:
    found = _decode(_COINBASE_UPDATE, message)
    return BookUpdate(
        symbol=found.product_id,
        bids=[(price, size) for side, price, size in found.changes if side == "buy"],
        asks=[(price, size) for side, price, size in found.changes if side == "sell"],
        ts_event=_micros(found.time),
    )


def _coinbase_ticker(message: bytes) -> Event:
    found = _decode(_COINBASE_TICKER, message)
    return Quote(
        symbol=found.product_id,
        bid=found.best_bid,
        ask=found.best_ask,
        bid_size=found.best_bid_size,
        ask_size=found.best_ask_size,
        last=found.price,
        update_id=found.sequence,
        ts_event=_micros(found.time),
    )


def _coinbase_match(message: bytes) -> Event:
    found = _decode(_COINBASE_MATCH, message)
    return TradePrint(
        symbol=found.product_id,
        price=found.price,
        size=found.size,
        trade_id=found.trade_id,
        aggressor="BUYER" if found.side == "sell" else "SELLER",
        repeated=found.type == "last_match",
        ts_event=_micros(found.time),
    )


_COINBASE_HEAD = msgspec.json.Decoder(_CoinbaseHead)
_COINBASE_SNAPSHOT = msgspec.json.Decoder(_CoinbaseSnapshot)
_COINBASE_UPDATE = msgspec.json.Decoder(_CoinbaseUpdate)
_COINBASE_TICKER = msgspec.json.Decoder(_CoinbaseTicker)
_COINBASE_MATCH = msgspec.json.Decoder(_CoinbaseMatch)
_COINBASE: dict[str, Callable[[bytes], Event]] = {
    "snapshot": _coinbase_snapshot,
    "l2update": _coinbase_update,
    "ticker": _coinbase_ticker,
    "match": _coinbase_match,
    "last_match": _coinbase_match,
}


def parse_coinbase(message: bytes) -> list[Event]:
    read = _COINBASE.get(_decode(_COINBASE_HEAD, message).type)
    return [read(message)] if read is not None else []


# Binance US ----------------------------------------------------------------------------------------------------------


class _BinanceEnvelope(msgspec.Struct):
    stream: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _BinanceDepth(
    msgspec.Struct, rename={"sent_ms": "E", "symbol": "s", "first": "U", "last": "u", "bids": "b", "asks": "a"}
):
    sent_ms: int
    symbol: str
    first: int
    last: int
    bids: list[Level]
    asks: list[Level]


class _BinanceDepthSnapshot(msgspec.Struct, rename={"last_id": "lastUpdateId"}):
    last_id: int
    bids: list[Level]
    asks: list[Level]


class _BinanceTrade(
    msgspec.Struct,
    rename={"symbol": "s", "id": "a", "price": "p", "size": "q", "traded_ms": "T", "buyer_is_maker": "m"},
):
    symbol: str
    id: int
    price: Quantity
    size: Quantity
    traded_ms: int
    buyer_is_maker: bool


class _BinanceQuote(
    msgspec.Struct, rename={"id": "u", "symbol": "s", "bid": "b", "bid_size": "B", "ask": "a", "ask_size": "A"}
):
    id: int
    symbol: str
    bid: Quantity
    bid_size: Quantity
    ask: Quantity
    ask_size: Quantity


class _BinanceKline(
    msgspec.Struct,
    rename={
        "start_ms": "t",
        "last_ms": "T",
        "interval": "i",
        "open": "o",
        "close": "c",
        "high": "h",
        "low": "l",
        "volume": "v",
        "trades": "n",
        "closed": "x",
        "quote_volume": "q",
        "taker_buy_volume": "V",
    },
):
    start_ms: int
    last_ms: int  # the interval's last millisecond, so its end is one later
    interval: Literal["1m", "5m", "15m", "1h", "4h", "1d"]
    open: Quantity
    close: Quantity
    high: Quantity
    low: Quantity
    volume: Quantity
    trades: int
    closed: bool
    quote_volume: Quantity
    taker_buy_volume: Quantity


class _BinanceCandle(msgspec.Struct, rename={"symbol": "s", "kline": "k"}):
    symbol: str
    kline: _BinanceKline


_BINANCE_ENVELOPE = msgspec.json.Decoder(_BinanceEnvelope)
_BINANCE_DEPTH = msgspec.json.Decoder(_BinanceDepth)
_BINANCE_SNAPSHOT = msgspec.json.Decoder(_BinanceDepthSnapshot)
_BINANCE_TRADE = msgspec.json.Decoder(_BinanceTrade)
_BINANCE_QUOTE = msgspec.json.Decoder(_BinanceQuote)
_BINANCE_CANDLE = msgspec.json.Decoder(_BinanceCandle)

# A guess for when no instrument list is at hand. Longest first.
_BINANCE_QUOTE_ASSETS = ("USDT", "USDC", "BUSD", "USD", "DAI", "BTC", "ETH", "BNB")


def binance_symbol(name: str, symbols: Mapping[str, str]) -> str:
    """COMPUSDT -> COMP-USDT: from the instrument list, else guessed from the known quote assets."""
    if (known := symbols.get(name)) is not None:
        return known
    for quote in _BINANCE_QUOTE_ASSETS:
        if name.endswith(quote) and len(name) > len(quote):
            return f"{name.removesuffix(quote)}-{quote}"
    return name


def parse_binance(message: bytes, symbols: Mapping[str, str]) -> list[Event]:
    envelope = _decode(_BINANCE_ENVELOPE, message)
    kind = envelope.stream.partition("@")[2]
    if kind.startswith("depth@") or kind == "depth":
        depth = _decode(_BINANCE_DEPTH, envelope.data)
        return [
            BookUpdate(
                symbol=binance_symbol(depth.symbol, symbols),
                bids=depth.bids,
                asks=depth.asks,
                first_id=depth.first,
                last_id=depth.last,
                ts_event=depth.sent_ms * 1000,
            )
        ]
    if kind == "bookTicker":
        quote = _decode(_BINANCE_QUOTE, envelope.data)
        return [
            Quote(
                symbol=binance_symbol(quote.symbol, symbols),
                bid=quote.bid,
                bid_size=quote.bid_size,
                ask=quote.ask,
                ask_size=quote.ask_size,
                update_id=quote.id,
            )
        ]
    if kind == "aggTrade":
        trade = _decode(_BINANCE_TRADE, envelope.data)
        return [
            TradePrint(
                symbol=binance_symbol(trade.symbol, symbols),
                price=trade.price,
                size=trade.size,
                trade_id=trade.id,
                aggressor="SELLER" if trade.buyer_is_maker else "BUYER",
                ts_event=trade.traded_ms * 1000,
            )
        ]
    if kind.startswith("kline_"):
        candle = _decode(_BINANCE_CANDLE, envelope.data)
        return [Candle(_binance_bar(binance_symbol(candle.symbol, symbols), candle.kline))]
    return []


def _binance_bar(symbol: str, kline: _BinanceKline) -> Bar:
    return Bar(
        symbol=symbol,
        interval=kline.interval,
        start=kline.start_ms * 1000,
        end=(kline.last_ms + 1) * 1000,
        open=kline.open,
        high=kline.high,
        low=kline.low,
        close=kline.close,
        volume=kline.volume,
        quote_volume=kline.quote_volume,
        taker_buy_volume=kline.taker_buy_volume,
        trade_count=kline.trades,
        closed=kline.closed,
        source="binance_us",
    )


def binance_snapshot(symbol: str, body: bytes) -> BookSnapshot:
    """The answer of GET /api/v3/depth, which the depth stream's updates continue."""
    found = _decode(_BINANCE_SNAPSHOT, body)
    return BookSnapshot(symbol=symbol, bids=found.bids, asks=found.asks, last_id=found.last_id)


class _BinanceInstrument(msgspec.Struct, rename={"name": "symbol", "base": "baseAsset", "quote": "quoteAsset"}):
    name: str
    base: str
    quote: str


class _BinanceInstruments(msgspec.Struct):
    symbols: list[_BinanceInstrument]


_BINANCE_INSTRUMENTS = msgspec.json.Decoder(_BinanceInstruments)


def binance_symbols(body: bytes) -> dict[str, str]:
    """Binance's names to ours, from the answer of GET /api/v3/exchangeInfo."""
    return {each.name: f"{each.base}-{each.quote}" for each in _decode(_BINANCE_INSTRUMENTS, body).symbols}


# Kraken, WebSocket v1 ------------------------------------------------------------------------------------------------


class _KrakenLevel(msgspec.Struct, array_like=True):
    """A fourth element "r" (republished) may follow; it changes nothing for the book."""

    price: Quantity
    size: Quantity
    time: Quantity


class _KrakenBook(
    msgspec.Struct, rename={"all_asks": "as", "all_bids": "bs", "asks": "a", "bids": "b", "checksum": "c"}
):
    all_asks: list[_KrakenLevel] | None = None
    all_bids: list[_KrakenLevel] | None = None
    asks: list[_KrakenLevel] = []
    bids: list[_KrakenLevel] = []
    checksum: str | None = None


_KRAKEN_MESSAGE = msgspec.json.Decoder(list[msgspec.Raw])
_KRAKEN_BOOK = msgspec.json.Decoder(_KrakenBook)
_KRAKEN_NAME = msgspec.json.Decoder(str)
_KRAKEN_ASSETS = {"XBT": "BTC", "XDG": "DOGE"}


def kraken_symbol(pair: str) -> str:
    """XBT/CHF -> BTC-CHF."""
    return "-".join(_KRAKEN_ASSETS.get(asset, asset) for asset in pair.split("/"))


def parse_kraken(message: bytes) -> list[Event]:
    """A book message is [channel id, changes, perhaps more changes, "book-DEPTH", pair]. The checksum, in the last of
    the changes, is over the book after all of them."""
    if not message.startswith(b"["):
        return []  # events: systemStatus, subscriptionStatus, heartbeat
    parts = _decode(_KRAKEN_MESSAGE, message)
    if len(parts) < 4:
        raise CaptureError("a Kraken message has at least four parts")
    channel, pair = _decode(_KRAKEN_NAME, parts[-2]), _decode(_KRAKEN_NAME, parts[-1])
    name, _, depth = channel.partition("-")
    if name != "book":
        return []
    symbol = kraken_symbol(pair)
    changes = [_decode(_KRAKEN_BOOK, part) for part in parts[1:-2]]
    whole = changes[0]
    if whole.all_asks is not None or whole.all_bids is not None:
        asks, bids = whole.all_asks or [], whole.all_bids or []
        return [
            BookSnapshot(
                symbol=symbol,
                bids=_kraken_levels(bids),
                asks=_kraken_levels(asks),
                depth=int(depth) if depth.isdecimal() else None,
                ts_event=_kraken_newest(asks, bids),
            )
        ]
    asks = [level for change in changes for level in change.asks]
    bids = [level for change in changes for level in change.bids]
    sums = [change.checksum for change in changes if change.checksum is not None]
    return [
        BookUpdate(
            symbol=symbol,
            bids=_kraken_levels(bids),
            asks=_kraken_levels(asks),
            checksum=_kraken_checksum(sums[-1]) if sums else None,
            ts_event=_kraken_newest(asks, bids),
        )
    ]


def _kraken_levels(levels: list[_KrakenLevel]) -> list[Level]:
    return [(level.price, level.size) for level in levels]


def _kraken_newest(asks: list[_KrakenLevel], bids: list[_KrakenLevel]) -> int | None:
    """A message has no time of its own, each level has one: the newest is the message's."""
    return max((seconds_to_micros(level.time) for level in (*asks, *bids)), default=None)


def _kraken_checksum(text: str) -> int:
    if not text.isdecimal():
        raise CaptureError("a checksum is a number")
    return int(text)


def seconds_to_micros(text: str) -> int:
    """ "1618678133.162950" -> 1618678133162950, exactly. More than six decimals are cut off."""
    seconds, _, fraction = text.partition(".")
    return int(seconds) * 1_000_000 + int(fraction[:6].ljust(6, "0"))
