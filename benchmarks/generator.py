"""The load generator's process: a plan comes in on standard input, progress and figures go out as JSON lines."""

from __future__ import annotations

import asyncio
import sys
import traceback
from typing import Any

import msgspec

from benchmarks.gallery import fine_loop
from benchmarks.loads import acks, fanout, http, market, orders, restart, storm
from benchmarks.loads.report import say
from benchmarks.machine import raise_file_limit
from benchmarks.plans import AckPlan, FanoutPlan, HttpPlan, MarketPlan, OrdersPlan, Plan, RestartPlan


async def carry_out(plan: Plan) -> dict[str, Any]:
    if isinstance(plan, FanoutPlan):
        return await fanout.run(plan)
    if isinstance(plan, AckPlan):
        return await acks.run(plan)
    if isinstance(plan, OrdersPlan):
        return await orders.run(plan)
    if isinstance(plan, HttpPlan):
        return await http.run(plan)
    if isinstance(plan, RestartPlan):
        return await restart.run(plan)
    if isinstance(plan, MarketPlan):
        return await market.run(plan)
    return await storm.run(plan)


def main() -> int:
    raise_file_limit()
    plan = msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)
    try:
        with asyncio.Runner(loop_factory=fine_loop) as runner:
            figures = runner.run(carry_out(plan))
    except Exception as failure:
        traceback.print_exc()
        say("failed", text=f"{type(failure).__name__}: {failure}")
        return 1
    say("figures", figures=figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
