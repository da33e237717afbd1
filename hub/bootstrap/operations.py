"""How the hub is doing, as operators see it: metrics of all operations, objectives, and what is told of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from prometheus_client.core import Metric

from hub.bootstrap.connections import Connections
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.room import Room
from hub.brokers.redis import RedisBroker
from hub.observe.metrics import Histogram, Metrics, counters, gauge, gauges, histogram, histograms
from hub.observe.monitors import KrinObservabilityService
from hub.observe.objectives import AVERAGE, Objective, Totals
from hub.observe.operations import Operations
from hub.observe.siblings import TOPIC, Siblings
from protocol.close_codes import CloseCode

Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]
"""(what a scraper accepts) -> what it gets, and the media type of that."""

BROADCAST_MS = 100.0
REST_MEAN_MS = 50.0
BURN_OVER_S = 300
SLOW = CloseCode.SLOW_CONSUMER.name.lower()
QUANTILES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
QUANTILES_OVER_S = 60


def open_operations(
    ground: Ground,
    delivery: Delivery,
    connections: Connections,
    *,
    health: Callable[[], Sequence[str]],
    scale_hint: Callable[[], float],
) -> Room:
    service, latency = ground.observability, delivery.meter.latency

    registry, broker = connections.registry, delivery.broker
    counted = deque([tuple(latency.counts)], maxlen=QUANTILES_OVER_S)  # one a status

    def figures() -> dict[str, Any]:
        """As the table in hub/README.md has them."""
        everyone = list(registry)
        quantiles = latency.quantiles([*QUANTILES.values()], since=counted[0]) or ()
        counted.append(tuple(latency.counts))
        return {
            "connections": len(everyone),
            "kinds": Counter(each.caller.kind or "other" for each in everyone),
            "commands": sum(ground.dispatcher.commands.values()),
            "delivered": delivery.fanout.delivered,
            "conflated": registry.conflated,
            "cut_off": registry.ended.counts.get(SLOW, 0),
            "stalled": sum(each.outbox.blocked for each in everyone),
            "outbox_bytes": sum(each.outbox.waiting_bytes for each in everyone),
            "latency_ms": dict(zip(QUANTILES, (round(each, 3) for each in quantiles), strict=True))
            if quantiles
            else {},
            "postgres": delivery.durable.available,
            "redis": broker.available if isinstance(broker, RedisBroker) else None,
            "objectives": [
                {
                    "name": rate.objective.name,
                    "title": rate.objective.title,
                    "budget_left": round(rate.budget_left(), 4),
                    "burn": round(rate.burn(BURN_OVER_S)[0], 4),
                    "firing": [rule.severity for rule in rate.firing],
                }
                for rate in operations.rates
            ],
            "hub_scale_hint": round(scale_hint(), 4),
            "budget_left": round(min(rate.budget_left() for rate in operations.rates), 4),
        }

    operations = Operations(
        objectives_of(service, latency),
        node=ground.settings.node,
        tell=ground.dispatcher.publish,
        health=health,
        figures=figures,
        clock=ground.clock,
    )
    return Room(metrics=lambda: _measure(service, operations), tasks={"operations": operations.run})


def open_exposition(
    ground: Ground, delivery: Delivery, connections: Connections, rooms: Sequence[Room], *, family: str | None
) -> Exposition:
    """What `/metrics` answers: for this process, or for all of its family."""
    metrics = Metrics(room.metrics for room in rooms)
    if family is not None:
        siblings = Siblings(
            family,
            metrics,
            node=ground.settings.node,
            nodes=lambda: connections.presence.nodes,
            announce=delivery.broker.announce,
        )
        delivery.broker.listen(TOPIC, siblings.hear)
        return siblings.exposition

    async def exposition(accept: str) -> tuple[bytes, str]:
        return metrics.exposition(accept)

    return exposition


def objectives_of(service: KrinObservabilityService, latency: Histogram) -> list[Objective]:
    return [
        Objective(
            name="availability",
            title="99.9 % of operations do not fail",
            budget=0.001,
            read=lambda: _failed(service),
            bad='sum(rate(krin_operations_total{{outcome="failed"}}[{window}]))',
            events="sum(rate(krin_operations_total[{window}]))",
        ),
        Objective(
            name="broadcast",
            title=f"99 % of deliveries within {BROADCAST_MS:g} ms",
            budget=0.01,
            read=lambda: Totals(bad=latency.above(BROADCAST_MS), events=latency.count),
            bad="sum(rate(krin_delivery_latency_ms_count[{window}]))"
            f' - sum(rate(krin_delivery_latency_ms_bucket{{{{le="{BROADCAST_MS:g}"}}}}[{{window}}]))',
            events="sum(rate(krin_delivery_latency_ms_count[{window}]))",
        ),
        Objective(
            name="rest",
            title=f"REST requests take {REST_MEAN_MS:g} ms on average",
            budget=REST_MEAN_MS,
            read=lambda: Totals(*service.rest()),
            rules=(AVERAGE,),
            bad='sum(rate(krin_operation_ms_sum{{operation=~".+ .+"}}[{window}]))',
            events='sum(rate(krin_operation_ms_count{{operation=~".+ .+"}}[{window}]))',
        ),
    ]


def _failed(service: KrinObservabilityService) -> Totals:
    outcomes = service.performance.outcomes
    return Totals(bad=outcomes["failed"], events=sum(outcomes.values()))


def _measure(service: KrinObservabilityService, operations: Operations) -> Iterable[Metric]:
    performance, security, ai, business = service.performance, service.security, service.ai, service.business
    yield histograms("krin_operation_ms", "Operations of users, milliseconds.", "operation", performance.latency_ms)
    yield counters(
        "krin_operations", "Operations of users by outcome; refused is not failed.", "outcome", performance.outcomes
    )
    yield gauges("krin_apdex", "How content users are, 0 to 1, by operation.", "operation", business.apdex())
    yield counters("krin_security_allowed", "Security events of what was allowed.", "event", security.allowed.counts)
    yield counters("krin_security_denied", "Security events of what was denied.", "event", security.denied.counts)
    yield gauges("krin_specialists", "Specialists by state, on each of their axes.", "state", ai.states)
    yield gauges("krin_specialist_seconds", "Where the time of specialists went, seconds.", "activity", ai.seconds)
    yield gauge("krin_coordination_efficiency", "Useful time by useful, waiting and blocked time.", ai.efficiency)
    yield histogram("krin_handoff_seconds", "From a task on offer to somebody who accepts it, seconds.", ai.handoff_s)
    yield gauge("krin_plan_churn", "Of the tasks planned again, the share that changed hands.", ai.churn)
    yield gauge("krin_insight_acceptance", "Of the verdicts on insights, the share of approval.", ai.acceptance)
    yield gauge("krin_active_teams", "Teams with somebody there.", business.teams)
    yield gauge("krin_fill_ratio", "Of the orders that have ended, the share that was filled.", business.fill_ratio)
    yield gauge("krin_reject_ratio", "Likewise denied or rejected.", business.reject_ratio)
    yield gauge("krin_task_cost_usd", "What specialists spent by task completed, US dollars.", business.cost_per_task)
    yield gauges(
        "krin_error_budget_left",
        "Of the share that may be bad; below zero: overdrawn.",
        "objective",
        {rate.objective.name: rate.budget_left() for rate in operations.rates},
    )
    yield gauges(
        "krin_burn_rate",
        "How many times as fast as it may the budget burns, over five minutes.",
        "objective",
        {rate.objective.name: rate.burn(BURN_OVER_S)[0] for rate in operations.rates},
    )
    yield gauges(
        "krin_alerts_firing",
        "Alerts of an objective that fire.",
        "objective",
        {rate.objective.name: float(len(rate.firing)) for rate in operations.rates},
    )
