"""Presence: who is there, and changes collected into one diff."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clock import ManualClock
from doubles import RecordingSocket, Turns, outbox

from hub.connections.outbox import Outbox
from hub.presence.service import COLLECT_S, LEASE_S, PresenceService
from protocol.messages import Member


class Room:
    """A presence service of one node, watchers whose sockets are kept, and a wire to other nodes."""

    def __init__(self, node: str = "n1") -> None:
        self.turns = Turns()
        self.wires: list[Room] = []
        self.cut = False
        self._arrived: list[bytes] = []
        self.clock = ManualClock()
        self.presence = PresenceService(
            self.turns,  # type: ignore[arg-type]  # a loop as far as presence needs one
            node=node,
            announce=self._announce,
            clock=self.clock,
        )
        self.touched: list[Outbox] = []
        self.sockets: list[RecordingSocket] = []

    def _announce(self, topic: str, payload: bytes) -> None:
        if not self.cut:
            for each in self.wires:
                each._arrived.append(payload)

    def watcher(self, channel: str = "custom:x") -> tuple[Outbox, RecordingSocket, list[Member]]:
        socket = RecordingSocket()
        made = outbox(socket, touch=lambda each: self.touched.append(each))
        return made, socket, self.presence.watch(channel, made)

    def join(self, client: str, user: str = "ann", channel: str = "custom:x") -> None:
        self.presence.join(channel, Member(client=client, user=user))

    def settle(self) -> None:
        self.turns.pass_time(COLLECT_S)
        while any(each._arrived for each in self.wires):
            for each in self.wires:
                arrived, each._arrived = each._arrived, []
                for payload in arrived:
                    each.presence.hear(payload)
        for each in {self, *self.wires}:
            each.turns.pass_time(COLLECT_S)
            each._flush()

    def _flush(self) -> None:
        touched, self.touched = self.touched, []
        for each in touched:
            each.flush({})


@pytest.fixture
def room() -> Room:
    return Room()


def clients(members: Any) -> list[str]:
    return sorted(each["client"] if isinstance(each, dict) else each.client for each in members)


def test_a_thousand_arrivals_are_one_diff(room: Room) -> None:
    _, socket, _ = room.watcher()
    for number in range(1_000):
        room.join(f"c{number}")
    room.settle()

    [diff] = socket.messages()
    assert diff["type"] == "presence_diff"
    assert len(diff["joins"]) == 1_000
    assert diff["leaves"] == []


def test_who_comes_and_goes_between_two_diffs_is_not_mentioned(room: Room) -> None:
    _, socket, _ = room.watcher()
    room.join("c1")
    room.presence.leave("custom:x", "c1")
    room.settle()

    assert socket.messages() == []
    assert room.presence.members("custom:x") == []


def test_who_goes_and_comes_back_between_two_diffs_is_not_mentioned(room: Room) -> None:
    room.join("c1")
    room.settle()
    _, socket, _ = room.watcher()
    room.presence.leave("custom:x", "c1")
    room.join("c1")
    room.settle()

    assert socket.messages() == []
    assert clients(room.presence.members("custom:x")) == ["c1"]


def test_the_list_a_watcher_gets_and_its_diffs_neither_overlap_nor_leave_a_hole(room: Room) -> None:
    room.join("c1")
    _, socket, members = room.watcher()
    room.join("c2")
    room.presence.leave("custom:x", "c1")
    room.settle()

    assert clients(members) == ["c1"]
    [diff] = socket.messages()
    assert clients(diff["joins"]) == ["c2"]
    assert clients(diff["leaves"]) == ["c1"]


def test_watchers_of_one_channel_hear_nothing_of_another(room: Room) -> None:
    _, socket, _ = room.watcher("custom:x")
    room.join("c1", channel="custom:y")
    room.settle()

    assert socket.messages() == []


def test_who_no_longer_watches_gets_no_diff(room: Room) -> None:
    made, socket, _ = room.watcher()
    room.presence.unwatch("custom:x", made)
    room.join("c1")
    room.settle()

    assert socket.messages() == []


def test_leaving_twice_or_without_having_joined_is_nothing(room: Room) -> None:
    _, socket, _ = room.watcher()
    room.presence.leave("custom:x", "nobody")
    room.join("c1")
    room.settle()
    room.presence.leave("custom:x", "c1")
    room.presence.leave("custom:x", "c1")
    room.settle()

    assert [clients(each["leaves"]) for each in socket.messages()] == [[], ["c1"]]


def test_replaying_the_diffs_gives_the_list(room: Room) -> None:
    _, socket, members = room.watcher()
    here = set(clients(members))
    script = [("join", "a"), ("join", "b"), ("end", ""), ("leave", "a"), ("join", "c"), ("end", ""), ("join", "a")]
    script += [("leave", "b"), ("leave", "a"), ("join", "a"), ("end", ""), ("leave", "c"), ("join", "d"), ("end", "")]
    for action, client in script:
        if action == "join":
            room.join(client)
        elif action == "leave":
            room.presence.leave("custom:x", client)
        else:
            room.settle()
    for diff in socket.messages():
        assert not here & set(clients(diff["joins"]))
        assert set(clients(diff["leaves"])) <= here
        here = (here | set(clients(diff["joins"]))) - set(clients(diff["leaves"]))

    assert sorted(here) == clients(room.presence.members("custom:x")) == ["a", "d"]


def test_an_empty_room_is_forgotten(room: Room) -> None:
    made, _, _ = room.watcher()
    room.join("c1")
    room.settle()
    room.presence.unwatch("custom:x", made)
    room.presence.leave("custom:x", "c1")
    room.settle()

    assert room.presence._rooms == {}


# --- several nodes


async def together(*names: str) -> list[Room]:
    """Nodes on one wire, each of which has asked the others for what it does not know."""
    rooms = [Room(name) for name in names]
    for each in rooms:
        each.wires = rooms
    await beat(rooms)
    rooms[0].settle()
    return rooms


async def beat(rooms: list[Room], seconds: float = 0.0) -> None:
    """One round of every node's own loop: ask or beat, and forget the silent."""
    for each in rooms:
        each.clock.advance(seconds)
        running = asyncio.create_task(each.presence.run())
        await each.clock.until_somebody_sleeps()
        each.clock.advance(0.5)
        await each.clock.until_somebody_sleeps()
        was_cut, each.cut = each.cut, True  # what a node says when it ends is not for here
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        each.cut = was_cut


