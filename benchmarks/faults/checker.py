"""Judges a history: pure functions, each for one anomaly, with the names of Jepsen's Kafka workload.

lost-write            acknowledged as durable, and not in the log
duplicate             one message twice at the application, or at two places of one history
nonmonotonic-poll     a subscriber's offsets went back or stood still within an epoch
poll-skip             they jumped, in a durable channel
silent-hole           they jumped in a recoverable channel and nobody said so
needless-reset        the hub gave a position up though nothing had been lost
inconsistent-offsets  one offset holds two messages
unseen                acknowledged, and missing at a subscriber after everybody caught up
phantom               delivered though refused, never sent, or never committed
backwards             an older value followed a newer one of the same key, in a latest channel
stale                 a subscriber's last value is not the newest, in a latest channel
"""

from __future__ import annotations

import bisect
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from benchmarks.faults.history import Delivery, Fault, History, Joined, Outcome, Promise, Wire

RESTORED = "postgres restored"
# After these Redis may hold less than it had promised; a new epoch is then the right answer.
REDIS_LOST = ("redis killed", "redis stale", "redis empty")
LOUD_REASONS = ("offset_too_old", "limit_exceeded", "broker_unavailable", "history_disabled")
ORDERED: tuple[Promise, ...] = ("durable", "recoverable")


class Violation(NamedTuple):
    anomaly: str
    channel: str
    detail: str


def check(history: History) -> list[Violation]:
    """Everything that is wrong with this history; empty for a correct hub."""
    return [violation for judge in JUDGES for violation in judge(history)]


# --- what publishers were told ---


def lost_write(history: History) -> Iterator[Violation]:
    stored = {(row.channel, row.key) for row in history.stored}
    restored_at = _last(history, RESTORED)
    for outcome in _acks(history, "durable"):
        if (outcome.channel, outcome.key) not in stored and outcome.time > restored_at:
            yield Violation(
                "lost-write",
                outcome.channel,
                f"{outcome.key} was acknowledged at {outcome.time:.3f} s as {outcome.epoch}:{outcome.offset}",
            )


def phantom(history: History) -> Iterator[Violation]:
    """A durable message may reach somebody only if its publish was sent, not refused for good, and committed."""
    attempts: dict[str, int] = defaultdict(int)
    for attempt in history.attempts:
        attempts[attempt.key] += 1
    refused: dict[str, int] = defaultdict(int)
    for outcome in history.outcomes:
        refused[outcome.key] += outcome.verdict == "refused"
    stored = {(row.channel, row.epoch, row.offset, row.key) for row in history.stored}
    restored = _last(history, RESTORED) > 0
    found: dict[tuple[str, str], str] = {}
    for row in history.stored:
        if (why := _impossible(row.key, attempts, refused)) is not None:
            found[row.channel, row.key] = f"{row.key} is stored though {why}"
    for poll in history.polls:
        if not isinstance(poll, Delivery):
            continue
        if (why := _impossible(poll.key, attempts, refused)) is not None:
            found[poll.channel, poll.key] = f"{poll.key} reached {poll.subscriber} though {why}"
        elif (
            history.promises[poll.channel] == "durable"
            and not restored
            and (poll.channel, poll.epoch, poll.offset, poll.key) not in stored
        ):
            found[poll.channel, poll.key] = f"{poll.key} reached {poll.subscriber} and is not in the log"
    for (channel, _), detail in found.items():
        yield Violation("phantom", channel, detail)


def _impossible(key: str, attempts: dict[str, int], refused: dict[str, int]) -> str | None:
    sent = attempts.get(key, 0)
    if not sent:
        return "it was never sent"
    return "it was refused" if refused.get(key, 0) >= sent else None


def inconsistent_offsets(history: History) -> Iterator[Violation]:
    """Whoever speaks of a place of a history must mean the same message: acks, deliveries, the log."""
    holder: dict[tuple[str, str, int], str] = {}
    told: set[tuple[str, str, int]] = set()
    for channel, epoch, offset, key in _places(history):
        place = (channel, epoch, offset)
        if (first := holder.setdefault(place, key)) != key and place not in told:
            told.add(place)
            yield Violation("inconsistent-offsets", channel, f"{epoch}:{offset} holds {first} and {key}")


def duplicate(history: History) -> Iterator[Violation]:
    yield from _seen_twice(history)
    place: dict[tuple[str, str, str], int] = {}
    told: set[tuple[str, str, str]] = set()
    for channel, epoch, offset, key in _places(history):
        message = (channel, epoch, key)
        if (first := place.setdefault(message, offset)) != offset and message not in told:
            told.add(message)
            yield Violation("duplicate", channel, f"{key} stands at {epoch}:{first} and {offset}")


