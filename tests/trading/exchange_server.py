"""A local exchange: the REST answers and the WebSocket messages of a recording, to whoever subscribes."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from hub.trading.market.captures import split_line

Change = Callable[[dict[str, Any]], dict[str, Any] | None]


class CoinbaseServer:
    """Plays the recording to each connection as soon as it has subscribed to every channel that is `expected`.

    Then it hangs up. `change` may alter a message or, with None, leave it out.
    """

    def __init__(self, recording: Path, rest: Path, *, expected: int, change: Change = lambda message: message) -> None:
        self.connections = 0
        self._messages = [
            json.loads(received[1])
            for line in recording.read_bytes().splitlines()
            if (received := split_line(line)) is not None
        ]
        self._products = rest.read_bytes().splitlines()[0].partition(b" -> ")[2].partition(b": ")[2]
        self._expected = expected
        self._change = change

    async def products(self, request: Request) -> Response:
        return Response(self._products, media_type="application/json")

    async def nothing(self, request: Request) -> Response:
        return Response(b"[]", media_type="application/json")

    async def stream(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.connections += 1
        wanted: set[tuple[str, str]] = set()
        try:
            while len(wanted) < self._expected:
                message = json.loads(await websocket.receive_text())
                for channel in message.get("channels", []):
                    wanted.update((channel, product) for product in message["product_ids"])
            products = {product for _, product in wanted}
            for message in self._messages:
                changed = self._change(message) if message.get("product_id") in products else None
                if changed is not None:
                    await websocket.send_text(json.dumps(changed))
        except WebSocketDisconnect:
            return
        await websocket.close(1001)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Yields host:port."""
        routes = [
            Route("/products", self.products),
            Route("/currencies", self.nothing),
            WebSocketRoute("/", self.stream),
        ]
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task
