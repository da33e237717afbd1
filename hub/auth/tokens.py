"""Access tokens: JSON Web Tokens with one algorithm per key and every claim required (RFC 8725, RFC 9068)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from typing import Any

import jwt
import msgspec

from hub.caller import Grant
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError

ISSUER = "krin"
AUDIENCE = "krin"
TOKEN_TYPE = "at+jwt"
MAX_TOKEN_BYTES = 8192
LEEWAY_S = 5
REQUIRED = ["exp", "iat", "aud", "iss", "sub", "jti"]


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a valid token says. Times are seconds since 1970."""

    sub: str
    exp: int
    jti: str
    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    grant: Grant = Grant()


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
        """`signing_key` None: this hub only verifies tokens that others issue."""
        self._clock = clock
        self._algorithm = algorithm
        self._signing_key = signing_key
        self._verifying_key = _prepared(verifying_key, algorithm)
        self._issuer = issuer
        self._audience = audience
        self._jwt = jwt.PyJWT(options={"require": REQUIRED, "enforce_minimum_key_length": True})

    def issue(
        self,
        subject: str,
        *,
        roles: Iterable[str],
        ttl_s: int,
        teams: Iterable[str] = (),
        grant: Grant = Grant(),
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
        }
        if teams := sorted(teams):
            claims["teams"] = teams
        if grant != Grant():
            claims["grant"] = msgspec.to_builtins(grant)
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
                leeway=LEEWAY_S,
            )
            if decoded["header"].get("typ") != TOKEN_TYPE:
                raise HubError(ErrorCode.TOKEN_INVALID, "this is not an access token")
            return msgspec.convert(decoded["payload"], Claims)
        except jwt.ExpiredSignatureError:
            raise HubError(ErrorCode.TOKEN_EXPIRED, "the token has expired") from None
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, TypeError):
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid here") from None


def _prepared(key: Any, algorithm: str) -> Any:
    """An HMAC key in the form that PyJWT does not examine anew for every token."""
    if algorithm != "HS256":
        return key
    encoded = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
    return jwt.PyJWK({"kty": "oct", "k": encoded, "alg": algorithm})
