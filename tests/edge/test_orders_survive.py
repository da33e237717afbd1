"""`kill -9` of the hub in the middle of two thousand orders: what was acknowledged is there, and happened once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from processes import HubProcess, running

from hub.client import Client
from hub.trading.accounts import Account, apply_execution
from hub.trading.orders.event import Event
from hub.trading.orders.fold import apply
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import decode_event
from protocol.errors import HubError
from protocol.trading import ExecutionReport, Side
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.orders import OrderLog

ORDERS = 2_000
AT_ONCE = 64
KILLED_AFTER = 700  # acknowledged orders
SYMBOL = "BTC-USD"
LIMIT_S = 120
UNDER_WAY = {"PENDING_NEW", "PENDING_CANCEL"}
NO_LIMITS = {
    "submit_rate": None,
    "modify_rate": None,
    "duplicate_count": None,
    "max_open_orders": None,
    "max_open_orders_symbol": None,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def quote(client: Client) -> None:
    """A price now and then, as long as the test lasts, whoever is there to hear it."""
    instrument = {"symbol": SYMBOL, "base": "BTC", "quote": "USD", "tick_size": "1", "lot_size": "1"}
    while True:
        now_us = time.time_ns() // 1000
        tick = {"symbol": SYMBOL, "bid": "99", "bid_size": "50", "ask": "101", "ask_size": "50", "mid": "100"}
        tick |= {"state": "LIVE", "ts_event": now_us, "ts_recv": now_us}
        with contextlib.suppress(HubError, TimeoutError):
            await client.publish(f"instruments:{SYMBOL}", "INSTRUMENT", instrument)
            await client.publish(f"prices:{SYMBOL}", "PRICE_TICK", tick)
        await asyncio.sleep(0.2)  # the pace of the market


class Desk:
    """Places orders and remembers what it was told; each third order is canceled again."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acknowledged: dict[str, str] = {}  # client_order_id -> order_id
        self.progress = asyncio.Event()
        self.market_open = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def place(self, number: int) -> None:
        name = f"c-{number}"
        side: Side = "BUY" if number % 2 else "SELL"
        price = {"BUY": ("101", "98"), "SELL": ("99", "102")}[side][number % 3 == 0]
        async with self._room:
            await self.market_open.wait()
            report = await self.client.orders.submit(SYMBOL, side, 1, price=price, client_order_id=name)
            assert report.order_id is not None
            self.acknowledged[name] = report.order_id
            self.progress.set()
            if number % 3 == 0:
                with contextlib.suppress(HubError):  # it may have traded, or be on its way
                    await self.client.orders.cancel(name)

    async def until(self, count: int) -> None:
        while len(self.acknowledged) < count:
            self.progress.clear()
            await self.progress.wait()


