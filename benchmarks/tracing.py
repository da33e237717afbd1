"""What tracing costs a broadcast: off, against a hub out of which the code was cut, and with one message in a hundred.

Two processes of one program differ by luck, and by more than is looked for. So off and cut out are one process whose
code is exchanged between two loads (`benchmarks.untraced`); what samples is compared over several sets of processes,
each set started anew; and two hubs with tracing off are compared in the same way, to show how large the luck is.
"""

from __future__ import annotations

import math
import os
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t as student

from benchmarks import krin, untraced
from benchmarks.otlp import receiver
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.results import problems_of, record
from benchmarks.runner import run_load, server_cores

MARGIN_S = 90.0
SWITCH_S = 5.0
SAMPLE_RATIO = 0.01
OFF_BOUND = 1.02  # off against cut out
SAMPLED_BOUND = 1.05  # sampled against off
PLAIN, OTHER, SAMPLED = "plain", "other", "sampled"  # the processes of a set
# Every load, with the process that carries it. Each second round, and each second start, is the mirror image: what
# drifts meanwhile is in nobody's favour.
LOADS = (("cut", PLAIN), ("off", PLAIN), ("off again", OTHER), ("sampled", SAMPLED))


class Ratio(NamedTuple):
    """The geometric mean of ratios; the true one lies between `low` and `high` with 95 % of confidence."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} (95 % interval {self.low:.3f} to {self.high:.3f})"


def tracing(
    *, subscribers: int = 1000, rate: float = 100, sets: int = 6, rounds: int = 2, seconds: float = 3
) -> dict[str, Any]:
    """`off_ratio`, `sampled_ratio` and, as the control, `luck_ratio`: CPU per delivery, each against its other in the
    same set of processes."""
    runs: dict[str, list[list[dict[str, Any]]]] = {load: [] for load, _ in LOADS}
    with krin.workplace() as folder, receiver() as spans:
        for number in range(sets):
            for measured in runs.values():
                measured.append([])
            with ExitStack() as stack:
                started = (PLAIN, OTHER, SAMPLED)[:: -1 if number % 2 else 1]
                nodes = {name: stack.enter_context(_hub(folder, name, spans.url)) for name in started}
                for turn in range(rounds):
                    for load, name in LOADS[:: -1 if turn % 2 else 1]:
                        if name == PLAIN:
                            _switch(nodes[name], untraced.CUT if load == "cut" else untraced.WHOLE, _state(folder))
                        title = f"set {number + 1} of {sets}, {load}"
                        runs[load][-1].append(_broadcast(nodes[name], subscribers, rate, seconds, title))
    cpu = {
        load: [[run["server_cpu_us_per_delivery"] for run in of_set] for of_set in measured]
        for load, measured in runs.items()
    }
    off = [[*these, *those] for these, those in zip(cpu["off"], cpu["off again"], strict=True)]
    ratios = {
        "off": ratio_of(cpu["off"], cpu["cut"]),
        "sampled": ratio_of(cpu["sampled"], off),
        "luck": ratio_of(cpu["off again"], cpu["off"]),
    }
    flat = [run for measured in runs.values() for of_set in measured for run in of_set]
    figures = {
        **{f"{name}_ratio": ratio._asdict() for name, ratio in ratios.items()},
        "cpu_us_per_delivery": {
            load: round(statistics.median(each for of_set in sets_ for each in of_set), 3)
            for load, sets_ in cpu.items()
        },
        "every_cpu_us_per_delivery": cpu,
        "spans": len(spans.spans),
        "others_cpu": max(run["others_cpu"] for run in flat),
    }
    parameters = {
        "subscribers": subscribers,
        "rate": rate,
        "sets": sets,
        "rounds": rounds,
        "seconds": seconds,
        "sample_ratio": SAMPLE_RATIO,
    }
    result = record("tracing", f"tracing-{subscribers}x{rate:g}", parameters, figures)
    problems = [problem for run in flat for problem in problems_of(run)]
    for what, ratio, bound in (
        ("off, against a hub without it", ratios["off"], OFF_BOUND),
        ("sampled, against a hub with it off", ratios["sampled"], SAMPLED_BOUND),
    ):
        if ratio.low > bound:
            problems.append(f"{what}, tracing costs {ratio}: more than {bound}")
        elif ratio.high > bound:
            result["notes"].append(f"undecided: {what}, tracing costs {ratio}; at most {bound} is wanted")
    if not spans.spans:
        problems.append("no span came")
    return {**result, "ok": not problems, "problems": problems}


def ratio_of(these: Sequence[Sequence[float]], those: Sequence[Sequence[float]]) -> Ratio:
    """Of these against those, set by set. One set gives one ratio, however many runs it had: its processes keep their
    luck for all of them."""
    logs = [
        statistics.fmean(map(math.log, one)) - statistics.fmean(map(math.log, other))
        for one, other in zip(these, those, strict=True)
    ]
    mean = statistics.fmean(logs)
    within = float(student.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(*(round(math.exp(each), 4) for each in (mean, mean - within, mean + within)))


def _hub(folder: Path, name: str, spans_url: str) -> Any:
    """One of a set. Its data stay from set to set: only the process is a new one."""
    program, options, env = "hub", [], {}
    if name == PLAIN:
        program, env = "benchmarks.untraced", {untraced.STATE: str(_state(folder))}
    if name == SAMPLED:
        config = folder / "sampled.toml"
        config.write_text(f'[tracing]\nendpoint = "{spans_url}"\nsample_ratio = {SAMPLE_RATIO}\n')
        options = ["--config", str(config)]
    return krin.hub(
        folder, on=server_cores(), name=name, data_dir=folder / name, program=program, options=options, env=env
    )


def _state(folder: Path) -> Path:
    return folder / "state"


def _switch(node: krin.Node, to: signal.Signals, state: Path) -> None:
    state.unlink(missing_ok=True)
    os.kill(node.pid, to)
    until = time.monotonic() + SWITCH_S
    while not (state.exists() and state.read_text() == to.name):
        if time.monotonic() > until:
            raise TimeoutError(f"the hub has not taken {to.name}")
        time.sleep(0.01)


def _broadcast(node: krin.Node, subscribers: int, rate: float, seconds: float, title: str) -> dict[str, Any]:
    plan = FanoutPlan(
        audience=Audience(
            targets=[node.target(node.token("reader", "dashboard"), ["prices:BTC-USD"])], count=subscribers
        ),
        streams=[node.stream(node.token("feed", "feed"), [krin.tick("BTC-USD")], rate)],
        seconds=seconds,
        pids=[node.pid],
    )
    return run_load(plan, title=title, limit_s=seconds + MARGIN_S)
