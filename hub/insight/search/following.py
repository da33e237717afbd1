"""Subscribing by meaning: `semantic:{query}` brings what is said about the query, wherever the subscriber may read."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from hub.channels.subscriptions import Subscriptions
from hub.clock import Clock
from hub.connections.connection import Connection
from hub.connections.registry import Registry
from hub.insight.embedding.base import EmbedderUnavailable
from hub.insight.search.service import SearchService
from hub.publication import Publication
from protocol.channels import split_channel
from protocol.codec import encode_body
from protocol.errors import ErrorCode
from protocol.messages import Notice, SearchHit, Unsubscribed
from protocol.vocabulary import CustomMessage
from storage.errors import StorageError

logger = logging.getLogger("krin.search")

PREFIX = "semantic:"
TYPE = "SEARCH_HIT"
INTERVAL_S = 0.5
MAX_FOLLOWERS = 200  # subscriptions of this kind on one node: each is a question to Postgres per interval
MAX_EACH = 50  # of one user: the others of the node have theirs
MAX_HITS = 50  # of one subscription and interval
FIRST_HITS = 10  # of what was said before
AT_ONCE = 16  # queries that a model is asked about


def query_of(channel: str) -> str:
    """`semantic:breaker+opened` -> `breaker opened`: a channel's name has no spaces."""
    return split_channel(channel)[1].replace("+", " ")


class _Follower:
    """One subscription. `vector` None: nobody has said yet what the query means. `seen`: the newest document that
    it was told of."""

    __slots__ = ("channel", "connection", "seen", "sent", "subscription", "vector", "waits")

    def __init__(self, connection: Connection, channel: str) -> None:
        self.connection = connection
        self.channel = channel
        self.subscription = connection.subscriptions[channel]
        self.vector: list[float] | None = None
        self.seen = 0
        self.sent = 0
        self.waits = False  # and has been told so

    @property
    def here(self) -> bool:
        return self.connection.open and self.connection.subscriptions.get(self.channel) is self.subscription

    def wait(self, why: str) -> None:
        """Nobody can say what the query means: until somebody can, nothing comes."""
        if not self.waits:
            self.waits = True
            self.connection.push(Notice(code="degraded", channel=self.channel, detail=why))

    def send(self, hits: Iterable[SearchHit], *, now_ms: int) -> None:
        for hit in hits:
            self.sent += 1
            key = str(self.sent)  # each stands for itself: none replaces another while it waits for a slow reader
            message = CustomMessage(type=TYPE, data=msgspec.to_builtins(hit))
            publication = Publication(
                self.channel, TYPE, body=encode_body(message, key=key, publisher=None), timestamp=now_ms, key=key
            )
            publication.place("", self.sent)
            self.connection.outbox.push_publication(publication, 0)


class SemanticFollowing:
    """Looks at the documents that are new, for every such subscription of this node."""

    def __init__(
        self,
        searches: SearchService,
        registry: Registry,
        subscriptions: Subscriptions,
        *,
        listened: Callable[[], Iterable[str]],
        listeners: Callable[[str], int],
        clock: Clock,
    ) -> None:
        """`listened` tells the channels that somebody on this node listens to, `listeners` how many do."""
        self._searches = searches
        self._registry = registry
        self._subscriptions = subscriptions
        self._listened = listened
        self._listeners = listeners
        self._clock = clock
        self._followers: list[_Follower] = []

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except StorageError as failure:
                logger.warning("subscriptions by meaning wait: %s", failure)
            await self._clock.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Raises StorageError: the next look goes on from there."""
        self._take_in()
        if not self._followers:
            return
        newest = await self._searches.newest()
        for follower in self._followers:
            if follower.vector is not None:
                await self._tell(follower, follower.vector, upto=newest)
        new = [each for each in self._followers if each.vector is None and each.here]
        for start in range(0, len(new), AT_ONCE):
            some = new[start : start + AT_ONCE]  # a model that takes its time takes it once for all of them
            for follower, vector in zip(some, await asyncio.gather(*map(self._vector, some)), strict=True):
                if vector is not None:
                    await self._begin(follower, vector, newest)

    async def _vector(self, follower: _Follower) -> list[float] | None:
        """None for one whose query has none, such as of somebody who did not agree to have it made."""
        try:
            return await self._searches.vector(query_of(follower.channel), follower.connection.caller)
        except EmbedderUnavailable as failure:
            follower.wait(str(failure))
            return None

    async def _begin(self, follower: _Follower, vector: list[float], newest: int) -> None:
        """With the best of what there is."""
        if follower.waits:
            follower.waits = False
            follower.connection.push(
                Notice(code="restored", channel=follower.channel, detail="the query is followed from here on")
            )
        hits = await self._searches.nearest(vector, follower.connection.caller, upto=newest, limit=FIRST_HITS)
        follower.vector, follower.seen = vector, newest
        if follower.here:
            follower.send(hits, now_ms=self._clock.now_ms())

    def _take_in(self) -> None:
        """Who has come and who has gone since the last look."""
        self._followers = [each for each in self._followers if each.here]
        if sum(self._listeners(each) for each in self._listened() if each.startswith(PREFIX)) == len(self._followers):
            return  # nobody new: every connection would have to be looked at
        known = {(each.connection.id, each.channel) for each in self._followers}
        queries = Counter(each.connection.caller.user for each in self._followers)
        for connection in self._registry:
            for channel in [each for each in connection.subscriptions if each.startswith(PREFIX)]:
                if (connection.id, channel) in known:
                    continue
                user = connection.caller.user
                if len(self._followers) >= MAX_FOLLOWERS or queries[user] >= MAX_EACH:
                    self._refuse(connection, channel)
                else:
                    self._followers.append(_Follower(connection, channel))
                    queries[user] += 1

    def _refuse(self, connection: Connection, channel: str) -> None:
        self._subscriptions.unsubscribe(connection, channel)
        reason = f"a node follows at most {MAX_FOLLOWERS} queries, {MAX_EACH} of one user"
        connection.push(Unsubscribed(channel=channel, code=ErrorCode.LIMIT_EXCEEDED.value, reason=reason))

    async def _tell(self, follower: _Follower, vector: list[float], *, upto: int) -> None:
        """What is new."""
        if not follower.here or follower.seen >= upto:
            return
        caller, after = follower.connection.caller, follower.seen
        hits = await self._searches.between(vector, caller, after=after, upto=upto, limit=MAX_HITS)
        follower.seen = upto
        if follower.here:
            follower.send(hits, now_ms=self._clock.now_ms())
