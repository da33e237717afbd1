"""The answer of every `/v1` route: data, meta, insights, performance and security in one envelope.

The names are the user's (`RevolutionaryResponse`, `KrinAPIService`). Errors use the same envelope, with `data` null.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec
import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Dispatcher, Finished, unobserved
from hub.edge.body import refuse_nul_in_address
from hub.edge.credentials import CHALLENGES
from hub.edge.security import REQUEST_ID, RevolutionarySecurityService, Validation, traceparent_of
from hub.guard.concurrency import Concurrency
from hub.guard.security_audit import SecurityAudit
from hub.observe.requests import served, serving
from hub.observe.tracing import Tracing
from hub.permissions import Need, Permissions
from protocol.errors import ErrorCode, HubError
from protocol.messages import ErrorBody

logger = logging.getLogger("krin.envelope")

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

GPC = "sec-gpc"  # the Global Privacy Control of a browser: "1" refuses that data are sold or shared
INSIGHT_S = 0.005  # what an answer may wait for its insights
MISSED = ("timeout", "failed")  # reasons of insights that should have been there, at least some of them

UNROUTED = {404: (ErrorCode.NOT_FOUND, "not found"), 405: (ErrorCode.BAD_REQUEST, "method not allowed")}


class RevolutionaryResponse(msgspec.Struct, Generic[T], kw_only=True):
    """The envelope. `ai_insights` is null on errors, and where the endpoint was made without `ai_enhancement`."""

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


class AICoordinator(Protocol):
    """Where insights come from."""

    async def generate_insights(self, result: Any, caller: Caller) -> dict[str, Any]:
        """`status` `ready` with `items`, or `pending` with a channel to hear of more on; `degraded` with a `reason`, of
        MISSED where more is known than could be read. Cut off after INSIGHT_S."""
        ...

    async def analyze_error(self, failure: Exception) -> None:
        """Hear of an error that a handler did not mean to raise. It is on its way to the caller all the same."""
        ...


class PerformanceTracker:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def start(self) -> float:
        return self._clock.monotonic()

    def measure(self, started: float, *, stranger: bool) -> dict[str, Any]:
        """`started` as `start` gave it. What nobody measures is null: see hub.observe.requests.

        A stranger is not told where the time went: whether a name is known shows in what the database had to do.
        """
        duration_ms = round((self._clock.monotonic() - started) * 1000, 3)
        request = None if stranger else serving.get()
        spent = {"db_ms": None, "cache": None, "queue_ms": None} if request is None else request.measured()
        return {"duration_ms": duration_ms, **spent}


class KrinAPIService:
    """Wraps handlers into endpoints: who asks, the envelope, the error mapping, the time it took."""

    def __init__(
        self,
        security: RevolutionarySecurityService,
        dispatcher: Dispatcher,
        *,
        permissions: Permissions,
        insights: AICoordinator,
        concurrency: Concurrency,
        clock: Clock,
        opted_out: Callable[[str], None] = lambda name: None,
        observe: Finished = unobserved,
        tracing: Tracing | None = None,
    ) -> None:
        """`opted_out` is told who sent `Sec-GPC: 1`, the Global Privacy Control of a browser; `observe` of every
        request to a route. `tracing`: who brings a sampled `traceparent` finds the request in that trace.
        """
        self._security = security
        self._dispatcher = dispatcher
        self._permissions = permissions
        self._insights = insights
        self._concurrency = concurrency
        self._clock = clock
        self._tracker = PerformanceTracker(clock)
        self._opted_out = opted_out
        self._observe = observe
        self._tracing = tracing
        self.without_insights = 0  # answers that should have had some, and analyses of errors that failed

    def route(self, name: str, handler: Handler, *, waits: bool = False) -> Route:
        """A route such as `POST /v1/publish`, behind what the permission table wants for it. Raises Ungoverned.

        waits: for what others do, for so long that it counts among no limit of requests at work and no latency.
        """
        method, path = name.split(" ")
        need = self._permissions.of_route(name)
        if need is Need.NOTHING:
            # What is signed in with is no matter for an insight.
            endpoint = self.create_revolutionary_endpoint(
                handler, ai_enhancement=False, security_level="basic", name=name
            )
            return Route(path, endpoint, methods=[method])

        async def permitted(request: Request, caller: Caller) -> Any:
            if request.headers.get(GPC) == "1":
                self._opted_out(caller.user)
            self._permissions.require(need, caller, target=name)
            refuse_nul_in_address(request)
            return await handler(request, caller)

        return Route(path, self.create_revolutionary_endpoint(permitted, name=name, waits=waits), methods=[method])

    def create_revolutionary_endpoint(
        self,
        handler: Handler,
        *,
        ai_enhancement: bool = True,
        security_level: SecurityLevel = "enterprise",
        name: str = "endpoint",
        waits: bool = False,
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint around `handler(request, caller)`; a whole Response that it answers goes out as it is.

        name: under which it is observed.
        ai_enhancement: False gives `ai_insights` null, and asks nobody.
        security_level: basic lets anybody in (sign-in itself), standard needs a valid bearer token, enterprise also a
            second factor of whoever looks like a threat.
        waits: as for `route`.

        Raises TypeError for a handler that is not async, ValueError for another level.
        """
        _check(handler, security_level)

        async def answer(request: Request) -> Response:
            started = self._tracker.start()
            began = None if waits else started
            validation = await self._validate(request, security_level)
            if validation.refused is not None:
                self._observe(name, began, validation.refused.code)
                return self._refuse(request, validation.refused, validation, started)
            try:
                if waits:
                    _begin()
                    data = await handler(request, validation.caller)
                else:
                    data = await self._handle(handler, request, validation.caller, name)
            except Exception as failure:  # no other name for it here: its frames hold the request and all names
                self._observe(name, began, failure.code if isinstance(failure, HubError) else ErrorCode.INTERNAL)
                await self._judge(failure, validation.caller, name, ai_enhancement=ai_enhancement)
                return self._refuse(request, failure, validation, started)
            self._observe(name, began, None)
            if isinstance(data, Response):
                return data
            insights = await self._insights_of(data, validation.caller) if ai_enhancement else None
            return self._respond(request, data, None, validation.audit, started, insights)

        async def endpoint(request: Request) -> Response:
            with served(self._clock):
                if self._tracing is None or (traced := self._tracing.request(name, traceparent_of(request))) is None:
                    return await answer(request)
                request.state.trace = traced.traceparent
                with traced:
                    response = await answer(request)
                    traced.answered(response.status_code)
                    return response

        return endpoint

    async def execute_revolutionary(
        self,
        handler: Handler,
        request: Request,
        *,
        ai_enhancement: bool = True,
        security_level: SecurityLevel = "enterprise",
    ) -> RevolutionaryResponse[Any]:
        """Run a handler once, as an endpoint would, and have the envelope: for routes that answer in their own way.

        Raises what `create_revolutionary_endpoint` does, HubError for a request that is refused, and whatever the
        handler raises, after its analysis.
        """
        _check(handler, security_level)
        with served(self._clock):
            started = self._tracker.start()
            validation = await self._validate(request, security_level)
            if validation.refused is not None:
                raise validation.refused
            try:
                data = await self._handle(handler, request, validation.caller, "execute")
            except Exception as failure:
                await self._judge(failure, validation.caller, "execute", ai_enhancement=ai_enhancement)
                raise
            insights = await self._insights_of(data, validation.caller) if ai_enhancement else None
            return self._envelope(request, data, None, validation.audit, started, insights)

    async def _validate(self, request: Request, level: SecurityLevel) -> Validation:
        return await self._security.validate_request(
            request,
            needs_token=level != "basic",
            challenges=level == "enterprise",
            limit="login" if level == "basic" else "request",
        )

    async def _handle(self, handler: Handler, request: Request, caller: Caller, name: str) -> Any:
        """Raises HubError(overloaded) before the handler has begun, when too much is at work already."""
        self._concurrency.begin()
        began = self._tracker.start()
        _begin()
        waited_s = 0.0

        async def receive() -> Message:
            nonlocal waited_s
            since = self._tracker.start()
            self._concurrency.pause()
            try:
                return await request.receive()
            finally:
                self._concurrency.resume()
                waited_s += self._tracker.start() - since

        try:
            return await handler(Request(request.scope, receive), caller)
        finally:
            self._concurrency.end(name, self._tracker.start() - began - waited_s)

    async def _insights_of(self, data: Any, caller: Caller) -> dict[str, Any]:
        """Never raises: an answer is worth more than what is said about it."""
        result = data.data if isinstance(data, Answer) else data
        try:
            async with asyncio.timeout(INSIGHT_S):
                insights = await self._insights.generate_insights(result, caller)
        except TimeoutError:
            insights = {"status": "degraded", "reason": "timeout"}
        except Exception:
            logger.exception("no insights")
            insights = {"status": "degraded", "reason": "failed"}
        if insights.get("reason") in MISSED:
            self.without_insights += 1
        return insights

    async def _judge(self, failure: Exception, caller: Caller, name: str, *, ai_enhancement: bool) -> None:
        """What the hub refuses on purpose needs neither a row in the audit log nor analysis. Never raises."""
        if isinstance(failure, HubError) and failure.code is not ErrorCode.INTERNAL:
            return
        self._security.audit_request(name, caller)
        if isinstance(failure, HubError) or not ai_enhancement:  # the dispatcher has told of what it made `internal`
            return
        try:
            async with asyncio.timeout(INSIGHT_S):
                await self._insights.analyze_error(failure)
        except Exception:
            logger.exception("an error could not be analyzed")
            self.without_insights += 1

    async def answer_unrouted(self, request: Request, failure: HTTPException) -> Response:
        """What no route answers: the path, or its method, does not exist. Nobody needs a token to be told so."""
        started = self._tracker.start()
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
        error = self._dispatcher.as_hub_error(failure, heard=True)
        self._security.note_malformed(error, validation.caller)
        return self._respond(request, None, error, validation.audit.after(error), started)

    def _respond(
        self,
        request: Request,
        data: Any,
        error: HubError | None,
        audit: SecurityAudit,
        started: float,
        insights: dict[str, Any] | None = None,
    ) -> Response:
        envelope = self._envelope(request, data, error, audit, started, insights)
        headers = {"x-request-id": envelope.meta["request_id"]}
        status = 200
        if error is not None:
            status = HTTP_STATUS[error.code]
            if error.retry_after_ms is not None:
                headers["retry-after"] = str(-(-error.retry_after_ms // 1000))
            if status == 401:
                headers["www-authenticate"] = CHALLENGES.get(error.code, "Bearer")
        return Response(msgspec.json.encode(envelope), status, headers, "application/json")

    def _envelope(
        self,
        request: Request,
        data: Any,
        error: HubError | None,
        audit: SecurityAudit,
        started: float,
        insights: dict[str, Any] | None,
    ) -> RevolutionaryResponse[Any]:
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
        if error is not None:
            meta["error"] = ErrorBody.of(error)
        return RevolutionaryResponse(
            data=data,
            meta=meta,
            ai_insights=insights,
            performance_metrics=self._tracker.measure(started, stranger=not audit.token.valid),
            security_audit=audit,
        )


def _begin() -> None:
    if (request := serving.get()) is not None:
        request.begin()


def _check(handler: Handler, security_level: str) -> None:
    if security_level not in ("basic", "standard", "enterprise"):
        raise ValueError(f"unknown security level {security_level!r}")
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"a handler must be async: {handler!r} would hold up everybody else")


class OrjsonResponse(Response):
    """Plain JSON, for the routes outside `/v1`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def _trace_id(request: Request) -> str:
    """The trace of a W3C `traceparent`, or a new one."""
    traceparent = traceparent_of(request)
    return secrets.token_hex(16) if traceparent is None else traceparent.split("-")[1]
