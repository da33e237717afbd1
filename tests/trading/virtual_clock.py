"""Time that a test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class VirtualClock:
    """A Clock whose sleepers wake in the order of their time, when `advance` reaches it."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        self._start_us = start_us
        self._now_s = 0.0
        self._numbers = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._parked = asyncio.Condition()

    def now_us(self) -> int:
        return self._start_us + round(self._now_s * 1_000_000)

    def now_ms(self) -> int:
        return self.now_us() // 1000

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + seconds, next(self._numbers), woken))
        async with self._parked:
            self._parked.notify_all()
        await woken

    async def advance(self, seconds: float, *, sleepers: int) -> None:
        """Let that much time pass. Before each step, waits until that many tasks sleep: only then is all work done."""
        until = self._now_s + seconds
        while True:
            async with self._parked:
                await self._parked.wait_for(lambda: len(self._sleepers) >= sleepers)
            if self._sleepers[0][0] > until:
                break
            at, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, at)
            if not woken.done():
                woken.set_result(None)
        self._now_s = until


class JumpingClock(VirtualClock):
    """For a single task: a sleep takes no time, but time passes. `slept_s` keeps the waits."""

    def __init__(self, start_us: int = 1_700_000_000_000_000) -> None:
        super().__init__(start_us)
        self.slept_s: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self._now_s += seconds
        await asyncio.sleep(0)
