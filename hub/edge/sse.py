"""Channels without a WebSocket: `GET /sse` tells of them in server-sent events, `GET /v1/poll` in one answer at a time.

Both are streams: a connection like any other. What a publication is, `data` of an event has it as a socket would; the
id of an event says where its reader stands in every channel of the stream, so that `Last-Event-ID` is all it takes to
go on without a gap.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hub.caller import Caller
from hub.edge.body import number_in
from hub.edge.credentials import token_in_url
from hub.edge.envelope import KrinAPIService
from hub.edge.streams import COMMENT, Stream, Streams, event
from protocol.codec import converted
from protocol.errors import ErrorCode, HubError
from protocol.fields import ChannelName
from protocol.messages import SubscribeOptions, SubscribeResult
from protocol.positions import Position

MAX_CHANNELS = 64  # of a stream: their positions must fit into the header of a request
MAX_WAIT_MS = 30_000  # of a poll; proxies give up on answers that take a minute
WAIT_MS = 25_000

Positions = dict[str, Position | None]
"""Where a reader stands, by channel. None: nowhere, as in a channel that is about the newest value only."""


class SseRoutes:
    def __init__(self, service: KrinAPIService, streams: Streams) -> None:
        self._streams = streams
        self.routes = [
            service.route("GET /sse", self._listen),
            service.route("GET /v1/poll/{channel:path}", self._poll, waits=True),
        ]

    async def _listen(self, request: Request, caller: Caller) -> Response:
        _require_no_token_in_url(request)
        query = request.query_params
        channels = sorted({name for name in query.get("channels", "").split(",") if name})
        if not 1 <= len(channels) <= MAX_CHANNELS:
            raise HubError(ErrorCode.SCHEMA_INVALID, f"expected 1 to {MAX_CHANNELS} channels", path="$.channels")
        converted(channels, list[ChannelName], "$.channels")
        seen = read_id(request.headers.get("last-event-id", ""), channels)
        rewind = query.get("rewind") or None
        options = {name: _options(recover=seen[name], rewind=rewind) for name in channels}
        stream = await self._streams.open(caller, options)
        return self._streams.answer(stream, self._events(stream, seen))

    async def _events(self, stream: Stream, at: Positions) -> AsyncGenerator[bytes, None]:
        yield b"".join(each for result in stream.joined.values() for each in joined(result, at))
        async for message in stream.messages():
            if message is None:
                yield COMMENT
            elif "offset" in message:
                yield event(message, id=advanced(at, message))
            else:
                yield told(message)

    async def _poll(self, request: Request, caller: Caller) -> Any:
        """What `subscribe` answers; if that is nothing new after `since`, what comes within `wait_ms`."""
        _require_no_token_in_url(request)
        channel, query = converted(request.path_params["channel"], ChannelName, "$.channel"), request.query_params
        wait_ms = _within(query.get("wait_ms") or str(WAIT_MS), MAX_WAIT_MS, path="$.wait_ms")
        since = position(query["since"], path="$.since") if query.get("since") else None
        options = _options(recover=since, rewind=query.get("rewind") or None)
        stream = await self._streams.open(caller, {channel: options})
        try:
            result: SubscribeResult = stream.joined[channel]
            if result.messages or since is None or not result.recovered:
                return result
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    return await self._next(stream, result)
            except TimeoutError:
                return result
        finally:
            stream.end()

    async def _next(self, stream: Stream, result: SubscribeResult) -> SubscribeResult:
        """Raises HubError(permission_denied, not_available) if the stream ends instead."""
        async for message in stream.messages():
            if message is not None and "offset" in message:
                return msgspec.structs.replace(
                    result,
                    epoch=message.get("epoch", result.epoch),
                    offset=message["offset"],
                    messages=[msgspec.Raw(msgspec.json.encode(message))],
                )
            if message is not None and message["type"] == "unsubscribed":
                raise HubError(ErrorCode(message["code"]), message["reason"], path="$.channel")
        raise HubError(ErrorCode.NOT_AVAILABLE, "the stream has ended", retry_after_ms=1000)


def _require_no_token_in_url(request: Request) -> None:
    """As at the WebSocket. Raises HubError(bad_request)."""
    if token_in_url(request.scope):
        raise HubError(ErrorCode.BAD_REQUEST, "token_in_url: send the token as Authorization")


def joined(result: SubscribeResult, at: Positions) -> Iterator[bytes]:
    """A subscription, and what it begins with. Whoever has had a part of that goes on in the middle, if it may.

    A snapshot, or what `rewind` asked for, counts as had only when all of it was.
    """
    messages = [msgspec.json.decode(each) for each in result.messages]
    about = msgspec.to_builtins(msgspec.structs.replace(result, messages=[]))
    del about["messages"]
    end = None if result.promise == "latest" else Position(result.epoch, result.offset)
    if not messages:
        at[result.channel] = end
    yield event(about, id=None if messages else written(at), name="subscribed")
    for left, message in zip(range(len(messages) - 1, -1, -1), messages, strict=True):
        if left == 0:
            at[result.channel] = end
        elif result.recovered:
            at[result.channel] = Position(result.epoch, message["offset"])
        yield event(message, id=written(at) if left == 0 or result.recovered else None)


def advanced(at: Positions, message: Mapping[str, Any]) -> str:
    """The id of a publication, after which `at` stands behind it."""
    before = at[message["channel"]]
    if before is not None:
        at[message["channel"]] = Position(message.get("epoch", before.epoch), message["offset"])
    return written(at)


def told(message: Mapping[str, Any]) -> bytes:
    """Whatever else the hub says, as an event of that name; when to come back is the reader's own `retry`."""
    retry_ms = message.get("retry_after_ms")
    return (b"" if retry_ms is None else b"retry: %d\n" % retry_ms) + event(message, name=message["type"])


