"""Who is connected to a node, and who does not keep up: the parameters and the result of `hub.clients`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from protocol.fields import Count, Name
from protocol.messages import Kind


class ClientList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Parameters of `hub.clients`."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ConnectedClient(msgspec.Struct, frozen=True, kw_only=True):
    """`stalled`: its socket takes no more at the moment. `waiting_bytes` wait for it, and `conflated` values have been
    merged for it since it came; `rtt_ms` None: not measured yet."""

    client: str
    user: str
    kind: Kind | None
    name: str | None
    age_s: float
    subscriptions: Count
    stalled: bool
    waiting_bytes: Count
    conflated: Count
    rtt_ms: Count | None


class ClientsFound(msgspec.Struct, frozen=True, kw_only=True):
    """The clients of the node that answers, the slowest first, of `connections` in all. `outbox_bytes` may wait for
    each before it is cut off."""

    node: Name
    connections: Count
    outbox_bytes: Count
    clients: list[ConnectedClient]
