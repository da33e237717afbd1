"""The `search` command: hybrid by default, and never a word about what the caller may not read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import msgspec

from hub.audit.reads import Reads
from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.readable import readable
from hub.insight.embedding.base import Embedder, EmbedderUnavailable
from hub.insight.search.fusion import fuse
from hub.insight.search.queries import QueryVectors
from hub.namespaces import Namespaces
from protocol.codec import JSON, Codec, refuse_nul
from protocol.errors import ErrorCode, HubError
from protocol.messages import Search, SearchHit, SearchResult
from storage.consents import Consents
from storage.errors import StorageError
from storage.vectors import Documents, FoundDocument, Scope

logger = logging.getLogger("krin.search")

CANDIDATES = 50  # of each half of a hybrid search, or as many as were asked for
PATIENCE_S = 2.0  # with a model that should say what a query means
MAX_ASKING = 32  # questions to the model at once
MAX_SEARCHING = 4  # at once: each takes a connection of the pool


class SearchService:
    def __init__(
        self,
        documents: Documents,
        embedder: Embedder,
        consents: Consents,
        *,
        namespaces: Namespaces,
        access: Access,
        reads: Reads,
        queries: QueryVectors | None = None,
    ) -> None:
        """`queries`: keeps the vectors of queries; without, each is made anew."""
        self._documents = documents
        self._embedder = embedder
        self._consents = consents
        self._namespaces = namespaces
        self._access = access
        self._reads = reads
        self._queries = queries
        self._asked: set[asyncio.Task[list[float]]] = set()
        self._searching = asyncio.Semaphore(MAX_SEARCHING)

    async def search(self, command: Search, caller: Caller, codec: Codec = JSON) -> SearchResult:
        """Raises HubError(permission_denied, unknown_channel, bad_request, not_available)."""
        refuse_nul(msgspec.json.encode(command.query), "$.query")
        scope = self._scope(command, caller)
        try:
            return await self._search(command, caller, scope)
        except StorageError as failure:
            logger.warning("a search failed: %s", failure)
            raise HubError(ErrorCode.NOT_AVAILABLE, "the search index is not available", retry_after_ms=1000) from None

    def _scope(self, command: Search, caller: Caller) -> Scope:
        if command.channel is None:
            return readable(caller, self._namespaces.by_prefix())
        self._access.require(caller, "subscribe", command.channel)
        return Scope(names=(command.channel,))

    async def _search(self, command: Search, caller: Caller, scope: Scope) -> SearchResult:
        limit = max(CANDIDATES, command.limit)
        vector, degraded = None, None
        if command.mode != "text":
            try:
                vector = await self.vector(command.query, caller)
            except EmbedderUnavailable as failure:
                if command.mode == "semantic":
                    raise HubError(ErrorCode.NOT_AVAILABLE, str(failure), retry_after_ms=1000) from None
                degraded = f"{failure}: found by words alone"
        rankings: list[tuple[float, Sequence[int]]] = []
        async with self._searching:  # a model that takes its time holds up nobody else's search
            if vector is not None:
                model, above = self._embedder.name, self._embedder.unrelated
                near = await self._documents.nearest(vector, model, scope, above=above, limit=limit)
                rankings.append((1.0, near))
            if command.mode != "semantic":
                whole, partial = await self._documents.by_words(command.query, scope, limit=limit)
                # What shares a word or two with a question may mean anything: a model of meanings judges better.
                knows = vector is not None and self._embedder.kind == "semantic"
                rankings.append((1.0, whole if knows else [*whole, *partial]))
            scores = fuse(rankings)
            found = await self._documents.found([*scores][: command.limit], command.query)
        return SearchResult(
            hits=[_hit(each, scores[each.id]) for each in self._still_readable(found, caller)],
            mode=command.mode if degraded is None else "text",
            embedding_model=None if vector is None else self._embedder.name,
            embedding_kind=None if vector is None else self._embedder.kind,
            degraded=degraded,
        )

    async def newest(self) -> int:
        """The id of the newest document. Raises StorageError, as the methods below."""
        return await self._documents.newest()

    async def nearest(self, vector: list[float], caller: Caller, *, upto: int, limit: int) -> list[SearchHit]:
        """What is about the same as a vector of the embedder's, the best first, within what the caller may read.

        Of documents with ids up to `upto`: others are new.
        """
        scope = readable(caller, self._namespaces.by_prefix())
        model, above = self._embedder.name, self._embedder.related
        ids = await self._documents.nearest(vector, model, scope, above=above, limit=limit)
        return self._hits(await self._documents.found([id for id in ids if id <= upto], ""), caller)

    async def between(
        self, vector: list[float], caller: Caller, *, after: int, upto: int, limit: int
    ) -> list[SearchHit]:
        """Likewise of the documents with ids after `after` and up to `upto`, in the order in which they came."""
        scope = readable(caller, self._namespaces.by_prefix())
        model, above = self._embedder.name, self._embedder.related
        ids = await self._documents.between(vector, model, scope, after=after, upto=upto, above=above, limit=limit)
        return self._hits(await self._documents.found(ids, ""), caller)

    def _hits(self, found: list[FoundDocument], caller: Caller) -> list[SearchHit]:
        ranked = fuse([(1.0, [each.id for each in found])])
        return [_hit(each, ranked[each.id]) for each in self._still_readable(found, caller)]

    async def vector(self, query: str, caller: Caller) -> list[float]:
        """Raises EmbedderUnavailable, after PATIENCE_S at most; the model is asked on, which tells how it is."""
        if self._embedder.needs_consent and not await self._consents.allows(caller.user, "ai_processing"):
            raise EmbedderUnavailable(f"you have not agreed to have your words shown to {self._embedder.name}")
        if len(self._asked) >= MAX_ASKING:
            raise EmbedderUnavailable(f"the model {self._embedder.name} is asked too much at once")
        asked = asyncio.create_task(self._meaning(query, caller))
        self._asked.add(asked)
        asked.add_done_callback(self._answered)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(asked)
        except TimeoutError:
            raise EmbedderUnavailable(f"the model {self._embedder.name} takes too long") from None

    async def _meaning(self, query: str, caller: Caller) -> list[float]:
        if self._queries is not None:
            return await self._queries.of(query, caller)
        vector: list[float] = (await self._embedder.embed([query]))[0].tolist()
        return vector

    def _answered(self, asked: asyncio.Task[list[float]]) -> None:
        self._asked.discard(asked)
        if not asked.cancelled():
            asked.exception()  # whoever waited has it; nobody may wait any more

    def _still_readable(self, found: list[FoundDocument], caller: Caller) -> list[FoundDocument]:
        """Rights may have been taken while we searched. What is read where reads are audited is noted."""
        kept = []
        offsets: dict[str, list[int]] = {}
        for each in found:
            if not self._may_read(caller.now, each.channel):
                continue
            kept.append(each)
            if each.offset is not None and self._namespaces.of(each.channel)[0].audit_reads:
                offsets.setdefault(each.channel, []).append(each.offset)
        for channel, read in offsets.items():
            self._reads.read(caller, channel, offsets=read)
        return kept

    def _may_read(self, caller: Caller, channel: str) -> bool:
        try:
            return self._access.decide(caller, "subscribe", channel).allowed
        except HubError:  # of a namespace that is no longer configured, or named after somebody with a space
            return False


def _hit(found: FoundDocument, score: float) -> SearchHit:
    return SearchHit(
        kind=found.kind,
        channel=found.channel,
        offset=found.offset,
        epoch=found.epoch,
        timestamp=found.timestamp_ms,
        type=found.type,
        publisher=found.publisher or None,
        snippet=found.snippet,
        score=round(score, 6),
    )
