"""The demo as it runs in a hub: market, trader and team, each at its own pace, until cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from hub.clock import Clock
from hub.demo.team import SimulatedTeam
from hub.trading.market.simulator import DEFAULT_INSTRUMENTS, SimulatedMarket
from hub.trading.outgoing import Publish
from hub.trading.paper import SimulatedTrader
from protocol.errors import HubError
from protocol.trading import PriceTick

TRADER_PERIOD_S = 0.5
TEAM_PERIOD_S = 1.0
RETRY_S = 1.0

logger = logging.getLogger("krin.demo")

Message = tuple[str, str, Any, str | None, dict[str, Any] | None]


async def run_demo(publish: Publish, clock: Clock, *, seed: int = 1, rate: float = 10.0) -> NoReturn:
    """Publish a simulated world until cancelled. `rate` is how often a second each of the symbols moves.

    Market data that the hub refuses for the moment is dropped: the next tick is newer. Reports of orders and of the
    team are offered again until they are taken, so that no life cycle has a hole. Any other refusal ends the demo.
    """
    start_us, started = clock.now_us(), clock.monotonic()

    def now_us() -> int:
        """Time since the start by the clock that never jumps."""
        return start_us + round((clock.monotonic() - started) * 1_000_000)

    market = SimulatedMarket(seed, start_us=start_us, rate=rate)
    trader = SimulatedTrader(seed, start_us=start_us, instruments=DEFAULT_INSTRUMENTS)
    team = SimulatedTeam(seed, start_us=start_us)

    async def offer(message: Message) -> None:
        try:
            await publish(*message)
        except HubError as refused:
            if not refused.code.temporary:
                raise
            logger.debug("dropped a %s: %s", message[1], refused)

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

    async def run(period_s: float, step: Callable[[int], Iterable[Message]], send: Callable[[Message], Any]) -> None:
        turn = 0
        while True:
            for message in step(now_us()):
                await send(message)
            # To the next moment of a fixed grid: how long publishing took does not slow the demo down.
            turn = max(turn, int((clock.monotonic() - started) / period_s)) + 1
            await clock.sleep(max(0.0, started + turn * period_s - clock.monotonic()))

    def market_step(at_us: int) -> Iterable[Message]:
        for channel, kind, data, key in market.step(at_us):
            if isinstance(data, PriceTick):
                trader.observe(data)
            yield channel, kind, data, key, None

    def trader_step(at_us: int) -> Iterable[Message]:
        return [(*report, None) for report in trader.step(at_us)]

    async with asyncio.TaskGroup() as group:
        group.create_task(run(1 / rate, market_step, offer), name="demo market")
        group.create_task(run(TRADER_PERIOD_S, trader_step, insist), name="demo trader")
        group.create_task(run(TEAM_PERIOD_S, team.step, insist), name="demo team")
    raise AssertionError("the demo's tasks never return")
