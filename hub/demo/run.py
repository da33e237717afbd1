"""The demo as it runs in a hub: a trading desk and a team, until cancelled. The market is a feed's."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import NoReturn

from hub.clock import Clock
from hub.demo.desk import ACCOUNT, keep_trading
from hub.demo.team import CallAs, SimulatedTeam
from hub.trading.outgoing import Publish
from protocol.coordination import Alert
from protocol.errors import HubError

TEAM_PERIOD_S = 2.0
ALERTS = "alerts:ops"

logger = logging.getLogger("krin.demo")


async def run_demo(publish: Publish, call: CallAs, clock: Clock, *, seed: int = 1) -> NoReturn:
    """Let a desk trade and a team work, until cancelled.

    What is refused for the moment is tried again. A refusal for good ends the demo.
    """

    async def tell(alert: Alert) -> None:
        await publish(ALERTS, "ALERT", alert, None)

    team = SimulatedTeam(call, tell, clock, seed=seed)

    async def work() -> None:
        while True:
            try:
                await team.step()
            except HubError as refused:
                if not refused.code.temporary:
                    raise
                logger.info("the team waits: %s", refused)
            await clock.sleep(TEAM_PERIOD_S)

    async with asyncio.TaskGroup() as group:
        group.create_task(keep_trading(functools.partial(call, ACCOUNT), clock), name="demo desk")
        group.create_task(work(), name="demo team")
    raise AssertionError("the demo's tasks never return")
