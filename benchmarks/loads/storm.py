"""Everybody comes at once: connects per second, and how long it takes until all who were cut off are back."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from typing import Any

import msgspec

from benchmarks import wire
from benchmarks.gallery import LIVE, Gallery, Member
from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.machine import rss_kib
from benchmarks.plans import StormPlan
from benchmarks.publisher import OpenLoop

POSITION = re.compile(rb'"epoch":"([^"]+)","offset":(\d+)')


class Returning:
    """What a client must remember to resume: the position it was given and how much it received since."""

    def __init__(self, gallery: Gallery, plan: StormPlan) -> None:
        self.gallery = gallery
        self.plan = plan
        self.epoch = b""
        self.start: dict[int, int] = {}
        self.recovered = 0
        self.unrecovered = 0
        self.resumed_messages = 0

    def first(self, member: Member, greeting: bytes) -> None:
        if (found := POSITION.search(greeting)) is not None:
            self.epoch = found[1]
            self.start[member.index] = int(found[2])

    def again(self, member: Member, greeting: bytes) -> None:
        """What the answer brings was missed while away; it counts as delivered, with the latency that it had."""
        if b'"recovered":true' in greeting:
            self.recovered += 1
        else:
            self.unrecovered += 1
        now = time.monotonic_ns()
        for match in wire.STAMP.finditer(greeting):
            member.got += 1
            self.resumed_messages += 1
            if member.sampled:
                self.gallery.latencies["S"].record(now - int(match[2]))

    def hello(self, member: Member) -> list[bytes]:
        """The first hello again, with the position reached: one message is one offset."""
        offset = self.start[member.index] + member.got
        position = b'{"recover":{"epoch":"%b","offset":%d}}' % (self.epoch, offset)
        channel = self.plan.recover_channel.encode()
        return [each.replace(b'"%b":{}' % channel, b'"%b":%b' % (channel, position)) for each in member.target.hello]


async def run(plan: StormPlan) -> dict[str, Any]:
    gallery = Gallery(one_byte=True)
    returning = Returning(gallery, plan)
    gallery._on_live = returning.first
    publisher: OpenLoop | None = None
    try:
        kinds = len(plan.targets)
        step = max(1, plan.count // 500)
        members = [
            Member(index, plan.targets[index % kinds], sampled=(plan.count - 1 - index) % step == 0)
            for index in range(plan.count)
        ]
        gc.collect()
        gc.freeze()
        gc.disable()
        rss = rss_kib(plan.pids)
        stage("connect")
        figures = await _connect(gallery, members, plan)
        await asyncio.sleep(0.5)
        figures["process_kib_per_connection"] = round((rss_kib(plan.pids) - rss) / plan.count, 2)
        if plan.stream is not None:
            publisher = await OpenLoop.open(plan.stream)
            figures |= await _reconnect(gallery, members, returning, publisher, plan)
        figures["rss_mib_end"] = round(rss_kib(plan.pids) / 1024, 1)
        return figures
    finally:
        if publisher is not None:
            publisher.control.close()
        gallery.close()


async def _connect(gallery: Gallery, members: list[Member], plan: StormPlan) -> dict[str, Any]:
    watch = Watch(plan.pids)
    started = time.monotonic_ns()
    await gallery.open(members, in_flight=plan.in_flight)
    span = (max(member.live_ns for member in members) - started) / 1e9
    figures = watch.figures()
    cpu = watch.server_cpu_s()
    took = Histogram()
    took.record_all(member.live_ns - member.started_ns for member in members)
    return figures | {
        "connections": len(members),
        "in_flight": plan.in_flight,
        "connects_per_s": round(len(members) / span),
        "connect_s": round(span, 3),
        "connect_latency_ms": took.figures(),
        "server_cpu_us_per_connect": round(cpu * 1e6 / len(members), 1),
        "expected": len(members),
        "delivered": gallery.live,
        "delivered_percent": round(100 * gallery.live / len(members), 4),
        "missing": len(members) - gallery.live,
        "refused": gallery.refused[:3],
        "histogram": took.dump(),
    }


async def _reconnect(
    gallery: Gallery, members: list[Member], returning: Returning, publisher: OpenLoop, plan: StormPlan
) -> dict[str, Any]:
    gallery.reset()
    publisher.forget()
    gallery.recording = True
    stage("steady", plan.steady_s)
    done = publisher.start(plan.steady_s + plan.away_s + 60)
    await asyncio.sleep(plan.steady_s)
    steady = gallery.latencies["S"].figures()
    gallery.latencies["S"] = Histogram()
    stage("cut and away", plan.away_s)
    for member in members:
        gallery.cut(member)
    await asyncio.sleep(plan.away_s)
    stage("reconnect", plan.drain_s)
    for member in members:
        member.target = msgspec.structs.replace(member.target, hello=returning.hello(member))
    gallery._on_live = returning.again
    watch = Watch(plan.pids)
    started = time.monotonic_ns()
    gallery.begin(members, in_flight=plan.in_flight)
    async with asyncio.timeout(60):
        await gallery.all_live()
    span = (max(member.live_ns for member in members) - started) / 1e9
    figures = watch.figures()
    back = Histogram()
    back.record_all(member.live_ns - started for member in members)
    await asyncio.sleep(1.0)
    publisher.stop()
    await done
    owed = publisher.total
    deadline = time.monotonic() + plan.drain_s
    while time.monotonic() < deadline and any(member.got < owed for member in members):
        await asyncio.sleep(0.02)
    delivered = sum(member.got for member in members)
    return {
        **{f"reconnect_{name}": value for name, value in figures.items()},
        "generator_saturated": figures["generator_saturated"],
        "reconnect_s": round(span, 3),
        "back_ms": back.figures(),
        "reconnects_per_s": round(len(members) / span),
        "recovered": returning.recovered,
        "not_recovered": returning.unrecovered,
        "messages_brought_by_recovery": returning.resumed_messages,
        "steady_latency_ms": steady,
        "storm_latency_ms": gallery.latencies["S"].figures(),
        "published": owed,
        "expected": owed * len(members),
        "delivered": delivered,
        "delivered_percent": round(100 * delivered / (owed * len(members)), 4),
        "missing": sum(max(0, owed - member.got) for member in members),
        "surplus": sum(max(0, member.got - owed) for member in members),
        "live_at_end": sum(member.state == LIVE for member in members),
        "sampled_connections": sum(member.sampled for member in members),
    }
