"""`/v1/screens/{screen}`: what a screen of a front end begins with, in one request; then channels keep it up to date.

Each part is what its method answers to this caller. One that is refused or away is an error in its own place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.envelope import KrinAPIService
from protocol.errors import ErrorCode, HubError
from protocol.messages import Call, ErrorBody


class Part(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Either what the method answered, or why it did not."""

    data: Any = None
    error: ErrorBody | None = None


class Screen(msgspec.Struct, frozen=True, kw_only=True):
    parts: dict[str, Part]


class _Asked(NamedTuple):
    """`names`: which parameters of the request go to the method."""

    method: str
    names: tuple[str, ...] = ()
    params: Mapping[str, Any] = {}


SCREENS: Mapping[str, Mapping[str, _Asked]] = {
    "orders": {
        "orders": _Asked("orders.list", ("account",), {"open": True}),
        "limits": _Asked("risk.limits", ("account",)),
        "risk": _Asked("risk.state"),
        "strategies": _Asked("strategies.list", ("account",)),
    },
    "team": {
        "project": _Asked("projects.get", ("project_id",)),
        "tasks": _Asked("tasks.list", ("project_id",)),
        "plan": _Asked("team.current", ("project_id",)),
        "next_steps": _Asked("team.next_steps", ("project_id",)),
        "handoffs": _Asked("handoffs.list", ("project_id",)),
        "budgets": _Asked("budgets.list", ("project_id",)),
        "agents": _Asked("agents.list", ("team",)),
        "approvals": _Asked("approvals.list", (), {"state": "REQUESTED"}),
    },
    "operate": {
        "clients": _Asked("hub.clients"),
        "errors": _Asked("insights.errors"),
        "risk": _Asked("risk.state"),
        "agents": _Asked("agents.list"),
    },
}


class ScreenRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.routes = [service.route("GET /v1/screens/{screen}", self._screen)]

    async def _screen(self, request: Request, caller: Caller) -> Any:
        """Raises HubError(not_found)."""
        asked = SCREENS.get(request.path_params["screen"])
        if asked is None:
            raise HubError(ErrorCode.NOT_FOUND, f"there are the screens {', '.join(SCREENS)}", path="screen")
        given: dict[str, str] = {"account": caller.user, **request.query_params}
        parts = await asyncio.gather(*(self._part(each, given, caller) for each in asked.values()))
        return Screen(parts=dict(zip(asked, parts, strict=True)))

    async def _part(self, asked: _Asked, given: Mapping[str, str], caller: Caller) -> Part:
        params = {**asked.params, **{name: given[name] for name in asked.names if name in given}}
        try:
            return Part(data=await self._dispatcher.answer(Call(id=1, method=asked.method, params=params), caller))
        except HubError as refused:
            return Part(error=ErrorBody.of(self._dispatcher.as_hub_error(refused)))
