"""What tracing costs a broadcast: off, against a hub out of which the code was cut, and with one message in a hundred.

Two processes of one program differ by luck, and a machine from one minute to the next, both by more than is looked for.
So a hub's code is exchanged while one load goes on (`benchmarks.untraced`): without, with, with, without, a second
each, and each such block gives one ratio. A load whose code stays as it is shows how large the luck is.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import mstats

from benchmarks import krin, untraced
from benchmarks.machine import cpu_ns
from benchmarks.otlp import receiver
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.results import problems_of, record
from benchmarks.runner import run_load, server_cores

MARGIN_S = 90.0
SWITCH_S = 5.0
SWITCHING_S = 0.05  # what a switch takes at most, as a rule
SAMPLE_RATIO = 0.01
TRIMMED = 0.1  # of the blocks, at either end
CUT, WHOLE = untraced.CUT, untraced.WHOLE


class Compared(NamedTuple):
    """A load, and what it compares. `bound`: what may be the cost; None: a control."""

    name: str
    without: signal.Signals
    sampled: bool
    bound: float | None
    what: str


LOADS = (
    Compared("off", CUT, False, 1.02, "off, against a hub without it"),
    Compared("luck", WHOLE, False, None, "nothing"),
    Compared("sampled", CUT, True, 1.05, "sampled, against a hub without it"),
)


class Ratio(NamedTuple):
    """The trimmed geometric mean of ratios; the true one lies between `low` and `high` with 95 % of confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def tracing(
    *, subscribers: int = 1000, rate: float = 100, sets: int = 2, blocks: int = 24, seconds: float = 1
) -> dict[str, Any]:
    """`off_ratio`, `sampled_ratio` and, as the control, `luck_ratio`: the hub's CPU with the code by that without.

    sets: of processes, started anew; blocks: in each load; seconds: of each of the four slices of a block.
    """
    cpu: dict[str, list[list[float]]] = {load.name: [] for load in LOADS}
    runs = []
    with krin.workplace() as folder, receiver() as spans:
        for number in range(sets):
            for load in LOADS[:: -1 if number % 2 else 1]:
                with _hub(folder, load, spans.url) as node:
                    exchange = _Exchange(node.pid, folder / "state", load.without, blocks=blocks, seconds=seconds)
                    title = f"set {number + 1} of {sets}, {load.name}"
                    runs.append(_broadcast(node, exchange, subscribers, rate, title))
                    cpu[load.name] += exchange.blocks()
    ratios = {name: ratio_of(of_load) for name, of_load in cpu.items()}
    figures = {
        **{f"{name}_ratio": ratio._asdict() for name, ratio in ratios.items()},
        "cpu_s_per_slice": {
            name: [[round(each, 4) for each in block] for block in of_load] for name, of_load in cpu.items()
        },
        "spans": len(spans.spans),
        "delivered": sum(run["delivered"] for run in runs),
        "missing": sum(run["missing"] for run in runs),
        "others_cpu": max(run["others_cpu"] for run in runs),
        "stolen_cpu": max(run["stolen_cpu"] for run in runs),
    }
    parameters = {
        "subscribers": subscribers,
        "rate": rate,
        "sets": sets,
        "blocks": blocks,
        "seconds": seconds,
        "sample_ratio": SAMPLE_RATIO,
    }
    result = record("tracing", f"tracing-{subscribers}x{rate:g}", parameters, figures)
    problems = [problem for run in runs for problem in problems_of(run)]
    for load in LOADS:
        ratio = ratios[load.name]
        if load.bound is not None and ratio.low > load.bound:
            problems.append(f"{load.what}, tracing costs {ratio}: more than {load.bound}")
        elif load.bound is not None and ratio.high > load.bound:
            result["notes"].append(f"undecided: {load.what}, tracing costs {ratio}; at most {load.bound} is wanted")
    if not spans.spans:
        problems.append("no span came")
    return {**result, "ok": not problems, "problems": problems}


def ratio_of(blocks: Sequence[Sequence[float]]) -> Ratio:
    """Of the two slices in the middle of each block against the two around them: what drifts evenly falls out. So does
    a tenth at either end: after a stall of the machine a hub writes several messages at once, which is cheap."""
    logs = [math.log((second + third) / (first + fourth)) for first, second, third, fourth in blocks]
    low, high = mstats.trimmed_mean_ci(logs, limits=(TRIMMED, TRIMMED))
    mean = mstats.trimmed_mean(logs, limits=(TRIMMED, TRIMMED))
    return Ratio(*(round(math.exp(each), 4) for each in (mean, low, high)))


class _Exchange(threading.Thread):
    """Exchanges the code of a hub during a load, and reads what CPU each slice took."""

    def __init__(self, pid: int, state: Path, without: signal.Signals, *, blocks: int, seconds: float) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._state = state
        self._order = [without, WHOLE, WHOLE, without] * blocks
        self._seconds = seconds
        self._cpu_s: list[float] = []

    @property
    def load_s(self) -> float:
        return len(self._order) * (self._seconds + SWITCHING_S)

    def run(self) -> None:
        for to in self._order:
            self._switch(to)
            before = cpu_ns(self._pid)
            time.sleep(self._seconds)
            self._cpu_s.append((cpu_ns(self._pid) - before) / 1e9)

    def blocks(self) -> list[list[float]]:
        """Raises RuntimeError: it could not exchange to the end."""
        self.join(SWITCH_S)
        if len(self._cpu_s) < len(self._order):
            raise RuntimeError(f"only {len(self._cpu_s)} of {len(self._order)} slices were measured")
        return [self._cpu_s[first : first + 4] for first in range(0, len(self._cpu_s), 4)]

    def _switch(self, to: signal.Signals) -> None:
        self._state.unlink(missing_ok=True)
        os.kill(self._pid, to)
        until = time.monotonic() + SWITCH_S
        while not (self._state.exists() and self._state.read_text() == to.name):
            if time.monotonic() > until:
                raise TimeoutError(f"the hub has not taken {to.name}")
            time.sleep(0.001)


def _hub(folder: Path, load: Compared, spans_url: str) -> Any:
    """The data stay from set to set: only the process is a new one."""
    options = []
    if load.sampled:
        config = folder / "sampled.toml"
        config.write_text(f'[tracing]\nendpoint = "{spans_url}"\nsample_ratio = {SAMPLE_RATIO}\n')
        options = ["--config", str(config)]
    env = {untraced.STATE: str(folder / "state")}
    return krin.hub(folder, on=server_cores(), program="benchmarks.untraced", options=options, env=env)


def _broadcast(node: krin.Node, exchange: _Exchange, subscribers: int, rate: float, title: str) -> dict[str, Any]:
    plan = FanoutPlan(
        audience=Audience(
            targets=[node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"])], count=subscribers
        ),
        streams=[node.stream(node.token("feed", "feed"), [krin.tick("BTC-USD")], rate)],
        seconds=exchange.load_s,
        pids=[node.pid],
    )
    limit_s = exchange.load_s + MARGIN_S
    return run_load(plan, title=title, limit_s=limit_s, on_measure=exchange.start)
