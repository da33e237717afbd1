"""OAuth 2.0 and the public keys: routes in the form their RFCs give them, without the envelope of `/v1`.

No cookie is read anywhere here: who allows an application shows an access token, which only our own page can have.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from html import escape
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from hub.auth.clients import ClientRegistry
from hub.auth.dpop import ALGORITHMS, Proofs
from hub.auth.keyring import SETTLE_S
from hub.auth.oauth2 import AuthorizationServer, NotAllowed, OAuthError, answer_uri
from hub.auth.service import Authentication, TokenPair
from hub.auth.tokens import Claims, Tokens
from hub.dispatch import Dispatcher
from hub.edge.body import read_body
from hub.edge.credentials import Credentials
from hub.edge.envelope import HTTP_STATUS, OrjsonResponse
from protocol.errors import ErrorCode, HubError
from storage.errors import StorageError
from storage.users import OAuthClient

PAGE_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'none';"
    " frame-ancestors 'none'"
)
MAX_PARAMETERS = 32
OAUTH_NAMES = {
    ErrorCode.UNAUTHORIZED: "invalid_client",
    ErrorCode.TOKEN_INVALID: "invalid_grant",
    ErrorCode.PROOF_INVALID: "invalid_dpop_proof",
}


class OAuthRoutes:
    def __init__(
        self,
        server: AuthorizationServer,
        clients: ClientRegistry,
        authentication: Authentication,
        tokens: Tokens,
        proofs: Proofs,
        dispatcher: Dispatcher,
        *,
        credentials: Credentials,
        max_body_bytes: int,
    ) -> None:
        self._server = server
        self._clients = clients
        self._authentication = authentication
        self._tokens = tokens
        self._dispatcher = dispatcher
        self._proofs = proofs
        self._credentials = credentials
        self._max_body_bytes = max_body_bytes
        self._page = Template((resources.files("hub") / "dashboard" / "authorize.html").read_text())
        self.routes = [
            Route("/.well-known/jwks.json", self._jwks, methods=["GET"]),
            Route("/.well-known/oauth-authorization-server", self._metadata, methods=["GET"]),
            Route("/oauth/authorize", self._answered(self._ask), methods=["GET"]),
            Route("/oauth/authorize", self._answered(self._decide), methods=["POST"]),
            Route("/oauth/token", self._answered(self._token), methods=["POST"]),
            Route("/oauth/introspect", self._answered(self._introspect), methods=["POST"]),
            Route("/oauth/revoke", self._answered(self._revoke), methods=["POST"]),
        ]

    async def _jwks(self, request: Request) -> Response:
        """RFC 7517. May be kept for as long as a new key is shown before it signs."""
        return _public(self._tokens.jwks(), max_age_s=SETTLE_S)

    async def _metadata(self, request: Request) -> Response:
        """RFC 8414."""
        issuer = self._address(request)
        methods = ["client_secret_basic", "client_secret_post"]
        described = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/oauth/authorize",
            "token_endpoint": f"{issuer}/oauth/token",
            "introspection_endpoint": f"{issuer}/oauth/introspect",
            "revocation_endpoint": f"{issuer}/oauth/revoke",
            "jwks_uri": f"{issuer}/.well-known/jwks.json",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": [*methods, "none"],
            "introspection_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_methods_supported": [*methods, "none"],
            "authorization_response_iss_parameter_supported": True,
            "dpop_signing_alg_values_supported": list(ALGORITHMS),
        }
        return _public(described, max_age_s=SETTLE_S)

    async def _ask(self, request: Request) -> Response:
        """The page on which a person allows an application or does not."""
        try:
            asked = await self._server.asked(_single(request.query_params.multi_items()))
        except NotAllowed as failure:
            return RedirectResponse(self._refusal(request, failure), 303)
        page = self._page.substitute(client=escape(asked.client_id), scope=escape(" ".join(asked.scope)))
        headers = {"content-security-policy": PAGE_SECURITY_POLICY, "x-frame-options": "DENY"}
        return Response(page, media_type="text/html", headers=headers)

    async def _decide(self, request: Request) -> Response:
        """The page's answer, with the person's own access token: where the browser goes next."""
        form = await self._form(request)
        claims = await self._claims(request)
        try:
            asked = await self._server.asked(form)
            if form.get("decision") != "allow":
                raise asked.refused("access_denied", "the person said no")
            code = await self._server.allow(asked, claims)
        except NotAllowed as failure:
            return _done({"redirect_to": self._refusal(request, failure)})
        target = answer_uri(asked.redirect_uri, self._address(request), state=asked.state, code=code)
        return _done({"redirect_to": target})

    async def _token(self, request: Request) -> Response:
        """RFC 6749 section 3.2."""
        form = await self._form(request)
        match form.get("grant_type"):
            case "client_credentials":
                client = await self._clients.identify(*_credentials(request, form))
                pair = self._server.client_credentials(client, form.get("scope"), jkt=self._proven_key(request))
            case "authorization_code":
                client = await self._clients.identify(*_credentials(request, form))
                pair = await self._server.exchange(
                    client,
                    code=form.get("code", ""),
                    redirect_uri=form.get("redirect_uri", ""),
                    verifier=form.get("code_verifier", ""),
                    jkt=self._proven_key(request),
                )
            case "refresh_token":
                pair = await self._refresh(request, form)
            case None:
                raise OAuthError("invalid_request", "grant_type is missing")
            case _:
                raise OAuthError("unsupported_grant_type", "the metadata lists what there is")
        return _done(msgspec.to_builtins(pair))

    async def _refresh(self, request: Request, form: dict[str, str]) -> TokenPair:
        client = await self._holder(request, form)
        jkt = self._proven_key(request)
        if client is None and jkt:
            raise OAuthError("invalid_request", "a sign-in without an application is bound to no key")
        return await self._authentication.refresh(
            form.get("refresh_token", ""),
            client_id=client.client_id if client else "",
            jkt=jkt,
            binding=client is not None and client.secret_hash is None,
        )

    async def _introspect(self, request: Request) -> Response:
        """RFC 7662."""
        form = await self._form(request)
        client = await self._clients.identify(*_credentials(request, form))
        return _done(await self._server.introspect(client, _required(form, "token")))

    async def _revoke(self, request: Request) -> Response:
        """RFC 7009."""
        form = await self._form(request)
        client = await self._holder(request, form)
        await self._server.revoke(client.client_id if client else "", _required(form, "token"))
        return _done({})

    # ---

    def _answered(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """What a handler raises, in OAuth's own form (RFC 6749 section 5.2)."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except OAuthError as failure:
                return _error(failure.status, failure.error, failure.description)
            except _NoToken as failure:
                refusal = _error(401, "invalid_token", str(failure))
                refusal.headers["www-authenticate"] = 'Bearer error="invalid_token"'
                return refusal
            except StorageError:
                return _error(503, "temporarily_unavailable", "not possible right now")
            except Exception as failure:
                problem = self._dispatcher.as_hub_error(failure)
                temporary = "temporarily_unavailable" if problem.code.temporary else "invalid_request"
                ours = (ErrorCode.TOKEN_INVALID, ErrorCode.PROOF_INVALID)
                status = 400 if problem.code in ours else HTTP_STATUS[problem.code]
                return _error(status, OAUTH_NAMES.get(problem.code, temporary), problem.message)

        return endpoint

    async def _form(self, request: Request) -> dict[str, str]:
        body = (await read_body(request, self._max_body_bytes)).decode("latin-1")
        try:
            return _single(parse_qsl(body, keep_blank_values=True, max_num_fields=MAX_PARAMETERS))
        except ValueError:
            raise OAuthError("invalid_request", "too many parameters") from None

    async def _holder(self, request: Request, form: dict[str, str]) -> OAuthClient | None:
        """The client that asks; None for somebody who signed in here without one."""
        if "authorization" not in request.headers and "client_id" not in form:
            return None
        return await self._clients.identify(*_credentials(request, form))

    def _proven_key(self, request: Request) -> str:
        """The thumbprint of the key that whoever asks for a token has shown to have; "": none was shown."""
        shown = self._credentials.proof(request.scope)
        return "" if shown is None else self._proofs.take(shown)

    async def _claims(self, request: Request) -> Claims:
        token, shown = self._credentials.token(request.scope)
        if not token:
            raise _NoToken("send Authorization: Bearer TOKEN")
        try:
            claims = self._authentication.authenticate(token, shown)
            return claims if isinstance(claims, Claims) else await claims
        except HubError as error:
            if error.code.temporary:
                raise
            raise _NoToken(error.message) from None

    def _refusal(self, request: Request, failure: NotAllowed) -> str:
        return answer_uri(
            failure.redirect_uri,
            self._address(request),
            state=failure.state,
            error=failure.error,
            error_description=failure.description,
        )

    def _address(self, request: Request) -> str:
        """The issuer of RFC 8414: as configured, else the socket that was asked. Never what a Host header says."""
        if self._credentials.public_address is not None:
            return self._credentials.public_address
        host, port = request.scope.get("server") or ("localhost", None)
        name = f"[{host}]" if ":" in host else host
        return f"{request.scope['scheme']}://{name}{f':{port}' if port else ''}"


