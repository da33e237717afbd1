"""A client's key, and the proofs of having it (RFC 9449), right and wrong."""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import Any

import jwt
from jwt.utils import base64url_encode

from hub.auth.keys import PUBLIC_MEMBERS, Algorithm, generate, key_of


class ProofKey:
    def __init__(self, algorithm: Algorithm = "ES256") -> None:
        made = generate(algorithm)
        self.private = made
        self.public = {name: made[name] for name in PUBLIC_MEMBERS if name in made}
        self.jkt: str = made["kid"]
        self._algorithm = algorithm
        self._signing = key_of(made, algorithm).signing

    def proof(
        self,
        method: str,
        url: str,
        *,
        now_s: float,
        token: str | None = None,
        headers: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """`headers` and `changes` replace what a proof in order has; None leaves it out."""
        claims = {"jti": secrets.token_urlsafe(16), "htm": method, "htu": url, "iat": int(now_s)}
        if token is not None:
            claims["ath"] = base64url_encode(hashlib.sha256(token.encode()).digest()).decode()
        whole = {"typ": "dpop+jwt", "jwk": self.public} | (headers or {})
        return jwt.encode(
            {name: value for name, value in (claims | changes).items() if value is not None},
            self._signing,
            algorithm=self._algorithm,
            headers={name: value for name, value in whole.items() if value is not None},
        )


def jwk_of_point(x: bytes, y: bytes) -> dict[str, str]:
    encoded = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (x, y)]
    return {"kty": "EC", "crv": "P-256", "x": encoded[0], "y": encoded[1]}
