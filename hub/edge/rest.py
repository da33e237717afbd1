"""The thin REST surface. It builds the same commands a socket would send and hands them to the same dispatcher."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hub.auth.service import Authentication
from hub.caller import Caller
from hub.dispatch import Dispatcher
from hub.edge.envelope import HTTP_STATUS, Answer, KrinAPIService, OrjsonResponse
from protocol.codec import decode_error
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName, IdempotencyKey, Key, TtlMs
from protocol.messages import Call, History, Presence, Publish


class PublishBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`publish` without type and id."""

    channel: ChannelName
    message: msgspec.Raw
    key: Key | None = None
    idempotency_key: IdempotencyKey | None = None
    ttl_ms: TtlMs | None = None


class LoginBody(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    password: str


class RestRoutes:
    def __init__(
        self,
        service: KrinAPIService,
        authentication: Authentication,
        dispatcher: Dispatcher,
        *,
        max_body_bytes: int,
    ) -> None:
        self._authentication = authentication
        self._dispatcher = dispatcher
        self._max_body_bytes = max_body_bytes
        self.routes = [
            service.route("POST /v1/auth/login", self._login),
            service.route("POST /v1/publish", self._publish),
            service.route("GET /v1/channels", self._channels),
            service.route("GET /v1/history/{channel:path}", self._history),
            service.route("GET /v1/presence/{channel:path}", self._presence),
            Route("/oauth/token", self._token, methods=["POST"]),
        ]

    async def _login(self, request: Request, caller: Caller) -> Any:
        body = _decode(await self._body(request), LoginBody)
        return await self._authentication.login(body.name, body.password)

    async def _publish(self, request: Request, caller: Caller) -> Any:
        body = _decode(await self._body(request), PublishBody)
        key = body.idempotency_key or _validated(request.headers.get("idempotency-key"), IdempotencyKey | None)
        command = Publish(
            id=1,
            channel=body.channel,
            message=body.message,
            key=body.key,
            idempotency_key=key,
            ttl_ms=body.ttl_ms,
        )
        return await self._handle(command, caller)

    async def _channels(self, request: Request, caller: Caller) -> Any:
        return await self._handle(Call(id=1, method="channels.list"), caller)

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
        command: History = _validated(fields, History)
        result = await self._handle(command, caller)
        messages = [JSON_DECODE(message) for message in result.messages]
        following = f"{result.epoch}:{messages[-1]['offset']}" if messages and result.more else None
        data = {"channel": result.channel, "epoch": result.epoch, "offset": result.offset, "messages": result.messages}
        return Answer(data, {"paging": {"more": result.more, "next": following}})

    async def _presence(self, request: Request, caller: Caller) -> Any:
        return await self._handle(Presence(id=1, channel=request.path_params["channel"]), caller)

    async def _token(self, request: Request) -> Response:
        """RFC 6749: client_credentials and refresh_token, answered in OAuth's own form and not in the envelope."""
        try:
            fields = parse_qs((await self._body(request)).decode("latin-1"))
            if any(len(values) > 1 for values in fields.values()):
                return _oauth_error(400, "invalid_request", "a parameter was repeated")
            form = {name: values[0] for name, values in fields.items()}
            match form.get("grant_type"):
                case "client_credentials":
                    client_id, secret = _client(request, form)
                    pair = await self._authentication.client_credentials(client_id, secret)
                case "refresh_token":
                    pair = await self._authentication.refresh(form.get("refresh_token", ""))
                case None:
                    return _oauth_error(400, "invalid_request", "grant_type is missing")
                case _:
                    return _oauth_error(400, "unsupported_grant_type", "use client_credentials or refresh_token")
        except Exception as failure:
            error = self._dispatcher.as_hub_error(failure)
            if error.code is ErrorCode.UNAUTHORIZED:
                return _oauth_error(401, "invalid_client", error.message)
            if error.code is ErrorCode.TOKEN_INVALID:
                return _oauth_error(400, "invalid_grant", error.message)
            name = "temporarily_unavailable" if error.code.temporary else "invalid_request"
            return _oauth_error(HTTP_STATUS[error.code], name, error.message)
        return OrjsonResponse(msgspec.to_builtins(pair), headers={"cache-control": "no-store", "pragma": "no-cache"})

    async def _handle(self, command: Any, caller: Caller) -> Any:
        result = self._dispatcher.handle(command, caller)
        return await result if isinstance(result, Awaitable) else result

    async def _body(self, request: Request) -> bytes:
        """The whole body, refused as soon as it is too long: nothing unbounded is ever collected."""
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > self._max_body_bytes:
                    raise HubError(ErrorCode.PAYLOAD_TOO_LARGE, f"a body has at most {self._max_body_bytes} bytes")
                chunks.append(chunk)
        except ClientDisconnect:
            raise HubError(ErrorCode.BAD_REQUEST, "the body ended early") from None
        return b"".join(chunks)


JSON_DECODE = msgspec.json.Decoder().decode


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as failure:
        raise decode_error(failure) from None


def _validated(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as failure:
        raise decode_error(failure) from None


def _integer(text: str, path: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected a whole number", path=path)
    return int(text)


def _boolean(text: str, path: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected true or false", path=path)
    return text.lower() in ("true", "1")


def _client(request: Request, form: dict[str, str]) -> tuple[str, str]:
    """Client credentials from HTTP Basic or from the form (RFC 6749 section 2.3.1)."""
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise HubError(ErrorCode.UNAUTHORIZED, "malformed Authorization") from None
        return unquote(client_id), unquote(secret)
    return form.get("client_id", ""), form.get("client_secret", "")


def _oauth_error(status: int, error: str, description: str) -> Response:
    headers = {"cache-control": "no-store"} | ({"www-authenticate": "Basic"} if status == 401 else {})
    return OrjsonResponse({"error": error, "error_description": description}, status, headers)
