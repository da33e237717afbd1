"""Subscriptions by meaning: each document once, and nobody waits for a query of somebody else."""

from __future__ import annotations

from typing import Any

from clock import ManualClock

from hub.caller import Caller
from hub.insight.embedding.base import EmbedderUnavailable
from hub.insight.search.following import SemanticFollowing
from protocol.messages import Notice, SearchHit


def hit(id: int) -> SearchHit:
    return SearchHit(
        kind="message", channel="team:a", offset=id, epoch="e", timestamp=1, type="ALERT", snippet="x", score=1.0
    )


class Searches:
    """`documents`: ids. `coming` is stored while somebody looks for the nearest."""

    def __init__(self) -> None:
        self.documents = [1, 2]
        self.coming: list[int] = []
        self.refused = {"ann"}

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


def following_of(searches: Any, connections: list[Any]) -> SemanticFollowing:
    return SemanticFollowing(
        searches,
        connections,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        listened=lambda: ["semantic:x"],
        listeners=lambda _: len(connections),
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
