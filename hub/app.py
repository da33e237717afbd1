"""The Starlette application: which path goes where."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from os import PathLike
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from hub.bootstrap import Hub
from hub.edge import asyncapi, openapi
from hub.edge.envelope import OrjsonResponse
from hub.edge.perimeter import API, Perimeter
from hub.edge.websocket import UnknownPath
from hub.guard.addresses import networks


class DashboardFiles(StaticFiles):
    """Python takes `.ts` for a video; declarations of types are text that a browser shows."""

    def file_response(self, full_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        if str(full_path).endswith(".d.ts"):
            response.headers["content-type"] = "text/plain; charset=utf-8"
        return response


CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_app(hub: Hub, *, demo_token: Callable[[], str] | None = None) -> Starlette:
    """`demo_token`: in the demo, where everything is simulated, the page signs itself in.

    Raises Ungoverned for a route that the permission table does not mention.
    """
    dashboard = resources.files("hub") / "dashboard"

    def page(name: str) -> Callable[[Request], Awaitable[Response]]:
        content = (dashboard / name).read_bytes()

        async def show(request: Request) -> Response:
            policy = {"content-security-policy": CONTENT_SECURITY_POLICY}
            return Response(content, media_type="text/html", headers=policy)

        return show

    async def health(request: Request) -> Response:
        return OrjsonResponse(hub.health())

    async def ready(request: Request) -> Response:
        state = {**hub.health(), "draining": hub.draining}
        return OrjsonResponse(state, 503 if hub.draining else 200)

    async def metrics(request: Request) -> Response:
        body, media_type = await hub.exposition(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": media_type})

    async def describe_rest(request: Request) -> Response:
        return OrjsonResponse(openapi.describe())

    async def describe_socket(request: Request) -> Response:
        return OrjsonResponse(asyncapi.describe())

    async def demo(request: Request) -> Response:
        assert demo_token is not None
        return OrjsonResponse({"access_token": demo_token()})

    security = hub.settings.security
    perimeter = Middleware(
        Perimeter,
        trusted_proxies=networks(security.trusted_proxies),
        allowed_origins=security.allowed_origins,
        limits=hub.limits,
        sockets_from=hub.registry.sockets_from,
        threats=hub.threats,
    )
    public: list[BaseRoute] = [
        *([Route("/demo/token", demo)] if demo_token else []),
        Route("/", page("index.html")),
        Route("/docs", page("docs.html")),
        Route("/openapi.json", describe_rest),
        Route("/asyncapi.json", describe_socket),
        *hub.routes,
        Mount(
            "/static", GZipMiddleware(DashboardFiles(directory=str(dashboard)), compresslevel=5)
        ),  # it holds no secret
    ]
    routes = [
        Route("/health", health),
        Route("/ready", ready),
        Route("/metrics", metrics),
        *(public if hub.settings.role != "worker" else ()),
        WebSocketRoute("/{path:path}", UnknownPath()),
    ]
    hub.permissions.govern_routes(name for route in routes for name in names_of(route))

    async def unrouted(request: Request, failure: Exception) -> Response:
        if isinstance(failure, HTTPException) and failure.status_code == 405:
            failure.headers = {"Allow": ", ".join(sorted(methods_at(request.scope, routes)))}
        if isinstance(failure, HTTPException) and f"{request.scope['path']}/".startswith(API):
            return await hub.answer_unrouted(request, failure)
        return await _plain_error(request, failure)

    app = Starlette(
        routes=routes,
        middleware=[perimeter],
        exception_handlers={404: unrouted, 405: unrouted, 500: _plain_error},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header of whoever asks
    return app


def names_of(route: BaseRoute) -> list[str]:
    """A route as the permission table names it, once for each of its methods."""
    match route:
        case Route():
            return [f"{method} {route.path}" for method in sorted(route.methods or ()) if method != "HEAD"]
        case WebSocketRoute() | Mount():
            return [f"GET {route.path}"]
        case _:
            return [repr(route)]  # of a kind that nobody thought of: no table mentions it


def methods_at(scope: Scope, routes: Iterable[BaseRoute]) -> set[str]:
    """Of all routes at the path of a request: Starlette names those of the first one."""
    there = [each for each in routes if isinstance(each, Route) and each.matches(scope)[0] is not Match.NONE]
    return {method for each in there for method in each.methods or ()}


async def _plain_error(request: Request, failure: Exception) -> Response:
    status = getattr(failure, "status_code", 500)
    text = {404: "not found", 405: "method not allowed"}.get(status, "internal error")
    return OrjsonResponse({"error": text}, status, getattr(failure, "headers", None))
