"""The doors under /v1, and what every one of them checks."""

from __future__ import annotations

from hub.bootstrap.auth import Auth
from hub.bootstrap.ground import Ground
from hub.bootstrap.guard import Guard
from hub.bootstrap.room import Room
from hub.edge.envelope import KrinAPIService
from hub.edge.rest import RestRoutes
from hub.edge.security import RevolutionarySecurityService
from hub.privacy.opt_outs import OptOuts
from storage.consents import Consents


class Rest(Room, frozen=True, kw_only=True):
    """`service` makes routes for other rooms, with the envelope and the checks of all."""

    service: KrinAPIService


def open_rest(ground: Ground, auth: Auth, guard: Guard) -> Rest:
    clock, dispatcher = ground.clock, ground.dispatcher
    opt_outs = OptOuts(Consents(ground.database), clock=clock)
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
        clock=clock,
        opted_out=opt_outs.hear,
    )
    channels = RestRoutes(service, dispatcher, max_body_bytes=ground.settings.limits.message_bytes)
    return Rest(service=service, routes=channels.routes, tasks={"opt-outs": opt_outs.run})
