"""The broker over Redis: many nodes, one order per channel.

Publishing: what arrives while one round trip is under way travels in the next, in one script call. The script
(`publish.lua`) takes the offset, keeps the history and publishes, so history and delivery cannot disagree.

Listening: one connection subscribed to the channels that have listeners here. Every followed channel is mirrored in
memory, read once after its subscription is confirmed, so that recovery after a reconnect storm costs Redis one read
per channel. Messages are put in order by offset; a gap, or a confirmation after a reconnect, is mended by a read.

A probe travels through the normal path every second: a connection that looks alive but hears nothing is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from importlib import resources
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from hub.brokers.base import Deliver, Recovered
from hub.brokers.kept import Kept
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published

logger = logging.getLogger("krin.redis")

CONTROL = "krin:all"
COMMAND_TIMEOUT_S = 0.5
READ_TIMEOUT_S = 2.0
PROBE_INTERVAL_S = 1.0
DEAF_AFTER_S = 2.0
RETRY_S = (0.05, 1.0)  # first and longest pause between attempts to connect
MAX_PENDING = 20_000
MAX_BATCH = 1000
MAX_BATCH_BYTES = 1024 * 1024
MAX_HELD = 10_000  # messages of one channel that wait for a gap to be mended
SUBSCRIBE_BATCH = 512
READ_BATCH = 64

_encode = msgspec.msgpack.Encoder().encode
_Blob = tuple[str, str | None, int, str | None, int, bytes]  # type, key, timestamp, publisher, expires (ms), body
_decode = msgspec.msgpack.Decoder(_Blob).decode


class _Pending:
    __slots__ = ("future", "idempotency_key", "policy", "publication")

    def __init__(
        self,
        publication: Publication,
        policy: Namespace,
        idempotency_key: str | None,
        future: asyncio.Future[Published],
    ) -> None:
        self.publication = publication
        self.policy = policy
        self.idempotency_key = idempotency_key
        self.future = future


class _Followed:
    """A channel this node listens to. `kept` is None until it was read; what arrives meanwhile is held.

    `waiting` are those who want a read that begins after they asked.
    """

    __slots__ = ("held", "kept", "mending", "policy", "ready", "waiting")

    def __init__(self, policy: Namespace, ready: asyncio.Future[None]) -> None:
        self.policy = policy
        self.kept: Kept | None = None
        self.held: list[Publication] = []
        self.ready = ready
        self.mending = False
        self.waiting: list[asyncio.Future[None]] = []


class RedisBroker:
    """See `base.Broker` for the contract."""

    def __init__(self, url: str, deliver: Deliver, *, clock: Clock) -> None:
        self._deliver = deliver
        self._clock = clock
        options: dict[str, Any] = {
            "protocol": 2,
            # Neither retried nor waited for: a PUBLISH that timed out may have been delivered all the same.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": COMMAND_TIMEOUT_S,
            "health_check_interval": 0,
        }
        self._wire = ConnectionPool.from_url(url, socket_timeout=None, **options)
        self._redis: Redis = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url, socket_timeout=READ_TIMEOUT_S, timeout=READ_TIMEOUT_S, max_connections=4, **options
            )
        )
        self._publish_script = _script("publish.lua")
        self._read_script = _script("read.lua")
        self._publish_sha = self._read_sha = self._run_id = ""
        self._pending: deque[_Pending] = deque()
        self._bells: deque[tuple[str, bytes]] = deque()
        self._wake = asyncio.Event()
        self._followed: dict[str, _Followed] = {}
        self._changes: deque[tuple[bytes, str]] = deque()
        self._changed = asyncio.Event()
        self._mend: asyncio.Queue[str] = asyncio.Queue()
        self._handlers: dict[str, Callable[[bytes], None]] = {}
        self._probe = f"krin:probe:{secrets.token_urlsafe(9)}"
        self._heard_at = 0.0
        self.available = False
        self._connected = asyncio.Event()
        self.reconnects = 0
        self.mended = 0
        self.rejected = 0
        self.round_trips = 0
        self.published = 0

    # --- contract ---

    def publish(
        self, publication: Publication, policy: Namespace, *, idempotency_key: str | None = None
    ) -> asyncio.Future[Published]:
        if not self.available:
            raise _away()
        if len(self._pending) >= MAX_PENDING:
            raise HubError(ErrorCode.OVERLOADED, "too many publishes are waiting", retry_after_ms=100)
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(publication, policy, idempotency_key, future))
        self._wake.set()
        return future

    def ring(self, publication: Publication) -> None:
        self._deliver(publication)  # listeners here need no bell
        self._tell(
            _base(publication.channel), f"{publication.epoch} {publication.offset} ".encode() + self._blob(publication)
        )

    def announce(self, topic: str, payload: bytes) -> None:
        self._tell(CONTROL, topic.encode() + b"\n" + payload)

    def listen(self, topic: str, handler: Callable[[bytes], None]) -> None:
        self._handlers[topic] = handler

    def subscribe(self, channel: str, policy: Namespace) -> asyncio.Future[None] | None:
        followed = self._followed.get(channel)
        if followed is None:
            followed = _Followed(policy, asyncio.get_running_loop().create_future())
            self._followed[channel] = followed
            self._change(b"SUBSCRIBE", channel)
        if followed.ready.done():
            return None
        if not self.available:
            if policy.durable:
                return None  # the log tells what missed bells would have
            self._give_up(channel, followed)
        return followed.ready

    def unsubscribe(self, channel: str) -> None:
        followed = self._followed.pop(channel, None)
        if followed is not None:
            _refuse(followed.waiting)
            if not followed.ready.done():
                followed.ready.cancel()
            self._change(b"UNSUBSCRIBE", channel)

    def recover(
        self, channel: str, policy: Namespace, *, epoch: str | None, offset: int, limit: int
    ) -> Recovered | asyncio.Future[Recovered]:
        followed = self._followed.get(channel)
        if followed is None or followed.kept is None:
            raise _away()
        kept = followed.kept
        if epoch is not None and (epoch != kept.epoch or offset > kept.offset):
            # Maybe this node is behind the one the reader comes from: Redis knows.
            if not self.available:
                raise _away()
            read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            followed.waiting.append(read)
            self._ask_mending(channel, followed)
            return asyncio.ensure_future(self._recover_after(read, channel, epoch, offset, limit))
        kept.expire(self._clock.now_ms())
        return kept.recover(epoch=epoch, offset=offset, limit=limit)

    async def _recover_after(
        self, read: asyncio.Future[None], channel: str, epoch: str, offset: int, limit: int
    ) -> Recovered:
        await read
        followed = self._followed.get(channel)
        if followed is None or followed.kept is None:
            raise _away()
        return followed.kept.recover(epoch=epoch, offset=offset, limit=limit)

    def history(
        self, channel: str, policy: Namespace, *, after: int, limit: int, reverse: bool
    ) -> Recovered | asyncio.Future[Recovered]:
        followed = self._followed.get(channel)
        if followed is not None and followed.kept is not None:
            followed.kept.expire(self._clock.now_ms())
            return followed.kept.read(after=after, limit=limit, reverse=reverse)
        return asyncio.ensure_future(self._history(channel, policy, after, limit, reverse))

    async def forget(self, theirs: Callable[[str], bool]) -> None:
        """Idempotency keys are not looked for: they hold hashes, for five minutes."""
        for followed in self._followed.values():
            if followed.kept is not None:
                followed.kept.forget(theirs)
        try:
            for channel in await self.channels():
                await self._forget_in(_base(channel), theirs)
        except (RedisError, OSError, TimeoutError):
            raise _away() from None

    async def _forget_in(self, base: str, theirs: Callable[[str], bool]) -> None:
        def is_theirs(blob: bytes) -> bool:
            return theirs(_decode(blob[4:])[3] or "")

        history: list[Any] = await self._redis.lrange(f"{base}:h", 0, -1)
        found = [place for place, blob in enumerate(history) if is_theirs(blob)]
        if found:
            # From here to the newest, counted from the end: what was pushed meanwhile only takes the place of more of
            # the old. -1, -0 would be everything, so an end before the beginning empties the list.
            newer = len(history) - 1 - found[-1]
            await self._redis.ltrim(f"{base}:h", *((-newer, -1) if newer else (1, 0)))
        values: dict[Any, Any] = await self._redis.hgetall(f"{base}:l")
        if stale := [key for key, value in values.items() if is_theirs(value.split(b" ", 1)[1])]:
            await self._redis.hdel(f"{base}:l", *stale)

    async def channels(self) -> list[str]:
        """Every channel Redis keeps something of."""
        try:
            keys = [key async for key in self._redis.scan_iter(match="krin:{*}:m", count=1000)]
            pipeline = self._redis.pipeline(transaction=False)
            for key in keys:
                pipeline.hget(key, "o")
            offsets = await pipeline.execute() if keys else []
            return [key[6:-3].decode() for key, offset in zip(keys, offsets, strict=True) if int(offset or 0)]
        except (RedisError, OSError):
            raise _away() from None

    async def connected(self) -> None:
        await self._connected.wait()

    async def run(self) -> None:
        pause = RETRY_S[0]
        try:
            while True:
                try:
                    async with contextlib.AsyncExitStack() as stack:
                        session = await self._connect(stack)
                        pause = RETRY_S[0]
                        await session
                except* (RedisError, OSError, TimeoutError) as failures:
                    if self.available:
                        logger.error("Redis is away: %s", _reason(failures))
                self._lost()
                await self._clock.sleep(pause)
                pause = min(pause * 2, RETRY_S[1])
        finally:
            self._lost()
            await self._redis.aclose()

    # --- the session: one life of the two connections ---

    async def _connect(self, stack: contextlib.AsyncExitStack) -> Awaitable[None]:
        publishing = await self._open(stack)
        listening = await self._open(stack)
        async with asyncio.timeout(READ_TIMEOUT_S):
            await publishing.send_command("INFO", "server")
            info = await publishing.read_response()
            self._run_id = _run_id(info)
            await publishing.send_command("SCRIPT", "LOAD", self._publish_script)
            self._publish_sha = str(_text(await publishing.read_response()))
            await publishing.send_command("SCRIPT", "LOAD", self._read_script)
            self._read_sha = str(_text(await publishing.read_response()))
        self._changes.clear()
        self._change(b"SUBSCRIBE", CONTROL, self._probe)
        for channel in self._followed:
            self._change(b"SUBSCRIBE", channel)
        self._heard_at = self._clock.monotonic()
        return self._session(publishing, listening)

    async def _open(self, stack: contextlib.AsyncExitStack) -> AbstractConnection:
        connection: AbstractConnection = self._wire.make_connection()  # type: ignore[no-untyped-call]
        stack.push_async_callback(connection.disconnect, nowait=True)
        await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def _session(self, publishing: AbstractConnection, listening: AbstractConnection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish_all(publishing), name="redis publisher")
            group.create_task(self._listen_all(listening), name="redis listener")
            group.create_task(self._change_all(listening), name="redis subscriptions")
            group.create_task(self._mend_all(), name="redis mending")
            group.create_task(self._probe_all(), name="redis probe")

    def _lost(self) -> None:
        """The session ended: what was under way has an unknown outcome, what waited is refused."""
        if self.available:
            self.available = False
            self.reconnects += 1
        while self._pending:
            waiting = self._pending.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(_away())
                waiting.future.exception()
        self._bells.clear()
        for channel, followed in list(self._followed.items()):
            _refuse(followed.waiting)
            followed.waiting = []
            if followed.ready.done():
                continue
            if followed.policy.durable:
                followed.ready.set_result(None)
            else:
                self._give_up(channel, followed)

    def _give_up(self, channel: str, followed: _Followed) -> None:
        followed.ready.set_exception(_away())
        followed.ready.exception()
        if self._followed.get(channel) is followed:
            del self._followed[channel]

    async def _probe_all(self) -> None:
        """Publish to ourselves through the normal path; hearing nothing means deaf, whatever TCP says."""
        while True:
            self._tell(self._probe, b"")
            await self._clock.sleep(PROBE_INTERVAL_S)
            silence = self._clock.monotonic() - self._heard_at
            if silence > DEAF_AFTER_S:
                raise TimeoutError(f"nothing heard for {silence:.1f} s")

    # --- publishing ---

    def _tell(self, redis_channel: str, payload: bytes) -> None:
        if len(self._bells) < MAX_PENDING:  # a lost bell costs latency, never data
            self._bells.append((redis_channel, payload))
            self._wake.set()

    async def _publish_all(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending or self._bells:
                batch = self._next_batch()
                bells = [self._bells.popleft() for _ in range(min(len(self._bells), MAX_BATCH))]
                try:
                    async with asyncio.timeout(COMMAND_TIMEOUT_S):
                        await self._round_trip(connection, batch, bells)
                finally:
                    for waiting in batch:
                        if not waiting.future.done():
                            waiting.future.set_exception(_unknown())
                            waiting.future.exception()

    def _next_batch(self) -> list[_Pending]:
        batch: list[_Pending] = []
        size = 0
        while self._pending and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += len(batch[-1].publication.body)
        return batch

    async def _round_trip(
        self, connection: AbstractConnection, batch: list[_Pending], bells: list[tuple[str, bytes]]
    ) -> None:
        commands: list[Iterable[Any]] = [("PUBLISH", channel, payload) for channel, payload in bells]
        groups: dict[str, list[_Pending]] = {}
        for waiting in batch:
            groups.setdefault(waiting.publication.channel, []).append(waiting)
        if groups:
            commands.append(("EVALSHA", self._publish_sha, 1, _base(next(iter(groups))), *self._arguments(groups)))
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        answers = [await connection.read_response(disable_decoding=True) for _ in commands]
        self.round_trips += 1
        if groups:
            for waitings, answer in zip(groups.values(), answers[-1], strict=True):
                self._settle(waitings, answer)

    def _arguments(self, groups: dict[str, list[_Pending]]) -> Iterator[Any]:
        yield self._run_id
        yield secrets.token_urlsafe(6)
        for channel, waitings in groups.items():
            policy = waitings[0].policy
            size = policy.max_keys if policy.latest else policy.history_size
            yield from (channel, _mode(policy), size, policy.history_ttl_s, len(waitings))
            for waiting in waitings:
                publication = waiting.publication
                key = waiting.idempotency_key
                yield self._blob(publication)
                yield publication.key or ""
                if key is None:
                    yield from ("", "")
                else:
                    yield f"{len(publication.publisher or '')}:{publication.publisher}:{key}"
                    yield publication.body_hash()
                yield publication.timestamp

    def _settle(self, waitings: list[_Pending], answer: list[Any]) -> None:
        epoch = answer[0].decode()
        for waiting, placed in zip(waitings, answer[1:], strict=True):
            future = waiting.future
            if future.done():
                continue
            channel = waiting.publication.channel
            if isinstance(placed, list):
                offset, timestamp, first_epoch = placed
                future.set_result(
                    Published(
                        channel=channel,
                        epoch=first_epoch.decode(),
                        offset=offset,
                        timestamp=timestamp,
                        duplicate=True,
                    )
                )
            elif placed == 0:
                future.set_exception(
                    HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "this idempotency_key was used for another message")
                )
            else:
                self.published += 1
                timestamp = waiting.publication.timestamp
                future.set_result(Published(channel=channel, epoch=epoch, offset=placed, timestamp=timestamp))

    def _blob(self, publication: Publication) -> bytes:
        expires = 0
        if publication.expires_at is not None:
            expires = self._clock.now_ms() + int((publication.expires_at - self._clock.monotonic()) * 1000)
        packed = _encode(
            (
                publication.type,
                publication.key,
                publication.timestamp,
                publication.publisher,
                expires,
                publication.body,
            )
        )
        return len(packed).to_bytes(4, "big") + packed

    # --- listening ---

    def _change(self, command: bytes, *channels: str) -> None:
        self._changes.extend((command, channel) for channel in channels)
        self._changed.set()

    async def _change_all(self, connection: AbstractConnection) -> None:
        """The one owner of what this node is subscribed to; changes keep their order and travel in batches."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._changes:
                command = self._changes[0][0]
                names: list[str] = []
                while self._changes and self._changes[0][0] == command and len(names) < SUBSCRIBE_BATCH:
                    name = self._changes.popleft()[1]
                    names.append(name if name in (CONTROL, self._probe) else _base(name))
                await connection.send_command(command.decode(), *names, check_health=False)

    async def _listen_all(self, connection: AbstractConnection) -> None:
        probe, control = self._probe.encode(), CONTROL.encode()
        while True:
            kind, where, payload = await connection.read_response(disable_decoding=True)
            if kind == b"message":
                if where == probe:
                    self._heard_at = self._clock.monotonic()
                elif where == control:
                    topic, _, body = payload.partition(b"\n")
                    if (handler := self._handlers.get(topic.decode())) is not None:
                        handler(body)
                else:
                    self._receive(where[6:-1].decode(), payload)
            elif kind == b"subscribe":
                if where == probe:
                    self._heard_at = self._clock.monotonic()
                    self.available = True
                    self._connected.set()
                    logger.info("Redis is there")
                elif where != control:
                    self._confirmed(where[6:-1].decode())

    def _confirmed(self, channel: str) -> None:
        """From here on nothing is missed; what came before is read."""
        followed = self._followed.get(channel)
        if followed is None:
            return
        if followed.policy.durable:
            if not followed.ready.done():
                followed.ready.set_result(None)
        else:
            self._ask_mending(channel, followed)

    def _receive(self, channel: str, payload: bytes) -> None:
        followed = self._followed.get(channel)
        if followed is None:
            return
        try:
            publications = self._publications(channel, followed.policy, payload)
        except (ValueError, msgspec.MsgspecError):  # somebody else publishes on our channels
            self.rejected += 1
            return
        if followed.policy.durable:
            for publication in publications:
                self._deliver(publication)
            return
        kept = followed.kept
        for publication in publications:
            if kept is not None and publication.epoch == kept.epoch and publication.offset == kept.offset + 1:
                kept.append(publication)
                self._deliver(publication)
            elif kept is None or publication.epoch != kept.epoch or publication.offset > kept.offset:
                if len(followed.held) < MAX_HELD:
                    followed.held.append(publication)
                if kept is not None:
                    self._ask_mending(channel, followed)

    def _publications(self, channel: str, policy: Namespace, payload: bytes) -> list[Publication]:
        epoch, first, blobs = payload.split(b" ", 2)
        offset = int(first)
        found = []
        start = 0
        while start < len(blobs):
            end = start + 4 + int.from_bytes(blobs[start : start + 4], "big")
            found.append(self._publication(channel, policy, epoch.decode(), offset, blobs[start + 4 : end]))
            offset += 1
            start = end
        return found

    def _publication(self, channel: str, policy: Namespace, epoch: str, offset: int, packed: bytes) -> Publication:
        type_name, key, timestamp, publisher, expires, body = _decode(packed)
        publication = Publication(
            channel,
            type_name,
            body=body,
            timestamp=timestamp,
            key=key,
            publisher=publisher,
            conflatable=policy.latest,
            expires_at=self._clock.monotonic() + (expires - self._clock.now_ms()) / 1000 if expires else None,
        )
        publication.place(epoch, offset)
        return publication

    def _ask_mending(self, channel: str, followed: _Followed) -> None:
        if not followed.mending:
            followed.mending = True
            self._mend.put_nowait(channel)  # bounded: one entry per followed channel

    async def _mend_all(self) -> None:
        """Read the channels that are new here or have a gap, many at a time."""
        for channel, followed in self._followed.items():  # what an earlier session left half done
            followed.mending = False
            if followed.kept is not None:
                self._ask_mending(channel, followed)
        while True:
            channels = {await self._mend.get()}
            while not self._mend.empty() and len(channels) < READ_BATCH:
                channels.add(self._mend.get_nowait())
            wanted = {name: found for name in channels if (found := self._followed.get(name)) is not None}
            waiting: list[asyncio.Future[None]] = []
            for each in wanted.values():
                each.mending = False  # before the read: what arrives during it may ask again
                waiting += each.waiting
                each.waiting = []
            pipeline = self._redis.pipeline(transaction=False)
            for name, each in wanted.items():
                pipeline.evalsha(self._read_sha, 1, _base(name), *self._read_arguments(each.policy))
            try:
                answers = await pipeline.execute() if wanted else []
                for (name, each), answer in zip(wanted.items(), answers, strict=True):
                    if self._followed.get(name) is each:
                        self._take_in(name, each, answer)
                for read in waiting:
                    if not read.done():
                        read.set_result(None)
            finally:
                _refuse(waiting)

    def _read_arguments(self, policy: Namespace) -> tuple[Any, ...]:
        return self._run_id, secrets.token_urlsafe(6), _mode(policy), policy.history_size or 1

    def _take_in(self, channel: str, followed: _Followed, answer: list[Any]) -> None:
        """Bring the mirror, and the listeners, up to what was read; then what was held meanwhile."""
        state = self._kept(channel, followed.policy, answer)
        kept = followed.kept
        if kept is None:
            followed.kept = kept = state
        elif kept.epoch != state.epoch:
            followed.kept = kept = Kept(followed.policy, epoch=state.epoch)
            self._catch_up(kept, state)
        elif state.offset > kept.offset:
            self._catch_up(kept, state)
        held = sorted(followed.held, key=lambda each: each.offset)
        followed.held = []
        for publication in held:
            if publication.epoch == kept.epoch and publication.offset == kept.offset + 1:
                kept.append(publication)
                self._deliver(publication)
            elif publication.epoch == kept.epoch and publication.offset > kept.offset:
                followed.held.append(publication)
                self._ask_mending(channel, followed)
        if not followed.ready.done():
            followed.ready.set_result(None)

    def _catch_up(self, kept: Kept, state: Kept) -> None:
        missed = state.latest.values() if kept.policy.latest else state.history
        for publication in sorted(missed, key=lambda each: each.offset):
            if publication.offset > kept.offset:
                self.mended += 1
                kept.append(publication)
                self._deliver(publication)
        kept.offset = max(kept.offset, state.offset)

    def _kept(self, channel: str, policy: Namespace, answer: list[Any]) -> Kept:
        epoch, top, blobs = _text(answer[0]), int(answer[1]), answer[2]
        kept = Kept(policy, epoch=epoch, offset=top)
        if policy.latest:
            placed = [value.split(b" ", 1) for value in blobs]
            for offset, blob in sorted(((int(offset), blob) for offset, blob in placed), key=lambda each: each[0]):
                publication = self._publication(channel, policy, epoch, offset, blob[4:])
                kept.latest[publication.key or ""] = publication
        else:
            for offset, blob in enumerate(blobs, start=top - len(blobs) + 1):
                kept.history.append(self._publication(channel, policy, epoch, offset, blob[4:]))
        return kept

    async def _history(self, channel: str, policy: Namespace, after: int, limit: int, reverse: bool) -> Recovered:
        try:
            answer = await self._redis.evalsha(
                self._read_sha, 1, _base(channel), *(str(each) for each in self._read_arguments(policy))
            )
        except (RedisError, OSError, TimeoutError):
            raise _away() from None
        kept = self._kept(channel, policy, answer)
        kept.expire(self._clock.now_ms())
        return kept.read(after=after, limit=limit, reverse=reverse)


def _refuse(waiting: Iterable[asyncio.Future[Any]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(_away())
            future.exception()


def _script(name: str) -> str:
    return (resources.files("hub") / "brokers" / name).read_text()


def _base(channel: str) -> str:
    """All keys of a channel, and its pub/sub channel, share one hash tag: one slot in a cluster."""
    return f"krin:{{{channel}}}"


def _mode(policy: Namespace) -> str:
    if policy.latest:
        return "l"
    return "h" if policy.history_size else "n"


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _run_id(info: bytes | str) -> str:
    for line in _text(info).splitlines():
        if line.startswith("run_id:"):
            return line[7:].strip()
    raise RedisError("INFO names no run_id")


def _reason(failures: BaseExceptionGroup[BaseException]) -> str:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first) or type(first).__name__


def _away() -> HubError:
    return HubError(ErrorCode.NOT_AVAILABLE, "Redis is not available", retry_after_ms=1000)


def _unknown() -> HubError:
    return HubError(
        ErrorCode.TIMEOUT, "the outcome is unknown; retry with the same idempotency_key", retry_after_ms=500
    )
