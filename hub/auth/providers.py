"""Outside identity providers: their tokens, verified with keys fetched from an address in the configuration.

Rules: no address is ever taken from a token; who somebody is, is (issuer, subject), and becomes a name that nobody here
can have; a provider gives roles only through the mapping of the configuration.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hub.auth.keys import Key, KeySet, PublicAlgorithm, public_key
from hub.auth.tokens import FOREIGN_MARK, MAX_TOKEN_BYTES, WRONG, Claims, Confirmation, Verifier, decoded
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError

REFRESH_S = 600.0
RETRY_S = 30.0
MIN_REFETCH_S = 10.0  # however many tokens name a key that is not known
MAX_AGE_S = 24 * 3600.0  # for so long the last keys count while the provider cannot be reached
MAX_KEYS = 64
MAX_NAME = 128

PROVIDER_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_PLAIN_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:+|-]*\Z")

Fetch = Callable[[str], Awaitable[bytes]]
"""GETs a URL: one answer, bounded in size and time, no redirects. Raises FetchFailed."""

logger = logging.getLogger("krin.providers")


class FetchFailed(Exception):
    """The text says why, for the log."""


class ProviderPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A provider, as it stands in the `[auth.providers.NAME]` table of the configuration file.

    roles and teams map values of the claims `roles_claim` and `teams_claim` (a string of words or an array; a dotted
    path reaches into objects) to roles and teams here; what is not mapped gives nothing. token_types are the `typ`
    headers accepted: `JWT` only for a provider that issues nothing better.
    """

    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[PublicAlgorithm, ...] = ("RS256", "ES256", "EdDSA")
    token_types: tuple[str, ...] = ("at+jwt",)
    roles_claim: str = "roles"
    roles: dict[str, tuple[str, ...]] = {}
    teams_claim: str = "teams"
    teams: dict[str, tuple[str, ...]] = {}

    def __post_init__(self) -> None:
        parts = urlsplit(self.jwks_url)
        if not (parts.scheme == "https" and parts.hostname) and not (
            parts.scheme == "http" and _loopback(parts.hostname)
        ):
            raise ValueError("jwks_url is an https address, or http on this very machine")
        if not (self.issuer and self.audience and self.algorithms and self.token_types):
            raise ValueError("issuer, audience, algorithms and token_types must not be empty")