def _seen_twice(history: History) -> Iterator[Violation]:
    restored = _last(history, RESTORED) > 0
    seen: set[tuple[str, str, str, str]] = set()
    for poll in history.polls:
        promise = history.promises[poll.channel]
        if isinstance(poll, Delivery) and promise != "latest":
            # A lost Redis forgets idempotency keys too: then a retry is a new message of the new epoch.
            epoch = "" if promise == "durable" and not restored else poll.epoch
            message = (poll.subscriber, poll.channel, epoch, poll.key)
            if message in seen:
                yield Violation(
                    "duplicate", poll.channel, f"{poll.key} came twice to {poll.subscriber}, at {poll.time:.3f} s again"
                )
            seen.add(message)


def _places(history: History) -> Iterator[tuple[str, str, int, str]]:
    for outcome in history.outcomes:
        if outcome.verdict == "ack":
            yield outcome.channel, outcome.epoch, outcome.offset, outcome.key
    for row in history.stored:
        yield row.channel, row.epoch, row.offset, row.key
    for poll in history.polls:
        if isinstance(poll, Delivery):
            yield poll.channel, poll.epoch, poll.offset, poll.key


# --- what subscribers saw ---


def order(history: History) -> Iterator[Violation]:
    """nonmonotonic-poll, poll-skip, silent-hole and needless-reset: each subscriber's walk through each channel."""
    walks: dict[tuple[str, str], tuple[str, int]] = {}
    for poll in history.polls:
        promise = history.promises[poll.channel]
        if promise not in ORDERED:
            continue
        walk = (poll.subscriber, poll.channel)
        epoch, last = walks.get(walk, ("", 0))
        where = f"{poll.subscriber} at {poll.time:.3f} s"
        skip = "poll-skip" if promise == "durable" else "silent-hole"
        match poll:
            case Wire():
                how = "poll-skip" if poll.offset > poll.expected else "nonmonotonic-poll"
                yield Violation(how, poll.channel, f"{where}: {poll.offset} was sent instead of {poll.expected}")
                continue
            case Joined():
                if epoch and epoch == poll.epoch and poll.offset < last:
                    yield Violation("nonmonotonic-poll", poll.channel, f"{where}: from {last} back to {poll.offset}")
                elif promise == "durable" and epoch == poll.epoch and poll.offset > last:
                    yield Violation(skip, poll.channel, f"{where}: {poll.reason}, from {last} to {poll.offset}")
            case Delivery():
                if epoch and epoch != poll.epoch:
                    yield Violation(skip, poll.channel, f"{where}: from epoch {epoch} to {poll.epoch} without a word")
                elif epoch and poll.offset <= last:
                    yield Violation("nonmonotonic-poll", poll.channel, f"{where}: {poll.offset} after {last}")
                elif epoch and poll.offset > last + 1:
                    yield Violation(skip, poll.channel, f"{where}: {poll.offset} after {last}")
        walks[walk] = (poll.epoch, poll.offset)


def needless_reset(history: History) -> Iterator[Violation]:
    """A new epoch needs a reason that lies before it; the same epoch one of those that the protocol knows."""
    epochs: dict[tuple[str, str], str] = {}
    lost = {
        "durable": min((fault.begin for fault in history.faults if fault.kind == RESTORED), default=None),
        "recoverable": min((fault.begin for fault in history.faults if fault.kind in REDIS_LOST), default=None),
    }
    lost["latest"] = lost["recoverable"]
    for poll in history.polls:
        if not isinstance(poll, Joined):
            continue
        walk = (poll.subscriber, poll.channel)
        promise = history.promises[poll.channel]
        earlier = epochs.get(walk)
        epochs[walk] = poll.epoch
        if earlier is None or promise == "latest":
            continue
        since = lost[promise]
        needless = since is None or poll.time < since if earlier != poll.epoch else poll.reason not in LOUD_REASONS
        if needless:
            yield Violation(
                "needless-reset",
                poll.channel,
                f"{poll.subscriber} at {poll.time:.3f} s: {poll.reason}, epoch {earlier} to {poll.epoch}",
            )


def unseen(history: History) -> Iterator[Violation]:
    """After the run everybody has everything that was acknowledged in the living epoch since they joined it."""
    acked: dict[str, dict[int, str]] = defaultdict(dict)
    for promise in ORDERED:
        for outcome in _acks(history, promise):
            if history.heads.get(outcome.channel, ("", 0))[0] == outcome.epoch:
                acked[outcome.channel][outcome.offset] = outcome.key
    seen: dict[tuple[str, str], set[int]] = {}
    base: dict[tuple[str, str], tuple[str, int]] = {}
    for poll in history.polls:
        walk = (poll.subscriber, poll.channel)
        if isinstance(poll, Joined):
            base[walk] = (poll.epoch, poll.offset)
            seen[walk] = set()
        elif isinstance(poll, Delivery):
            seen.setdefault(walk, set()).add(poll.offset)
    for (subscriber, channel), (epoch, joined) in base.items():
        head = history.heads.get(channel)
        if head is None or channel not in acked:
            continue
        if head[0] != epoch:
            yield Violation("unseen", channel, f"{subscriber} stayed in epoch {epoch}; the channel has {head[0]}")
            continue
        missing = sorted(set(acked[channel]) - seen[subscriber, channel])
        missing = [offset for offset in missing if offset > joined]
        for offset in missing:
            yield Violation("unseen", channel, f"{subscriber} never saw {acked[channel][offset]} at {epoch}:{offset}")


