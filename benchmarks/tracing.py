"""What tracing costs a broadcast: off, against a hub out of which the code was cut, and with one message in a hundred.

The three hubs run side by side on the server's core and get the same load in turn, so that whatever else the machine
does meanwhile meets them all.
"""

from __future__ import annotations

import http.server
import shutil
import statistics
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import krin
from benchmarks.machine import ROOT
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.results import problems_of, record
from benchmarks.runner import run_load, server_cores

MARGIN_S = 90.0
RATIO = 0.01
OFF_BOUND = 1.02  # off against cut out
SAMPLED_BOUND = 1.05  # sampled against off
PACKAGES = ("hub", "protocol", "storage")
BEGIN = """        traced = None
        if self._tracing is not None:
            where = "commit" if namespace.durable else "broker"
            traced = self._tracing.publish(channel, type_name, message.trace, where=where)
            if traced is not None:
                message = replace(message, trace=traced.traceparent)
"""
END = """        if traced is not None:
            placed = traced.followed(placed)
"""


def tracing(*, subscribers: int = 1000, rate: float = 100, rounds: int = 5, seconds: float = 5) -> dict[str, Any]:
    """`off_ratio` and `sampled_ratio`: medians over the rounds of the CPU per delivery, each against what it is to be
    held against in the same round."""
    with krin.workplace() as folder, collector() as spans, ExitStack() as stack:
        config = folder / "sampled.toml"
        config.write_text(f'[tracing]\nendpoint = "{spans.url}"\nsample_ratio = {RATIO}\n')
        nodes = {
            name: stack.enter_context(
                krin.hub(
                    folder,
                    on=server_cores(),
                    name=name,
                    data_dir=folder / f"data-{name}",
                    options=("--config", str(config)) if name == "sampled" else (),
                    root=_cut(folder) if name == "cut" else ROOT,
                )
            )
            for name in ("cut", "off", "sampled")
        }
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in nodes}
        for number in range(rounds):
            names = [*nodes][number % 3 :] + [*nodes][: number % 3]
            for name in names:
                measured[name].append(_broadcast(nodes[name], subscribers, rate, seconds, f"{name} {number + 1}"))
    cpu = {name: [each["server_cpu_us_per_delivery"] for each in runs] for name, runs in measured.items()}
    figures = {f"{name}_cpu_us_per_delivery": each for name, each in cpu.items()} | {
        "off_ratio": _ratio(cpu["off"], cpu["cut"]),
        "sampled_ratio": _ratio(cpu["sampled"], cpu["off"]),
        "spans": spans.count,
        "others_cpu": max(run["others_cpu"] for runs in measured.values() for run in runs),
    }
    parameters = {"subscribers": subscribers, "rate": rate, "rounds": rounds, "seconds": seconds, "sampled": RATIO}
    result = record("tracing", f"tracing-{subscribers}x{rate:g}", parameters, figures)
    problems = [problem for runs in measured.values() for run in runs for problem in problems_of(run)]
    if figures["off_ratio"] > OFF_BOUND:
        problems.append(f"off it costs {figures['off_ratio']} of a hub without it, at most {OFF_BOUND}")
    if figures["sampled_ratio"] > SAMPLED_BOUND:
        problems.append(f"sampled it costs {figures['sampled_ratio']} of a hub with it off, at most {SAMPLED_BOUND}")
    if not spans.count:
        problems.append("no span came")
    return {**result, "ok": not problems, "problems": problems}


def _ratio(these: list[float], those: list[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(these, those, strict=True)), 4)


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


def _cut(folder: Path) -> Path:
    """A copy of the product that cannot trace a publish."""
    root = folder / "cut"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = root / "hub" / "channels" / "publishing.py"
    source = file.read_text()
    if source.count(BEGIN) != 1 or source.count(END) != 1:
        raise LookupError(f"{file.name} has changed: what is to be cut out of it is not found")
    file.write_text(source.replace(BEGIN, "").replace(END, ""))
    return root


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