async def test_a_kill_in_the_middle_of_two_thousand_orders_loses_and_repeats_nothing(tmp_path: Path) -> None:
    port = free_port()
    data_dir = tmp_path / "data"
    first = HubProcess(data_dir, "--port", str(port))
    tokens = {name: first.token(name, role) for name, role in (("ann", "trader"), ("rita", "risk"), ("feed", "feed"))}
    seen: list[ExecutionReport] = []
    async with asyncio.timeout(LIMIT_S), clients(first.url, tokens) as (ann, rita, feed):
        quoting = asyncio.create_task(quote(feed))
        await rita.call("risk.set_limits", scope="GLOBAL", limits=NO_LIMITS)
        following = asyncio.create_task(follow(ann, seen))
        desk = Desk(ann)
        await until_open(ann)
        desk.market_open.set()
        placing = [asyncio.create_task(desk.place(number)) for number in range(ORDERS)]
        await desk.until(KILLED_AFTER)
        desk.market_open.clear()  # the next hub hears of it in a moment; what is under way goes on
        first.kill()
        assert first.process.stdout is not None
        first.process.stdout.close()
        with running(data_dir, port=port):
            await until_open(ann)
            desk.market_open.set()
            await asyncio.gather(*placing)
            quoting.cancel()  # what rests would go on trading with each new price
            listed = await settled(ann, seen)
        following.cancel()
        await asyncio.gather(quoting, following, return_exceptions=True)

    orders, account, trades = await replayed(data_dir)
    assert {order.client_order_id: order.order_id for order in orders.values()} == desk.acknowledged
    assert len(orders) == ORDERS
    # What the hub says of every order is what its audit rows make of it.
    assert {each.order_id: told(each) for each in listed} == {each.order_id: made(each) for each in orders.values()}
    assert (
        Counter(each.status for each in orders.values())["FILLED"] > ORDERS / 8
    )  # the others were denied while no price was fresh
    # Whoever came back has seen each execution once, and the position is their sum.
    fills = [each for each in seen if each.exec_type == "TRADE"]
    assert Counter(each.trade_id for each in fills) == Counter(each.trade_id for each in trades)
    assert len(fills) == len({each.trade_id for each in fills})
    assert Counter((each.order_id, each.exec_id) for each in seen).most_common(1)[0][1] == 1
    signed = [(Decimal(each.last_qty or 0) * (1 if each.side == "BUY" else -1), each.last_px or "") for each in fills]
    assert account.positions[SYMBOL].qty == sum(qty for qty, _ in signed)
    assert account.balances["USD"] == -sum(qty * Decimal(price) for qty, price in signed)


def told(report: ExecutionReport) -> tuple[Any, ...]:
    return (report.ord_status, report.cum_qty, report.leaves_qty, report.client_order_id, report.avg_px)


def made(order: Order) -> tuple[Any, ...]:
    average = f"{(order.filled / order.cum_qty).normalize():f}" if order.cum_qty else None
    return (order.status, f"{order.cum_qty:f}", f"{order.leaves_qty:f}", order.client_order_id, average)


@asynccontextmanager
async def clients(url: str, tokens: dict[str, str]) -> AsyncIterator[list[Client]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Client(url, token=token, timeout_s=LIMIT_S)) for token in tokens.values()
        ]


async def follow(client: Client, seen: list[ExecutionReport]) -> None:
    async for report in client.orders.reports():
        seen.append(report)


async def until_open(client: Client) -> None:
    """The hub has heard of the market: an order would be let through."""
    async with asyncio.timeout(LIMIT_S):
        while (await client.orders.validate(SYMBOL, "BUY", 1, price=98)).result != "APPROVED":
            await asyncio.sleep(0.05)


async def settled(client: Client, seen: list[ExecutionReport]) -> list[ExecutionReport]:
    """Every order, once none is on its way any more and the stream has told of the last state of each."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = await listing(client)
            states = {each.order_id: each.ord_status for each in found}
            if not UNDER_WAY & {*states.values()} and states == {each.order_id: each.ord_status for each in seen}:
                return found
            await asyncio.sleep(0.05)


async def listing(client: Client) -> list[ExecutionReport]:
    found: list[ExecutionReport] = []
    further: dict[str, int] = {}
    while True:
        page = await client.call("orders.list", account="ann", limit=500, **further)
        found += [ExecutionReport(**each) for each in page["orders"]]
        if "next" not in page:
            return found
        further = {"before": page["next"]}


async def replayed(data_dir: Path) -> tuple[dict[str, Order], Account, list[Event]]:
    """Orders and account from the audit rows alone."""
    orders: dict[str, Order] = {}
    account, trades = Account(name="ann"), []
    async with EmbeddedPostgres(data_dir) as dsn, Database.open(dsn) as database:
        log = OrderLog(database)
        assert await log.verify() is None
        async for row in log.all_events():
            event = decode_event(row.body)
            order = orders[event.order_id] = apply(orders.get(event.order_id), event)
            if event.exec_type == "TRADE":
                account = apply_execution(account, order, event)
                trades.append(event)
    return orders, account, trades
