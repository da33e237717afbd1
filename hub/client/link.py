"""The connection: dial, read, write, notice that it has died, come back. What it carries is the session's."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from hub.client import backoff
from hub.client.session import Session, Unwelcome
from hub.client.wire import Disconnected, Format, Incoming
from protocol.close_codes import CloseCode, should_reconnect
from protocol.errors import ErrorCode, HubError
from protocol.messages import Kind, Notice

logger = logging.getLogger("krin.client")

State = Literal["connecting", "open", "reconnecting", "closed"]
Token = str | Callable[[], str | Awaitable[str]]
Prove = Callable[[str, str], str]
"""(URL of the connection, token) -> a DPoP proof of having the key that the token is bound to (RFC 9449)."""

OnState = Callable[[State], None]
OnNotice = Callable[[Notice], None]

DIAL_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
WATCH_S = 1.0
PING_INTERVAL_S = 25.0  # until the hub has named its own


class Link:
    """One connection at a time, for as long as `run` runs. `entered`: welcomed for the first time, or over."""

    def __init__(
        self,
        url: str,
        format: Format,
        *,
        token: Token,
        prove: Prove | None,
        name: str | None,
        kind: Kind | None,
        timeout_s: float,
        backoff_s: tuple[float, float],
        silence_s: float,
        ssl: ssl.SSLContext | None,
        on_state: OnState | None,
        on_notice: OnNotice | None,
        rng: random.Random,
    ) -> None:
        self.url = url
        self.token = token
        self._prove = prove
        self.state: State = "connecting"
        self.entered = asyncio.Event()
        self.trouble: BaseException | None = None  # why there was no connection, or no longer
        self.session = Session(
            format,
            name=name,
            kind=kind,
            timeout_s=timeout_s,
            delay_s=self._delay_s,
            on_open=self._opened,
            on_notice=self._notice,
        )
        self._format = format
        self._backoff_s = backoff_s
        self._silence_s = silence_s
        self._ssl = ssl
        self._on_state = on_state
        self._on_notice = on_notice
        self._rng = rng
        self._group: asyncio.TaskGroup | None = None
        self._welcomed = False
        self._heard_at = 0.0
        self._reading_paused = False

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Stay connected until cancelled or until the hub says that it is final. `group` gets the tasks needed."""
        self._group = group
        self.session.started = True
        self._tell_state()
        attempt = 0
        try:
            while True:
                self._welcomed = False
                retry_after_ms = await self._connection()
                self.session.give_up_unrepeatable()
                if self.entered.is_set():
                    self._set_state("reconnecting")
                if self._welcomed:
                    attempt = 0
                delay_s = self._delay_s(attempt, retry_after_ms)
                attempt += 1
                logger.info("connecting again in %.2f s: %s", delay_s, self.trouble)
                await asyncio.sleep(delay_s)
        except Disconnected as final:
            self.finish(final)

    def finish(self, final: Disconnected) -> None:
        self.session.finish(final)
        self._set_state("closed")
        self.entered.set()

    async def fetch_token(self) -> str:
        if isinstance(self.token, str):
            return self.token
        token = self.token()
        return await token if inspect.isawaitable(token) else token

    async def refresh(self, token: str) -> int | None:
        return await self.session.refresh(token, self._proof(token))

    def _proof(self, token: str) -> str | None:
        return None if self._prove is None else self._prove(self.url, token)

    async def _connection(self) -> int | None:
        """One connection, from dialling to its end. Returns the delay the hub asked for. Raises Disconnected."""
        try:
            token = await self.fetch_token()
        except Exception as failure:
            logger.exception("the token function failed")
            self.trouble = failure
            return None
        try:
            async with connect(
                self.url,
                subprotocols=[Subprotocol(self._format.codec.subprotocol)],
                ssl=(self._ssl or True) if self.url.startswith("wss:") else None,
                compression=None,
                max_size=None,
                open_timeout=DIAL_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
                ping_interval=None,  # the hub pings
            ) as socket:
                try:
                    await self._serve(socket, token)
                finally:
                    self.session.lost()
        except Disconnected:
            raise
        except InvalidStatus as refusal:
            self.trouble = refusal
            return _turned_away(refusal.response)
        except Unwelcome as refusal:
            self.trouble = refusal
            return self._unwelcome(refusal.error)
        except ConnectionClosed as closed:
            self.trouble = closed
            return self._closed(closed)
        except msgspec.MsgspecError as failure:
            logger.exception("the hub sent something else than %s", self._format.codec.subprotocol)
            self.trouble = failure
        except (OSError, WebSocketException) as failure:
            self.trouble = failure
        return None

    async def _serve(self, socket: ClientConnection, token: str) -> None:
        """Read until the connection ends, which is an exception."""
        assert self._group is not None
        codec = self._format.codec
        if socket.subprotocol != codec.subprotocol and not (socket.subprotocol is None and self._format.text):
            raise Disconnected(CloseCode.BAD_PROTOCOL, f"{self.url} does not speak {codec.subprotocol}")
        loop = asyncio.get_running_loop()
        session = self.session
        self._heard_at = loop.time()
        try:
            greeting = session.greeting(token, self._proof(token))
        except HubError as error:
            raise Disconnected(CloseCode.BAD_PROTOCOL, str(error)) from error
        await socket.send(greeting, text=self._format.text)
        writer = self._group.create_task(self._write(socket), name="krin client writer")
        watch = self._group.create_task(self._watch(socket), name="krin client watch")
        try:
            while True:
                payload = await socket.recv(decode=False)
                self._heard_at = loop.time()
                for incoming in self._format.frame(payload):
                    session.receive(incoming)
                while session.crowd and session.must_wait:
                    self._reading_paused = True  # the socket fills up, and TCP tells the hub
                    session.room.clear()
                    await session.room.wait()
                self._reading_paused = False
        finally:
            self._reading_paused = False
            writer.cancel()
            watch.cancel()

    async def _write(self, socket: ClientConnection) -> None:
        """Send what has been collected, several commands to a frame."""
        session = self.session
        try:
            while True:
                await session.wake.wait()
                session.wake.clear()
                parts, session.outgoing = session.outgoing, []
                for batch in batches(parts, session.max_bytes):
                    await socket.send(self._format.codec.array(batch), text=self._format.text)
        except ConnectionClosed:
            return  # the reader sees it too

    async def _watch(self, socket: ClientConnection) -> None:
        """End a connection on which nothing is heard; and be heard while we are not reading."""
        loop = asyncio.get_running_loop()
        overdue = False
        while True:
            connected = self.session.connected
            interval_s = connected.ping_interval_ms / 1000 if connected else PING_INTERVAL_S
            if self._reading_paused:
                self.session.pong(0)
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

    # --- what an end means: the delay the hub asked for, or Disconnected ---

    def _unwelcome(self, error: HubError) -> int | None:
        if error.code.temporary or (error.code is ErrorCode.TOKEN_EXPIRED and not isinstance(self.token, str)):
            return error.retry_after_ms
        final = {
            ErrorCode.UNAUTHORIZED: CloseCode.UNAUTHORIZED,
            ErrorCode.TOKEN_INVALID: CloseCode.TOKEN_INVALID,
            ErrorCode.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
            ErrorCode.PROOF_INVALID: CloseCode.TOKEN_INVALID,
        }.get(error.code, CloseCode.BAD_PROTOCOL)
        raise Disconnected(final, error.message) from error

    def _closed(self, closed: ConnectionClosed) -> int | None:
        code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "connection lost")
        reconnect = should_reconnect(code)
        retry_after_ms = None
        if (goodbye := self.session.goodbye) is not None:
            code, reason, reconnect = int(goodbye.code), goodbye.reason, goodbye.reconnect
            retry_after_ms = goodbye.retry_after_ms
        if not reconnect or (code == CloseCode.TOKEN_EXPIRED and isinstance(self.token, str)):
            raise Disconnected(code, reason)
        if code == CloseCode.REPLACED:
            self.session.name_session = False  # someone else goes by its name: let them
        return retry_after_ms

    # --- from the session ---

    def _opened(self) -> None:
        self._welcomed = True
        self._set_state("open")
        self.entered.set()

    def _notice(self, notice: Incoming) -> None:
        if notice.code == "token_expiring" and not isinstance(self.token, str):
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
            await self.refresh(await self.fetch_token())
        except Exception as failure:  # the next connection asks for a token again
            logger.warning("the token was not refreshed: %s", failure)

    def _set_state(self, state: State) -> None:
        if state != self.state and self.state != "closed":
            self.state = state
            self._tell_state()

    def _tell_state(self) -> None:
        if self._on_state is not None:
            try:
                self._on_state(self.state)
            except Exception:
                logger.exception("on_state failed")

    def _delay_s(self, attempt: int, retry_after_ms: int | None) -> float:
        if retry_after_ms is not None:
            return retry_after_ms / 1000
        least_s, most_s = self._backoff_s
        return backoff.delay_s(attempt, self._rng, least_s=least_s, most_s=most_s)


def _turned_away(response: Response) -> int | None:
    """A handshake answered with an HTTP status: 4xx will not get better by itself, the rest may."""
    status = response.status_code
    if 400 <= status < 500 and status not in (408, 425, 429):
        text = (response.body or b"").decode(errors="replace").strip()
        raise Disconnected(status, text[:200] or response.reason_phrase)
    after = response.headers.get("Retry-After", "")
    return int(after) * 1000 if after.isascii() and after.isdigit() else None


def batches(parts: list[bytes], limit_bytes: int) -> Iterator[list[bytes]]:
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
