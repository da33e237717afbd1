"""The outbox of one client: bounded in bytes, in order, newest values of latest channels, nothing else lost."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import pytest
from doubles import RecordingSocket, Turns, outbox, publication
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.channels.fanout import Fanout, Listener
from hub.connections.outbox import Batch
from hub.publication import Publication
from protocol.codec import JSON, MSGPACK, Codec


class Scene:
    """One outbox behind a fan-out, on a loop whose turns the test ends."""

    def __init__(self, *, limit_bytes: int = 1 << 20, room: int | None = None, codec: Codec = JSON) -> None:
        self.turns = Turns()
        self.fanout = Fanout(self.turns)  # type: ignore[arg-type]  # a loop as far as the fan-out needs one
        self.socket = RecordingSocket(room)
        self.overflows = 0
        self.pressures: list[tuple[str, str | None]] = []
        self.outbox = outbox(
            self.socket,
            touch=self.fanout.touch,
            codec=codec,
            limit_bytes=limit_bytes,
            on_overflow=self._overflow,
            on_pressure=lambda code, channel: self.pressures.append((code, channel)),
        )

    def _overflow(self) -> None:
        self.overflows += 1

    def enqueue(self, *publications: Publication) -> None:
        batch = Batch()
        batch.publications.extend(publications)
        self.outbox.add(batch)
        self.turns.end()

    def reply(self, number: int) -> None:
        self.outbox.push(self.outbox.codec.encode({"type": "reply", "id": number}))

    def listen(self, *channels: str) -> None:
        for channel in channels:
            listener = Listener(self.outbox)
            self.fanout.add(channel, listener)
            self.fanout.go_live(channel, listener, "e1")

    def end_turn(self) -> None:
        self.turns.pass_time(1.0)

    @property
    def messages(self) -> list[Any]:
        return self.socket.messages()


def offsets(messages: list[Any], channel: str = "a:x") -> list[int]:
    return [each["offset"] for each in messages if each.get("channel") == channel]


def test_what_waits_while_blocked_leaves_in_order_after_unblock() -> None:
    scene = Scene()
    scene.outbox.block()
    for number in range(1, 6):
        scene.enqueue(publication("a:x", number))
    scene.reply(1)
    scene.end_turn()
    assert scene.messages == []

    scene.outbox.unblock(0.0)

    assert offsets(scene.messages) == [1, 2, 3, 4, 5]
    assert scene.messages[-1] == {"type": "reply", "id": 1}
    assert scene.outbox.waiting_bytes == 0
    assert scene.outbox.ready


def test_a_key_keeps_its_newest_value_and_says_how_many_it_replaced() -> None:
    scene = Scene()
    scene.outbox.block()
    for number in range(1, 8):
        scene.enqueue(publication("prices:x", number, key="bid" if number % 2 else "ask", conflatable=True))

    scene.outbox.unblock(0.0)

    found = {each["key"]: (each["offset"], each.get("skipped", 0)) for each in scene.messages}
    assert found == {"bid": (7, 3), "ask": (6, 2)}
    assert scene.outbox.conflated == 5


@pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])
def test_skipped_is_told_in_both_formats_and_absent_when_nothing_was_skipped(codec: Codec) -> None:
    scene = Scene(codec=codec)
    scene.outbox.block()
    scene.enqueue(publication("prices:x", 1, conflatable=True), publication("prices:x", 2, conflatable=True))
    scene.enqueue(publication("prices:y", 1, conflatable=True))

    scene.outbox.unblock(0.0)

    x, y = scene.messages
    assert x["skipped"] == 1
    assert "skipped" not in y


def test_keys_of_different_channels_do_not_replace_each_other() -> None:
    scene = Scene()
    scene.outbox.block()
    scene.enqueue(publication("prices:x", 1, key="k", conflatable=True))
    scene.enqueue(publication("prices:y", 1, key="k", conflatable=True))

    scene.outbox.unblock(0.0)

    assert [each["channel"] for each in scene.messages] == ["prices:x", "prices:y"]


def test_a_busy_key_cannot_starve_a_quiet_one() -> None:
    scene = Scene()
    scene.outbox.block()
    scene.enqueue(publication("prices:x", 1, key="quiet", conflatable=True))
    for number in range(2, 100):
        scene.enqueue(publication("prices:x", number, key="busy", conflatable=True))

    scene.outbox.unblock(0.0)

    assert [each["key"] for each in scene.messages] == ["quiet", "busy"]


def test_the_bound_ends_the_outbox_exactly_once_and_nothing_follows() -> None:
    scene = Scene(limit_bytes=2_000)
    scene.outbox.block()
    for number in range(1, 200):
        scene.enqueue(publication("a:x", number, text="x" * 100))
    scene.reply(1)
    scene.end_turn()
    scene.outbox.unblock(0.0)
    scene.end_turn()

    assert scene.overflows == 1
    assert scene.messages == []
    assert scene.outbox.waiting_bytes == 0


def test_what_waits_never_exceeds_the_bound_by_more_than_one_message() -> None:
    scene = Scene(limit_bytes=5_000)
    scene.outbox.block()
    highest = 0
    for number in range(1, 500):
        scene.enqueue(publication("prices:x", number, key=f"k{number}", conflatable=True, text="x" * 200))
        highest = max(highest, scene.outbox.waiting_bytes)

    assert highest <= 5_000
    assert scene.overflows == 1


def test_three_quarters_full_is_announced_once_per_spell() -> None:
    scene = Scene(limit_bytes=10_000)
    for _ in range(2):
        scene.outbox.block()
        for number in range(1, 10):
            scene.enqueue(publication("a:x", number, text="x" * 900))
        scene.outbox.unblock(0.0)

    assert scene.pressures == [("outbox_high", None), ("outbox_high", None)]


def test_the_newest_value_of_a_key_is_never_lost_in_silence() -> None:
    """A quiet key whose only value is dropped at the bound would show a stale price for ever."""
    scene = Scene(limit_bytes=2_000)
    scene.outbox.block()
    for number in range(1, 41):
        scene.enqueue(publication("prices:x", number, key=f"k{number}", conflatable=True, text="x" * 100))

    scene.outbox.unblock(0.0)

    delivered = {each["key"] for each in scene.messages}
    assert scene.overflows == 1 or delivered == {f"k{number}" for number in range(1, 41)}


def test_a_value_dropped_at_the_bound_is_counted_by_the_next_one_of_its_key() -> None:
    scene = Scene(limit_bytes=1_000)
    scene.outbox.block()
    scene.enqueue(publication("prices:x", 1, key="first", conflatable=True, text="x" * 300))
    for number in range(2, 6):
        scene.enqueue(publication("prices:x", number, key=f"k{number}", conflatable=True, text="x" * 300))
    scene.enqueue(publication("prices:x", 6, key="first", conflatable=True, text="x" * 300))

    scene.outbox.unblock(0.0)

    assert scene.overflows == 1 or {each["key"]: each.get("skipped", 0) for each in scene.messages}["first"] == 1


def test_a_latest_value_that_outlived_its_ttl_is_not_sent() -> None:
    scene = Scene()
    scene.outbox.block()
    scene.enqueue(publication("prices:x", 1, key="old", conflatable=True, expires_at=5.0))
    scene.enqueue(publication("prices:x", 2, key="new", conflatable=True, expires_at=50.0))

    scene.outbox.unblock(10.0)

    assert [each["key"] for each in scene.messages] == ["new"]
    assert scene.outbox.waiting_bytes == 0


def test_a_socket_that_fills_again_while_draining_gets_the_rest_later_in_order() -> None:
    scene = Scene(room=1_000)
    scene.outbox.block()
    for number in range(1, 301):
        scene.enqueue(publication("a:x", number, text="x" * 500))
    scene.enqueue(publication("prices:x", 1, conflatable=True))
    rounds = 0
    while scene.outbox.waiting_bytes > scene.socket.pending or scene.outbox.blocked:
        scene.socket.pending = 0
        scene.outbox.unblock(0.0)
        rounds += 1
        assert rounds < 100

    assert offsets(scene.messages) == list(range(1, 301))
    assert offsets(scene.messages, "prices:x") == [1]
    assert rounds > 1


def test_live_messages_that_come_while_the_queue_drains_stay_behind_it() -> None:
    scene = Scene(room=1_000)
    scene.listen("a:x")
    scene.outbox.block()
    for number in range(1, 301):
        scene.fanout.deliver(publication("a:x", number, text="x" * 500))
        scene.end_turn()
    number = 300
    while scene.outbox.blocked:
        scene.socket.pending = 0
        scene.outbox.unblock(0.0)
        number += 1
        scene.fanout.deliver(publication("a:x", number, text="x" * 500))
        scene.end_turn()

    assert offsets(scene.messages) == list(range(1, number + 1))


def test_a_reply_stays_behind_what_already_waits() -> None:
    scene = Scene()
    scene.outbox.block()
    scene.enqueue(publication("a:x", 1))
    scene.reply(1)
    scene.end_turn()
    scene.enqueue(publication("a:x", 2))

    scene.outbox.unblock(0.0)

    assert [each.get("offset", "reply") for each in scene.messages] == [1, "reply", 2]


def test_a_closed_outbox_takes_nothing_and_counts_nothing() -> None:
    scene = Scene()
    scene.outbox.close()
    scene.reply(1)
    scene.enqueue(publication("a:x", 1), publication("prices:x", 1, conflatable=True))
    scene.end_turn()
    scene.outbox.unblock(0.0)

    assert scene.messages == []
    assert scene.outbox.waiting_bytes == 0


CHANNELS = ("orders:a", "custom:b", "prices:c", "prices:d")
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from(CHANNELS), st.sampled_from(["", "k1", "k2"])),
        st.tuples(st.just("reply"), st.just(""), st.just("")),
        st.tuples(st.just("end turn"), st.just(""), st.just("")),
        st.tuples(st.just("block"), st.just(""), st.just("")),
        st.tuples(st.just("take"), st.just(""), st.just("")),
    ),
    max_size=120,
)


class Model:
    """What a client must have got in the end, whatever the socket did meanwhile."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = defaultdict(int)
        self.by_key: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.replies = 0

    def published(self, channel: str, key: str) -> Publication:
        self.offsets[channel] += 1
        offset = self.offsets[channel]
        self.by_key[channel, key].append(offset)
        return publication(channel, offset, key=key or None, conflatable=channel.startswith("prices"))

    def check(self, messages: list[Any]) -> None:
        replies = [each["id"] for each in messages if each["type"] == "reply"]
        assert replies == list(range(1, self.replies + 1))
        for channel in CHANNELS:
            got = [each for each in messages if each.get("channel") == channel]
            if not channel.startswith("prices"):
                assert [each["offset"] for each in got] == list(range(1, self.offsets[channel] + 1))
        for (channel, key), wanted in self.by_key.items():
            if channel.startswith("prices"):
                got = [each for each in messages if each.get("channel") == channel and each.get("key", "") == key]
                seen = [each["offset"] for each in got]
                assert seen == sorted(set(seen)), "a key went backwards"
                assert seen[-1] == wanted[-1], "the newest value did not arrive"
                assert len(got) + sum(each.get("skipped", 0) for each in got) == len(wanted), "skipped is wrong"


