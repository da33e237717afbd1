"""The demo's desk: strategies through the door, the engine and the paper venue of a whole hub."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from processes import running

from hub.client import Client
from protocol.strategies import StrategyState
from protocol.trading import ExecutionReport, Position


async def test_a_strategy_trades_is_seen_in_the_positions_and_leaves_nothing_when_it_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path / "data", command="demo") as hub:
        async with asyncio.timeout(120), Client(hub.url, token=hub.token("desk", "trader")) as krin:
            traded: dict[str, ExecutionReport] = {}
            async for message in krin.subscribe("fills:desk", rewind=100):
                report = message.typed()
                traded[report.strategy_id] = report
                if any(name.startswith("maker-") for name in traded):
                    break
            maker, report = next((name, each) for name, each in traded.items() if name.startswith("maker-"))
            assert report.paper
            async for message in krin.subscribe("positions:desk"):
                position = message.typed()
                if isinstance(position, Position) and position.symbol == report.symbol:
                    break

            answer = await krin.call("strategies.stop", account="desk", strategy_id=maker)
            stopped = msgspec.convert(answer, StrategyState)
            assert (stopped.state, stopped.stopped_by) == ("STOPPED", "desk")
            assert stopped.executions > 0
            while any(each.strategy_id == maker for each in (await krin.orders.list(open=True)).orders):
                await asyncio.sleep(0.05)
            runs = msgspec.convert(await krin.call("strategies.list", account="desk"), list[StrategyState])
            assert {run.state for run in runs if run.strategy_id != maker} == {"RUNNING"}
