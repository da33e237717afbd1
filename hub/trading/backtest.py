"""A strategy against the past: the strategy, the engine, the risk checks and the accounts are those of every day, only
that time is told by the history, nothing is written down, and the venue is a market that nobody else trades in.

The same history, parameters and seed give the same result, at whatever speed the history comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from hub.trading.accounts import DAY_US, Account, assets_of, plain
from hub.trading.decimals import EXACT, midpoint, text
from hub.trading.market.view import MarketView
from hub.trading.orders.blotter import Blotter as Orders
from hub.trading.orders.engine import Engine
from hub.trading.orders.event import Event
from hub.trading.orders.journal import Change
from hub.trading.orders.order import Order
from hub.trading.orders.reporting import report_of
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.decision import Approved
from hub.trading.risk.desk import RiskDesk
from hub.trading.strategies.base import Intent, Setting, Strategy
from hub.trading.strategies.blotter import Blotter
from hub.trading.strategies.catalog import Kind, make_strategy
from hub.trading.venues.base import VenueOrder, VenueReport
from hub.trading.venues.matching import Fees, Matcher
from hub.trading.venues.paper import Latency
from protocol.errors import HubError
from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import (
    Bar,
    Book,
    ExecutionReport,
    Instrument,
    OrderCancel,
    OrderCancelAll,
    OrderReplace,
    OrderSubmit,
    PriceTick,
    Trade,
    TradeCorrection,
)
from storage.orders import StoredEvent

ACCOUNT = "backtest"
MAX_AT_ONCE = 1_000  # things that a strategy may do about one thing that happened
FINEST = "0.00000001"  # tick and lot of a symbol of which nothing is known

MarketData = PriceTick | Trade | TradeCorrection | Book | Bar | Instrument


class Recorded(NamedTuple):
    """What was known, and when, in microseconds."""

    at_us: int
    message: MarketData


class BacktestResult(msgspec.Struct, frozen=True, kw_only=True):
    """Money is in the quote assets, added up as if they were one. `fingerprint` is that of every execution report."""

    strategy: str
    symbols: Sequence[str]
    parameters: Mapping[str, Any]
    from_us: int
    to_us: int
    messages: int
    submitted: int
    refused: int
    trades: int
    volume: str
    commission: str
    realized_pnl: str
    unrealized_pnl: str
    max_drawdown: str
    positions: Mapping[str, str]
    balances: Mapping[str, str]
    fingerprint: str


class EndlessStrategy(Exception):
    """It answers each answer with another command, and time does not pass."""


class HistoryClock:
    """Implements hub.clock.Clock. Time is what the history says; it never goes back."""

    def __init__(self) -> None:
        self._now_us = 0

    def reach(self, at_us: int) -> None:
        self._now_us = max(self._now_us, at_us)

    def now_us(self) -> int:
        return self._now_us

    def now_ms(self) -> int:
        return self._now_us // 1000

    def monotonic(self) -> float:
        return self._now_us / 1e6

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError("history does not wait")


class _Unwritten:
    """Implements Writes: keeps nothing, and what it is given counts at once."""

    epoch = 1
    waiting = 0

    def require_room(self) -> None:
        """There is always room."""

    def add(self, change: Change) -> asyncio.Future[None]:
        for call in change.then:
            call()
        change.done.set_result(None)
        return change.done


class _Empty:
    """Implements Past: there was nothing."""

    async def find(self, account: str, client_order_id: str) -> None:
        return None

    async def events(self, order_id: str) -> list[StoredEvent]:
        return []


class _Venue:
    """Implements Venue for commands: they arrive a latency later, in the order in which they were sent."""

    name = "history"
    paper = True

    def __init__(self, matcher: Matcher, clock: HistoryClock, *, latency: Latency, seed: int) -> None:
        self._matcher = matcher
        self._clock = clock
        self._latency = latency
        self._random = random.Random(seed)
        self._underway: deque[tuple[int, Callable[[int], list[VenueReport]]]] = deque()

    async def submit(self, approved: Approved) -> None:
        self._send(partial(self._matcher.submit, approved.order))

    async def replace(self, approved: Approved) -> None:
        self._send(partial(self._matcher.replace, approved))

    async def cancel(self, order: Order) -> None:
        self._send(partial(self._matcher.cancel, order))

    async def status(self, order: Order) -> VenueOrder | None:
        return self._matcher.status(order.order_id)

    async def restore(self, orders: Sequence[Order]) -> None:
        """There is nothing to come back to."""

    async def reports(self) -> AsyncIterator[VenueReport]:
        reports: tuple[VenueReport, ...] = ()  # they are handed to the engine one by one
        for report in reports:
            yield report

    def arrive(self, until_us: int) -> Iterable[tuple[int, list[VenueReport]]]:
        """(when, what the venue says) of each command that arrives by then."""
        while self._underway and self._underway[0][0] <= until_us:
            due_us, command = self._underway.popleft()
            yield due_us, command(due_us)

    def _send(self, command: Callable[[int], list[VenueReport]]) -> None:
        travels_ms = self._latency.least_ms + self._latency.jitter_ms * self._random.random()
        due_us = self._clock.now_us() + round(travels_ms * 1000)
        if self._underway:
            due_us = max(due_us, self._underway[-1][0])
        self._underway.append((due_us, command))


class Backtest:
    """One run. `instruments` are those that the history does not tell of itself."""

    def __init__(
        self,
        name: str,
        kind: Kind,
        parameters: Mapping[str, Any],
        *,
        symbols: Sequence[str],
        balances: Mapping[str, Decimal],
        instruments: Mapping[str, Instrument] = {},
        limits: RiskLimits = RiskLimits(),  # frozen: one does for all
        fees: Fees = Fees(),
        latency: Latency = Latency(),
        seed: int = 1,
        on_report: Callable[[ExecutionReport], None] = lambda report: None,
    ) -> None:
        """Raises msgspec.ValidationError for parameters that the strategy does not take."""
        self._name = name
        self._parameters = parameters
        self._symbols = symbols
        self._on_report = on_report
        self._clock = HistoryClock()
        self._market = MarketView(clock=self._clock)
        for symbol in symbols:
            self._market.hear(instruments.get(symbol) or _instrument(symbol))
        self._blotter = Blotter(account=ACCOUNT, strategy_id=name, run=name)
        setting = Setting(symbols=tuple(symbols), blotter=self._blotter, instrument=self._market.instrument)
        self._strategy: Strategy = make_strategy(kind, parameters, setting)
        self._matcher = Matcher(
            instrument=self._market.instrument, position=lambda account, symbol: Decimal(0), fees=fees
        )
        self._venue = _Venue(self._matcher, self._clock, latency=latency, seed=seed)
        desk = RiskDesk(RiskChecks(clock=self._clock))
        desk.set_limits(LimitLayer(scope="GLOBAL", limits=limits), 1)
        self._account = Account(name=ACCOUNT, balances=dict(balances))
        self._engine = Engine(
            _Unwritten(),
            _Empty(),
            self._venue,
            desk,
            self._market,
            blotter=Orders(),
            accounts={ACCOUNT: self._account},
            funds=lambda account: self._account,
            listeners=[self._hear],
            clock=self._clock,
        )
        self._latency = latency
        self._day = 0
        self._quoted: set[str] = set()
        self._heard: deque[ExecutionReport] = deque()
        self._done = 0  # about the thing that happened last
        self._hash = hashlib.sha256()
        self._messages = self._submitted = self._refused = self._trades = 0
        self._volume = self._best = self._drawdown = Decimal(0)
        self._from_us: int | None = None

    async def run(self, history: AsyncIterable[Recorded]) -> BacktestResult:
        """To the end of the history. Raises EndlessStrategy, and whatever the strategy raises."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._engine.send(), name="backtest venue")
            async for at_us, message in history:
                await self._reach(at_us)
                if self._from_us is None:
                    self._from_us = self._clock.now_us()
                    await self._ask(self._strategy.on_start)
                await self._take(message)
            await self._ask(self._strategy.on_stop)
            await self._let_arrive()
            await self._send(OrderCancelAll(account=ACCOUNT))
            await self._let_arrive()
            sending.cancel()
        return self._result()

    async def _let_arrive(self) -> None:
        latency = self._latency
        await self._answer()
        await self._reach(self._clock.now_us() + round((latency.least_ms + latency.jitter_ms) * 1000))

    async def _reach(self, at_us: int) -> None:
        """Let everything happen that was under way until then."""
        for due_us, reports in self._venue.arrive(at_us):
            self._clock.reach(due_us)
            await self._report(reports)
        self._clock.reach(at_us)
        if (day := at_us // DAY_US) != self._day:
            self._day = day
            self._engine.new_day(at_us)
        await self._report(self._matcher.expire(self._clock.now_us()))

    async def _take(self, message: MarketData) -> None:
        if message.symbol not in self._symbols:
            return
        self._messages += 1
        self._done = 0
        match message:
            case PriceTick():
                self._quoted.add(message.symbol)
                await self._quote(message)
            case Trade():
                if message.symbol not in self._quoted:
                    await self._quote(self._implied(message))
                self._market.hear(message)
                await self._ask(self._strategy.on_trade, message)
            case Bar():
                await self._ask(self._strategy.on_bar, message)
            case Book():
                self._market.hear(message)
                self._matcher.book(message)
            case _:
                self._market.hear(message)
        await self._answer()

    async def _quote(self, tick: PriceTick) -> None:
        self._market.hear(tick)
        self._matcher.observe(tick)
        await self._report(self._matcher.match(tick.symbol, self._clock.now_us()))
        self._value()
        await self._ask(self._strategy.on_quote, tick)

    def _implied(self, trade: Trade) -> PriceTick:
        """What a history without quotes tells of them: who crossed the spread did it at the other side's price."""
        instrument = self._market.instrument(trade.symbol)
        assert instrument is not None
        price, step = Decimal(trade.price), Decimal(instrument.tick_size)
        bid, ask = (EXACT.subtract(price, step), price) if trade.aggressor_side == "BUYER" else (price, price + step)
        return PriceTick(
            symbol=trade.symbol,
            bid=text(bid),
            bid_size=trade.size,
            ask=text(ask),
            ask_size=trade.size,
            mid=text(midpoint(bid, ask)),
            state="LIVE",
            ts_event=self._clock.now_us(),
        )

    async def _report(self, reports: Iterable[VenueReport]) -> None:
        for report in reports:
            self._engine.hear(report)
        await self._answer()

    async def _answer(self) -> None:
        """Tell the strategy what became of its orders, until nothing more comes of that now."""
        await asyncio.sleep(0)  # the engine sends what it has decided
        while self._heard:
            report = self._heard.popleft()
            if self._blotter.hear(report):
                await self._ask(self._strategy.on_execution, report)
                await asyncio.sleep(0)

    async def _ask(self, hook: Callable[..., Iterable[Intent]], *told: object) -> None:
        for intent in hook(*told, self._clock.now_us()):
            if (refusal := await self._send(intent)) is not None:
                for again in self._strategy.on_refused(intent, refusal.code.wire_name, self._clock.now_us()):
                    await self._send(again)

    async def _send(self, intent: Intent) -> HubError | None:
        self._done += 1
        if self._done > MAX_AT_ONCE:
            raise EndlessStrategy(f"more than {MAX_AT_ONCE} commands about one message")
        try:
            match intent:
                case OrderSubmit():
                    self._submitted += 1
                    await self._engine.submit(intent, user=ACCOUNT)
                case OrderReplace():
                    await self._engine.replace(intent, user=ACCOUNT)
                case OrderCancel():
                    await self._engine.cancel(intent, user=ACCOUNT)
                case OrderCancelAll():
                    await self._engine.cancel_all(intent, user=ACCOUNT)
        except HubError as refusal:
            if not isinstance(intent, OrderCancelAll):
                self._blotter.refused(intent)
            return refusal
        return None

    def _hear(self, order: Order, event: Event, account: Account) -> None:
        report = report_of(order, event, None, paper=True, now_us=self._clock.now_us())
        self._hash.update(msgspec.json.encode(report))
        self._on_report(report)
        self._heard.append(report)
        if event.exec_type == "TRADE" and event.last_qty is not None and event.last_px is not None:
            self._trades += 1
            self._volume = EXACT.fma(event.last_qty, event.last_px, self._volume)
        elif event.exec_type in ("DENIED", "REJECTED"):
            self._refused += 1

    def _value(self) -> None:
        """Keep the worst fall from the best result so far."""
        account = self._engine.account(ACCOUNT)
        if not account.positions:
            return
        result = EXACT.add(self._realized(account), account.unrealized(self._marks(account)))
        self._best = max(self._best, result)
        self._drawdown = max(self._drawdown, EXACT.subtract(self._best, result))

    def _realized(self, account: Account) -> Decimal:
        """After commission."""
        total = Decimal(0)
        for holding in account.positions.values():
            total = EXACT.add(total, EXACT.subtract(holding.standing.realized, holding.standing.commission))
        return total

    def _marks(self, account: Account) -> dict[str, Decimal]:
        return {symbol: mark for symbol in account.positions if (mark := self._market.mark(symbol)) is not None}

    def _result(self) -> BacktestResult:
        account = self._engine.account(ACCOUNT)
        commission = sum((each.standing.commission for each in account.positions.values()), Decimal(0))
        return BacktestResult(
            strategy=self._name,
            symbols=self._symbols,
            parameters=self._parameters,
            from_us=self._from_us or 0,
            to_us=self._clock.now_us(),
            messages=self._messages,
            submitted=self._submitted,
            refused=self._refused,
            trades=self._trades,
            volume=plain(self._volume),
            commission=plain(commission),
            realized_pnl=plain(self._realized(account)),
            unrealized_pnl=plain(account.unrealized(self._marks(account))),
            max_drawdown=plain(self._drawdown),
            positions={symbol: plain(each.qty) for symbol, each in account.positions.items()},
            balances={asset: plain(amount) for asset, amount in account.balances.items()},
            fingerprint=self._hash.hexdigest(),
        )


def _instrument(symbol: str) -> Instrument:
    base, quote = assets_of(symbol)
    return Instrument(symbol=symbol, base=base, quote=quote, tick_size=FINEST, lot_size=FINEST)
