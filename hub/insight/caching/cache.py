"""Cache-aside: a value is read from the store, or computed by one and read by the others.

Rights are no business of a cache: whoever asks has checked them before, and puts into the key whatever the value
depends on.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from hub.clock import Clock
from hub.insight.caching.lifetime import Lifetime
from hub.insight.caching.store import Store

logger = logging.getLogger("krin.cache")

WAIT_S = 2.0  # for another who computes
POLL_S = 0.05  # between two looks whether another node has
CLAIM_S = 10.0  # then whoever claimed is taken for dead
STALE_S = 600.0  # that a value is kept beyond its lifetime, for whoever would have to wait
MAX_VALUE_BYTES = 64 * 1024  # larger ones are computed each time
HEADER = struct.Struct(">qq")

How = Literal["hit", "stale", "miss"]
Compute = Callable[[], Awaitable[bytes]]


class Cached(NamedTuple):
    value: bytes
    how: How


class Entry(NamedTuple):
    value: bytes
    made_ms: int
    fresh_until_ms: int


class Cache:
    """Values of one kind, with one lifetime, learned from how often they turn out to have changed."""

    def __init__(self, kind: str, store: Store, *, clock: Clock, lifetime: Lifetime | None = None) -> None:
        self._kind = kind
        self._store = store
        self._clock = clock
        self._lifetime = lifetime or Lifetime()
        self._computing: dict[str, asyncio.Future[bytes]] = {}
        self.answers: Counter[str] = Counter({"hit": 0, "stale": 0, "miss": 0})
        self.unavailable = 0  # times that the store could not be reached

    @property
    def ttl_s(self) -> float:
        return self._lifetime.ttl_s

    async def get_or_compute(self, key: str, compute: Compute) -> Cached:
        """`key`: up to a few hundred characters, without secrets. Raises what `compute` does, if nothing is kept."""
        found = await self._get_or_compute(f"{self._kind}:{key}", compute)
        self.answers[found.how] += 1
        return found

    async def _get_or_compute(self, key: str, compute: Compute) -> Cached:
        kept = await self._read(key)
        if kept is not None and self._fresh(kept):
            return Cached(kept.value, "hit")
        if (other := self._computing.get(key)) is None:
            return await self._lead(key, compute, kept)
        if kept is not None:
            return Cached(kept.value, "stale")
        await asyncio.wait([other], timeout=WAIT_S)
        if other.done() and not other.cancelled():
            return Cached(other.result(), "hit")
        return Cached(await compute(), "miss")  # it takes too long, or was broken off

    async def _lead(self, key: str, compute: Compute, kept: Entry | None) -> Cached:
        """What others of this process who want the same wait for."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._computing[key] = future
        try:
            found = await self._among_nodes(key, compute, kept)
            future.set_result(found.value)
        except Exception as failure:
            future.set_exception(failure)
            future.exception()  # nobody need wait for it
            raise
        finally:
            del self._computing[key]
            future.cancel()  # no effect on one that has a result
        return found

    async def _among_nodes(self, key: str, compute: Compute, kept: Entry | None) -> Cached:
        if not await self._claim(key):
            if kept is not None:
                return Cached(kept.value, "stale")
            if (made := await self._of_another(key)) is not None:
                return Cached(made.value, "hit")
            return Cached(await compute(), "miss")
        try:
            # Between our look and our claim another may have been there.
            if (made := await self._read(key)) is not None and self._fresh(made):
                return Cached(made.value, "hit")
            try:
                value = await compute()
            except Exception as failure:
                if kept is None:
                    raise
                logger.warning("a value of %s could not be computed, an old one serves: %r", self._kind, failure)
                return Cached(kept.value, "stale")
            await self._write(key, value, kept)
            return Cached(value, "miss")
        finally:
            await self._release(key)

    async def _of_another(self, key: str) -> Entry | None:
        until = self._clock.monotonic() + WAIT_S
        while self._clock.monotonic() < until:
            await self._clock.sleep(POLL_S)
            if (made := await self._read(key)) is not None:
                return made
        return None

    def _fresh(self, entry: Entry) -> bool:
        # A value from the future was made by a node whose clock is wrong, or before ours was set back.
        return entry.made_ms <= self._clock.now_ms() + 1000 and self._clock.now_ms() < entry.fresh_until_ms

    async def _read(self, key: str) -> Entry | None:
        try:
            raw = await self._store.get(key)
        except OSError:
            self.unavailable += 1
            return None
        if raw is None or len(raw) < HEADER.size:
            return None
        return Entry(raw[HEADER.size :], *HEADER.unpack_from(raw))

    async def _write(self, key: str, value: bytes, kept: Entry | None) -> None:
        now_ms = self._clock.now_ms()
        if kept is not None:
            self._lifetime.observe(changed=value != kept.value, after_s=(now_ms - kept.made_ms) / 1000)
        if len(value) > MAX_VALUE_BYTES:
            return
        ttl_s = self._lifetime.ttl_s
        header = HEADER.pack(now_ms, now_ms + round(ttl_s * 1000))
        try:
            await self._store.put(key, header + value, ttl_s=ttl_s + STALE_S)
        except OSError:
            self.unavailable += 1

    async def _claim(self, key: str) -> bool:
        try:
            return await self._store.claim(key, ttl_s=CLAIM_S)
        except OSError:
            self.unavailable += 1
            return True

    async def _release(self, key: str) -> None:
        try:
            await self._store.release(key, ttl_s=CLAIM_S)
        except OSError:
            self.unavailable += 1
