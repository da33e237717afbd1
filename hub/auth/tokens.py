"""Access tokens: JSON Web Tokens with one algorithm per key and every claim required (RFC 8725, RFC 9068)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from typing import Any

import jwt
import msgspec

from hub.caller import Grant, Principal
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from protocol.fields import Count, Name

ISSUER = "krin"
AUDIENCE = "krin"
TOKEN_TYPE = "at+jwt"
MAX_TOKEN_BYTES = 8192
LEEWAY_S = 5
MIN_SECRET_BYTES = 32
REQUIRED = ["exp", "iat", "aud", "iss", "sub", "jti"]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says. Times are seconds since 1970.

    amr and auth_time: how and when the subject proved who it is (RFC 8176, OpenID Connect); sid: the sign-in, that is
    the family of refresh tokens, that it descends from. All three are empty in a token that no sign-in produced.
    """

    sub: Name
    exp: Count
    iat: Count
    jti: str
    nbf: Count = 0
    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    grant: Grant = Grant()
    principal: Principal = "user"
    amr: tuple[str, ...] = ()
    auth_time: Count = 0
    sid: str = ""


class Tokens:
    def __init__(
        self,
        *,
        clock: Clock,
        algorithm: str = "HS256",
        signing_key: Any = None,
        verifying_key: Any,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
    ) -> None:
        """`signing_key` None: this hub only verifies tokens that others issue. Raises ValueError for unusable keys."""
        self._clock = clock
        self._algorithm = algorithm
        self._signing_key = signing_key
        self._verifying_key = _prepared(verifying_key, algorithm)
        self._issuer = issuer
        self._audience = audience
        # Times are checked against the hub's own clock, in `verify`.
        self._jwt = jwt.PyJWT(
            options={
                "require": REQUIRED,
                "enforce_minimum_key_length": True,
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            }
        )

    def issue(
        self,
        subject: str,
        *,
        roles: Iterable[str],
        ttl_s: int,
        teams: Iterable[str] = (),
        grant: Grant = Grant(),
        principal: Principal = "user",
        amr: Iterable[str] = (),
        auth_time: int = 0,
        sid: str = "",
    ) -> str:
        now = self._clock.now_ms() // 1000
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": now,
            "exp": now + ttl_s,
            "jti": secrets.token_urlsafe(16),
            "roles": sorted(roles),
            "principal": principal,
        }
        if teams := sorted(teams):
            claims["teams"] = teams
        if grant != Grant():
            claims["grant"] = msgspec.to_builtins(grant)
        if amr := list(amr):
            claims["amr"] = amr
        if auth_time:
            claims["auth_time"] = auth_time
        if sid:
            claims["sid"] = sid
        return self._jwt.encode(claims, self._signing_key, algorithm=self._algorithm, headers={"typ": TOKEN_TYPE})

    def verify(self, token: str) -> Claims:
        """Raises HubError(token_expired, token_invalid); the text never quotes the token."""
        if len(token) > MAX_TOKEN_BYTES:
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is too long")
        try:
            decoded = self._jwt.decode_complete(
                token,
                self._verifying_key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
            )
            if decoded["header"].get("typ") != TOKEN_TYPE:
                raise HubError(ErrorCode.TOKEN_INVALID, "this is not an access token")
            claims = msgspec.convert(decoded["payload"], Claims)
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, TypeError):
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid here") from None
        now = self._clock.now_ms() // 1000
        if claims.exp <= now - LEEWAY_S:
            raise HubError(ErrorCode.TOKEN_EXPIRED, "the token has expired")
        if max(claims.iat, claims.nbf) > now + LEEWAY_S:
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid yet")
        return claims


def _prepared(key: Any, algorithm: str) -> Any:
    """A key in a form that PyJWT does not examine anew for every token. Raises ValueError for one that is no use."""
    try:
        if algorithm == "HS256":
            if len(key) < MIN_SECRET_BYTES:
                raise ValueError(f"a secret for HS256 has at least {MIN_SECRET_BYTES} bytes")
            encoded = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
            return jwt.PyJWK({"kty": "oct", "k": encoded, "alg": algorithm})
        return jwt.get_algorithm_by_name(algorithm).prepare_key(key)
    except (jwt.InvalidKeyError, TypeError) as failure:
        raise ValueError(f"this is no key for {algorithm}: {failure}") from None