def play(actions: list[tuple[str, str, str]], room: int) -> None:
    scene, model = Scene(room=room), Model()
    scene.listen(*CHANNELS)
    for action, channel, key in actions:
        if action == "publish":
            scene.fanout.deliver(model.published(channel, key))
        elif action == "reply":
            model.replies += 1
            scene.reply(model.replies)
        elif action == "end turn":
            scene.end_turn()
        elif action == "block":
            scene.outbox.block()
        elif scene.outbox.blocked:
            scene.socket.pending = 0
            scene.outbox.unblock(0.0)
    scene.end_turn()
    while scene.outbox.blocked:
        scene.socket.pending = 0
        scene.outbox.unblock(0.0)
        scene.end_turn()
    assert scene.overflows == 0
    model.check(scene.messages)


@given(actions=ACTIONS, room=st.integers(60, 3_000))
@settings(max_examples=250, deadline=None)
def test_whatever_the_socket_does_nothing_is_lost_repeated_or_out_of_order(
    actions: list[tuple[str, str, str]], room: int
) -> None:
    play(actions, room)


@given(actions=ACTIONS, room=st.integers(60, 600), limit=st.integers(100, 2_000))
@settings(max_examples=150, deadline=None)
def test_an_outbox_that_overflows_has_delivered_a_prefix(
    actions: list[tuple[str, str, str]], room: int, limit: int
) -> None:
    scene, model = Scene(room=room, limit_bytes=limit), Model()
    scene.listen("orders:a", "custom:b")
    for action, channel, key in actions:
        if action == "publish" and not channel.startswith("prices"):
            scene.fanout.deliver(model.published(channel, key))
        elif action == "end turn":
            scene.end_turn()
        elif action == "take" and scene.outbox.blocked:
            scene.socket.pending = 0
            scene.outbox.unblock(0.0)
    scene.end_turn()

    assert scene.overflows <= 1
    for channel in ("orders:a", "custom:b"):
        got = offsets(scene.messages, channel)
        assert got == list(range(1, len(got) + 1))


