"""The way out: order per channel, one write per turn and reader, and nothing from before a newcomer's position."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from clock import ManualClock
from doubles import RecordingSocket, Turns, outbox, publication
from hypothesis import given
from hypothesis import strategies as st

from hub.channels.fanout import MAX_BUFFERED, Fanout, Listener
from hub.channels.shaping import Shaper
from hub.observe.delivery import DeliveryMeter
from hub.observe.metrics import OTHER
from protocol.messages import Filter


class Reader:
    """A client with a socket of its own."""

    def __init__(self, fanout: Fanout, room: int | None = None) -> None:
        self.fanout = fanout
        self.socket = RecordingSocket(room)
        self.outbox = outbox(self.socket, touch=fanout.touch)
        self.listeners: dict[str, Listener] = {}

    def join(self, channel: str, shaper: Shaper | None = None, *, live: bool = True) -> None:
        listener = self.listeners[channel] = Listener(self.outbox, shaper)
        self.fanout.add(channel, listener)
        if live:
            self.fanout.go_live(channel, listener, "e1")

    def leave(self, channel: str) -> bool:
        return self.fanout.remove(channel, self.listeners.pop(channel))

    def shaped(
        self, turns: Turns, channel: str, *, wanted: Filter | None = None, max_rate: float | None = None
    ) -> None:
        emit = self.outbox.push_publication
        self.join(channel, Shaper(emit, loop=turns, wanted=wanted, max_rate=max_rate))  # type: ignore[arg-type]

    def offsets(self, channel: str = "a:x") -> list[int]:
        return [each["offset"] for each in self.socket.messages() if each["channel"] == channel]


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
def fanout(turns: Turns) -> Fanout:
    return Fanout(turns)  # type: ignore[arg-type]  # a loop as far as the fan-out needs one


def test_what_arrives_within_one_turn_is_one_write(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.join("a:x")
    for number in range(1, 11):
        fanout.deliver(publication("a:x", number))
    turns.pass_time(1)

    assert reader.offsets() == list(range(1, 11))
    assert len(reader.socket.writes) == 1


def test_fifty_busy_channels_are_one_write_per_reader_and_turn(fanout: Fanout, turns: Turns) -> None:
    readers = [Reader(fanout) for _ in range(20)]
    channels = [f"a:{number}" for number in range(50)]
    for reader in readers:
        for channel in channels:
            reader.join(channel)
    for offset in (1, 2, 3):
        for channel in channels:
            fanout.deliver(publication(channel, offset))
        turns.pass_time(1)

    for reader in readers:
        assert len(reader.socket.writes) == 3
        for channel in channels:
            assert reader.offsets(channel) == [1, 2, 3]
    assert fanout.delivered == 20 * 50 * 3


def test_a_message_that_comes_during_a_round_reaches_those_whose_turn_is_yet_to_come_in_that_round(
    turns: Turns,
) -> None:
    fanout = Fanout(turns, slice_writes=2)  # type: ignore[arg-type]
    readers = [Reader(fanout) for _ in range(5)]
    for reader in readers:
        reader.join("a:x")
    fanout.deliver(publication("a:x", 1))
    turns.once()
    assert [len(reader.socket.writes) for reader in readers] == [1, 1, 0, 0, 0]
    fanout.deliver(publication("a:x", 2))
    turns.pass_time(1)
    turns.pass_time(1)  # after a round that carried more than one message there is a pause

    assert [reader.offsets() for reader in readers] == [[1, 2]] * 5
    assert [len(reader.socket.writes) for reader in readers] == [2, 2, 1, 1, 1]


def test_a_reader_that_leaves_during_a_round_still_gets_what_came_before(turns: Turns) -> None:
    fanout = Fanout(turns, slice_writes=2)  # type: ignore[arg-type]
    readers = [Reader(fanout) for _ in range(5)]
    for reader in readers:
        reader.join("a:x")
    fanout.deliver(publication("a:x", 1))
    turns.once()
    readers[4].leave("a:x")
    fanout.deliver(publication("a:x", 2))
    turns.pass_time(1)

    assert readers[4].offsets() == [1]
    assert [reader.offsets() for reader in readers[:4]] == [[1, 2]] * 4


# How often each happens: mostly traffic, so that rounds are under way when something else does.
STEPS = {"deliver": 12, "turn": 12, "other": 1, "join": 1, "leave": 1, "block": 1, "unblock": 1, "push": 2}


@given(chance=st.randoms(use_true_random=False), slice_writes=st.integers(1, 4))
def test_whatever_happens_between_slices_everyone_gets_each_message_once_and_in_order(
    chance: Random, slice_writes: int
) -> None:
    turns = Turns()
    fanout = Fanout(turns, slice_writes=slice_writes)  # type: ignore[arg-type]
    readers = [Reader(fanout) for _ in range(7)]
    published = {"a:x": 0, "a:y": 0}
    due: list[dict[str, list[int]]] = [{"a:x": [], "a:y": []} for _ in readers]
    for reader in readers:
        reader.join("a:x")
    for step in chance.choices([*STEPS], weights=[*STEPS.values()], k=200):
        reader = chance.choice(readers)
        channel = chance.choice(["a:x", "a:y"])
        match step:
            case "deliver" | "other":
                channel = "a:x" if step == "deliver" else "a:y"
                published[channel] += 1
                fanout.deliver(publication(channel, published[channel]))
                for each, owed in zip(readers, due, strict=True):
                    if channel in each.listeners:
                        owed[channel].append(published[channel])
            case "turn":
                turns.now += 0.002
                turns.once()
            case "join" if channel not in reader.listeners:
                reader.join(channel)
            case "leave" if channel in reader.listeners:
                reader.leave(channel)
            case "block":
                reader.outbox.block()
            case "unblock":
                reader.outbox.unblock(turns.now)
            case "push":
                reader.outbox.push(b'{"type":"reply","channel":"","offset":0}')
    for reader in readers:
        reader.outbox.unblock(turns.now)
    turns.pass_time(1)
    turns.pass_time(1)

    assert [{channel: reader.offsets(channel) for channel in published} for reader in readers] == due


def test_messages_that_come_during_the_pause_after_a_flush_are_neither_lost_nor_reordered(
    fanout: Fanout, turns: Turns
) -> None:
    reader = Reader(fanout)
    reader.join("a:x")
    for number in range(1, 101):
        fanout.deliver(publication("a:x", number))
        if number % 7 == 0:
            turns.end()  # without time passing: the pause, if any, is not over
    turns.pass_time(1)

    assert reader.offsets() == list(range(1, 101))


def test_a_newcomer_gets_nothing_older_than_its_position(fanout: Fanout, turns: Turns) -> None:
    old, new = Reader(fanout), Reader(fanout)
    old.join("a:x")
    fanout.deliver(publication("a:x", 1))  # in this very turn, before the newcomer
    new.join("a:x")
    fanout.deliver(publication("a:x", 2))
    turns.pass_time(1)

    assert old.offsets() == [1, 2]
    assert new.offsets() == [2]


def test_what_comes_while_a_newcomer_is_recovered_is_kept_for_it(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.join("a:x", live=False)
    for number in range(1, 4):
        fanout.deliver(publication("a:x", number))
        turns.pass_time(1)
    fanout.deliver(publication("a:x", 4))

    buffered = fanout.go_live("a:x", reader.listeners["a:x"], "e1")
    fanout.deliver(publication("a:x", 5))
    turns.pass_time(1)

    assert [each.offset for each in buffered] == [1, 2, 3, 4]
    assert reader.offsets() == [5]


def test_the_buffer_of_a_recovery_that_takes_for_ever_is_bounded_and_keeps_the_newest(
    fanout: Fanout, turns: Turns
) -> None:
    reader = Reader(fanout)
    reader.join("a:x", live=False)
    for number in range(1, MAX_BUFFERED + 101):
        fanout.deliver(publication("a:x", number))
        if number % 1000 == 0:
            turns.pass_time(1)

    buffered = fanout.go_live("a:x", reader.listeners["a:x"], "e1")

    assert len(buffered) == MAX_BUFFERED
    assert buffered[-1].offset == MAX_BUFFERED + 100


def test_who_leaves_in_the_middle_of_a_turn_gets_what_came_before_and_nothing_after(
    fanout: Fanout, turns: Turns
) -> None:
    leaver, stayer = Reader(fanout), Reader(fanout)
    leaver.join("a:x")
    stayer.join("a:x")
    fanout.deliver(publication("a:x", 1))
    assert leaver.leave("a:x") is False
    fanout.deliver(publication("a:x", 2))
    turns.pass_time(1)

    assert leaver.offsets() == [1]
    assert stayer.offsets() == [1, 2]


def test_leaving_and_joining_again_within_one_turn_keeps_order_without_repeats(fanout: Fanout, turns: Turns) -> None:
    reader, stayer = Reader(fanout), Reader(fanout)
    reader.join("a:x")
    stayer.join("a:x")
    for number in range(1, 10):
        fanout.deliver(publication("a:x", number))
        if number % 3 == 0:
            reader.leave("a:x")
            reader.join("a:x")
    turns.pass_time(1)

    assert reader.offsets() == list(range(1, 10))
    assert stayer.offsets() == list(range(1, 10))


def test_the_last_listener_is_told_apart(fanout: Fanout) -> None:
    one, two = Reader(fanout), Reader(fanout)

    one.join("a:x")
    two.join("a:x")
    assert one.leave("a:x") is False
    assert two.leave("a:x") is True
    assert fanout.channels() == []
    assert fanout.listeners("a:x") == 0


def test_a_channel_nobody_listens_to_costs_nothing(fanout: Fanout, turns: Turns) -> None:
    fanout.deliver(publication("a:x", 1))
    turns.pass_time(1)

    assert fanout.delivered == 0


def test_the_last_listener_leaving_in_the_middle_of_a_turn_does_not_break_the_flush(
    fanout: Fanout, turns: Turns
) -> None:
    reader, other = Reader(fanout), Reader(fanout)
    reader.join("a:x")
    other.join("a:y")
    fanout.deliver(publication("a:x", 1))
    fanout.deliver(publication("a:y", 1))
    reader.leave("a:x")
    turns.pass_time(1)

    assert reader.offsets() == [1]
    assert other.offsets("a:y") == [1]


def test_one_blocked_reader_does_not_hold_up_the_others(fanout: Fanout, turns: Turns) -> None:
    slow, quick = Reader(fanout, room=50), Reader(fanout)
    slow.join("a:x")
    quick.join("a:x")
    for number in range(1, 21):
        fanout.deliver(publication("a:x", number))
        turns.pass_time(1)

    assert quick.offsets() == list(range(1, 21))
    assert len(slow.socket.writes) == 1
    slow.socket.room = None
    slow.outbox.unblock(0.0)
    assert slow.offsets() == list(range(1, 21))


def test_a_new_epoch_is_announced_from_then_on_to_those_who_listen(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.join("a:x")
    fanout.deliver(publication("a:x", 7, epoch="e1"))
    fanout.deliver(publication("a:x", 1, epoch="e2"))
    fanout.deliver(publication("a:x", 2, epoch="e2"))
    turns.pass_time(1)

    assert [each.get("epoch") for each in reader.socket.messages()] == [None, "e2", "e2"]


def test_a_filter_lets_only_the_wanted_keys_and_types_pass(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "a:x", wanted=Filter(keys=["k1"], types=["NOTE"]))
    fanout.deliver(publication("a:x", 1, key="k1"))
    fanout.deliver(publication("a:x", 2, key="k2"))
    fanout.deliver(publication("a:x", 3))
    fanout.deliver(publication("a:x", 4, key="k1", type="OTHER"))
    fanout.deliver(publication("a:x", 5, key="k1"))
    turns.pass_time(1)

    assert reader.offsets() == [1, 5]


def test_a_limited_rate_sends_the_newest_and_says_what_it_skipped(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "prices:x", max_rate=2)
    for number in range(1, 11):
        fanout.deliver(publication("prices:x", number, key="k", conflatable=True))
        turns.pass_time(0.1)
    turns.pass_time(1.0)
    got = [(each["offset"], each.get("skipped", 0)) for each in reader.socket.messages()]

    assert got[0] == (1, 0)
    assert got[-1][0] == 10
    assert len(got) <= 4
    assert len(got) + sum(skipped for _, skipped in got) == 10


def test_each_key_has_a_rate_of_its_own(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "prices:x", max_rate=1)
    fanout.deliver(publication("prices:x", 1, key="k1", conflatable=True))
    fanout.deliver(publication("prices:x", 2, key="k2", conflatable=True))
    turns.end()

    assert reader.offsets("prices:x") == [1, 2]


def test_a_shaped_reader_that_leaves_gets_nothing_that_was_held_back(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "prices:x", max_rate=1)
    fanout.deliver(publication("prices:x", 1, key="k", conflatable=True))
    turns.pass_time(0.1)
    fanout.deliver(publication("prices:x", 2, key="k", conflatable=True))
    turns.pass_time(0.1)
    reader.leave("prices:x")
    turns.pass_time(10)

    assert reader.offsets("prices:x") == [1]


def test_a_shaped_and_blocked_reader_gets_the_newest_value_with_every_skip_counted(
    fanout: Fanout, turns: Turns
) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "prices:x", max_rate=5)
    reader.outbox.block()
    for number in range(1, 21):
        fanout.deliver(publication("prices:x", number, key="k", conflatable=True))
        turns.pass_time(0.05)
    turns.pass_time(1.0)
    reader.outbox.unblock(0.0)
    got: list[Any] = reader.socket.messages()

    assert [each["offset"] for each in got] == [20]
    assert got[0]["skipped"] == 19


def test_a_value_held_back_by_the_rate_is_not_sent_after_its_ttl(fanout: Fanout, turns: Turns) -> None:
    reader = Reader(fanout)
    reader.shaped(turns, "prices:x", max_rate=0.1)
    fanout.deliver(publication("prices:x", 1, key="k", conflatable=True))
    fanout.deliver(publication("prices:x", 2, key="k", conflatable=True, expires_at=1.0))
    turns.pass_time(20)

    assert reader.offsets("prices:x") == [1]


def test_every_delivery_is_measured_once_whichever_way_it_goes(turns: Turns) -> None:
    clock = ManualClock()
    meter = DeliveryMeter(clock=clock)
    fanout = Fanout(turns, written=meter.written, slice_writes=2)  # type: ignore[arg-type]
    readers = [Reader(fanout) for _ in range(5)]
    for reader in readers:
        reader.join("a:x")
    readers[0].join("a:y")
    published = [publication("a:x", 1), publication("a:x", 2), publication("a:y", 1)]
    for each in published:
        each.timestamp = clock.now_ms()
        fanout.deliver(each)  # of two channels: through the outboxes
    clock.advance(0.03)
    turns.end()
    fanout.deliver(alone := publication("a:x", 3))  # of one channel: slice by slice
    alone.timestamp = clock.now_ms()
    turns.end()
    assert meter.latency.count == fanout.delivered == 16
    assert meter.latency.above(20) == 11
    assert meter.types.counts == {OTHER: 16}, "a type that somebody made up"
