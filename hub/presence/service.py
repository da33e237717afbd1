"""Who is in a channel, on every node, and the changes as diffs for those who asked for them.

Each node knows its own members and tells the others: changes as they happen, a beat every second with the number of the
last change, its whole state to whoever asks. A node that misses a change sees it by the number and asks; a node that is
not heard for two leases is gone, and its members with it. Nothing is stored anywhere, so nothing can be left behind.

Changes are collected for a moment and sent as one diff: a thousand arrivals are one message, not a million.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from hub.clock import Clock
from hub.connections.outbox import Outbox
from protocol.codec import Codec
from protocol.messages import Member, PresenceDiff

TOPIC = "presence"
COLLECT_S = 0.1
BEAT_S = 0.5
LEASE_S = 2.0
MEMBERS_PER_MESSAGE = 2000

Announce = Callable[[str, bytes], None]


class _News(msgspec.Struct, omit_defaults=True):
    """What one node tells the others. `number` counts its changes; a state is the sum of all up to `number`."""

    node: str
    kind: Literal["beat", "diff", "state", "ask", "gone"]
    number: int = 0
    first: bool = False
    last: bool = False
    joins: list[tuple[str, Member]] = []
    leaves: list[tuple[str, str]] = []
    asked: str = ""


class _Room:
    """One channel. `members` are those of every node, by client id."""

    __slots__ = ("joins", "leaves", "members", "watchers")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.watchers: dict[Outbox, None] = {}
        self.joins: dict[str, Member] = {}
        self.leaves: dict[str, Member] = {}


class _Peer:
    """Another node as this one knows it."""

    __slots__ = ("heard_at", "incoming", "members", "number")

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        self.number = -1  # nothing is known yet
        self.members: dict[tuple[str, str], Member] = {}  # (channel, client)
        self.incoming: dict[tuple[str, str], Member] | None = None  # a state whose last part is still to come


class PresenceService:
    def __init__(self, loop: asyncio.AbstractEventLoop, *, node: str, announce: Announce, clock: Clock) -> None:
        self._loop = loop
        self._node = node
        self._announce = announce
        self._clock = clock
        self._rooms: dict[str, _Room] = {}
        self._own: dict[tuple[str, str], Member] = {}
        self._told: set[tuple[str, str]] = set()  # of them, those the other nodes have heard of
        self._peers: dict[str, _Peer] = {}
        self._number = 0
        self._joined: dict[tuple[str, str], Member] = {}  # own changes not yet announced
        self._left: dict[tuple[str, str], None] = {}
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def nodes(self) -> list[str]:
        """The other nodes that live."""
        return list(self._peers)

    # --- this node's members ---

    def join(self, channel: str, member: Member) -> None:
        place = (channel, member.client)
        self._own[place] = member
        self._left.pop(place, None)
        self._joined[place] = member
        self._enter(channel, member)

    def leave(self, channel: str, client: str) -> None:
        place = (channel, client)
        if self._own.pop(place, None) is None:
            return
        self._joined.pop(place, None)
        if place in self._told:
            self._left[place] = None
        self._exit(channel, client)

    def watch(self, channel: str, outbox: Outbox) -> list[Member]:
        """Send diffs of this channel from now on; returns who is there now."""
        room = self._room(channel)
        self._send_diff(channel, room)  # the newcomer's list and its first diff must not overlap
        room.watchers[outbox] = None
        return list(room.members.values())

    def unwatch(self, channel: str, outbox: Outbox) -> None:
        if (room := self._rooms.get(channel)) is not None:
            room.watchers.pop(outbox, None)
            self._arm(channel)

    def members(self, channel: str) -> list[Member]:
        room = self._rooms.get(channel)
        return list(room.members.values()) if room else []

    # --- other nodes ---

    async def run(self) -> None:
        """Beat, and forget nodes that have fallen silent."""
        self._tell(_News(self._node, "ask"))
        try:
            while True:
                await self._clock.sleep(BEAT_S)
                self._tell(_News(self._node, "beat", self._number))
                now = self._clock.monotonic()
                for name, peer in list(self._peers.items()):
                    if now - peer.heard_at > 1.5 * LEASE_S:  # and a beat later at the latest: within two leases
                        self._forget(name)
        finally:
            self._tell(_News(self._node, "gone"))

    def hear(self, payload: bytes) -> None:
        """What some node announced."""
        try:
            news = msgspec.msgpack.decode(payload, type=_News)
        except msgspec.MsgspecError:
            return
        if news.node == self._node:
            return
        if news.kind == "gone":
            self._forget(news.node)
            return
        peer = self._peers.get(news.node)
        if peer is None:
            peer = self._peers[news.node] = _Peer(self._clock.monotonic())
        peer.heard_at = self._clock.monotonic()
        match news.kind:
            case "ask":
                if news.asked in ("", self._node):
                    self._tell_state()
                if peer.number < 0 and not news.asked:
                    self._ask(news.node)
            case "beat":
                if news.number != peer.number:
                    self._ask(news.node)
            case "diff":
                if news.number == peer.number + 1:
                    peer.number = news.number
                    self._apply(peer, news.joins, news.leaves)
                elif news.number > peer.number:
                    self._ask(news.node)
            case "state":
                self._take_state(peer, news)

    def _take_state(self, peer: _Peer, news: _News) -> None:
        if news.first:
            peer.incoming = {}
        if peer.incoming is None:
            return
        peer.incoming |= {(channel, member.client): member for channel, member in news.joins}
        if not news.last:
            return
        state, peer.incoming = peer.incoming, None
        peer.number = news.number
        gone = [place for place in peer.members if place not in state]
        new = [
            (channel, member) for (channel, client), member in state.items() if (channel, client) not in peer.members
        ]
        self._apply(peer, new, gone)

    def _apply(self, peer: _Peer, joins: Iterable[tuple[str, Member]], leaves: Iterable[tuple[str, str]]) -> None:
        for channel, client in leaves:
            if peer.members.pop((channel, client), None) is not None:
                self._exit(channel, client)
        for channel, member in joins:
            peer.members[channel, member.client] = member
            self._enter(channel, member)

    def _forget(self, name: str) -> None:
        if (peer := self._peers.pop(name, None)) is not None:
            self._apply(peer, (), list(peer.members))

    def _ask(self, node: str) -> None:
        self._tell(_News(self._node, "ask", asked=node))

    def _tell_state(self) -> None:
        self._tell_changes()
        members = [(channel, member) for (channel, _), member in self._own.items()]
        for start in range(0, max(len(members), 1), MEMBERS_PER_MESSAGE):
            part = members[start : start + MEMBERS_PER_MESSAGE]
            last = start + MEMBERS_PER_MESSAGE >= len(members)
            self._tell(_News(self._node, "state", self._number, first=start == 0, last=last, joins=part))

    def _tell_changes(self) -> None:
        if not self._joined and not self._left:
            return
        self._number += 1
        joins = [(channel, member) for (channel, _), member in self._joined.items()]
        self._tell(_News(self._node, "diff", self._number, joins=joins, leaves=list(self._left)))
        self._told.update(self._joined)
        self._told.difference_update(self._left)
        self._joined.clear()
        self._left.clear()

    def _tell(self, news: _News) -> None:
        self._announce(TOPIC, msgspec.msgpack.encode(news))

    # --- rooms and diffs ---

    def _room(self, channel: str) -> _Room:
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room()
        return room

    def _enter(self, channel: str, member: Member) -> None:
        room = self._room(channel)
        room.members[member.client] = member
        if room.leaves.pop(member.client, None) is None:
            room.joins[member.client] = member
        self._arm(channel)

    def _exit(self, channel: str, client: str) -> None:
        room = self._rooms.get(channel)
        if room is None or (member := room.members.pop(client, None)) is None:
            return
        if room.joins.pop(client, None) is None:
            room.leaves[client] = member
        self._arm(channel)

    def _arm(self, channel: str) -> None:
        self._changed.add(channel)
        if self._timer is None:
            self._timer = self._loop.call_later(COLLECT_S, self._send_changes)

    def _send_changes(self) -> None:
        self._timer = None
        self._tell_changes()
        changed, self._changed = self._changed, set()
        for channel in changed:
            room = self._rooms.get(channel)
            if room is None:
                continue
            self._send_diff(channel, room)
            if not room.members and not room.watchers:
                del self._rooms[channel]

    def _send_diff(self, channel: str, room: _Room) -> None:
        if not room.joins and not room.leaves:
            return
        diff = PresenceDiff(channel=channel, joins=list(room.joins.values()), leaves=list(room.leaves.values()))
        room.joins.clear()
        room.leaves.clear()
        encoded: dict[Codec, bytes] = {}
        for outbox in room.watchers:
            if outbox.codec not in encoded:
                encoded[outbox.codec] = outbox.codec.encode(diff)
            outbox.push(encoded[outbox.codec])
