"""The checker against synthetic histories: each anomaly planted is found, and a clean history is clean."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.faults import checker
from benchmarks.faults.checker import check
from benchmarks.faults.history import (
    Attempt,
    Delivery,
    Fault,
    History,
    Incident,
    Joined,
    Outcome,
    Poll,
    Stored,
    Wire,
    load,
)
from benchmarks.faults.nemesis import QUIET_END_S, QUIET_START_S, plan

DURABLE, RECOVERABLE, LATEST = "team:a", "custom:a", "prices:A"
PROMISES = {DURABLE: "durable", RECOVERABLE: "recoverable", LATEST: "latest"}


def clean_history(*, messages: int = 6, subscribers: int = 2, seed: int = 0, with_refusals: bool = True) -> History:
    """What a correct hub leaves behind: retries with unknown outcomes, refused messages, resumptions, a lost Redis."""
    dice = random.Random(seed)
    history = History(dict(PROMISES))  # type: ignore[arg-type]
    names = [f"s{number}" for number in range(subscribers)]
    epochs = dict.fromkeys(PROMISES, "e1")
    tops = dict.fromkeys(PROMISES, 0)
    for name in names:
        history.polls += [Joined(0.0, name, channel, "e1", 0, "not_requested") for channel in PROMISES]
    for number in range(messages):
        for channel in PROMISES:
            now = 1.0 + number
            key = f"{channel}-{number}"
            slot = f"slot-{number % 2}" if channel == LATEST else ""
            if channel != DURABLE and number == messages // 2:
                epochs[channel], tops[channel] = "e2", 0
                history.polls += [Joined(now, name, channel, "e2", 0, "epoch_changed") for name in names]
            if with_refusals and channel != LATEST and dice.random() < 0.3:
                history.attempts.append(Attempt(now, f"{key}-no", channel))
                history.outcomes.append(Outcome(now, f"{key}-no", channel, "refused", error="not_available"))
            if channel != LATEST and dice.random() < 0.3:
                history.attempts.append(Attempt(now, key, channel))
                history.outcomes.append(Outcome(now, key, channel, "unknown", error="lost"))
            tops[channel] += 1
            history.attempts.append(Attempt(now, key, channel, slot))
            history.outcomes.append(Outcome(now + 0.1, key, channel, "ack", epochs[channel], tops[channel]))
            for name in names:
                history.polls.append(Delivery(now + 0.2, name, channel, epochs[channel], tops[channel], key, slot))
            if channel == DURABLE:
                history.stored.append(Stored(channel, "e1", tops[channel], key))
    history.heads = {channel: (epochs[channel], tops[channel]) for channel in PROMISES}
    history.faults.append(Fault(1.0 + messages // 2 - 0.5, 1.0 + messages // 2, "redis empty", "redis"))
    return history


def anomalies(history: History) -> set[str]:
    return {violation.anomaly for violation in check(history)}


def deliveries(history: History, channel: str, subscriber: str = "s0") -> list[int]:
    """Where in `polls` this subscriber's deliveries stand."""
    return [
        index
        for index, poll in enumerate(history.polls)
        if isinstance(poll, Delivery) and (poll.channel, poll.subscriber) == (channel, subscriber)
    ]


def edit(history: History, index: int, **changes: object) -> None:
    poll: Poll = history.polls[index]
    history.polls[index] = poll._replace(**changes)  # type: ignore[arg-type]


# Each plants one anomaly in a clean history.


def forget_an_acknowledged_message(history: History) -> None:
    del history.stored[-1]


def deliver_a_message_again(history: History) -> None:
    history.polls.append(history.polls[deliveries(history, DURABLE)[-1]])


def deliver_one_message_at_two_places(history: History) -> None:
    first, second = deliveries(history, DURABLE)[:2]
    edit(history, second, key=history.polls[first].key)  # type: ignore[union-attr]


