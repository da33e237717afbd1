"""The answer of every `/v1` route: data, meta, insights, performance and security in one envelope.

The names are the user's (`RevolutionaryResponse`, `KrinAPIService`). Errors use the same envelope, with `data` null.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, TypeVar

import msgspec
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Dispatcher
from hub.edge.credentials import CHALLENGES
from hub.edge.security import REQUEST_ID, TRACEPARENT, RevolutionarySecurityService, Validation
from hub.guard.security_audit import SecurityAudit
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
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.PROOF_INVALID: 401,
}

UNROUTED = {404: (ErrorCode.NOT_FOUND, "not found"), 405: (ErrorCode.BAD_REQUEST, "method not allowed")}


class RevolutionaryResponse(msgspec.Struct, Generic[T], kw_only=True):
    """The envelope. `ai_insights` is null where nothing was asked of an insight source."""

    data: T | None
    meta: dict[str, Any]
    ai_insights: dict[str, Any] | None = None
    performance_metrics: dict[str, Any]
    security_audit: SecurityAudit


class Answer(msgspec.Struct):
    """What a handler may return instead of bare data: data with more `meta`, such as paging."""

    data: Any
    meta: dict[str, Any] = {}


Handler = Callable[[Request, Caller], Awaitable[Any]]


class KrinAPIService:
    """Wraps handlers into endpoints: who asks, the envelope, the error mapping, the time it took."""

    def __init__(
        self,
        security: RevolutionarySecurityService,
        dispatcher: Dispatcher,
        *,
        permissions: Permissions,
        clock: Clock,
        opted_out: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`opted_out` is told who sent `Sec-GPC: 1`, the Global Privacy Control of a browser."""
        self._security = security
        self._dispatcher = dispatcher
        self._permissions = permissions
        self._clock = clock
        self._opted_out = opted_out

    def route(self, name: str, handler: Handler) -> Route:
        """A route such as `POST /v1/publish`, behind what the permission table wants for it. Raises Ungoverned."""
        method, path = name.split(" ")
        need = self._permissions.of_route(name)
        if need is Need.NOTHING:
            return Route(path, self.create_revolutionary_endpoint(handler, security_level="basic"), methods=[method])

        async def permitted(request: Request, caller: Caller) -> Any:
            if request.headers.get("sec-gpc") == "1":
                self._opted_out(caller.user)
            self._permissions.require(need, caller, target=name)
            return await handler(request, caller)

        return Route(path, self.create_revolutionary_endpoint(permitted), methods=[method])

    def create_revolutionary_endpoint(
        self, handler: Handler, *, security_level: SecurityLevel = "enterprise"
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint around `handler(request, caller)`; a whole Response that it answers goes out as it is.

        security_level: basic lets anybody in (sign-in itself), standard and enterprise need a valid bearer token.
        """
        if security_level not in ("basic", "standard", "enterprise"):
            raise ValueError(f"unknown security level {security_level!r}")

        async def endpoint(request: Request) -> Response:
            started = self._clock.monotonic()
            signing_in = security_level == "basic"
            validation = await self._security.validate_request(
                request, needs_token=not signing_in, limit="login" if signing_in else "request"
            )
            if validation.refused is not None:
                return self._refuse(request, validation.refused, validation, started)
            try:
                data = await handler(request, validation.caller)
            except Exception as failure:  # no other name for it here: its frames hold the request and all names
                return self._refuse(request, failure, validation, started)
            if isinstance(data, Response):
                return data
            return self._respond(request, data, None, validation.audit, started)

        return endpoint

    async def answer_unrouted(self, request: Request, failure: HTTPException) -> Response:
        """What no route answers: the path, or its method, does not exist. Nobody needs a token to be told so."""
        started = self._clock.monotonic()
        validation = await self._security.validate_request(request, needs_token=False)
        if validation.refused is not None:
            return self._refuse(request, validation.refused, validation, started)
        code, text = UNROUTED[failure.status_code]
        error = self._dispatcher.as_hub_error(HubError(code, text))
        response = self._respond(request, None, error, validation.audit, started)
        response.status_code = failure.status_code
        response.headers.update(failure.headers or {})
        return response

    def _refuse(self, request: Request, failure: Exception, validation: Validation, started: float) -> Response:
        error = self._dispatcher.as_hub_error(failure)
        self._security.note_malformed(error, validation.caller)
        return self._respond(request, None, error, validation.audit.after(error), started)

    def _respond(
        self,
        request: Request,
        data: Any,
        error: HubError | None,
        audit: SecurityAudit,
        started: float,
    ) -> Response:
        request_id = request.headers.get("x-request-id", "")
        meta: dict[str, Any] = {
            "status": "success" if error is None else "error",
            "version": "krin-level",
            "request_id": request_id if REQUEST_ID.match(request_id) else secrets.token_hex(8),
            "trace_id": _trace_id(request),
        }
        if isinstance(data, Answer):
            meta |= data.meta
            data = data.data
        headers = {}
        status = 200
        if error is not None:
            status = HTTP_STATUS[error.code]
            meta["error"] = ErrorBody.of(error)
            if error.retry_after_ms is not None:
                headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
            if status == 401:
                headers["www-authenticate"] = CHALLENGES.get(error.code, "Bearer")
        envelope: RevolutionaryResponse[Any] = RevolutionaryResponse(
            data=data,
            meta=meta,
            performance_metrics={
                "duration_ms": round((self._clock.monotonic() - started) * 1000, 3),
                "db_ms": None,
                "cache": None,
                "queue_ms": None,
            },
            security_audit=audit,
        )
        return Response(msgspec.json.encode(envelope), status, headers, "application/json")


class OrjsonResponse(Response):
    """Plain JSON, for the routes outside `/v1`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _trace_id(request: Request) -> str:
    """The trace of a W3C `traceparent`, or a new one."""
    traceparent = request.headers.get("traceparent", "")
    if TRACEPARENT.match(traceparent):
        return traceparent.split("-")[1]
    return secrets.token_hex(16)
