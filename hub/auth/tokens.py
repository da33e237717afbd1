"""Access tokens: JSON Web Tokens with one algorithm per key and every claim required (RFC 8725, RFC 9068).

Speed: a signature is checked once per token and key set, and a header is read once per distinct header. Both caches
are bounded and end with the key set they were filled under; times are judged anew each time.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any

import jwt
import msgspec

from hub.auth.keys import Key, Keys
from hub.caller import SYSTEM, Grant, Principal, Tenant
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError
from protocol.fields import Count, Millis, Name, shaped

ISSUER = "krin"
AUDIENCE = "krin"
TOKEN_TYPE = "at+jwt"
MAX_TOKEN_BYTES = 8192
MAX_VERIFIED = 4096  # about 1 KiB each
MAX_HEADERS = 64
LEEWAY_S = 5
# Headers that would name a key, or change what the rest means. Nothing a token says about keys is ever followed.
REFUSED_HEADERS = ("crit", "jku", "jwk", "x5u", "x5c", "b64", "zip")
WRONG = (ValueError, TypeError, RecursionError, msgspec.MsgspecError)  # what a badly made token can raise
FOREIGN_MARK = "|"  # in the names of those whom an outside provider vouches for, and in no other


class Confirmation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key that whoever shows the token must have (RFC 7800). Bound to anything else it is of no use here."""

    jkt: Annotated[str, shaped(r"^[A-Za-z0-9_-]{43}\Z", "the thumbprint of a key (RFC 7638)")]  # RFC 9449


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
    client_id: str = ""  # the OAuth client it was issued to; "": none
    tenant: Tenant = ""
    cnf: Confirmation | None = None  # None: whoever has the token may use it
    iat_ms: Millis | None = None

    @property
    def issued_ms(self) -> int:
        """`iat` in milliseconds: exact in our own tokens, so that a revocation and a new token may share a second."""
        return self.iat * 1000 if self.iat_ms is None else self.iat_ms


