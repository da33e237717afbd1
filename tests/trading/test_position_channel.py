"""What accounts hold, told to `positions:{account}`: every change, and new prices once a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from decimal import Decimal
from typing import Any

import pytest_asyncio

from hub.trading.accounts import Account, apply_execution
from hub.trading.orders.order import Order
from hub.trading.positions import MAX_AT_ONCE, PositionFeed
from hub.trading.venues.base import VenueReport
from protocol.errors import ErrorCode, HubError
from protocol.trading import Balance, Position

from .paper_market import SYMBOL, make_order
from .virtual_clock import VirtualClock
from .wire import check_message


class Books:
    """The engine's side, in a test's hands; what is published stands in `told`."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.orders: list[Order] = []
        self.marks: dict[str, Decimal] = {SYMBOL: Decimal(100)}
        self.told: list[Any] = []
        self.refusal: HubError | None = None
        self.clock = VirtualClock()
        self.feed = PositionFeed(self, self.publish, paper=True, clock=self.clock)

    def account(self, name: str) -> Account:
        return self.accounts.get(name) or Account(name=name, balances={"USD": Decimal(1000)})

    def open_orders(self, account: str) -> Iterable[Order]:
        return self.orders

    def mark(self, symbol: str) -> Decimal | None:
        return self.marks.get(symbol)

    async def publish(
        self, channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        if self.refusal is not None:
            raise self.refusal
        check_message(channel, type, data)
        assert channel == f"positions:{data.account}"
        self.told.append(data)

    def buy(self, qty: str, price: str, *, account: str = "ada", symbol: str = SYMBOL) -> None:
        order = make_order("BUY", qty, price, account=account, symbol=symbol)
        report = VenueReport(
            order_id=order.order_id,
            exec_type="TRADE",
            exec_id=order.order_id,
            ts_event=self.clock.now_us(),
            trade_id=order.order_id,
            last_qty=Decimal(qty),
            last_px=Decimal(price),
        )
        self.accounts[account] = apply_execution(self.account(account), order, report)

    async def pass_time(self, seconds: float) -> list[Any]:
        """What was told meanwhile."""
        before = len(self.told)
        await self.clock.advance(seconds, sleepers=1)
        return self.told[before:]


@pytest_asyncio.fixture
async def books() -> AsyncIterator[Books]:
    made = Books()
    made.buy("1", "90")
    task = asyncio.create_task(made.feed.run(made))
    await made.pass_time(0.05)
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_at_the_start_everything_is_told(books: Books) -> None:
    [position] = [each for each in books.told if isinstance(each, Position)]
    assert (position.qty, position.avg_px_open, position.unrealized_pnl, position.mark) == ("1", "90", "10", "100")
    assert {each.asset: each.free for each in books.told if isinstance(each, Balance)} == {"USD": "910", "BTC": "1"}


async def test_an_execution_is_told_within_a_moment(books: Books) -> None:
    books.buy("1", "110")
    books.feed.touch("ada")

    told = await books.pass_time(0.15)

    assert [each.qty for each in told if isinstance(each, Position)] == ["2"]
    assert [each.free for each in told if isinstance(each, Balance)] == ["800", "2"]


async def test_an_order_that_only_waits_moves_balances_and_no_position(books: Books) -> None:
    books.orders = [make_order("BUY", "2", "50", account="ada")]
    books.feed.touch("ada")

    told = await books.pass_time(0.15)

    assert [(each.asset, each.free, each.locked) for each in told] == [("USD", "810", "100"), ("BTC", "1", "0")]


async def test_a_new_price_is_told_once_a_second_and_the_same_price_is_not(books: Books) -> None:
    books.marks[SYMBOL] = Decimal(105)
    first = await books.pass_time(1.0)
    again = await books.pass_time(3.0)

    assert [(each.unrealized_pnl, each.mark) for each in first] == [("15", "105")]
    assert again == []


async def test_what_is_refused_for_the_moment_is_told_a_moment_later(books: Books) -> None:
    books.buy("1", "110")
    books.feed.touch("ada")
    books.refusal = HubError(ErrorCode.NOT_AVAILABLE, "the broker is away")
    assert await books.pass_time(0.5) == []

    books.refusal = None
    told = await books.pass_time(0.15)

    assert [each.qty for each in told if isinstance(each, Position)] == ["2"]
    assert len(told) == 3


async def test_many_accounts_are_told_in_turns(books: Books) -> None:
    for n in range(MAX_AT_ONCE):
        books.buy("1", "100", account=f"a{n}")
        books.feed.touch(f"a{n}")

    first = await books.pass_time(0.1)
    rest = await books.pass_time(0.5)

    assert len(first) == MAX_AT_ONCE
    assert len(rest) == 2 * MAX_AT_ONCE
