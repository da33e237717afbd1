"""One client's connection: commands in, replies and pushes out, from handshake to goodbye.

It is driven from outside (`receive`, `lost`, `check`) and owns no task while nothing is under way: ten thousand quiet
clients are ten thousand of these objects and nothing more.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Protocol

import msgspec

from hub.caller import Caller
from hub.clock import Clock
from hub.connections.outbox import Outbox, Socket
from hub.connections.verdicts import Notes
from hub.guard.buckets import TokenBucket
from hub.guard.events import Report, denied
from hub.guard.limits import too_fast
from protocol import frames
from protocol.close_codes import CloseCode
from protocol.codec import Codec
from protocol.errors import ErrorCode, HubError
from protocol.messages import Connect, Disconnect, ErrorBody, Notice, Ping, Pong, Reply

CONNECT_TIMEOUT_S = 10.0
STALL_TIMEOUT_S = 10.0
TOKEN_WARNING_S = 30.0
PONG_TIMEOUT_S = 10.0
MAX_ERRORS = 10  # malformed messages within ERROR_WINDOW_S end the connection
ERROR_WINDOW_S = 10.0
MAX_STRIKES = 3  # then the connection ends
STRIKE_INTERVAL_S = 1.0  # whatever comes within it is one strike
STRIKES_FORGOTTEN_S = 10.0
SENT_AWAY_MS = 10_000
REFUSALS_A_STRIKE = 10  # also for those who wait each time, and never slow down
MAX_IN_FLIGHT = 256
TOO_LARGE = 1009  # RFC 6455 7.4.1
# A `connect` that failed for one of these is answered, then the connection ends.
REFUSALS = {
    ErrorCode.UNAUTHORIZED: CloseCode.UNAUTHORIZED,
    ErrorCode.TOKEN_INVALID: CloseCode.TOKEN_INVALID,
    ErrorCode.PROOF_INVALID: CloseCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED: CloseCode.TOKEN_EXPIRED,
    ErrorCode.LIMIT_EXCEEDED: CloseCode.CONNECTION_LIMIT,
    ErrorCode.RATE_LIMITED: CloseCode.RATE_LIMITED,
}


_NOTHING: deque[Any] = deque(maxlen=0)  # shared by all that have no backlog


class Dispatcher(Protocol):
    """What a connection needs of hub.dispatch."""

    def handle(self, command: Any, caller: Caller, codec: Codec) -> Any: ...

    def as_hub_error(self, failure: BaseException) -> HubError: ...

    def finished(self, command: Any, began: float, error: HubError | None = None) -> None: ...


class ConnectionLimits:
    """Numbers that every connection of a hub shares."""

    __slots__ = ("bytes_per_s", "outbox_bytes", "ping_interval_s", "publishes_per_s")

    def __init__(
        self, *, outbox_bytes: int, ping_interval_s: float, publishes_per_s: int, bytes_per_s: int = 1 << 26
    ) -> None:
        self.bytes_per_s = bytes_per_s
        self.outbox_bytes = outbox_bytes
        self.ping_interval_s = ping_interval_s
        self.publishes_per_s = publishes_per_s


class Connection:
    """Owner of everything one socket has: its outbox, who it is, what it subscribed to, what it still awaits."""

    __slots__ = (
        "_backlog",
        "_buckets",
        "_checked_at",
        "_clock",
        "_closing_at",
        "_dispatcher",
        "_ended",
        "_errors",
        "_heard_at",
        "_in_flight",
        "_limits",
        "_on_end",
        "_opened_at",
        "_pinged",
        "_reading_paused",
        "_received",
        "_refusals",
        "_report",
        "_socket",
        "_stalled_at",
        "_stalled_bytes",
        "_strikes",
        "_struck_at",
        "_wait_until",
        "_warned_of_expiry",
        "address",
        "caller",
        "claims",
        "codec",
        "goodbye",
        "id",
        "outbox",
        "rtt_ms",
        "session",
        "subscriptions",
        "url",
        "user_publishes",
    )

    def __init__(
        self,
        socket: Socket,
        codec: Codec,
        *,
        address: str,
        url: str = "",
        dispatcher: Dispatcher,
        touch: Callable[[Outbox], None],
        on_end: Callable[[Connection], None],
        limits: ConnectionLimits,
        notes: Notes,
        report: Report,
        clock: Clock,
    ) -> None:
        """`url`: where the handshake was sent, for the proofs of tokens that are bound to a key."""
        self.id = secrets.token_urlsafe(9)
        self.session = ""
        self.caller = Caller(user="", roles=frozenset(), transport="websocket", address=address, connection=self)
        self.claims: Any = None
        self.codec = codec
        self.address = address
        self.url = url
        self.subscriptions: dict[str, Any] = {}
        self.rtt_ms: int | None = None
        self.goodbye: CloseCode | None = None  # why the hub ended it
        self.outbox = Outbox(
            socket,
            codec,
            limit_bytes=limits.outbox_bytes,
            touch=touch,
            on_overflow=self._overflow,
            on_pressure=self._pressure,
            notes=notes,
        )
        self._socket = socket
        self._dispatcher = dispatcher
        self._on_end = on_end
        self._clock = clock
        self._limits = limits
        self._report = report
        self._in_flight: dict[int, asyncio.Future[Any]] | None = None
        self._reading_paused = False
        self._backlog: deque[Any] = _NOTHING
        self._opened_at = self._heard_at = self._checked_at = clock.monotonic()
        self._received = 0  # bytes since the last check
        self._pinged = False
        self._errors: deque[float] | None = None
        self._stalled_at: float | None = None
        self._stalled_bytes = 0
        self._closing_at: float | None = None
        self._warned_of_expiry = False
        self._buckets: dict[str, TokenBucket] | None = None
        self.user_publishes: TokenBucket | None = None  # shared by all connections of this user; None: not limited
        self._strikes = self._refusals = 0
        self._struck_at = self._wait_until = 0.0
        self._ended = False

    @property
    def age_s(self) -> float:
        return self._clock.monotonic() - self._opened_at

    @property
    def open(self) -> bool:
        """`connect` has succeeded and nobody has said goodbye."""
        return bool(self.session) and self._closing_at is None and not self._ended

    # --- in ---

    def receive(self, payload: bytes | str) -> None:
        """One frame from the client: a message or an array of messages."""
        self._heard_at = self._clock.monotonic()
        self._pinged = False
        self._received += len(payload)
        if isinstance(payload, str) != (self.codec.opcode == frames.TEXT):
            self.close(CloseCode.BAD_PROTOCOL, reason="frame type does not match the subprotocol")
            return
        commands = self.codec.decode(payload)
        if self._reading_paused:
            self._backlog.extend(commands)  # of the last read: the socket gives no more until this is worked off
        else:
            self._work(deque(commands))

    def _work(self, commands: deque[Any]) -> None:
        """Take commands in order, as long as few enough are in flight; the rest waits."""
        while commands and self._closing_at is None:
            if self._reading_paused:
                self._backlog = commands
                return
            command = commands.popleft()
            if type(command) is Pong:
                self._note_rtt(command.time)
            elif isinstance(command, tuple):
                self._refuse(*command)
            else:
                self._run(command)

    def _run(self, command: Any) -> None:
        number: int = command.id
        if self._in_flight is not None and number in self._in_flight:
            self._refuse(number, HubError(ErrorCode.BAD_REQUEST, "this id is still in flight", path="$.id"))
            return
        if not self.session and type(command) is not Connect:
            self._refuse(number, HubError(ErrorCode.UNAUTHORIZED, "the first command must be connect"))
            return
        began = self._clock.monotonic()
        try:
            result = self._dispatcher.handle(command, self.caller, self.codec)
        except HubError as error:
            self._failed(command, began, error)
            return
        if isinstance(result, asyncio.Future):
            self._track(number, result)
            result.add_done_callback(lambda done: self._settle(command, began, done))
        elif isinstance(result, CoroutineType):
            task = asyncio.ensure_future(self._finish(command, began, result))
            task.add_done_callback(lambda _: result.close())  # cancelled before it began, it would complain
            self._track(number, task)
        else:
            self._succeeded(command, began, result)

    async def _finish(self, command: Any, began: float, result: CoroutineType[Any, Any, Any]) -> None:
        """Await a handler and reply in the very step in which it finished: what goes live then follows the reply."""
        try:
            value = await result
        except Exception as failure:
            self._failed(command, began, self._dispatcher.as_hub_error(failure))
        else:
            self._succeeded(command, began, value)
        finally:
            self._untrack(command.id)

    def _settle(self, command: Any, began: float, done: asyncio.Future[Any]) -> None:
        self._untrack(command.id)
        if done.cancelled():
            return
        if (failure := done.exception()) is not None:
            self._failed(command, began, self._dispatcher.as_hub_error(failure))
        else:
            self._succeeded(command, began, done.result())

    def _succeeded(self, command: Any, began: float, result: Any) -> None:
        self.outbox.push(self.codec.encode(Reply(id=command.id, result=result)))
        self._dispatcher.finished(command, began)

    def _track(self, number: int, work: asyncio.Future[Any]) -> None:
        if self._in_flight is None:
            self._in_flight = {}
        self._in_flight[number] = work
        # Back-pressure instead of an error: the client's TCP window fills up. And who sends more commands with a
        # `connect` whose credential must be looked up is to find them run after it, as after any other.
        full = len(self._in_flight) >= MAX_IN_FLIGHT or not self.session
        if full and not self._reading_paused:
            self._reading_paused = True
            self._backlog = deque()
            self._socket.pause_reading()

    def _untrack(self, number: int) -> None:
        if self._in_flight is None:
            return
        self._in_flight.pop(number, None)
        if self._reading_paused and len(self._in_flight) < MAX_IN_FLIGHT // 2:
            self._reading_paused = False
            backlog, self._backlog = self._backlog, _NOTHING
            self._work(backlog)
            if not self._reading_paused and not self._ended:
                self._socket.resume_reading()

    def _refuse(self, number: int, error: HubError) -> None:
        """Answer a message that should never have been sent; a client that keeps sending them is cut off."""
        self._reply_error(number, error)
        self._tell("input_validation_fail", error.code.wire_name)
        now = self._clock.monotonic()
        if self._errors is None:
            self._errors = deque(maxlen=MAX_ERRORS)
        self._errors.append(now)
        if len(self._errors) == MAX_ERRORS and now - self._errors[0] < ERROR_WINDOW_S:
            self.close(CloseCode.TOO_MANY_ERRORS)

    def _failed(self, command: Any, began: float, error: HubError) -> None:
        self._reply_error(command.id, error)
        self._dispatcher.finished(command, began, error)
        if not self.session and (goodbye := REFUSALS.get(error.code)) is not None:
            self.close(goodbye)

    def _reply_error(self, number: int, error: HubError) -> None:
        self.outbox.push(self.codec.encode(Reply(id=number, error=ErrorBody.of(error))))
        if error.code is ErrorCode.RATE_LIMITED:
            self._told_to_wait((error.retry_after_ms or 0) / 1000)
        elif error.code in (ErrorCode.TOKEN_INVALID, ErrorCode.PROOF_INVALID):
            self._tell("authn_token_invalid", "websocket")

    def _tell(self, name: str, target: str) -> None:
        """Report an attempt that was denied."""
        self._report(denied(name, self.address, target, user=self.caller.user))

    def _told_to_wait(self, wait_s: float) -> None:
        """Being told to wait is no offence, not waiting is: who goes on asking is cut off."""
        now = self._clock.monotonic()
        self._refusals += 1
        impatient = now < self._wait_until or self._refusals >= REFUSALS_A_STRIKE
        if impatient and now - self._struck_at >= STRIKE_INTERVAL_S:
            self._refusals = 0
            self._strike(now)
        self._wait_until = max(self._wait_until, now + wait_s)

    def _strike(self, now: float) -> None:
        self._strikes = 1 if now - self._struck_at >= STRIKES_FORGOTTEN_S else self._strikes + 1
        self._struck_at = now
        self._tell("excess_rate_limit_exceeded", "connection")
        if self._strikes >= MAX_STRIKES:
            self.close(CloseCode.RATE_LIMITED, retry_after_ms=SENT_AWAY_MS)

    def _note_rtt(self, sent_at: int) -> None:
        elapsed = self._clock.now_ms() - sent_at
        if 0 <= elapsed < 60_000:
            self.rtt_ms = elapsed

    def spend(self, what: str, rate_per_s: int, cost: float = 1.0) -> None:
        """Count one use against a rate of this connection. Raises HubError(rate_limited)."""
        now = self._clock.monotonic()
        if self._buckets is None:
            self._buckets = {}
        bucket = self._buckets.get(what)
        if bucket is None:
            bucket = self._buckets[what] = TokenBucket(rate_per_s, now=now)
        if wait_s := bucket.take(now=now, cost=cost):
            raise too_fast(wait_s, f"more than {rate_per_s} a second")

    def spend_shared(self, bucket: TokenBucket) -> None:
        """Count one use against a rate that others use too. Raises HubError(rate_limited)."""
        if wait_s := bucket.take(now=self._clock.monotonic()):
            raise too_fast(wait_s, "all connections of this user together send too much")

    # --- out ---

    def push(self, message: Any) -> None:
        """Send a push struct."""
        self.outbox.push(self.codec.encode(message))

    def blocked(self) -> None:
        self.outbox.block()
        if self._stalled_at is None:
            self._stalled_at = self._clock.monotonic()
            self._stalled_bytes = self._socket.buffered()

    def unblocked(self) -> None:
        self._stalled_at = None
        self.outbox.unblock(self._clock.monotonic())
        if self.outbox.blocked:
            self.blocked()

    def violated(self, code: int) -> None:
        """The peer broke the WebSocket protocol; its socket says goodbye with this code by itself."""
        if code == TOO_LARGE:  # a mistake that honest programs make
            self._tell("input_validation_fail", ErrorCode.PAYLOAD_TOO_LARGE.wire_name)
        else:
            self._tell("malicious_extraneous", f"websocket {code}")

    def _overflow(self) -> None:
        # From inside the fan-out, where nobody may change who listens: close in a moment.
        asyncio.get_running_loop().call_soon(self.close, CloseCode.SLOW_CONSUMER)

    def _pressure(self, code: Any, channel: str | None) -> None:
        detail = (
            "this client cannot keep up: newest values only"
            if code == "conflating"
            else "three quarters of the outbox are used"
        )
        self.push(Notice(code=code, channel=channel, detail=detail))

    # --- life ---

    def check(self) -> None:
        """Called about once a second: liveness, stalls, deadlines."""
        now = self._clock.monotonic()
        if self._closing_at is not None:
            return
        if not self.session:
            if now - self._opened_at >= CONNECT_TIMEOUT_S:
                self.close(CloseCode.NO_CONNECT)
            return
        self._check_stall(now)
        self._check_bytes(now)
        if self._reading_paused:  # not silence: we are not listening
            self._heard_at = now
        silence = now - self._heard_at
        interval = self._limits.ping_interval_s
        if silence >= interval + PONG_TIMEOUT_S:
            self.close(CloseCode.NO_PONG)
        elif silence >= interval and not self._pinged:
            self._pinged = True
            self.push(Ping(time=self._clock.now_ms()))
        self._check_expiry()

    def _check_stall(self, now: float) -> None:
        """No progress, not fullness, makes a reader too slow: a snapshot may fill any buffer for a moment."""
        if self._stalled_at is None:
            return
        buffered = self._socket.buffered()
        if buffered < self._stalled_bytes:
            self._stalled_at = now
        self._stalled_bytes = buffered
        if now - self._stalled_at >= STALL_TIMEOUT_S:
            self.close(CloseCode.SLOW_CONSUMER)

    def _check_bytes(self, now: float) -> None:
        """Measured here, once a second, and not per message: a flood of bytes costs little before it is noticed."""
        if self._received > self._limits.bytes_per_s * max(1.0, now - self._checked_at):
            self._strike(now)
        self._received = 0
        self._checked_at = now

    def _check_expiry(self) -> None:
        if self.caller.expires_at is None:
            return
        left_s = (self.caller.expires_at - self._clock.now_ms()) / 1000
        if left_s <= 0:
            self.close(CloseCode.TOKEN_EXPIRED)
        elif left_s <= TOKEN_WARNING_S and not self._warned_of_expiry:
            self._warned_of_expiry = True
            self.push(Notice(code="token_expiring", detail=f"the token expires in {int(left_s)} s; send refresh"))

    def entered(self, caller: Caller, session: str) -> None:
        """`connect` or `refresh` has succeeded."""
        self.caller = caller
        self.session = session
        self.claims = None
        self._warned_of_expiry = False

    def close(self, code: CloseCode, *, retry_after_ms: int | None = None, reason: str | None = None) -> None:
        """Say goodbye: `disconnect`, then the close frame. Nothing is written after it."""
        if self._closing_at is not None or self._ended:
            return
        self._closing_at = self._clock.monotonic()
        self.goodbye = code
        self._on_end(self)
        goodbye = self.codec.encode(Disconnect.of(code, retry_after_ms, reason))
        outbox = self.outbox
        # Replies of this very turn still go out, then the goodbye; nobody waits for a slow reader.
        parts = [] if outbox.blocked else outbox.take_pending()
        outbox.close()
        self._socket.write(self.codec.frame([*parts, goodbye]))
        self._socket.close(code.value, reason or code.reason)
        self._cancel()

    def lost(self) -> None:
        """The socket is gone."""
        if self._ended:
            return
        self._ended = True
        if self._closing_at is None:
            self._on_end(self)
        self.outbox.close()
        self._cancel()
        # The caller holds this connection and the connection its caller: without the circle, memory is free at once.
        self.caller = msgspec.structs.replace(self.caller, connection=None)

    def _cancel(self) -> None:
        """Give up what is under way for this client. A durable publish is the committer's and goes on."""
        for work in (self._in_flight or {}).values():
            if isinstance(work, asyncio.Task):
                work.cancel()
        self._in_flight = None
