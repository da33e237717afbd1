"""Krin and its peers in alternating rounds: A B C, C B A, ...; medians of the rounds, and ratios to the bare floor."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import krin
from benchmarks.peers.base import Peer
from benchmarks.peers.catalogue import PEERS
from benchmarks.plans import Audience, FanoutPlan
from benchmarks.processes import Unavailable
from benchmarks.results import Result, problems_of, record
from benchmarks.runner import LoadFailed, console, run_load, server_cores
from benchmarks.scenarios import MARGIN_S, ladder

COMPARED = ("server_cpu_us_per_delivery", "server_cpu", "deliveries_per_s", "delivered_percent", "generator_cpu")


def measure(peer: Peer, *, subscribers: int, rate: float, seconds: float) -> Result:
    """One broadcast through one server, freshly started. Raises Unavailable, LoadFailed."""
    with krin.workplace() as folder, peer.start(folder, server_cores()) as running:
        plan = FanoutPlan(
            audience=Audience(targets=[running.reader], count=subscribers),
            streams=[running.stream(rate)],
            seconds=seconds,
            pids=list(running.pids),
        )
        return run_load(plan, title=f"{peer.name} {subscribers} x {rate:g}/s", limit_s=seconds + MARGIN_S)


def compare(
    *, subscribers: int, rate: float, seconds: float, rounds: int, only: Sequence[str] = (), name: str = "compare"
) -> Result:
    """The same broadcast through every server that is there."""
    peers = [peer for peer in PEERS if not only or peer.name in only]
    runs: dict[str, list[dict[str, Any]]] = {peer.name: [] for peer in peers}
    skipped: dict[str, str] = {}
    for number in range(rounds):
        for peer in peers if number % 2 == 0 else reversed(peers):
            if peer.name in skipped:
                continue
            try:
                runs[peer.name].append(measure(peer, subscribers=subscribers, rate=rate, seconds=seconds))
            except Unavailable as failure:
                skipped[peer.name] = str(failure)
            except LoadFailed as failure:
                runs[peer.name].append({"failed": str(failure)[:300]})
            last = runs[peer.name][-1] if runs[peer.name] else {}
            told = last.get("latency_ms", {}).get("p99", last.get("failed", skipped.get(peer.name)))
            cpu = last.get("server_cpu_us_per_delivery", "")
            console.print(f"  round {number + 1}  {peer.name:16} p99 {told} ms  {cpu} us/delivery", highlight=False)
    servers = {name: summary(each) for name, each in runs.items() if each}
    floor = servers.get("floor-c", servers.get("floor-python", {})).get("server_cpu_us_per_delivery")
    for each in servers.values():
        if floor and each.get("server_cpu_us_per_delivery"):
            each["cpu_to_floor"] = round(each["server_cpu_us_per_delivery"] / floor, 2)
    figures: dict[str, Any] = {"servers": servers, "skipped": skipped}
    if "krin" in servers and "delivered_percent" in servers["krin"]:
        # The run fails when ours is incomplete; what others lose is a finding about them.
        figures |= {key: sum(run.get(key, 0) for run in runs["krin"]) for key in ("expected", "missing", "surplus")}
    parameters = {"subscribers": subscribers, "rate": rate, "seconds": seconds, "rounds": rounds}
    return record("compare", f"{name}-{subscribers}x{rate:g}", parameters, figures)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds that worked."""
    good = [run for run in runs if "failed" not in run]
    if not good:
        return {"failed": runs[0]["failed"]}
    found: dict[str, Any] = {key: round(statistics.median(run[key] for run in good), 3) for key in COMPARED}
    found["latency_ms"] = {
        key: round(statistics.median(run["latency_ms"][key] for run in good), 3)
        for key in ("p50", "p90", "p99", "p99_9", "max")
    }
    found["missing"] = sum(run["missing"] for run in good)
    found["lost_connections"] = sum(run["lost_connections"] for run in good)
    found["kib_per_connection"] = round(statistics.median(run["process_kib_per_connection"] for run in good), 1)
    found["others_cpu"] = round(max(run["others_cpu"] for run in good), 3)
    found["generator_saturated"] = any(run["generator_saturated"] for run in good)
    found["rounds"] = len(good)
    found["histogram"] = good[0]["histogram"]
    return found


RATES = (100.0, 200.0, 500.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0)
AUDIENCES = (500.0, 1000.0, 2000.0, 4000.0, 6000.0, 8000.0, 10_000.0, 14_000.0)


def highest(what: str, *, seconds: float, only: Sequence[str] = ()) -> Result:
    """The highest rate for 1,000 subscribers, or the largest audience at 100/s, with p99 under 100 ms, nothing missing.

    A step that fails is tried once more: what one hiccup takes must not decide.
    """
    servers: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for peer in PEERS:
        if only and peer.name not in only:
            continue

        def attempt(step: float, peer: Peer = peer) -> Result:
            subscribers, rate = (1000, step) if what == "rate" else (int(step), 100.0)
            figures = measure(peer, subscribers=subscribers, rate=rate, seconds=seconds)
            return {"ok": not problems_of(figures), "figures": figures}

        def step(value: float, attempt: Any = attempt) -> Result:
            first: Result = attempt(value)
            if first["ok"] and first["figures"]["latency_ms"]["p99"] <= 100:
                return first
            again: Result = attempt(value)
            return again if again["ok"] else first

        try:
            held, result, climbed = ladder(step, RATES if what == "rate" else AUDIENCES)
        except Unavailable as failure:
            skipped[peer.name] = str(failure)
            continue
        except LoadFailed as failure:
            servers[peer.name] = {"failed": str(failure)[:300]}
            continue
        figures = result["figures"] if result else {}
        servers[peer.name] = {
            "held": held,
            "deliveries_per_s": figures.get("deliveries_per_s", 0),
            "latency_ms": figures.get("latency_ms", {}),
            "server_cpu_us_per_delivery": figures.get("server_cpu_us_per_delivery", 0),
            "generator_saturated": figures.get("generator_saturated", False),
            "climbed": climbed,
        }
        console.print(f"  {peer.name:16} {what} {held:g}", highlight=False)
    parameters = {"what": what, "steps": RATES if what == "rate" else AUDIENCES, "seconds": seconds, "limit_ms": 100}
    return record("highest", f"highest-{what}", parameters, {"servers": servers, "skipped": skipped})
