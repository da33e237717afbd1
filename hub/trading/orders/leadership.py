"""Which node has the order engine, and what its term is made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any

import msgspec

from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.leadership import Leadership
from hub.trading.accounts import Account, UnknownExecution, apply_execution
from hub.trading.orders.blotter import Blotter
from hub.trading.orders.engine import Engine, Funds, Hear, restore
from hub.trading.orders.journal import Journal
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import decode_event
from hub.trading.orders.watch import Watch
from hub.trading.risk.desk import RiskDesk
from hub.trading.risk.facts import Market
from hub.trading.venues.base import Venue, VenueUnreachable
from storage.orders import ERASED, LogEnd, OrderLog, StoredExecution

logger = logging.getLogger("krin.orders")

TOPIC = "trading"
BEFORE_A_VENUE = ("INITIALIZED", "PENDING_APPROVAL")


class Term(msgspec.Struct, frozen=True):
    journal: Journal
    engine: Engine
    watch: Watch


Companion = Callable[[Engine], Coroutine[Any, Any, None]]
"""Runs beside the engine and ends with it."""


class OrderLeadership(Leadership[Term]):
    """`prepare` runs before each term, with its epoch."""

    def __init__(
        self,
        log: OrderLog,
        durable: DurableChannels,
        venue: Venue,
        desk: RiskDesk,
        market: Market,
        *,
        node: str,
        funds: Funds,
        prepare: Callable[[int], Awaitable[None]],
        clock: Clock,
    ) -> None:
        super().__init__("the order engine", acquire=log.leadership, clock=clock)
        self._log = log
        self._durable = durable
        self._venue = venue
        self._desk = desk
        self._market = market
        self._node = node
        self._funds = funds
        self._prepare = prepare
        self._clock = clock
        self._listeners: list[Hear] = []
        self._companions: dict[str, Companion] = {}
        self._accounts: dict[str, Account] = {}

    def listen(self, hear: Hear) -> None:
        """`hear` is told of everything that happens to orders, while this node leads."""
        self._listeners.append(hear)

    def accompany(self, name: str, run: Companion) -> None:
        """`run` is started with every engine, once that takes orders."""
        self._companions[name] = run

    def position(self, account: str, symbol: str) -> Decimal:
        """What an account holds, by the log and everything since. For the venue of this node."""
        found = self._accounts.get(account)
        holding = found.positions.get(symbol) if found is not None else None
        return holding.qty if holding is not None else Decimal(0)

    @property
    def engine(self) -> Engine:
        """Raises HubError(not_available) while this node does not lead."""
        return self.term.engine

    @property
    def watch(self) -> Watch:
        """As `engine`."""
        return self.term.watch

    async def begin(self) -> Term:
        end = await self._log.take_over(self._node)
        await self._prepare(end.epoch)
        return await self._begin(end)

    async def serve(self, term: Term, group: asyncio.TaskGroup) -> None:
        group.create_task(term.journal.run(), name="orders commit")
        await self._catch_up(term)
        group.create_task(term.engine.listen(), name="venue reports")
        group.create_task(term.engine.send(), name="venue commands")
        group.create_task(term.watch.run(), name="orders watch")
        for name, run in self._companions.items():
            group.create_task(run(term.engine), name=name)

    async def _begin(self, end: LogEnd) -> Term:
        """Everything from the log. Raises StorageError."""
        blotter = Blotter()
        restore(blotter, [decode_event(event.body) async for event in self._log.open_events()])
        accounts = self._accounts = {}
        async for execution in self._log.executions():
            if execution.event.body != ERASED:
                _count(accounts, execution, self._funds)
        journal = Journal(self._log, end, self._durable, clock=self._clock)
        engine = Engine(
            journal,
            self._log,
            self._venue,
            self._desk,
            self._market,
            blotter=blotter,
            accounts=accounts,
            funds=self._funds,
            listeners=self._listeners,
            clock=self._clock,
        )
        engine.new_day(self._clock.now_us())
        switches = await self._log.switches()
        watch = Watch(engine, self._venue, self._log, switches=switches, clock=self._clock)
        return Term(journal, engine, watch)

    async def _catch_up(self, term: Term) -> None:
        """Tell the venue what we know, and ask what it knows."""
        there = [order for order in term.engine.blotter.all_alive() if order.status not in BEFORE_A_VENUE]
        try:
            await self._venue.restore(there)
        except VenueUnreachable as failure:
            logger.warning("%s cannot be reached: %s", self._venue.name, failure)
        for order in there:
            await term.watch.ask(order)


def _count(accounts: dict[str, Account], execution: StoredExecution, funds: Funds) -> None:
    event = decode_event(execution.event.body)
    name = execution.event.account
    order = Order(
        order_id=event.order_id,
        account=name,
        client_order_id="",
        symbol=execution.symbol,
        side=execution.side,
        order_type="MARKET",
        qty=Decimal(0),
        leaves_qty=Decimal(0),
    )
    try:
        accounts[name] = apply_execution(accounts.get(name) or funds(name), order, event)
    except UnknownExecution as failure:
        logger.error("the position of %s in %s is in doubt: %s", name, order.symbol, failure)
