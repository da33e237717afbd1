"""OAuth 2.0 and the public keys: routes in the form their RFCs give them, without the envelope of `/v1`."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qs, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.auth.keyring import SETTLE_S
from hub.auth.service import Authentication
from hub.auth.tokens import Tokens
from hub.dispatch import Dispatcher
from hub.edge.body import read_body
from hub.edge.envelope import HTTP_STATUS, OrjsonResponse
from protocol.errors import ErrorCode, HubError


class OAuthRoutes:
    def __init__(
        self, authentication: Authentication, tokens: Tokens, dispatcher: Dispatcher, *, max_body_bytes: int
    ) -> None:
        self._authentication = authentication
        self._tokens = tokens
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            Route("/.well-known/jwks.json", self._jwks, methods=["GET"]),
            Route("/oauth/token", self._token, methods=["POST"]),
        ]

    async def _jwks(self, request: Request) -> Response:
        """RFC 7517. May be kept for as long as a new key is shown before it signs."""
        headers = {"cache-control": f"public, max-age={SETTLE_S}", "access-control-allow-origin": "*"}
        return OrjsonResponse(self._tokens.jwks(), headers=headers)

    async def _token(self, request: Request) -> Response:
        """RFC 6749: client_credentials and refresh_token, answered in OAuth's own form and not in the envelope."""
        try:
            fields = parse_qs((await read_body(request, self._max_body_bytes)).decode("latin-1"))
            if any(len(values) > 1 for values in fields.values()):
                return _oauth_error(400, "invalid_request", "a parameter was repeated")
            form = {name: values[0] for name, values in fields.items()}
            match form.get("grant_type"):
                case "client_credentials":
                    client_id, secret = _client(request, form)
                    pair = await self._authentication.client_credentials(client_id, secret)
                case "refresh_token":
                    pair = await self._authentication.refresh(form.get("refresh_token", ""))
                case None:
                    return _oauth_error(400, "invalid_request", "grant_type is missing")
                case _:
                    return _oauth_error(400, "unsupported_grant_type", "use client_credentials or refresh_token")
        except Exception as failure:
            error = self._dispatcher.as_hub_error(failure)
            if error.code is ErrorCode.UNAUTHORIZED:
                return _oauth_error(401, "invalid_client", error.message)
            if error.code is ErrorCode.TOKEN_INVALID:
                return _oauth_error(400, "invalid_grant", error.message)
            name = "temporarily_unavailable" if error.code.temporary else "invalid_request"
            return _oauth_error(HTTP_STATUS[error.code], name, error.message)
        return OrjsonResponse(msgspec.to_builtins(pair), headers={"cache-control": "no-store", "pragma": "no-cache"})


def _client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client credentials from HTTP Basic or from the form (RFC 6749 section 2.3.1)."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise HubError(ErrorCode.UNAUTHORIZED, "malformed Authorization") from None
        return unquote(client_id), unquote(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _oauth_error(status: int, error: str, description: str) -> Response:
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Basic"} if status == 401 else {})
    return OrjsonResponse({"error": error, "error_description": description}, status, headers)
