"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class ManualClock:
    """Implements hub.clock.Clock. Wall time and monotonic time move together unless `jump` moves the wall alone."""

    def __init__(self, *, now_ms: int = 1_732_330_000_000) -> None:
        self._wall_us = now_ms * 1000
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._slept = asyncio.Event()

    def now_ms(self) -> int:
        return self._wall_us // 1000

    def now_us(self) -> int:
        return self._wall_us

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, future))
        self._slept.set()
        await future

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake whoever slept until then or earlier."""
        self._monotonic += seconds
        self._wall_us += round(seconds * 1_000_000)
        due = [future for at, future in self._sleepers if at <= self._monotonic]
        self._sleepers = [(at, future) for at, future in self._sleepers if at > self._monotonic]
        for future in due:
            if not future.done():
                future.set_result(None)

    def jump(self, seconds: float) -> None:
        """Set the wall clock only, as an operator or NTP would."""
        self._wall_us += round(seconds * 1_000_000)

    async def until_somebody_sleeps(self, count: int = 1) -> None:
        """Wait until at least `count` tasks sleep on this clock."""
        async with asyncio.timeout(5):
            while sum(not future.done() for _, future in self._sleepers) < count:
                self._slept.clear()
                await self._slept.wait()
