"""What teams have learned, and what front ends expect of the hub."""

from __future__ import annotations

from hub.bootstrap.channels import Channels
from hub.bootstrap.ground import Ground
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.coordination.contracts import Contracts
from hub.coordination.knowledge import Knowledge
from hub.edge.knowledge import KnowledgeRoutes
from hub.permissions import METHODS
from storage.knowledge import KnowledgeTable


def open_knowledge(ground: Ground, channels: Channels, rest: Rest) -> Room:
    knowledge = Knowledge(KnowledgeTable(ground.database), access=channels.access, clock=ground.clock)
    contracts = Contracts(channels.namespaces, methods=METHODS)
    routes = KnowledgeRoutes(rest.service, ground.dispatcher, max_body_bytes=ground.settings.limits.message_bytes)
    return Room(methods={**knowledge.methods, **contracts.methods}, routes=routes.routes)
