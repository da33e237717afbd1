"""Publishing to one Redis server: what waits travels in one pipeline, several messages of a channel in one PUBLISH."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    ResponseError,
    TryAgainError,
)

from hub.brokers.redis.mirror import mode
from hub.brokers.redis.payloads import Payloads, base
from hub.brokers.redis.refusals import away, moving, refuse, unknown
from hub.clock import Clock
from hub.namespaces import Namespace
from hub.observe.metrics import Histogram
from hub.publication import Publication
from protocol.errors import ErrorCode, HubError
from protocol.messages import Published

COMMAND_TIMEOUT_S = 1.0
MAX_PENDING = 20_000
MAX_BATCH = 1000
MAX_BATCH_BYTES = 1024 * 1024
MOVED = (MovedError, AskError, TryAgainError, ClusterDownError, MasterDownError)
"""A server's word that it does not answer for this slot, now or any more: nothing was done."""


class Pending:
    """A publish on its way. `future` is its publisher's."""

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


class Pipeline:
    """Owner of what waits to be published. `moved` is called when the server says that a slot is not its own."""

    def __init__(
        self,
        payloads: Payloads,
        *,
        sharded: bool,
        moved: Callable[[], None],
        round_trip_ms: Histogram,
        clock: Clock,
    ) -> None:
        self._payloads = payloads
        self._round_trip_ms = round_trip_ms
        self._clock = clock
        self._sharded = sharded
        self._moved = moved
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._pending: deque[Pending] = deque()
        self._bells: deque[tuple[str, str, bytes]] = deque()
        self._wake = asyncio.Event()

    def publish(self, pending: Pending) -> None:
        """Raises HubError(overloaded)."""
        if len(self._pending) >= MAX_PENDING:
            raise HubError(ErrorCode.OVERLOADED, "too many publishes are waiting", retry_after_ms=100)
        self._pending.append(pending)
        self._wake.set()

    def give_up(self) -> None:
        """The connection is lost: what waited is refused. What was under way has an unknown outcome."""
        refuse((waiting.future for waiting in self._pending), away())
        self._pending.clear()
        self._bells.clear()

    def tell(self, command: str, where: str, payload: bytes) -> None:
        """PUBLISH or SPUBLISH something that may be lost."""
        if len(self._bells) < MAX_PENDING:  # a lost bell costs latency, never data
            self._bells.append((command, where, payload))
            self._wake.set()

    async def run(self, connection: AbstractConnection, *, sha: str, run_id: str) -> None:
        """For the life of one connection: what arrives while one round trip is under way travels in the next.

        `sha` is that of the loaded `publish.lua`, `run_id` names the run of the server.
        """
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending or self._bells:
                batch = self._next_batch()
                bells = [self._bells.popleft() for _ in range(min(len(self._bells), MAX_BATCH))]
                try:
                    async with asyncio.timeout(COMMAND_TIMEOUT_S):
                        calls = self._calls(batch)
                        commands: list[Iterable[Any]] = [*bells]
                        for call in calls:
                            script = ("EVALSHA", sha, 1, base(next(iter(call))), self._command, run_id)
                            commands.append((*script, *self._arguments(call)))
                        began = self._clock.monotonic()
                        await self._round_trip(connection, commands, calls)
                        self._round_trip_ms.observe((self._clock.monotonic() - began) * 1000)
                finally:
                    refuse((waiting.future for waiting in batch), unknown())

    def _next_batch(self) -> list[Pending]:
        batch: list[Pending] = []
        size = 0
        while self._pending and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._pending.popleft())
            size += len(batch[-1].publication.body)
        return batch

    def _calls(self, batch: list[Pending]) -> list[dict[str, list[Pending]]]:
        """The script calls for a batch, each by channel: one for all, or, where channels have slots, one for each."""
        groups: dict[str, list[Pending]] = {}
        for waiting in batch:
            groups.setdefault(waiting.publication.channel, []).append(waiting)
        if self._sharded:
            return [{channel: group} for channel, group in groups.items()]
        return [groups] if groups else []

    async def _round_trip(
        self,
        connection: AbstractConnection,
        commands: list[Iterable[Any]],
        calls: list[dict[str, list[Pending]]],
    ) -> None:
        """`calls` are the last of the commands."""
        # hiredis packs a message's arguments in 0.5 us, the connection's own packer in 3.2 us.
        packed = [hiredis.pack_command((*command,)) for command in commands]
        await connection.send_packed_command(packed, check_health=False)
        answers = [await self._answer(connection) for _ in commands]
        for call, answer in zip(calls, answers[len(commands) - len(calls) :], strict=True):
            if isinstance(answer, ResponseError):
                refuse((waiting.future for group in call.values() for waiting in group), moving())
            else:
                for group, placed in zip(call.values(), answer, strict=True):
                    _settle(group, placed)

    async def _answer(self, connection: AbstractConnection) -> Any:
        """One answer, or the server's word that the slot is not its own; every other error ends the session."""
        try:
            return await connection.read_response(disable_decoding=True)
        except MOVED as error:
            self._moved()
            return error

    def _arguments(self, groups: dict[str, list[Pending]]) -> Iterator[Any]:
        yield secrets.token_urlsafe(6)
        for channel, group in groups.items():
            policy = group[0].policy
            size = policy.max_keys if policy.latest else policy.history_size
            blobs = [self._payloads.pack(waiting.publication) for waiting in group]
            seal = self._payloads.batch_seal(channel, b"".join(blobs))
            yield from (channel, mode(policy), size, policy.history_ttl_s, len(group), seal)
            for waiting, blob in zip(group, blobs, strict=True):
                publication = waiting.publication
                key = waiting.idempotency_key
                yield blob
                yield publication.key or ""
                if key is None:
                    yield from ("", "")
                else:
                    yield f"{len(publication.publisher or '')}:{publication.publisher}:{key}"
                    yield publication.body_hash()
                yield publication.timestamp


def _settle(group: list[Pending], answer: list[Any]) -> None:
    epoch = answer[0].decode()
    for waiting, placed in zip(group, answer[1:], strict=True):
        future = waiting.future
        if future.done():
            continue
        channel = waiting.publication.channel
        if isinstance(placed, list):
            offset, timestamp, first_epoch = placed
            future.set_result(
                Published(
                    channel=channel, epoch=first_epoch.decode(), offset=offset, timestamp=timestamp, duplicate=True
                )
            )
        elif placed == 0:
            future.set_exception(
                HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "this idempotency_key was used for another message")
            )
        else:
            timestamp = waiting.publication.timestamp
            future.set_result(Published(channel=channel, epoch=epoch, offset=placed, timestamp=timestamp))
