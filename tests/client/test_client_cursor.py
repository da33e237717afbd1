"""The rule by which messages are applied: each once, in order, and nothing lost without a word.

A small hub and an unreliable way to the client are driven by hypothesis; the client is a real Feed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hub.client.cursor import Cursor, Verdict
from hub.client.subscription import Feed, Lost
from hub.client.wire import Incoming, Joined, Message
from protocol.messages import SubscribeOptions
from protocol.positions import Position

CHANNEL = "custom:a"


def incoming(offset: int, key: str | None = None, epoch: str | None = None, skipped: int = 0) -> Incoming:
    return Incoming(type="NOTE", channel=CHANNEL, offset=offset, key=key, epoch=epoch, skipped=skipped)


def new_feed(told: list[Any], **options: Any) -> Feed:
    return Feed(
        CHANNEL,
        SubscribeOptions(**options),
        capacity=1_000_000,
        on_lost=told.append,
        on_presence=None,
        crowd=set(),
        on_room=lambda: None,
    )


def read_all(feed: Feed, told: list[Any]) -> list[Message | Lost]:
    """What the application sees, in order: messages, and losses where it is told of them."""

    async def read() -> None:
        try:
            while True:
                told.append(await feed.next())
        except StopAsyncIteration:
            pass

    feed.end()
    asyncio.run(read())
    return told


class CountingHub:
    """A recoverable channel: keeps the newest `kept` messages of the present epoch."""

    def __init__(self, feed: Feed, kept: int) -> None:
        self.feed = feed
        self.kept = kept
        self.generation = 1
        self.offset = 0
        self.wire: list[Incoming] = []
        self.join()

    @property
    def epoch(self) -> str:
        return f"e{self.generation}"

    def publish(self) -> None:
        self.offset += 1
        self.wire.append(incoming(self.offset))

    def arrive(self, message: Incoming) -> None:
        if not self.feed.take(message):
            self.join()

    def join(self) -> None:
        """Subscribe from where the client stands. What is still on the wire may come later all the same."""
        recover = self.feed.options.recover
        if recover is None:
            complete, reason, since = False, "not_requested", self.offset
        elif recover.epoch != self.epoch:
            complete, reason, since = False, "epoch_changed", self.offset
        elif self.offset - recover.offset > self.kept:
            complete, reason, since = False, "offset_too_old", self.offset
        else:
            complete, reason, since = True, None, recover.offset
        self.feed.join(
            Joined(
                epoch=self.epoch,
                offset=self.offset,
                recovered=complete,
                reason=reason,
                messages=[incoming(offset) for offset in range(since + 1, self.offset + 1)],
            )
        )

    def reconnect(self) -> None:
        self.wire.clear()
        self.join()

    def change_epoch(self) -> None:
        """The next message says so; it cannot overtake what was sent on the same connection before it."""
        self.wire.clear()
        self.generation += 1
        self.offset = 1
        self.arrive(incoming(1, epoch=self.epoch))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.just(0)),
        st.tuples(st.sampled_from(["deliver", "drop", "repeat"]), st.integers(0, 5)),
        st.tuples(st.sampled_from(["reconnect", "change_epoch"]), st.just(0)),
    ),
    max_size=60,
)


def play(hub: CountingHub, script: list[tuple[str, int]]) -> None:
    for step, place in script:
        match step:
            case "deliver" | "drop" | "repeat":
                if hub.wire:
                    index = place % len(hub.wire)  # not always the first: messages overtake each other
                    message = hub.wire[index] if step == "repeat" else hub.wire.pop(index)
                    if step != "drop":
                        hub.arrive(message)
            case _:
                getattr(hub, step)()
    hub.reconnect()


@given(steps)
@settings(max_examples=300)
def test_with_history_enough_each_message_comes_once_and_in_order(script: list[tuple[str, int]]) -> None:
    told: list[Any] = []
    hub = CountingHub(new_feed(told), kept=10_000)

    play(hub, [step for step in script if step[0] != "change_epoch"])

    assert [each.offset for each in read_all(hub.feed, told)] == list(range(1, hub.offset + 1))


@given(steps, st.integers(0, 3))
@settings(max_examples=300)
def test_every_hole_is_told_in_its_place(script: list[tuple[str, int]], kept: int) -> None:
    told: list[Any] = []
    hub = CountingHub(new_feed(told), kept=kept)

    play(hub, script)

    at = Position("e1", 0)
    for each in read_all(hub.feed, told):
        if isinstance(each, Lost):
            assert each.since == at
            assert each.resumed_at.epoch != at.epoch or each.resumed_at.offset > at.offset + kept
            at = each.resumed_at
        else:
            assert each.position == Position(at.epoch, at.offset + 1)
            at = each.position
    assert at == Position(hub.epoch, hub.offset)


class LatestHub:
    """A channel of the newest values by key, to a client that is slow: values of one key are merged on their way."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.offset = 0
        self.latest: dict[str, int] = {}
        self.wire: list[Incoming] = []
        self.join()

    def publish(self, key: str, merge: bool) -> None:
        self.offset += 1
        self.latest[key] = self.offset
        waiting = next((index for index, each in enumerate(self.wire) if each.key == key), None)
        if merge and waiting is not None:  # takes the place of the older one, before other keys' older values
            self.wire[waiting] = incoming(self.offset, key, skipped=1)
        else:
            self.wire.append(incoming(self.offset, key))

    def deliver(self, place: int, again: bool) -> None:
        """Keys overtake each other, values of one key do not."""
        first_of_key = {each.key: each for each in reversed(self.wire)}
        if not first_of_key:
            return
        message = list(first_of_key.values())[place % len(first_of_key)]
        if not again:
            self.wire.remove(message)
        assert self.feed.take(message), "a latest channel has no gaps"

    def join(self) -> None:
        recover = self.feed.options.recover
        complete = recover is not None and recover.offset == self.offset
        snapshot = [] if complete else [incoming(offset, key) for key, offset in self.latest.items()]
        self.wire.clear()
        self.feed.join(Joined(epoch="e1", offset=self.offset, promise="latest", recovered=complete, messages=snapshot))


