"""Negative controls: seven planted faults, each of which harness and checker must find, and one clean run they must
pass. Results of a harness that has not caught all of them do not count."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults.cluster import Cluster
from benchmarks.faults.nemesis import Nemesis
from benchmarks.faults.run import Report, Scene, run
from benchmarks.faults.workload import Sizes

TRAFFIC_S = 2.0


class Control(NamedTuple):
    """`expected`: any of these anomalies counts as caught; none expected means that the run must be clean."""

    name: str
    what: str
    expected: tuple[str, ...]
    plants: tuple[str, ...] = ()
    dedupe: bool = True
    seconds: float = 8.0
    counts: dict[str, int] = {}  # noqa: RUF012 - never changed
    scene: Scene | None = None


class Outcome(NamedTuple):
    control: Control
    report: Report

    @property
    def found(self) -> list[str]:
        """The anomalies in the order in which they were judged, each once."""
        return list(dict.fromkeys(violation.anomaly for violation in self.report.violations))

    @property
    def passed(self) -> bool:
        """Caught, or clean where nothing was planted."""
        return any(each in self.found for each in self.control.expected) if self.control.expected else not self.found


async def lose_the_log(cluster: Cluster, nemesis: Nemesis) -> None:
    """Let commits pile up in Postgres' own memory, then kill all of it at once."""
    for setting in ("wal_writer_delay = '10s'", "wal_writer_flush_after = '256MB'"):
        await cluster.postgres.query(f"ALTER SYSTEM SET {setting}")
    await cluster.postgres.query("SELECT pg_reload_conf()")
    await asyncio.sleep(TRAFFIC_S)
    ended = nemesis.began("postgres killed", "postgres")
    cluster.postgres.kill(everything=True)
    await cluster.postgres.start_again()
    ended()
    await asyncio.sleep(TRAFFIC_S)


async def restore_the_log(cluster: Cluster, nemesis: Nemesis) -> None:
    """Back up, let more be acknowledged, restore the backup as an operator would, and go on."""
    await cluster.postgres.keep_copy()
    await asyncio.sleep(TRAFFIC_S)
    ended = nemesis.began("postgres restored", "postgres")
    for node in cluster.nodes:
        await node.kill()
    await cluster.postgres.restore()
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    ended()
    await asyncio.sleep(TRAFFIC_S)


CUTS = {"client-cut": 25}
KILLS = {"client-cut": 8, "node-kill": 4}
CONTROLS = (
    Control("N0", "nothing planted", (), counts=KILLS | {"redis-stale": 1, "postgres-kill": 1}, seconds=12),
    Control("N0r", "nothing planted, Postgres restored", (), scene=restore_the_log),
    Control("N1", "acknowledged before the commit", ("lost-write",), ("ack-before-commit",), counts=KILLS, seconds=12),
    Control(
        "N2",
        "synchronous_commit off, Postgres killed (log held in its memory for up to 10 s)",
        ("lost-write",),
        ("commit-without-disk",),
        scene=lose_the_log,
    ),
    Control("N3", "no position sweep, a third of the bells lost", ("unseen",), ("no-sweep",)),
    Control("N4", "no dedupe in the client", ("duplicate",), dedupe=False, counts=CUTS),
    Control("N5", "history read before listening", ("poll-skip", "unseen"), ("history-before-live",), counts=CUTS),
    Control("N6", "offsets from a sequence", ("poll-skip", "unseen"), ("offsets-by-sequence",)),
    Control(
        "N7",
        "epoch kept when Postgres was restored",
        ("inconsistent-offsets",),
        ("epoch-survives-restore",),
        scene=restore_the_log,
    ),
    Control(
        "N7r",
        "epoch kept when Redis came back from an old dump",
        ("inconsistent-offsets", "silent-hole"),
        ("epoch-survives-redis",),
        counts={"redis-stale": 2},
    ),
)


async def run_control(control: Control, folder: Path, *, seed: int, progress: Callable[[str], None]) -> Outcome:
    """One control on a cluster of its own."""
    report = await run(
        folder,
        seconds=control.seconds,
        seed=seed,
        counts=control.counts,
        sizes=Sizes(),
        plants=control.plants,
        dedupe=control.dedupe,
        scene=control.scene,
        progress=lambda line: progress(f"{control.name}: {line}"),
    )
    return Outcome(control, report)
