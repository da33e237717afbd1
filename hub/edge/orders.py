"""Orders under `/v1/orders`: the methods of the same names, for those who do not keep a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import Answer, KrinAPIService
from protocol.fields import DecimalString, Quantity
from protocol.messages import Call
from protocol.trading import CancelAllAfter, ClientOrderId, OrderPage, OrderSubmit


class ReplaceBody(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """`client_order_id` is the order's new name."""

    client_order_id: ClientOrderId
    qty: Quantity | None = None
    price: DecimalString | None = None
    stop_price: DecimalString | None = None
    trail: Quantity | None = None


class OrderRoutes:
    """`?account=` names the account; without it, it is the caller's."""

    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher, *, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("POST /v1/orders", self._submit),
            service.route("GET /v1/orders", self._list),
            service.route("DELETE /v1/orders", self._cancel_all),
            service.route("POST /v1/orders/validate", self._validate),
            service.route("PUT /v1/orders/cancel-all-after", self._cancel_all_after),
            service.route("GET /v1/orders/{client_order_id}", self._status),
            service.route("PATCH /v1/orders/{client_order_id}", self._replace),
            service.route("DELETE /v1/orders/{client_order_id}", self._cancel),
        ]

    async def _submit(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.submit", await self._body(request, OrderSubmit), caller)

    async def _validate(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.validate", await self._body(request, OrderSubmit), caller)

    async def _list(self, request: Request, caller: Caller) -> Any:
        params: dict[str, Any] = {**_account(request, caller), **query_of(request, "limit", "before")}
        if "open" in params:
            params["open"] = {"true": True, "false": False}.get(params["open"], params["open"])
        page = await self._call("orders.list", params, caller)
        found = page if isinstance(page, OrderPage) else msgspec.convert(page, OrderPage)  # from another node
        return Answer(found.orders, {"paging": {"more": found.next is not None, "next": found.next}})

    async def _cancel_all(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.cancel_all", {**_account(request, caller), **request.query_params}, caller)

    async def _cancel_all_after(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.cancel_all_after", await self._body(request, CancelAllAfter), caller)

    async def _status(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.status", _named(request, caller), caller)

    async def _cancel(self, request: Request, caller: Caller) -> Any:
        return await self._call("orders.cancel", _named(request, caller), caller)

    async def _replace(self, request: Request, caller: Caller) -> Any:
        changes = await self._body(request, ReplaceBody)
        named = {"orig_client_order_id": request.path_params["client_order_id"]}
        return await self._call("orders.replace", {**_account(request, caller), **changes, **named}, caller)

    async def _body(self, request: Request, kind: type[Any]) -> Mapping[str, Any]:
        body: Mapping[str, Any] = msgspec.to_builtins(await read_struct(request, self._max_body_bytes, kind))
        return body

    async def _call(self, method: str, params: Mapping[str, Any], caller: Caller) -> Any:
        return await self._dispatcher.answer(Call(id=1, method=method, params=dict(params)), caller)


def _account(request: Request, caller: Caller) -> dict[str, str]:
    return {"account": request.query_params.get("account", caller.user)}


def _named(request: Request, caller: Caller) -> dict[str, str]:
    return {**_account(request, caller), "client_order_id": request.path_params["client_order_id"]}
