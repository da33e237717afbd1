"""`/v1/insights`: the methods `insights.*` over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import KrinAPIService
from protocol.fields import Fraction
from protocol.insights import Verdict
from protocol.messages import Call


class FeedbackBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    verdict: Verdict
    outcome: Fraction | None = None


class RetractionBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    reason: Annotated[str, Meta(min_length=1, max_length=1024)]


class InsightRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher, *, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /v1/insights", self._list),
            service.route("GET /v1/insights/scores", self._scores),
            service.route("POST /v1/insights/{insight_id}/feedback", self._feedback),
            service.route("POST /v1/insights/{insight_id}/retraction", self._retract),
        ]

    async def _list(self, request: Request, caller: Caller) -> Any:
        return (await self._call("insights.list", query_of(request, "limit", "before"), caller)).insights

    async def _scores(self, request: Request, caller: Caller) -> Any:
        return (await self._call("insights.scores", {**request.query_params}, caller)).scores

    async def _feedback(self, request: Request, caller: Caller) -> Any:
        body = msgspec.to_builtins(await read_struct(request, self._max_body_bytes, FeedbackBody))
        return (await self._call("insights.feedback", request.path_params | body, caller)).scores

    async def _retract(self, request: Request, caller: Caller) -> Any:
        body = msgspec.to_builtins(await read_struct(request, self._max_body_bytes, RetractionBody))
        return await self._call("insights.retract", request.path_params | body, caller)

    async def _call(self, method: str, params: dict[str, Any], caller: Caller) -> Any:
        return await self._dispatcher.answer(Call(id=1, method=method, params=params), caller)
