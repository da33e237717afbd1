"""Starts and stops strategies for whoever may trade in their account, on the node that has the engine."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, NoReturn, Protocol

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.channels.access import Access
from hub.clock import Clock
from hub.dispatch import convert
from hub.trading.strategies.base import Setting
from hub.trading.strategies.blotter import Blotter
from hub.trading.strategies.catalog import STRATEGIES, Kind, make_strategy
from hub.trading.strategies.runner import Happening, Runner
from protocol.codec import decode_error
from protocol.errors import ErrorCode, HubError
from protocol.strategies import StrategyList, StrategyStart, StrategyState, StrategyStop
from protocol.trading import ExecutionReport, Instrument, PriceTick, TradingState

MAX_STRATEGIES = 100  # running at once
MAX_ENDED = 1_000  # that are still told of
STOP_S = 10.0  # for a strategy's last words
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
        *,
        call: Call,
        judge: Callable[[Caller], Caller],
        access: Access,
        clock: Clock,
        catalog: Mapping[str, Kind] = STRATEGIES,
    ) -> None:
        """`judge` says what rights somebody has by now, and raises HubError for one who has none any more."""
        self._market = market
        self._call = call
        self._judge = judge
        self._access = access
        self._clock = clock
        self._catalog = catalog
        self._runners: OrderedDict[tuple[str, str], Runner] = OrderedDict()
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> NoReturn:
        """As long as this node has the engine. Strategies do not outlive it: somebody must start them again."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None
                self._runners.clear()
        raise AssertionError("waits for ever")

    # --- methods ---

    def start(self, params: Mapping[str, Any], caller: Caller) -> StrategyState:
        """Raises HubError(permission_denied, not_available, version_conflict, limit_exceeded, schema_invalid)."""
        wanted: StrategyStart = convert(params, StrategyStart)
        self._access.require(caller, "publish", f"orders:{wanted.account}")
        if self._group is None:
            raise HubError(ErrorCode.NOT_AVAILABLE, "no node trades at the moment", retry_after_ms=1000)
        name = (wanted.account, wanted.strategy_id)
        if (known := self._runners.get(name)) is not None and not known.ended.is_set():
            raise HubError(ErrorCode.VERSION_CONFLICT, "this strategy is running", path="$.params.strategy_id")
        if sum(not each.ended.is_set() for each in self._runners.values()) >= MAX_STRATEGIES:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_STRATEGIES} strategies run at once")
        runner = self._runners[name] = self._make(wanted, caller)
        self._runners.move_to_end(name)
        self._group.create_task(runner.run(), name=f"strategy {wanted.strategy_id}")
        for symbol in wanted.symbols:
            if (tick := self._market.tick(symbol)) is not None:
                runner.hear(tick)
        self._forget_ended()
        return runner.state()

    async def stop(self, params: Mapping[str, Any], caller: Caller) -> StrategyState:
        """Answers when it has ended and its orders were asked to be canceled, or after STOP_S."""
        wanted: StrategyStop = convert(params, StrategyStop)
        self._access.require(caller, "publish", f"orders:{wanted.account}")
        runner = self._runners.get((wanted.account, wanted.strategy_id))
        if runner is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such strategy", path="$.params.strategy_id")
        runner.stop(f"stopped by {caller.user}")
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await runner.ended.wait()
        return runner.state()

    def list(self, params: Mapping[str, Any], caller: Caller) -> list[StrategyState]:
        """Those of one account: what runs, and what has ended lately."""
        wanted: StrategyList = convert(params, StrategyList)
        self._access.require(caller, "subscribe", f"orders:{wanted.account}")
        return [runner.state() for (account, _), runner in self._runners.items() if account == wanted.account]

    # --- what happens ---

    def hear(self, happening: Happening) -> None:
        """Something of the market, of an account's orders, or of a kill switch: for every strategy that it concerns."""
        for runner in self._runners.values():
            if runner.running and _concerns(runner, happening):
                runner.hear(happening)

    def _make(self, wanted: StrategyStart, caller: Caller) -> Runner:
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

        return Runner(strategy, blotter, start=wanted, started_by=caller.user, command=command, clock=self._clock)

    def _forget_ended(self) -> None:
        ended = [name for name, runner in self._runners.items() if runner.ended.is_set()]
        for name in ended[: max(0, len(ended) - MAX_ENDED)]:
            del self._runners[name]


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