def latest_values(history: History) -> Iterator[Violation]:
    """backwards and stale."""
    newest: dict[tuple[str, str, str], tuple[str, int]] = {}
    for poll in history.polls:
        if history.promises[poll.channel] != "latest":
            continue
        if isinstance(poll, Wire):
            where = f"{poll.subscriber} at {poll.time:.3f} s"
            yield Violation("backwards", poll.channel, f"{where}: {poll.offset} was sent")
        elif isinstance(poll, Delivery):
            value = (poll.subscriber, poll.channel, poll.slot)
            epoch, offset = newest.get(value, ("", 0))
            if epoch == poll.epoch and poll.offset <= offset:
                yield Violation("backwards", poll.channel, f"{poll.subscriber}: {poll.offset} after {offset}")
            newest[value] = (poll.epoch, poll.offset)
    yield from _stale(history, newest)


def _stale(history: History, newest: dict[tuple[str, str, str], tuple[str, int]]) -> Iterator[Violation]:
    slots = {attempt.key: attempt.slot for attempt in history.attempts}
    acked: dict[tuple[str, str], int] = {}
    for outcome in _acks(history, "latest"):
        if history.heads.get(outcome.channel, ("", 0))[0] == outcome.epoch:
            value = (outcome.channel, slots[outcome.key])
            acked[value] = max(acked.get(value, 0), outcome.offset)
    subscribers = {(poll.subscriber, poll.channel) for poll in history.polls if isinstance(poll, Joined)}
    for subscriber, channel in sorted(subscribers):
        for (of, slot), offset in acked.items():
            if of != channel:
                continue
            epoch, last = newest.get((subscriber, channel, slot), ("", 0))
            if epoch != history.heads[channel][0] or last < offset:
                yield Violation("stale", channel, f"{subscriber} has {slot} at {epoch}:{last}; newest is {offset}")


def incidents(history: History) -> Iterator[Violation]:
    for incident in history.incidents:
        yield Violation(incident.kind, "", f"{incident.detail} (at {incident.time:.3f} s)")


JUDGES: tuple[Callable[[History], Iterable[Violation]], ...] = (
    lost_write,
    phantom,
    inconsistent_offsets,
    duplicate,
    order,
    needless_reset,
    unseen,
    latest_values,
    incidents,
)


# --- how long it hurt ---


class Outage(NamedTuple):
    """One fault. `silence_s`: the longest time without an acknowledgement from its begin until `AFTER_S` after it."""

    kind: str
    silence_s: float


AFTER_S = 2.0


def outages(history: History, promises: Iterable[Promise]) -> list[Outage]:
    """Time without service, for publishers of these classes together, of every fault that no other one is close to."""
    wanted = set(promises)
    times = sorted(
        outcome.time
        for outcome in history.outcomes
        if outcome.verdict == "ack" and history.promises[outcome.channel] in wanted
    )
    return [
        Outage(fault.kind, _silence(times, fault))
        for fault in history.faults
        if not any(_close(fault, other) for other in history.faults if other is not fault)
    ]


def _close(one: Fault, other: Fault) -> bool:
    return one.begin < other.end + AFTER_S and other.begin < one.end + AFTER_S


def _silence(times: list[float], fault: Fault) -> float:
    first = max(0, bisect.bisect_left(times, fault.begin) - 1)
    last = bisect.bisect_right(times, fault.end + AFTER_S)
    near = times[first : last + 1]
    return max((after - before for before, after in itertools.pairwise(near)), default=0.0)


def delays(history: History, promise: Promise) -> list[float]:
    """Seconds from acknowledgement to the application, of every delivery, in order; early ones count as 0."""
    acked = {outcome.key: outcome.time for outcome in _acks(history, promise)}
    return sorted(
        max(0.0, poll.time - acked[poll.key])
        for poll in history.polls
        if isinstance(poll, Delivery) and poll.key in acked and history.promises[poll.channel] == promise
    )


def quantile(ordered: list[float], share: float) -> float:
    """Of an ordered list; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else 0.0


def _acks(history: History, promise: Promise) -> Iterator[Outcome]:
    for outcome in history.outcomes:
        if outcome.verdict == "ack" and history.promises[outcome.channel] == promise:
            yield outcome


def _last(history: History, kind: str) -> float:
    return max((fault.end for fault in history.faults if fault.kind == kind), default=0.0)
