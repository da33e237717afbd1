"""Signing in: from a token, a password, a client secret or a refresh token to a caller."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from hub.auth.api_keys import PREFIX, ApiKeys
from hub.auth.passwords import MAX_LENGTH, Passwords, weakness
from hub.auth.revocations import Revoked
from hub.auth.tokens import Claims, Tokens, check_local
from hub.caller import Caller, Grant
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from storage.audit import HUB
from storage.errors import Conflict, Rejected, StorageError
from storage.users import Consumed, OAuthClients, RefreshTokens, SignIn, User, Users

ACCESS_TTL_S = 15 * 60
REFRESH_TTL_S = 14 * 24 * 3600
BUILT_IN_ROLES = ("admin", "feed", "trader", "agent", "dashboard")


class TokenPair(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 6749 section 5.1. Times are seconds."""

    access_token: str
    token_type: str
    expires_in: int
    refresh_token: str | None = None
    scope: str | None = None


class Authentication:
    def __init__(
        self,
        tokens: Tokens,
        passwords: Passwords,
        *,
        users: Users,
        clients: OAuthClients,
        refresh_tokens: RefreshTokens,
        api_keys: ApiKeys,
        revoked: Revoked,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._passwords = passwords
        self._users = users
        self._clients = clients
        self._refresh_tokens = refresh_tokens
        self._api_keys = api_keys
        self._revoked = revoked
        self._clock = clock

    def authenticate(self, token: str) -> Claims | Awaitable[Claims]:
        """Whom an access token speaks for, at once; an API key may have to be looked up, and is an awaitable.

        The claims are as they count now. Raises HubError(token_expired, token_invalid), the awaitable also
        not_available.
        """
        if token.startswith(PREFIX):
            return self._once_found(token)
        return self.admit(self._tokens.verify(token))

    async def _once_found(self, key: str) -> Claims:
        return self.admit(await self._api_keys.authenticate(key))

    def admit(self, claims: Claims) -> Claims:
        """Claims of a moment ago, as they count now. Raises HubError(token_invalid)."""
        return self._revoked.admit(claims)

    def judge(self, caller: Caller) -> Caller:
        """A caller of a moment ago, as it counts now. Raises HubError(token_invalid)."""
        return self._revoked.judge(caller)

    async def start_session(self, user: User, *, amr: list[str]) -> TokenPair:
        """For somebody who has just proven who they are, in the ways of `amr` (RFC 8176)."""
        return await self._pair(user, SignIn(family=uuid4(), amr=amr, auth_time=self._clock.now_ms() // 1000))

    async def step_up(self, user: User, sid: str, *, amr: list[str]) -> TokenPair:
        """An access token of the same session, proven again just now. Raises HubError(token_invalid) if it ended."""
        sign_in = SignIn(family=UUID(sid), amr=amr, auth_time=self._clock.now_ms() // 1000)
        try:
            alive = await self._refresh_tokens.step_up(sign_in)
        except StorageError as failure:
            raise _unavailable() from failure
        if not alive:
            raise HubError(ErrorCode.TOKEN_INVALID, "this sign-in has ended")
        return TokenPair(self._access_token(user, sign_in), "Bearer", ACCESS_TTL_S, scope=" ".join(user.roles))

    async def client_credentials(self, client_id: str, secret: str) -> TokenPair:
        """For agents and services: users whose password is a generated secret, or registered OAuth clients."""
        try:
            client = await self._clients.get(client_id)
        except Rejected:  # no name that could be stored
            client = None
        except StorageError as failure:
            raise _unavailable() from failure
        stored = client.secret_hash if client is not None and not client.disabled else None
        if len(secret) > MAX_LENGTH or not await self._passwords.verify(stored, secret):
            raise HubError(ErrorCode.UNAUTHORIZED, "unknown client or wrong secret")
        assert client is not None
        access = self._tokens.issue(
            client_id, roles=client.roles, teams=client.teams, ttl_s=ACCESS_TTL_S, principal="machine"
        )
        return TokenPair(access, "Bearer", ACCESS_TTL_S, scope=" ".join(client.roles))

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Each refresh token works once; a second use ends every token that descends from the same sign-in."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        try:
            outcome, token = await self._refresh_tokens.consume(_hash(refresh_token), now=now)
        except StorageError as failure:
            raise _unavailable() from failure
        if outcome is not Consumed.FRESH or token is None:
            raise HubError(ErrorCode.TOKEN_INVALID, "the refresh token is not valid")
        user = await self.find_user(token.subject)
        if user is None or user.disabled:
            raise HubError(ErrorCode.TOKEN_INVALID, "the refresh token is not valid")
        return await self._pair(user, token.sign_in)

    async def create_user(
        self, name: str, password: str | None, *, roles: list[str], teams: list[str], tenant: str = "", by: str = HUB
    ) -> User:
        """Raises HubError(schema_invalid) for a weak password, HubError(version_conflict) for a taken name."""
        check_local(name)
        hashed = None
        if password is not None:
            if (why := weakness(password, words=[name])) is not None:
                raise HubError(ErrorCode.SCHEMA_INVALID, why, path="$.password")
            hashed = await self._passwords.hash(password)
        try:
            return await self._users.create(name, password_hash=hashed, roles=roles, teams=teams, tenant=tenant, by=by)
        except Conflict:
            raise HubError(ErrorCode.VERSION_CONFLICT, "this name is taken") from None

    async def create_client(self, client_id: str, *, roles: list[str], teams: list[str]) -> str:
        """Register a machine client; returns its secret, which is stored only as a hash."""
        check_local(client_id)
        secret = secrets.token_urlsafe(24)
        try:
            await self._clients.create(
                client_id, secret_hash=await self._passwords.hash(secret), roles=roles, teams=teams
            )
        except Conflict:
            raise HubError(ErrorCode.VERSION_CONFLICT, "this client id is taken") from None
        return secret

    async def find_user(self, name: str) -> User | None:
        """None also for a name that nobody could have. Raises HubError(not_available)."""
        try:
            return await self._users.get(name)
        except Rejected:
            return None
        except StorageError as failure:
            raise _unavailable() from failure

    async def _pair(self, user: User, sign_in: SignIn) -> TokenPair:
        refresh_token = secrets.token_urlsafe(32)
        expires_at = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC) + timedelta(seconds=REFRESH_TTL_S)
        try:
            await self._refresh_tokens.store(
                _hash(refresh_token), sign_in=sign_in, subject=user.name, expires_at=expires_at
            )
        except StorageError as failure:
            raise _unavailable() from failure
        return TokenPair(self._access_token(user, sign_in), "Bearer", ACCESS_TTL_S, refresh_token, " ".join(user.roles))

    def _access_token(self, user: User, sign_in: SignIn) -> str:
        return self._tokens.issue(
            user.name,
            roles=user.roles,
            teams=user.teams,
            grant=msgspec.convert(user.grants, Grant),
            ttl_s=ACCESS_TTL_S,
            amr=sign_in.amr,
            auth_time=sign_in.auth_time,
            sid=str(sign_in.family),
            tenant=user.tenant,
        )


def caller_of(
    claims: Claims,
    *,
    transport: Literal["websocket", "rest"],
    address: str,
    connection: Any = None,
    kind: str | None = None,
    name: str | None = None,
) -> Caller:
    """The caller a valid token makes at one door."""
    return Caller(
        user=claims.sub,
        roles=claims.roles,
        teams=claims.teams,
        grant=claims.grant,
        tenant=claims.tenant,
        transport=transport,
        address=address,
        kind=kind,
        name=name,
        principal=claims.principal,
        amr=claims.amr,
        auth_time=claims.auth_time,
        sid=claims.sid,
        jti=claims.jti,
        issued_ms=claims.issued_ms,
        expires_at=claims.exp * 1000,
        connection=connection,
    )


def _hash(token: str) -> bytes:
    # A random 256-bit token needs no slow hash: nobody guesses it.
    return hashlib.sha256(token.encode()).digest()


def _unavailable() -> HubError:
    return HubError(ErrorCode.NOT_AVAILABLE, "signing in is not possible right now", retry_after_ms=1000)
