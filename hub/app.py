"""The Starlette application: which path goes where."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.bootstrap import Hub
from hub.edge.envelope import OrjsonResponse
from hub.edge.openapi import describe
from hub.edge.websocket import UnknownPath

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'"
)


def create_app(hub: Hub, *, demo_token: Callable[[], str] | None = None) -> Starlette:
    """`demo_token`: in the demo, where everything is simulated, the page signs itself in."""
    dashboard = resources.files("hub") / "dashboard"
    page = (dashboard / "index.html").read_bytes()

    async def index(request: Request) -> Response:
        return Response(page, media_type="text/html", headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    async def health(request: Request) -> Response:
        return OrjsonResponse(hub.health())

    async def ready(request: Request) -> Response:
        state = {**hub.health(), "draining": hub.draining}
        return OrjsonResponse(state, 503 if hub.draining else 200)

    async def metrics(request: Request) -> Response:
        return Response(hub.metrics.exposition(), media_type="text/plain; version=0.0.4")

    async def openapi(request: Request) -> Response:
        return OrjsonResponse(describe())

    async def demo(request: Request) -> Response:
        assert demo_token is not None
        return OrjsonResponse({"access_token": demo_token()}, headers={"cache-control": "no-store"})

    app = Starlette(
        routes=[
            *([Route("/demo/token", demo)] if demo_token else []),
            Route("/", index),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/openapi.json", openapi),
            WebSocketRoute("/ws", hub.websocket),
            *hub.rest.routes,
            Mount("/static", StaticFiles(directory=str(dashboard))),
            WebSocketRoute("/{path:path}", UnknownPath()),
        ],
        middleware=[Middleware(SafeHeaders)],
        exception_handlers={404: _plain_error, 405: _plain_error, 500: _plain_error},
    )
    app.router.redirect_slashes = False  # a redirect would repeat the Host header of whoever asks
    return app


class SafeHeaders:
    """Pure ASGI: the headers every answer carries."""

    HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.HEADERS]
                if scope["path"].startswith("/static/"):
                    # Pages elsewhere may import the browser SDK; an upgrade must not mix old and new modules.
                    message["headers"].append((b"access-control-allow-origin", b"*"))
                    message["headers"].append((b"cache-control", b"no-cache"))
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _plain_error(request: Request, failure: Exception) -> Response:
    status = getattr(failure, "status_code", 500)
    text = {404: "not found", 405: "method not allowed"}.get(status, "internal error")
    return OrjsonResponse({"error": text}, status, getattr(failure, "headers", None))
