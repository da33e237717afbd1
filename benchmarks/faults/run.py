"""One run: a cluster, a workload, a plan of faults, quiescence, and the checker's word."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.faults import checker
from benchmarks.faults.checker import Violation
from benchmarks.faults.cluster import Cluster, eventually
from benchmarks.faults.history import Delivery, History, Incident, Promise, Stored
from benchmarks.faults.nemesis import Nemesis, plan
from benchmarks.faults.wire import Lost, Wire
from benchmarks.faults.workload import Clients, Publisher, Sizes, Subscriber

JOIN_LIMIT_S = 20.0
SETTLE_LIMIT_S = 60.0
CATCH_UP_LIMIT_S = 20.0
LOG = 'SELECT c.name, c.epoch, m."offset", m.key FROM messages AS m JOIN channels AS c ON c.id = m.channel_id'
HEADS = "SELECT name, epoch, top FROM channels"
Progress = Callable[[str], None]
Scene = Callable[[Cluster, Nemesis], Any]


class Tally(msgspec.Struct, kw_only=True):
    """The figures of one class of messages."""

    published: int = 0
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    delivered: int = 0
    lost: int = 0
    repeated: int = 0
    reordered: int = 0
    phantom: int = 0
    arrival_p50_s: float = 0.0
    arrival_p99_s: float = 0.0
    arrival_max_s: float = 0.0


class Hurt(msgspec.Struct, kw_only=True):
    """The figures of one kind of fault. The times are of those that came `alone`, without another close by.

    `bound`: with no failure in n, the rate is below this with 95 % certainty.
    """

    count: int
    alone: int
    durable_p50_s: float
    durable_max_s: float
    broker_p50_s: float
    broker_max_s: float
    bound: float


class Report(msgspec.Struct, kw_only=True):
    seed: int
    seconds: float
    nodes: int
    classes: dict[str, Tally]
    faults: dict[str, Hurt]
    connections: int
    repeats_dropped: int
    errors: dict[str, int]
    violations: list[Violation]

    @property
    def clean(self) -> bool:
        return not self.violations


LOSSES = ("lost-write", "unseen", "silent-hole", "poll-skip", "stale")
FIGURE = dict.fromkeys(LOSSES, "lost") | {
    "duplicate": "repeated",
    "nonmonotonic-poll": "reordered",
    "inconsistent-offsets": "reordered",
    "backwards": "reordered",
    "phantom": "phantom",
}


def report_of(history: History, *, seed: int, seconds: float, nodes: int, subscribers: list[Subscriber]) -> Report:
    violations = checker.check(history)
    classes: dict[Promise, Tally] = {"durable": Tally(), "recoverable": Tally(), "latest": Tally()}
    for key in {(attempt.channel, attempt.key) for attempt in history.attempts}:
        classes[history.promises[key[0]]].published += 1
    verdicts = {"ack": "acknowledged", "refused": "refused", "unknown": "unknown"}
    for outcome in history.outcomes:
        tally = classes[history.promises[outcome.channel]]
        setattr(tally, verdicts[outcome.verdict], getattr(tally, verdicts[outcome.verdict]) + 1)
    for poll in history.polls:
        if isinstance(poll, Delivery):
            classes[history.promises[poll.channel]].delivered += 1
    for violation in violations:
        figure = FIGURE.get(violation.anomaly)
        if figure is not None and violation.channel:
            tally = classes[history.promises[violation.channel]]
            setattr(tally, figure, getattr(tally, figure) + 1)
    for promise, tally in classes.items():
        arrivals = checker.delays(history, promise)
        tally.arrival_p50_s = checker.quantile(arrivals, 0.5)
        tally.arrival_p99_s = checker.quantile(arrivals, 0.99)
        tally.arrival_max_s = checker.quantile(arrivals, 1)
    return Report(
        seed=seed,
        seconds=seconds,
        nodes=nodes,
        classes={str(name): tally for name, tally in classes.items()},
        faults=_hurts(history),
        connections=sum(each.connections for each in subscribers),
        repeats_dropped=sum(each.repeats for each in subscribers),
        errors=dict(Counter(outcome.error for outcome in history.outcomes if outcome.error)),
        violations=violations,
    )


def _hurts(history: History) -> dict[str, Hurt]:
    durable = checker.outages(history, ["durable"])
    broker = checker.outages(history, ["recoverable", "latest"])
    alone = Counter(outage.kind for outage in durable)
    counts = Counter(fault.kind for fault in history.faults)
    hurts = {}
    for kind, count in sorted(counts.items()):
        silences = [outage.silence_s for outage in durable if outage.kind == kind]
        others = [outage.silence_s for outage in broker if outage.kind == kind]
        hurts[kind] = Hurt(
            count=count,
            alone=alone[kind],
            durable_p50_s=checker.median(silences),
            durable_max_s=max(silences, default=0.0),
            broker_p50_s=checker.median(others),
            broker_max_s=max(others, default=0.0),
            bound=min(1.0, 3 / count),
        )
    return hurts


async def run(
    folder: Path,
    *,
    seconds: float,
    seed: int,
    counts: Mapping[str, int],
    sizes: Sizes,
    nodes: int = 2,
    plants: tuple[str, ...] = (),
    append_only: bool = False,
    apart: bool = False,
    dedupe: bool = True,
    scene: Scene | None = None,
    progress: Progress = lambda line: None,
    history_file: Path | None = None,
) -> Report:
    """A whole run. `scene` is awaited between two halves of the workload: for faults that need everybody's silence."""
    progress("starting Postgres, Redis and the nodes")
    async with Cluster(folder, nodes=nodes, plants=plants, append_only=append_only) as cluster:
        return await run_on(
            cluster,
            seconds=seconds,
            seed=seed,
            counts=counts,
            sizes=sizes,
            apart=apart,
            dedupe=dedupe,
            scene=scene,
            progress=progress,
            history_file=history_file,
        )


