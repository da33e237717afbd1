"""Where cached values are kept: in this process, or in the Redis that all nodes share."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hub.clock import Clock
from hub.redis_url import is_cluster, servers

MAX_BYTES = 32 * 1024 * 1024
OVERHEAD_BYTES = 200  # of an entry: its key and its place in the table
TIMEOUT_S = 0.25  # with Redis: a cache that takes longer is none
MAX_CONNECTIONS = 8
PREFIX = "krin:cache:"
FIELD = "value"


class Store(Protocol):
    """Every method raises OSError when the store cannot be reached."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None: ...

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        """Whether no other node is computing this now. A claim ends by `release`, at the latest after `ttl_s`."""
        ...

    async def release(self, key: str, *, ttl_s: float) -> None: ...


class MemoryStore:
    """The least recently used go first."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, clock: Clock) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()  # and until when
        self.size_bytes = 0

    async def get(self, key: str) -> bytes | None:
        if (entry := self._entries.get(key)) is None:
            return None
        value, until = entry
        if self._clock.monotonic() >= until:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return value

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        if key in self._entries:
            self._drop(key)
        self._entries[key] = value, self._clock.monotonic() + ttl_s
        self.size_bytes += len(value) + OVERHEAD_BYTES
        while self.size_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        return True  # there are no other nodes

    async def release(self, key: str, *, ttl_s: float) -> None:
        pass

    def _drop(self, key: str) -> None:
        value, _ = self._entries.pop(key)
        self.size_bytes -= len(value) + OVERHEAD_BYTES


class RedisStore:
    """Bounded by the lifetimes of what is put there, and by Redis' own `maxmemory`.

    Hashes of one field: the hub's user may do with them what this needs, and neither GET nor SET.
    """

    def __init__(self, url: str, *, clock: Clock) -> None:
        self._clock = clock
        client = RedisCluster if is_cluster(url) else Redis
        self._redis: Redis | RedisCluster = client.from_url(
            servers(url)[0],  # of a cluster: the others are found
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            max_connections=MAX_CONNECTIONS,
        )
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self._answer(lambda: self._redis.hget(PREFIX + key, FIELD))
        return value

    async def put(self, key: str, value: bytes, *, ttl_s: float) -> None:
        async def ask() -> None:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(PREFIX + key, FIELD, value)
                pipeline.expire(PREFIX + key, math.ceil(ttl_s))
                await pipeline.execute()

        await self._answer(ask)

    async def claim(self, key: str, *, ttl_s: float) -> bool:
        name = self._claim(key, ttl_s)

        async def ask() -> bool:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hincrbyfloat(name, FIELD, 1.0)
                pipeline.expire(name, math.ceil(ttl_s))
                claims, _ = await pipeline.execute()
            return float(claims) == 1.0

        return bool(await self._answer(ask))

    async def release(self, key: str, *, ttl_s: float) -> None:
        # By now it may be another's claim: at worst a value is computed twice.
        await self._answer(lambda: self._redis.delete(self._claim(key, ttl_s)))

    def _claim(self, key: str, ttl_s: float) -> str:
        """One key per window of time: those who claim in vain must not prolong what a dead node has claimed."""
        return f"{PREFIX}{key}:claim:{self._clock.now_ms() // round(ttl_s * 1000)}"

    async def _answer(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        async with self._turns:  # the client raises when it has no connection left, and would not wait for one
            try:
                return await ask()
            except RedisError as failure:
                raise ConnectionError("Redis cannot be asked") from failure
