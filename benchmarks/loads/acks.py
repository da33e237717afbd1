"""Durable publishing: how many acknowledgements a second, how long each takes, and whether a reader saw them all."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from benchmarks import wire
from benchmarks.gallery import Gallery, Member
from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.machine import rss_kib
from benchmarks.plans import AckPlan
from benchmarks.publisher import Control

REPLY = re.compile(rb'"type":"reply","id":(\d+)(,"error":[^}]*)?')


class Publisher:
    """Keeps `window` messages unacknowledged, or sends at its own pace and notes what comes back."""

    def __init__(self, load: Load, control: Control, template: wire.Template) -> None:
        self.load = load
        self.control = control
        self.template = template
        self.sent: dict[int, int] = {}  # number -> when it was meant to be sent
        self.number = 0

    def put(self, stamp_ns: int) -> None:
        self.sent[wire.FIRST_NUMBER + self.number] = stamp_ns
        self.control.write(self.template.render(stamp_ns, self.number))
        self.number += 1

    def answered(self, payload: bytes) -> None:
        now = time.monotonic_ns()
        load = self.load
        for match in REPLY.finditer(payload):
            stamp = self.sent.pop(int(match[1]), None)
            if stamp is None:
                load.strange += 1
                continue
            if match[2]:
                load.refused += 1
            else:
                load.accepted += 1
                if load.recording:
                    load.acked += 1
                    load.latencies.record(now - stamp)
            if load.closed_loop:
                self.put(now)


class Load:
    def __init__(self) -> None:
        self.latencies = Histogram()
        self.acked = 0
        self.accepted = 0  # from the first message on, unmeasured ones included
        self.refused = 0
        self.strange = 0
        self.recording = False
        self.closed_loop = False
        self.late = Histogram()


async def run(plan: AckPlan) -> dict[str, Any]:
    load = Load()
    gallery = Gallery(one_byte=True)
    publishers: list[Publisher] = []
    try:
        stage("connect")
        reader = Member(0, plan.reader, sampled=True)
        await gallery.open([reader])
        for target, message in zip(plan.publishers, plan.messages, strict=True):
            publisher = Publisher(load, await Control.open(target), wire.Template(message))
            publisher.control._on_message = publisher.answered
            publishers.append(publisher)
        await asyncio.sleep(0.3)
        gallery.reset()
        load.closed_loop = plan.rate_per_s is None
        pacing = asyncio.ensure_future(_pace(load, publishers, plan))
        stage("warm up", plan.warm_up_s)
        await asyncio.sleep(plan.warm_up_s)
        stage("measure", plan.seconds)
        watch = Watch(plan.pids)
        started = time.monotonic()
        gallery.recording = load.recording = True
        await asyncio.sleep(plan.seconds)
        load.recording = load.closed_loop = False
        span = time.monotonic() - started
        cpu = watch.server_cpu_s()
        figures = watch.figures()
        acked = load.acked
        await pacing
        stage("drain", plan.drain_s)
        deadline = time.monotonic() + plan.drain_s
        while time.monotonic() < deadline:
            if not any(publisher.sent for publisher in publishers) and reader.got >= load.accepted:
                break
            await asyncio.sleep(0.02)
        unanswered = sum(len(publisher.sent) for publisher in publishers)
        return figures | {
            "publishers": len(publishers),
            "window": plan.window,
            "acknowledged_per_s": round(acked / span),
            "expected": load.accepted,
            "delivered": reader.got,
            "delivered_percent": round(100 * reader.got / load.accepted, 4) if load.accepted else 0.0,
            "missing": max(0, load.accepted - reader.got),
            "surplus": max(0, reader.got - load.accepted),
            "unanswered": unanswered,
            "refused": load.refused,
            "ack_latency_ms": load.latencies.figures(),
            "delivery_latency_ms": gallery.latencies["S"].figures(),
            "generator_late_ms": load.late.figures(),
            "server_cpu_us_per_message": round(cpu * 1e6 / acked, 2) if acked else 0.0,
            "rss_mib_end": round(rss_kib(plan.pids) / 1024, 1),
            "histogram": load.latencies.dump(),
        }
    finally:
        for publisher in publishers:
            publisher.control.close()
        gallery.close()


async def _pace(load: Load, publishers: list[Publisher], plan: AckPlan) -> None:
    """Closed loop: fill every window once. Open loop: message k at start + k / rate, in turn over the publishers."""
    if plan.rate_per_s is None:
        now = time.monotonic_ns()
        for publisher in publishers:
            for _ in range(plan.window):
                publisher.put(now)
        return
    begun = time.monotonic_ns()
    index = 0
    total = int(plan.rate_per_s * (plan.warm_up_s + plan.seconds))
    while index < total:
        now = time.monotonic_ns()
        while index < total and (due := begun + int(index * 1e9 / plan.rate_per_s)) <= now:
            load.late.record(now - due)
            publishers[index % len(publishers)].put(due)
            index += 1
        await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