class Provider:
    """One provider. `run` keeps its keys fresh; an unknown key is a reason to look again, seldom."""

    def __init__(self, name: str, policy: ProviderPolicy, *, fetch: Fetch, clock: Clock) -> None:
        self.issuer = policy.issuer
        self.current = KeySet([], algorithm=policy.algorithms[0])
        self._name = name
        self._policy = policy
        self._fetch = fetch
        self._clock = clock
        self._fetching = asyncio.Lock()
        self._tried_at: float | None = None
        self._fetched_at: float | None = None
        types = [each.lower() for each in policy.token_types]
        self._verifier = Verifier(self, clock=clock, token_types=types, read=self._claims)

    def authenticate(self, token: str) -> Claims | Awaitable[Claims]:
        """At once if the token's key is known; else an awaitable, as the keys may have to be fetched.

        Raises HubError(token_expired, token_invalid), the awaitable also not_available.
        """
        self._age()
        try:
            return self._verifier.verify(token)
        except HubError:
            if not self._verifier.unknown_key(token):
                raise
        return self._once_fetched(token)

    async def run(self) -> None:
        while True:
            await self._refetch()
            await self._clock.sleep(REFRESH_S if self._fetched_at == self._tried_at else RETRY_S)

    async def _once_fetched(self, token: str) -> Claims:
        await self._refetch()
        if not self.current.keys:
            raise HubError(
                ErrorCode.NOT_AVAILABLE,
                "the identity provider cannot be reached",
                retry_after_ms=int(MIN_REFETCH_S * 1000),
            )
        return self._verifier.verify(token)

    async def _refetch(self) -> None:
        async with self._fetching:
            now = self._clock.monotonic()
            if self._tried_at is not None and now - self._tried_at < MIN_REFETCH_S:
                return
            self._tried_at = now
            try:
                keys = keys_of_jwks(await self._fetch(self._policy.jwks_url), self._policy.algorithms)
            except (FetchFailed, ValueError) as failure:
                logger.warning("the keys of %s cannot be fetched: %s", self._name, failure)
                return
            self._fetched_at = now
            self.current = KeySet(keys, algorithm=self._policy.algorithms[0])

    def _age(self) -> None:
        """Keys that nobody has confirmed for a day count no more."""
        if self._fetched_at is not None and self._clock.monotonic() - self._fetched_at > MAX_AGE_S:
            self._fetched_at = None
            self.current = KeySet([], algorithm=self._policy.algorithms[0])

    def _claims(self, payload: bytes) -> Claims:
        claims: dict[str, Any] = msgspec.json.decode(payload, type=dict[str, Any])
        known = msgspec.convert(claims, _Known)
        audiences = [known.aud] if isinstance(known.aud, str) else known.aud
        if known.iss != self._policy.issuer or self._policy.audience not in audiences:
            raise ValueError("for somebody else")
        own = {
            "sub": self._subject(known.sub),
            "exp": int(known.exp),
            "iat": int(known.iat),
            "nbf": int(known.nbf),
            # Not every provider numbers its tokens; two with the same payload are the same token.
            "jti": self._marked(known.jti or _digest(payload)),
            "roles": _mapped(_words(claims, self._policy.roles_claim), self._policy.roles),
            "teams": _mapped(_words(claims, self._policy.teams_claim), self._policy.teams),
            "amr": known.amr,
            "auth_time": int(known.auth_time),
            "sid": self._marked(known.sid) if known.sid else "",
            "principal": "external",
            "cnf": known.cnf,
        }
        return msgspec.convert(own, Claims)

    def _subject(self, subject: str) -> str:
        name = self._marked(subject)
        if _PLAIN_SUBJECT.match(subject) and len(name) <= MAX_NAME:
            return name
        return self._marked(f"~{_digest(subject.encode())}")  # no plain subject begins like this

    def _marked(self, value: str) -> str:
        return f"{self._name}{FOREIGN_MARK}{value}"


class Providers:
    """Finds the provider that a token says it is from; whether it is, the provider's keys decide."""

    def __init__(self, providers: Iterable[Provider] = ()) -> None:
        self._by_issuer = {provider.issuer: provider for provider in providers}

    def of(self, token: str) -> Provider | None:
        if not self._by_issuer or len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            payload = decoded(token.split(".", 2)[1].encode("ascii"))
            return self._by_issuer.get(msgspec.json.decode(payload, type=_Issued).iss)
        except (*WRONG, IndexError):
            return None


class _Issued(msgspec.Struct):
    iss: str


class _Known(msgspec.Struct):
    """The registered claims (RFC 7519, OpenID Connect). Times may have a fraction."""

    iss: str
    aud: str | list[str]
    sub: str
    exp: int | float
    iat: int | float
    nbf: int | float = 0
    jti: str = ""
    amr: list[str] = []
    auth_time: int | float = 0
    sid: str = ""
    cnf: Confirmation | None = None


def keys_of_jwks(body: bytes, algorithms: Iterable[PublicAlgorithm]) -> list[Key]:
    """The keys of a JWK Set that can be used; others in it are passed over. Raises ValueError for what is no set."""
    try:
        found = msgspec.json.decode(body, type=dict[str, Any]).get("keys")
        jwks = msgspec.convert(found, list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("this is no JWK Set") from None
    if len(jwks) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS} keys")
    keys, usable = [], frozenset(algorithms)
    for jwk in jwks:
        try:
            keys.append(public_key(jwk, usable))
        except (ValueError, TypeError):
            continue
    return keys


def _words(claims: Mapping[str, Any], path: str) -> list[str]:
    """The strings of a claim, named whole or by a dotted path."""
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _mapped(words: Iterable[str], mapping: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    return frozenset(each for word in words for each in mapping.get(word, ()))


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
