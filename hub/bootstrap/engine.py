"""The analysis engine: what is done later, by whichever node takes it from the queue."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric

from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.insight.digest import Digests
from hub.insight.engine.engine import AIAnalysisEngine, JobHandler
from hub.observe.metrics import counters, gauge, gauges, histogram
from storage.jobs import Jobs
from storage.news import TeamNews


def open_engine(ground: Ground, *, handlers: Mapping[str, JobHandler]) -> Room:
    """`handlers`: how the other rooms want their jobs done, by kind."""
    database, clock = ground.database, ground.clock
    jobs = Jobs(database)
    digests = Digests(jobs, TeamNews(database), ground.dispatcher.publish, clock=clock)
    engine = AIAnalysisEngine(jobs, handlers={**handlers, **digests.handlers}, node=ground.settings.node, clock=clock)
    return Room(metrics=lambda: _measure(engine), work={"analysis engine": engine.run, "digests": digests.run})


def _measure(engine: AIAnalysisEngine) -> Iterable[Metric]:
    counts = engine.counts
    states = {"waiting": float(counts.waiting), "running": float(counts.running), "parked": float(counts.parked)}
    yield gauges("krin_jobs", "Jobs of the whole queue by state.", "state", states)
    yield gauge("krin_jobs_late_seconds", "For how long the oldest waiting job could have run.", counts.late_s)
    yield counters(
        "krin_jobs_attempts", "Attempts at jobs on this node, by outcome.", "outcome", engine.outcomes.counts
    )
    yield histogram("krin_job_ms", "How long an attempt at a job took, milliseconds.", engine.job_ms)
