"""What a market-data source says, in one vocabulary for all exchanges. Numbers are the source's own strings.

`ts_event` is the message's own time in microseconds, None where the exchange sends none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from protocol.trading import Bar, Instrument, Level


class BookSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The whole book. `depth`: how many levels per side the source keeps us informed about; None: all.

    `last_id` is the number of the last update it contains, for sources that number updates.
    """

    symbol: str
    bids: list[Level]
    asks: list[Level]
    ts_event: int | None = None
    depth: int | None = None
    last_id: int | None = None


class BookUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """New sizes of levels; a size of zero deletes. Belongs together: between two levels the book may be nonsense.

    `first_id` and `last_id` number the updates merged into it; `checksum` is what the book must sum to afterwards.
    """

    symbol: str
    bids: list[Level]
    asks: list[Level]
    ts_event: int | None = None
    first_id: int | None = None
    last_id: int | None = None
    checksum: int | None = None


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """Best bid and ask as the source states them. Sizes are None where it does not give them."""

    symbol: str
    bid: str
    ask: str
    bid_size: str | None = None
    ask_size: str | None = None
    last: str | None = None
    update_id: int | None = None
    ts_event: int | None = None


class TradePrint(msgspec.Struct, frozen=True, kw_only=True):
    """One trade. `repeated` marks one from before the subscription, which the source sends to close a gap.

    A numeric `trade_id` is larger for a later trade.
    """

    symbol: str
    price: str
    size: str
    trade_id: int | str
    aggressor: Literal["BUYER", "SELLER"]
    repeated: bool = False
    ts_event: int | None = None


class Candle(msgspec.Struct, frozen=True):
    """A bar the source itself computed."""

    bar: Bar


class Amended(msgspec.Struct, frozen=True, kw_only=True):
    """A trade was reported wrongly. Without a corrected price and size it never happened: a bust."""

    symbol: str
    trade_id: int | str
    price: str
    size: str
    corrected_price: str | None = None
    corrected_size: str | None = None
    corrected_trade_id: int | str | None = None
    ts_event: int | None = None


class Listed(msgspec.Struct, frozen=True):
    """How a symbol trades from now on."""

    instrument: Instrument


Event = BookSnapshot | BookUpdate | Quote | TradePrint | Candle | Amended | Listed
