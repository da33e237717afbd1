"""A client of the hub: one connection at a time, kept alive, with everything the application asked for on it.

The reader is the task that also dials and comes back after a loss. It hands messages to feeds and replies to callers,
and stops reading when a feed is full: then TCP tells the hub. Commands of one loop turn leave as one frame.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import random
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from hub.client import backoff
from hub.client.subscription import Feed, OnLost, OnPresence, Subscription
from hub.client.wire import FORMATS, Connected, History, Incoming, Joined, hub_error, message_of
from protocol.channels import split_channel
from protocol.close_codes import CloseCode, should_reconnect
from protocol.errors import ErrorCode, HubError
from protocol.messages import (
    Call,
    Command,
    Connect,
    ErrorBody,
    Filter,
    Kind,
    Limits,
    Member,
    Notice,
    Pong,
    Presence,
    PresenceDiff,
    Publish,
    Published,
    Refresh,
    Search,
    Subscribe,
    Unsubscribe,
)
from protocol.messages import History as HistoryCommand
from protocol.positions import Position

logger = logging.getLogger("krin.client")

State = Literal["connecting", "open", "reconnecting", "closed"]
Token = str | Callable[[], str | Awaitable[str]]

BUFFER_MESSAGES = 10_000
REPLY_SLACK = 4  # while a reply is awaited, a buffer may grow to this many times its size: the reply lies behind it
STABLE_S = 5.0  # a connection that lived so long was a good one: the next loss starts again with short delays
CLOSE_TIMEOUT_S = 2.0
WATCH_S = 1.0
DIAL_TIMEOUT_S = 10.0
PING_INTERVAL_S = 25.0  # until the hub has named its own
MAX_MESSAGE_BYTES = 65_536  # likewise


class Disconnected(ConnectionError):
    """The connection has ended for good. `code` is the WebSocket close code, or the HTTP status of a refused handshake.

    1000 means that the application itself closed the client.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = reason


class _ComeBack(Exception):
    """`connect` was refused for now."""

    def __init__(self, error: HubError) -> None:
        super().__init__(str(error))
        self.retry_after_ms = error.retry_after_ms


class _Call:
    """A command that someone awaits the reply of. `repeat`: harmless to send again when the connection broke."""

    __slots__ = ("payload", "repeat", "reply", "sent")

    def __init__(self, payload: bytes, reply: asyncio.Future[msgspec.Raw], *, repeat: bool) -> None:
        self.payload = payload
        self.reply = reply
        self.repeat = repeat
        self.sent = False


