"""Who asks: the one piece of context that is handed from the edge to every handler."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Grant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Channel patterns that a token or a user may use beyond what the roles give."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """A principal at one door of the hub. Before `connect` has succeeded a socket's caller has no roles."""

    user: str
    roles: frozenset[str]
    teams: frozenset[str] = frozenset()
    grant: Grant = Grant()
    transport: Literal["websocket", "rest", "system"]
    address: str = ""
    kind: str | None = None
    name: str | None = None
    expires_at: int | None = None  # milliseconds since 1970; None: never
    connection: Any = None  # the hub.connections Connection a command came through; None at the REST door


SYSTEM = Caller(user="krin", roles=frozenset({"admin"}), transport="system")
