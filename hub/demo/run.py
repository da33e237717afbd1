"""The demo as it runs in a hub: a trading desk and a team, until cancelled. The market is a feed's."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

from hub.clock import Clock
from hub.demo.desk import CallMethod, keep_trading
from hub.demo.team import SimulatedTeam
from hub.trading.outgoing import Publish
from protocol.errors import HubError

TEAM_PERIOD_S = 1.0
RETRY_S = 1.0

logger = logging.getLogger("krin.demo")

Message = tuple[str, str, Any, str | None, dict[str, Any] | None]


async def run_demo(publish: Publish, call: CallMethod, clock: Clock, *, seed: int = 1) -> NoReturn:
    """Let a desk trade and publish what a team does, until cancelled.

    What the team has to say is offered again until it is taken, so that no life cycle has a hole. A refusal for good
    ends the demo.
    """
    start_us, started = clock.now_us(), clock.monotonic()
    team = SimulatedTeam(seed, start_us=start_us)

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

    async def work() -> None:
        turn = 0
        while True:
            # By the clock that never jumps.
            for message in team.step(start_us + round((clock.monotonic() - started) * 1_000_000)):
                await insist(message)
            # To the next moment of a fixed grid: how long publishing took does not slow the demo down.
            turn = max(turn, int((clock.monotonic() - started) / TEAM_PERIOD_S)) + 1
            await clock.sleep(max(0.0, started + turn * TEAM_PERIOD_S - clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_trading(call, clock), name="demo desk")
        group.create_task(work(), name="demo team")
    raise AssertionError("the demo's tasks never return")
