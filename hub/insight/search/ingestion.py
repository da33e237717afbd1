"""What durable channels hold, and what teams know, becomes documents: behind the publish path, when there is time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NoReturn

from hub.clock import Clock
from hub.insight.embedding.base import Embedder, EmbedderUnavailable, Kind
from hub.insight.search.extraction import MAX_CHARACTERS, words_of
from hub.insight.search.following import PREFIX
from storage.database import Database
from storage.errors import StorageError
from storage.indexing import (
    DocumentWriter,
    Embedded,
    IndexKind,
    NewDocument,
    ReadMessage,
    StaleDocument,
    StoredKnowledge,
    keep_index,
    writing,
)
from storage.sessions import Session, Sessions

logger = logging.getLogger("krin.search")

# Documents per commit. Of the hub's own embedder: two milliseconds of work, half a millisecond of the loop's at once. A
# model elsewhere takes about as long for many texts as for one.
BATCH: Mapping[Kind, int] = {"lexical": 16, "semantic": 64}
SESSIONS = 8  # described at each look when there is nothing else to do; half a millisecond of work each
IDLE_S = 0.5  # between two looks for something new
RETRY_S = 5.0  # until a node looks whether it is its turn, or a failed one tries again
LOOK_AFTER_S = 30.0  # between two looks at the backlog, the index, and vectors that a model still owes
REST = 1.0  # of the time that a batch took, before the next one: half of the time belongs to others
LATE = 8.0  # times as long a rest for each LATE_S that the loop is late
LATE_S = 0.005
EVERYBODY = "system:knowledge"  # what is nobody's project in particular is found by whoever may read this


class Ingestion:
    """Figures of the node whose turn it is: `behind` counts messages that cannot be found yet, `stale` documents that
    have no vector of the model, `stored` documents that were made, `embedded` vectors that were made up for."""

    def __init__(
        self, db: Database, embedder: Embedder, *, namespaces: Sequence[str], index: IndexKind = "hnsw", clock: Clock
    ) -> None:
        self._db = db
        self._sessions = Sessions(db)
        self._embedder = embedder
        self._batch = BATCH[embedder.kind]
        self._namespaces = namespaces
        self._index = index
        self._clock = clock
        self._failed = True  # whether the model may have been silent, or another's, since the last look
        self._owed = False  # whether documents are looked through for vectors that the model owes
        self._after = 0  # the document up to which that was done
        self._ask_at = 0.0  # when changed messages are asked for again
        self.behind = 0
        self.stale = 0
        self.stored = 0
        self.embedded = 0

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.TaskGroup() as group, writing(self._db) as writer:
                    if writer is not None:
                        group.create_task(self._keep_index())
                        await self._work(writer)
            except* StorageError as failures:
                logger.warning("documents wait: %s", failures.exceptions[0])
            await self._clock.sleep(RETRY_S)

    async def _keep_index(self) -> NoReturn:
        """Beside the making of documents, which a build of seconds would hold up."""
        while True:
            if await keep_index(self._db, self._embedder.name, self._index):
                logger.info("built the %s index of vectors of %s", self._index, self._embedder.name)
            await self._clock.sleep(LOOK_AFTER_S)

    async def _work(self, writer: DocumentWriter) -> NoReturn:
        await writer.leave_out_others(self._namespaces)
        self._failed = True  # another node may have been at it
        looked = self._clock.monotonic() - LOOK_AFTER_S
        while True:
            began = self._clock.monotonic()
            if began - looked >= LOOK_AFTER_S:
                looked = began
                await self.look_after(writer)
            if await self.step(writer):
                await self._rest(self._clock.monotonic() - began)
            else:
                await self._clock.sleep(IDLE_S)

    async def _rest(self, took_s: float) -> None:
        """As long as the work took, and longer where the loop shows that it has other things to do."""
        before = self._clock.monotonic()
        await self._clock.sleep(took_s * REST)
        late_s = self._clock.monotonic() - before - took_s * REST
        await self._clock.sleep(took_s * min(LATE, late_s / LATE_S))

    async def look_after(self, writer: DocumentWriter) -> None:
        """Count what there is to do."""
        self.behind = await writer.behind(self._namespaces)
        if self._failed:
            self.stale = await writer.count_stale(self._embedder.name)
            self._failed, self._owed, self._after = False, bool(self.stale), 0
            if self.stale:
                logger.info("%d documents wait for vectors of %s", self.stale, self._embedder.name)

    async def step(self, writer: DocumentWriter) -> bool:
        """Do one batch of work; False when there is none."""
        if self._clock.monotonic() >= self._ask_at and (changed := await self._requested(writer)):
            documents = [document for each in changed if (document := document_of(each)) is not None]
            await writer.store(documents, await self._embed(writer, documents), answered=changed)
            return True
        page = await writer.unread(self._namespaces, limit=self._batch)
        if page.positions:
            documents = [document for each in page.messages if (document := document_of(each)) is not None]
            await writer.store(documents, await self._embed(writer, documents), positions=page.positions)
            self.behind = max(0, self.behind - len(page.messages))
            self.stored += len(documents)
            return True
        if entries := await writer.knowledge(limit=self._batch):
            documents = [knowledge_document(each) for each in entries]
            await writer.store(documents, await self._embed(writer, documents))
            self.stored += len(documents)
            return True
        await self._describe_sessions(writer)
        return self._owed and await self._make_up(writer)

    async def _requested(self, writer: DocumentWriter) -> list[ReadMessage]:
        """What has changed, which is hardly ever any: after none it is asked for again after a while only."""
        changed = await writer.requested(self._namespaces, limit=self._batch)
        if not changed:
            self._ask_at = self._clock.monotonic() + IDLE_S
        return changed

    async def _describe_sessions(self, writer: DocumentWriter) -> None:
        """A few, between two looks for something new: a thousand clients that come at once hold up nobody for them."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        embedder = self._embedder
        sessions = await self._sessions.owed(embedder.name, consent=embedder.needs_consent, now=now, limit=SESSIONS)
        if not sessions:
            return
        documents = [session_document(each) for each in sessions]
        embedded = await self._embed(writer, documents)
        if embedded is not None:
            await writer.store(documents, embedded)

    async def _make_up(self, writer: DocumentWriter) -> bool:
        """Vectors for documents that have those of another model, or none."""
        stale = await writer.stale(self._embedder.name, after=self._after, limit=self._batch)
        embedded = await self._embed(writer, stale)
        if not stale or embedded is None:
            self._owed = False
            return False
        vectors = {each.id: vector for each, vector in zip(stale, embedded.vectors, strict=True) if vector is not None}
        if vectors:
            await writer.embed(vectors, self._embedder.name)
        self._after = stale[-1].id
        self.embedded += len(vectors)
        self.stale = max(0, self.stale - len(vectors))
        return True

    async def _embed(self, writer: DocumentWriter, documents: Sequence[NewDocument | StaleDocument]) -> Embedded | None:
        """None: the model does not answer, which is made up for later."""
        shown = [*range(len(documents))]
        if self._embedder.needs_consent:
            consenting = await writer.consenting({each.publisher for each in documents})
            shown = [place for place in shown if documents[place].publisher in ("", *consenting)]
        await asyncio.sleep(0)  # what has come in meanwhile goes first
        try:
            rows = await self._embedder.embed([documents[place].content for place in shown])
        except EmbedderUnavailable as failure:
            logger.warning("documents are without vectors for now: %s", failure)
            self._failed = True
            return None
        await asyncio.sleep(0)
        by_place = dict(zip(shown, rows, strict=True))
        return Embedded(self._embedder.name, [by_place.get(place) for place in range(len(documents))])