def written(at: Positions) -> str:
    """Positions as an id: which channels these are, and `epoch:offset` of each in the order of their names."""
    places = ("" if each is None else f"{each.epoch}:{each.offset}" for _, each in sorted(at.items()))
    return ",".join([_mark(sorted(at)), *places])


def read_id(id: str, channels: Sequence[str]) -> Positions:
    """What `written` wrote for these channels, which are in order. Raises HubError(schema_invalid)."""
    if not id:
        return dict.fromkeys(channels)
    of, *places = id.split(",")
    if of != _mark(channels) or len(places) != len(channels):
        raise HubError(ErrorCode.SCHEMA_INVALID, "this is no id of these channels' events", path="last-event-id")
    return {
        name: position(place, path="last-event-id") if place else None
        for name, place in zip(channels, places, strict=True)
    }


def position(text: str, *, path: str) -> Position:
    """`epoch:offset`. Raises HubError(schema_invalid)."""
    epoch, _, offset = text.rpartition(":")
    if (number := number_in(offset)) is None:
        raise HubError(ErrorCode.SCHEMA_INVALID, "expected epoch:offset", path=path)
    read: Position = converted({"epoch": epoch, "offset": number}, Position)
    return read


def _mark(channels: Sequence[str]) -> str:
    return f"{zlib.crc32(','.join(channels).encode()):08x}"


def _options(*, recover: Position | None, rewind: str | None) -> SubscribeOptions:
    fields: dict[str, Any] = {"recover": recover}
    if rewind is not None:
        count = number_in(rewind)
        fields["rewind"] = rewind if count is None else count
    read: SubscribeOptions = converted(msgspec.to_builtins(fields), SubscribeOptions)
    return read


def _within(text: str, most: int, *, path: str) -> int:
    number = number_in(text)
    if number is None or number > most:
        raise HubError(ErrorCode.SCHEMA_INVALID, f"expected a whole number up to {most}", path=path)
    return number
