"""`/v1/risk`: the `risk.*` methods over HTTP."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import read_struct
from hub.edge.envelope import KrinAPIService
from protocol.messages import Call
from protocol.risk import ApprovalAnswer, Halt, Resume, SetLimits


class RiskRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher, *, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /v1/risk/limits", self._limits),
            service.route("PUT /v1/risk/limits", self._set_limits),
            service.route("GET /v1/risk/state", self._state),
            service.route("POST /v1/risk/halt", self._halt),
            service.route("POST /v1/risk/resume", self._resume),
            service.route("POST /v1/risk/approve", self._approve),
            service.route("POST /v1/risk/decline", self._decline),
        ]

    async def _limits(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.limits", dict(request.query_params), caller)

    async def _set_limits(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.set_limits", await self._body(request, SetLimits), caller)

    async def _state(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.state", {}, caller)

    async def _halt(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.halt", await self._body(request, Halt), caller)

    async def _resume(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.resume", await self._body(request, Resume), caller)

    async def _approve(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.approve", await self._body(request, ApprovalAnswer), caller)

    async def _decline(self, request: Request, caller: Caller) -> Any:
        return await self._call("risk.decline", await self._body(request, ApprovalAnswer), caller)

    async def _body(self, request: Request, kind: type[Any]) -> Any:
        return msgspec.to_builtins(await read_struct(request, self._max_body_bytes, kind))

    async def _call(self, method: str, params: dict[str, Any], caller: Caller) -> Any:
        return await self._dispatcher.answer(Call(id=1, method=method, params=params), caller)
