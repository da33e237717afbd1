"""`/socket.io`: who may knock. Whoever never does leaves python-socketio unloaded, which takes a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from hub.auth.service import Authentication
from hub.auth.tokens import Claims
from hub.edge.credentials import Credentials, Unwelcome, claims_of, token_in_url
from hub.edge.refusals import refuse_websocket
from hub.edge.security import FOREIGN_ORIGIN
from hub.edge.streams import Streams
from hub.edge.websocket import RETRY_SOON
from hub.guard.events import Report
from hub.guard.limits import Limits
from protocol.errors import ErrorCode, HubError

PATH = "/socket.io"
VISITOR = "krin.visitor"  # in the scope of a request that begins a session
METHODS = ("GET", "POST")


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who begins a session, and where. `claims`: of the handshake's `Authorization`, if there was one."""

    address: str
    url: str
    claims: Claims | None


class Server(Protocol):
    """What hub.edge.socketio.server makes."""

    def run(self) -> Coroutine[Any, Any, None]: ...

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Refused(Exception):
    """A request that goes no further: what HTTP has to say about it."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers


class SocketIoDoor:
    """An ASGI application, for the sockets and the requests of Engine.IO alike."""

    def __init__(
        self,
        load: Callable[[], Server],
        *,
        authentication: Authentication,
        credentials: Credentials,
        streams: Streams,
        limits: Limits,
        report: Report,
    ) -> None:
        """`load` is called once, in a thread: the loop has others to serve."""
        self._load = load
        self._authentication = authentication
        self._credentials = credentials
        self._streams = streams
        self._limits = limits
        self._report = report
        self._wanted = asyncio.Event()
        self._server: asyncio.Future[Server] = asyncio.get_running_loop().create_future()
        self.routes = [Mount(PATH, self)]

    async def run(self) -> None:
        await self._wanted.wait()
        server = await asyncio.to_thread(self._load)
        self._server.set_result(server)
        await server.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if (visitor := await self._judge(scope)) is not None:
                scope = {**scope, VISITOR: visitor}
        except Refused as refused:
            if scope["type"] == "websocket":
                await receive()  # websocket.connect
                await refuse_websocket(send, refused.status, refused.text, headers=refused.headers)
            else:
                answer = PlainTextResponse(refused.text, refused.status)
                answer.raw_headers += refused.headers
                await answer(scope, receive, send)
            return
        self._wanted.set()
        await (await asyncio.shield(self._server)).serve(scope, receive, send)

    async def _judge(self, scope: Scope) -> Visitor | None:
        """None: the request goes on with a session. Raises Refused."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope.get("method", "GET") not in METHODS:
            raise Refused(405, "method not allowed")
        if scope.get(FOREIGN_ORIGIN):
            raise Refused(403, "pages of this origin may not ask")
        if token_in_url(scope):
            raise Refused(400, "token_in_url: send the token in `auth`")
        if "j" in query:
            raise Refused(400, "answers are no scripts: JSONP went with Engine.IO 3")
        return None if "sid" in query else await self._welcome(scope)

    async def _welcome(self, scope: Scope) -> Visitor:
        address = scope["client"][0] if scope.get("client") else ""
        try:
            if scope["type"] == "http":  # the perimeter has counted what came as a WebSocket
                self._limits.spend_address("connect", address)
            self._streams.admit(address)
        except HubError as error:
            status = 503 if error.code is ErrorCode.NOT_AVAILABLE else 429
            raise Refused(status, error.message, RETRY_SOON) from None
        try:
            claims = await claims_of(
                scope,
                credentials=self._credentials,
                authentication=self._authentication,
                report=self._report,
                address=address,
            )
        except Unwelcome as refused:
            raise Refused(refused.status, refused.text, refused.header) from None
        return Visitor(address=address, url=self._credentials.url(scope), claims=claims)