def acknowledge_one_message_at_two_places(history: History) -> None:
    last = history.outcomes[-1]
    history.outcomes.append(last._replace(offset=last.offset + 1))


def go_back(history: History) -> None:
    first, second = deliveries(history, DURABLE)[:2]
    history.polls[first], history.polls[second] = history.polls[second], history.polls[first]


def go_back_at_a_join(history: History) -> None:
    at = deliveries(history, DURABLE)[-1] + 1
    history.polls.insert(at, Joined(9.0, "s0", DURABLE, "e1", 1, "epoch_changed"))


def skip_a_durable_message(history: History) -> None:
    del history.polls[deliveries(history, DURABLE)[2]]


def skip_a_durable_message_loudly(history: History) -> None:
    at = deliveries(history, DURABLE)[2]
    history.polls[at] = Joined(4.0, "s0", DURABLE, "e1", 3, "limit_exceeded")


def skip_a_recoverable_message(history: History) -> None:
    del history.polls[deliveries(history, RECOVERABLE)[1]]


def send_a_gap(history: History) -> None:
    history.polls.append(Wire(9.0, "s0", DURABLE, "e1", 7, 9))


def send_a_repeat(history: History) -> None:
    history.polls.append(Wire(9.0, "s0", DURABLE, "e1", 7, 5))


def change_a_durable_epoch(history: History) -> None:
    history.polls.append(Joined(9.0, "s0", DURABLE, "e2", 6, "epoch_changed"))


def change_an_epoch_before_anything_was_lost(history: History) -> None:
    history.polls.insert(3, Joined(0.5, "s0", RECOVERABLE, "e9", 0, "epoch_changed"))


def put_two_messages_at_one_place(history: History) -> None:
    edit(history, deliveries(history, DURABLE)[0], key=f"{DURABLE}-1")


def keep_a_message_from_one_subscriber(history: History) -> None:
    del history.polls[deliveries(history, DURABLE)[-1]]


def keep_a_recoverable_message_from_one_subscriber(history: History) -> None:
    del history.polls[deliveries(history, RECOVERABLE)[-1]]


def leave_a_subscriber_in_an_old_epoch(history: History) -> None:
    history.heads[RECOVERABLE] = ("e3", 1)
    history.attempts.append(Attempt(9.0, "new", RECOVERABLE))
    history.outcomes.append(Outcome(9.0, "new", RECOVERABLE, "ack", "e3", 1))


def deliver_what_was_refused(history: History) -> None:
    history.attempts.append(Attempt(9.0, "no", DURABLE))
    history.outcomes.append(Outcome(9.0, "no", DURABLE, "refused", error="not_available"))
    history.polls.append(Delivery(9.0, "s0", DURABLE, "e1", 7, "no"))


def store_what_was_refused(history: History) -> None:
    history.attempts.append(Attempt(9.0, "no", DURABLE))
    history.outcomes.append(Outcome(9.0, "no", DURABLE, "refused", error="not_available"))
    history.stored.append(Stored(DURABLE, "e1", 7, "no"))


def deliver_what_nobody_sent(history: History) -> None:
    history.polls.append(Delivery(9.0, "s0", RECOVERABLE, "e2", 4, "from nowhere"))


def deliver_what_was_never_committed(history: History) -> None:
    history.attempts.append(Attempt(9.0, "gone", DURABLE))
    history.outcomes.append(Outcome(9.0, "gone", DURABLE, "unknown", error="lost"))
    history.polls.append(Delivery(9.0, "s0", DURABLE, "e1", 7, "gone"))


def show_an_older_value_after_a_newer_one(history: History) -> None:
    first, _, third = deliveries(history, LATEST)[-3:]
    history.polls[first], history.polls[third] = history.polls[third], history.polls[first]


def send_values_backwards(history: History) -> None:
    history.polls.append(Wire(9.0, "s0", LATEST, "e2", 4, 2))


def leave_a_subscriber_with_an_old_value(history: History) -> None:
    del history.polls[deliveries(history, LATEST)[-1]]


