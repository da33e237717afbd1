"""What a request shows of who it is from: its `Authorization`, and the `DPoP` proof that may go with it (RFC 9449)."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote

from starlette.types import Scope

from hub.auth.dpop import ALGORITHMS, Shown
from hub.auth.service import Authentication
from hub.auth.tokens import Claims
from hub.guard.events import Report, denied
from protocol.errors import ErrorCode, HubError

INVALID_TOKEN = 'Bearer error="invalid_token"'
CHALLENGES = {
    ErrorCode.TOKEN_INVALID: INVALID_TOKEN,
    ErrorCode.TOKEN_EXPIRED: INVALID_TOKEN,
    ErrorCode.PROOF_INVALID: f'DPoP error="invalid_dpop_proof", algs="{" ".join(ALGORITHMS)}"',
}
"""What `WWW-Authenticate` says to a credential that is no good (RFC 6750 section 3, RFC 9449 section 7.1)."""

FORGERIES = (ErrorCode.TOKEN_INVALID, ErrorCode.PROOF_INVALID)  # what is reported as authn_token_invalid


TOKEN_NAMES = ("token", "access_token", "authorization")


def token_in_url(scope: Scope) -> bool:
    """Addresses end up in logs and histories: a token in one is refused, even beside one that is where it belongs."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return any(name.lower() in TOKEN_NAMES for name, _ in query)


class Credentials:
    """Reads them.

    Without a public address each request's own `Host` says where the hub is. That is safe for nothing but the address
    in a proof: one that was made for another server is of use here only with a token of here.
    """

    def __init__(self, issuer: str) -> None:
        """`issuer`: of the hub's tokens; if that is an address, it is the hub's public one."""
        self.public_address = issuer.rstrip("/") if issuer.startswith(("https://", "http://")) else None

    def token(self, scope: Scope) -> tuple[str | None, Shown | None]:
        """The token, and the proof that must go with it when it came as `DPoP`. None: there is no `Authorization`;
        "": there is one, and no token in it."""
        given = _values(scope, b"authorization")
        if len(given) != 1:
            return ("" if given else None), None
        kind, _, token = given[0].partition(" ")
        if kind.lower() == "dpop":
            return token.strip(), self._shown(scope)
        return (token.strip() if kind.lower() == "bearer" else ""), None

    def proof(self, scope: Scope) -> Shown | None:
        """The proof of a request for a token, where nobody is `Authorization`'s business yet."""
        return self._shown(scope) if _values(scope, b"dpop") else None

    def url(self, scope: Scope) -> str:
        """Where this request was sent, without its query; "" when it does not say."""
        hosts = _values(scope, b"host")
        base = self.public_address
        if base is None:
            base = f"{scope.get('scheme', 'http')}://{hosts[0]}" if len(hosts) == 1 else ""
        return base + quote(scope["path"]) if base else ""

    def _shown(self, scope: Scope) -> Shown:
        proofs = _values(scope, b"dpop")
        return Shown(proofs[0] if len(proofs) == 1 else "", scope.get("method", "GET"), self.url(scope))


class Unwelcome(Exception):
    """A handshake that ends here: with 401 and `WWW-Authenticate` for a credential that is no good, or with 503 and
    `Retry-After` when that cannot be told now."""

    def __init__(self, text: str, status: int, header: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.header = header


async def claims_of(
    scope: Scope, *, credentials: Credentials, authentication: Authentication, report: Report, address: str
) -> Claims | None:
    """Who a handshake is from by its `Authorization`; None: it has none. Raises Unwelcome, a forgery is reported."""
    token, shown = credentials.token(scope)
    if token is None:
        return None
    try:
        known = authentication.authenticate(token, shown)
        return known if isinstance(known, Claims) else await known
    except HubError as error:
        if error.code in FORGERIES:
            report(denied("authn_token_invalid", address, "authorization"))
        if error.code.temporary:  # whoever took this for a no would throw a good credential away
            wait_s = -(-(error.retry_after_ms or 1000) // 1000)
            raise Unwelcome(error.message, 503, (b"retry-after", b"%d" % wait_s)) from None
        challenge = CHALLENGES.get(error.code, INVALID_TOKEN)
        raise Unwelcome(error.message, 401, (b"www-authenticate", challenge.encode())) from None


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]
