"""What tracing costs a broadcast: off, against a hub out of which the code was cut, and with one message in a hundred.

Off and cut out are one process whose code is exchanged between two loads (`benchmarks.untraced`), so that a difference
is the code's. A second process samples. All get the same load in turn, so that whatever else the machine does
meanwhile meets them all.
"""

from __future__ import annotations

import http.server
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scipy.stats import t as student

from benchmarks import krin, untraced
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.results import problems_of, record
from benchmarks.runner import run_load, server_cores

MARGIN_S = 90.0
SWITCH_S = 5.0
RATIO = 0.01
OFF_BOUND = 1.02  # off against cut out
SAMPLED_BOUND = 1.05  # sampled against off
ORDERS = (("cut", "off", "sampled"), ("sampled", "off", "cut"))  # mirrored: what drifts is in neither's favour


def tracing(*, subscribers: int = 1000, rate: float = 100, rounds: int = 12, seconds: float = 4) -> dict[str, Any]:
    """`off_ratio` and `sampled_ratio`: the CPU per delivery, each against what it is to be held against in the same
    round: the mean of the rounds, with the half width of its 95 % interval."""
    with krin.workplace() as folder, collector() as spans:
        config = folder / "sampled.toml"
        config.write_text(f'[tracing]\nendpoint = "{spans.url}"\nsample_ratio = {RATIO}\n')
        state = folder / "state"
        with (
            krin.hub(
                folder,
                on=server_cores(),
                name="plain",
                data_dir=folder / "plain",
                program="benchmarks.untraced",
                env={untraced.STATE: str(state)},
            ) as plain,
            krin.hub(
                folder,
                on=server_cores(),
                name="sampled",
                data_dir=folder / "sampled",
                options=("--config", str(config)),
            ) as sampled,
        ):
            measured: dict[str, list[dict[str, Any]]] = {name: [] for name in ORDERS[0]}
            for number in range(rounds):
                for name in ORDERS[number % 2]:
                    if name != "sampled":
                        _switch(plain, untraced.CUT if name == "cut" else untraced.WHOLE, state)
                    node = sampled if name == "sampled" else plain
                    measured[name].append(_broadcast(node, subscribers, rate, seconds, f"{name} {number + 1}"))
    cpu = {name: [each["server_cpu_us_per_delivery"] for each in runs] for name, runs in measured.items()}
    off, off_within = _ratio(cpu["off"], cpu["cut"])
    part, part_within = _ratio(cpu["sampled"], cpu["off"])
    figures = {f"{name}_cpu_us_per_delivery": each for name, each in cpu.items()} | {
        "off_ratio": off,
        "off_ratio_within": off_within,
        "sampled_ratio": part,
        "sampled_ratio_within": part_within,
        "spans": spans.count,
        "others_cpu": max(run["others_cpu"] for runs in measured.values() for run in runs),
    }
    parameters = {"subscribers": subscribers, "rate": rate, "rounds": rounds, "seconds": seconds, "sampled": RATIO}
    result = record("tracing", f"tracing-{subscribers}x{rate:g}", parameters, figures)
    problems = [problem for runs in measured.values() for run in runs for problem in problems_of(run)]
    if off > OFF_BOUND:
        problems.append(f"off it costs {off} ± {off_within} of a hub without it, at most {OFF_BOUND}")
    if part > SAMPLED_BOUND:
        problems.append(f"sampled it costs {part} ± {part_within} of a hub with it off, at most {SAMPLED_BOUND}")
    if not spans.count:
        problems.append("no span came")
    return {**result, "ok": not problems, "problems": problems}


def _ratio(these: list[float], those: list[float]) -> tuple[float, float]:
    """The geometric mean of the ratios, and how far the true one may be from it with 5 % of error."""
    logs = [math.log(one / other) for one, other in zip(these, those, strict=True)]
    mean = math.exp(statistics.fmean(logs))
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return round(mean, 4), round(mean * error * float(student.ppf(0.975, len(logs) - 1)), 4)


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


class Spans:
    def __init__(self) -> None:
        self.url = ""
        self.count = 0


@contextmanager
def collector() -> Iterator[Spans]:
    """Where spans go by OTLP over HTTP."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = Spans()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["content-length"])))
            spans.count += sum(len(scope.spans) for each in request.resource_spans for scope in each.scope_spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        spans.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield spans
        finally:
            server.shutdown()
            thread.join()
