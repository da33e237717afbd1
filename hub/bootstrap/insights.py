"""What is worth saying of what somebody reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric

from hub.bootstrap.calls import ModelCalls
from hub.bootstrap.channels import Channels
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.insight.engine.engine import JobHandler
from hub.insight.insights.analyst import Analyst
from hub.insight.insights.coordinator import InsightCoordinator, Model
from hub.insight.insights.door import ChannelDoor
from hub.insight.insights.errors import ErrorWatch
from hub.insight.insights.service import InsightService
from hub.insight.insights.suggestions import Suggestions
from hub.observe.metrics import counter, counters
from storage.consents import Consents
from storage.insights import ErrorGroups, InsightTable
from storage.jobs import Jobs
from storage.sessions import Sessions


class Insights(Room, frozen=True, kw_only=True):
    """`jobs`: by kind, what the analysis engine does for them."""

    coordinator: InsightCoordinator
    jobs: Mapping[str, JobHandler]


def open_insights(ground: Ground, channels: Channels, calls: ModelCalls) -> Insights:
    settings, database, clock = ground.settings.insights, ground.database, ground.clock
    door, table, consents = ChannelDoor(ground.dispatcher), InsightTable(database), Consents(database)
    analyst = Analyst(
        calls.calls,
        table,
        consents,
        Sessions(database),
        door=door,
        needs_consent=settings.consent,
        clock=clock,
    )
    model = None
    if settings.model is not None:
        model = Model(
            table=table,
            jobs=Jobs(database),
            available=lambda: calls.calls.available,
            namespaces=frozenset(settings.namespaces),
        )
    groups = ErrorGroups(database)
    errors = ErrorWatch(groups, model.jobs if model is not None else None, clock=clock)
    coordinator = InsightCoordinator(model, hear=errors.hear, clock=clock)
    ground.dispatcher.listen(errors.hear)
    judged = ground.observability.ai.judged
    suggestions = Suggestions(ground.observability.performance, table, door=door, clock=clock)
    service = InsightService(table, groups, access=channels.access, door=door, judged=judged, clock=clock)
    return Insights(
        coordinator=coordinator,
        jobs=analyst.handlers,
        methods=service.methods,
        metrics=lambda: _measure(coordinator, analyst, errors),
        tasks={"errors": errors.run, "insights": coordinator.run, "suggestions": suggestions.run},
    )


def _measure(coordinator: InsightCoordinator, analyst: Analyst, errors: ErrorWatch) -> Iterable[Metric]:
    answers, outcomes = coordinator.answers.counts, analyst.outcomes.counts
    yield counters("krin_insights_answered", "REST answers by the status of their insights.", "status", answers)
    yield counters("krin_insights_made", "Insights by what became of them: made, or why not.", "outcome", outcomes)
    yield counter("krin_errors_uncounted", "Errors of too many kinds at once to be grouped.", errors.lost)
