"""The outermost layer, for HTTP and WebSocket alike: who is really there, which pages may ask, and what every answer
carries. Pure ASGI: Starlette's own middleware classes never see a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.edge.refusals import refuse_websocket
from hub.edge.security import FOREIGN_ORIGIN
from hub.guard.addresses import Network, client_address, within
from hub.guard.events import denied
from hub.guard.limits import Limits
from hub.guard.origins import allowed_origin
from hub.guard.threats import BLOCKED_MS, Threats
from protocol.errors import ErrorCode, HubError

Headers = list[tuple[bytes, bytes]]

ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
BY_DEFAULT = {
    # Answers are data: nothing to keep, nothing to run, nothing to frame.
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
}
STATIC_BY_DEFAULT = {
    # Pages elsewhere may import the browser SDK; an upgrade must not mix old and new modules.
    b"access-control-allow-origin": b"*",
    b"cache-control": b"no-cache",
}
TRANSPORT_SECURITY = (b"strict-transport-security", b"max-age=31536000")
PREFLIGHT = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, dpop, idempotency-key, traceparent, x-request-id, "
        b"mcp-protocol-version, mcp-method, mcp-name, a2a-version, a2a-extensions, last-event-id",
    ),
    (b"access-control-max-age", b"600"),
)
EXPOSED = (b"access-control-expose-headers", b"retry-after, www-authenticate, x-request-id")
ATTACK_TOOLS = (
    *("acunetix", "dirbuster", "feroxbuster", "ffuf", "gobuster", "masscan", "nessus", "nikto", "nmap", "nuclei"),
    *("openvas", "sqlmap", "w3af", "wfuzz", "wpscan", "zgrab"),
)
API = ("/v1/", "/mcp/", "/a2a/", "/ag-ui/", "/sse/")  # what makes its checks by itself, and answers in an envelope
SIGNING_IN = ("/oauth/token", "/oauth/authorize")
SHARED = (*API, "/oauth/", "/socket.io/")  # what pages of other, listed origins may call


class Perimeter:
    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_proxies: Sequence[Network],
        allowed_origins: Collection[str],
        limits: Limits,
        sockets_from: Callable[[str], int],
        threats: Threats,
    ) -> None:
        """`sockets_from(address)`: how many sockets the party of this address has already."""
        self._threats = threats
        self._app = app
        self._limits = limits
        self._sockets_from = sockets_from
        self._trusted_proxies = trusted_proxies
        self._allowed_origins = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers: Headers = scope["headers"]
        if self._trusted_proxies:
            scope = self._seen_through_proxies(scope, headers)
        address = _address(scope)
        if any(tool in agent.lower() for agent in _values(headers, b"user-agent") for tool in ATTACK_TOOLS):
            self._threats.hear(denied("malicious_attack_tool", address, scope["path"]))
        origins = _values(headers, b"origin")
        allowed = allowed_origin(
            origins,
            hosts=_values(headers, b"host"),
            scheme="https" if scope["scheme"] in ("https", "wss") else "http",
            listed=self._allowed_origins,
        )
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send, allowed, address)
            return
        path = scope["path"]
        sharing = f"{path}/".startswith(SHARED)
        shared = origins[0].encode() if origins and allowed and sharing else None
        sender = self._noticing_404(_with_headers(send, scope, shared), path, address)
        if scope["method"] == "OPTIONS" and origins and sharing:
            await _answer(sender, 204 if allowed else 403, [*PREFLIGHT] if allowed else [])
        elif (refused := self._refusal(scope, address)) is not None:
            await _answer(sender, _status(refused), [_retry_after(refused)], refused.message)
        else:
            await self._app(scope if allowed else {**scope, FOREIGN_ORIGIN: True}, receive, sender)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, allowed: bool, address: str) -> None:
        if not allowed:
            await receive()  # websocket.connect
            await refuse_websocket(send, 403, "pages of this origin may not connect")
            return
        try:
            self._refuse_blocked(address)
            self._limits.spend_address("connect", address)
            self._limits.admit_address(address, self._sockets_from(address))
        except HubError as refused:
            await receive()
            await refuse_websocket(send, 429, refused.message, headers=[_retry_after(refused)])
            return
        await self._app(scope, receive, self._noticing_404(send, scope["path"], address))

    def _refusal(self, scope: Scope, address: str) -> HubError | None:
        """The checks of what has no envelope: API makes them by itself and tells of them in its audit."""
        path: str = scope["path"]
        if f"{path}/".startswith(API):
            return None
        try:
            self._refuse_blocked(address)
            self._limits.spend_address("request", address)
            if scope["method"] == "POST" and path in SIGNING_IN:
                self._limits.spend_address("login", address)
        except HubError as refused:
            return refused
        return None

    def _refuse_blocked(self, address: str) -> None:
        if self._threats.assess(address).action == "BLOCK":
            raise HubError(ErrorCode.PERMISSION_DENIED, "blocked for now", retry_after_ms=BLOCKED_MS)

    def _noticing_404(self, send: Send, path: str, address: str) -> Send:
        """Looking for what is not there is what a scanner does; the audit log has no use for each single try."""

        async def send_and_notice(message: Message) -> None:
            if message.get("status") == 404:
                self._threats.hear(denied("resource_not_found", address, path))
            await send(message)

        return send_and_notice

    def _seen_through_proxies(self, scope: Scope, headers: Headers) -> Scope:
        """The scope as it would look without the proxies in between."""
        peer = scope.get("client")
        if peer is None or not within(peer[0], self._trusted_proxies):
            return scope
        address = client_address(peer[0], _values(headers, b"x-forwarded-for"), self._trusted_proxies)
        seen = {**scope, "client": (address, peer[1] if address == peer[0] else 0)}
        # Each proxy sets what it saw; the last value is that of the one next to us.
        protocols = [each.strip() for value in _values(headers, b"x-forwarded-proto") for each in value.split(",")]
        if protocols and protocols[-1] in ("http", "https"):
            secure = protocols[-1] == "https"
            seen["scheme"] = ("wss" if secure else "ws") if scope["type"] == "websocket" else protocols[-1]
        return seen


def _with_headers(send: Send, scope: Scope, shared_with: bytes | None) -> Send:
    static = scope["path"].startswith("/static/")
    by_default = STATIC_BY_DEFAULT if static else BY_DEFAULT

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = message.get("headers", [])
            names = {name for name, _ in given}
            headers = [*given, *ALWAYS, *(item for item in by_default.items() if item[0] not in names)]
            if scope["scheme"] == "https":
                headers.append(TRANSPORT_SECURITY)
            if not static:
                headers.append((b"vary", b"origin"))
            if shared_with is not None:
                headers += [(b"access-control-allow-origin", shared_with), EXPOSED]
            message["headers"] = headers
        await send(message)

    return send_with_headers


def _values(headers: Headers, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name.lower() == wanted]


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _status(refused: HubError) -> int:
    return 403 if refused.code is ErrorCode.PERMISSION_DENIED else 429


def _retry_after(refused: HubError) -> tuple[bytes, bytes]:
    return b"retry-after", b"%d" % -(-(refused.retry_after_ms or 1000) // 1000)


async def _answer(send: Send, status: int, headers: Sequence[tuple[bytes, bytes]] = (), text: str = "") -> None:
    body = orjson.dumps({"error": text}) if text else b""
    kind = [(b"content-type", b"application/json")] if text else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *kind]})
    await send({"type": "http.response.body", "body": body})
