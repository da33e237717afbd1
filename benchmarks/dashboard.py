"""The dashboard under load: its own page in Chromium, many symbols that move, and the browser's own trace of it.

The feeder paces the prices over a real socket to a real hub; the page is what anybody opens. What the page shows at the
end is compared with what was published last, symbol by symbol. Frames and long tasks are read from the trace, memory is
taken after the garbage was collected, outside of what is traced. Server, feeder and browser share the machine, so the
CPU that each used stands beside the result.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import krin
from benchmarks.machine import cpu_s, descendants
from benchmarks.processes import Unavailable
from benchmarks.publisher import Control
from benchmarks.results import record
from tests.dashboard.browser import Page, browser_page, chromium_binary

BATCH = 100  # prices in one frame
WARM_UP_S = 5.0
SETTLE_S = 1.0
OPEN_S = 60.0
LONG_TASK_MS = 100.0
FPS = 55.0
GROWTH = 0.1  # of the heap, that counts as flat
CATEGORIES = "-*,devtools.timeline,disabled-by-default-devtools.timeline"
MAIN_THREAD = "CrRendererMain"

# A page draws when it has something to draw; this asks for every frame that it could have drawn.
FRAMES = "(() => { const again = () => requestAnimationFrame(again); again(); })()"
ROWS = "document.querySelectorAll('#prices tbody tr').length"
SHOWN = """(async () => {
  const shown = {};
  for (const row of document.querySelectorAll('#prices tbody tr')) {
    row.scrollIntoView({ block: 'center' });
    const known = () => row.querySelector('.c-bid').textContent;
    const until = performance.now() + 3000;
    while (known() !== wanted[row.$symbol] && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    shown[row.$symbol] = known();
  }
  return shown;
})()"""


class Feeder:
    """Walks the prices of all symbols, `rate` times a second each, in frames made beforehand."""

    TURNS = 50  # of different prices; then the same again

    def __init__(self, control: Control, symbols: Sequence[str], rate: float) -> None:
        dice = random.Random(1)
        self._control = control
        self._rate = rate
        self._turns: list[list[bytes]] = []
        self._prices: list[dict[str, str]] = []
        cents = {symbol: dice.randrange(1_000, 9_000_000) for symbol in symbols}
        for _ in range(self.TURNS):
            cents = {symbol: max(100, price + dice.randrange(-50, 51)) for symbol, price in cents.items()}
            self._prices.append({symbol: f"{price / 100:.2f}" for symbol, price in cents.items()})
            commands = [_publish(symbol, price) for symbol, price in cents.items()]
            frames = [commands[start : start + BATCH] for start in range(0, len(commands), BATCH)]
            self._turns.append([b"[" + b",".join(frame) + b"]" for frame in frames])
        self.sent = 0
        self.late_ms = 0.0
        self.last: dict[str, str] = {}

    async def run(self, seconds: float) -> None:
        """Turn k begins at start + k / rate; one that is late is sent all the same."""
        began = time.monotonic()
        for turn in range(round(seconds * self._rate)):
            due = began + turn / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.late_ms = max(self.late_ms, (time.monotonic() - due) * 1000)
            at = turn % self.TURNS
            for frame in self._turns[at]:
                self._control.send(frame)
            self.sent += len(self._prices[at])
            self.last = self._prices[at]


def _publish(symbol: str, cents: int) -> bytes:
    data = {
        "symbol": symbol,
        "bid": f"{cents / 100:.2f}",
        "ask": f"{cents / 100 + 0.02:.2f}",
        "mid": f"{cents / 100 + 0.01:.2f}",
        "state": "LIVE",
        "quality": {"sources_ok": 4, "sources_total": 4, "bid_source": "alpha", "ask_source": "beta"},
    }
    message = {"type": "PRICE_TICK", "data": data}
    return krin.compact({"type": "publish", "id": 2, "channel": f"prices:{symbol}", "message": message})


def dashboard(*, symbols: int = 500, rate: float = 20, seconds: float = 60) -> dict[str, Any]:
    """Frames a second, long tasks and memory of the dashboard's Market view while every symbol moves."""
    binary = chromium_binary()
    if binary is None:
        raise Unavailable("chromium is not installed")
    with krin.workplace() as folder, krin.hub(folder, on=None) as node:
        figures = asyncio.run(_measured(node, binary, [f"SYM{index:03d}" for index in range(symbols)], rate, seconds))
    result = record(
        "dashboard",
        f"dashboard-{symbols}x{rate:g}",
        {"symbols": symbols, "rate_per_symbol": rate, "seconds": seconds},
        figures,
    )
    result["problems"] += problems_of(figures)
    result["ok"] = not result["problems"]
    return result


def problems_of(figures: dict[str, Any]) -> list[str]:
    found = []
    if figures["fps_median"] < FPS:
        found.append(f"{figures['fps_median']:g} frames a second, less than {FPS:g}")
    if figures["longest_task_ms"] > LONG_TASK_MS:
        found.append(f"a task of {figures['longest_task_ms']:g} ms")
    if figures["heap_growth"] > GROWTH:
        found.append(f"the heap grew by {figures['heap_growth']:.0%}")
    if figures["wrong_at_the_end"]:
        found.append(f"{figures['wrong_at_the_end']} symbols do not show what was published last")
    if figures["complaints"]:
        found.append(f"the page complained: {figures['complaints'][0]}")
    return found


async def _measured(node: krin.Node, binary: str, symbols: list[str], rate: float, seconds: float) -> dict[str, Any]:
    control = await Control.open(node.target(node.token("feed", "feed"), kind="trader"))
    feeder = Feeder(control, symbols, rate)
    await feeder.run(1 / rate)
    with tempfile.TemporaryDirectory(prefix="krin-chromium-") as profile:
        async with browser_page(binary, Path(profile)) as page:
            url = f"http://127.0.0.1:{node.port}"
            await page.open(f"{url}/#token={node.token('reader', 'dashboard')}", width=1440, height=900)
            await page.until(f"{ROWS} === {len(symbols)}", within_s=OPEN_S)
            await feeder.run(WARM_UP_S)
            before = await _heap(page)
            await page.evaluate(FRAMES)
            await page.command("Tracing.start", categories=CATEGORIES, transferMode="ReturnAsStream")
            browser, hub = descendants(page.process_id), descendants(node.pid)
            used = {"browser": -cpu_s(browser), "hub": -cpu_s(hub), "feeder": -time.process_time()}
            began, feeder.sent, feeder.late_ms = time.monotonic(), 0, 0.0
            await feeder.run(seconds)
            took = time.monotonic() - began
            used["browser"] += cpu_s(browser)
            used["hub"] += cpu_s(hub)
            used["feeder"] += time.process_time()
            trace = await _trace(page)
            await asyncio.sleep(SETTLE_S)
            after = await _heap(page)
            wanted = {symbol: f"{float(price):,.2f}" for symbol, price in feeder.last.items()}
            await page.evaluate(f"void (window.wanted = {json.dumps(wanted)})")
            shown = await page.evaluate(SHOWN)
            complaints = page.complaints
    control.close()
    return {
        **read_trace(trace),
        "updates_per_s": round(feeder.sent / took),
        "feeder_late_ms_max": round(feeder.late_ms, 1),
        "publish_errors": control.error_count,
        "heap_mib": [round(each / 2**20, 2) for each in (before, after)],
        "heap_growth": round(after / before - 1, 3),
        "wrong_at_the_end": sum(shown.get(symbol) != price for symbol, price in wanted.items()),
        "cpu_percent_of_a_core": {name: round(100 * spent / took, 1) for name, spent in used.items()},
        "complaints": complaints,
    }


async def _heap(page: Page) -> float:
    """Bytes of JavaScript objects that are still in use."""
    await page.command("HeapProfiler.collectGarbage")
    await page.command("Performance.enable")
    metrics = (await page.command("Performance.getMetrics"))["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "JSHeapUsedSize"))


async def _trace(page: Page) -> list[dict[str, Any]]:
    complete = page.event("Tracing.tracingComplete")
    await page.command("Tracing.end")
    stream = (await complete)["stream"]
    parts = []
    while True:
        part = await page.command("IO.read", handle=stream, size=2**20)
        parts.append(part["data"])
        if part["eof"]:
            break
    await page.command("IO.close", handle=stream)
    events: list[dict[str, Any]] = json.loads("".join(parts))["traceEvents"]
    return events


def read_trace(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Frames and tasks of the page's main thread. Times in a trace are microseconds."""
    threads = {
        (each["pid"], each["tid"])
        for each in events
        if each["name"] == "thread_name" and each["args"].get("name") == MAIN_THREAD
    }
    frames: dict[tuple[int, int], list[float]] = {thread: [] for thread in threads}
    tasks: dict[tuple[int, int], list[float]] = {thread: [] for thread in threads}
    working: dict[tuple[int, int], list[float]] = {thread: [] for thread in threads}  # without the waits for a core
    for each in events:
        thread = (each.get("pid"), each.get("tid"))
        if thread not in frames:
            continue
        if each["name"] == "FireAnimationFrame":
            frames[thread].append(each["ts"])  # type: ignore[index]
        elif each["name"] == "RunTask" and "dur" in each:
            tasks[thread].append(each["dur"] / 1000)  # type: ignore[index]
            working[thread].append(each.get("tdur", 0) / 1000)  # type: ignore[index]
    main = max(frames, key=lambda thread: len(frames[thread]))
    moments, lengths = sorted(set(frames[main])), sorted(tasks[main])
    gaps = [(later - earlier) / 1000 for earlier, later in itertools.pairwise(moments)]
    spans = [gap for gap in gaps if gap > 1]  # two callbacks of one frame are one frame
    per_second = [0] * (math.floor((moments[-1] - moments[0]) / 1e6) or 1)
    elapsed = 0.0
    for span in spans:
        elapsed += span
        if elapsed / 1000 < len(per_second):
            per_second[int(elapsed / 1000)] += 1
    return {
        "fps_median": statistics.median(per_second),
        "fps_lowest_second": min(per_second),
        "frame_ms": {"p50": _at(spans, 0.5), "p99": _at(spans, 0.99), "max": round(max(spans), 1)},
        "tasks": len(lengths),
        "longest_task_ms": round(lengths[-1], 1),
        "longest_task_cpu_ms": round(max(working[main]), 1),
        "main_thread_busy_percent": round(0.1 * sum(working[main]) / (moments[-1] - moments[0]) * 1e6, 1),
        "tasks_over_50_ms": sum(length > 50 for length in lengths),
    }


def _at(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1)
