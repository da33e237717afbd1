"""Who asks: the one piece of context that is handed from the edge to every handler."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from protocol.fields import shaped

Principal = Literal["user", "machine", "operator", "external"]
"""Who a token speaks for: somebody who signed in here, a program with credentials of its own, whoever holds the signing
key (`krin token`), or somebody an outside identity provider vouches for."""


Tenant = Annotated[str, shaped(r"^([a-z0-9][a-z0-9_-]{0,62})?\Z", "1 to 63 of a-z, 0-9, _ and -, or nothing")]
"""Whose house somebody belongs to; "": of none, as in a hub that has no tenants."""


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
    tenant: Tenant = ""
    transport: Literal["websocket", "rest", "system"]
    address: str = ""
    kind: str | None = None
    name: str | None = None
    principal: Principal = "user"
    amr: tuple[str, ...] = ()  # how they proved who they are (RFC 8176)
    auth_time: int = 0  # when they last did, in seconds since 1970; 0: not known
    sid: str = ""  # the sign-in that the token descends from; "": none
    jti: str = ""  # the token's id
    issued_ms: int = 0  # when it was signed, in milliseconds since 1970
    client_id: str = ""  # the OAuth client that acts for the user; "": the user alone
    expires_at: int | None = None  # milliseconds since 1970; None: never
    connection: Any = None  # the hub.connections Connection a command came through; None at the REST door

    @property
    def now(self) -> Caller:
        """Who this is by now: while a command waited, its connection's caller may have got other rights."""
        return self if self.connection is None else self.connection.caller


SYSTEM = Caller(user="krin", roles=frozenset({"admin"}), transport="system", principal="operator")
