"""Teams of specialists: the coordinator on whichever node leads, and its methods on every node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from prometheus_client.core import Metric

from hub.bootstrap.channels import Channels
from hub.bootstrap.delivery import Delivery
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.coordination.archive import Archive
from hub.coordination.contract_desk import ContractDesk, ContractService
from hub.coordination.coordinator import OF, TOPIC, Coordination, Term
from hub.coordination.departures import Departures
from hub.coordination.handoffs import Offer
from hub.coordination.journal import Change
from hub.coordination.people import People, PeopleService
from hub.coordination.plans import Plans, PlanService
from hub.coordination.reports import Counts, SecurityReports
from hub.coordination.service import TeamService
from hub.coordination.tasks.event import TaskEvent
from hub.coordination.tasks.task import Task
from hub.edge.coordination import CoordinationRoutes
from hub.forwarding import Forwarding
from hub.observe.metrics import counter, gauge, gauges
from hub.observe.monitors import KrinObservabilityService
from hub.publication import Publication
from protocol.errors import HubError
from storage.coordination_records import CoordinationRecords


class Team(Room, frozen=True, kw_only=True):
    coordination: Coordination
    departures: Departures


@asynccontextmanager
async def open_coordination(
    ground: Ground, delivery: Delivery, guard: Guard, channels: Channels, rest: Rest
) -> AsyncIterator[Team]:
    settings, clock = ground.settings, ground.clock
    async with ground.database.writer() as writer:
        records = CoordinationRecords(ground.database, writer=writer)

        def counts() -> Counts:
            security = ground.observability.security
            return security.allowed.counts, security.denied.counts, guard.threats.detected

        def durable_channel(channel: str) -> bool:
            try:
                return channels.namespaces.of(channel)[0].durable
            except HubError:  # there is no such channel: nobody listens, and what it is about is written down
                return False

        def ring(publication: Publication) -> None:
            try:
                placed = delivery.broker.publish(publication, channels.namespaces.of(publication.channel)[0])
            except HubError:
                return  # whoever waits for this looks by itself, too
            if isinstance(placed, asyncio.Future):
                placed.add_done_callback(lambda done: done.cancelled() or done.exception())

        def furnish(term: Term) -> None:
            people, plans = People(term), Plans(term, clock=clock)
            watch(term, people, plans, ground.observability)
            term.desks["contracts"] = ContractDesk(term.tasks)
            term.desks["plans"] = plans
            term.desks["security reports"] = SecurityReports(term, node=settings.node, counts=counts)

        coordination = Coordination(
            records,
            delivery.durable,
            durable_channel=durable_channel,
            ring=ring,
            node=settings.node,
            furnish=furnish,
            clock=clock,
        )
        archive = Archive(records, term=lambda: coordination.term)
        service = TeamService(coordination, access=channels.access, archive=archive)
        people = PeopleService(coordination, access=channels.access, archive=archive)
        contracts = ContractService(coordination, access=channels.access, archive=archive)
        plans = PlanService(coordination, access=channels.access, archive=archive)
        forwarding = Forwarding(
            archive.explaining({**service.methods, **people.methods, **plans.methods, **contracts.methods}),
            of=OF,
            topic=TOPIC,
            repeat="look how it stands",
            node=settings.node,
            leads=lambda: coordination.leads,
            announce=delivery.broker.announce,
            as_hub_error=ground.dispatcher.as_hub_error,
            clock=clock,
        )
        delivery.broker.listen(TOPIC, forwarding.hear)
        departures = Departures(forwarding.methods, clock=clock)
        routes = CoordinationRoutes(rest.service, ground.dispatcher, max_body_bytes=settings.limits.message_bytes)
        yield Team(
            coordination=coordination,
            departures=departures,
            methods=departures.methods,
            routes=routes.routes,
            metrics=lambda: _measure(coordination, ground.observability),
            tasks={"forwarded calls of teams": forwarding.run, "departures": departures.run},
            work={"coordinator": coordination.run},
        )


def watch(term: Term, people: People, plans: Plans, observability: KrinObservabilityService) -> None:
    """Whatever the monitors count of a team, as it happens."""
    ai, business = observability.ai, observability.business

    def offered(offer: Offer) -> None:
        if offer.state == "ACCEPTED" and offer.ended_us is not None:
            ai.handed_off((offer.ended_us - offer.offered_us) / 1_000_000)

    def happened(before: Task | None, task: Task, event: TaskEvent, change: Change) -> None:
        if task.state == "COMPLETED" and (before is None or before.state != "COMPLETED"):
            business.task_completed()

    people.handoffs.listeners.append(offered)
    people.budgets.listeners.append(lambda amount: business.task_cost(float(amount.usd)))
    plans.listeners.append(ai.planned_again)
    term.tasks.listeners.append(happened)


def _measure(coordination: Coordination, observability: KrinObservabilityService) -> Iterable[Metric]:
    members = list(coordination.begun.roster.members()) if coordination.begun is not None else []
    observability.ai.track_specialist_coordination(status for _, status in members)
    there = {specialist.team for specialist, status in members if status.presence != "OFFLINE"}
    observability.business.track_teams(len(there))
    yield gauge("krin_coordination_leading", "1 on the node that coordinates.", float(coordination.leads))
    yield counter("krin_coordination_terms", "How often this node has begun to coordinate.", coordination.terms)
    if (term := coordination.begun) is not None:
        counts: dict[str, float] = {}
        for project in term.tasks.projects.values():
            for state, count in project.counts().items():
                counts[state] = counts.get(state, 0) + count
        yield counter("krin_coordination_commits", "Group commits of teams in this term.", term.journal.commits)
        yield gauge("krin_projects", "Projects that are open.", len(term.tasks.projects))
        yield gauges("krin_tasks_of_teams", "Tasks of all projects, by state.", "state", counts)