class Client:
    """See the package for how it is used.

    url: `http(s)://host:port` or `ws(s)://host:port`, with or without `/ws`. token: a string, or a function (plain or
    async) that returns one; it is asked anew for each connection and before a token expires. name, kind: how others see
    this client. timeout_s bounds the first connection and every command. backoff_s: ceiling of the first delay before
    coming back, and of any. on_state, on_notice are called on the loop and must not block.

    Entering waits until the hub has welcomed the client. It raises Disconnected when the hub refuses for good, and
    TimeoutError when it could not be reached in time. After that, losing the connection is the client's business.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token,
        name: str | None = None,
        kind: Kind | None = None,
        codec: Literal["json", "msgpack"] = "json",
        timeout_s: float = 30.0,
        backoff_s: tuple[float, float] = (backoff.FIRST_S, backoff.MOST_S),
        silence_s: float = 10.0,
        ssl: ssl.SSLContext | None = None,
        on_state: Callable[[State], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`silence_s`: how long after a ping is overdue the connection counts as dead."""
        self.url = websocket_url(url)
        self._token = token
        self._name = name
        self._kind = kind
        self._format = FORMATS[codec]
        self._timeout_s = timeout_s
        self._backoff_s = backoff_s
        self._silence_s = silence_s
        self._ssl = ssl
        self._on_state = on_state
        self._on_notice = on_notice
        self._rng = rng or random.Random()

        self._state: State = "connecting"
        self._connected: Connected | None = None
        self._ids = itertools.count(1)
        self._feeds: dict[str, Feed] = {}
        self._replies: dict[int, _Call | Feed] = {}
        self._crowd: set[Feed] = set()
        self._room = asyncio.Event()
        self._outgoing: list[bytes] = []
        self._wake = asyncio.Event()

        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._entered = asyncio.Event()  # welcomed for the first time, or ended
        self._final: Disconnected | None = None
        self._trouble: BaseException | None = None
        # Of the present connection:
        self._open = False
        self._hello = 0
        self._greeted: dict[str, Feed] = {}
        self._goodbye: Incoming | None = None
        self._opened_at: float | None = None
        self._heard_at = 0.0
        self._reading_paused = False

    # --- what the application sees ---

    @property
    def state(self) -> State:
        return self._state

    @property
    def user(self) -> str | None:
        """Who the hub says we are."""
        return self._connected.user if self._connected else None

    @property
    def session(self) -> str | None:
        return self._connected.session if self._connected else None

    @property
    def limits(self) -> Limits | None:
        """What this client must stay within, as the hub announced it."""
        return self._connected.limits if self._connected else None

    def subscribe(
        self,
        channel: str,
        *,
        recover: Position | None = None,
        rewind: int | str | None = None,
        max_rate: float | None = None,
        filter: Filter | Mapping[str, list[str]] | None = None,
        presence: bool = False,
        buffer: int = BUFFER_MESSAGES,
        on_lost: OnLost | None = None,
        on_presence: OnPresence | None = None,
    ) -> Subscription:
        """The messages of a channel from now on; see Subscription for when it begins and ends.

        recover: continue after this position, as `message.position` gave it. rewind: begin with that many messages, or
        with what is as old as "30s". max_rate: messages per second and key. filter: keys and types to let pass.
        buffer: messages to hold for an application that is busy; when it is full, nothing more is read from the
        connection until there is room, for any subscription: read all of them, or close those you do not.

        Raises HubError(bad_request, schema_invalid) for what the hub would not accept.
        """
        split_channel(channel)
        command = Subscribe(
            id=1,
            channel=channel,
            recover=recover,
            rewind=rewind,
            max_rate=max_rate,
            filter=msgspec.convert(filter, Filter) if isinstance(filter, Mapping) else filter,
            presence=presence,
        )
        self._encode(command)
        feed = Feed(
            channel,
            command.options(),
            capacity=max(1, buffer),
            on_lost=on_lost,
            on_presence=on_presence,
            crowd=self._crowd,
            on_room=self._room.set,
        )
        return Subscription(self, feed)

    async def publish(
        self,
        channel: str,
        type: str,
        data: Any,
        *,
        key: str | None = None,
        idempotency_key: str | None = None,
        ttl_ms: int | None = None,
        coordination: dict[str, Any] | None = None,
        trace: str | None = None,
        retry: bool = True,
    ) -> Published:
        """Publish, and wait until the hub has placed the message: in a durable channel, until it is committed.

        `data` is anything JSON-like, or a struct of protocol.vocabulary. With `retry`, temporary errors and lost
        connections are met by sending it again under one idempotency key: it is published exactly once, or, when an
        error is raised after `timeout_s`, perhaps not. Several at once: `asyncio.gather(*(krin.publish(...) ...))`.
        """
        if retry and idempotency_key is None:
            idempotency_key = secrets.token_urlsafe(16)
        message: dict[str, Any] = {"type": type, "data": data}
        if coordination is not None:
            message["coordination"] = coordination
        if trace is not None:
            message["trace"] = trace
        raw = msgspec.Raw(self._format.codec.encode(message))

        def command(number: int) -> Publish:
            return Publish(
                id=number, channel=channel, message=raw, key=key, idempotency_key=idempotency_key, ttl_ms=ttl_ms
            )

        result: Published = self._format.published(await self._ask(command, repeat=retry, insist=retry))
        return result

    async def history(
        self, channel: str, since: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> History:
        """Messages after `since`, oldest first; reversed: before it, newest first."""
        result = self._format.history(
            await self._ask(
                lambda number: HistoryCommand(id=number, channel=channel, since=since, limit=limit, reverse=reverse)
            )
        )
        messages = [message_of(each, result.epoch) for each in result.messages]
        return History(channel, result.epoch, result.offset, messages, result.more)

    async def presence(self, channel: str) -> list[Member]:
        """Who is in a channel now."""
        members: list[Member] = self._format.members(
            await self._ask(lambda number: Presence(id=number, channel=channel))
        ).members
        return members

    async def search(
        self,
        query: str,
        *,
        channel: str | None = None,
        mode: Literal["semantic", "text", "hybrid"] = "hybrid",
        limit: int = 10,
    ) -> Any:
        return self._format.any(
            await self._ask(lambda number: Search(id=number, query=query, channel=channel, mode=mode, limit=limit))
        )

    async def call(self, method: str, /, **params: Any) -> Any:
        """An operation of one of the hub's domains, as `orders.submit`.

        Sent once: when the connection breaks before the reply, HubError(timeout) says that the outcome is unknown.
        """
        return self._format.any(
            await self._ask(lambda number: Call(id=number, method=method, params=params), repeat=False)
        )

    async def refresh(self, token: str) -> int | None:
        """Go on with a new token of the same user. Returns when it expires, in milliseconds since 1970."""
        result = self._format.refreshed(await self._ask(lambda number: Refresh(id=number, token=token), repeat=False))
        if isinstance(self._token, str):
            self._token = token
        expires_at: int | None = result.expires_at
        return expires_at

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a Client can be entered once")
        self._group = await asyncio.TaskGroup().__aenter__()
        self._tell_state()
        self._runner = self._group.create_task(self._run(), name="krin client")
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._entered.wait()
            if self._final is not None:
                raise Disconnected(self._final.code, self._final.reason) from self._final.__cause__
        except TimeoutError:
            await self._close(None)
            raise TimeoutError(f"no connection to {self.url} in {self._timeout_s:g} s: {self._trouble}") from None
        except BaseException as failure:
            await self._close(failure)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(failure)

    # --- commands ---

    async def _ask(
        self, command: Callable[[int], Command], *, repeat: bool = True, insist: bool = False
    ) -> msgspec.Raw:
        """Send a command and wait for its result. `insist`: temporary errors are met by sending it again."""
        refused: HubError | None = None
        attempt = 0
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        return await self._exchange(command(next(self._ids)), repeat=repeat)
                    except HubError as error:
                        if not (insist and error.code.temporary):
                            raise
                        refused = error
                    await asyncio.sleep(self._delay_s(attempt, refused.retry_after_ms))
                    attempt += 1
                    refused = None
        except TimeoutError:
            raise refused or HubError(ErrorCode.TIMEOUT, f"no reply in {self._timeout_s:g} s") from None

    async def _exchange(self, command: Command, *, repeat: bool) -> msgspec.Raw:
        self._check_usable()
        call = _Call(self._encode(command), asyncio.get_running_loop().create_future(), repeat=repeat)
        self._replies[command.id] = call
        if self._open:
            self._send_call(call)
        self._room.set()  # the reader may have to go on for the reply
        try:
            return await call.reply
        finally:
            self._replies.pop(command.id, None)

    def _encode(self, command: Command) -> bytes:
        """Raises HubError for what the hub would count as malformed: after ten of those it hangs up for good."""
        payload = self._format.codec.encode(command)
        checked = self._format.codec.decode(payload)[0]
        if isinstance(checked, tuple):
            raise checked[1]
        return payload

    def _send_call(self, call: _Call) -> None:
        if len(call.payload) > self._max_bytes:
            limit = HubError(ErrorCode.PAYLOAD_TOO_LARGE, f"a message has at most {self._max_bytes} bytes")
            call.reply.set_exception(limit)
            return
        call.sent = True
        self._send(call.payload)

    def _send(self, payload: bytes) -> None:
        self._outgoing.append(payload)
        self._wake.set()

    @property
    def _max_bytes(self) -> int:
        return self._connected.limits.max_message_bytes if self._connected else MAX_MESSAGE_BYTES

    def _check_usable(self) -> None:
        if self._final is not None:
            raise Disconnected(self._final.code, self._final.reason)
        if self._runner is None:
            raise RuntimeError("a Client is used inside `async with`")

    # --- subscriptions: subscription.Owner ---

    def start(self, feed: Feed) -> None:
        self._check_usable()
        if feed.channel in self._feeds:
            raise HubError(ErrorCode.ALREADY_SUBSCRIBED, "this client is subscribed to the channel", path="$.channel")
        feed.started_at = asyncio.get_running_loop().time()
        self._feeds[feed.channel] = feed
        if self._open:
            self._subscribe(feed)
            self._room.set()

    def stop(self, feed: Feed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            if self._open:
                self._unsubscribe(feed.channel)

    def _subscribe(self, feed: Feed) -> None:
        options = feed.options
        number = next(self._ids)
        self._replies[number] = feed
        feed.asking = True
        self._send(
            self._format.codec.encode(
                Subscribe(
                    id=number,
                    channel=feed.channel,
                    recover=options.recover,
                    rewind=options.rewind,
                    max_rate=options.max_rate,
                    filter=options.filter,
                    presence=options.presence,
                )
            )
        )

    def _unsubscribe(self, channel: str) -> None:
        self._send(self._format.codec.encode(Unsubscribe(id=next(self._ids), channel=channel)))

    def _answered(self, feed: Feed, result: Joined) -> None:
        feed.asking = False
        if self._feeds.get(feed.channel) is not feed:
            return
        if result.error is not None:
            self._refused(feed, hub_error(result.error))
        else:
            feed.join(result)

    def _refused(self, feed: Feed, error: HubError) -> None:
        """The hub would not subscribe us, or ended a subscription: try again later if that may help."""
        loop = asyncio.get_running_loop()
        feed.pause()
        if error.code.temporary and (feed.joined or loop.time() - feed.started_at < self._timeout_s):
            loop.call_later(self._delay_s(feed.refusals, error.retry_after_ms), self._subscribe_again, feed)
            feed.refusals += 1
            return
        del self._feeds[feed.channel]
        feed.end(error)

    def _subscribe_again(self, feed: Feed) -> None:
        if self._open and self._feeds.get(feed.channel) is feed and not feed.live and not feed.asking:
            self._subscribe(feed)

    def _mend(self, feed: Feed) -> None:
        """A message is missing: let the hub send everything after the last one we have."""
        feed.pause()
        self._unsubscribe(feed.channel)
        self._subscribe(feed)

    # --- the connection ---

    async def _run(self) -> None:
        """Stay connected until the application leaves or the hub says that it is final."""
        loop = asyncio.get_running_loop()
        attempt = 0
        try:
            while True:
                self._opened_at = None
                retry_after_ms = await self._connection()
                self._give_up_unrepeatable()
                if self._entered.is_set():
                    self._set_state("reconnecting")
                if self._opened_at is not None and loop.time() - self._opened_at >= STABLE_S:
                    attempt = 0
                delay_s = self._delay_s(attempt, retry_after_ms)
                attempt += 1
                logger.info("connecting again in %.2f s: %s", delay_s, self._trouble)
                await asyncio.sleep(delay_s)
        except Disconnected as final:
            self._finish(final)

    async def _connection(self) -> int | None:
        """One connection, from dialling to its end. Returns the delay the hub asked for. Raises Disconnected."""
        try:
            token = await self._fetch_token()
        except Exception as failure:
            logger.exception("the token function failed")
            self._trouble = failure
            return None
        try:
            async with connect(
                self.url,
                subprotocols=[Subprotocol(self._format.codec.subprotocol)],
                ssl=self._ssl if self.url.startswith("wss:") else None,
                compression=None,
                max_size=None,
                open_timeout=DIAL_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,  # the hub pings
            ) as socket:
                try:
                    await self._serve(socket, token)
                finally:
                    self._detach()
        except Disconnected:
            raise
        except InvalidStatus as refusal:
            self._trouble = refusal
            return self._turned_away(refusal.response)
        except ConnectionClosed as closed:
            self._trouble = closed
            return self._closed(closed)
        except _ComeBack as refusal:
            self._trouble = refusal
            return refusal.retry_after_ms
        except msgspec.MsgspecError as failure:
            logger.exception("the hub sent something else than %s", self._format.codec.subprotocol)
            self._trouble = failure
        except (OSError, WebSocketException) as failure:
            self._trouble = failure
        return None

    async def _serve(self, socket: ClientConnection, token: str) -> None:
        """Read until the connection ends, which is an exception."""
        assert self._group is not None
        if socket.subprotocol != self._format.codec.subprotocol and not (
            socket.subprotocol is None and self._format.text
        ):
            raise Disconnected(CloseCode.BAD_PROTOCOL, f"{self.url} does not speak {self._format.codec.subprotocol}")
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        self._goodbye = None
        await socket.send(self._greeting(token), text=self._format.text)
        writer = self._group.create_task(self._write(socket), name="krin client writer")
        watch = self._group.create_task(self._watch(socket), name="krin client watch")
        try:
            while True:
                payload = await socket.recv(decode=False)
                self._heard_at = loop.time()
                for incoming in self._format.frame(payload):
                    self._receive(incoming)
                if self._crowd:
                    await self._wait_for_room()
        finally:
            writer.cancel()
            watch.cancel()

    def _greeting(self, token: str) -> bytes:
        """`connect` with every subscription; those that do not fit into one message are sent after it."""
        self._hello = next(self._ids)
        feeds = list(self._feeds.values())
        while True:
            command = Connect(
                id=self._hello,
                token=token,
                name=self._name,
                kind=self._kind,
                session=self.session,
                subscriptions={feed.channel: feed.options for feed in feeds},
            )
            try:
                payload = self._encode(command)
            except HubError as error:
                raise Disconnected(CloseCode.BAD_PROTOCOL, str(error)) from error
            if len(payload) <= self._max_bytes or not feeds:
                self._greeted = {feed.channel: feed for feed in feeds}
                return payload
            feeds = feeds[: len(feeds) // 2]

    def _welcome(self, reply: Incoming) -> None:
        if reply.error is not None:
            raise self._unwelcome(hub_error(reply.error))
        connected: Connected = self._format.connected(reply.result)
        self._connected = connected
        self._open = True
        self._opened_at = self._heard_at
        for channel, feed in self._greeted.items():
            result = connected.subscriptions.get(channel)
            if self._feeds.get(channel) is feed and result is not None:
                self._answered(feed, result)
            elif self._feeds.get(channel) is not feed:
                self._unsubscribe(channel)  # given up while we were waiting
        for feed in list(self._feeds.values()):
            if self._greeted.get(feed.channel) is not feed:
                self._subscribe(feed)
        self._greeted = {}
        for waiting in list(self._replies.values()):
            if isinstance(waiting, _Call) and not waiting.sent and not waiting.reply.done():
                self._send_call(waiting)
        self._set_state("open")
        self._entered.set()

    def _unwelcome(self, error: HubError) -> Exception:
        match error.code:
            case ErrorCode.UNAUTHORIZED:
                return _final(CloseCode.UNAUTHORIZED, error)
            case ErrorCode.TOKEN_INVALID:
                return _final(CloseCode.TOKEN_INVALID, error)
            case ErrorCode.TOKEN_EXPIRED if isinstance(self._token, str):
                return _final(CloseCode.TOKEN_EXPIRED, error)
            case code if code.temporary or code is ErrorCode.TOKEN_EXPIRED:
                return _ComeBack(error)
            case _:
                return _final(CloseCode.BAD_PROTOCOL, error)

    def _closed(self, closed: ConnectionClosed) -> int | None:
        """How to go on after the hub, or the network, closed the connection. Raises Disconnected."""
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "connection lost")
        reconnect = should_reconnect(code)
        retry_after_ms = None
        if (goodbye := self._goodbye) is not None:
            code, reason, reconnect = int(goodbye.code), goodbye.reason, goodbye.reconnect
            retry_after_ms = goodbye.retry_after_ms
        if not reconnect or (code == CloseCode.TOKEN_EXPIRED and isinstance(self._token, str)):
            raise Disconnected(code, reason)
        return retry_after_ms

    def _turned_away(self, response: Response) -> int | None:
        """A handshake answered with an HTTP status: 4xx will not get better by itself, the rest may."""
        status = response.status_code
        if 400 <= status < 500 and status not in (408, 425, 429):
            text = (response.body or b"").decode(errors="replace").strip()
            raise Disconnected(status, text[:200] or response.reason_phrase)
        after = response.headers.get("Retry-After", "")
        return int(after) * 1000 if after.isascii() and after.isdigit() else None

    def _detach(self) -> None:
        """The connection is over: what was under way is kept for the next one."""
        self._open = False
        self._outgoing = []
        self._greeted = {}
        for feed in self._feeds.values():
            feed.pause()
        for number, waiting in list(self._replies.items()):
            if isinstance(waiting, Feed):
                del self._replies[number]
            elif waiting.repeat:
                waiting.sent = False

    def _give_up_unrepeatable(self) -> None:
        """There will be another connection, but not another reply to what may not be sent twice."""
        for waiting in self._replies.values():
            if isinstance(waiting, _Call) and waiting.sent and not waiting.reply.done():
                lost = HubError(ErrorCode.TIMEOUT, "the connection was lost before the reply; the outcome is unknown")
                waiting.reply.set_exception(lost)

    async def _write(self, socket: ClientConnection) -> None:
        """Send what has been collected, several commands to a frame."""
        codec = self._format.codec
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                parts, self._outgoing = self._outgoing, []
                for batch in _batches(parts, self._max_bytes):
                    await socket.send(codec.array(batch), text=self._format.text)
        except ConnectionClosed:
            return  # the reader sees it too

    async def _watch(self, socket: ClientConnection) -> None:
        """End a connection on which nothing is heard; and be heard while we are not reading."""
        loop = asyncio.get_running_loop()
        overdue = False
        while True:
            interval_s = self._connected.ping_interval_ms / 1000 if self._connected else PING_INTERVAL_S
            if self._reading_paused:
                self._send(self._format.codec.encode(Pong(time=0)))
                self._heard_at = loop.time()
            left_s = self._heard_at + interval_s + self._silence_s - loop.time()
            if left_s <= 0 and not overdue:
                overdue = True  # perhaps it was this process that stood still: let the reader look first
                await asyncio.sleep(0.1)
                continue
            overdue = False
            if left_s <= 0:
                logger.warning("nothing heard for %.1f s", interval_s + self._silence_s)
                socket.transport.abort()
                return
            await asyncio.sleep(min(left_s, interval_s / 2, WATCH_S))

    async def _wait_for_room(self) -> None:
        """Back-pressure. While a reply is awaited, reading goes on for a while: whoever awaits it may be the very
        reader that would make room.
        """
        while self._crowd and (
            not self._replies or any(len(feed) >= feed.capacity * REPLY_SLACK for feed in self._crowd)
        ):
            self._reading_paused = True
            self._room.clear()
            await self._room.wait()
        self._reading_paused = False

    # --- what comes in ---

    def _receive(self, incoming: Incoming) -> None:
        kind = incoming.type
        if kind.isupper():
            feed = self._feeds.get(incoming.channel)
            if feed is not None and feed.live and not feed.take(incoming):
                self._mend(feed)
            return
        match kind:
            case "reply":
                self._reply(incoming)
            case "ping":
                self._send(self._format.codec.encode(Pong(time=incoming.time)))
            case "presence_diff":
                if (feed := self._feeds.get(incoming.channel)) is not None and feed.live:
                    feed.presence(PresenceDiff(channel=incoming.channel, joins=incoming.joins, leaves=incoming.leaves))
            case "unsubscribed":
                if (feed := self._feeds.get(incoming.channel)) is not None and feed.live:
                    self._refused(feed, _unsubscribed(incoming))
            case "notice":
                self._notice(incoming)
            case "disconnect":
                self._goodbye = incoming
            case _:
                logger.debug("a message of type %s is not for this version", kind)

    def _reply(self, reply: Incoming) -> None:
        if reply.id == self._hello and not self._open:
            self._welcome(reply)
            return
        waiting = self._replies.pop(reply.id, None)
        if isinstance(waiting, Feed):
            self._answered(waiting, Joined(error=reply.error) if reply.error else self._format.joined(reply.result))
        elif waiting is not None and not waiting.reply.done():
            if reply.error is not None:
                waiting.reply.set_exception(hub_error(reply.error))
            else:
                waiting.reply.set_result(reply.result)

    def _notice(self, notice: Incoming) -> None:
        if notice.code == "token_expiring" and not isinstance(self._token, str):
            assert self._group is not None
            self._group.create_task(self._renew(), name="krin client refresh")
        if self._on_notice is not None:
            code: Any = notice.code  # a newer hub may have others
            try:
                self._on_notice(Notice(code=code, channel=notice.channel or None, detail=notice.detail))
            except Exception:
                logger.exception("on_notice failed")

    async def _renew(self) -> None:
        try:
            await self.refresh(await self._fetch_token())
        except Exception as failure:  # the next connection asks for a token again
            logger.warning("the token was not refreshed: %s", failure)

    async def _fetch_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        token = self._token()
        return await token if inspect.isawaitable(token) else token

    # --- the end ---

    async def _close(self, failure: BaseException | None) -> None:
        """Leave: the task group learns of a cancellation, but an application's error stays what it is."""
        assert self._group is not None
        if self._runner is not None:
            self._runner.cancel()
        self._finish(Disconnected(1000, "closed by the application"))
        cancelled = failure if isinstance(failure, asyncio.CancelledError) else None
        await self._group.__aexit__(type(cancelled) if cancelled else None, cancelled, None)

    def _finish(self, final: Disconnected) -> None:
        """Everyone who waits learns that it is over. Those who iterate after the application itself left just stop."""
        if self._final is not None:
            return
        self._final = final
        self._open = False
        for feed in self._feeds.values():
            feed.end(None if final.code == 1000 else Disconnected(final.code, final.reason))
        self._feeds.clear()
        for waiting in self._replies.values():
            if isinstance(waiting, _Call) and not waiting.reply.done():
                waiting.reply.set_exception(Disconnected(final.code, final.reason))
        self._set_state("closed")
        self._entered.set()

    def _set_state(self, state: State) -> None:
        if state != self._state and self._state != "closed":
            self._state = state
            self._tell_state()

    def _tell_state(self) -> None:
        if self._on_state is not None:
            try:
                self._on_state(self._state)
            except Exception:
                logger.exception("on_state failed")

    def _delay_s(self, attempt: int, retry_after_ms: int | None) -> float:
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        first_s, most_s = self._backoff_s
        return backoff.delay_s(attempt, self._rng, first_s=first_s, most_s=most_s)


def websocket_url(url: str) -> str:
    """`http://host:port` and the like as the address of the hub's WebSocket. Raises ValueError."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError("a hub's address is http(s)://host:port or ws(s)://host:port")
    return urlunsplit((scheme, parts.netloc, parts.path if parts.path.strip("/") else "/ws", parts.query, ""))


def _batches(parts: list[bytes], limit_bytes: int) -> Iterator[list[bytes]]:
    """Runs of messages that fit into a frame of this size, brackets and commas included."""
    batch: list[bytes] = []
    size = 5
    for part in parts:
        if batch and size + len(part) + 1 > limit_bytes:
            yield batch
            batch = []
            size = 5
        batch.append(part)
        size += len(part) + 1
    if batch:
        yield batch


def _final(code: CloseCode, error: HubError) -> Disconnected:
    disconnected = Disconnected(code, error.message)
    disconnected.__cause__ = error
    return disconnected


def _unsubscribed(push: Incoming) -> HubError:
    code = int(push.code)
    known = code in ErrorCode._value2member_map_
    return hub_error(
        ErrorBody(code=code, name="unsubscribed", message=push.reason, temporary=known and ErrorCode(code).temporary)
    )
