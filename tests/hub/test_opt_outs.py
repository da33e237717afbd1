"""Sec-GPC: what a browser says counts again after somebody has agreed to the opposite."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

from clock import ManualClock

from hub.privacy.opt_outs import AGAIN_S, OptOuts
from storage.consents import Consents
from storage.database import Database


async def test_c93_a_refusal_counts_again_after_a_grant(database: Database) -> None:
    clock, consents, name = ManualClock(), Consents(database), f"ann-{secrets.token_hex(4)}"
    opt_outs = OptOuts(consents, clock=clock)
    task = asyncio.create_task(opt_outs.run())

    async def until(granted: bool) -> None:
        async with asyncio.timeout(10):
            while [each.granted for each in await consents.of(name)] != [granted]:
                await asyncio.sleep(0.001)

    opt_outs.hear(name)
    await until(False)
    await consents.put(name, "sale_or_sharing", True, source="rest", now=datetime.now(UTC), by=name)
    await until(True)
    clock.advance(AGAIN_S)
    opt_outs.hear(name)
    await until(False)
    task.cancel()