async def test_members_of_one_node_are_seen_on_the_others() -> None:
    one, two = await together("n1", "n2")
    _, socket, _ = two.watcher()
    one.join("c1")
    one.settle()
    two.settle()

    assert clients(two.presence.members("custom:x")) == ["c1"]
    assert clients(socket.messages()[0]["joins"]) == ["c1"]


@pytest.mark.parametrize(
    "script",
    ["leave", "leave join", "leave join leave", "leave join leave join", "leave join leave join leave"],
)
async def test_however_quickly_somebody_comes_and_goes_the_nodes_agree(script: str) -> None:
    one, two = await together("n1", "n2")
    one.join("c1")
    one.settle()
    for action in script.split():
        if action == "join":
            one.join("c1")
        else:
            one.presence.leave("custom:x", "c1")
    one.settle()
    two.settle()

    assert clients(two.presence.members("custom:x")) == clients(one.presence.members("custom:x"))


async def test_a_node_that_missed_a_change_finds_out_by_its_number() -> None:
    one, two = await together("n1", "n2")
    one.join("c1")
    one.settle()
    one.cut = True
    one.presence.leave("custom:x", "c1")
    one.join("c2")
    one.settle()
    one.cut = False
    assert clients(two.presence.members("custom:x")) == ["c1"]
    one.join("c3")
    one.settle()

    assert clients(two.presence.members("custom:x")) == ["c2", "c3"]


async def test_the_members_of_a_node_that_fell_silent_are_gone() -> None:
    one, two = await together("n1", "n2")
    one.join("c1")
    one.settle()
    _, socket, _ = two.watcher()
    one.cut = True
    await beat([two], seconds=2 * LEASE_S)
    two.settle()

    assert two.presence.members("custom:x") == []
    assert clients(socket.messages()[-1]["leaves"]) == ["c1"]


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\xdd\xff\xff\xff\xff", b"x" * 10_000]
)
async def test_nonsense_on_the_wire_changes_nothing(payload: bytes) -> None:
    one, two = await together("n1", "n2")
    one.join("c1")
    one.settle()
    two.presence.hear(payload)

    assert clients(two.presence.members("custom:x")) == ["c1"]
