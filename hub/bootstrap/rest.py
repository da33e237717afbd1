"""The doors under /v1, and what every one of them checks."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import Metric

from hub.bootstrap.auth import Auth
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.insights import Insights
from hub.bootstrap.room import Room
from hub.edge.envelope import KrinAPIService
from hub.edge.insights import InsightRoutes
from hub.edge.rest import RestRoutes
from hub.edge.screens import ScreenRoutes
from hub.edge.security import RevolutionarySecurityService
from hub.guard.concurrency import Concurrency
from hub.observe.metrics import counter, gauge
from hub.privacy.opt_outs import OptOuts
from storage.consents import Consents


class Rest(Room, frozen=True, kw_only=True):
    """`service` makes routes for other rooms, with the envelope and the checks of all."""

    service: KrinAPIService


def open_rest(ground: Ground, delivery: Delivery, auth: Auth, guard: Guard, insights: Insights) -> Rest:
    clock, dispatcher = ground.clock, ground.dispatcher
    opt_outs = OptOuts(Consents(ground.database), clock=clock)
    concurrency = Concurrency()
    service = KrinAPIService(
        RevolutionarySecurityService(
            auth.authentication,
            guard.limits,
            credentials=auth.credentials,
            threats=guard.threats,
            report=ground.events.report,
            clock=clock,
        ),
        dispatcher,
        permissions=ground.permissions,
        insights=insights.coordinator,
        concurrency=concurrency,
        clock=clock,
        opted_out=opt_outs.hear,
        observe=ground.observability.finished,
        tracing=delivery.tracing,
    )
    max_body_bytes = ground.settings.limits.message_bytes
    channels = RestRoutes(service, dispatcher, max_body_bytes=max_body_bytes)
    noticed = InsightRoutes(service, dispatcher, max_body_bytes=max_body_bytes)
    return Rest(
        service=service,
        routes=[*channels.routes, *noticed.routes, *ScreenRoutes(service, dispatcher).routes],
        metrics=lambda: _measure(service, concurrency),
        tasks={"opt-outs": opt_outs.run},
    )


def _measure(service: KrinAPIService, concurrency: Concurrency) -> Iterable[Metric]:
    yield counter(
        "krin_answers_without_insights", "Insights or analyses that failed or came too late.", service.without_insights
    )
    yield gauge("krin_requests_at_work", "REST requests at work.", concurrency.at_work)
    yield gauge(
        "krin_requests_at_work_limit", "How many may be, as learned from how long they take.", concurrency.limit
    )
    yield counter(
        "krin_requests_overloaded", "REST requests refused because too many were at work.", concurrency.refused
    )
