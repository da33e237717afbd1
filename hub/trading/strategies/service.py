"""Starts and stops strategies for whoever may trade in their account, on the node that has the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.channels.access import Access
from hub.clock import Clock
from hub.dispatch import Method, convert
from hub.trading.orders.engine import Engine
from hub.trading.orders.reporting import HUB
from hub.trading.permission import require_account
from hub.trading.risk.ports import stored
from hub.trading.strategies.base import Setting
from hub.trading.strategies.blotter import Blotter
from hub.trading.strategies.catalog import STRATEGIES, Kind, make_strategy
from hub.trading.strategies.runner import Happening, Runner
from protocol.codec import decode_error
from protocol.errors import ErrorCode, HubError
from protocol.strategies import StrategyList, StrategyStart, StrategyState, StrategyStop
from protocol.trading import ExecutionReport, Instrument, OrderCancelAll, PriceTick, TradingState
from storage.strategies import StoredRun, StrategyTable

MAX_STRATEGIES = 100  # running at once
MAX_LISTED = 100
STOP_S = 4.0  # for a strategy's last words: less than another node waits for an answer
CUT_OFF = "its engine ended"
MAX_ID_PREFIX = 32  # of a strategy's id in its client order ids, which have 64 characters

Call = Callable[[str, Mapping[str, Any], Caller], Awaitable[object]]
"""Runs a method of the hub for a caller. Raises HubError."""


class Market(Protocol):
    """What is known of the market before anything happens."""

    def tick(self, symbol: str) -> PriceTick | None: ...
    def instrument(self, symbol: str) -> Instrument | None: ...


class Strategies:
    """Owner of the runners."""

    def __init__(
        self,
        market: Market,
        table: StrategyTable,
        *,
        call: Call,
        follow: Callable[[str], Awaitable[None]],
        leave: Callable[[str], None],
        judge: Callable[[Caller], Caller],
        access: Access,
        clock: Clock,
        catalog: Mapping[str, Kind] = STRATEGIES,
    ) -> None:
        """`follow` lets a channel be heard until `leave`, as prices and trades are anyway. `judge` says what rights
        somebody has by now, and raises HubError for one who has none any more.
        """
        self._market = market
        self._table = table
        self._call = call
        self._follow = follow
        self._leave = leave
        self._judge = judge
        self._access = access
        self._clock = clock
        self.methods: Mapping[str, Method] = {
            "strategies.list": self.list,
            "strategies.start": self.start,
            "strategies.stop": self.stop,
        }
        self._catalog = catalog
        self._runners: dict[tuple[str, str], Runner] = {}  # that have not ended
        self._group: asyncio.TaskGroup | None = None
        self._engine: Engine | None = None  # as long as there is a group

    async def run(self, engine: Engine) -> None:
        """Beside an engine, and no longer than it: somebody must start them again. Raises HubError(not_available)."""
        with stored():
            for cut_off in await self._table.running():
                await self._clear_up(engine, cut_off)
        async with asyncio.TaskGroup() as group:
            self._group, self._engine = group, engine
            try:
                await asyncio.Event().wait()
            finally:
                self._group = self._engine = None
                for runner in [*self._runners.values()]:
                    self._forget(runner)

    async def _clear_up(self, engine: Engine, cut_off: StoredRun) -> None:
        """Nobody watches the orders of a strategy that ended with its engine."""
        state = cut_off.state
        asked = OrderCancelAll(account=state.account, strategy_id=state.strategy_id)
        await engine.cancel_all(asked, user=HUB, text=CUT_OFF)
        ended = replace(state, state="STOPPED", reason=CUT_OFF, ended_at=self._clock.now_us())
        await self._table.end(cut_off.run, ended)

    @property
    def ready(self) -> bool:
        """Whether strategies can be started here."""
        return self._group is not None

    # --- methods ---

    async def start(self, params: Mapping[str, Any], caller: Caller) -> StrategyState:
        """Raises HubError(permission_denied, not_available, not_found, version_conflict, limit_exceeded)."""
        wanted: StrategyStart = convert(params, StrategyStart)
        require_account(self._access, caller, "publish", wanted.account)
        name = (wanted.account, wanted.strategy_id)
        if name in self._runners:
            raise HubError(ErrorCode.VERSION_CONFLICT, "this strategy is running", path="$.params.strategy_id")
        if len(self._runners) >= MAX_STRATEGIES:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_STRATEGIES} strategies run at once")
        self._require_group()
        run, runner = self._make(wanted, caller)
        self._runners[name] = runner  # before anything is awaited: its name is taken
        try:
            with stored():
                await self._table.begin(run, runner.state())
            for channel in runner.bars():
                await self._follow(channel)
            self._require_group().create_task(self._see_through(run, runner), name=f"strategy {wanted.strategy_id}")
        except BaseException:
            self._forget(runner)
            raise
        for symbol in wanted.symbols:
            if (tick := self._market.tick(symbol)) is not None:
                runner.hear(tick)
        return runner.state()

    async def stop(self, params: Mapping[str, Any], caller: Caller) -> StrategyState:
        """Answers when it has ended and its orders were asked to be canceled, or after STOP_S as it is then."""
        wanted: StrategyStop = convert(params, StrategyStop)
        require_account(self._access, caller, "publish", wanted.account)
        runner = self._runners.get((wanted.account, wanted.strategy_id))
        if runner is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such strategy is running", path="$.params.strategy_id")
        runner.stop(caller.user)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await runner.ended.wait()
        return runner.state()

    async def list(self, params: Mapping[str, Any], caller: Caller) -> list[StrategyState]:
        """The newest runs of an account, the newest first."""
        wanted: StrategyList = convert(params, StrategyList)
        require_account(self._access, caller, "subscribe", wanted.account)
        with stored():
            found = await self._table.of_account(wanted.account, limit=MAX_LISTED)
        return [self._present(each.state) for each in found]

    def _present(self, known: StrategyState) -> StrategyState:
        runner = self._runners.get((known.account, known.strategy_id))
        state = runner.state() if runner is not None else known
        return state if state.started_at == known.started_at else known

    async def _see_through(self, run: str, runner: Runner) -> None:
        await runner.run()
        self._forget(runner)
        with stored():
            await self._table.end(run, runner.state())
        runner.ended.set()

    def _forget(self, runner: Runner) -> None:
        name = (runner.start.account, runner.start.strategy_id)
        if self._runners.get(name) is runner:
            del self._runners[name]
            wanted = {channel for other in self._runners.values() for channel in other.bars()}
            for channel in runner.bars():
                if channel not in wanted:
                    self._leave(channel)

    async def _withdraw(self, asked: OrderCancelAll) -> None:
        if self._engine is not None:
            await self._engine.cancel_all(asked, user=HUB)

    def _require_group(self) -> asyncio.TaskGroup:
        if self._group is None:
            raise HubError(ErrorCode.NOT_AVAILABLE, "the order engine is not here now", retry_after_ms=1000)
        return self._group

    # --- what happens ---

    def hear(self, happening: Happening) -> None:
        """Something of the market, of an account's orders, or of a kill switch: for every strategy that it concerns."""
        for runner in self._runners.values():
            if runner.running and _concerns(runner, happening):
                runner.hear(happening)

    def _make(self, wanted: StrategyStart, caller: Caller) -> tuple[str, Runner]:
        kind = self._catalog.get(wanted.strategy)
        if kind is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such kind of strategy", path="$.params.strategy")
        run = f"{wanted.strategy_id[:MAX_ID_PREFIX]}-{self._clock.now_us():x}"
        blotter = Blotter(account=wanted.account, strategy_id=wanted.strategy_id, run=run)
        setting = Setting(symbols=tuple(wanted.symbols), blotter=blotter, instrument=self._market.instrument)
        try:
            strategy = make_strategy(kind, wanted.parameters, setting)
        except msgspec.ValidationError as wrong:
            raise decode_error(wrong, "$.params.parameters") from None
        starter = replace(caller, connection=None, transport="system")  # it goes on when their connection ends

        async def command(method: str, params: dict[str, Any]) -> object:
            return await self._call(method, params, self._judge(starter))

        runner = Runner(
            strategy,
            blotter,
            start=wanted,
            started_by=caller.user,
            command=command,
            withdraw=self._withdraw,
            clock=self._clock,
        )
        return run, runner


def _concerns(runner: Runner, happening: Happening) -> bool:
    start = runner.start
    match happening:
        case ExecutionReport():
            return (happening.account, happening.strategy_id) == (start.account, start.strategy_id)
        case TradingState():
            names = {"GLOBAL": ("*",), "ACCOUNT": (start.account,), "STRATEGY": (start.strategy_id,)}
            return happening.name in names.get(happening.scope, start.symbols)
        case _:
            return happening.symbol in start.symbols
