"""What the risk checks look at: one order, and everything about it that is known at that moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from hub.trading.orders.order import Order
from hub.trading.risk.limits import Limits
from protocol.trading import Instrument, MarketReference, TradingState


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine knows when a command arrives. The mappings may be its own: nobody changes them.

    `market` is the consolidated quote of the order's symbol, its `age_us` counted up to now; None: there is none.
    `vwap` is that of the last five minutes, `last` the last trade. `open_orders` are the account's orders that may
    still trade, in flight or open, without the one that is asked about; `positions` are its signed quantities and
    `balances` what it holds in all, locked or not. `marks` are the newest prices of symbols, for what is held.
    `daily_pnl` is realised and unrealised profit since midnight UTC.
    """

    now_us: int
    instruments: Mapping[str, Instrument]
    market: MarketReference | None = None
    vwap: Decimal | None = None
    last: Decimal | None = None
    open_orders: Sequence[Order] = ()
    positions: Mapping[str, Decimal] = {}
    balances: Mapping[str, Decimal] = {}
    marks: Mapping[str, Decimal] = {}
    daily_pnl: Decimal = Decimal(0)


class Recent(msgspec.Struct, frozen=True, kw_only=True):
    """What came before this command, counted within the windows of the limits: `submits` and `modifies` of the account,
    `same` orders that looked like this one, `executions` of its strategy."""

    submits: int = 0
    modifies: int = 0
    same: int = 0
    executions: int = 0


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Who lets this one order pass above a limit, until when."""

    order_id: str
    approvers: frozenset[str]
    expires_us: int


class RiskView(msgspec.Struct, frozen=True, kw_only=True):
    """`order` as it is to be: new, or what `replaces` is to become. `states` are those of its scopes."""

    order: Order
    facts: Facts
    replaces: Order | None = None
    limits: Limits = Limits()
    version: int = 0
    states: Sequence[TradingState] = ()
    recent: Recent = Recent()
    override: Override | None = None

    @property
    def instrument(self) -> Instrument | None:
        return self.facts.instruments.get(self.order.symbol)
