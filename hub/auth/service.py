"""Signing in: from a token, a password or a refresh token to a caller."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import msgspec

from hub.auth.api_keys import PREFIX, ApiKeys
from hub.auth.dpop import Proofs, Shown
from hub.auth.passwords import Passwords, weakness
from hub.auth.providers import Providers
from hub.auth.revocations import Revoked
from hub.auth.tokens import LEEWAY_S, Claims, Tokens, check_local
from hub.caller import Caller, Grant
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent
from protocol.errors import ErrorCode, HubError
from storage.audit import HUB
from storage.errors import Conflict, Rejected, StorageError
from storage.revocations import Revocations
from storage.users import Consumed, RefreshTokens, SignIn, User, Users

ACCESS_TTL_S = 15 * 60
ACCESS_LIFETIME = timedelta(seconds=ACCESS_TTL_S + LEEWAY_S)  # for so long one may be accepted
REFRESH_TTL_S = 14 * 24 * 3600
BUILT_IN_ROLES = ("admin", "feed", "trader", "agent", "dashboard", "security", "lead")


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
        refresh_tokens: RefreshTokens,
        api_keys: ApiKeys,
        providers: Providers,
        proofs: Proofs,
        revoked: Revoked,
        revocations: Revocations,
        report: Report,
        clock: Clock,
    ) -> None:
        self._tokens = tokens
        self._passwords = passwords
        self._users = users
        self._refresh_tokens = refresh_tokens
        self._api_keys = api_keys
        self._providers = providers
        self._proofs = proofs
        self._revoked = revoked
        self._revocations = revocations
        self._report = report
        self._clock = clock

    def authenticate(self, token: str, shown: Shown | None = None) -> Claims | Awaitable[Claims]:
        """Whom an access token speaks for, at once; an awaitable for what may have to be looked up elsewhere: an API
        key, and an outside provider's token signed with a key not seen before.

        The claims are as they count now. `shown`: the proof that came with the token, without which one that is bound
        to a key counts for nothing. Raises HubError(token_expired, token_invalid, proof_invalid, overloaded), the
        awaitable also not_available.
        """
        claims = self.examine(token)
        if isinstance(claims, Claims):
            return self._proofs.require(claims, token, shown)
        return self._once_examined(claims, token, shown)

    async def _once_examined(self, claims: Awaitable[Claims], token: str, shown: Shown | None) -> Claims:
        return self._proofs.require(await claims, token, shown)

    def examine(self, token: str) -> Claims | Awaitable[Claims]:
        """What `authenticate` answers, for somebody who asks about a token and does not come with it."""
        if token.startswith(PREFIX):
            return self._once_known(self._api_keys.authenticate(token))
        if (provider := self._providers.of(token)) is not None:
            claims = provider.authenticate(token)
            return self.admit(claims) if isinstance(claims, Claims) else self._once_known(claims)
        return self.admit(self._tokens.verify(token))

    async def _once_known(self, claims: Awaitable[Claims]) -> Claims:
        return self.admit(await claims)

    def admit(self, claims: Claims) -> Claims:
        """Claims of a moment ago, as they count now. Raises HubError(token_invalid)."""
        return self._revoked.admit(claims)

    def judge(self, caller: Caller) -> Caller:
        """A caller of a moment ago, as it counts now. Raises HubError(token_invalid)."""
        return self._revoked.judge(caller)

    async def start_session(self, user: User, *, amr: list[str]) -> TokenPair:
        """For somebody who has just proven who they are, in the ways of `amr` (RFC 8176), with the password of `user`.

        Raises HubError(unauthorized) if that was changed meanwhile.
        """
        sign_in = SignIn(family=uuid4(), amr=amr, auth_time=self._clock.now_ms() // 1000)
        try:
            return await self.issue_pair(user, sign_in, proven_hash=user.password_hash)
        except HubError as error:
            if error.code is not ErrorCode.TOKEN_INVALID:
                raise
            raise wrong_password() from None

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

    async def refresh(
        self, refresh_token: str, *, client_id: str = "", jkt: str = "", binding: bool = False
    ) -> TokenPair:
        """Each refresh token works once, for the OAuth client it was issued to.

        `jkt`: the key that was proven; the new access token is bound to it, with `binding` the refresh tokens, too.
        A second use, or another client's, means that it was copied: every token of the same sign-in ends.
        Raises HubError(token_invalid).
        """
        now = self._now()
        try:
            outcome, token = await self._refresh_tokens.consume(hash_of(refresh_token), jkt=jkt, now=now)
            copied = token is not None and (outcome is Consumed.REUSED or token.sign_in.client_id != client_id)
            if copied and token is not None:
                await self.end_sign_in(str(token.sign_in.family))
                self._report(reuse("refresh_token", token.sign_in, token.subject))
        except StorageError as failure:
            raise _unavailable() from failure
        user = await self.find_user(token.subject) if token is not None and not copied else None
        if token is None or user is None or user.disabled:
            raise HubError(ErrorCode.TOKEN_INVALID, "the refresh token is not valid")
        sign_in = msgspec.structs.replace(token.sign_in, jkt=jkt) if binding else token.sign_in
        return await self.issue_pair(user, sign_in, jkt=jkt)

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

    async def find_user(self, name: str) -> User | None:
        """None also for a name that nobody could have. Raises HubError(not_available)."""
        try:
            return await self._users.get(name)
        except Rejected:
            return None
        except StorageError as failure:
            raise _unavailable() from failure

    async def issue_pair(
        self, user: User, sign_in: SignIn, *, jkt: str = "", proven_hash: str | None = None
    ) -> TokenPair:
        """An access token, bound to the key `jkt` if one is named, and a refresh token, bound to that of the sign-in.
        An OAuth client gets the roles it was allowed, and no grants.

        Raises HubError(token_invalid) if the sign-in has ended meanwhile, or the password `proven_hash` is of.
        """
        refresh_token = secrets.token_urlsafe(32)
        try:
            await self._refresh_tokens.store(
                hash_of(refresh_token),
                sign_in=sign_in,
                subject=user.name,
                expires_at=self._now() + timedelta(seconds=REFRESH_TTL_S),
                proven_hash=proven_hash,
            )
        except Conflict:
            raise HubError(ErrorCode.TOKEN_INVALID, "this sign-in has ended") from None
        except StorageError as failure:
            raise _unavailable() from failure
        access, roles = self._access_token(user, sign_in, jkt=jkt), _allowed(user, sign_in)
        return TokenPair(access, token_type(jkt), ACCESS_TTL_S, refresh_token, " ".join(roles))

    async def end_sign_in(self, sid: str, *, by: str = HUB) -> None:
        """Every token that descends from it counts no more, on any node."""
        await self._revocations.end_sign_in(sid, now=self._now(), lifetime=ACCESS_LIFETIME, by=by)

    async def end_token(self, claims: Claims) -> None:
        """This one token counts no more, on any node."""
        expires_at = datetime.fromtimestamp(claims.exp + LEEWAY_S, UTC)
        await self._revocations.end_token(claims.jti, expires_at=expires_at, by=claims.sub)

    def _access_token(self, user: User, sign_in: SignIn, *, jkt: str = "") -> str:
        return self._tokens.issue(
            user.name,
            roles=_allowed(user, sign_in),
            teams=user.teams,
            grant=msgspec.convert(user.grants, Grant) if sign_in.scope is None else Grant(),
            ttl_s=ACCESS_TTL_S,
            amr=sign_in.amr,
            auth_time=sign_in.auth_time,
            sid=str(sign_in.family),
            tenant=user.tenant,
            client_id=sign_in.client_id,
            jkt=jkt,
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def wrong_password() -> HubError:
    return HubError(ErrorCode.UNAUTHORIZED, "unknown name or wrong password")


def token_type(jkt: str) -> str:
    """How an access token is shown: with a proof if it is bound to a key (RFC 9449 section 5)."""
    return "DPoP" if jkt else "Bearer"


def _allowed(user: User, sign_in: SignIn) -> list[str]:
    """The roles of the user that a sign-in may use: all, or those that an OAuth client was allowed."""
    return [role for role in user.roles if sign_in.scope is None or role in sign_in.scope]


def reuse(kind: str, sign_in: SignIn, subject: str) -> SecurityEvent:
    """Somebody has a copy of what works only once; the family of its tokens has ended."""
    return SecurityEvent(
        name="authn_token_reuse",
        user=subject,
        target=str(sign_in.family),
        allowed=False,
        severity="CRITICAL",
        detail={"kind": kind, "client": sign_in.client_id},
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
        client_id=claims.client_id,
        expires_at=claims.exp * 1000,
        connection=connection,
    )


def hash_of(secret: str) -> bytes:
    """What is stored of a random secret of 256 bits. It needs no slow hash: nobody guesses it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _unavailable() -> HubError:
    return HubError(ErrorCode.NOT_AVAILABLE, "signing in is not possible right now", retry_after_ms=1000)
