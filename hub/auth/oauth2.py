"""The authorization server: OAuth 2.0 as RFC 9700 leaves it.

Grants: client_credentials, refresh_token, authorization_code with PKCE by S256. No implicit grant, no password grant.
Scopes are roles. Whoever uses a code or a refresh token a second time ends everything that grew from it. Whoever proves
to have a key gets tokens that are bound to it (hub.auth.dpop).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import msgspec

from hub.auth.api_keys import PREFIX, ApiKeys
from hub.auth.clients import ClientRegistry
from hub.auth.service import ACCESS_TTL_S, Authentication, TokenPair, hash_of, reuse, token_type
from hub.auth.tokens import Claims, Tokens
from hub.clock import Clock
from hub.guard.events import Report
from protocol.errors import ErrorCode, HubError
from storage.authorization_codes import AuthorizationCode, AuthorizationCodes
from storage.users import Consumed, OAuthClient, RefreshTokens, SignIn

CODE_TTL_S = 60
MAX_STATE = 1024
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")  # RFC 7636 section 4.1


class OAuthError(Exception):
    """An error by the name its RFC gives it."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class NotAllowed(OAuthError):
    """An error that the application is told through the browser: `redirect_uri` and `state` are its own."""

    def __init__(self, error: str, description: str, *, redirect_uri: str, state: str) -> None:
        super().__init__(error, description)
        self.redirect_uri = redirect_uri
        self.state = state


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What an application asks a person for, found to be in order."""

    client_id: str
    redirect_uri: str
    scope: list[str]
    challenge: str
    state: str
    jkt: str  # the key that the code's tokens will be bound to; "": any or none

    def refused(self, error: str, description: str) -> NotAllowed:
        return NotAllowed(error, description, redirect_uri=self.redirect_uri, state=self.state)


class AuthorizationServer:
    def __init__(
        self,
        authentication: Authentication,
        tokens: Tokens,
        clients: ClientRegistry,
        api_keys: ApiKeys,
        *,
        codes: AuthorizationCodes,
        refresh_tokens: RefreshTokens,
        report: Report,
        clock: Clock,
    ) -> None:
        self._authentication = authentication
        self._tokens = tokens
        self._clients = clients
        self._api_keys = api_keys
        self._codes = codes
        self._refresh_tokens = refresh_tokens
        self._report = report
        self._clock = clock

    # --- grants

    def client_credentials(self, client: OAuthClient, scope: str | None, *, jkt: str = "") -> TokenPair:
        """For agents and services that act for themselves. `jkt`: the key to bind the token to. Raises OAuthError."""
        if client.secret_hash is None:
            raise OAuthError("unauthorized_client", "a public client cannot act for itself")
        roles = _narrowed(client.roles, scope)
        access = self._tokens.issue(
            client.client_id,
            roles=roles,
            teams=client.teams,
            ttl_s=ACCESS_TTL_S,
            principal="machine",
            client_id=client.client_id,
            jkt=jkt,
        )
        return TokenPair(access, token_type(jkt), ACCESS_TTL_S, scope=" ".join(roles))

    async def asked(self, parameters: Mapping[str, str]) -> AuthorizationRequest:
        """Check what an application asks for.

        Raises NotAllowed for what it may be told, and OAuthError for what nobody must be redirected for: a client or
        a redirect URI that is not registered, compared letter by letter.
        """
        client = await self._clients.find(parameters.get("client_id", ""))
        redirect_uri = parameters.get("redirect_uri", "")
        if client is None or redirect_uri not in client.redirect_uris:
            raise OAuthError("invalid_request", "the client or its redirect URI is not registered here")
        state = parameters.get("state", "")

        def not_allowed(error: str, description: str) -> NotAllowed:
            return NotAllowed(error, description, redirect_uri=redirect_uri, state=state[:MAX_STATE])

        if len(state) > MAX_STATE:
            raise not_allowed("invalid_request", f"state has at most {MAX_STATE} characters")
        if parameters.get("response_type") != "code":
            raise not_allowed("unsupported_response_type", "response_type is code")
        if parameters.get("response_mode", "query") != "query":
            raise not_allowed("invalid_request", "response_mode is query")
        if "request" in parameters or "request_uri" in parameters:
            raise not_allowed("request_not_supported", "parameters are not taken from elsewhere")
        challenge = parameters.get("code_challenge", "")
        if parameters.get("code_challenge_method") != "S256" or not _CHALLENGE.match(challenge):
            raise not_allowed("invalid_request", "PKCE with code_challenge_method S256 is needed")
        jkt = parameters.get("dpop_jkt", "")
        if jkt and not _CHALLENGE.match(jkt):  # SHA-256 too
            raise not_allowed("invalid_request", "dpop_jkt is the thumbprint of a key")
        try:
            scope = _narrowed(client.roles, parameters.get("scope"))
        except OAuthError as failure:
            raise not_allowed(failure.error, failure.description) from None
        return AuthorizationRequest(
            client_id=client.client_id,
            redirect_uri=redirect_uri,
            scope=scope,
            challenge=challenge,
            state=state,
            jkt=jkt,
        )

    async def allow(self, request: AuthorizationRequest, claims: Claims) -> str:
        """Somebody who is signed in here allows it: a code, for CODE_TTL_S seconds and one use.

        Raises OAuthError for a token that is nobody's own sign-in: an application must not allow another.
        """
        user = await self._authentication.find_user(claims.sub)
        if claims.principal != "user" or claims.client_id or not claims.sid or user is None or user.disabled:
            raise OAuthError("access_denied", "sign in here, with a name and a password, to allow this", status=403)
        if not set(user.roles) & set(request.scope):
            raise request.refused("access_denied", "the user has none of these roles")
        code = secrets.token_urlsafe(32)
        now = self._now()
        sign_in = SignIn(
            family=uuid4(),  # of its own: what ends the application's tokens does not sign the person out
            amr=list(claims.amr),
            auth_time=claims.auth_time,
            client_id=request.client_id,
            scope=request.scope,
            jkt=request.jkt,
        )
        stored = AuthorizationCode(
            sign_in=sign_in,
            subject=claims.sub,
            redirect_uri=request.redirect_uri,
            challenge=request.challenge,
            expires_at=now + timedelta(seconds=CODE_TTL_S),
        )
        await self._codes.store(hash_of(code), stored, now=now)
        return code

    async def exchange(
        self, client: OAuthClient, *, code: str, redirect_uri: str, verifier: str, jkt: str = ""
    ) -> TokenPair:
        """Tokens for a code. It is used up by being shown, right or wrong. `jkt`: the key to bind them to; a
        confidential client's refresh tokens are bound to its secret already. Raises OAuthError(invalid_grant)."""
        outcome, found = await self._codes.consume(hash_of(code), now=self._now())
        if outcome is Consumed.REUSED and found is not None:
            await self._authentication.end_sign_in(str(found.sign_in.family))
            self._report(reuse("authorization_code", found.sign_in, found.subject))
        right = (
            outcome is Consumed.FRESH
            and found is not None
            and found.sign_in.client_id == client.client_id
            and found.redirect_uri == redirect_uri
            and _VERIFIER.match(verifier)
            and hmac.compare_digest(challenge_of(verifier), found.challenge)
            and found.sign_in.jkt in ("", jkt)
        )
        user = await self._authentication.find_user(found.subject) if right and found is not None else None
        if user is None or user.disabled or found is None:
            raise OAuthError("invalid_grant", "the code is not valid")
        sign_in = msgspec.structs.replace(found.sign_in, jkt=jkt if client.secret_hash is None else "")
        return await self._authentication.issue_pair(user, sign_in, jkt=jkt)

    # --- RFC 7662 and 7009

    async def introspect(self, client: OAuthClient, token: str) -> dict[str, Any]:
        """What a token is worth now; of one that is worth nothing, only that. Refresh tokens only for their client."""
        if client.secret_hash is None:
            raise HubError(ErrorCode.UNAUTHORIZED, "a public client may not look into tokens")
        claims = await self._claims(token)
        if claims is not None:
            return {
                "active": True,
                "token_type": token_type(claims.cnf.jkt if claims.cnf else ""),
                "sub": claims.sub,
                "username": claims.sub,
                "scope": " ".join(sorted(claims.roles)),
                "exp": claims.exp,
                "iat": claims.iat,
                "jti": claims.jti,
                **({"client_id": claims.client_id} if claims.client_id else {}),
                **({"cnf": {"jkt": claims.cnf.jkt}} if claims.cnf else {}),
            }
        refresh = await self._refresh_tokens.get(hash_of(token), now=self._now())
        if refresh is None or refresh.sign_in.client_id != client.client_id:
            return {"active": False}
        return {
            "active": True,
            "sub": refresh.subject,
            "username": refresh.subject,
            "scope": " ".join(refresh.sign_in.scope or ()),
            "client_id": client.client_id,
            "exp": int(refresh.expires_at.timestamp()),
        }

    async def revoke(self, client_id: str, token: str) -> None:
        """End a token, and if a sign-in stands behind it all that descend from it. What is unknown has ended already.

        `client_id` "": whoever came here without an application. Raises OAuthError.
        """
        claims = await self._claims(token)
        if claims is not None:
            _check_holder(claims.client_id, client_id)
            if token.startswith(PREFIX):
                await self._api_keys.revoke(claims.jti)
            elif claims.sid and claims.principal == "user":
                await self._authentication.end_sign_in(claims.sid, by=claims.sub)
            else:
                await self._authentication.end_token(claims)
        elif (refresh := await self._refresh_tokens.get(hash_of(token), now=self._now())) is not None:
            _check_holder(refresh.sign_in.client_id, client_id)
            await self._authentication.end_sign_in(str(refresh.sign_in.family), by=refresh.subject)

    # ---

    async def _claims(self, token: str) -> Claims | None:
        try:
            claims = self._authentication.examine(token)
            return claims if isinstance(claims, Claims) else await claims
        except HubError as error:
            if error.code.temporary:
                raise
            return None

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def _check_holder(issued_to: str, client_id: str) -> None:
    if issued_to != client_id:
        raise OAuthError("unauthorized_client", "the token was issued to somebody else")


def challenge_of(verifier: str) -> str:
    """S256 of RFC 7636 section 4.2."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=").decode()


def answer_uri(redirect_uri: str, issuer: str, *, state: str, **parameters: str) -> str:
    """Where the browser goes next. `iss` says who answers, lest another server's answer is taken for it (RFC 9207)."""
    parts = urlsplit(redirect_uri)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *parameters.items(), ("iss", issuer)]
    return urlunsplit(parts._replace(query=urlencode([*query, ("state", state)] if state else query)))


def _narrowed(roles: list[str], scope: str | None) -> list[str]:
    """Those of the roles that are asked for; all if nothing is. Raises OAuthError(invalid_scope)."""
    if scope is None:
        return roles
    wanted = scope.split(" ")
    if not set(wanted) <= set(roles):
        raise OAuthError("invalid_scope", "the client may not ask for this scope")
    return sorted(set(wanted))