def test_msgpack_and_json_subscribers_see_the_same_messages() -> None:
    turns = Turns()
    fanout = Fanout(turns)  # type: ignore[arg-type]
    sockets = [RecordingSocket(), RecordingSocket()]
    for socket, codec in zip(sockets, (JSON, MSGPACK), strict=True):
        listener = Listener(outbox(socket, touch=fanout.touch, codec=codec))
        fanout.add("a:x", listener)
        fanout.go_live("a:x", listener, "e1")
    for number in range(1, 4):
        fanout.deliver(publication("a:x", number, key="k", text='quote " and \\ and é'))
    turns.pass_time(1)

    assert sockets[0].messages() == sockets[1].messages()
    assert len(sockets[0].messages()) == 3
    assert isinstance(msgspec.json.encode(sockets[0].messages()), bytes)


def test_an_outbox_is_only_written_to_directly_while_it_is_ready() -> None:
    scene = Scene()
    scene.listen("a:x")
    scene.reply(1)
    assert not scene.outbox.ready

    scene.fanout.deliver(publication("a:x", 1))
    scene.end_turn()

    assert [each.get("offset", "reply") for each in scene.messages] == ["reply", 1]
    assert scene.outbox.ready


def test_a_thousand_outboxes_share_one_frame() -> None:
    turns = Turns()
    fanout = Fanout(turns)  # type: ignore[arg-type]
    sockets = [RecordingSocket() for _ in range(1_000)]
    for socket in sockets:
        listener = Listener(outbox(socket, touch=fanout.touch))
        fanout.add("a:x", listener)
        fanout.go_live("a:x", listener, "e1")

    fanout.deliver(publication("a:x", 1))
    turns.pass_time(1)

    assert len({id(socket.writes[0]) for socket in sockets}) == 1
    assert all(len(socket.writes) == 1 for socket in sockets)
