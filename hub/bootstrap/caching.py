"""What is kept so that it need not be made again: on Redis for all nodes, or in the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client.core import Metric

from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.insight.caching.cache import Cache
from hub.insight.caching.lifetime import Lifetime
from hub.insight.caching.prefetching import Markov
from hub.insight.caching.store import MemoryStore, RedisStore, Store
from hub.observe.metrics import counter, counters, gauge


class Caching(Room, frozen=True, kw_only=True):
    queries: Cache
    markov: Markov


@asynccontextmanager
async def open_caching(ground: Ground) -> AsyncIterator[Caching]:
    settings, clock = ground.settings, ground.clock
    async with AsyncExitStack() as stack:
        store: Store
        if settings.redis_url:
            redis = RedisStore(settings.redis_url, clock=clock)
            stack.push_async_callback(redis.aclose)
            store = redis
        else:
            store = MemoryStore(max_bytes=settings.cache.memory_bytes, clock=clock)
        queries = Cache("query", store, lifetime=Lifetime(longest_s=settings.cache.longest_s), clock=clock)
        markov = Markov()
        yield Caching(queries=queries, markov=markov, metrics=lambda: _measure(queries, markov))


def _measure(queries: Cache, markov: Markov) -> Iterable[Metric]:
    yield counters("krin_cache_answers", "Vectors of queries: kept, kept too long, made.", "answer", queries.answers)
    yield counter("krin_cache_unavailable", "Times that Redis could not be asked for one.", queries.unavailable)
    yield gauge("krin_cache_lifetime_s", "How long one is kept, as learned from how often it changes.", queries.ttl_s)
    yield counter("krin_prefetch_guesses", "Guesses of what somebody searches for next.", markov.guesses)
    yield counter("krin_prefetch_hits", "Guesses that came true within a minute.", markov.hits)
    yield counter("krin_prefetch_wasted", "Guesses that did not.", markov.wasted)
