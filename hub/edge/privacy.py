"""REST about what is written down of people: the audit log for admins, one's own data and consents for everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import StreamingResponse

from hub.caller import Caller
from hub.clock import Clock
from hub.edge.body import read_struct
from hub.edge.envelope import GPC, Answer, KrinAPIService
from hub.guard.events import Report, SecurityEvent
from hub.guard.limits import Limits
from hub.permissions import Need, Permissions
from hub.privacy.service import PrivacyService
from protocol.audit import as_json
from protocol.codec import converted
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName, Count, Name
from storage.audit import AuditTable
from storage.consents import Consents, Purpose
from storage.errors import NotFound

MAX_PAGE = 1000


class EraseBody(msgspec.Struct, forbid_unknown_fields=True):
    """`person` must be named also where it is oneself: nobody erases by accident."""

    person: Name


class RestrictBody(msgspec.Struct, forbid_unknown_fields=True):
    person: Name


class CorrectBody(msgspec.Struct, forbid_unknown_fields=True):
    """`data` takes the place of what the message says; the rest of it stays."""

    person: Name
    channel: ChannelName
    offset: Count
    data: msgspec.Raw


class ConsentBody(msgspec.Struct, forbid_unknown_fields=True):
    granted: bool


class LogPage(msgspec.Struct):
    before: Count | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class PrivacyRoutes:
    def __init__(
        self,
        service: KrinAPIService,
        privacy: PrivacyService,
        consents: Consents,
        audit: AuditTable,
        *,
        permissions: Permissions,
        limits: Limits,
        signal: Report,
        max_body_bytes: int,
        clock: Clock,
    ) -> None:
        """`signal` hears whose data is read."""
        self._privacy = privacy
        self._consents = consents
        self._audit = audit
        self._permissions = permissions
        self._limits = limits
        self._signal = signal
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self.routes = [
            service.route("GET /v1/audit", self._log),
            service.route("GET /v1/privacy/export", self._export),
            service.route("POST /v1/privacy/erase", self._erase),
            service.route("POST /v1/privacy/restrict", self._restrict),
            service.route("POST /v1/privacy/release", self._release),
            service.route("POST /v1/privacy/correct", self._correct),
            service.route("GET /v1/privacy/consents", self._consents_of),
            service.route("PUT /v1/privacy/consents/{purpose}", self._put_consent),
        ]

    async def _log(self, request: Request, caller: Caller) -> Any:
        """The newest rows first, with names where they are still known; `meta.paging.next` is the next `before`."""
        _of_the_whole_hub(caller)
        page: LogPage = converted(dict(request.query_params), LogPage, "$", strict=False)
        rows = await self._audit.page_back(before=page.before, limit=page.limit)
        names = await self._audit.names([shown for row in rows for shown in (row.actor, row.target)])
        told = [
            as_json(row) | {"actor_name": names.get(row.actor), "target_name": names.get(row.target)} for row in rows
        ]
        more = len(rows) == page.limit and rows[-1].sequence > 1
        return Answer(told, {"paging": {"more": more, "next": rows[-1].sequence if more else None}})

    async def _export(self, request: Request, caller: Caller) -> Any:
        """The document itself, streamed, and no envelope: it may be long."""
        person = self._allowed(request.query_params.get("person", caller.user), caller, "GET /v1/privacy/export")
        self._limits.spend("export", caller.user, address=caller.address, user=caller.user)
        self._signal(SecurityEvent(name="data_export", user=caller.user, address=caller.address, target=person))
        pieces: AsyncIterator[bytes] = self._privacy.export(person, by=caller.user)
        first = await anext(pieces)  # what fails at once still gets an error in the envelope

        async def body() -> AsyncIterator[bytes]:
            yield first
            async for piece in pieces:
                yield piece

        headers = {"cache-control": "no-store", "content-disposition": 'attachment; filename="personal-data.json"'}
        return StreamingResponse(body(), media_type="application/json", headers=headers)

    async def _erase(self, request: Request, caller: Caller) -> Any:
        body: EraseBody = await read_struct(request, self._max_body_bytes, EraseBody, stored=True)
        return await self._privacy.erase(self._allowed(body.person, caller, "POST /v1/privacy/erase"), by=caller.user)

    async def _restrict(self, request: Request, caller: Caller) -> Any:
        body: RestrictBody = await read_struct(request, self._max_body_bytes, RestrictBody, stored=True)
        person = self._allowed(body.person, caller, "POST /v1/privacy/restrict")
        return await self._privacy.restrict(person, by=caller.user)

    async def _release(self, request: Request, caller: Caller) -> Any:
        body: RestrictBody = await read_struct(request, self._max_body_bytes, RestrictBody, stored=True)
        person = self._allowed(body.person, caller, "POST /v1/privacy/release")
        with _found():
            return {"released": await self._privacy.release(person, by=caller.user)}

    async def _correct(self, request: Request, caller: Caller) -> Any:
        body: CorrectBody = await read_struct(request, self._max_body_bytes, CorrectBody, stored=True)
        person = self._allowed(body.person, caller, "POST /v1/privacy/correct")
        with _found():
            corrected = await self._privacy.correct(person, body.channel, body.offset, body.data, by=caller.user)
        return {"request": corrected}

    async def _consents_of(self, request: Request, caller: Caller) -> Any:
        return await self._consents.of(caller.user)

    async def _put_consent(self, request: Request, caller: Caller) -> Any:
        purpose: Purpose = converted(request.path_params["purpose"], Purpose, "$.purpose", strict=False)
        body: ConsentBody = await read_struct(request, self._max_body_bytes, ConsentBody)
        if body.granted and purpose == "sale_or_sharing" and request.headers.get(GPC) == "1":
            raise HubError(ErrorCode.BAD_REQUEST, "Sec-GPC: 1 refuses what this grants", path="$.granted")
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        await self._consents.put(caller.user, purpose, body.granted, source="rest", now=now, by=caller.user)
        return await self._consents.of(caller.user)

    def _allowed(self, person: str, caller: Caller, target: str) -> str:
        """One's own data, or anybody's for an admin. Raises HubError(permission_denied, mfa_required).

        Not with a key, nor through an application: what was given for a small purpose would open everything.
        """
        if caller.principal == "machine" or caller.client_id:
            raise HubError(ErrorCode.PERMISSION_DENIED, "this is for people: sign in")
        if person != caller.user:
            self._permissions.require(Need.ADMIN, caller, target=target)
            _of_the_whole_hub(caller)
        return str(converted(person, Name, "$.person", strict=False))


@contextmanager
def _found() -> Iterator[None]:
    try:
        yield
    except NotFound:
        raise HubError(ErrorCode.NOT_FOUND, "there is nothing like that of this person") from None


def _of_the_whole_hub(caller: Caller) -> None:
    """A tenant's admin administers that tenant, and neither the log nor the people of the others."""
    if caller.tenant:
        raise HubError(ErrorCode.PERMISSION_DENIED, "this is for admins without a tenant")
