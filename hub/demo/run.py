"""The demo as it runs in a hub: trader and team, each at its own pace, until cancelled. The market is a feed's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from hub.clock import Clock
from hub.demo.team import SimulatedTeam
from hub.trading.market.simulator import DEFAULT_INSTRUMENTS
from hub.trading.market.view import MarketMessage, MarketView
from hub.trading.outgoing import Publish
from hub.trading.paper import SimulatedTrader
from protocol.errors import HubError
from protocol.trading import PriceTick

TRADER_PERIOD_S = 0.5
TEAM_PERIOD_S = 1.0
RETRY_S = 1.0

logger = logging.getLogger("krin.demo")

Message = tuple[str, str, Any, str | None, dict[str, Any] | None]


async def run_demo(publish: Publish, clock: Clock, *, market: MarketView, seed: int = 1) -> NoReturn:
    """Publish what a trader and a team do until cancelled.

    Their reports are offered again until they are taken, so that no life cycle has a hole. A refusal for good ends the
    demo.
    """
    start_us, started = clock.now_us(), clock.monotonic()

    def now_us() -> int:
        """Time since the start by the clock that never jumps."""
        return start_us + round((clock.monotonic() - started) * 1_000_000)

    trader = SimulatedTrader(seed, start_us=start_us, instruments=DEFAULT_INSTRUMENTS)
    team = SimulatedTeam(seed, start_us=start_us)

    def observe(message: MarketMessage) -> None:
        if isinstance(message, PriceTick):
            trader.observe(message)

    market.listen(observe)

    async def insist(message: Message) -> None:
        while True:
            try:
                await publish(*message)
                return
            except HubError as refused:
                if not refused.code.temporary:
                    raise
                logger.info("a %s waits: %s", message[1], refused)
                await clock.sleep((refused.retry_after_ms or 0) / 1000 or RETRY_S)

    async def run(period_s: float, step: Callable[[int], Iterable[Message]]) -> None:
        turn = 0
        while True:
            for message in step(now_us()):
                await insist(message)
            # To the next moment of a fixed grid: how long publishing took does not slow the demo down.
            turn = max(turn, int((clock.monotonic() - started) / period_s)) + 1
            await clock.sleep(max(0.0, started + turn * period_s - clock.monotonic()))

    def trader_step(at_us: int) -> Iterable[Message]:
        return [(*report, None) for report in trader.step(at_us)]

    async with asyncio.TaskGroup() as group:
        group.create_task(run(TRADER_PERIOD_S, trader_step), name="demo trader")
        group.create_task(run(TEAM_PERIOD_S, team.step), name="demo team")
    raise AssertionError("the demo's tasks never return")
