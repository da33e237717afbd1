"""The demo's trading desk: strategies at work in an account of their own, by the engine and the checks of everybody."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import msgspec

from hub.clock import Clock
from protocol.errors import HubError
from protocol.strategies import StrategyStart, StrategyState

ACCOUNT = "desk"
LOOK_S = 5.0

logger = logging.getLogger("krin.demo")

CallMethod = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Runs a method of the hub for the desk. Raises HubError."""


def _market_making(symbol: str, qty: str, max_position: str) -> StrategyStart:
    parameters = {"qty": qty, "max_position": max_position, "half_spread_bps": "1.5", "requote_bps": "2"}
    return StrategyStart(
        account=ACCOUNT,
        strategy_id=f"maker-{symbol}",
        strategy="market_making",
        symbols=[symbol],
        parameters=parameters | {"pause_ms": 3000},
    )


STRATEGIES = (
    _market_making("BTC-USD", "0.05", "0.2"),
    _market_making("ETH-USD", "1", "4"),
    _market_making("SOL-USD", "20", "80"),
    StrategyStart(
        account=ACCOUNT,
        strategy_id="momentum",
        strategy="momentum",
        symbols=["AAPL"],
        parameters={"qty": "20", "fast": 5, "slow": 20},
    ),
)


async def keep_trading(call: CallMethod, clock: Clock) -> NoReturn:
    """Start the strategies, and again when they have ended with their engine. One that somebody stopped stays stopped.

    Raises HubError for a refusal for good.
    """
    while True:
        try:
            await _start(call)
        except HubError as refused:
            if not refused.code.temporary:
                raise
            logger.info("the desk waits: %s", refused)
        await clock.sleep(LOOK_S)


async def _start(call: CallMethod) -> None:
    known = msgspec.convert(await call("strategies.list", {"account": ACCOUNT}), list[StrategyState])
    last: Mapping[str, StrategyState] = {run.strategy_id: run for run in reversed(known)}
    for wanted in STRATEGIES:
        run = last.get(wanted.strategy_id)
        if run is not None and (run.ended_at is None or run.stopped_by is not None):
            continue
        await call("strategies.start", msgspec.to_builtins(wanted))
