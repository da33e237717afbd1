"""An order engine with everything it stands on: a real log, the risk desk, a paper venue that can be made to fail."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
from clock import ManualClock

from hub.brokers.local import LocalBroker
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.leadership import RETRY_S
from hub.namespaces import Namespaces
from hub.publication import Publication
from hub.trading.accounts import Account
from hub.trading.orders.engine import Engine
from hub.trading.orders.fold import replay
from hub.trading.orders.leadership import OrderLeadership
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import decode_event
from hub.trading.orders.service import OrderService
from hub.trading.orders.watch import Watch
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.desk import RiskDesk
from hub.trading.venues.matching import Matcher
from hub.trading.venues.paper import Latency, PaperVenue
from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import (
    ExecutionReport,
    Instrument,
    MarketReference,
    OrderCancel,
    OrderReplace,
    OrderSubmit,
    PriceTick,
    QuoteState,
    Side,
)
from storage.database import Database
from storage.messages import MessageLog
from storage.orders import OrderLog
from tests.trading.faulty_venue import FaultyVenue

SYMBOL = "BTC-USD"
INSTRUMENT = Instrument(symbol=SYMBOL, base="BTC", quote="USD", tick_size="0.5", lot_size="0.1")

_names = itertools.count(1)


class QuotedMarket:
    """One symbol at the price that the test says."""

    def __init__(self) -> None:
        self.tick = PriceTick(symbol=SYMBOL, bid="100", bid_size="10", ask="101", ask_size="10", state="LIVE")

    def instrument(self, symbol: str) -> Instrument | None:
        return INSTRUMENT if symbol == SYMBOL else None

    def reference(self, symbol: str) -> MarketReference | None:
        if symbol != SYMBOL:
            return None
        assert self.tick.bid is not None and self.tick.ask is not None
        mid = str((Decimal(self.tick.bid) + Decimal(self.tick.ask)) / 2)
        return MarketReference(
            symbol=SYMBOL, bid=self.tick.bid, ask=self.tick.ask, mid=mid, state=self.tick.state, age_us=0
        )

    def mark(self, symbol: str) -> Decimal | None:
        return Decimal(self.tick.bid or 0) if symbol == SYMBOL else None

    def last(self, symbol: str) -> Decimal | None:
        return None

    def vwap(self, symbol: str) -> Decimal | None:
        return None


class Floor:
    """One node. `open` it, then command; `told` are the publications that reached the broker, in order."""

    def __init__(self, database: Database, *, clock: ManualClock | None = None, node: str = "n1") -> None:
        self.clock = clock or ManualClock()
        self.log = OrderLog(database)
        self.messages = MessageLog(database)
        self.told: list[Publication] = []
        durable = DurableChannels(self.messages, deliver=self.told.append, clock=self.clock)
        broker = LocalBroker(self.told.append, clock=self.clock)
        durable.ring_with(broker)
        for channel in ("orders:ann", "fills:ann", "risk:ann", "approvals:risk", "alerts:trading"):
            broker.subscribe(channel, Namespaces().of(channel)[0])
        self.market = QuotedMarket()
        matcher = Matcher(instrument=self.market.instrument, position=lambda account, symbol: Decimal(0))
        self.paper = PaperVenue(matcher, clock=self.clock, latency=Latency(least_ms=0))
        self.venue = FaultyVenue(self.paper)
        self.desk = RiskDesk(RiskChecks(clock=self.clock))
        self.desk.set_limits(
            LimitLayer(
                scope="GLOBAL",
                name="*",
                limits=RiskLimits(submit_rate=None, modify_rate=None, duplicate_count=None, allow_short=True),
            ),
            1,
        )
        self.leadership = OrderLeadership(
            self.log,
            durable,
            self.venue,
            self.desk,
            self.market,
            node=node,
            funds=lambda name: Account(name=name, balances={"USD": Decimal(1_000_000)}),
            prepare=self._prepared,
            clock=self.clock,
        )
        self.service = OrderService(self.leadership, self.log, access=Access(Namespaces(), report=lambda event: None))

    async def _prepared(self, epoch: int) -> None:
        return None

    @asynccontextmanager
    async def open(self, *, leading: bool = True) -> AsyncIterator[Floor]:
        running = [asyncio.create_task(each) for each in (self.leadership.run(), self.paper.run(), self.venue.run())]
        try:
            if leading:
                async with asyncio.timeout(10):
                    while not self.leadership.leads:  # Postgres frees the lock of the engine before in its own time
                        self.clock.advance(RETRY_S)
                        await asyncio.sleep(0.01)
            self.quote()
            yield self
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @property
    def engine(self) -> Engine:
        return self.leadership.engine

    @property
    def watch(self) -> Watch:
        return self.leadership.watch

    def quote(self, bid: str = "100", ask: str = "101", *, size: str = "10", state: QuoteState = "LIVE") -> None:
        self.market.tick = PriceTick(symbol=SYMBOL, bid=bid, bid_size=size, ask=ask, ask_size=size, state=state)
        self.paper.hear(self.market.tick)

    async def submit(self, side: Side = "BUY", qty: str = "1", price: str | None = "99", **fields: Any) -> str:
        """Answers the order's name; what was said of it is in `reports`."""
        asked = order(side, qty, price, **fields)
        await self.engine.submit(asked, user="ann")
        return asked.client_order_id

    async def cancel(self, name: str) -> ExecutionReport:
        return await self.engine.cancel(OrderCancel(account="ann", client_order_id=name), user="ann")

    async def replace(self, name: str, **fields: Any) -> ExecutionReport:
        asked = {"account": "ann", "orig_client_order_id": name, "client_order_id": f"{name}-2", **fields}
        return await self.engine.replace(OrderReplace(**asked), user="ann")

    def reports(self, name: str | None = None, channel: str = "orders:ann") -> list[ExecutionReport]:
        found = [decode_report(each) for each in self.told if each.channel == channel]
        if name is None:
            return found
        ids = {report.order_id for report in found if report.client_order_id == name}
        return [report for report in found if report.order_id in ids]

    def types(self, name: str) -> list[str]:
        return [report.exec_type for report in self.reports(name)]

    async def until(self, name: str, *types: str) -> None:
        """Wait until just this has happened to an order."""
        try:
            async with asyncio.timeout(10):
                while self.types(name) != list(types):
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{self.types(name)} instead of {list(types)}") from None

    async def recorded(self, name: str, account: str = "ann") -> Order:
        """The order that its audit rows make."""
        found = await self.log.find(account, name)
        assert found is not None
        return replay([decode_event(event.body) for event in await self.log.events(found[0])])


def order(side: Side = "BUY", qty: str = "1", price: str | None = "99", **fields: Any) -> OrderSubmit:
    asked: Mapping[str, Any] = {
        "account": "ann",
        "client_order_id": f"c{next(_names)}",
        "symbol": SYMBOL,
        "side": side,
        "order_type": "MARKET" if price is None else "LIMIT",
        "qty": qty,
        "price": price,
        **fields,
    }
    return OrderSubmit(**asked)


def decode_report(publication: Publication) -> ExecutionReport:
    body = msgspec.json.decode(b"{" + publication.body + b"}")
    return msgspec.convert(body["data"], ExecutionReport)
