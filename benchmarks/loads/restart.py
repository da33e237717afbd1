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
from benchmarks.loads.report import OwnCpu, say, stage
from benchmarks.plans import RestartPlan
from benchmarks.publisher import OpenLoop

STEP_S = 0.005


class Clients:
    """Follows each client from its goodbye to its return. A client's node is where it connected last."""

    def __init__(self, plan: RestartPlan) -> None:
        self.plan = plan
        self.gallery = Gallery(one_byte=False, on_live=self._live, on_lost=self._lost, listen_for_goodbye=True)
        self.node: dict[int, int] = {}
        self.start: dict[int, tuple[bytes, int]] = {}
        self.gapless: dict[int, int] = {}
        self.gone_ns: dict[int, int] = {}
        self.away = Histogram()
        self.announced = Histogram()
        self.goodbyes = 0
        self.cut_off = 0
        self.recovered = 0
        self.not_recovered = 0
        self.refused_dials = 0
        self._position = re.compile(
            rb'"channel":"%b","epoch":"([^"]+)","offset":(\d+)' % re.escape(plan.recover_channel.encode())
        )

    def make(self) -> list[Member]:
        nodes = len(self.plan.targets)
        made = []
        for index in range(self.plan.count):
            self.node[index] = index % nodes
            targets = self.plan.targets[index % nodes]
            made.append(Member(index, targets[index // nodes % len(targets)], sampled=True))
        return made

    def _live(self, member: Member, greeting: bytes) -> None:
        now = time.monotonic_ns()
        found = self._position.search(greeting)
        if member.index not in self.gone_ns:
            if found is not None:
                self.start[member.index] = (found[1], int(found[2]))
            return
        self.away.record(now - self.gone_ns.pop(member.index))
        if b'"recovered":true' in greeting:
            self.recovered += 1
        else:
            self.not_recovered += 1
        for match in wire.STAMP.finditer(greeting):
            if match[1] == b"S":
                self.gallery.count("S", member, now - int(match[2]))

    def _lost(self, member: Member) -> None:
        now = time.monotonic_ns()
        if member.index not in self.gone_ns:
            self.gone_ns[member.index] = now
            if member.retry_after_ms:
                self.goodbyes += 1
                self.announced.record(member.retry_after_ms * 1_000_000)
            else:
                self.cut_off += 1
        wait_s = member.retry_after_ms / 1000 if member.retry_after_ms else 0.1
        asyncio.get_running_loop().call_later(wait_s, self._return, member)

    def _return(self, member: Member) -> None:
        """To another node, as a balancer would send it; with the position it reached."""
        nodes = len(self.plan.targets)
        node = self.node[member.index] = (self.node[member.index] + 1) % nodes
        targets = self.plan.targets[node]
        target = targets[member.index // nodes % len(targets)]
        epoch, start = self.start[member.index]
        channel = self.plan.recover_channel.encode()
        position = b'"%b":{"recover":{"epoch":"%b","offset":%d}}' % (
            channel,
            epoch,
            start + self.gallery.gapless.get(member.index, 0),
        )
        hello = [each.replace(b'"%b":{}' % channel, position) for each in target.hello]
        member.target = msgspec.structs.replace(target, hello=hello)
        self.gallery.begin([member], in_flight=1000)

    def retry_refused(self, members: list[Member]) -> None:
        """A dial that failed (the node is just going down) is tried again elsewhere."""
        for member in members:
            if member.sock is None and member.index in self.gone_ns and member.live_ns == 0:
                member.live_ns = -1
                self.refused_dials += 1
                asyncio.get_running_loop().call_later(0.1, self._return, member)


async def run(plan: RestartPlan) -> dict[str, Any]:
    clients = Clients(plan)
    gallery = clients.gallery
    publishers: list[OpenLoop] = []
    try:
        stage("connect")
        members = clients.make()
        await gallery.open(members)
        publishers = [await OpenLoop.open(stream) for stream in plan.streams]
        own = OwnCpu()
        gallery.reset()
        gallery.gapless = {member.index: 0 for member in members}
        gallery.recording = True
        running = [publisher.start(plan.limit_s) for publisher in publishers]
        stage("steady", plan.steady_s)
        await asyncio.sleep(plan.steady_s)
        steady = {mark: gallery.latencies[mark].figures() for mark in "SU"}
        gallery.latencies = {mark: Histogram() for mark in "STUV"}
        say("event", name="restart")
        loop = asyncio.get_running_loop()
        finish = loop.run_in_executor(None, sys.stdin.readline)
        started = time.monotonic()
        while not finish.done() and time.monotonic() - started < plan.limit_s:
            clients.retry_refused(members)
            await asyncio.sleep(STEP_S)
        while clients.gone_ns and time.monotonic() - started < plan.limit_s:
            clients.retry_refused(members)
            await asyncio.sleep(STEP_S)
        span = time.monotonic() - started
        await asyncio.sleep(1.0)
        for publisher in publishers:
            publisher.stop()
        await asyncio.gather(*running)
        owed = publishers[0].total
        deadline = time.monotonic() + plan.drain_s
        while time.monotonic() < deadline and any(count < owed for count in gallery.gapless.values()):
            await asyncio.sleep(0.02)
        counts = list(gallery.gapless.values())
        during = {mark: gallery.latencies[mark] for mark in "SU"}
        return own.figures() | {
            "connections": len(members),
            "restart_s": round(span, 2),
            "goodbyes": clients.goodbyes,
            "cut_off_without_goodbye": clients.cut_off,
            "refused_dials": clients.refused_dials,
            "recovered": clients.recovered,
            "not_recovered": clients.not_recovered,
            "still_away": len(clients.gone_ns),
            "away_ms": clients.away.figures(),
            "announced_ms": clients.announced.figures(),
            "steady_latency_ms": steady["S"],
            "steady_tick_latency_ms": steady["U"],
            "restart_latency_ms": during["S"].figures(),
            "restart_tick_latency_ms": during["U"].figures(),
            "published": owed,
            "expected": owed * len(members),
            "delivered": sum(counts),
            "delivered_percent": round(100 * sum(counts) / (owed * len(members)), 4) if owed else 0.0,
            "missing": sum(max(0, owed - count) for count in counts),
            "surplus": sum(max(0, count - owed) for count in counts),
            "publish_errors": sum(publisher.control.error_count for publisher in publishers),
            "publish_error_texts": [text for each in publishers for text in each.control.errors][:3],
            "histogram": during["S"].dump(),
        }
    finally:
        for publisher in publishers:
            publisher.control.close()
        gallery.close()
