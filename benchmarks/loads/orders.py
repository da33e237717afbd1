"""Orders: how long from the moment one was meant to be sent until it was committed, and whether each was told once."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import Any

from benchmarks import wire
from benchmarks.histogram import Histogram
from benchmarks.loads.report import Watch, stage
from benchmarks.machine import rss_kib
from benchmarks.plans import OrdersPlan
from benchmarks.publisher import Control

REPLY = re.compile(rb'"type":"reply","id":(\d+),("error":|"result":\{.*?"ord_status":"(\w+)")')
REPORT = re.compile(rb'"client_order_id":"\w+-(\d{10})"[^{}]*?"exec_type":"(\w+)"')
LIFE = (b"SUBMIT", b"PENDING_NEW", b"NEW", b"TRADE")  # of an order that finds its counterpart at once
QUOTES_PER_S = 5.0
READY_S = 30.0


class Orders:
    """What was sent, answered and told, by number."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}  # -> when it was meant to be sent
        self.answers: Counter[str] = Counter()
        self.answered: set[int] = set()
        self.told: dict[int, list[bytes]] = {}
        self.recording = False
        self.acked = 0
        self.ack = Histogram()
        self.delivery = Histogram()
        self.late = Histogram()

    def on_reply(self, payload: bytes) -> None:
        now = time.monotonic_ns()
        for match in REPLY.finditer(payload):
            number = int(match[1])
            if number < wire.FIRST_NUMBER:
                continue
            self.answers[match[3].decode() if match[3] else "error"] += 1
            self.answered.add(number)
            if self.recording:
                self.acked += 1
                self.ack.record(now - self.sent[number])

    def on_report(self, payload: bytes) -> None:
        now = time.monotonic_ns()
        for match in REPORT.finditer(payload):
            number = int(match[1])
            self.told.setdefault(number, []).append(match[2])
            if self.recording and match[2] == b"PENDING_NEW":
                self.delivery.record(now - self.sent[number])

    @property
    def complete(self) -> bool:
        return len(self.answered) == len(self.sent) and sum(map(len, self.told.values())) >= len(LIFE) * len(self.sent)


async def run(plan: OrdersPlan) -> dict[str, Any]:
    orders = Orders()
    controls: list[Control] = []
    try:
        stage("connect")
        feed = await Control.open(plan.feed)
        controls.append(feed)
        quoting = asyncio.ensure_future(_quote(feed, plan))
        officer = await Control.open(plan.officer)
        controls.append(officer)
        await _open_market(officer, plan)
        controls.append(await Control.open(plan.reader, on_message=orders.on_report))
        traders = [await Control.open(target, on_message=orders.on_reply) for target in plan.traders]
        controls += traders
        await asyncio.sleep(0.3)
        pacing = asyncio.ensure_future(_pace(orders, traders, plan))
        stage("warm up", plan.warm_up_s)
        await asyncio.sleep(plan.warm_up_s)
        stage("measure", plan.seconds)
        watch = Watch(plan.pids)
        started = time.monotonic()
        orders.recording = True
        await asyncio.sleep(plan.seconds)
        orders.recording = False
        span, cpu, figures = time.monotonic() - started, watch.server_cpu_s(), watch.figures()
        await pacing
        stage("drain", plan.drain_s)
        deadline = time.monotonic() + plan.drain_s
        while time.monotonic() < deadline and not orders.complete:
            await asyncio.sleep(0.02)
        quoting.cancel()
        expected = len(LIFE) * len(orders.sent)
        delivered = sum(map(len, orders.told.values()))
        repeated = sum(len(told) - len(set(told)) for told in orders.told.values())
        return figures | {
            "traders": len(traders),
            "acknowledged_per_s": round(orders.acked / span),
            "expected": expected,
            "delivered": delivered,
            "delivered_percent": round(100 * delivered / expected, 4) if expected else 0.0,
            "missing": max(0, expected - delivered),
            "surplus": repeated,
            "out_of_order": sum(tuple(told) != LIFE for told in orders.told.values()),
            "unanswered": len(orders.sent) - len(orders.answered),
            "answers": dict(orders.answers),
            "refused": sum(count for answer, count in orders.answers.items() if answer != "PENDING_NEW"),
            "ack_latency_ms": orders.ack.figures(),
            "delivery_latency_ms": orders.delivery.figures(),
            "generator_late_ms": orders.late.figures(),
            "server_cpu_us_per_order": round(cpu * 1e6 / orders.acked, 2) if orders.acked else 0.0,
            "rss_mib_end": round(rss_kib(plan.pids) / 1024, 1),
            "histogram": orders.ack.dump(),
        }
    finally:
        for control in controls:
            control.close()


async def _quote(feed: Control, plan: OrdersPlan) -> None:
    """A price that is always fresh."""
    number = 0
    while True:
        for message in plan.market:
            number += 1
            now_us = time.time_ns() // 1000
            numbered = message.replace(wire.NUMBER_SLOT.encode(), b"%d" % number)
            feed.send(numbered.replace(wire.STAMP_SLOT.encode(), b"%d" % now_us))
        await asyncio.sleep(1 / QUOTES_PER_S)


async def _open_market(officer: Control, plan: OrdersPlan) -> None:
    """Set the limits, and wait until an order would pass. Raises TimeoutError."""
    answers: asyncio.Queue[bytes] = asyncio.Queue()
    officer._on_message = answers.put_nowait
    async with asyncio.timeout(READY_S):
        officer.send(plan.limits)
        await answers.get()
        while True:
            officer.send(plan.probe)
            if b'"result":"APPROVED"' in await answers.get():
                return
            await asyncio.sleep(0.1)


async def _pace(orders: Orders, traders: list[Control], plan: OrdersPlan) -> None:
    """Order k at start + k / rate, in turn over the traders; each of them buys and sells in turn."""
    templates = [[wire.Template(message) for message in messages] for messages in plan.messages]
    begun = time.monotonic_ns()
    total = int(plan.rate_per_s * (plan.warm_up_s + plan.seconds))
    index = 0
    while index < total:
        now = time.monotonic_ns()
        while index < total and (due := begun + int(index * 1e9 / plan.rate_per_s)) <= now:
            orders.late.record(now - due)
            orders.sent[wire.FIRST_NUMBER + index] = due
            turn, trader = divmod(index, len(traders))
            sides = templates[trader]
            traders[trader].write(sides[turn % len(sides)].render(due, index))
            index += 1
        await asyncio.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
