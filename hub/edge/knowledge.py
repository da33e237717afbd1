"""`/v1/knowledge` and `/v1/contracts`: the methods of the same names over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import KrinAPIService
from protocol.contracts import ContractExpectation
from protocol.knowledge import KnowledgeAdd
from protocol.messages import Call


class KnowledgeRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher, *, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /v1/knowledge", self._search),
            service.route("POST /v1/knowledge", self._add),
            service.route("GET /v1/knowledge/{entry_id}", self._get),
            service.route("POST /v1/contracts/validate", self._validate),
        ]

    async def _search(self, request: Request, caller: Caller) -> Any:
        return (await self._call("knowledge.search", query_of(request, "limit"), caller)).entries

    async def _add(self, request: Request, caller: Caller) -> Any:
        return (await self._call("knowledge.add", await self._body(request, KnowledgeAdd), caller)).entry

    async def _get(self, request: Request, caller: Caller) -> Any:
        return (await self._call("knowledge.get", request.path_params, caller)).entry

    async def _validate(self, request: Request, caller: Caller) -> Any:
        return await self._call("contracts.validate", await self._body(request, ContractExpectation), caller)

    async def _body(self, request: Request, kind: type[Any]) -> Any:
        return msgspec.to_builtins(await read_struct(request, self._max_body_bytes, kind))

    async def _call(self, method: str, params: Mapping[str, Any], caller: Caller) -> Any:
        result = self._dispatcher.handle(Call(id=1, method=method, params=dict(params)), caller)
        return await result if isinstance(result, Awaitable) else result
