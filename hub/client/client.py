"""The application's door to a hub. The connection is the link's; what was asked for on it, the session's."""

from __future__ import annotations

import asyncio
import random
import secrets
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

from hub.client import backoff
from hub.client.link import Link, OnNotice, OnState, Prove, State, Token
from hub.client.orders import Orders
from hub.client.subscription import Feed, OnLost, OnPresence, Subscription
from hub.client.wire import FORMATS, Disconnected, History, message_of
from protocol.channels import split_channel
from protocol.messages import (
    Call,
    Explain,
    ExplainResult,
    Filter,
    Kind,
    Limits,
    Member,
    MinQuality,
    Presence,
    Publish,
    Published,
    Search,
    Subscribe,
)
from protocol.messages import History as HistoryCommand
from protocol.positions import Position

BUFFER_MESSAGES = 10_000


class Client:
    """See the package for how it is used.

    url: `http(s)://host:port` or `ws(s)://host:port`, with or without `/ws`. token: a string, or a function (plain or
    async) that returns one; it is asked anew for each connection and before a token expires. prove: makes the proof
    that goes with a token which is bound to a key (DPoP). name, kind: how others see this client. timeout_s bounds
    every command and, unless connect_timeout_s does, the first connection. backoff_s: the least and the most to wait
    before coming back, unless the hub names a time. on_state, on_notice are called on the loop and must not block.

    Entering waits until the hub has welcomed the client. It raises Disconnected when the hub refuses for good, and
    TimeoutError when it could not be reached in time. After that, losing the connection is the client's business.
    """

    def __init__(
        self,
        url: str,
        *,
        token: Token,
        prove: Prove | None = None,
        name: str | None = None,
        kind: Kind | None = None,
        codec: Literal["json", "msgpack"] = "json",
        timeout_s: float = 30.0,
        connect_timeout_s: float | None = None,
        backoff_s: tuple[float, float] = (backoff.LEAST_S, backoff.MOST_S),
        silence_s: float = 10.0,
        ssl: ssl.SSLContext | None = None,
        on_state: OnState | None = None,
        on_notice: OnNotice | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`silence_s`: how long after a ping is overdue the connection counts as dead."""
        self.url = websocket_url(url)
        self._connect_timeout_s = timeout_s if connect_timeout_s is None else connect_timeout_s
        self._format = FORMATS[codec]
        self._link = Link(
            self.url,
            self._format,
            token=token,
            prove=prove,
            name=name,
            kind=kind,
            timeout_s=timeout_s,
            backoff_s=backoff_s,
            silence_s=silence_s,
            ssl=ssl,
            on_state=on_state,
            on_notice=on_notice,
            rng=rng or random.Random(),
        )
        self._session = self._link.session
        self.orders = Orders(self.insist, self.subscribe, user=lambda: self.user)
        self._group: asyncio.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        return self._link.state

    @property
    def user(self) -> str | None:
        """Who the hub says we are."""
        return self._session.connected.user if self._session.connected else None

    @property
    def client(self) -> str | None:
        """The name of the present connection."""
        return self._session.connected.client if self._session.connected else None

    @property
    def session(self) -> str | None:
        return self._session.connected.session if self._session.connected else None

    @property
    def now_ms(self) -> float | None:
        """The hub's clock, to within half a round trip; less `message.timestamp`: how long a message took to get here.
        None before the first connection."""
        ahead_ms = self._session.hub_ahead_ms
        return None if ahead_ms is None else asyncio.get_running_loop().time() * 1000 + ahead_ms

    @property
    def limits(self) -> Limits | None:
        """What this client must stay within, as the hub announced it."""
        return self._session.connected.limits if self._session.connected else None

    def subscribe(
        self,
        channel: str,
        *,
        recover: Position | None = None,
        rewind: int | str | None = None,
        max_rate: float | None = None,
        max_age_ms: int | None = None,
        min_quality: MinQuality | None = None,
        filter: Filter | Mapping[str, list[str]] | None = None,
        presence: bool = False,
        buffer: int = BUFFER_MESSAGES,
        on_lost: OnLost | None = None,
        on_presence: OnPresence | None = None,
    ) -> Subscription:
        """The messages of a channel from now on; see Subscription for when it begins and ends.

        recover: continue after this position, as `message.position` gave it. rewind: begin with that many messages, or
        with what is as old as "30s". max_rate: messages per second and key. max_age_ms, min_quality: how old and how
        doubtful a price may be. filter: keys and types to let pass.
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
            max_age_ms=max_age_ms,
            min_quality=min_quality,
            filter=msgspec.convert(filter, Filter) if isinstance(filter, Mapping) else filter,
            presence=presence,
        )
        self._session.encode(command)
        feed = Feed(
            channel,
            command.options(),
            capacity=max(1, buffer),
            on_lost=on_lost,
            on_presence=on_presence,
            crowd=self._session.crowd,
            on_room=self._session.room.set,
        )
        return Subscription(self._session, feed)

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
        timing: bool = False,
        retry: bool = True,
    ) -> Published:
        """Publish, and wait until the hub has placed the message: in a durable channel, until it is committed.

        `data` is anything JSON-like, or a struct of protocol.vocabulary. `timing`: be told where its time went.

        With `retry`, temporary errors and lost connections are met by sending it again under one idempotency key: it is
        published exactly once, or, when an error is raised after `timeout_s`, perhaps not. Several at once:
        `asyncio.gather(*(krin.publish(...) ...))`.
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
                id=number,
                channel=channel,
                message=raw,
                key=key,
                idempotency_key=idempotency_key,
                ttl_ms=ttl_ms,
                timing=timing,
            )

        result: Published = self._format.published(await self._session.ask(command, repeat=retry, insist=retry))
        return result

    async def history(
        self, channel: str, since: Position | None = None, limit: int = 100, reverse: bool = False
    ) -> History:
        """Messages after `since`, oldest first; reversed: before it, newest first. Temporary errors are met by asking
        again: whoever reads all of a long history meets the hub's limits.
        """
        result = self._format.history(
            await self._session.ask(
                lambda number: HistoryCommand(id=number, channel=channel, since=since, limit=limit, reverse=reverse),
                insist=True,
            )
        )
        messages = [message_of(each, result.epoch) for each in result.messages]
        return History(channel, result.epoch, result.offset, messages, result.more)

    async def presence(self, channel: str) -> list[Member]:
        """Who is in a channel now."""
        members: list[Member] = self._format.members(
            await self._session.ask(lambda number: Presence(id=number, channel=channel))
        ).members
        return members

    async def explain(self, channel: str, offset: int, *, client: str | None = None) -> ExplainResult:
        """What became of a message for this user's connections, or for `client`: somebody else's needs the role admin.

        Only connections of the node that this one is connected to.
        """
        result: ExplainResult = self._format.explained(
            await self._session.ask(lambda number: Explain(id=number, channel=channel, offset=offset, client=client))
        )
        return result

    async def search(
        self,
        query: str,
        *,
        channel: str | None = None,
        mode: Literal["semantic", "text", "hybrid"] = "hybrid",
        limit: int = 10,
    ) -> Any:
        return self._format.any(
            await self._session.ask(
                lambda number: Search(id=number, query=query, channel=channel, mode=mode, limit=limit)
            )
        )

    async def call(self, method: str, /, **params: Any) -> Any:
        """An operation of one of the hub's domains, as `orders.submit`.

        Sent once: when the connection breaks before the reply, HubError(timeout) says that the outcome is unknown.
        """
        return self._format.any(
            await self._session.ask(lambda number: Call(id=number, method=method, params=params), repeat=False)
        )

    async def insist(self, method: str, params: Mapping[str, Any]) -> Any:
        """As `call`, for an operation that may be sent again until it is answered."""
        return self._format.any(
            await self._session.ask(
                lambda number: Call(id=number, method=method, params=dict(params)), repeat=True, insist=True
            )
        )

    async def refresh(self, token: str) -> int | None:
        """Go on with a new token of the same user. Returns when it expires, in milliseconds since 1970."""
        expires_at = await self._link.refresh(token)
        if isinstance(self._link.token, str):
            self._link.token = token
        return expires_at

    async def __aenter__(self) -> Self:
        if self._group is not None:
            raise RuntimeError("a Client can be entered once")
        self._group = await asyncio.TaskGroup().__aenter__()
        self._runner = self._group.create_task(self._link.run(self._group), name="krin client")
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._link.entered.wait()
            if (final := self._session.final) is not None:
                raise final.again()
        except TimeoutError:
            await self._close(None)
            waited = f"{self._connect_timeout_s:g} s"
            raise TimeoutError(f"no connection to {self.url} in {waited}: {self._link.trouble}") from self._link.trouble
        except BaseException as failure:
            await self._close(failure)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close(failure)

    async def _close(self, failure: BaseException | None) -> None:
        """Leave: the task group learns of a cancellation, but an application's error stays what it is."""
        assert self._group is not None
        if self._runner is not None:
            self._runner.cancel()
        self._link.finish(Disconnected(1000, "closed by the application"))
        cancelled = failure if isinstance(failure, asyncio.CancelledError) else None
        await self._group.__aexit__(type(cancelled) if cancelled else None, cancelled, None)


def websocket_url(url: str) -> str:
    """`http://host:port` and the like as the address of the hub's WebSocket. Raises ValueError."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError("a hub's address is http(s)://host:port or ws(s)://host:port")
    return urlunsplit((scheme, parts.netloc, parts.path if parts.path.strip("/") else "/ws", parts.query, ""))
