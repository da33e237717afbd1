"""What many connections need, from what one costs. Pure but for reading results: the page `scale.md` is made of it.

One process is one core. A reader costs a write for each frame; messages that come within one round through the audience
share a frame, so a round takes as long as its writes, and a message waits for one round at most. Between nodes each
message is sealed, published and read back: dear when it travels alone, cheap in company.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import table
from benchmarks.results import Result

PAGE = Path(__file__).parent / "scale.md"
BUSY = 0.5  # of a core: the rest is for storms, collection and the neighbour that has died
PROCESS_CONNECTIONS = 19_000  # the default of [limits] connections
PROCESS_MIB = 105
PER_CONNECTION_S = 1.0  # messages per second to each: a dashboard
PUBLISHED_SHARE = 0.01  # messages published per second, of the number of connections
DURABLE_SHARE = 0.001
HEARD_SHARE = 0.1  # of the messages that a node has listeners for
SIZES = (100_000, 1_000_000, 10_000_000)
CPU_TOLERANCE = 0.3
LATENCY_TOLERANCE = 0.5


class Costs(NamedTuple):
    """Unit costs as measured. `alone_us` and `company_us`: of a message on its way to another node, on both together,
    when it travels by itself and when thousands do. `read_us`: of the load generator, for each frame it reads."""

    write_us: float
    read_us: float
    idle_us_per_s: float
    connect_us: float
    connection_kib: float
    durable_per_s: float
    alone_us: float
    company_us: float
    hop_ms: float
    redis_us: float


class Prediction(NamedTuple):
    cpu: float  # of the server's core, 0 to 1
    p50_ms: float
    p99_ms: float


class Needs(NamedTuple):
    """`first`: what there is least of: the reason why it cannot be fewer processes."""

    processes: int
    first: str
    memory_gib: float
    redis_shards: int
    durable_per_s: float
    postgres_share: float
    return_s: float


def costs_of(results: dict[str, Result], *, here: tuple[Result, Result] | None = None) -> Costs:
    """`here`: a broadcast and messages by themselves to another node, measured now in place of the stored ones.

    Raises KeyError when a result is missing.
    """

    def of(name: str) -> dict[str, Any]:
        figures: dict[str, Any] = results[name]["figures"]
        return figures

    written, sent = here or (results["broadcast-10000x10-json"], results["nodes-1000"])
    broadcast, alone = written["figures"], sent["figures"]
    idle, company = of("idle-5000"), of("nodes-20000")
    seconds = written["parameters"]["seconds"]
    rate = results["nodes-20000"]["parameters"]["rate"]
    copies = alone["expected"] / alone["published"]
    return Costs(
        write_us=broadcast["server_cpu_us_per_delivery"],
        read_us=broadcast["generator_cpu"] * seconds / broadcast["reads"] * 1e6,
        idle_us_per_s=idle["server_cpu"] / idle["connections"] * 1e6,
        connect_us=of("connect-storm-5000")["server_cpu_us_per_connect"],
        connection_kib=idle["process_kib_per_connection"] + idle["kernel_kib_per_connection"]["slab"],
        durable_per_s=of("durable-64x4")["acknowledged_per_s"],
        alone_us=alone["server_cpu_us_per_delivery"] * copies,
        company_us=company["server_cpu_us_per_delivery"] * copies,
        hop_ms=alone["latency_ms"]["p50"],
        redis_us=company["others_cpu"] / (rate * 3) * 1e6,  # once in and out to two: all that others did, at most
    )


def one_node(costs: Costs, *, subscribers: int, rate: float) -> Prediction:
    """One channel, everybody reads everything, and one generator core reads for all: the slower of the two counts."""
    writing_s = subscribers * costs.write_us / 1e6
    round_ms = subscribers * max(costs.write_us, costs.read_us) / 1e3
    return Prediction(min(1.0, rate * writing_s), round_ms * 0.5, round_ms * 0.99)


def two_nodes(costs: Costs, *, rate: float) -> Prediction:
    """A few readers on the other node: what counts is the way there. On a full core messages wait for company."""
    lone = rate * costs.alone_us / 1e6
    if lone < 1:
        return Prediction(lone, costs.hop_ms, costs.hop_ms * 4)
    turn_ms = (costs.alone_us - costs.company_us) / 1e3 / max(1 - rate * costs.company_us / 1e6, 0.01)
    return Prediction(1.0, costs.hop_ms + turn_ms, costs.hop_ms + 2 * turn_ms)


def needs(costs: Costs, connections: int) -> Needs:
    """For a load of the shape that the constants above describe."""
    cores = {
        "writes": connections * PER_CONNECTION_S * costs.write_us / 1e6 / BUSY,
        "keeping alive": connections * costs.idle_us_per_s / 1e6 / BUSY,
    }
    published, durable = connections * PUBLISHED_SHARE, connections * DURABLE_SHARE
    hearing = published * HEARD_SHARE * costs.company_us / 2 / 1e6 / BUSY  # of every process
    by = {
        "connections of a process": connections / PROCESS_CONNECTIONS,
        "processor time": sum(cores.values()) / max(1 - hearing, 0.05),
    }
    first = max(by, key=by.__getitem__)
    processes = math.ceil(by[first])
    if hearing >= 1:
        first = "hearing what others publish"
    copies = published * (1 + processes * HEARD_SHARE)
    return Needs(
        processes=processes,
        first=first,
        memory_gib=connections * costs.connection_kib / 2**20 + processes * PROCESS_MIB / 1024,
        redis_shards=math.ceil(copies * costs.redis_us / 1e6 / BUSY),
        durable_per_s=durable,
        postgres_share=durable / costs.durable_per_s,
        return_s=connections * costs.connect_us / 1e6 / processes,
    )


def requirements(costs: Costs) -> str:
    rows = []
    for connections in SIZES:
        found = needs(costs, connections)
        rows.append(
            [
                f"{connections:,}",
                f"{found.processes:,}",
                found.first,
                f"{found.memory_gib:,.0f}",
                found.redis_shards,
                f"{found.durable_per_s:,.0f} ({found.postgres_share:.0%})",
                f"{found.return_s:.0f}",
            ]
        )
    headings = ["connections", "processes, a core each", "because of", "memory GiB", "Redis shards"]
    return table([*headings, "durable/s (of one Postgres)", "all back after, s"], rows)


def unit_costs(costs: Costs) -> str:
    named = {
        "writing a frame to a reader, us of CPU": costs.write_us,
        "a connection that is silent, us of CPU per second": costs.idle_us_per_s,
        "a connect with its token and a subscription, us of CPU": costs.connect_us,
        "a connection, KiB in process and kernel": costs.connection_kib,
        "durable messages acknowledged per second, one process and one Postgres": costs.durable_per_s,
        "a message to another node by itself, us of CPU on both": costs.alone_us,
        "the same among thousands": costs.company_us,
        "the way to another node, ms": costs.hop_ms,
        "Redis, us of CPU per message in or out, at most": costs.redis_us,
    }
    return table(
        ["what", "costs"],
        [[what, f"{value:,.0f}" if value >= 100 else f"{value:.3g}"] for what, value in named.items()],
    )


def checked(predicted: Prediction, measured: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Predicted beside measured, and what is wrong with it."""
    beside = {
        "cpu_predicted": round(predicted.cpu, 3),
        "cpu_measured": measured["server_cpu"],
        "p50_ms_predicted": round(predicted.p50_ms, 3),
        "p50_ms_measured": measured["latency_ms"]["p50"],
    }
    off = []
    for what, tolerance in (("cpu", CPU_TOLERANCE), ("p50_ms", LATENCY_TOLERANCE)):
        guess, found = beside[f"{what}_predicted"], beside[f"{what}_measured"]
        if abs(guess - found) > tolerance * max(guess, found):
            off.append(f"{what}: {guess:g} predicted, {found:g} measured")
    return beside, off


def fill(text: str, blocks: dict[str, str]) -> str:
    for name, block in blocks.items():
        text = re.sub(
            rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)",
            lambda match, block=block: f"{match[1]}{block}\n{match[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def write(results: dict[str, dict[str, Any]], page: Path = PAGE) -> None:
    """The tables of the page again, from stored results."""
    costs = costs_of(results)
    page.write_text(fill(page.read_text(), {"unit-costs": unit_costs(costs), "needs": requirements(costs)}))
