"""The Redis broker under the contract: a real server, real time, and a way to let its keys grow old."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from redis.asyncio import Redis
from redis_server import redis_server

from hub.brokers.redis import RedisBroker
from hub.clock import SystemClock
from hub.guard.events import Report
from hub.publication import Publication

SECRET = bytes(range(32))


class ShiftedClock(SystemClock):
    """A wall clock that stands still but for what is let pass; durations are real."""

    def __init__(self) -> None:
        self._now_ms = super().now_ms()

    def now_ms(self) -> int:
        return self._now_ms

    def jump(self, seconds: float) -> None:
        self._now_ms += int(seconds * 1000)


PassTime = Callable[[float], Awaitable[None]]


def hub_user() -> list[list[str]]:
    """The user that hub/README.md tells operators to make: first for one server, then what a cluster needs beyond."""
    text = (Path(__file__).parents[2] / "hub" / "README.md").read_text()
    return [line.split() for line in text.splitlines() if line.startswith("ACL SETUSER")]


@contextlib.asynccontextmanager
async def running_redis_broker(
    deliver: Callable[[Publication], None],
) -> AsyncIterator[tuple[RedisBroker, ShiftedClock, PassTime]]:
    """A connected broker on a server of its own, where it may no more than the documented user may (C71).

    The third part lets time pass for it and for what Redis keeps.
    """
    async with redis_server() as url:
        async with Redis.from_url(url) as client:
            await client.execute_command(*hub_user()[0])
        as_user = url.replace("unix://", "unix://krin:PASSWORD@")
        async with running_broker(as_user, deliver, servers=[url]) as made:
            yield made


@contextlib.asynccontextmanager
async def running_broker(
    url: str,
    deliver: Callable[[Publication], None],
    *,
    servers: Sequence[str] = (),
    secret: bytes = SECRET,
    report: Report = lambda event: None,
) -> AsyncIterator[tuple[RedisBroker, ShiftedClock, PassTime]]:
    """As `running_redis_broker`, on servers of the test's; time passes in those that are named."""
    clock = ShiftedClock()
    broker = RedisBroker(url, deliver, secret=secret, report=report, clock=clock)
    running = asyncio.create_task(broker.run())

    async def pass_time(seconds: float) -> None:
        clock.jump(seconds)
        for server in servers:
            async with Redis.from_url(server) as client:
                await let_keys_grow_old(client, seconds)

    try:
        async with asyncio.timeout(5):
            await broker.connected()
        yield broker, clock, pass_time
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def let_keys_grow_old(client: Redis, seconds: float) -> None:
    async for key in client.scan_iter(count=1000):
        left_ms = await client.pttl(key)
        if 0 < left_ms <= seconds * 1000:
            await client.delete(key)
        elif left_ms > 0:
            await client.pexpire(key, left_ms - int(seconds * 1000))
