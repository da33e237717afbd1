"""What queries mean: vectors that are kept, and made before they are asked for."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import NoReturn

import numpy as np

from hub.caller import Caller
from hub.clock import Clock
from hub.insight.caching.cache import Cache
from hub.insight.caching.near import NearQuestions
from hub.insight.caching.prefetching import Markov
from hub.insight.embedding.base import Embedder, EmbedderUnavailable
from hub.observe.requests import serving
from storage.vectors import DIMENSIONS

logger = logging.getLogger("krin.search")

MAX_GUESSES = 32  # that wait: more are not worth their work


class QueryVectors:
    """Kept by user: how quickly a vector is there tells whether somebody asked for it, which is nobody else's business.

    For an embedder that takes longer than a cache does.
    """

    def __init__(
        self, embedder: Embedder, cache: Cache, *, markov: Markov, near: NearQuestions | None = None, clock: Clock
    ) -> None:
        """near: takes a query for an earlier one that says about the same; None: no two are the same."""
        self._embedder = embedder
        self._cache = cache
        self._markov = markov
        self._near = near
        self._clock = clock
        self._guesses: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_GUESSES)

    async def of(self, query: str, caller: Caller) -> list[float]:
        """Raises EmbedderUnavailable. Whether the caller agrees to have the model asked was checked before."""
        asker = f"{caller.tenant}\0{caller.user}\0"
        now = self._clock.monotonic()
        if self._near is not None:
            query = self._near.taken_for(asker, query, now)
        guess = self._markov.asked(asker, asker + query, now)
        if guess is not None and not self._guesses.full():
            self._guesses.put_nowait((asker, guess.removeprefix(asker)))
        return await self._vector(asker, query)

    async def run(self) -> NoReturn:
        """Make what is probably asked next."""
        while True:
            asker, query = await self._guesses.get()
            try:
                await self._vector(asker, query)
            except EmbedderUnavailable as failure:
                logger.debug("nothing is made in advance: %s", failure)

    async def _vector(self, asker: str, query: str) -> list[float]:
        async def compute() -> bytes:
            rows = await self._embedder.embed([query])
            return bytes(rows[0].astype("<f4").data)

        found = await self._cache.get_or_compute(_key(self._embedder.name, asker, query), compute)
        vector = _decoded(found.value)
        if vector is None:  # Redis is no place of ours alone
            vector = _decoded(await compute())
        if vector is None:
            raise EmbedderUnavailable(f"the model {self._embedder.name} gave an answer that is none")
        if (request := serving.get()) is not None:
            request.asked_cache(found.how)
        return vector


def _key(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def _decoded(value: bytes) -> list[float] | None:
    if len(value) != 4 * DIMENSIONS:
        return None
    row = np.frombuffer(value, "<f4")
    if not np.isfinite(row).all():
        return None
    vector: list[float] = row.tolist()
    return vector
