"""`/v1/users` for administrators, `/v1/sessions` and signing out for everybody."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request

from hub.auth.administration import Administration, NewUser, UserChanges
from hub.auth.sign_ins import SessionList, SignIns
from hub.caller import Caller
from hub.edge.accounts import Done
from hub.edge.body import query_of, read_struct
from hub.edge.envelope import Answer, KrinAPIService
from hub.permissions import Need, Permissions
from protocol.codec import converted


class UserPage(msgspec.Struct):
    """`after`: the name that the page before ended with."""

    after: Annotated[str, Meta(max_length=128)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class AdministrationRoutes:
    def __init__(
        self,
        service: KrinAPIService,
        administration: Administration,
        sign_ins: SignIns,
        *,
        permissions: Permissions,
        max_body_bytes: int,
    ) -> None:
        self._administration = administration
        self._sign_ins = sign_ins
        self._permissions = permissions
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("POST /v1/auth/logout", self._log_out),
            service.route("GET /v1/sessions", self._sessions),
            service.route("DELETE /v1/sessions", self._end_sessions),
            service.route("DELETE /v1/sessions/{id}", self._end_session),
            service.route("GET /v1/users", self._users),
            service.route("POST /v1/users", self._create),
            service.route("PATCH /v1/users/{name:path}", self._update),
        ]

    async def _log_out(self, request: Request, caller: Caller) -> Any:
        await self._sign_ins.log_out(caller)
        return Done()

    async def _sessions(self, request: Request, caller: Caller) -> Any:
        found: SessionList = await self._sign_ins.list(caller, self._whose(request, caller))
        return Answer(found.sessions, {"complete": found.complete})

    async def _end_sessions(self, request: Request, caller: Caller) -> Any:
        """Of the caller: all but the one that asks. Of somebody else: all."""
        name = self._whose(request, caller)
        spared = caller.sid or caller.jti if name == caller.user else ""
        await self._administration.end_all(caller, name, spared=spared)
        return Done()

    async def _end_session(self, request: Request, caller: Caller) -> Any:
        await self._sign_ins.end(caller, self._whose(request, caller), request.path_params["id"])
        return Done()

    async def _users(self, request: Request, caller: Caller) -> Any:
        page: UserPage = converted(query_of(request, "limit"), UserPage)
        found = await self._administration.users(caller, after=page.after, limit=page.limit)
        more = len(found) == page.limit
        return Answer(found, {"paging": {"more": more, "next": found[-1].name if more else None}})

    async def _create(self, request: Request, caller: Caller) -> Any:
        new: NewUser = await read_struct(request, self._max_body_bytes, NewUser)
        return await self._administration.create(caller, new)

    async def _update(self, request: Request, caller: Caller) -> Any:
        changes: UserChanges = await read_struct(request, self._max_body_bytes, UserChanges)
        return await self._administration.update(caller, request.path_params["name"], changes)

    def _whose(self, request: Request, caller: Caller) -> str:
        """The caller's own name, or with `?user=` somebody else's, for administrators."""
        name = request.query_params.get("user", caller.user)
        if name != caller.user:
            self._permissions.require(Need.ADMIN, caller, target="/v1/sessions?user")
        return name
