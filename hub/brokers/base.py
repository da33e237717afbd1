"""The contract between channels and whatever carries publications from node to node."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.messages import Published, Reason

T = TypeVar("T")
Eventually: TypeAlias = T | asyncio.Future[T]
"""A value, or a future of it where the answer must travel. Callers that care for speed take the value at once."""

Deliver = Callable[[Publication], None]


class Recovered(msgspec.Struct, frozen=True):
    """A channel's newest position and the messages read from it, oldest first.

    `complete`: the messages continue the asked position without a gap. Otherwise `reason` says why not, and the
    messages are the snapshot: the newest value of every key in a latest channel, nothing in the others.
    """

    epoch: str
    offset: int
    messages: list[Publication]
    complete: bool
    reason: Reason | None = None


class Broker(Protocol):
    """Offset authority of recoverable and latest channels, and the bell of durable ones.

    Publications of one channel reach `deliver` (given at construction) in offset order, on every node that
    subscribed to it. Delivery is at most once: readers find gaps by offset and mend them.
    """

    @property
    def available(self) -> bool:
        """False while the carrier is away; recovers by itself."""
        ...

    def publish(
        self, publication: Publication, policy: Namespace, *, idempotency_key: str | None = None
    ) -> Eventually[Published]:
        """Take the next offset, keep the message as the policy says, and hand it to every subscribed node.

        All or nothing. Raises HubError(idempotency_conflict) for a key that came with another body,
        HubError(not_available) when the broker is away: then nothing was published.
        """
        ...

    def ring(self, publication: Publication) -> None:
        """Announce a committed durable publication. May be lost; never blocks; keeps nothing."""
        ...

    def subscribe(self, channel: str, policy: Namespace) -> asyncio.Future[None] | None:
        """From the moment this returns (None) or resolves, the channel's publications reach this node."""
        ...

    def unsubscribe(self, channel: str) -> None: ...

    def recover(
        self, channel: str, policy: Namespace, *, epoch: str | None, offset: int, limit: int
    ) -> Eventually[Recovered]:
        """What follows (epoch, offset); with epoch None the current position and, if latest, the snapshot.

        For a subscribed channel the answer is at hand.
        """
        ...

    def history(
        self, channel: str, policy: Namespace, *, after: int, limit: int, reverse: bool
    ) -> Eventually[Recovered]:
        """Kept messages after an offset (reverse: before it, newest first; 0 means from the end)."""
        ...

    async def forget(self, theirs: Callable[[str], bool]) -> None:
        """Drop what is kept of the messages of publishers of whom `theirs` is true, here and in the carrier. A history
        loses what is older as well: it has no holes. Raises HubError(not_available).
        """
        ...

    async def channels(self) -> list[str]:
        """Channels this broker keeps something of."""
        ...

    def announce(self, topic: str, payload: bytes) -> None:
        """Tell every node, this one among them. May be lost; never blocks."""
        ...

    def listen(self, topic: str, handler: Callable[[bytes], None]) -> None:
        """Hear what is announced. One handler per topic."""
        ...

    async def connected(self) -> None:
        """Wait for the first contact with the carrier."""
        ...

    async def run(self) -> None:
        """Serve until cancelled. Raising ends the node."""
        ...
