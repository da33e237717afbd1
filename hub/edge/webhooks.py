"""`/v1/webhooks`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from hub.caller import Caller
from hub.edge.accounts import Done
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import KrinAPIService
from hub.webhooks.service import MAX_PAGE, NewWebhook, WebhookChanges, WebhookService
from protocol.codec import converted


class DeliveryPage(msgspec.Struct):
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = MAX_PAGE


class WebhookRoutes:
    def __init__(self, service: KrinAPIService, webhooks: WebhookService, *, max_body_bytes: int) -> None:
        self._webhooks = webhooks
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /v1/webhooks", self._list),
            service.route("POST /v1/webhooks", self._add),
            service.route("GET /v1/webhooks/{id}", self._get),
            service.route("PATCH /v1/webhooks/{id}", self._change),
            service.route("DELETE /v1/webhooks/{id}", self._remove),
            service.route("POST /v1/webhooks/{id}/secret", self._rotate),
            service.route("POST /v1/webhooks/{id}/test", self._test, waits=True),
            service.route("GET /v1/webhooks/{id}/deliveries", self._deliveries),
        ]

    async def _list(self, request: Request, caller: Caller) -> Any:
        return await self._webhooks.list(caller)

    async def _add(self, request: Request, caller: Caller) -> Any:
        return await self._webhooks.add(
            await read_struct(request, self._max_body_bytes, NewWebhook, stored=True), caller
        )

    async def _get(self, request: Request, caller: Caller) -> Any:
        return await self._webhooks.get(request.path_params["id"], caller)

    async def _change(self, request: Request, caller: Caller) -> Any:
        changes = await read_struct(request, self._max_body_bytes, WebhookChanges, stored=True)
        return await self._webhooks.change(request.path_params["id"], changes, caller)

    async def _remove(self, request: Request, caller: Caller) -> Any:
        await self._webhooks.remove(request.path_params["id"], caller)
        return Done()

    async def _rotate(self, request: Request, caller: Caller) -> Any:
        return await self._webhooks.rotate(request.path_params["id"], caller)

    async def _test(self, request: Request, caller: Caller) -> Any:
        return await self._webhooks.test(request.path_params["id"], caller)

    async def _deliveries(self, request: Request, caller: Caller) -> Any:
        page: DeliveryPage = converted(query_of(request, "limit"), DeliveryPage)
        return await self._webhooks.deliveries(request.path_params["id"], caller, limit=page.limit)