latest_steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("abc"), st.booleans()),
        st.tuples(st.just("deliver"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("join")),
    ),
    max_size=60,
)


@given(latest_steps)
@settings(max_examples=300)
def test_a_latest_channel_brings_the_newest_value_of_each_key_never_an_older_one(script: list[Any]) -> None:
    told: list[Any] = []
    hub = LatestHub(new_feed(told))

    for step, *arguments in script:
        getattr(hub, step)(*arguments)
    hub.join()

    seen: defaultdict[str, list[int]] = defaultdict(list)
    for each in read_all(hub.feed, told):
        assert isinstance(each, Message), "a latest channel loses nothing it promised"
        seen[each.key or ""].append(each.offset)
    for offsets in seen.values():
        assert offsets == sorted(set(offsets))
    assert {key: offsets[-1] for key, offsets in seen.items()} == hub.latest


def test_a_filtered_subscription_sees_holes_that_are_no_gaps() -> None:
    cursor = Cursor(sparse=True)
    cursor.join("e1", 3, [], latest=False, recovered=False)
    assert [cursor.take(offset) for offset in (7, 7, 5, 9)] == [
        Verdict.APPLY,
        Verdict.REPEAT,
        Verdict.REPEAT,
        Verdict.APPLY,
    ]
    assert cursor.position == Position("e1", 9)


def test_holes_within_a_recovered_answer_are_the_hubs_to_explain() -> None:
    cursor = Cursor(Position("e1", 3))
    fresh = cursor.join("e1", 9, [incoming(5), incoming(8)], latest=False, recovered=True)  # 4, 6, 7 and 9 have expired
    assert [each.offset for each in fresh] == [5, 8]
    assert cursor.take(10) is Verdict.APPLY


def test_a_snapshot_comes_in_order_of_offsets() -> None:
    snapshot = [incoming(9, "a"), incoming(2, "b"), incoming(7, "c")]
    fresh = Cursor().join("e1", 9, snapshot, latest=True, recovered=False)
    assert [each.offset for each in fresh] == [2, 7, 9]


def test_what_a_long_snapshot_brings_after_its_reply_counts_too() -> None:
    cursor = Cursor()
    cursor.join("e1", 9, [incoming(9, "a")], latest=True, recovered=False)
    assert [cursor.take(offset, key) for offset, key in ((2, "b"), (9, "a"), (10, "a"))] == [
        Verdict.APPLY,
        Verdict.REPEAT,
        Verdict.APPLY,
    ]


def test_what_a_result_brought_is_not_taken_again_whatever_position_it_names() -> None:
    cursor = Cursor(Position("e1", 3))
    cursor.join("e1", 5, [incoming(offset) for offset in (4, 5, 6, 7)], latest=False, recovered=True)
    assert [cursor.take(offset) for offset in (6, 7, 8)] == [Verdict.REPEAT, Verdict.REPEAT, Verdict.APPLY]


def test_a_position_beyond_the_newest_message_belongs_to_another_history() -> None:
    told: list[Any] = []
    feed = new_feed(told, recover=Position("e1", 10))
    feed.join(Joined(epoch="e1", offset=8, recovered=False, reason="epoch_changed"))
    assert feed.take(incoming(9))
    lost, message = read_all(feed, told)
    assert lost == Lost(CHANNEL, "epoch_changed", since=Position("e1", 10), resumed_at=Position("e1", 8))
    assert isinstance(message, Message)
    assert message.offset == 9
