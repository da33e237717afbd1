"""Tokens that are worth nothing without a key: demonstrating proof of possession (RFC 9449).

A proof is signed for one request: its method and address, its moment, the token that goes with it. It counts once: what
was shown is remembered for as long as it could be shown again, here and, as soon as they hear of it, on other nodes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from hub.auth.keys import public_key
from hub.auth.tokens import LEEWAY_S, REFUSED_HEADERS, WRONG, Claims, decoded
from hub.clock import Clock
from protocol.errors import ErrorCode, HubError

ALGORITHMS = ("ES256", "EdDSA")
PROOF_TYPE = "dpop+jwt"
MAX_PROOF_BYTES = 4096
MAX_AGE_S = 60
MAX_REMEMBERED = 65_536  # about 150 bytes each; a thousand proofs a second for as long as they count
DIGEST_BYTES = 16
TOPIC = "proofs"
PORTS = {"http": 80, "https": 443}


class Shown(msgspec.Struct, frozen=True):
    """A proof, and the request it came with; `url` without query."""

    proof: str
    method: str
    url: str


class Proof(msgspec.Struct, frozen=True):
    """What a proof in order says. `jkt`: the thumbprint of the key that signed it; `digest` tells it from others."""

    jkt: str
    digest: bytes


class _Claims(msgspec.Struct, frozen=True):
    jti: Annotated[str, Meta(min_length=1)]
    htm: str
    htu: str
    iat: int | float
    ath: str | None = None


def read(shown: Shown, *, token: str | None, now_s: int) -> Proof:
    """Check everything but whether it was shown before. `token` None: for a request that asks for one.

    Raises ValueError and the other errors of WRONG.
    """
    if len(shown.proof) > MAX_PROOF_BYTES:
        raise ValueError("too long")
    encoded = shown.proof.encode("ascii")
    message, _, signature = encoded.rpartition(b".")
    head, _, payload = message.partition(b".")
    header = msgspec.json.decode(decoded(head), type=dict[str, Any])
    if header.get("typ") != PROOF_TYPE or any(name in header for name in REFUSED_HEADERS if name != "jwk"):
        raise ValueError("no proof")
    jwk = msgspec.convert(header.get("jwk"), dict[str, Any])
    if "d" in jwk:
        raise ValueError("a private key")
    key = public_key(jwk, ALGORITHMS)
    if header.get("alg") != key.algorithm or not key.verifies(message, decoded(signature)):
        raise ValueError("wrong signature")
    claims = msgspec.json.decode(decoded(payload), type=_Claims)
    if claims.htm != shown.method or _plain(claims.htu) != _plain(shown.url):
        raise ValueError("for another request")
    if not now_s - MAX_AGE_S <= claims.iat <= now_s + LEEWAY_S:
        raise ValueError("not of now")
    if token is not None and not hmac.compare_digest(claims.ath or "", hash_of_token(token)):
        raise ValueError("for another token")
    jkt = key.thumbprint
    return Proof(jkt, hashlib.sha256(f"{jkt} {claims.jti}".encode("utf-8", "surrogatepass")).digest()[:DIGEST_BYTES])


class Proofs:
    """Takes each proof once. `announce` tells the other nodes, `hear` is told by them."""

    def __init__(
        self, *, announce: Callable[[str, bytes], None], clock: Clock, max_remembered: int = MAX_REMEMBERED
    ) -> None:
        self._announce = announce
        self._clock = clock
        self._max_remembered = max_remembered
        self._until: OrderedDict[bytes, float] = OrderedDict()  # by digest, on the monotonic clock

    def require(self, claims: Claims, token: str, shown: Shown | None) -> Claims:
        """The claims of a token that whoever shows it may use. Raises HubError(proof_invalid, overloaded)."""
        if claims.cnf is None and shown is None:
            return claims
        if claims.cnf is None:
            raise HubError(ErrorCode.PROOF_INVALID, "this token is bound to no key: send it as Bearer, without a proof")
        if shown is None:
            raise HubError(ErrorCode.PROOF_INVALID, "this token is bound to a key: send a proof with it (DPoP)")
        proof = self._read(shown, token)
        if not hmac.compare_digest(proof.jkt, claims.cnf.jkt):
            raise HubError(ErrorCode.PROOF_INVALID, "the token is bound to another key")
        self._use(proof)
        return claims

    def take(self, shown: Shown) -> str:
        """The thumbprint of the key that a new token is to be bound to. Raises HubError(proof_invalid, overloaded)."""
        proof = self._read(shown, None)
        self._use(proof)
        return proof.jkt

    def hear(self, digest: bytes) -> None:
        """Another node has taken this proof."""
        if len(digest) == DIGEST_BYTES and self._has_room():
            self._remember(digest)

    def _read(self, shown: Shown, token: str | None) -> Proof:
        try:
            return read(shown, token=token, now_s=self._clock.now_ms() // 1000)
        except WRONG:
            text = f"the proof is not valid: it is for one request, by its method and URL, and for {MAX_AGE_S} s"
            raise HubError(ErrorCode.PROOF_INVALID, text) from None

    def _use(self, proof: Proof) -> None:
        if not self._has_room():
            raise HubError(ErrorCode.OVERLOADED, "too many proofs at the moment", retry_after_ms=1000)
        if proof.digest in self._until:
            raise HubError(ErrorCode.PROOF_INVALID, "this proof was used already: each counts once")
        self._remember(proof.digest)
        self._announce(TOPIC, proof.digest)

    def _remember(self, digest: bytes) -> None:
        self._until.setdefault(digest, self._clock.monotonic() + MAX_AGE_S + LEEWAY_S + 1)

    def _has_room(self) -> bool:
        """Forgets what no longer counts anyhow; the oldest comes first."""
        now = self._clock.monotonic()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return len(self._until) < self._max_remembered


def hash_of_token(token: str) -> str:
    """The claim `ath`."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode("ascii")).digest()).rstrip(b"=").decode()


def _plain(url: str) -> tuple[str, str, int | None, str]:
    """What makes two spellings the same address (RFC 3986 section 6.2); a WebSocket's handshake is HTTP.

    Raises ValueError.
    """
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in PORTS or not parts.hostname or parts.username is not None:
        raise ValueError("no address of HTTP")
    return scheme, parts.hostname, parts.port or PORTS[scheme], unquote(parts.path) or "/"
