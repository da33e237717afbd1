"""What the nodes of a hub let through, added up in Redis: a user with four nodes has one limit and not four.

Best effort and never in anybody's way: about once a second a node adds what it let through since it last did, learns
the sum of all, and takes the others' part out of its own buckets. Without Redis every node counts alone.
"""

from __future__ import annotations

from typing import Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hub.clock import Clock
from hub.guard.limits import Kind, Limits
from hub.redis_url import is_cluster, servers

INTERVAL_S = 1.0
WINDOW_S = 10
TIMEOUT_S = 0.5
MAX_SHARED = 1_000  # buckets per kind and round, the most recently used


class Counters(Protocol):
    """Sums that all nodes share."""

    async def add(self, window: int, amounts: dict[str, float]) -> dict[str, float]:
        """Add to this window's sums; returns the sums of those fields. Raises OSError when they cannot be reached."""
        ...


class Sharing:
    """Keeps the buckets of this node true to what all nodes let through."""

    def __init__(self, limits: Limits, counters: Counters, *, clock: Clock) -> None:
        self._limits = limits
        self._counters = counters
        self._clock = clock
        self._window = 0
        self._mine: dict[tuple[Kind, str], float] = {}  # let through here in this window
        self._others: dict[tuple[Kind, str], float] = {}  # by the others: already taken out of our buckets

    async def run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL_S)
            await self.exchange()

    async def exchange(self) -> None:
        """One round."""
        window = self._clock.now_ms() // (WINDOW_S * 1000)
        if window != self._window:
            self._window = window
            self._mine.clear()
            self._others.clear()
        used = dict.fromkeys(self._mine, 0.0)  # also what stands still here: others may go on using it
        for kind, buckets in self._limits.buckets.items():
            for key, bucket in buckets.recent(MAX_SHARED):
                if bucket.spent:
                    used[kind, key] = bucket.spent
                    bucket.spent = 0.0
        if not used and not self._limits.blind:
            return
        try:
            sums = await self._counters.add(window, {f"{kind}\0{key}": used[kind, key] for kind, key in used})
        except OSError:
            self._limits.blind = True
            return
        self._limits.blind = False
        for (kind, key), amount in used.items():
            place = (kind, key)
            self._mine[place] = self._mine.get(place, 0.0) + amount
            others = sums[f"{kind}\0{key}"] - self._mine[place]
            news, self._others[place] = others - self._others.get(place, 0.0), others
            if news > 0 and (found := self._limits.buckets[kind].find(key)) is not None:
                found.debit(news)


class RedisCounters:
    """One hash per window, gone soon after it."""

    def __init__(self, url: str) -> None:
        client = RedisCluster if is_cluster(url) else Redis
        self._redis: Redis | RedisCluster = client.from_url(
            servers(url)[0],  # of a cluster: the others are found
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=1,
        )

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def add(self, window: int, amounts: dict[str, float]) -> dict[str, float]:
        name = f"krin:limits:{window}"
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for field, amount in amounts.items():
                    pipeline.hincrbyfloat(name, field, amount)
                pipeline.expire(name, 2 * WINDOW_S)
                results = await pipeline.execute()
        except (RedisError, OSError) as failure:
            raise ConnectionError("Redis cannot be asked") from failure
        return dict(zip(amounts, map(float, results), strict=False))