def document_of(message: ReadMessage) -> NewDocument | None:
    """None for a message that nobody may find, that only takes another one back, or that has no words."""
    if message.hidden or message.type == "INSIGHT_RETRACTED" or not (words := words_of(message.body)):
        return None
    return NewDocument(
        kind="insight" if message.channel.startswith("insights:") else "message",
        reference=f"{message.channel_id}:{message.offset}",
        channel=message.channel,
        timestamp_ms=message.timestamp_ms,
        type=message.type,
        publisher=message.publisher,
        content=f"{message.type.replace('_', ' ').lower()}: {words}",
        message=message,
    )


def knowledge_document(entry: StoredKnowledge) -> NewDocument:
    """Whoever may read a project's channel may find what it knows. Who wrote it stays with the entry."""
    return NewDocument(
        kind="knowledge",
        reference=entry.id,
        channel=EVERYBODY if entry.project is None else f"team:{entry.project}",
        timestamp_ms=entry.added_us // 1000,
        type=entry.kind.upper(),
        publisher="",
        content=f"{entry.title}\n{' '.join(entry.tags)}\n{entry.body}"[:MAX_CHARACTERS],
    )


def session_document(session: Session) -> NewDocument:
    """What a session is about, in one sentence. Its user may find it, and administrators.

    A subscription by meaning is left out: its own session would be the first thing that it brings.
    """
    data = session.session_data
    named = [each for each in data.get("channels", ()) if not each.startswith(PREFIX)]
    channels = ", ".join(named) or "nothing yet"
    who = " ".join(str(data[name]) for name in ("kind", "name") if data.get(name)) or "client"
    return NewDocument(
        kind="session",
        reference=str(session.id),
        channel=f"sessions:{data['user']}",
        timestamp_ms=int(session.created_at.timestamp() * 1000),
        type="SESSION",
        publisher=data["user"],
        content=f"{who} of {data['user']} follows {channels}"[:MAX_CHARACTERS],
    )
