"""The commands that make a socket somebody's: `connect`, `refresh`, `subscribe`, `unsubscribe`."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Set
from typing import Any

import msgspec

from hub import __version__
from hub.auth.assurance import mfa_required, two_factors
from hub.auth.dpop import Shown
from hub.auth.service import Authentication, caller_of
from hub.auth.tokens import Claims
from hub.caller import Caller
from hub.channels.access import REFUSALS
from hub.channels.subscriptions import Join, Joining, Subscriptions, finish_all, prepare_all
from hub.clock import Clock
from hub.connections.connection import MAX_IN_FLIGHT, Connection, ConnectionLimits
from hub.connections.registry import Registry
from hub.guard.events import SecurityEvent
from hub.guard.limits import Limits as UserLimits
from hub.guard.threats import BLOCKED_MS, Threats
from protocol.close_codes import CloseCode
from protocol.codec import Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import (
    Connect,
    Connected,
    ErrorBody,
    Limits,
    Refresh,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsubscribed,
)
from storage.revocations import Kind, erased_mark

SIGNED_OUT = "signed out"


class Empty(msgspec.Struct, frozen=True):
    """The result of a command that has nothing to tell."""


class Sessions:
    def __init__(
        self,
        authentication: Authentication,
        subscriptions: Subscriptions,
        registry: Registry,
        *,
        node: str,
        limits: ConnectionLimits,
        user_limits: UserLimits,
        threats: Threats,
        max_message_bytes: int,
        max_subscriptions: int,
        clock: Clock,
    ) -> None:
        self._authentication = authentication
        self._subscriptions = subscriptions
        self._registry = registry
        self._node = node
        self._limits = limits
        self._user_limits = user_limits
        self._threats = threats
        self._advertised = Limits(
            max_message_bytes=max_message_bytes,
            max_subscriptions=max_subscriptions,
            max_commands_in_flight=MAX_IN_FLIGHT,
            max_publishes_per_s=limits.publishes_per_s,
            outbox_bytes=limits.outbox_bytes,
            max_bytes_per_s=limits.bytes_per_s,
        )
        self._clock = clock

    def connect(self, command: Connect, caller: Caller, codec: Codec) -> Connected | Awaitable[Connected]:
        """Authenticate, take over the session, and join every channel asked for: one round trip for all of it."""
        connection = _connection(caller)
        if connection.session:
            raise HubError(ErrorCode.BAD_REQUEST, "already connected; use refresh for a new token")
        if command.token is not None:
            claims = self._authentication.authenticate(command.token, _shown(connection, command.proof))
            if not isinstance(claims, Claims):
                return self._enter_once_known(connection, command, claims)
        elif connection.claims is not None:
            claims = self._authentication.admit(connection.claims)
        else:
            raise HubError(ErrorCode.UNAUTHORIZED, "connect needs a token", path="$.token")
        return self._enter(connection, command, claims)

    async def _enter_once_known(self, connection: Connection, command: Connect, claims: Awaitable[Claims]) -> Connected:
        """Meanwhile the connection runs no other command: they must find it connected."""
        result = self._enter(connection, command, await claims)
        return await result if isinstance(result, Awaitable) else result

    def _enter(self, connection: Connection, command: Connect, claims: Claims) -> Connected | Awaitable[Connected]:
        caller = caller_of(
            claims,
            transport="websocket",
            address=connection.address,
            connection=connection,
            kind=command.kind,
            name=command.name,
        )
        return self.enter(connection, command, caller)

    def enter(self, connection: Connection, command: Connect, caller: Caller) -> Connected | Awaitable[Connected]:
        """What `connect` does once it is known who asks."""
        self._admit(caller)
        session = command.session or secrets.token_urlsafe(12)
        if not self._registry.carries(caller.user, session):
            self._user_limits.admit_user(caller.user, caller.address, self._registry.sockets_of(caller.user))
        connection.user_publishes = self._user_limits.publishing(caller.user, caller.address)
        connection.entered(caller, session)
        if (earlier := self._registry.enter_session(connection)) is not None:
            earlier.close(CloseCode.REPLACED)
        if not command.subscriptions:
            return self._connected(connection, {})
        joins = self._subscriptions.join_all(connection, caller, command.subscriptions)
        if all(isinstance(each, ErrorBody) or each.ready for each in joins.values()):
            return self._connected(connection, joins)
        return self._connected_once_joined(connection, joins)

    def _admit(self, caller: Caller) -> None:
        """Raises HubError(rate_limited, mfa_required) for somebody who is a threat at the moment."""
        self._threats.hear(SecurityEvent(name="session_seen", user=caller.user, address=caller.address))
        threat = self._threats.assess(caller.address, caller.user)
        if threat.action == "BLOCK":
            raise HubError(ErrorCode.RATE_LIMITED, "blocked for now", retry_after_ms=BLOCKED_MS)
        if threat.action == "CHALLENGE" and not two_factors(caller):
            raise mfa_required()

    def refresh(self, command: Refresh, caller: Caller, codec: Codec) -> dict[str, Any] | Awaitable[dict[str, Any]]:
        """A new token for a living connection. It must name the same user."""
        shown = _shown(_connection(caller), command.proof)
        claims = self._authentication.authenticate(command.token, shown)
        return self._refresh(caller, claims) if isinstance(claims, Claims) else self._refresh_once_known(caller, claims)

    async def _refresh_once_known(self, caller: Caller, claims: Awaitable[Claims]) -> dict[str, Any]:
        return self._refresh(caller, await claims)

    def _refresh(self, caller: Caller, claims: Claims) -> dict[str, Any]:
        connection = _connection(caller)
        if claims.sub != caller.user:
            raise HubError(ErrorCode.TOKEN_INVALID, "the token names another user", path="$.token")
        fresh = caller_of(
            claims,
            transport="websocket",
            address=connection.address,
            connection=connection,
            kind=caller.kind,
            name=caller.name,
        )
        self._re_enter(connection, fresh)
        return {"expires_at": fresh.expires_at}

    def review(self, touched: Set[tuple[Kind, str]]) -> None:
        """Something was taken from these: judge their connections anew, now."""
        for connection in self._registry:
            caller = connection.caller
            marks: tuple[tuple[Kind, str], ...] = (
                ("user", caller.user),
                ("sign_in", caller.sid),
                ("token", caller.jti),
                ("erased", erased_mark(caller.user)),
            )
            if not connection.open or touched.isdisjoint(marks):
                continue
            try:
                fresh = self._authentication.judge(caller)
            except HubError:
                connection.close(CloseCode.UNAUTHORIZED, reason=SIGNED_OUT)
                continue
            if fresh is not caller:
                self._re_enter(connection, fresh)

    def _re_enter(self, connection: Connection, fresh: Caller) -> None:
        """The same client with other rights: what it may no longer hear ends here."""
        connection.entered(fresh, connection.session)
        for channel in self._subscriptions.revoke(connection, fresh):
            connection.push(
                Unsubscribed(
                    channel=channel,
                    code=ErrorCode.PERMISSION_DENIED.value,
                    reason=REFUSALS["subscribe"],
                )
            )

    def subscribe(
        self, command: Subscribe, caller: Caller, codec: Codec
    ) -> SubscribeResult | Awaitable[SubscribeResult]:
        joining = self._subscriptions.join(_connection(caller), caller, command.channel, command.options())
        return joining.finish() if joining.ready else _complete(joining)

    def unsubscribe(self, command: Unsubscribe, caller: Caller, codec: Codec) -> Empty:
        if not self._subscriptions.unsubscribe(_connection(caller), command.channel):
            raise HubError(ErrorCode.BAD_REQUEST, "not subscribed to this channel", path="$.channel")
        return Empty()

    async def _connected_once_joined(self, connection: Connection, joins: dict[str, Join]) -> Connected:
        return self._connected(connection, await prepare_all(joins))

    def _connected(self, connection: Connection, joins: dict[str, Join]) -> Connected:
        return Connected(
            client=connection.id,
            session=connection.session,
            user=connection.caller.user,
            node=self._node,
            version=__version__,
            expires_at=connection.caller.expires_at,
            ping_interval_ms=int(self._limits.ping_interval_s * 1000),
            limits=self._user_limits.advertise(self._advertised, connection.address),
            server_time=self._clock.now_ms(),
            subscriptions=finish_all(joins),
        )


async def _complete(joining: Joining) -> SubscribeResult:
    await joining.prepare()
    return joining.finish()


def _shown(connection: Connection, proof: str | None) -> Shown | None:
    """In a message a proof is the one that the handshake's `DPoP` header would have."""
    return None if proof is None else Shown(proof, "GET", connection.url)


def _connection(caller: Caller) -> Connection:
    connection = caller.connection
    if not isinstance(connection, Connection):
        raise HubError(ErrorCode.BAD_REQUEST, "this command needs a WebSocket")
    return connection
