"""What outlives a connection: the subscriptions, and the commands that wait for a reply. Rule: no I/O here.

What is to be sent collects in `outgoing` and `wake` tells of it; what came in is handed to `receive`. Commands of one
loop turn are taken together, so they leave as one frame.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import msgspec

from hub.client.subscription import Feed
from hub.client.wire import Connected, Disconnected, Format, Incoming, Joined, hub_error
from protocol.errors import ErrorCode, HubError
from protocol.messages import (
    Command,
    Connect,
    ErrorBody,
    Kind,
    Pong,
    PresenceDiff,
    Refresh,
    Subscribe,
    Unsubscribe,
)

REPLY_SLACK = 4  # while a reply is awaited, a buffer may grow to this many times its size: the reply lies behind it
MAX_MESSAGE_BYTES = 65_536  # until the hub has named its own limit


class Unwelcome(Exception):
    """The hub answered `connect` with an error."""

    def __init__(self, error: HubError) -> None:
        super().__init__(str(error))
        self.error = error


class _Call:
    """A command that someone awaits the reply of. `repeat`: harmless to send again when the connection broke."""

    __slots__ = ("payload", "repeat", "reply", "sent")

    def __init__(self, payload: bytes, reply: asyncio.Future[msgspec.Raw], *, repeat: bool) -> None:
        self.payload = payload
        self.reply = reply
        self.repeat = repeat
        self.sent = False


class Session:
    """Implements subscription.Owner. `open`: the hub has welcomed us on the present connection."""

    def __init__(
        self,
        format: Format,
        *,
        name: str | None,
        kind: Kind | None,
        timeout_s: float,
        delay_s: Callable[[int, int | None], float],
        on_open: Callable[[], None],
        on_notice: Callable[[Incoming], None],
    ) -> None:
        """`delay_s(attempt, retry_after_ms)` is how long to wait before a refused command is sent again."""
        self.connected: Connected | None = None  # what the hub said last when it welcomed us
        self.open = False
        self.name_session = True  # on the next connection, as the same as before
        self.goodbye: Incoming | None = None
        self.outgoing: list[bytes] = []
        self.wake = asyncio.Event()
        self.crowd: set[Feed] = set()  # those whose buffer is full
        self.room = asyncio.Event()  # reading may go on, perhaps
        self.final: Disconnected | None = None
        self.started = False
        self._format = format
        self._name = name
        self._kind = kind
        self._timeout_s = timeout_s
        self._delay_s = delay_s
        self._on_open = on_open
        self._on_notice = on_notice
        self._ids = itertools.count(1)
        self._feeds: dict[str, Feed] = {}
        self._replies: dict[int, _Call | Feed] = {}
        self.hub_ahead_ms: float | None = None  # add to the loop's time for the hub's clock
        self._hello = 0
        self._hello_at = 0.0
        self._greeted: dict[str, Feed] = {}

    @property
    def max_bytes(self) -> int:
        return self.connected.limits.max_message_bytes if self.connected else MAX_MESSAGE_BYTES

    @property
    def must_wait(self) -> bool:
        """Whether to stop reading. While a reply is awaited, reading goes on for a while: whoever awaits it may be the
        very reader that would make room.
        """
        if not self._replies:
            return bool(self.crowd)
        return any(len(feed) >= feed.capacity * REPLY_SLACK for feed in self.crowd)

    # --- commands ---

    async def ask(self, command: Callable[[int], Command], *, repeat: bool = True, insist: bool = False) -> msgspec.Raw:
        """Send a command and wait for its result. `repeat`: also on the next connection, when this one breaks.
        `insist`: temporary errors are met by sending it again.
        """
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

    async def refresh(self, token: str, proof: str | None) -> int | None:
        raw = await self.ask(lambda number: Refresh(id=number, token=token, proof=proof), repeat=False)
        expires_at: int | None = self._format.refreshed(raw).expires_at
        return expires_at

    def encode(self, command: Command) -> bytes:
        """Raises HubError for what the hub would count as malformed: after ten of those it hangs up for good."""
        payload = self._format.codec.encode(command)
        checked = self._format.codec.decode(payload)[0]
        if isinstance(checked, tuple):
            raise checked[1]
        return payload

    async def _exchange(self, command: Command, *, repeat: bool) -> msgspec.Raw:
        self._check_usable()
        call = _Call(self.encode(command), asyncio.get_running_loop().create_future(), repeat=repeat)
        self._replies[command.id] = call
        if self.open:
            self._send_call(call)
        self.room.set()  # the reader may have to go on for the reply
        try:
            return await call.reply
        finally:
            self._replies.pop(command.id, None)

    def _send_call(self, call: _Call) -> None:
        if len(call.payload) > self.max_bytes:
            limit = HubError(ErrorCode.PAYLOAD_TOO_LARGE, f"a message has at most {self.max_bytes} bytes")
            call.reply.set_exception(limit)
            return
        call.sent = True
        self._send(call.payload)

    def _send(self, payload: bytes) -> None:
        self.outgoing.append(payload)
        self.wake.set()

    def _check_usable(self) -> None:
        if self.final is not None:
            raise self.final.again()
        if not self.started:
            raise RuntimeError("a Client is used inside `async with`")

    # --- subscriptions ---

    def start(self, feed: Feed) -> None:
        self._check_usable()
        if feed.channel in self._feeds:
            raise HubError(ErrorCode.ALREADY_SUBSCRIBED, "this client is subscribed to the channel", path="$.channel")
        feed.started_at = asyncio.get_running_loop().time()
        self._feeds[feed.channel] = feed
        if self.open:
            self._subscribe(feed)
            self.room.set()

    def stop(self, feed: Feed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            if self.open:
                self._unsubscribe(feed.channel)

    def _subscribe(self, feed: Feed) -> None:
        options = feed.options
        number = next(self._ids)
        self._replies[number] = feed
        feed.asking = True
        command = Subscribe(
            id=number,
            channel=feed.channel,
            recover=options.recover,
            rewind=options.rewind,
            max_rate=options.max_rate,
            max_age_ms=options.max_age_ms,
            min_quality=options.min_quality,
            filter=options.filter,
            presence=options.presence,
        )
        self._send(self._format.codec.encode(command))

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
        if self.open and self._feeds.get(feed.channel) is feed and not feed.live and not feed.asking:
            self._subscribe(feed)

    def _mend(self, feed: Feed) -> None:
        """A message is missing: let the hub send everything after the last one we have."""
        feed.pause()
        self._unsubscribe(feed.channel)
        self._subscribe(feed)

    # --- a connection comes and goes ---

    def greeting(self, token: str, proof: str | None) -> bytes:
        """`connect` with every subscription; those that do not fit into one message are sent after it.

        Raises HubError for a token, name or kind that can be no such thing.
        """
        self.goodbye = None
        self._hello = next(self._ids)
        self._hello_at = asyncio.get_running_loop().time()
        feeds = list(self._feeds.values())
        while True:
            payload = self.encode(
                Connect(
                    id=self._hello,
                    token=token,
                    proof=proof,
                    name=self._name,
                    kind=self._kind,
                    session=self.connected.session if self.connected and self.name_session else None,
                    subscriptions={feed.channel: feed.options for feed in feeds},
                )
            )
            if len(payload) <= self.max_bytes or not feeds:
                self._greeted = {feed.channel: feed for feed in feeds}
                return payload
            feeds = feeds[: len(feeds) // 2]

    def _welcome(self, reply: Incoming) -> None:
        if reply.error is not None:
            raise Unwelcome(hub_error(reply.error))
        self.connected = connected = self._format.connected(reply.result)
        # It looked at its clock half way between our question and its answer, more or less.
        half_way_s = (self._hello_at + asyncio.get_running_loop().time()) / 2
        self.hub_ahead_ms = connected.server_time - half_way_s * 1000
        self.open = self.name_session = True
        for channel, feed in self._greeted.items():
            result = connected.subscriptions.get(channel)
            if self._feeds.get(channel) is not feed:
                self._unsubscribe(channel)  # given up while we were waiting
            elif result is not None:
                self._answered(feed, result)
        for feed in list(self._feeds.values()):
            if self._greeted.get(feed.channel) is not feed:
                self._subscribe(feed)
        self._greeted = {}
        for waiting in list(self._replies.values()):
            if isinstance(waiting, _Call) and not waiting.sent and not waiting.reply.done():
                self._send_call(waiting)
        self._on_open()

    def lost(self) -> None:
        """The connection is over: what was under way is kept for the next one."""
        self.open = False
        self.outgoing = []
        self._greeted = {}
        for feed in self._feeds.values():
            feed.pause()
        for number, waiting in list(self._replies.items()):
            if isinstance(waiting, Feed):
                del self._replies[number]
            elif waiting.repeat:
                waiting.sent = False

    def give_up_unrepeatable(self) -> None:
        """There will be another connection, but not another reply to what may not be sent twice."""
        for waiting in self._replies.values():
            if isinstance(waiting, _Call) and waiting.sent and not waiting.reply.done():
                lost = HubError(ErrorCode.TIMEOUT, "the connection was lost before the reply; the outcome is unknown")
                waiting.reply.set_exception(lost)

    def finish(self, final: Disconnected) -> None:
        """Everyone who waits learns that it is over. Those who iterate after the application itself left just stop."""
        if self.final is not None:
            return
        self.final = final
        self.open = False
        for feed in self._feeds.values():
            feed.end(None if final.code == 1000 else final.again())
        self._feeds.clear()
        for waiting in self._replies.values():
            if isinstance(waiting, _Call) and not waiting.reply.done():
                waiting.reply.set_exception(final.again())

    # --- what comes in ---

    def receive(self, incoming: Incoming) -> None:
        """Raises Unwelcome."""
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
                self.pong(incoming.time)
            case "presence_diff":
                if (feed := self._feeds.get(incoming.channel)) is not None and feed.live:
                    feed.presence(PresenceDiff(channel=incoming.channel, joins=incoming.joins, leaves=incoming.leaves))
            case "unsubscribed":
                if (feed := self._feeds.get(incoming.channel)) is not None and feed.live:
                    self._refused(feed, _unsubscribed(incoming))
            case "notice":
                self._on_notice(incoming)
            case "disconnect":
                self.goodbye = incoming
            case _:
                pass  # from a later version of the protocol

    def pong(self, time: int) -> None:
        self._send(self._format.codec.encode(Pong(time=time)))

    def _reply(self, reply: Incoming) -> None:
        if reply.id == self._hello and not self.open:
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


def _unsubscribed(push: Incoming) -> HubError:
    code = int(push.code)
    temporary = code in ErrorCode._value2member_map_ and ErrorCode(code).temporary
    return hub_error(ErrorBody(code=code, name="unsubscribed", message=push.reason, temporary=temporary))
