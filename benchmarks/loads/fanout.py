"""Publishers to many subscribers: broadcast, ticks, mixed, slow readers, idle, two nodes, and every peer."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from benchmarks.gallery import Gallery, Member
from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.machine import kernel_kib, rss_kib
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.publisher import OpenLoop

MIN_SAMPLED = 10


def follows(audience: Audience, plan: FanoutPlan, index: int) -> list[list[int]]:
    """Which messages of each stream connection `index` receives."""
    if audience.follows is None:
        return [list(range(len(stream.messages))) for stream in plan.streams]
    chosen = audience.follows[index % len(audience.targets)]
    return [[kind for kind in chosen if kind < len(stream.messages)] for stream in plan.streams]


def sampled_step(plan: FanoutPlan) -> int:
    """Every how many connections one is sampled, so that about `samples_per_s` latencies are recorded each second."""
    count = plan.audience.count
    each_per_s = sum(
        stream.rate_per_s * len(followed) / len(stream.messages)
        for stream, followed in zip(plan.streams, follows(plan.audience, plan, 0), strict=True)
    )
    wanted = int(plan.samples_per_s / each_per_s) if each_per_s else count
    return max(1, count // min(count, max(wanted, MIN_SAMPLED)))


def members_of(plan: FanoutPlan) -> list[Member]:
    audience = plan.audience
    step = sampled_step(plan)
    slow_every = audience.count // audience.never_reads if audience.never_reads else 0
    made = []
    for index in range(audience.count):
        slow = bool(slow_every) and index % slow_every == slow_every - 1 and index // slow_every < audience.never_reads
        # Counted from the end: the connection that is served last is always among the sampled ones.
        sampled = (audience.count - 1 - index) % step == 0
        target = audience.targets[index % len(audience.targets)]
        made.append(Member(index, target, sampled=sampled and not slow, reads=not slow))
    return made


async def run(plan: FanoutPlan) -> dict[str, Any]:
    audience = plan.audience
    kernel_before, rss_before = kernel_kib(), rss_kib(plan.pids)
    gallery = Gallery(one_byte=plan.ascii, small_buffers=bool(audience.never_reads))
    publishers: list[OpenLoop] = []
    try:
        stage("connect")
        members = members_of(plan)
        await gallery.open(members)
        slowest_ns = max(member.live_ns for member in members) - min(member.started_ns for member in members)
        publishers = [await OpenLoop.open(stream) for stream in plan.streams]
        await asyncio.sleep(plan.settle_s)
        kernel_idle, rss_idle = kernel_kib(), rss_kib(plan.pids)
        figures: dict[str, Any] = {
            "connections": len(members),
            "connect_s": round(slowest_ns / 1e9, 2),
            "process_kib_per_connection": round((rss_idle - rss_before) / len(members), 2),
            "kernel_kib_per_connection": {
                name: round((kernel_idle[name] - kernel_before[name]) / len(members), 2) for name in kernel_idle
            },
        }
        gc.collect()
        gc.freeze()
        gc.disable()
        if publishers and plan.warm_up_s:
            stage("warm up", plan.warm_up_s)
            await _publish(publishers, plan.warm_up_s)
            await _arrive(gallery, members, publishers, plan, plan.drain_s)
        figures |= await _measure(gallery, members, publishers, plan)
        figures["rss_mib_end"] = round(rss_kib(plan.pids) / 1024, 1)
        if audience.never_reads:
            figures["slow_readers"] = audience.never_reads
            figures["slow_readers_cut_off"] = gallery.cut_waiting()
        return figures
    finally:
        for publisher in publishers:
            publisher.control.close()
        gallery.close()


async def _publish(publishers: list[OpenLoop], seconds: float) -> None:
    async with asyncio.timeout(seconds * 3 + 10):
        await asyncio.gather(*(publisher.start(seconds) for publisher in publishers))


def _expected(members: list[Member], publishers: list[OpenLoop], plan: FanoutPlan) -> list[int]:
    """Deliveries owed to each member."""
    kinds = len(plan.audience.targets)
    per_kind = [
        sum(
            publisher.sent[kind]
            for publisher, followed in zip(publishers, follows(plan.audience, plan, index), strict=True)
            for kind in followed
        )
        for index in range(kinds)
    ]
    return [per_kind[member.index % kinds] if member.reads else 0 for member in members]


async def _arrive(
    gallery: Gallery, members: list[Member], publishers: list[OpenLoop], plan: FanoutPlan, limit_s: float
) -> None:
    """Until everything owed is here, or nothing more comes, or the limit."""
    owed = sum(_expected(members, publishers, plan))
    waited = 0.0
    quiet = 0.0
    before = -1
    while waited < limit_s and quiet < 2.0:
        got = sum(member.got for member in members if member.reads)
        if got >= owed:
            return
        quiet = quiet + 0.01 if got == before else 0.0
        before = got
        await asyncio.sleep(0.01)
        waited += 0.01


async def _measure(
    gallery: Gallery, members: list[Member], publishers: list[OpenLoop], plan: FanoutPlan
) -> dict[str, Any]:
    gallery.reset()
    for publisher in publishers:
        publisher.forget()
    gallery.recording = True
    stage("measure", plan.seconds)
    watch = Watch(plan.pids)
    loop = asyncio.get_running_loop()
    started = loop.time()
    if publishers:
        await _publish(publishers, plan.seconds)
    else:
        await asyncio.sleep(plan.seconds)
    stage("drain", plan.drain_s)
    await _arrive(gallery, members, publishers, plan, plan.drain_s)
    figures = watch.figures()
    cpu = watch.server_cpu_s()
    ended = max(gallery.last_ns / 1e9, started + plan.seconds) if gallery.last_ns else loop.time()
    gallery.recording = False
    owed = _expected(members, publishers, plan)
    got = [member.got for member in members if member.reads]
    delivered, expected = sum(got), sum(owed)
    short = sum(1 for member, due in zip(members, owed, strict=True) if member.reads and member.got < due)
    late = Histogram()
    for publisher in publishers:
        late.merge(publisher.late)
    whole = Histogram()
    for histogram in gallery.latencies.values():
        whole.merge(histogram)
    span = max(ended - started, 1e-9)
    figures |= {
        "published": sum(publisher.total for publisher in publishers),
        "expected": expected,
        "delivered": delivered,
        "delivered_percent": round(100 * delivered / expected, 4) if expected else 100.0,
        "missing": max(0, expected - delivered),
        "surplus": max(0, delivered - expected),
        "short_connections": short,
        "lost_connections": gallery.lost,
        "deliveries_per_s": round(delivered / span),
        "reads": gallery.reads,
        "mb_in": round(gallery.bytes_in / 1e6, 1),
        "publish_errors": sum(publisher.control.error_count for publisher in publishers),
        "publish_error_texts": [text for publisher in publishers for text in publisher.control.errors][:3],
        "latency_ms": whole.figures(),
        "generator_late_ms": late.figures(),
        "sampled_connections": sum(member.sampled for member in members),
        "server_cpu_us_per_delivery": round(cpu * 1e6 / delivered, 3) if delivered else 0.0,
        "histogram": whole.dump(),
    }
    if len(publishers) > 1 and len({stream.mark for stream in plan.streams}) > 1:
        figures["latency_ms_by_class"] = {
            stream.mark: gallery.latencies[stream.mark].figures() for stream in plan.streams
        }
    return figures
