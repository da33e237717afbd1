"""What happened in a run, written down as it happened and never changed: the checker's only input.

Times are seconds since the run began. A message is known by its `key`, which is unique in the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import msgspec

Promise: TypeAlias = Literal["durable", "recoverable", "latest"]
Verdict: TypeAlias = Literal["ack", "refused", "unknown"]


class Attempt(NamedTuple):
    """A publish was sent. `slot` is what a latest value replaces."""

    time: float
    key: str
    channel: str
    slot: str = ""


class Outcome(NamedTuple):
    """How an attempt ended. refused: the hub said that nothing was stored. unknown: nobody can tell."""

    time: float
    key: str
    channel: str
    verdict: Verdict
    epoch: str = ""
    offset: int = 0
    error: str = ""


class Joined(NamedTuple):
    """A subscriber's position was given by the hub instead of growing by one: at the first join, or after a loud
    loss, for which `reason` stands."""

    time: float
    subscriber: str
    channel: str
    epoch: str
    offset: int
    reason: str


class Delivery(NamedTuple):
    """The application saw a message, after the client's rule."""

    time: float
    subscriber: str
    channel: str
    epoch: str
    offset: int
    key: str
    slot: str = ""


class Wire(NamedTuple):
    """The hub sent something out of order on one connection, whatever the client's rule made of it."""

    time: float
    subscriber: str
    channel: str
    epoch: str
    expected: int
    offset: int


class Fault(NamedTuple):
    """`end`: everything that was hurt ran again."""

    begin: float
    end: float
    kind: str
    target: str


class Stored(NamedTuple):
    """One row of the durable log, read from Postgres after the run."""

    channel: str
    epoch: str
    offset: int
    key: str


class Incident(NamedTuple):
    """What must not happen whatever the messages say: a node that ended by itself, a client that never caught up."""

    time: float
    kind: str
    detail: str


Poll: TypeAlias = Joined | Delivery | Wire


class History:
    """`polls` holds each subscriber's events in order. `heads` are the channels' positions after the run."""

    def __init__(self, promises: dict[str, Promise] | None = None) -> None:
        self.promises: dict[str, Promise] = dict(promises or {})
        self.attempts: list[Attempt] = []
        self.outcomes: list[Outcome] = []
        self.polls: list[Poll] = []
        self.faults: list[Fault] = []
        self.stored: list[Stored] = []
        self.heads: dict[str, tuple[str, int]] = {}
        self.incidents: list[Incident] = []

    def channels(self, promise: Promise) -> set[str]:
        return {channel for channel, made in self.promises.items() if made == promise}

    def save(self, path: Path) -> None:
        """One JSON array a line, the event's name first."""
        encode = msgspec.json.encode
        with path.open("wb") as file:
            for events in (self.attempts, self.outcomes, self.polls, self.faults, self.stored, self.incidents):
                file.writelines(encode([type(event).__name__, *event]) + b"\n" for event in events)
            for channel, promise in self.promises.items():
                head = self.heads.get(channel, ("", 0))
                file.write(encode(["Channel", channel, promise, *head]) + b"\n")


EVENTS: dict[str, type] = {
    each.__name__: each for each in (Attempt, Outcome, Joined, Delivery, Wire, Fault, Stored, Incident)
}


def load(path: Path) -> History:
    """What `History.save` wrote, to be judged again."""
    history = History()
    lists = {
        "Attempt": history.attempts,
        "Outcome": history.outcomes,
        "Joined": history.polls,
        "Delivery": history.polls,
        "Wire": history.polls,
        "Fault": history.faults,
        "Stored": history.stored,
        "Incident": history.incidents,
    }
    with path.open("rb") as file:
        for line in file:
            name, *fields = msgspec.json.decode(line)
            if name == "Channel":
                channel, promise, epoch, offset = fields
                history.promises[channel] = promise
                if epoch:
                    history.heads[channel] = (epoch, offset)
            else:
                lists[name].append(EVENTS[name](*fields))  # type: ignore[attr-defined]
    return history
