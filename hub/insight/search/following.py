"""Subscribing by meaning: `semantic:{query}` brings what is said about the query, wherever the subscriber may read."""

from __future__ import annotations

import logging
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
MAX_HITS = 50  # of one subscription and interval
FIRST_HITS = 10  # of what was said before


def query_of(channel: str) -> str:
    """`semantic:breaker+opened` -> `breaker opened`: a channel's name has no spaces."""
    return split_channel(channel)[1].replace("+", " ")


class _Follower:
    """One subscription. `vector` None: nobody has said yet what the query means."""

    __slots__ = ("channel", "connection", "sent", "subscription", "vector", "waits")

    def __init__(self, connection: Connection, channel: str) -> None:
        self.connection = connection
        self.channel = channel
        self.subscription = connection.subscriptions[channel]
        self.vector: list[float] | None = None
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
        self._seen = 0  # the newest document that everybody has been told of

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except StorageError as failure:
                logger.warning("subscriptions by meaning wait: %s", failure)
            await self._clock.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Raises StorageError: the next look goes on from the same document."""
        self._take_in()
        if not self._followers:
            return
        newest = await self._searches.newest()
        for follower in self._followers:
            if follower.vector is not None:
                await self._tell(follower, after=self._seen, upto=newest)
        self._seen = newest
        for follower in self._followers:
            if follower.vector is None and follower.here:
                await self._begin(follower, newest)

    async def _begin(self, follower: _Follower, newest: int) -> None:
        """One whose query has no vector, such as of somebody who did not agree to have it made, keeps up no other."""
        try:
            vector = await self._searches.vector(query_of(follower.channel), follower.connection.caller)
        except EmbedderUnavailable as failure:
            follower.wait(str(failure))
            return
        if follower.waits:
            follower.waits = False
            follower.connection.push(
                Notice(code="restored", channel=follower.channel, detail="the query is followed from here on")
            )
        follower.vector = vector
        await self._tell(follower, after=0, upto=newest)

    def _take_in(self) -> None:
        """Who has come and who has gone since the last look."""
        self._followers = [each for each in self._followers if each.here]
        if sum(self._listeners(each) for each in self._listened() if each.startswith(PREFIX)) == len(self._followers):
            return  # nobody new: every connection would have to be looked at
        known = {(each.connection.id, each.channel) for each in self._followers}
        for connection in self._registry:
            for channel in [each for each in connection.subscriptions if each.startswith(PREFIX)]:
                if (connection.id, channel) in known:
                    continue
                if len(self._followers) >= MAX_FOLLOWERS:
                    self._refuse(connection, channel)
                else:
                    self._followers.append(_Follower(connection, channel))

    def _refuse(self, connection: Connection, channel: str) -> None:
        self._subscriptions.unsubscribe(connection, channel)
        reason = f"a node follows at most {MAX_FOLLOWERS} queries"
        connection.push(Unsubscribed(channel=channel, code=ErrorCode.LIMIT_EXCEEDED.value, reason=reason))

    async def _tell(self, follower: _Follower, *, after: int, upto: int) -> None:
        """After the first document: what is new. After none: the best of what there is."""
        if not follower.here or follower.vector is None or after >= upto:
            return
        caller = follower.connection.caller
        if after:
            hits = await self._searches.between(follower.vector, caller, after=after, upto=upto, limit=MAX_HITS)
        else:
            hits = await self._searches.nearest(follower.vector, caller, upto=upto, limit=FIRST_HITS)
        if follower.here:
            follower.send(hits, now_ms=self._clock.now_ms())
