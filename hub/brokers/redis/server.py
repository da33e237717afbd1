"""One Redis server: publishing to it, listening to it, reading from it, for as long as it is wanted.

Two connections of its own, which live and die together: one publishes, what waits travelling in one pipeline; one
listens. A probe travels through both every second: a connection that looks alive but hears nothing is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from typing import Any, Protocol

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    RedisError,
    ResponseError,
)

from hub.brokers.redis.mirror import read_arguments
from hub.brokers.redis.payloads import Payloads, base
from hub.brokers.redis.publishing import COMMAND_TIMEOUT_S, MOVED, Pending, Pipeline
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.observe.metrics import Histogram
from hub.redis_url import is_local

logger = logging.getLogger("krin.redis")

READ_TIMEOUT_S = 2.0
PROBE_INTERVAL_S = 1.0
DEAF_AFTER_S = 2.0
RETRY_S = (0.05, 1.0)  # first and longest pause between attempts to connect
SUBSCRIBE_BATCH = 512
READ_BATCH = 64

# First versions of each line that are free of CVE-2025-49844 (code execution through Lua) and CVE-2025-21605.
MENDED = {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2}


class Owner(Protocol):
    """What a server tells its broker."""

    def arrived(self, server: Server) -> None:
        """It answers. What it should be subscribed to is asked for now."""

    def lost(self, server: Server) -> None: ...

    def heard(self, where: bytes, payload: bytes) -> None: ...

    def confirmed(self, server: Server, where: bytes) -> None: ...

    def dropped(self, server: Server, where: bytes) -> None:
        """The server ended a subscription by itself."""

    def moved(self) -> None:
        """It was asked for a slot that is not its own."""

    async def read(self, server: Server, channels: set[str]) -> None:
        """Read these channels from it. Raises RedisError, OSError."""


class Server:
    """`sharded`: it is part of a cluster, where every channel and every key belongs to the server of its slot."""

    def __init__(
        self, url: str, owner: Owner, *, sharded: bool, payloads: Payloads, round_trip_ms: Histogram, clock: Clock
    ) -> None:
        self._owner = owner
        self._payloads = payloads
        self._clock = clock
        options: dict[str, Any] = {
            "protocol": 2,
            # Neither retried nor waited for: a PUBLISH that timed out may have been delivered all the same.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": COMMAND_TIMEOUT_S,
            "health_check_interval": 0,
        }
        self._local = is_local(url)
        self._wire = ConnectionPool.from_url(url, socket_timeout=None, **options)
        self._redis: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url, socket_timeout=READ_TIMEOUT_S, timeout=READ_TIMEOUT_S, max_connections=4, **options
            )
        )
        self._tell = "SPUBLISH" if sharded else "PUBLISH"
        self._join = "SSUBSCRIBE" if sharded else "SUBSCRIBE"
        self._leave = "SUNSUBSCRIBE" if sharded else "UNSUBSCRIBE"
        self._publish_script = _script("publish.lua")
        self._read_script = _script("read.lua")
        self._publish_sha = self._read_sha = self._run_id = ""
        self._pipeline = Pipeline(
            payloads, sharded=sharded, moved=owner.moved, round_trip_ms=round_trip_ms, clock=clock
        )
        self._changes: deque[tuple[str, str]] = deque()
        self._changed = asyncio.Event()
        self._to_read: asyncio.Queue[str] = asyncio.Queue()
        self._probe = f"krin:probe:{secrets.token_urlsafe(9)}"
        self._heard_at = 0.0
        self._version = ""
        self._pause = RETRY_S[0]
        self.available = False
        self._away_told = False
        self.reconnects = 0

    # --- what the broker wants of it ---

    def publish(self, pending: Pending) -> None:
        """Raises HubError(overloaded)."""
        self._pipeline.publish(pending)

    def tell(self, where: str, payload: bytes) -> None:
        self._pipeline.tell(self._tell, where, payload)

    def subscribe(self, names: Iterable[str]) -> None:
        self._change(self._join, names)

    def unsubscribe(self, names: Iterable[str]) -> None:
        self._change(self._leave, names)

    def ask_reading(self, channel: str) -> None:
        self._to_read.put_nowait(channel)  # bounded: one entry per followed channel

    async def read(self, wanted: list[tuple[str, Namespace, int]]) -> list[list[Any] | ResponseError]:
        """(channel, policy, messages of its history) -> what `read.lua` answers. Raises RedisError, OSError."""
        pipeline = self._redis.pipeline(transaction=False)
        for channel, policy, history in wanted:
            pipeline.evalsha(self._read_sha, 1, base(channel), *read_arguments(policy, self._run_id, history))
        answers: list[list[Any] | ResponseError] = await pipeline.execute(raise_on_error=False)
        return answers

    async def channels(self) -> list[str]:
        """Every channel it keeps something of. Raises RedisError, OSError."""
        keys = [key async for key in self._redis.scan_iter(match="krin:{*}:m", count=1000)]
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.hget(key, "o")
        offsets = await pipeline.execute() if keys else []
        return [key[6:-3].decode() for key, offset in zip(keys, offsets, strict=True) if int(offset or 0)]

    async def forget(self, channel: str, theirs: Callable[[str], bool]) -> None:
        """As `Broker.forget`, in one channel. Raises RedisError, OSError.

        Idempotency keys are not looked for: they hold hashes, for five minutes.
        """
        name = base(channel)
        history: list[Any] = await self._redis.lrange(f"{name}:h", 0, -1)
        found = [place for place, blob in enumerate(history) if theirs(self._payloads.publisher_of(blob))]
        if found:
            # From here to the newest, counted from the end: what was pushed meanwhile only takes the place of more of
            # the old. -1, -0 would be everything, so an end before the beginning empties the list.
            newer = len(history) - 1 - found[-1]
            await self._redis.ltrim(f"{name}:h", *((-newer, -1) if newer else (1, 0)))
        values: dict[Any, Any] = await self._redis.hgetall(f"{name}:l")
        publishers = {key: self._payloads.publisher_of(value.split(b" ", 1)[1]) for key, value in values.items()}
        if stale := [key for key, publisher in publishers.items() if theirs(publisher)]:
            await self._redis.hdel(f"{name}:l", *stale)

    async def run(self) -> None:
        """Until cancelled: connect, serve, and begin again when the connections are lost."""
        try:
            while True:
                # A task of its own: a task group that fails in the moment in which its task is cancelled forgets the
                # latter, up to Python 3.12, and this loop would go on for ever.
                life = asyncio.create_task(self._live(), name="redis session")
                try:
                    await asyncio.wait([life])
                finally:
                    life.cancel()
                    await asyncio.gather(life, return_exceptions=True)
                life.result()
                self._lost()
                await self._clock.sleep(self._pause)
                self._pause = min(self._pause * 2, RETRY_S[1])
        finally:
            self._lost()
            await self._redis.aclose()

    async def _live(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                session = await self._connect(stack)
                self._pause = RETRY_S[0]
                await session
        except* (RedisError, OSError, TimeoutError) as failures:
            if not self._away_told:  # at a start without it, too
                self._away_told = True
                logger.error("Redis is away: %s", _reason(failures))

    # --- the session: one life of the two connections ---

    async def _connect(self, stack: contextlib.AsyncExitStack) -> Awaitable[None]:
        publishing = await self._open(stack)
        listening = await self._open(stack)
        async with asyncio.timeout(READ_TIMEOUT_S):
            await publishing.send_command("INFO", "server")
            self._note_server(await publishing.read_response())
            await publishing.send_command("SCRIPT", "LOAD", self._publish_script)
            self._publish_sha = _text(await publishing.read_response())
            await publishing.send_command("SCRIPT", "LOAD", self._read_script)
            self._read_sha = _text(await publishing.read_response())
        self._changes.clear()
        self._change("SUBSCRIBE", [self._probe])
        self._heard_at = self._clock.monotonic()
        return self._session(publishing, listening)

    async def _open(self, stack: contextlib.AsyncExitStack) -> AbstractConnection:
        connection: AbstractConnection = self._wire.make_connection()  # type: ignore[no-untyped-call]
        stack.push_async_callback(connection.disconnect, nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    def _note_server(self, answer: bytes | str) -> None:
        info = dict(line.split(":", 1) for line in _text(answer).splitlines() if ":" in line)
        self._run_id = run_id(info)
        version = info.get("redis_version", "")
        if version != self._version and not self._local and (hint := known_holes(version)):
            logger.warning("Redis %s", hint)
        self._version = version

    async def _session(self, publishing: AbstractConnection, listening: AbstractConnection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._pipeline.run(publishing, sha=self._publish_sha, run_id=self._run_id), name="redis publisher"
            )
            group.create_task(self._listen_all(listening), name="redis listener")
            group.create_task(self._change_all(listening), name="redis subscriptions")
            group.create_task(self._read_all(), name="redis reads")
            group.create_task(self._probe_all(), name="redis probe")

    def _lost(self) -> None:
        """The session ended."""
        if self.available:
            self.available = False
            self.reconnects += 1
        self._pipeline.give_up()
        while not self._to_read.empty():
            self._to_read.get_nowait()
        self._owner.lost(self)

    async def _probe_all(self) -> None:
        """Publish to ourselves through the normal path; hearing nothing means deaf, whatever TCP says."""
        while True:
            self._pipeline.tell("PUBLISH", self._probe, b"")
            await self._clock.sleep(PROBE_INTERVAL_S)
            silence = self._clock.monotonic() - self._heard_at
            if silence > DEAF_AFTER_S:
                raise TimeoutError(f"nothing heard for {silence:.1f} s")

    async def _read_all(self) -> None:
        """Read the channels that are new here or lack something, many at a time."""
        task = asyncio.current_task()
        assert task is not None
        # redis-py waits with `asyncio.wait_for`, which up to Python 3.11 forgets that it was cancelled when what it
        # waits for is done in the same moment: then this loop would keep the dead session from ending.
        while not task.cancelling():
            channels = {await self._to_read.get()}
            while not self._to_read.empty() and len(channels) < READ_BATCH:
                channels.add(self._to_read.get_nowait())
            await self._owner.read(self, channels)

    # --- listening ---

    def _change(self, command: str, names: Iterable[str]) -> None:
        self._changes.extend((command, name) for name in names)
        self._changed.set()

    async def _change_all(self, connection: AbstractConnection) -> None:
        """The one owner of what is subscribed to here; changes keep their order and travel in batches."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._changes:
                changes = [self._changes.popleft() for _ in range(min(len(self._changes), SUBSCRIBE_BATCH))]
                await connection.send_packed_command(connection.pack_commands(changes), check_health=False)

    async def _listen_all(self, connection: AbstractConnection) -> None:
        probe = self._probe.encode()
        while True:
            try:
                kind, where, payload = await connection.read_response(disable_decoding=True)
            except MOVED:
                self._owner.moved()
                continue
            if where == probe:
                self._note_life()
            elif kind in (b"message", b"smessage"):
                self._owner.heard(where, payload)
            elif kind in (b"subscribe", b"ssubscribe"):
                self._owner.confirmed(self, where)
            elif kind == b"sunsubscribe":
                self._owner.dropped(self, where)

    def _note_life(self) -> None:
        self._heard_at = self._clock.monotonic()
        if not self.available:
            self.available = True
            self._away_told = False
            logger.info("Redis is there")
            self._owner.arrived(self)


def known_holes(version: str) -> str | None:
    """A warning about a version with known holes; None for one without."""
    try:
        major, minor, patch = (int(part) for part in version.split("."))
    except ValueError:
        return None
    mended = MENDED.get((major, minor))
    if (major, minor) > max(MENDED) or (mended is not None and patch >= mended):
        return None
    wanted = f"{major}.{minor}.{mended}" if mended else "a maintained line such as 7.2.11 or 8.2.2"
    return f"{version} is open to CVE-2025-49844 unless its distributor has mended it: use {wanted}"


def run_id(info: dict[str, str]) -> str:
    """Names one run of a server: another one may remember less than it promised."""
    try:
        return info["run_id"].strip()
    except KeyError:
        raise RedisError("INFO names no run_id") from None


def _script(name: str) -> str:
    return (resources.files("hub") / "brokers" / "redis" / name).read_text()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _reason(failures: BaseExceptionGroup[BaseException]) -> str:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__
