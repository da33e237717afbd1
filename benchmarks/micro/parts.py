"""The hub's parts put together without a database, a port or a running loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hub.audit.reads import Reads
from hub.auth.dpop import Proofs
from hub.auth.keys import configured_keys
from hub.auth.passwords import Passwords
from hub.auth.providers import Providers
from hub.auth.revocations import Revoked
from hub.auth.service import Authentication
from hub.auth.tokens import Tokens
from hub.brokers.local import LocalBroker
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout, Listener
from hub.channels.publishing import Publisher
from hub.channels.subscriptions import Subscriptions
from hub.clock import SystemClock
from hub.config import LOOPBACK, LimitSettings
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.outbox import Outbox
from hub.connections.registry import Registry
from hub.connections.verdicts import Notes
from hub.dispatch import Dispatcher
from hub.edge.credentials import Credentials
from hub.edge.envelope import KrinAPIService
from hub.edge.security import RevolutionarySecurityService
from hub.edge.sessions import Sessions
from hub.guard.addresses import networks
from hub.guard.concurrency import Concurrency
from hub.guard.limits import Limits, table_of
from hub.guard.threats import Threats
from hub.insight.insights.coordinator import InsightCoordinator
from hub.namespaces import Namespaces
from hub.permissions import Permissions
from hub.presence.service import PresenceService
from hub.publication import Publication
from protocol.codec import JSON, Codec, encode_body
from protocol.messages import Connect, Publish
from protocol.vocabulary import message_type

KEY = b"k" * 32
TICK = (
    b'{"type":"publish","id":7,"channel":"prices:BTC-USD","message":{"type":"PRICE_TICK","data":'
    b'{"symbol":"BTC-USD","bid":"67001.25","ask":"67001.50","ext":{"s":"TS=0000004567890123456"}}}}'
)


class NullSocket:
    """Takes everything and keeps nothing."""

    def __init__(self) -> None:
        self.bytes = 0
        self.fd = -1
        self.write: Callable[[bytes], None] = self._write

    def _write(self, data: bytes) -> None:
        self.bytes += len(data)

    def buffered(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...


class Parts:
    """A hub's heart. Nothing in it runs by itself: what the loop would do is called by hand."""

    def __init__(self) -> None:
        nothing: Any = None  # no store is touched by latest-value channels
        self.clock = SystemClock()
        self.loop = asyncio.new_event_loop()
        self.fanout = Fanout(self.loop)
        self.tokens = Tokens(configured_keys("HS256", signing=KEY), clock=self.clock)
        authentication = Authentication(
            self.tokens,
            Passwords(),
            users=nothing,
            refresh_tokens=nothing,
            api_keys=nothing,
            providers=Providers(),
            proofs=Proofs(announce=lambda topic, digest: None, clock=self.clock),
            revoked=Revoked(),
            revocations=nothing,
            report=lambda event: None,
            clock=self.clock,
        )
        access = Access(Namespaces(), report=lambda event: None)
        durable = DurableChannels(nothing, deliver=self.fanout.deliver, clock=self.clock)
        broker = LocalBroker(durable.receive, clock=self.clock)
        presence = PresenceService(self.loop, node="micro", announce=broker.announce, clock=self.clock)
        self.registry = Registry(clock=self.clock, max_connections=1_000_000)
        self.limits = ConnectionLimits(outbox_bytes=1 << 20, ping_interval_s=25, publishes_per_s=100_000_000)
        user_limits = Limits(
            table_of(LimitSettings()),
            exempt=networks(LOOPBACK),
            address_connections=1_000_000,
            user_connections=1_000_000,
            report=lambda event: None,
            clock=self.clock,
        )
        publisher = Publisher(
            broker, durable, access=access, clock=self.clock, rate_per_s=100_000_000, limits=user_limits
        )
        self.subscriptions = Subscriptions(
            self.fanout,
            broker,
            durable,
            presence,
            access=access,
            reads=Reads(report=lambda event: None, clock=self.clock),
            clock=self.clock,
            loop=self.loop,
            max_subscriptions=1024,
        )
        threats = Threats(unblockable=(), announce=broker.announce, report=lambda event: None, clock=self.clock)
        sessions = Sessions(
            authentication,
            self.subscriptions,
            self.registry,
            node="micro",
            limits=self.limits,
            user_limits=user_limits,
            threats=threats,
            max_message_bytes=65_536,
            max_subscriptions=1024,
            clock=self.clock,
        )
        permissions = Permissions(report=lambda event: None, signal=lambda event: None, clock=self.clock)
        self.dispatcher = Dispatcher(permissions=permissions)
        self.dispatcher.add({Connect: sessions.connect, Publish: publisher.publish}, {})
        self.token = self.tokens.issue("ann", roles=["admin"], ttl_s=3600)
        self.api = KrinAPIService(
            RevolutionarySecurityService(
                authentication,
                user_limits,
                credentials=Credentials("krin"),
                threats=threats,
                report=lambda event: None,
                clock=self.clock,
            ),
            self.dispatcher,
            permissions=permissions,
            insights=InsightCoordinator(clock=self.clock),
            concurrency=Concurrency(),
            clock=self.clock,
        )

    def flush(self) -> None:
        """Every slice of a round, without the pauses."""
        self.fanout.flush()
        while self.fanout.writing:
            self.fanout.flush()

    def connection(self, codec: Codec = JSON) -> Connection:
        connection = Connection(
            NullSocket(),
            codec,
            address="127.0.0.1",
            dispatcher=self.dispatcher,
            touch=self.fanout.touch,
            on_end=self._leave,
            limits=self.limits,
            notes=Notes(),
            report=lambda event: None,
            clock=self.clock,
        )
        self.registry.add(connection)
        return connection

    def _leave(self, connection: Connection) -> None:
        self.subscriptions.unsubscribe_all(connection)
        self.registry.remove(connection)

    def close(self) -> None:
        self.loop.close()


def outbox(fanout: Fanout, codec: Codec = JSON, limit_bytes: int = 1 << 20) -> Outbox:
    return Outbox(
        NullSocket(),
        codec,
        limit_bytes=limit_bytes,
        touch=fanout.touch,
        on_overflow=lambda: None,
        on_pressure=lambda code, channel: None,
        notes=Notes(),
    )


def listening(fanout: Fanout, channel: str, count: int, codec: Codec = JSON) -> list[Listener]:
    made = []
    for _ in range(count):
        listener = Listener(outbox(fanout, codec))
        fanout.add(channel, listener)
        fanout.go_live(channel, listener, "e1")
        made.append(listener)
    return made


def publication(offset: int, *, channel: str = "prices:BTC-USD", key: str | None = None) -> Publication:
    message = JSON.message_decoder("PRICE_TICK")(
        b'{"type":"PRICE_TICK","data":{"symbol":"BTC-USD","bid":"67001.25","ask":"67001.50"}}'
    )
    assert isinstance(message, message_type("PRICE_TICK"))
    body = encode_body(message, key=key, publisher="feed")
    made = Publication(channel, "PRICE_TICK", body=body, timestamp=1732330000123, key=key, conflatable=True)
    made.place("e1", offset)
    return made
