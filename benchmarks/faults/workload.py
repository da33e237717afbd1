"""Publishers and subscribers that live through faults, and write down what they were told and what they saw.

A publisher sends each message until it is acknowledged or refused for good, always with the same key. Some refused
ones are then given up, so that a message nobody may ever see exists. A subscriber moves from node to node, resumes by
(epoch, offset) and applies the client's rule: the next offset is applied, an earlier one dropped, a later one is a gap.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from benchmarks.faults.history import (
    Attempt,
    Delivery,
    History,
    Incident,
    Joined,
    Outcome,
    Promise,
)
from benchmarks.faults.history import Wire as WireEvent
from benchmarks.faults.wire import Lost, Wire

REPLY_LIMIT_S = 20.0
WINDOW = 32  # publishes under way per publisher
SLOTS = 5  # keys of a latest channel
GIVE_UP_SHARE = 0.3  # of refused messages
RESUME_BEHIND_SHARE = 0.3  # of resumptions: as a client that died between applying and storing its position
UNKNOWN_ERRORS = ("timeout", "internal")
SURE_ERRORS = ("not_available", "overloaded", "rate_limited")  # with any other the workload itself is wrong


class Door(Protocol):
    """Where clients may connect."""

    @property
    def ws_url(self) -> str: ...


class Sizes:
    """How much of everything. Rates are messages a second over all publishers."""

    def __init__(
        self,
        *,
        durable_channels: int = 20,
        recoverable_channels: int = 5,
        latest_channels: int = 5,
        publishers: int = 4,
        subscribers: int = 4,
        durable_rate: float = 200.0,
        recoverable_rate: float = 40.0,
        latest_rate: float = 60.0,
    ) -> None:
        self.publishers = publishers
        self.subscribers = subscribers
        self.rates: dict[Promise, float] = {
            "durable": durable_rate,
            "recoverable": recoverable_rate,
            "latest": latest_rate,
        }
        self.channels: dict[Promise, list[str]] = {
            "durable": [f"team:fault-{number}" for number in range(durable_channels)],
            "recoverable": [f"custom:fault-{number}" for number in range(recoverable_channels)],
            "latest": [f"prices:FAULT-{number}" for number in range(latest_channels)],
        }

    @property
    def promises(self) -> dict[str, Promise]:
        return {channel: promise for promise, channels in self.channels.items() for channel in channels}


def message_of(promise: Promise, key: str, slot: str) -> dict[str, Any]:
    """A valid message that carries its key inside."""
    match promise:
        case "durable":
            return {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": key}]}
        case "recoverable":
            return {"type": "NOTE", "data": {"id": key}}
        case "latest":
            return {"type": "PRICE_TICK", "data": {"symbol": slot, "source": key, "bid": "1"}}


def key_of(publication: dict[str, Any]) -> str:
    data = publication["data"]
    if isinstance(data, list):
        return str(data[0]["specialist_id"])
    return str(data["source"] if "source" in data else data["id"])


class Clients:
    """What publishers and subscribers share: the clock of the run, its history, the doors, the dice."""

    def __init__(self, doors: Sequence[Door], token: str, history: History, *, seed: int) -> None:
        self.doors = doors
        self.token = token
        self.history = history
        self.seed = seed
        self.started = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self.started


class Publisher:
    """One connection at a time to a random node; many messages under way on it."""

    def __init__(self, clients: Clients, name: str, sizes: Sizes, numbers: itertools.count[int]) -> None:
        self._clients = clients
        self._sizes = sizes
        self._numbers = numbers
        self._random = random.Random(f"{clients.seed}-{name}")
        self._wire: Wire | None = None
        self._connected = asyncio.Event()
        self._window = asyncio.Semaphore(WINDOW)
        self._open: set[asyncio.Task[None]] = set()
        self.stopping = False

    async def run(self) -> None:
        """Publish until `stopping`, then until every message has an outcome; then leave."""
        connecting = asyncio.ensure_future(self._stay_connected())
        flows = [asyncio.ensure_future(self._flow(promise)) for promise in self._sizes.rates]
        try:
            await asyncio.gather(*flows)
            while self._open:
                await asyncio.wait(self._open)
        finally:
            for task in (connecting, *flows, *self._open):
                task.cancel()
            await asyncio.gather(connecting, *flows, *self._open, return_exceptions=True)
            if self._wire is not None:
                self._wire.cut()

    def cut(self) -> None:
        if self._wire is not None:
            self._wire.cut()

    async def _stay_connected(self) -> None:
        while True:
            door = self._random.choice(self._clients.doors)
            try:
                self._wire = await Wire.open(door.ws_url, self._clients.token, lambda push: None)
            except Lost:
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
                continue
            self._connected.set()
            await self._wire.closed.wait()
            self._connected.clear()

    async def _flow(self, promise: Promise) -> None:
        rate = self._sizes.rates[promise] / self._sizes.publishers
        channels = self._sizes.channels[promise]
        if not rate or not channels:
            return
        while not self.stopping:
            await asyncio.sleep(self._random.expovariate(rate))
            if promise == "latest":
                await self._connected.wait()
            else:
                await self._window.acquire()
            task = asyncio.ensure_future(self._publish(promise, self._random.choice(channels)))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _publish(self, promise: Promise, channel: str) -> None:
        key = f"{promise[0]}{next(self._numbers)}"
        slot = f"{channel.partition(':')[2]}.{self._random.randrange(SLOTS)}" if promise == "latest" else ""
        try:
            if promise == "latest":
                await self._attempt(promise, channel, key, slot)
            else:
                await self._until_settled(promise, channel, key)
        finally:
            if promise != "latest":
                self._window.release()

    async def _until_settled(self, promise: Promise, channel: str, key: str) -> None:
        give_up = self._random.random() < GIVE_UP_SHARE
        surely_refused = True
        while True:
            outcome = await self._attempt(promise, channel, key, "")
            if outcome.verdict == "ack":
                return
            surely_refused = surely_refused and outcome.verdict == "refused"
            if surely_refused and give_up:
                return
            await asyncio.sleep(self._random.uniform(0.02, 0.2))

    async def _attempt(self, promise: Promise, channel: str, key: str, slot: str) -> Outcome:
        await self._connected.wait()
        assert self._wire is not None
        command: dict[str, Any] = {
            "type": "publish",
            "channel": channel,
            "message": message_of(promise, key, slot),
            "key": slot or key,
        }
        if promise != "latest":
            command["idempotency_key"] = key
        history = self._clients.history
        history.attempts.append(Attempt(self._clients.now(), key, channel, slot))
        try:
            async with asyncio.timeout(REPLY_LIMIT_S):
                reply = await self._wire.send(command)
        except Lost:
            outcome = Outcome(self._clients.now(), key, channel, "unknown", error="lost")
        except TimeoutError:
            outcome = Outcome(self._clients.now(), key, channel, "unknown", error="no reply")
            history.incidents.append(Incident(self._clients.now(), "no-reply", f"publish of {key} to {channel}"))
        else:
            outcome = self._outcome(channel, key, reply)
        history.outcomes.append(outcome)
        return outcome

    def _outcome(self, channel: str, key: str, reply: dict[str, Any]) -> Outcome:
        now = self._clients.now()
        if (result := reply.get("result")) is not None:
            return Outcome(now, key, channel, "ack", result["epoch"], result["offset"])
        name = reply["error"]["name"]
        if name not in ("timeout", *SURE_ERRORS):
            self._clients.history.incidents.append(Incident(now, f"{name}-error", f"publish of {key} to {channel}"))
        return Outcome(now, key, channel, "unknown" if name in UNKNOWN_ERRORS else "refused", error=name)


class Subscriber:
    """Follows every channel. `dedupe` False leaves the rule's second part out: a planted fault."""

    def __init__(self, clients: Clients, name: str, promises: dict[str, Promise], *, dedupe: bool = True) -> None:
        self.name = name
        self.dedupe = dedupe
        self._clients = clients
        self._promises = promises
        self._random = random.Random(f"{clients.seed}-{name}")
        self._wire: Wire | None = None
        self._on_wire: dict[str, int] = {}  # newest offset sent on this connection
        self._joined: set[str] = set()
        self._bases: dict[str, int] = {}
        self.positions: dict[str, tuple[str, int]] = {}
        self.newest: dict[tuple[str, str], tuple[str, int]] = {}  # latest: (channel, slot)
        self.connections = 0
        self.gaps = 0
        self.repeats = 0
        self.pushed: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Stay connected, somewhere, until cancelled."""
        try:
            while True:
                door = self._random.choice(self._clients.doors)
                with contextlib.suppress(Lost):
                    await self._visit(door)
                await asyncio.sleep(self._random.uniform(0.02, 0.2))
        finally:
            if self._wire is not None:
                self._wire.cut()

    def cut(self) -> None:
        if self._wire is not None:
            self._wire.cut()

    async def _visit(self, door: Door) -> None:
        self._on_wire.clear()
        self._joined.clear()
        self._wire = wire = await Wire.open(
            door.ws_url,
            self._clients.token,
            self._receive,
            subscriptions={channel: self._options(channel) for channel in self._promises},
            on_reply=self._connected,
        )
        self.connections += 1
        while not wire.closed.is_set():
            for channel in self._promises.keys() - self._joined:
                command = {"type": "subscribe", "channel": channel, **self._options(channel)}
                try:
                    async with asyncio.timeout(REPLY_LIMIT_S):
                        reply = await wire.send(command, self._subscribed)
                except TimeoutError:
                    self._clients.history.incidents.append(
                        Incident(self._clients.now(), "no-reply", f"{self.name} subscribes to {channel}")
                    )
                    return
                if "error" in reply:
                    break
            if self._promises.keys() <= self._joined:
                await wire.closed.wait()
            else:
                await asyncio.sleep(0.1)

    def _options(self, channel: str) -> dict[str, Any]:
        position = self.positions.get(channel)
        if position is None:
            return {}
        epoch, offset = position
        if self._promises[channel] != "latest" and self._random.random() < RESUME_BEHIND_SHARE:
            offset = max(self._bases[channel], offset - self._random.randint(1, 5))
        return {"recover": {"epoch": epoch, "offset": offset}}

    def _connected(self, reply: dict[str, Any]) -> None:
        if (result := reply.get("result")) is not None:
            for channel, joined in result["subscriptions"].items():
                if "error" not in joined:
                    self._join(channel, joined)

    def _subscribed(self, reply: dict[str, Any]) -> None:
        if (result := reply.get("result")) is not None:
            self._join(result["channel"], result)

    def _join(self, channel: str, result: dict[str, Any]) -> None:
        self._joined.add(channel)
        epoch, offset = result["epoch"], result["offset"]
        if self._promises[channel] == "latest":
            earlier = self.positions.get(channel)
            if earlier is None or earlier[0] != epoch:
                self._reset(channel, epoch, offset, result.get("reason", ""))
            for publication in sorted(result["messages"], key=lambda each: each["offset"]):
                self._apply_latest(channel, epoch, publication)
            self._on_wire[channel] = offset
            self.positions[channel] = (epoch, max(offset, self.positions[channel][1]))
            return
        if not result["recovered"]:
            # The hub's word is taken as it is, also where it leads back.
            self._reset(channel, epoch, offset, result.get("reason", ""))
        for publication in result["messages"]:
            self._apply(channel, epoch, publication)
        self._on_wire[channel] = offset

    def _receive(self, publication: dict[str, Any]) -> None:
        channel, offset = publication["channel"], publication["offset"]
        if channel not in self._joined:
            return
        epoch = self.positions[channel][0]
        if publication.get("epoch", epoch) != epoch:
            epoch = publication["epoch"]
            self._reset(channel, epoch, offset - 1, "told in passing")
            self._on_wire[channel] = offset - 1
        if self._promises[channel] == "latest":
            if offset <= self._on_wire[channel]:
                self._note_wire(channel, epoch, offset)
            self._on_wire[channel] = offset
            self._apply_latest(channel, epoch, publication)
            return
        if offset != self._on_wire[channel] + 1:
            self._note_wire(channel, epoch, offset)
        self._on_wire[channel] = offset
        self._apply(channel, epoch, publication)

    def _note_wire(self, channel: str, epoch: str, offset: int) -> None:
        self._clients.history.polls.append(
            WireEvent(self._clients.now(), self.name, channel, epoch, self._on_wire[channel] + 1, offset)
        )

    def _reset(self, channel: str, epoch: str, offset: int, reason: str) -> None:
        self.positions[channel] = (epoch, offset)
        self._bases[channel] = offset
        self._clients.history.polls.append(
            Joined(self._clients.now(), self.name, channel, epoch, offset, reason or "not_recovered")
        )

    def _apply(self, channel: str, epoch: str, publication: dict[str, Any]) -> None:
        offset = publication["offset"]
        last = self.positions[channel][1]
        if offset <= last and self.dedupe:
            self.repeats += 1
            return
        if offset > last + 1:
            self.gaps += 1
            self.cut()  # and resume from where we are
            return
        self.positions[channel] = (epoch, max(offset, last))
        self._deliver(channel, epoch, offset, publication, "")

    def _apply_latest(self, channel: str, epoch: str, publication: dict[str, Any]) -> None:
        slot, offset = publication.get("key", ""), publication["offset"]
        known = self.newest.get((channel, slot), ("", 0))
        if known[0] == epoch and offset <= known[1] and self.dedupe:
            self.repeats += 1
            return
        self.newest[channel, slot] = (epoch, offset)
        self.positions[channel] = (epoch, max(offset, self.positions[channel][1]))
        self._deliver(channel, epoch, offset, publication, slot)

    def _deliver(self, channel: str, epoch: str, offset: int, publication: dict[str, Any], slot: str) -> None:
        self._clients.history.polls.append(
            Delivery(self._clients.now(), self.name, channel, epoch, offset, key_of(publication), slot)
        )
        self.pushed()
