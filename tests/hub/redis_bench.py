"""The Redis broker under the contract: a real server, real time, and a way to let its keys grow old."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from redis.asyncio import Redis
from redis_server import redis_server

from hub.brokers.redis import RedisBroker
from hub.clock import SystemClock
from hub.publication import Publication


class ShiftedClock(SystemClock):
    """A wall clock that stands still but for what is let pass; durations are real."""

    def __init__(self) -> None:
        self._now_ms = super().now_ms()

    def now_ms(self) -> int:
        return self._now_ms

    def jump(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000)


@contextlib.asynccontextmanager
async def running_redis_broker(
    deliver: Callable[[Publication], None],
) -> AsyncIterator[tuple[RedisBroker, ShiftedClock, Callable[[float], object]]]:
    """A connected broker on a server of its own; the third part lets time pass for it and for what Redis keeps."""
    clock = ShiftedClock()
    async with redis_server() as url, Redis.from_url(url) as client:
        broker = RedisBroker(url, deliver, clock=clock)
        running = asyncio.create_task(broker.run())

        async def pass_time(seconds: float) -> None:
            clock.jump(seconds)
            async for key in client.scan_iter(count=1000):
                left_ms = await client.pttl(key)
                if 0 < left_ms <= seconds * 1000:
                    await client.delete(key)
                elif left_ms > 0:
                    await client.pexpire(key, left_ms - int(seconds * 1000))

        try:
            async with asyncio.timeout(5):
                await broker.connected()
            yield broker, clock, pass_time
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
