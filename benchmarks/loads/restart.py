"""Clients of two nodes while one after the other is replaced: gone, back, recovered, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any

import msgspec

from benchmarks import wire
from benchmarks.gallery import Gallery, Member
from benchmarks.histogram import Histogram
from benchmarks.loads.acks import REPLY
from benchmarks.loads.report import Watch, say, stage
from benchmarks.plans import RestartPlan, Stream, Target
from benchmarks.publisher import Control

RETRY_S = 0.1
REASON = re.compile(rb'"reason":"(?!not_requested)(\w+)"')


class Clients:
    """Follows each client from its goodbye to its return to another node, as a balancer would send it."""

    def __init__(self, plan: RestartPlan) -> None:
        self.gallery = Gallery(
            one_byte=False,
            on_live=self._live,
            on_lost=self._lost,
            on_refused=self._refused,
            listen_for_goodbye=True,
        )
        self.received = self.gallery.gapless = [0] * plan.count
        self.gone_ns: dict[int, int] = {}
        self.away = Histogram()
        self.announced = Histogram()
        self.goodbyes = 0
        self.cut_off = 0
        self.recovered = 0
        self.not_recovered = 0
        self.reasons: dict[str, int] = {}
        self._plan = plan
        self._node = [index % len(plan.targets) for index in range(plan.count)]
        self._start: dict[int, tuple[bytes, int]] = {}
        self._channel = plan.recover_channel.encode()
        self._position = re.compile(
            rb'"channel":"%b","epoch":"([^"]+)","offset":(\d+)' % re.escape(plan.recover_channel.encode())
        )

    def make(self) -> list[Member]:
        return [Member(index, self._target(index), sampled=True) for index in range(self._plan.count)]

    def _target(self, index: int) -> Target:
        return self._plan.targets[self._node[index]]

    def _live(self, member: Member, greeting: bytes) -> None:
        now = time.monotonic_ns()
        if member.index not in self.gone_ns:
            if (found := self._position.search(greeting)) is not None:
                self._start[member.index] = (found[1], int(found[2]))
            return
        self.away.record(now - self.gone_ns.pop(member.index))
        if b'"recovered":true' in greeting:
            self.recovered += 1
        else:
            self.not_recovered += 1
            reason = REASON.search(greeting)
            told = reason[1].decode() if reason else "none given"
            self.reasons[told] = self.reasons.get(told, 0) + 1
        for match in wire.STAMP.finditer(greeting):
            if match[1] == b"S":
                self.received[member.index] += 1
                self.gallery.latencies["S"].record(now - int(match[2]))

    def _lost(self, member: Member) -> None:
        self.gone_ns[member.index] = time.monotonic_ns()
        if member.retry_after_ms:
            self.goodbyes += 1
            self.announced.record(member.retry_after_ms * 1_000_000)
        else:
            self.cut_off += 1
        wait_s = member.retry_after_ms / 1000 if member.retry_after_ms else RETRY_S
        asyncio.get_running_loop().call_later(wait_s, self._return, member)

    def _refused(self, member: Member) -> None:
        """The node was just going down or coming up: once more, elsewhere."""
        self.gone_ns.setdefault(member.index, time.monotonic_ns())
        asyncio.get_running_loop().call_later(RETRY_S, self._return, member)

    def _return(self, member: Member) -> None:
        index = member.index
        self._node[index] = (self._node[index] + 1) % len(self._plan.targets)
        target = self._target(index)
        if index in self._start:
            epoch, start = self._start[index]
            position = b'{"recover":{"epoch":"%b","offset":%d}}' % (epoch, start + self.received[index])
            plain, resuming = b'"%b":{}' % self._channel, b'"%b":%b' % (self._channel, position)
            target = msgspec.structs.replace(target, hello=[each.replace(plain, resuming) for each in target.hello])
        member.target = target
        self.gallery.begin([member], in_flight=1000)


class Roving:
    """A publisher that moves to another node when its own says goodbye, and sends again what was not acknowledged.

    It keeps its pace meanwhile: each message carries the moment at which it was due.
    """

    def __init__(self, stream: Stream, targets: list[Target]) -> None:
        self._targets = targets
        self._at = 0
        self._rate = stream.rate_per_s
        self._template = wire.Template(stream.messages[0])
        self._control: Control | None = None
        self._open: dict[int, bytes] = {}
        self._running = True
        self.published = 0
        self.acknowledged = 0
        self.moves = 0
        self.errors: list[str] = []

    async def run(self) -> None:
        await self._move()
        begun = time.monotonic_ns()
        while self._running:
            now = time.monotonic_ns()
            while self._running and (due := begun + int(self.published * 1e9 / self._rate)) <= now:
                rendered = self._template.render(due, self.published)
                self._open[wire.FIRST_NUMBER + self.published] = rendered
                self.published += 1
                if self._control is not None and not self._control.closed:
                    self._control.write(rendered)
            if self._control is None or self._control.closed:
                await self._move()
            await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))

    async def stop(self, limit_s: float) -> None:
        """No more messages; those under way may still be acknowledged."""
        self._running = False
        deadline = time.monotonic() + limit_s
        while self._open and time.monotonic() < deadline:
            if self._control is None or self._control.closed:
                await self._move()
            await asyncio.sleep(0.01)

    async def _move(self) -> None:
        while True:
            target = self._targets[self._at % len(self._targets)]
            self._at += 1
            try:
                self._control = await Control.open(target, on_message=self._heard)
                break
            except (OSError, wire.Refused, TimeoutError):
                await asyncio.sleep(RETRY_S)
        self.moves += 1
        for rendered in self._open.values():
            self._control.write(rendered)

    def _heard(self, payload: bytes) -> None:
        for match in REPLY.finditer(payload):
            number = int(match[1])
            if match[2]:
                self.errors = [*self.errors[:4], match[0].decode("latin-1")]
                if number in self._open and self._control is not None:
                    asyncio.get_running_loop().call_later(RETRY_S, self._again, number)
            elif self._open.pop(number, None) is not None:
                self.acknowledged += 1

    def _again(self, number: int) -> None:
        if number in self._open and self._control is not None and not self._control.closed:
            self._control.write(self._open[number])

    def close(self) -> None:
        self._running = False
        if self._control is not None:
            self._control.close()


async def run(plan: RestartPlan) -> dict[str, Any]:
    clients = Clients(plan)
    gallery = clients.gallery
    publishers = [
        Roving(stream, [msgspec.structs.replace(stream.target, port=node.port) for node in plan.targets])
        for stream in plan.streams
    ]
    running: list[asyncio.Task[None]] = []
    try:
        stage("connect")
        members = clients.make()
        await gallery.open(members)
        watch = Watch(())
        gallery.reset()
        gallery.recording = True
        running = [asyncio.create_task(publisher.run()) for publisher in publishers]
        stage("steady", plan.steady_s)
        await asyncio.sleep(plan.steady_s)
        steady = {mark: gallery.latencies[mark].figures() for mark in "SU"}
        gallery.latencies = {mark: Histogram() for mark in "STUV"}
        stage("restart", plan.limit_s)
        say("event", name="restart")
        finish = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        started = time.monotonic()
        while (not finish.done() or clients.gone_ns) and time.monotonic() - started < plan.limit_s:
            await asyncio.sleep(0.02)
        span = time.monotonic() - started
        await asyncio.sleep(1.0)
        for publisher in publishers:
            await publisher.stop(plan.drain_s)
        owed = publishers[0].acknowledged
        deadline = time.monotonic() + plan.drain_s
        while time.monotonic() < deadline and any(count < owed for count in clients.received):
            await asyncio.sleep(0.02)
        delivered = sum(clients.received)
        during = gallery.latencies
        return watch.figures() | {
            "connections": len(members),
            "restart_s": round(span, 2),
            "goodbyes": clients.goodbyes,
            "cut_off_without_goodbye": clients.cut_off,
            "refused_dials": len(gallery.refused),
            "recovered": clients.recovered,
            "not_recovered": clients.not_recovered,
            "not_recovered_reasons": clients.reasons,
            "still_away": len(clients.gone_ns),
            "away_ms": clients.away.figures(),
            "announced_ms": clients.announced.figures(),
            "steady_latency_ms": steady["S"],
            "steady_tick_latency_ms": steady["U"],
            "restart_latency_ms": during["S"].figures(),
            "restart_tick_latency_ms": during["U"].figures(),
            "published": publishers[0].published,
            "acknowledged": owed,
            "expected": owed * len(members),
            "delivered": delivered,
            "delivered_percent": round(100 * delivered / (owed * len(members)), 4) if owed else 0.0,
            "missing": sum(max(0, owed - count) for count in clients.received),
            "surplus": sum(max(0, count - owed) for count in clients.received),
            "publisher_moves": [publisher.moves for publisher in publishers],
            "publish_error_texts": [text for publisher in publishers for text in publisher.errors][:3],
            "histogram": during["S"].dump(),
        }
    finally:
        for publisher in publishers:
            publisher.close()
        for task in running:
            task.cancel()
        gallery.close()
