"""Subscriptions by meaning: each document once, and nobody waits for a query of somebody else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from clock import ManualClock

from hub.caller import Caller
from hub.insight.embedding.base import EmbedderUnavailable
from hub.insight.search.following import MAX_EACH, SemanticFollowing
from protocol.messages import Notice, SearchHit, Unsubscribed
from storage.errors import Unavailable


def hit(id: int) -> SearchHit:
    return SearchHit(
        kind="message", channel="team:a", offset=id, epoch="e", timestamp=1, type="ALERT", snippet="x", score=1.0
    )


class Searches:
    """`documents`: ids. `coming` is stored while somebody looks for the nearest. `lost`: whose looks fail."""

    def __init__(self) -> None:
        self.documents = [1, 2]
        self.coming: list[int] = []
        self.refused = {"ann"}
        self.lost = ""

    async def newest(self) -> int:
        return max(self.documents)

    async def vector(self, query: str, caller: Caller) -> list[float]:
        if caller.user in self.refused:
            raise EmbedderUnavailable("you have not agreed")
        return [1.0]

    async def nearest(self, vector: list[float], caller: Caller, *, upto: int, limit: int) -> list[SearchHit]:
        self.documents += self.coming
        return [hit(each) for each in self.documents if each <= upto]

    async def between(
        self, vector: list[float], caller: Caller, *, after: int, upto: int, limit: int
    ) -> list[SearchHit]:
        if caller.user == self.lost:
            raise Unavailable("the database is away")
        return [hit(each) for each in self.documents if after < each <= upto]


class Outbox:
    def __init__(self) -> None:
        self.offsets: list[int] = []

    def push_publication(self, publication: Any, age: int) -> None:
        self.offsets.append(publication.offset)


class Connection:
    open = True

    def __init__(self, user: str) -> None:
        self.id = user
        self.caller = Caller(user=user, name=user, roles=frozenset(), transport="websocket")
        self.subscriptions = {"semantic:x": object()}
        self.outbox = Outbox()
        self.pushed: list[Any] = []

    def push(self, message: Any) -> None:
        self.pushed.append(message)


def following_of(searches: Any, connections: list[Any], subscriptions: Any = None) -> SemanticFollowing:
    return SemanticFollowing(
        searches,
        connections,  # type: ignore[arg-type]
        subscriptions,
        listened=lambda: ["semantic:x"],
        listeners=lambda _: sum(len(each.subscriptions) for each in connections),
        clock=ManualClock(),
    )


async def test_what_comes_while_the_first_are_looked_for_comes_once() -> None:
    searches, bob = Searches(), Connection("bob")
    searches.coming = [3]
    following = following_of(searches, [bob])
    await following.look()
    searches.coming = []
    await following.look()
    await following.look()
    assert len(bob.outbox.offsets) == 3


async def test_one_user_follows_so_many_queries_and_the_next_has_their_own() -> None:
    connections = [Connection("ann"), Connection("bob")]
    connections[0].subscriptions = {f"semantic:{n}": object() for n in range(MAX_EACH + 1)}
    ended: list[str] = []
    subscriptions = SimpleNamespace(unsubscribe=lambda connection, channel: ended.append(channel))
    following = following_of(Searches(), connections, subscriptions)
    await following.look()

    assert ended == [f"semantic:{MAX_EACH}"]
    assert [each.reason for each in connections[0].pushed if isinstance(each, Unsubscribed)] == [
        f"a node follows at most 200 queries, {MAX_EACH} of one user"
    ]
    assert len(connections[1].outbox.offsets) == 2


async def test_after_a_failure_nobody_is_told_twice() -> None:
    searches, bob, carl = Searches(), Connection("bob"), Connection("carl")
    following = following_of(searches, [bob, carl])
    await following.look()
    searches.documents.append(3)
    searches.lost = "carl"
    with pytest.raises(Unavailable):
        await following.look()
    searches.lost = ""
    await following.look()

    assert (len(bob.outbox.offsets), len(carl.outbox.offsets)) == (3, 3)


async def test_a_query_that_has_no_vector_holds_up_no_other_and_says_why() -> None:
    searches, ann, bob = Searches(), Connection("ann"), Connection("bob")
    following = following_of(searches, [ann, bob])
    for _ in range(3):
        await following.look()
    assert len(bob.outbox.offsets) == 2
    assert ann.pushed == [Notice(code="degraded", channel="semantic:x", detail="you have not agreed")]
    searches.refused.clear()
    await following.look()
    assert len(ann.outbox.offsets) == 2
    assert [each.code for each in ann.pushed] == ["degraded", "restored"]
