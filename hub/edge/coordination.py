"""`/v1/projects`, `/v1/agents` and `/v1/approvals`: methods of teams over HTTP. What a method answers is `data`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import KrinAPIService
from protocol.approvals import Decision
from protocol.coordination import ProjectConfig, TaskSpec
from protocol.fields import Text
from protocol.messages import Call


class TasksBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    tasks: Annotated[list[TaskSpec], Meta(min_length=1, max_length=1000)]


class EndBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    reason: Text = ""


class ResolveBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    decision: Decision
    payload: Any = None


class CoordinationRoutes:
    def __init__(self, service: KrinAPIService, dispatcher: Dispatcher, *, max_body_bytes: int) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("GET /v1/projects", self._projects),
            service.route("POST /v1/projects", self._create),
            service.route("GET /v1/projects/{project_id}", self._project),
            service.route("POST /v1/projects/{project_id}/close", self._close),
            service.route("POST /v1/projects/{project_id}/cancel", self._cancel),
            service.route("GET /v1/projects/{project_id}/tasks", self._tasks),
            service.route("POST /v1/projects/{project_id}/tasks", self._add),
            service.route("GET /v1/projects/{project_id}/tasks/{task_id}", self._task),
            service.route("GET /v1/projects/{project_id}/plan", self._current),
            service.route("POST /v1/projects/{project_id}/plan", self._plan),
            service.route("GET /v1/agents", self._agents),
            service.route("GET /v1/approvals", self._approvals),
            service.route("POST /v1/approvals/{approval_id}", self._resolve),
        ]

    async def _projects(self, request: Request, caller: Caller) -> Any:
        return await self._call("projects.list", query_of(request, "limit"), caller)

    async def _create(self, request: Request, caller: Caller) -> Any:
        return await self._call("projects.create", {"project": await self._body(request, ProjectConfig)}, caller)

    async def _project(self, request: Request, caller: Caller) -> Any:
        return await self._call("projects.get", request.path_params, caller)

    async def _close(self, request: Request, caller: Caller) -> Any:
        return await self._end("projects.close", request, caller)

    async def _cancel(self, request: Request, caller: Caller) -> Any:
        return await self._end("projects.cancel", request, caller)

    async def _end(self, method: str, request: Request, caller: Caller) -> Any:
        said = msgspec.to_builtins(await read_struct(request, self._max_body_bytes, EndBody, optional=True))
        return await self._call(method, {**said, **request.path_params}, caller)

    async def _tasks(self, request: Request, caller: Caller) -> Any:
        return await self._call("tasks.list", {**query_of(request, "limit"), **request.path_params}, caller)

    async def _add(self, request: Request, caller: Caller) -> Any:
        return await self._call("tasks.create", {**request.path_params, **await self._body(request, TasksBody)}, caller)

    async def _task(self, request: Request, caller: Caller) -> Any:
        return await self._call("tasks.get", request.path_params, caller)

    async def _current(self, request: Request, caller: Caller) -> Any:
        return await self._call("team.current", request.path_params, caller)

    async def _plan(self, request: Request, caller: Caller) -> Any:
        return await self._call("team.plan", request.path_params, caller)

    async def _agents(self, request: Request, caller: Caller) -> Any:
        return await self._call("agents.list", {**request.query_params}, caller)

    async def _approvals(self, request: Request, caller: Caller) -> Any:
        return await self._call("approvals.list", {**request.query_params}, caller)

    async def _resolve(self, request: Request, caller: Caller) -> Any:
        answer = await self._body(request, ResolveBody)
        return await self._call("approvals.resolve", {**answer, **request.path_params}, caller)

    async def _body(self, request: Request, kind: type[Any]) -> Any:
        return msgspec.to_builtins(await read_struct(request, self._max_body_bytes, kind))

    async def _call(self, method: str, params: dict[str, Any], caller: Caller) -> Any:
        return await self._dispatcher.answer(Call(id=1, method=method, params=params), caller)
