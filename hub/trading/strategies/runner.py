"""One running strategy: hears what happens, asks its hooks, and sends what they answer. One thing at a time.

Quotes that come faster than it works are put together, the newest per symbol; everything else waits in order, up to a
bound: a strategy that is so far behind must not go on trading.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec

from hub.clock import Clock
from hub.trading.decimals import text
from hub.trading.strategies.base import Intent, Strategy
from hub.trading.strategies.blotter import Blotter
from protocol.errors import ErrorCode, HubError
from protocol.strategies import StrategyMode, StrategyStart, StrategyState
from protocol.trading import (
    Bar,
    ExecutionReport,
    OrderCancel,
    OrderCancelAll,
    OrderReplace,
    OrderSubmit,
    PriceTick,
    Trade,
    TradingState,
)

MAX_WAITING = 10_000
METHODS: dict[type, str] = {
    OrderSubmit: "orders.submit",
    OrderReplace: "orders.replace",
    OrderCancel: "orders.cancel",
    OrderCancelAll: "orders.cancel_all",
}

logger = logging.getLogger("krin.strategies")

Command = Callable[[str, dict[str, Any]], Awaitable[object]]
"""Runs a method of the hub with these parameters, with the rights of whoever started the strategy. Raises HubError."""

Happening = PriceTick | Trade | Bar | ExecutionReport | TradingState


class Runner:
    """`stop` ends it in good order; cancelled, it leaves everything as it is."""

    def __init__(
        self,
        strategy: Strategy,
        blotter: Blotter,
        *,
        start: StrategyStart,
        started_by: str,
        command: Command,
        withdraw: Callable[[OrderCancelAll], Awaitable[object]],
        clock: Clock,
    ) -> None:
        """`withdraw` cancels in the name of the hub, which needs nobody's rights. Raises HubError."""
        self._strategy = strategy
        self._blotter = blotter
        self.start = start
        self._started_by = started_by
        self._started_us = clock.now_us()
        self._ended_us: int | None = None
        self._command = command
        self._withdraw = withdraw
        self._clock = clock
        self._quotes: dict[str, PriceTick] = {}
        self._waiting: deque[Happening] = deque()
        self._changed = asyncio.Event()
        self._mode: StrategyMode = "RUNNING"
        self._reason: str | None = None
        self._stopped_by: str | None = None
        self._submitted = self._executions = 0
        self.ended = asyncio.Event()  # and that is written down: its owner says so

    @property
    def running(self) -> bool:
        return self._mode == "RUNNING"

    def bars(self) -> list[str]:
        """The channels of the bars that it wants."""
        return [f"bars:{interval}:{symbol}" for interval in self._strategy.intervals for symbol in self.start.symbols]

    def state(self) -> StrategyState:
        start = self.start
        positions = {symbol: self._blotter.position(symbol) for symbol in start.symbols}
        return StrategyState(
            account=start.account,
            strategy_id=start.strategy_id,
            strategy=start.strategy,
            symbols=start.symbols,
            parameters=start.parameters,
            state=self._mode,
            reason=self._reason,
            started_by=self._started_by,
            stopped_by=self._stopped_by,
            started_at=self._started_us,
            ended_at=self._ended_us,
            submitted=self._submitted,
            executions=self._executions,
            positions={symbol: text(qty) for symbol, qty in positions.items() if qty},
        )

    def hear(self, happening: Happening) -> None:
        """Something of its symbols, or of its orders."""
        if not self.running:
            return
        if isinstance(happening, PriceTick):
            self._quotes[happening.symbol] = happening
        elif len(self._waiting) >= MAX_WAITING:
            self._mode, self._reason = "FAILED", "it was too slow for what happened"
        else:
            self._waiting.append(happening)
        self._changed.set()

    def stop(self, by: str) -> None:
        if self.running:
            self._mode, self._stopped_by = "STOPPING", by
            self._changed.set()

    async def run(self) -> None:
        """Cancelled, it leaves its orders as they are: the hub is going, and nobody could say what became of them."""
        try:
            await self._ask(self._strategy.on_start)
            while self.running:
                await self._next()
            if self._mode == "STOPPING":
                await self._ask(self._strategy.on_stop)
        except Exception as failure:
            logger.exception("strategy %s of %s failed", self.start.strategy_id, self.start.account)
            self._mode, self._reason = "FAILED", f"it failed with {type(failure).__name__}"
        await self._clear_up()

    async def _next(self) -> None:
        if self._waiting:
            await self._take(self._waiting.popleft())
        elif self._quotes:
            await self._take(self._quotes.pop(next(iter(self._quotes))))
        else:
            self._changed.clear()
            await self._changed.wait()

    async def _take(self, happening: Happening) -> None:
        strategy = self._strategy
        match happening:
            case PriceTick():
                await self._ask(strategy.on_quote, happening)
            case Trade():
                await self._ask(strategy.on_trade, happening)
            case Bar():
                await self._ask(strategy.on_bar, happening)
            case TradingState():
                await self._ask(strategy.on_trading_disabled, happening)
            case ExecutionReport():
                if self._blotter.hear(happening):
                    self._executions += happening.exec_type == "TRADE"
                    await self._ask(strategy.on_execution, happening)

    async def _ask(self, hook: Callable[..., Iterable[Intent]], *told: object) -> None:
        for intent in hook(*told, self._clock.now_us()):
            if (refusal := await self._send(intent)) is not None:
                for again in self._refused(intent, refusal):
                    await self._send(again)  # refused once more, it is given up

    async def _send(self, intent: Intent) -> HubError | None:
        self._submitted += isinstance(intent, OrderSubmit)
        try:
            await self._command(METHODS[type(intent)], msgspec.to_builtins(intent))
        except HubError as refusal:
            logger.info("strategy %s: %s", self.start.strategy_id, refusal)
            if not isinstance(intent, OrderCancelAll):
                self._blotter.refused(intent)
            return refusal
        return None

    def _refused(self, intent: Intent, refusal: HubError) -> Iterator[Intent]:
        now_us = self._clock.now_us()
        yield from self._strategy.on_refused(intent, refusal.code.wire_name, now_us)
        if refusal.code is ErrorCode.NOT_AVAILABLE:
            yield from self._strategy.on_disconnect(now_us)

    async def _clear_up(self) -> None:
        """Nothing of a strategy that does not run may stay in the market."""
        start = self.start
        everything = OrderCancelAll(account=start.account, strategy_id=start.strategy_id)
        if await self._send(everything) is not None:  # who started it may have lost their rights
            try:
                await self._withdraw(everything)
            except HubError as failure:
                logger.warning("strategy %s: its orders cannot be canceled: %s", start.strategy_id, failure)
        if self._mode == "STOPPING":
            self._mode = "STOPPED"
        self._ended_us = self._clock.now_us()
