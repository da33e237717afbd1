"""The clients of this node, those that keep up least first."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

from hub.caller import Caller
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.registry import Registry
from hub.dispatch import convert
from protocol.clients import ClientList, ClientsFound, ConnectedClient


class Slowest:
    def __init__(self, registry: Registry, *, node: str, limits: ConnectionLimits) -> None:
        self._registry = registry
        self._node = node
        self._limits = limits

    def call(self, params: Mapping[str, Any], caller: Caller) -> ClientsFound:
        """The method `hub.clients`: of its own tenant's for an administrator of a tenant. Raises HubError."""
        asked: ClientList = convert(params, ClientList)
        theirs = [each for each in self._registry if each.session and caller.tenant in ("", each.caller.tenant)]
        return ClientsFound(
            node=self._node,
            connections=len(theirs),
            outbox_bytes=self._limits.outbox_bytes,
            clients=[_described(each) for each in heapq.nlargest(asked.limit, theirs, key=_slowness)],
        )


def _slowness(connection: Connection) -> tuple[bool, int, int, int]:
    outbox = connection.outbox
    return outbox.blocked, outbox.waiting_bytes, outbox.conflated, connection.rtt_ms or 0


def _described(connection: Connection) -> ConnectedClient:
    caller, outbox = connection.caller, connection.outbox
    return ConnectedClient(
        client=connection.id,
        user=caller.user,
        kind=caller.kind,  # type: ignore[arg-type]  # one of the protocol's
        name=caller.name,
        age_s=round(connection.age_s, 1),
        subscriptions=len(connection.subscriptions),
        stalled=outbox.blocked,
        waiting_bytes=outbox.waiting_bytes,
        conflated=outbox.conflated,
        rtt_ms=connection.rtt_ms,
    )
