from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest

from hub.demo.desk import ACCOUNT
from hub.demo.desk import STRATEGIES as DESK
from hub.demo.run import run_demo
from hub.trading.strategies.catalog import STRATEGIES, make_strategy
from protocol.errors import ErrorCode, HubError
from protocol.strategies import StrategyStart, StrategyState

from .demo_room import DemoRoom
from .test_strategies import setting
from .virtual_clock import VirtualClock
from .wire import check_message

TASKS = 2  # desk, team


class Hub:
    """Takes what is published and what is called, unless `refuse` says otherwise."""

    def __init__(self, clock: VirtualClock) -> None:
        self.team = DemoRoom(clock=clock)
        self.runs: list[StrategyState] = []
        self.started: list[str] = []
        self.refuse: Callable[[str], HubError | None] = lambda what: None

    async def publish(
        self, channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        check_message(channel, type, data, coordination)

    async def call(self, user: str, method: str, params: dict[str, Any]) -> Any:
        if (refusal := self.refuse(method)) is not None:
            raise refusal
        if not method.startswith("strategies."):
            return await self.team.call(user, method, params)
        assert user == ACCOUNT
        if method == "strategies.list":
            return self.runs
        assert method == "strategies.start"
        wanted = msgspec.convert(params, StrategyStart)
        make_strategy(STRATEGIES[wanted.strategy], wanted.parameters, setting())
        state = msgspec.convert({**params, "state": "RUNNING"}, StrategyState)
        self.runs.insert(0, state)
        self.started.append(wanted.strategy_id)
        return state

    def end(self, strategy_id: str, **how: Any) -> None:
        """The newest run of that name is over."""
        place, run = next((place, run) for place, run in enumerate(self.runs) if run.strategy_id == strategy_id)
        self.runs[place] = msgspec.structs.replace(run, state="STOPPED", ended_at=1, **how)


@asynccontextmanager
async def running(hub: Hub, clock: VirtualClock, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_demo(hub.publish, hub.call, clock, **options))
    try:
        async with asyncio.timeout(20):
            yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_demo_lets_a_team_work_and_a_desk_trade_until_cancelled() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    async with running(hub, clock, seed=3) as task:
        await clock.advance(60, sleepers=TASKS)
        assert not task.done()
    assert {channel.partition(":")[0] for channel, *_ in hub.team.kept.messages} >= {"team", "tasks", "approvals"}
    assert hub.started == [each.strategy_id for each in DESK]
    assert {run.account for run in hub.runs} == {ACCOUNT}


async def test_what_is_refused_for_the_moment_is_done_later() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    hub.refuse = lambda what: HubError(ErrorCode.NOT_AVAILABLE, "not now")
    async with running(hub, clock, seed=3):
        await clock.advance(10, sleepers=TASKS)
        assert (hub.team.kept.messages, hub.started) == ([], [])
        hub.refuse = lambda what: None
        await clock.advance(20, sleepers=TASKS)
    assert hub.team.kept.messages
    assert len(hub.started) == len(DESK)


async def test_strategies_come_back_after_their_engine_and_not_after_somebody_stopped_them() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    async with running(hub, clock):
        await clock.advance(1, sleepers=TASKS)
        first, second, *_ = hub.started
        hub.end(first, reason="its engine ended")
        hub.end(second, stopped_by="ada")
        await clock.advance(20, sleepers=TASKS)
    assert hub.started[len(DESK) :] == [first]


@pytest.mark.parametrize("what", ["agents.", "strategies.start"])
async def test_a_refusal_for_good_ends_the_demo(what: str) -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    hub.refuse = lambda asked: HubError(ErrorCode.PERMISSION_DENIED, "no") if asked.startswith(what) else None
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(20):
            await run_demo(hub.publish, hub.call, clock)
    assert all(isinstance(each, HubError) for each in caught.value.exceptions)
