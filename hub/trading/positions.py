"""Tells `positions:{account}` what an account holds: after each of its events, and once a second at the newest prices.

What is published are newest values, so changes that come faster are put together, and a refusal for the moment is met
by publishing the value of a moment later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NoReturn, Protocol

from hub.clock import Clock
from hub.trading.accounts import Account, Standing, balance_message, locked, position_message
from hub.trading.orders.order import Order
from hub.trading.outgoing import Publish
from protocol.errors import HubError

PERIOD_S = 0.1
REMARK_PERIODS = 10  # between two valuations at market prices
MAX_AT_ONCE = 500  # messages in a period; the rest waits for the next


class Ledger(Protocol):
    """What the engine knows."""

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Those that have traded."""
        ...

    def account(self, name: str) -> Account: ...

    def open_orders(self, account: str) -> Iterable[Order]: ...


class Marks(Protocol):
    def mark(self, symbol: str) -> Decimal | None: ...


class PositionFeed:
    def __init__(self, marks: Marks, publish: Publish, *, paper: bool, clock: Clock) -> None:
        self._marks = marks
        self._publish = publish
        self._paper = paper
        self._clock = clock
        # Ordered sets of what is to be told: (account, symbol) and (account, asset).
        self._positions: dict[tuple[str, str], None] = {}
        self._balances: dict[tuple[str, str], None] = {}
        self._told: dict[tuple[str, str], tuple[Standing, Decimal | None]] = {}  # and the mark
        self._touched: dict[str, None] = {}

    def touch(self, account: str) -> None:
        """Something has happened to one of its orders."""
        self._touched[account] = None

    async def run(self, ledger: Ledger) -> NoReturn:
        """Beside an engine. Begins by telling everything: nobody knows what was told before."""
        self._told.clear()
        for name in ledger.accounts:
            self.touch(name)
        period = 0
        while True:
            self._gather(ledger)
            if period % REMARK_PERIODS == 0:
                self._remark(ledger)
            await self._tell(ledger)
            period += 1
            await self._clock.sleep(PERIOD_S)

    def _gather(self, ledger: Ledger) -> None:
        touched, self._touched = self._touched, {}
        for name in touched:
            account = ledger.account(name)
            for symbol, holding in account.positions.items():
                told = self._told.get((name, symbol))
                if told is None or told[0] != holding.standing:
                    self._positions[name, symbol] = None
            for asset in {**account.balances, **locked(ledger.open_orders(name))}:
                self._balances[name, asset] = None

    def _remark(self, ledger: Ledger) -> None:
        for name, account in ledger.accounts.items():
            for symbol, holding in account.positions.items():
                told = self._told.get((name, symbol))
                if holding.qty and (told is None or told[1] != self._marks.mark(symbol)):
                    self._positions[name, symbol] = None

    async def _tell(self, ledger: Ledger) -> None:
        room = MAX_AT_ONCE
        try:
            while self._positions and room:
                await self._tell_position(ledger, *next(iter(self._positions)))
                room -= 1
            while self._balances and room:
                await self._tell_balance(ledger, *next(iter(self._balances)))
                room -= 1
        except HubError as refused:
            if not refused.code.temporary:
                raise

    async def _tell_position(self, ledger: Ledger, name: str, symbol: str) -> None:
        account, mark = ledger.account(name), self._marks.mark(symbol)
        message = position_message(account, symbol, mark=mark, paper=self._paper, ts_event=self._clock.now_us())
        await self._publish(f"positions:{name}", "POSITION", message, None)
        self._told[name, symbol] = (account.positions[symbol].standing, mark)
        del self._positions[name, symbol]

    async def _tell_balance(self, ledger: Ledger, name: str, asset: str) -> None:
        account = ledger.account(name)
        message = balance_message(
            account,
            asset,
            held=locked(ledger.open_orders(name)),
            paper=self._paper,
            ts_event=self._clock.now_us(),
        )
        await self._publish(f"positions:{name}", "BALANCE", message, None)
        del self._balances[name, asset]
