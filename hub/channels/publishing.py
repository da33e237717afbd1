"""The way in: a publish command becomes a validated, placed publication."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from hub.brokers.base import Broker, Eventually
from hub.caller import Caller
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.guard.limits import Limits
from hub.observe.tracing import Tracing
from hub.publication import Publication
from protocol.codec import JSON, UNREADABLE, Codec, encode_body
from protocol.errors import ErrorCode, HubError
from protocol.messages import Publish, Published, Timing
from protocol.vocabulary import DEFAULT_KEYS, Message, message_type


class Amplification(msgspec.Struct, frozen=True):
    """How many deliveries one connection may cause: what it publishes, times those who listen on this node."""

    deliveries_per_s: int
    listeners: Callable[[str], int]


class Publisher:
    def __init__(
        self,
        broker: Broker,
        durable: DurableChannels,
        *,
        access: Access,
        clock: Clock,
        rate_per_s: int,
        limits: Limits,
        amplification: Amplification | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._broker = broker
        self._durable = durable
        self._access = access
        self._clock = clock
        self._rate_per_s = rate_per_s
        self._limits = limits
        self._amplification = amplification
        self._tracing = tracing

    def publish(self, command: Publish, caller: Caller, codec: Codec = JSON) -> Eventually[Published]:
        """Check, validate, place and hand out. `codec` is the format in which `command.message` is still raw."""
        channel = command.channel
        received_us = self._clock.now_us() if command.timing else 0
        if (connection := caller.connection) is not None:
            connection.spend("publish", self._rate_per_s)
            if (shared := connection.user_publishes) is not None:
                connection.spend_shared(shared)
        elif caller.transport == "rest":
            self._limits.spend("publish", caller.user, address=caller.address, user=caller.user)
        namespace = self._access.require(caller, "publish", channel)
        if connection is not None and namespace.rate_per_s is not None:
            connection.spend(f"publish {channel.partition(':')[0]}", namespace.rate_per_s)
        if namespace.channel_rate_per_s is not None:
            self._limits.spend_channel(channel, namespace.channel_rate_per_s, caller)
        if connection is not None and (bound := self._amplification) is not None:
            connection.spend("deliveries", bound.deliveries_per_s, float(bound.listeners(channel)))
        type_name = codec.peek_type(command.message)
        if not namespace.accepts(type_name):
            raise HubError(
                ErrorCode.UNKNOWN_TYPE,
                f"this namespace accepts {', '.join(namespace.types)}",
                path="$.message.type",
            )
        try:
            message: Message = codec.message_decoder(type_name)(command.message)
        except UNREADABLE as failure:
            message = codec.decode_again(command.message, message_type(type_name), failure, "$.message")
        traced = None
        if self._tracing is not None:
            where = "commit" if namespace.durable else "broker"
            traced = self._tracing.publish(channel, type_name, message.trace, where=where)
            if traced is not None:
                message = replace(message, trace=traced.traceparent)
        key = command.key
        if key is None and (field := DEFAULT_KEYS.get(type_name)) is not None:
            key = getattr(message.data, field)
        body = encode_body(message, key=key, publisher=caller.user)
        if len(body) > namespace.max_bytes:
            raise HubError(
                ErrorCode.PAYLOAD_TOO_LARGE, f"a message of this namespace has at most {namespace.max_bytes} bytes"
            )
        expires_at = None
        if command.ttl_ms is not None:
            if namespace.durable:
                raise HubError(ErrorCode.BAD_REQUEST, "a durable message does not expire", path="$.ttl_ms")
            expires_at = self._clock.monotonic() + command.ttl_ms / 1000
        publication = Publication(
            channel,
            type_name,
            body=body,
            timestamp=self._clock.now_ms(),
            key=key,
            publisher=caller.user,
            conflatable=namespace.latest,
            expires_at=expires_at,
        )
        checked_us = self._clock.now_us() if command.timing else 0
        placed: Eventually[Published]
        if namespace.durable:
            placed = self._durable.publish(publication, idempotency_key=command.idempotency_key)
        else:
            placed = self._broker.publish(publication, namespace, idempotency_key=command.idempotency_key)
        if traced is not None:
            placed = traced.followed(placed)
        return self._timed(placed, received_us, checked_us) if command.timing else placed

    def _timed(self, placed: Eventually[Published], received_us: int, checked_us: int) -> Eventually[Published]:
        def stamped(published: Published) -> Published:
            now_us = self._clock.now_us()
            return replace(published, timing=Timing(received=received_us, checked=checked_us, placed=now_us))

        if isinstance(placed, Published):
            return stamped(placed)
        timed: asyncio.Future[Published] = placed.get_loop().create_future()

        def settle(done: asyncio.Future[Published]) -> None:
            if timed.done():  # nobody waits any more
                return
            if done.cancelled():
                timed.cancel()
            elif failure := done.exception():
                timed.set_exception(failure)
            else:
                timed.set_result(stamped(done.result()))

        placed.add_done_callback(settle)
        return timed