async def run_on(
    cluster: Cluster,
    *,
    seconds: float,
    seed: int,
    counts: Mapping[str, int],
    sizes: Sizes,
    apart: bool = False,
    dedupe: bool = True,
    scene: Scene | None = None,
    progress: Progress = lambda line: None,
    history_file: Path | None = None,
) -> Report:
    """As `run`, on a cluster whose channels nobody has written to yet."""
    history = History(sizes.promises)
    clients = Clients(cluster.nodes, cluster.token, history, seed=seed)
    numbers = itertools.count(1)
    subscribers = [
        Subscriber(clients, f"s{index}", sizes.promises, dedupe=dedupe) for index in range(sizes.subscribers)
    ]
    following = [asyncio.ensure_future(subscriber.run()) for subscriber in subscribers]
    publishing: list[asyncio.Future[None]] = []
    telling = asyncio.ensure_future(_tell(history, clients, progress))
    try:
        await eventually(
            lambda: all(len(s.positions) == len(sizes.promises) for s in subscribers), within_s=JOIN_LIMIT_S
        )
        clients.started = time.monotonic()
        publishers = [Publisher(clients, f"p{index}", sizes, numbers) for index in range(sizes.publishers)]
        nemesis = Nemesis(cluster, history, [*publishers, *subscribers], seed=seed, now=clients.now)
        publishing = [asyncio.ensure_future(publisher.run()) for publisher in publishers]
        await nemesis.run(plan(seconds, counts, seed=seed, apart=apart))
        if scene is not None:
            await scene(cluster, nemesis)
        await asyncio.sleep(max(0.0, seconds - clients.now()))
        for publisher in publishers:
            publisher.stopping = True
        await _settle(publishing, history, clients)
        await _read_truth(cluster, history, sizes)
        await _catch_up(subscribers, history, clients)
    finally:
        for task in (*publishing, *following, telling):
            task.cancel()
        await asyncio.gather(*publishing, *following, telling, return_exceptions=True)
    history.incidents += [Incident(clients.now(), "node-died", why) for why in cluster.died]
    if history_file is not None:
        history.save(history_file)
    progress("judging")
    return report_of(history, seed=seed, seconds=seconds, nodes=len(cluster.nodes), subscribers=subscribers)


async def _tell(history: History, clients: Clients, progress: Progress) -> None:
    while True:
        acked = sum(outcome.verdict == "ack" for outcome in history.outcomes)
        delivered = len(history.polls)
        faults = len(history.faults)
        progress(f"{clients.now():6.0f} s  {acked} acknowledged  {delivered} delivered  {faults} faults")
        await asyncio.sleep(1)


async def _settle(publishing: list[asyncio.Future[None]], history: History, clients: Clients) -> None:
    """Wait until every message has an outcome: everything is up, so this must end."""
    done, pending = await asyncio.wait(publishing, timeout=SETTLE_LIMIT_S)
    if pending:
        history.incidents.append(Incident(clients.now(), "stuck", f"{len(pending)} publishers never got an answer"))
    for publisher in done:
        publisher.result()


async def _read_truth(cluster: Cluster, history: History, sizes: Sizes) -> None:
    """The log from Postgres, and the positions of the other channels from a node. What the hub says of itself, such as
    an alert that answers take long under these faults, is not the workload's.
    """
    rows = await cluster.postgres.query(LOG)
    history.stored += [Stored(*row) for row in rows if row["name"] in history.promises]
    history.heads |= {row["name"]: (row["epoch"], row["top"]) for row in await cluster.postgres.query(HEADS)}
    others = [*sizes.channels["recoverable"], *sizes.channels["latest"]]

    async def ask() -> bool:
        with contextlib.suppress(Lost):
            wire = await Wire.open(cluster.nodes[0].ws_url, cluster.token, lambda push: None)
            try:
                for channel in others:
                    reply = await wire.send({"type": "history", "channel": channel, "limit": 1, "reverse": True})
                    if "error" in reply:
                        return False
                    history.heads[channel] = (reply["result"]["epoch"], reply["result"]["offset"])
                return True
            finally:
                await wire.close()
        return False

    await eventually(ask, within_s=CATCH_UP_LIMIT_S)


async def _catch_up(subscribers: list[Subscriber], history: History, clients: Clients) -> None:
    """Wait until every subscriber stands at every head. Those that never get there are the checker's to name."""

    def behind() -> list[str]:
        return [
            f"{subscriber.name} in {channel}: {subscriber.positions[channel]} of {head}"
            for subscriber in subscribers
            for channel, head in history.heads.items()
            if head[1] and channel in subscriber.positions and subscriber.positions[channel] != head
        ]

    try:
        await eventually(lambda: not behind(), within_s=CATCH_UP_LIMIT_S)
    except TimeoutError:
        late = behind()
        history.incidents.append(Incident(clients.now(), "stuck", f"{len(late)} positions, first {late[0]}"))