class Verifier:
    """Checks the tokens of one issuer."""

    def __init__(
        self, keys: Keys, *, clock: Clock, token_types: Sequence[str], read: Callable[[bytes], Claims]
    ) -> None:
        """`read` turns a payload whose signature is right into claims; it raises ValueError for what is wrong there."""
        self._keys = keys
        self._clock = clock
        self._token_types = frozenset(token_types)
        self._read = read
        self._key_set = keys.current
        self._headers: dict[str, Key] = {}
        self._verified: dict[bytes, tuple[Claims, Key]] = {}

    def verify(self, token: str) -> Claims:
        """Raises HubError(token_expired, token_invalid); the text never quotes the token."""
        if len(token) > MAX_TOKEN_BYTES:
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is too long")
        if self._key_set is not self._keys.current:
            self._key_set = self._keys.current
            self._headers.clear()
            self._verified.clear()
        now_s = self._clock.now_ms() // 1000
        try:
            encoded = token.encode("ascii")
            digest = hashlib.sha256(encoded).digest()  # what is kept is no token
            found = self._verified.get(digest)
            if found is None:
                key = self._key(token, now_s)
                found = self._checked(encoded, key), key
                if len(self._verified) >= MAX_VERIFIED:
                    del self._verified[next(iter(self._verified))]
                self._verified[digest] = found
        except (
            ValueError,
            TypeError,
            RecursionError,
        ):  # UnicodeEncodeError, binascii.Error and msgspec's are among them
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid here") from None
        claims, key = found
        if not key.live(now_s):
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid here")
        if claims.exp <= now_s - LEEWAY_S:
            raise HubError(ErrorCode.TOKEN_EXPIRED, "the token has expired")
        if max(claims.iat, claims.nbf) > now_s + LEEWAY_S:
            raise HubError(ErrorCode.TOKEN_INVALID, "the token is not valid yet")
        return claims

    @property
    def remembered(self) -> int:
        return len(self._verified)

    def unknown_key(self, token: str) -> bool:
        """Whether a token, well made so far, names a key that is not in the set. Raises nothing."""
        try:
            kid, algorithm = self._header(token)
        except WRONG:
            return False
        return self._keys.current.find(kid, algorithm, self._clock.now_ms() // 1000) is None

    def _checked(self, token: bytes, key: Key) -> Claims:
        message, _, signature = token.rpartition(b".")
        payload = message.partition(b".")[2]
        if not key.verifies(message, decoded(signature)):
            raise ValueError("wrong signature")
        return self._read(decoded(payload))

    def _key(self, token: str, now_s: int) -> Key:
        header = token.partition(".")[0]
        key = self._headers.get(header)
        if key is None:
            kid, algorithm = self._header(token)
            key = self._key_set.find(kid, algorithm, now_s)
            if key is None:
                raise ValueError("unknown key")
            if len(self._headers) >= MAX_HEADERS:
                self._headers.clear()
            self._headers[header] = key
        return key

    def _header(self, token: str) -> tuple[str | None, str]:
        """(kid, alg) of a header that says nothing it must not. Raises ValueError, RecursionError."""
        header = msgspec.json.decode(decoded(token.partition(".")[0].encode("ascii")), type=dict[str, Any])
        if any(name in header for name in REFUSED_HEADERS):
            raise ValueError("a header that is never followed")
        token_type = header.get("typ")
        if not isinstance(token_type, str) or token_type.lower().removeprefix("application/") not in self._token_types:
            raise ValueError("another kind of token")
        return msgspec.convert((header.get("kid"), header.get("alg")), tuple[str | None, str])


class Tokens:
    """The hub's own tokens."""

    def __init__(self, keys: Keys, *, clock: Clock, issuer: str = ISSUER, audience: str = AUDIENCE) -> None:
        self._keys = keys
        self._clock = clock
        self._issuer = issuer
        self._audience = audience
        self._verifier = Verifier(keys, clock=clock, token_types=(TOKEN_TYPE,), read=self._claims)
        self.verify = self._verifier.verify

    @property
    def remembered(self) -> int:
        """How many tokens need no second look at their signature."""
        return self._verifier.remembered

    def jwks(self) -> dict[str, Any]:
        """The public keys that others verify with (RFC 7517)."""
        return self._keys.current.jwks(self._clock.now_ms() // 1000)

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
        client_id: str = "",
        tenant: str = "",
        jkt: str = "",
    ) -> str:
        """`jkt`: the thumbprint of the key that the token is bound to; "": none.

        Raises HubError(not_available) where this hub only verifies, HubError(bad_request) for a foreign name.
        """
        check_local(subject)
        now_ms = self._clock.now_ms()
        now_s = now_ms // 1000
        key = self._keys.current.signing(now_s)
        if key is None:
            raise HubError(ErrorCode.NOT_AVAILABLE, "this hub has no key to sign tokens with")
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "iat": now_s,
            "iat_ms": now_ms,
            "exp": now_s + ttl_s,
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
        if client_id:
            claims["client_id"] = client_id
        if tenant:
            claims["tenant"] = tenant
        if jkt:
            claims["cnf"] = {"jkt": jkt}
        headers = {"typ": TOKEN_TYPE} | ({"kid": key.kid} if key.kid is not None else {})
        return jwt.encode(claims, key.signing, algorithm=key.algorithm, headers=headers)

    def _claims(self, payload: bytes) -> Claims:
        claims = _PAYLOAD.decode(payload)
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if claims.iss != self._issuer or self._audience not in audiences:
            raise ValueError("for somebody else")
        if (why := _not_to_be_had(claims.sub)) is not None:
            raise ValueError(why)
        return claims


class _Payload(Claims, frozen=True, kw_only=True):
    iss: str
    aud: str | list[str]


_PAYLOAD = msgspec.json.Decoder(_Payload)


def check_local(name: str) -> None:
    """Nobody here may have a name that could be somebody's elsewhere, or is the hub's. Raises HubError(bad_request)."""
    if (why := _not_to_be_had(name)) is not None:
        raise HubError(ErrorCode.BAD_REQUEST, why)


def _not_to_be_had(name: str) -> str | None:
    if name == SYSTEM.user:
        return f"{name} is the name of the hub itself"
    return f"a name must not contain {FOREIGN_MARK}" if FOREIGN_MARK in name else None


def decoded(text: bytes) -> bytes:
    """base64url without padding, in its one canonical spelling: two spellings would be two tokens for one signature.

    Raises ValueError.
    """
    decoded = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != text:
        raise ValueError("not canonical")
    return decoded
