"""The thin REST surface. It builds the same commands a socket would send and hands them to the same dispatcher."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request

from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.body import number_in, read_struct
from hub.edge.envelope import Answer, KrinAPIService
from hub.edge.security import traceparent_of
from protocol.codec import UNREADABLE, converted
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName, IdempotencyKey, Key, TtlMs
from protocol.messages import Call, Explain, History, Presence, Publish


class PublishBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`publish` without type and id."""

    channel: ChannelName
    message: msgspec.Raw
    key: Key | None = None
    idempotency_key: IdempotencyKey | None = None
    ttl_ms: TtlMs | None = None
    timing: bool = False


class RestRoutes:
    def __init__(
        self,
        service: KrinAPIService,
        dispatcher: Dispatcher,
        *,
        max_body_bytes: int,
    ) -> None:
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("POST /v1/publish", self._publish),
            service.route("GET /v1/channels", self._channels),
            service.route("GET /v1/history/{channel:path}", self._history),
            service.route("GET /v1/presence/{channel:path}", self._presence),
            service.route("GET /v1/explain", self._explain),
        ]

    async def _publish(self, request: Request, caller: Caller) -> Any:
        body = await read_struct(request, self._max_body_bytes, PublishBody)
        command = Publish(
            id=1,
            channel=body.channel,
            message=_traced(body.message, request),
            key=body.key,
            idempotency_key=_idempotency_key(body.idempotency_key, request),
            ttl_ms=body.ttl_ms,
            timing=body.timing,
        )
        return await self._dispatcher.answer(command, caller)

    async def _channels(self, request: Request, caller: Caller) -> Any:
        return await self._dispatcher.answer(Call(id=1, method="channels.list"), caller)

    async def _history(self, request: Request, caller: Caller) -> Any:
        """`since` is `epoch:offset`, or an offset in any epoch; `meta.paging.next` is that of the next page."""
        query = request.query_params
        since = query.get("since", "")
        epoch, _, offset = since.rpartition(":")
        fields = {
            "type": "history",
            "id": 1,
            "channel": request.path_params["channel"],
            "limit": _integer(query.get("limit", "100"), "$.limit"),
            "reverse": _boolean(query.get("reverse", "false"), "$.reverse"),
        }
        if since:
            fields["since"] = {"epoch": epoch, "offset": _integer(offset, "$.since")}
        command: History = converted(fields, History)
        result = await self._dispatcher.answer(command, caller)
        last = JSON_DECODE(result.messages[-1])["offset"] if result.messages and result.more else None
        following = None if last is None else f"{result.epoch}:{last}"
        data = {"channel": result.channel, "epoch": result.epoch, "offset": result.offset, "messages": result.messages}
        return Answer(data, {"paging": {"more": result.more, "next": following}})

    async def _presence(self, request: Request, caller: Caller) -> Any:
        command: Presence = converted(
            {"type": "presence", "id": 1, "channel": request.path_params["channel"]}, Presence
        )
        return await self._dispatcher.answer(command, caller)

    async def _explain(self, request: Request, caller: Caller) -> Any:
        query = request.query_params
        fields = {
            "type": "explain",
            "id": 1,
            "channel": query.get("channel", ""),
            "offset": _integer(query.get("offset", ""), "$.offset"),
            "client": query.get("client") or None,
        }
        command: Explain = converted(fields, Explain)
        return await self._dispatcher.answer(command, caller)


JSON_DECODE = msgspec.json.Decoder().decode
FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
NULL = msgspec.Raw(b"null")


def _traced(message: msgspec.Raw, request: Request) -> msgspec.Raw:
    """The message in the trace of its request, where it has none of its own."""
    trace = getattr(request.state, "trace", None) or traceparent_of(request)
    if trace is None:
        return message
    try:
        fields = FIELDS(message)
    except UNREADABLE:  # refused where it is read, as without a trace
        return message
    if fields.get("trace", NULL) != NULL:
        return message
    return msgspec.Raw(msgspec.json.encode({**fields, "trace": trace}))


def _idempotency_key(in_body: str | None, request: Request) -> str | None:
    """Of the body or of the header. Two that differ are refused: whoever meant the other would not be protected."""
    given = {in_body, *request.headers.getlist("idempotency-key")} - {None}
    if len(given) > 1:
        message = "the keys of the header Idempotency-Key and of the body differ"
        raise HubError(ErrorCode.SCHEMA_INVALID, message, path="$.idempotency_key")
    key: str | None = converted(next(iter(given), None), IdempotencyKey | None, "$.idempotency_key")
    return key


def _integer(text: str, path: str) -> int:
    if (number := number_in(text)) is None:
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected a whole number", path=path)
    return number


def _boolean(text: str, path: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected true or false", path=path)
    return text.lower() in ("true", "1")
