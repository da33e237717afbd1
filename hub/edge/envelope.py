"""The answer of every `/v1` route: data, meta, insights, performance and security in one envelope.

The names are the user's (`RevolutionaryResponse`, `KrinAPIService`). Errors use the same envelope, with `data` null.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.auth.service import Authentication, caller_of
from hub.auth.tokens import Claims
from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Dispatcher
from hub.permissions import Need, Permissions
from protocol.errors import ErrorCode, HubError
from protocol.messages import ErrorBody

T = TypeVar("T")
SecurityLevel = Literal["basic", "standard", "enterprise"]

HTTP_STATUS = {
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.UNKNOWN_CHANNEL: 404,
    ErrorCode.PERMISSION_DENIED: 403,
    ErrorCode.UNKNOWN_TYPE: 400,
    ErrorCode.ALREADY_SUBSCRIBED: 409,
    ErrorCode.LIMIT_EXCEEDED: 429,
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_AVAILABLE: 503,
    ErrorCode.TOKEN_EXPIRED: 401,
    ErrorCode.TOKEN_INVALID: 401,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.UNRECOVERABLE_POSITION: 410,
    ErrorCode.SCHEMA_INVALID: 422,
    ErrorCode.VERSION_CONFLICT: 409,
    ErrorCode.ILLEGAL_TRANSITION: 409,
    ErrorCode.PAYLOAD_TOO_LARGE: 413,
    ErrorCode.IDEMPOTENCY_CONFLICT: 409,
    ErrorCode.TIMEOUT: 504,
    ErrorCode.OVERLOADED: 503,
    ErrorCode.MFA_REQUIRED: 403,
}


class RevolutionaryResponse(msgspec.Struct, Generic[T], kw_only=True):
    """The envelope. `ai_insights` is null where nothing was asked of an insight source."""

    data: T | None
    meta: dict[str, Any]
    ai_insights: dict[str, Any] | None = None
    performance_metrics: dict[str, Any]
    security_audit: dict[str, Any]


class Answer(msgspec.Struct):
    """What a handler may return instead of bare data: data with more `meta`, such as paging."""

    data: Any
    meta: dict[str, Any] = {}


Handler = Callable[[Request, Caller], Awaitable[Any]]


class KrinAPIService:
    """Wraps handlers into endpoints: who asks, the envelope, the error mapping, the time it took."""

    def __init__(
        self, authentication: Authentication, dispatcher: Dispatcher, *, permissions: Permissions, clock: Clock
    ) -> None:
        self._authentication = authentication
        self._dispatcher = dispatcher
        self._permissions = permissions
        self._clock = clock

    def route(self, name: str, handler: Handler) -> Route:
        """A route such as `POST /v1/publish`, behind what the permission table wants for it. Raises Ungoverned."""
        method, path = name.split(" ")
        need = self._permissions.of_route(name)
        if need is Need.NOTHING:
            return Route(path, self.create_revolutionary_endpoint(handler, security_level="basic"), methods=[method])

        async def permitted(request: Request, caller: Caller) -> Any:
            self._permissions.require(need, caller, target=name)
            return await handler(request, caller)

        return Route(path, self.create_revolutionary_endpoint(permitted), methods=[method])

    def create_revolutionary_endpoint(
        self, handler: Handler, *, security_level: SecurityLevel = "enterprise"
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint around `handler(request, caller)`.

        security_level: basic lets anybody in (sign-in itself), standard and enterprise need a valid bearer token.
        """
        if security_level not in ("basic", "standard", "enterprise"):
            raise ValueError(f"unknown security level {security_level!r}")

        async def endpoint(request: Request) -> Response:
            started = self._clock.monotonic()
            caller = Caller(user="", roles=frozenset(), transport="rest", address=_address(request))
            token: dict[str, Any] = {"valid": False, "subject": None, "scopes": [], "reason": "none was sent"}
            try:
                if security_level != "basic":
                    caller = await self._caller(request)
                    token = {"valid": True, "subject": caller.user, "scopes": sorted(caller.roles), "reason": None}
                data = await handler(request, caller)
                status, error = 200, None
            except Exception as failure:
                problem = self._dispatcher.as_hub_error(failure)
                if problem.code in (ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED):
                    token["reason"] = problem.code.wire_name
                data, status, error = None, HTTP_STATUS[problem.code], problem
            return self._respond(request, data, status, error, token, started)

        return endpoint

    async def _caller(self, request: Request) -> Caller:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise HubError(ErrorCode.UNAUTHORIZED, "send Authorization: Bearer TOKEN")
        claims = self._authentication.authenticate(token.strip())
        if not isinstance(claims, Claims):
            claims = await claims
        return caller_of(claims, transport="rest", address=_address(request))

    def _respond(
        self,
        request: Request,
        data: Any,
        status: int,
        error: HubError | None,
        token: dict[str, Any],
        started: float,
    ) -> Response:
        meta: dict[str, Any] = {
            "status": "success" if error is None else "error",
            "version": "krin-level",
            "request_id": request.headers.get("x-request-id", "")[:64] or secrets.token_hex(8),
            "trace_id": _trace_id(request),
        }
        if isinstance(data, Answer):
            meta |= data.meta
            data = data.data
        headers = {"cache-control": "no-store"}
        if error is not None:
            meta["error"] = ErrorBody.of(error)
            if error.retry_after_ms is not None:
                headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
            if status == 401:
                headers["www-authenticate"] = "Bearer"
        envelope: RevolutionaryResponse[Any] = RevolutionaryResponse(
            data=data,
            meta=meta,
            performance_metrics={
                "duration_ms": round((self._clock.monotonic() - started) * 1000, 3),
                "db_ms": None,
                "cache": None,
                "queue_ms": None,
            },
            security_audit={
                "token": token,
                "rateLimit": {"allowed": True},
                "sanitization": {"ok": error is None or status not in (400, 413, 422), "changes": [], "violations": []},
                "threat": {"score": 0, "patterns": [], "action": "ALLOW"},
                "timestamp": self._clock.now_ms(),
                "severity": 0,
            },
        )
        return Response(msgspec.json.encode(envelope), status, headers, "application/json")


class OrjsonResponse(Response):
    """Plain JSON, for the routes outside `/v1`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _trace_id(request: Request) -> str:
    """The trace of a W3C `traceparent`, or a new one."""
    parts = request.headers.get("traceparent", "").split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and parts[1].strip("0") and set(parts[1]) <= set("0123456789abcdef"):
        return parts[1]
    return secrets.token_hex(16)
