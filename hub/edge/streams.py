"""Server-sent events: a connection as any other, whose way out is the body of an HTTP answer.

So what holds for a socket holds for a stream: it counts among its user's and its address's connections, loses what its
caller may no longer read, ends with the token, keeps its order, is conflated and cut off when it does not read, and is
sent away by a drain. Doors translate what the connection is told into the events of their protocol.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hub.caller import Caller
from hub.clock import Clock
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.outbox import Outbox
from hub.connections.registry import Registry
from hub.connections.verdicts import Notes
from hub.dispatch import Dispatcher
from hub.edge.http import CUT
from hub.edge.sessions import Sessions
from hub.guard.events import Report
from hub.guard.limits import Limits
from protocol import frames
from protocol.codec import JSON
from protocol.errors import ErrorCode, HubError
from protocol.messages import Connect, Connected, ErrorBody, SubscribeOptions

HIGH_BYTES = 64 * 1024  # what may wait here, beside what the server's own buffer holds; the rest waits in the outbox
LAST_WORDS_S = 2.0  # from the end of a connection to the cut, for a reader that does not take the rest
COMMENT = b": still here\n\n"
HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would collect the events
}


class StreamSocket:
    """Payloads on their way to a reader. Implements hub.connections.outbox.Socket."""

    fd = -1

    def __init__(self) -> None:
        self._connection: Connection | None = None
        self._payloads: deque[bytes] = deque()
        self._bytes = 0
        self._blocked = False
        self._news = asyncio.Event()
        self.closed = asyncio.Event()

    def attach(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        for payload in frames.payloads(data):
            self._payloads.append(payload)
            self._bytes += len(payload)
        self._news.set()
        if self._bytes >= HIGH_BYTES and not self._blocked and self._connection is not None:
            self._blocked = True
            self._connection.blocked()

    def buffered(self) -> int:
        return self._bytes

    def pause_reading(self) -> None:
        pass  # nobody writes into a stream

    def resume_reading(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        self.closed.set()
        self._news.set()

    def abort(self) -> None:
        self.close(0, "")

    async def take(self) -> bytes | None:
        """The next payload; None after the last. What was taken before has been sent when this is called."""
        if self._blocked and not self._payloads and self._connection is not None:
            self._blocked = False
            self._connection.unblocked()
        while not self._payloads:
            if self.closed.is_set():
                return None
            self._news.clear()
            await self._news.wait()
        payload = self._payloads.popleft()
        self._bytes -= len(payload)
        return payload


class Stream:
    """An open one. `joined`: the result of each subscription; its messages come first."""

    def __init__(self, connection: Connection, socket: StreamSocket, joined: Mapping[str, Any]) -> None:
        self._connection = connection
        self._socket = socket
        self.joined = joined

    async def messages(self) -> AsyncIterator[dict[str, Any] | None]:
        """What the hub tells this connection, to the goodbye (`disconnect`). None: it asked whether somebody is there,
        and takes for an answer that the reader has taken the `COMMENT` before the next message is asked for."""
        while (payload := await self._socket.take()) is not None:
            whole = orjson.loads(payload)
            for message in whole if isinstance(whole, list) else [whole]:
                if message["type"] == "ping":
                    yield None
                    self._connection.receive(orjson.dumps({"type": "pong", "time": message["time"]}).decode())
                else:
                    yield message

    @property
    def ended(self) -> asyncio.Event:
        return self._socket.closed

    def end(self) -> None:
        self._connection.lost()


class Streams:
    """Opens them. `draining` and `full` are asked for each."""

    def __init__(
        self,
        sessions: Sessions,
        registry: Registry,
        dispatcher: Dispatcher,
        *,
        touch: Callable[[Outbox], None],
        on_end: Callable[[Connection], None],
        draining: Callable[[], bool],
        limits: ConnectionLimits,
        notes: Notes,
        user_limits: Limits,
        report: Report,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._registry = registry
        self._dispatcher = dispatcher
        self._touch = touch
        self._on_end = on_end
        self._draining = draining
        self._limits = limits
        self._notes = notes
        self._user_limits = user_limits
        self._report = report
        self._clock = clock

    async def open(self, caller: Caller, subscriptions: Mapping[str, SubscribeOptions]) -> Stream:
        """A stream that is in all of these channels.

        Raises HubError: what `connect` and `subscribe` raise, not_available while the node takes no connections.
        """
        socket = StreamSocket()
        connection = self.attach(socket, address=caller.address)
        try:
            connected = self._sessions.enter(
                connection,
                Connect(id=1, subscriptions=dict(subscriptions)),
                msgspec.structs.replace(caller, connection=connection),
            )
            if not isinstance(connected, Connected):
                connected = await connected
            for result in connected.subscriptions.values():
                if isinstance(result, dict):
                    raise refusal(result["error"])
        except BaseException:
            connection.lost()
            raise
        return Stream(connection, socket, connected.subscriptions)

    def attach(self, socket: StreamSocket, *, address: str, url: str = "") -> Connection:
        """The connection of such a socket, whose `connect` is still to come.

        Raises HubError: not_available while the node takes no connections, and limit_exceeded.
        """
        self.admit(address)
        contract: Any = socket  # has methods where that has callables that may change
        connection = Connection(
            contract,
            JSON,
            address=address,
            url=url,
            dispatcher=self._dispatcher,
            touch=self._touch,
            on_end=self._on_end,
            limits=self._limits,
            notes=self._notes,
            report=self._report,
            clock=self._clock,
        )
        socket.attach(connection)
        self._registry.add(connection)
        return connection

    def admit(self, address: str) -> None:
        """Raises HubError for a connection too many, as `attach` does."""
        if self._draining() or self._registry.full:
            raise HubError(ErrorCode.NOT_AVAILABLE, "not accepting connections", retry_after_ms=2000)
        self._user_limits.admit_address(address, self._registry.sockets_from(address))

    def answer(self, stream: Stream, events: AsyncGenerator[bytes, None]) -> Response:
        return EventStream(stream, events, clock=self._clock)


def refusal(error: ErrorBody) -> HubError:
    """The error that was made into this body."""
    return HubError(ErrorCode(error.code), error.message, path=error.path, retry_after_ms=error.retry_after_ms)


def event(data: Any, *, id: str | None = None, name: str | None = None) -> bytes:
    """One event of `text/event-stream`."""
    named = b"" if name is None else b"event: " + name.encode() + b"\n"
    named += b"" if id is None else b"id: " + id.encode() + b"\n"
    return named + b"data: " + msgspec.json.encode(data) + b"\n\n"


class EventStream(Response):
    """Sends events until there are no more, the reader is gone, or the connection has ended and it does not read."""

    def __init__(self, stream: Stream, events: AsyncGenerator[bytes, None], *, clock: Clock) -> None:
        self._stream = stream
        self._events = events
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("method") == "HEAD":
            self._stream.end()
            await Response(status_code=200, headers=HEADERS)(scope, receive, send)
            return
        work = [
            asyncio.create_task(self._send_all(send), name="event stream"),
            asyncio.create_task(_gone(receive), name="event stream: reader"),
            asyncio.create_task(self._overstayed(), name="event stream: end"),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            if work[0] in done:
                work[0].result()
            elif work[1] not in done and (cut := (scope.get("extensions") or {}).get(CUT)) is not None:
                cut["now"]()
                await work[1]  # the server notices
        finally:
            for each in work:
                each.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            self._stream.end()

    async def _send_all(self, send: Send) -> None:
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with aclosing(self._events) as events:
            async for part in events:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _overstayed(self) -> None:
        await self._stream.ended.wait()
        await self._clock.sleep(LAST_WORDS_S)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