def let_a_node_die(history: History) -> None:
    history.incidents.append(Incident(1.0, "node-died", "node0"))


PLANTED: list[tuple[Callable[[History], None], str]] = [
    (forget_an_acknowledged_message, "lost-write"),
    (deliver_a_message_again, "duplicate"),
    (deliver_one_message_at_two_places, "duplicate"),
    (acknowledge_one_message_at_two_places, "duplicate"),
    (go_back, "nonmonotonic-poll"),
    (go_back_at_a_join, "nonmonotonic-poll"),
    (skip_a_durable_message, "poll-skip"),
    (skip_a_durable_message_loudly, "poll-skip"),
    (skip_a_recoverable_message, "silent-hole"),
    (send_a_gap, "poll-skip"),
    (send_a_repeat, "nonmonotonic-poll"),
    (change_a_durable_epoch, "needless-reset"),
    (change_an_epoch_before_anything_was_lost, "needless-reset"),
    (put_two_messages_at_one_place, "inconsistent-offsets"),
    (keep_a_message_from_one_subscriber, "unseen"),
    (keep_a_recoverable_message_from_one_subscriber, "unseen"),
    (leave_a_subscriber_in_an_old_epoch, "unseen"),
    (deliver_what_was_refused, "phantom"),
    (store_what_was_refused, "phantom"),
    (deliver_what_nobody_sent, "phantom"),
    (deliver_what_was_never_committed, "phantom"),
    (show_an_older_value_after_a_newer_one, "backwards"),
    (send_values_backwards, "backwards"),
    (leave_a_subscriber_with_an_old_value, "stale"),
    (let_a_node_die, "node-died"),
]