class _NoToken(Exception):
    """The person's access token is missing or not valid."""


def _credentials(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client id and secret, from HTTP Basic or from the form (RFC 6749 section 2.3.1); "" for no secret."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise HubError(ErrorCode.UNAUTHORIZED, "malformed Authorization") from None
    return unquote(client_id), unquote(secret)


def _single(parameters: list[tuple[str, str]]) -> dict[str, str]:
    """Each parameter once, and one without a value as if it were not there (RFC 6749 section 3.1)."""
    found = dict(parameters)
    if len(found) < len(parameters):
        raise OAuthError("invalid_request", "a parameter was repeated")
    return {name: value for name, value in found.items() if value}


def _required(form: dict[str, str], name: str) -> str:
    if not form.get(name):
        raise OAuthError("invalid_request", f"{name} is missing")
    return form[name]


def _done(body: Any) -> Response:
    return OrjsonResponse(body, headers={"cache-control": "no-store", "pragma": "no-cache"})


def _public(body: Any, *, max_age_s: int) -> Response:
    headers = {"cache-control": f"public, max-age={max_age_s}", "access-control-allow-origin": "*"}
    return OrjsonResponse(body, headers=headers)


def _error(status: int, error: str, description: str) -> Response:
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Basic"} if status == 401 else {})
    return OrjsonResponse({"error": error, "error_description": description}, status, headers)
