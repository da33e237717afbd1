"""`GET /v1/search`: the `search` command over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.envelope import KrinAPIService
from protocol.codec import converted
from protocol.messages import Search


class SearchRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.routes = [service.route("GET /v1/search", self._search)]

    async def _search(self, request: Request, caller: Caller) -> Any:
        given = {name: value for name, value in request.query_params.items() if value}
        command = converted({"type": "search", "id": 1, **given}, Search, strict=False)
        result = self._dispatcher.handle(command, caller)
        return await result if isinstance(result, Awaitable) else result
