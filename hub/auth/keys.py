"""Keys that sign and verify tokens. Rule: each key has one algorithm (RFC 8725 section 3.1), and keys come from here or
from configuration, never from a token.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Protocol

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.utils import base64url_encode

Algorithm = Literal["HS256", "RS256", "ES256", "EdDSA"]
PublicAlgorithm = Literal["RS256", "ES256", "EdDSA"]

MIN_SECRET_BYTES = 32
RSA_BITS = 3072
PUBLIC_MEMBERS = ("kty", "crv", "x", "y", "n", "e")
KINDS: Mapping[tuple[Any, Any], PublicAlgorithm] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]*KEY-----.+?-----END [A-Z0-9 ]*KEY-----", re.DOTALL)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """`kid` None: for tokens that name no key. `signing` None: this key only verifies. Times are seconds since 1970.

    It signs from `not_before` on, if no newer one does; it verifies until `expires_at`, and from the start: others
    must know a key before anybody uses it.
    """

    kid: str | None
    algorithm: Algorithm
    verifying: Any
    signing: Any = None
    not_before: int = 0
    expires_at: int | None = None

    def verifies(self, message: bytes, signature: bytes) -> bool:
        return bool(jwt.get_algorithm_by_name(self.algorithm).verify(message, self.verifying, signature))

    @property
    def thumbprint(self) -> str:
        """RFC 7638, however the key was spelled."""
        return thumbprint(_jwk(self.verifying, self.algorithm))

    def live(self, now_s: int) -> bool:
        return self.expires_at is None or now_s < self.expires_at

    def public_jwk(self) -> dict[str, Any] | None:
        """For the JWK Set (RFC 7517); None for a shared secret, which has no public half."""
        if self.algorithm == "HS256" or self.kid is None:
            return None
        return {**_jwk(self.verifying, self.algorithm), "kid": self.kid, "alg": self.algorithm, "use": "sig"}


class KeySet:
    """Keys that count together, and the algorithm that new tokens are signed with. Never changed, only replaced."""

    def __init__(self, keys: Iterable[Key], *, algorithm: Algorithm) -> None:
        self.keys = tuple(keys)
        self.algorithm = algorithm
        self._by_id: dict[tuple[str | None, str], Key] = {(key.kid, key.algorithm): key for key in self.keys}

    @property
    def current(self) -> KeySet:
        return self

    def find(self, kid: str | None, algorithm: str, now_s: int) -> Key | None:
        """The live key of this id for this very algorithm."""
        key = self._by_id.get((kid, algorithm))
        return key if key is not None and key.live(now_s) else None

    def signing(self, now_s: int) -> Key | None:
        """The key for new tokens: the newest whose time has come."""
        ready = [
            key
            for key in self.keys
            if key.algorithm == self.algorithm
            and key.signing is not None
            and key.not_before <= now_s
            and key.live(now_s)
        ]
        return max(ready, key=lambda key: key.not_before, default=None)

    def jwks(self, now_s: int) -> dict[str, Any]:
        """Every live public key as a JWK Set (RFC 7517)."""
        return {"keys": [jwk for key in self.keys if key.live(now_s) and (jwk := key.public_jwk()) is not None]}


class Keys(Protocol):
    """Where the key set of the moment comes from."""

    @property
    def current(self) -> KeySet: ...


def generate(algorithm: Algorithm) -> dict[str, Any]:
    """A new private key as a JWK, with a `kid` that a command line does not take for an option."""
    while (key := _generate(algorithm))["kid"].startswith("-"):
        pass  # a thumbprint in 64
    return key


def _generate(algorithm: Algorithm) -> dict[str, Any]:
    made: Any
    match algorithm:
        case "HS256":
            secret = base64url_encode(secrets.token_bytes(MIN_SECRET_BYTES)).decode()
            # Not a thumbprint: that would be a hash of the secret, in every token.
            return {"kty": "oct", "k": secret, "alg": algorithm, "kid": secrets.token_hex(8)}
        case "EdDSA":
            made = ed25519.Ed25519PrivateKey.generate()
        case "ES256":
            made = ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            made = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return {**_jwk(made, algorithm), "alg": algorithm, "kid": thumbprint(_jwk(made.public_key(), algorithm))}


def key_of(jwk: Mapping[str, Any], algorithm: Algorithm) -> Key:
    """A key for one algorithm from a JWK; with a private half it can sign. Raises ValueError for one of no use."""
    try:
        key = jwt.get_algorithm_by_name(algorithm).from_jwk(dict(jwk))
    except (jwt.InvalidKeyError, ValueError, TypeError, KeyError) as failure:
        raise ValueError(f"this is no key for {algorithm}: {failure}") from None
    return _key(key, algorithm, kid=jwk.get("kid"), not_before=jwk.get("nbf", 0), expires_at=jwk.get("exp"))


def public_key(jwk: Mapping[str, Any], algorithms: Collection[str]) -> Key:
    """A key that somebody shows, for verifying only and for one of these. Raises ValueError, TypeError."""
    algorithm = KINDS.get((jwk.get("kty"), jwk.get("crv")))
    kid = jwk.get("kid")
    if (
        algorithm is None
        or algorithm not in algorithms
        or jwk.get("alg", algorithm) != algorithm
        or jwk.get("use", "sig") != "sig"
        or not (kid is None or isinstance(kid, str))
    ):
        raise ValueError("a key for something else")
    public = {name: jwk[name] for name in PUBLIC_MEMBERS if name in jwk}
    return key_of(public | ({} if kid is None else {"kid": kid}), algorithm)


def configured_keys(algorithm: Algorithm, *, signing: bytes | None, verifying: bytes | None = None) -> KeySet:
    """The keys of configured files. If they are one, it also verifies tokens that name none. Raises ValueError."""
    if algorithm == "HS256":
        secret = (signing or b"").strip()
        if len(secret) < MIN_SECRET_BYTES or verifying is not None:
            raise ValueError(f"HS256 needs a signing_key_file alone, a secret of at least {MIN_SECRET_BYTES} bytes")
        return KeySet([Key(kid=None, algorithm=algorithm, verifying=secret, signing=secret)], algorithm=algorithm)
    keys = {key.kid: key for pem in (verifying, signing) if pem is not None for key in keys_of_pem(pem, algorithm)}
    unnamed = [msgspec.structs.replace(key, kid=None, signing=None) for key in keys.values() if len(keys) == 1]
    return KeySet([*keys.values(), *unnamed], algorithm=algorithm)


def keys_of_pem(pem: bytes, algorithm: Algorithm) -> list[Key]:
    """Each key of a PEM file, private or public; the `kid` is its thumbprint. Raises ValueError."""
    try:
        found = [jwt.get_algorithm_by_name(algorithm).prepare_key(block) for block in _PEM.findall(pem)]
    except (jwt.InvalidKeyError, ValueError, TypeError) as failure:
        raise ValueError(f"this is no key for {algorithm}: {failure}") from None
    if not found:
        raise ValueError(f"there is no key for {algorithm} in the file")
    return [_key(key, algorithm, kid=thumbprint(_jwk(_public(key), algorithm))) for key in found]


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The name that a public key gives itself (RFC 7638)."""
    members = {name: jwk[name] for name in sorted(PUBLIC_MEMBERS) if name in jwk}
    return base64url_encode(hashlib.sha256(msgspec.json.encode(members)).digest()).decode()


def _key(key: Any, algorithm: Algorithm, **fields: Any) -> Key:
    kind = jwt.get_algorithm_by_name(algorithm)
    try:
        key = kind.prepare_key(key)  # refuses another curve or kind
    except (jwt.InvalidKeyError, TypeError) as failure:
        raise ValueError(f"this is no key for {algorithm}: {failure}") from None
    if weakness := kind.check_key_length(key):
        raise ValueError(weakness)
    private = isinstance(key, bytes) or hasattr(key, "public_key")
    return Key(algorithm=algorithm, verifying=_public(key), signing=key if private else None, **fields)


def _public(key: Any) -> Any:
    return key.public_key() if hasattr(key, "public_key") else key


def _jwk(key: Any, algorithm: Algorithm) -> dict[str, Any]:
    return dict(jwt.get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True))
