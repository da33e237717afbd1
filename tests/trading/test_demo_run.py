from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from hub.demo.run import run_demo
from hub.trading.market.desk import MarketDesk
from hub.trading.market.service import MarketFeed
from hub.trading.market.simulator import SIMULATED, SimulatedMarket, simulated_sources
from hub.trading.market.view import MarketMessage, MarketView
from protocol.errors import ErrorCode, HubError

from .virtual_clock import VirtualClock
from .wire import check_message

TASKS = 7  # four sources, the market's pulse, trader, team
Message = tuple[str, str, Any, str | None, dict[str, Any] | None]


class Hub:
    """Takes what is published, unless `refuse` says otherwise, and lets the market be seen."""

    def __init__(self, clock: VirtualClock) -> None:
        self.view = MarketView(clock=clock)
        self.taken: list[Message] = []
        self.refuse: Callable[[str], HubError | None] = lambda channel: None

    async def publish(
        self, channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        if (refusal := self.refuse(channel)) is not None:
            raise refusal
        self.taken.append((channel, type, data, key, coordination))
        if isinstance(data, MarketMessage):
            self.view.hear(data)


async def run_all(hub: Hub, clock: VirtualClock, *, seed: int = 1, rate: float = 10.0) -> None:
    """The demo beside a feed of simulated sources, as `krin demo` has it."""
    market = SimulatedMarket(seed, start_us=clock.now_us(), rate=rate)
    feed = MarketFeed(
        simulated_sources(market, clock=clock), MarketDesk(marks=SIMULATED), hub.publish, clock=clock, seed=seed
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(feed.run())
        group.create_task(run_demo(hub.publish, clock, market=hub.view, seed=seed))


@asynccontextmanager
async def running(hub: Hub, clock: VirtualClock, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(run_all(hub, clock, **options))
    try:
        async with asyncio.timeout(20):
            yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_the_demo_publishes_market_orders_and_team_until_cancelled() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    async with running(hub, clock, seed=3) as task:
        await clock.advance(60, sleepers=TASKS)
        assert not task.done()
    for channel, kind, data, _, coordination in hub.taken:
        check_message(channel, kind, data, coordination)
    namespaces = Counter(channel.partition(":")[0] for channel, *_ in hub.taken)
    assert namespaces.keys() >= {
        *("prices", "trades", "book", "bars", "ticker", "instruments", "sources"),
        *("orders", "fills", "team", "tasks"),
    }
    assert 5 * 8 * 60 < namespaces["prices"] < 5 * 15 * 60


async def test_two_runs_with_one_seed_are_the_same() -> None:
    taken: list[list[Message]] = []
    for _ in range(2):
        clock = VirtualClock()
        hub = Hub(clock)
        async with running(hub, clock, seed=3, rate=5.0):
            await clock.advance(20, sleepers=TASKS)
        taken.append(hub.taken)
    assert taken[0] == taken[1]
    assert taken[0]


async def test_what_is_refused_for_the_moment_is_dropped_if_a_tick_and_kept_if_an_order() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    async with running(hub, clock, seed=3):
        await clock.advance(10, sleepers=TASKS)
        hub.refuse = lambda channel: HubError(ErrorCode.NOT_AVAILABLE, "not now")
        before = len(hub.taken)
        await clock.advance(10, sleepers=TASKS)
        assert len(hub.taken) == before
        hub.refuse = lambda channel: None
        await clock.advance(20, sleepers=TASKS)
    ticks = [data.seq for _, kind, data, *_ in hub.taken if kind == "PRICE_TICK" and data.symbol == "BTC-USD"]
    assert ticks != list(range(1, len(ticks) + 1)), "ticks were dropped"
    numbers = [int(data.exec_id.rpartition("-")[2]) for channel, _, data, *_ in hub.taken if channel == "orders:demo"]
    assert numbers == list(range(1, len(numbers) + 1)), "no report was"


async def test_a_refusal_for_good_ends_the_demo() -> None:
    clock = VirtualClock()
    hub = Hub(clock)
    hub.refuse = lambda channel: HubError(ErrorCode.PERMISSION_DENIED, "no")
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(20):
            await run_demo(hub.publish, clock, market=hub.view)
    assert all(isinstance(each, HubError) for each in caught.value.exceptions)
