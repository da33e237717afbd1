"""Who is in a channel, and the changes as diffs for those who asked for them.

Changes are collected for a moment and sent as one diff: a thousand arrivals are one message, not a million.
"""

from __future__ import annotations

import asyncio

from hub.connections.outbox import Outbox
from protocol.codec import Codec
from protocol.messages import Member, PresenceDiff

COLLECT_S = 0.1


class _Room:
    __slots__ = ("joins", "leaves", "members", "watchers")

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}  # by client id
        self.watchers: dict[Outbox, None] = {}
        self.joins: dict[str, Member] = {}
        self.leaves: dict[str, Member] = {}


class PresenceService:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._rooms: dict[str, _Room] = {}
        self._changed: set[str] = set()
        self._timer: asyncio.TimerHandle | None = None

    def join(self, channel: str, member: Member) -> None:
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room()
        room.members[member.client] = member
        if room.leaves.pop(member.client, None) is None:
            room.joins[member.client] = member
        self._arm(channel)

    def leave(self, channel: str, client: str) -> None:
        room = self._rooms.get(channel)
        if room is None or (member := room.members.pop(client, None)) is None:
            return
        if room.joins.pop(client, None) is None:
            room.leaves[client] = member
        self._arm(channel)

    def watch(self, channel: str, outbox: Outbox) -> list[Member]:
        """Send diffs of this channel from now on; returns who is there now."""
        room = self._rooms.get(channel)
        if room is None:
            room = self._rooms[channel] = _Room()
        self._send_diff(channel, room)  # the newcomer's list and its first diff must not overlap
        room.watchers[outbox] = None
        return list(room.members.values())

    def unwatch(self, channel: str, outbox: Outbox) -> None:
        if (room := self._rooms.get(channel)) is not None:
            room.watchers.pop(outbox, None)

    def members(self, channel: str) -> list[Member]:
        room = self._rooms.get(channel)
        return list(room.members.values()) if room else []

    def _arm(self, channel: str) -> None:
        self._changed.add(channel)
        if self._timer is None:
            self._timer = self._loop.call_later(COLLECT_S, self._send_diffs)

    def _send_diffs(self) -> None:
        self._timer = None
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