@pytest.mark.parametrize(("plant", "anomaly"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_anomaly_is_found(plant: Callable[[History], None], anomaly: str) -> None:
    history = clean_history()
    plant(history)
    assert anomaly in anomalies(history)


@given(
    seed=st.integers(0, 10_000),
    messages=st.integers(1, 30),
    subscribers=st.integers(1, 4),
)
def test_a_clean_history_is_clean(seed: int, messages: int, subscribers: int) -> None:
    assert check(clean_history(seed=seed, messages=messages, subscribers=subscribers)) == []


@given(seed=st.integers(0, 10_000), messages=st.integers(2, 30), data=st.data())
def test_any_durable_message_missing_in_the_log_is_found(seed: int, messages: int, data: st.DataObject) -> None:
    history = clean_history(seed=seed, messages=messages)
    del history.stored[data.draw(st.integers(0, messages - 1))]
    assert "lost-write" in anomalies(history)


@given(seed=st.integers(0, 10_000), messages=st.integers(1, 30), data=st.data())
def test_any_delivery_left_out_is_found(seed: int, messages: int, data: st.DataObject) -> None:
    history = clean_history(seed=seed, messages=messages)
    channel = data.draw(st.sampled_from([DURABLE, RECOVERABLE]))
    left_out = data.draw(st.sampled_from(deliveries(history, channel)))
    last_of_a_lost_epoch = history.polls[left_out].epoch != history.heads[channel][0] and (
        history.polls[left_out].offset == messages // 2
    )
    del history.polls[left_out]
    found = anomalies(history)
    # The end of an epoch that Redis lost is the one thing the recoverable class may lose; it is announced.
    assert found & {"unseen", "poll-skip", "silent-hole"} or last_of_a_lost_epoch


@given(seed=st.integers(0, 10_000), messages=st.integers(1, 30), data=st.data())
def test_any_repeated_delivery_is_found(seed: int, messages: int, data: st.DataObject) -> None:
    history = clean_history(seed=seed, messages=messages)
    channel = data.draw(st.sampled_from([DURABLE, RECOVERABLE]))
    source = data.draw(st.sampled_from(deliveries(history, channel)))
    place = data.draw(st.integers(source, len(history.polls)))
    history.polls.insert(place, history.polls[source])
    assert "duplicate" in anomalies(history)


@given(seed=st.integers(0, 10_000), messages=st.integers(2, 30), data=st.data())
def test_any_two_deliveries_exchanged_are_found(seed: int, messages: int, data: st.DataObject) -> None:
    history = clean_history(seed=seed, messages=messages)
    places = deliveries(history, DURABLE)
    one = data.draw(st.sampled_from(places[:-1]))
    other = data.draw(st.sampled_from([place for place in places if place > one]))
    history.polls[one], history.polls[other] = history.polls[other], history.polls[one]
    assert "nonmonotonic-poll" in anomalies(history)


def test_a_message_acknowledged_before_the_database_was_restored_may_be_gone() -> None:
    history = clean_history()
    del history.stored[-1]
    history.faults.append(Fault(50.0, 60.0, checker.RESTORED, "postgres"))
    assert "lost-write" not in anomalies(history)


def test_a_refused_message_that_was_tried_again_with_an_unknown_outcome_is_no_phantom() -> None:
    history = clean_history()
    history.attempts += [Attempt(9.0, "maybe", DURABLE), Attempt(9.1, "maybe", DURABLE)]
    history.outcomes += [
        Outcome(9.0, "maybe", DURABLE, "unknown", error="lost"),
        Outcome(9.1, "maybe", DURABLE, "refused", error="not_available"),
    ]
    history.stored.append(Stored(DURABLE, "e1", 7, "maybe"))
    history.polls += [Delivery(9.2, name, DURABLE, "e1", 7, "maybe") for name in ("s0", "s1")]
    assert check(history) == []


def test_time_without_service_is_the_longest_silence_around_a_fault() -> None:
    history = History({DURABLE: "durable"})
    history.outcomes = [
        Outcome(time, str(time), DURABLE, "ack", "e", number)
        for number, time in enumerate([1.0, 2.0, 2.1, 4.6, 4.7, 5.1, 9.0], start=1)
    ]
    history.faults = [Fault(2.2, 3.0, "node killed", "node0")]
    (outage,) = checker.outages(history, ["durable"])
    assert outage.silence_s == pytest.approx(2.5)


def test_faults_close_to_each_other_are_not_timed() -> None:
    history = History({DURABLE: "durable"})
    history.faults = [Fault(2.0, 3.0, "node killed", "node0"), Fault(4.0, 5.0, "redis empty", "redis")]
    assert checker.outages(history, ["durable"]) == []


def test_a_history_is_judged_the_same_after_it_was_saved_and_loaded(tmp_path: Path) -> None:
    history = clean_history()
    deliver_a_message_again(history)
    skip_a_recoverable_message(history)
    history.save(tmp_path / "history.jsonl")
    assert check(load(tmp_path / "history.jsonl")) == check(history) != []


@given(
    seconds=st.floats(10, 600),
    counts=st.dictionaries(st.sampled_from(["node-kill", "redis-kill", "postgres-kill"]), st.integers(0, 20)),
    seed=st.integers(0, 1000),
)
def test_a_plan_has_each_fault_as_often_as_asked_and_leaves_time_to_recover(
    seconds: float, counts: dict[str, int], seed: int
) -> None:
    planned = plan(seconds, counts, seed=seed)
    assert planned == sorted(planned) == plan(seconds, counts, seed=seed)
    assert {kind: sum(each.kind == kind for each in planned) for kind in counts} == counts
    assert all(QUIET_START_S <= each.at <= seconds - QUIET_END_S for each in planned)


def test_faults_planned_apart_come_at_equal_distances() -> None:
    planned = plan(45, {"node-kill": 2, "redis-kill": 2, "client-cut": 9}, seed=1, apart=True)
    assert [each.at for each in planned if each.kind != "client-cut"] == [2.0, 12.0, 22.0, 32.0]
    assert len(planned) == 13
