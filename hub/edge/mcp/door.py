"""`POST /mcp`. Whoever never asks for it never pays for the SDK, which takes most of a second to load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from hub.caller import Caller
from hub.edge.credentials import Credentials
from hub.edge.envelope import KrinAPIService, OrjsonResponse

PATH = "/mcp"
METADATA = f"/.well-known/oauth-protected-resource{PATH}"


class Server(Protocol):
    """What hub.edge.mcp.server makes."""

    def run(self) -> Coroutine[Any, Any, None]: ...

    async def serve(self, scope: Scope, receive: Receive, send: Send, *, caller: Caller) -> None: ...


class McpDoor:
    def __init__(self, service: KrinAPIService, load: Callable[[], Server], *, credentials: Credentials) -> None:
        """`load` is called once, in a thread: the loop has others to serve."""
        self._load = load
        self._credentials = credentials
        self._wanted = asyncio.Event()
        self._server: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self.routes = [service.route(f"POST {PATH}", self._answer), Route(METADATA, self._describe)]

    async def run(self) -> None:
        await self._wanted.wait()
        server = await asyncio.to_thread(self._load)
        self._server.set_result(server)
        await server.run()

    async def _describe(self, request: Request) -> Response:
        """Where a client gets a token for this resource (RFC 9728); without a public address, it has to have one."""
        described = {
            "resource": self._credentials.url(request.scope).replace(METADATA, PATH),
            "bearer_methods_supported": ["header"],
        }
        if self._credentials.public_address is not None:
            described["authorization_servers"] = [self._credentials.public_address]
        return OrjsonResponse(described)

    async def _answer(self, request: Request, caller: Caller) -> Response:
        self._wanted.set()
        return _Served(await asyncio.shield(self._server), caller)


class _Served(Response):
    """Hands the request to the SDK, which writes the answer by itself."""

    def __init__(self, server: Server, caller: Caller) -> None:
        self._server = server
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._server.serve(scope, receive, send, caller=self._caller)
