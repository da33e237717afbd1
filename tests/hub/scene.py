"""A whole hub without a server: the real parts joined as in hub.bootstrap, sockets that are recorded, a manual clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from clock import ManualClock
from doubles import RecordingSocket

from hub.audit.reads import Reads
from hub.auth.api_keys import ApiKeys
from hub.auth.dpop import TOPIC as PROOFS
from hub.auth.dpop import Proofs
from hub.auth.keys import configured_keys
from hub.auth.passwords import Passwords
from hub.auth.providers import Providers
from hub.auth.revocations import TOPIC as REVOCATIONS
from hub.auth.revocations import RevocationWatch, Revoked
from hub.auth.service import Authentication
from hub.auth.tokens import Tokens
from hub.brokers.local import LocalBroker
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.explaining import Explainer
from hub.channels.fanout import Fanout
from hub.channels.history import ChannelReader
from hub.channels.publishing import Publisher
from hub.channels.replaying import Replays
from hub.channels.stored import StoredMessages
from hub.channels.subscriptions import Subscriptions
from hub.clock import Clock
from hub.config import LOOPBACK, LimitSettings
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.registry import Registry
from hub.connections.verdicts import Notes
from hub.dispatch import Dispatcher
from hub.edge.sessions import Sessions
from hub.guard.addresses import networks
from hub.guard.events import SecurityEvent
from hub.guard.limits import Limits, table_of
from hub.guard.threats import Threats
from hub.namespaces import DEFAULTS, Namespace, Namespaces
from hub.permissions import Permissions
from hub.presence.service import PresenceService
from protocol.codec import JSON, Codec
from protocol.messages import Connect, Explain, History, Presence, Publish, Refresh, Replay, Subscribe, Unsubscribe
from storage.api_keys import ApiKeyTable
from storage.database import Database
from storage.messages import MessageLog
from storage.revocations import Revocations
from storage.users import RefreshTokens, Users

KEY = bytes(range(32))


def unlimited(clock: Clock) -> Limits:
    """Limits that leave loopback alone, where every client of a scene is."""
    return Limits(
        table_of(LimitSettings()),
        exempt=networks(LOOPBACK),
        address_connections=100,
        user_connections=20,
        report=lambda event: None,
        clock=clock,
    )


class Scene:
    """The parts of one node. `client()` makes a connection, `settle` lets everything under way come to rest."""

    def __init__(
        self,
        database: Database,
        *,
        log: MessageLog | None = None,
        namespaces: dict[str, Namespace] | None = None,
        clock: ManualClock | None = None,
        providers: Providers = Providers(),
        unblockable: tuple[str, ...] = LOOPBACK,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.clock = clock or ManualClock(now_ms=time.time_ns() // 1_000_000)
        self.tokens = Tokens(configured_keys("HS256", signing=KEY), clock=self.clock)
        self.log = log or MessageLog(database)
        self.fanout = Fanout(loop)
        self.durable = DurableChannels(self.log, deliver=self.fanout.deliver, clock=self.clock)
        self.broker = LocalBroker(self.durable.receive, clock=self.clock)
        self.durable.ring_with(self.broker)
        self.presence = PresenceService(loop, node="n1", announce=self.broker.announce, clock=self.clock)
        self.registry = Registry(clock=self.clock, max_connections=1_000)
        self.events: list[SecurityEvent] = []
        self.signals: list[SecurityEvent] = []
        self.namespaces = Namespaces(DEFAULTS | (namespaces or {}))
        self.access = Access(self.namespaces, report=self.events.append)
        self.user_limits = unlimited(self.clock)
        self.threats = Threats(
            unblockable=networks(unblockable),
            announce=self.broker.announce,
            report=lambda event: None,
            clock=self.clock,
        )
        self.publisher = Publisher(
            self.broker,
            self.durable,
            access=self.access,
            clock=self.clock,
            rate_per_s=100_000,
            limits=self.user_limits,
        )
        self.reads = Reads(report=self.events.append, clock=self.clock)
        self.subscriptions = Subscriptions(
            self.fanout,
            self.broker,
            self.durable,
            self.presence,
            access=self.access,
            reads=self.reads,
            clock=self.clock,
            loop=loop,
            max_subscriptions=50,
        )
        stored = StoredMessages(self.broker, self.durable)
        self.replays = Replays(self.subscriptions, stored, reads=self.reads, clock=self.clock)
        self.reader = ChannelReader(
            self.broker,
            self.durable,
            self.presence,
            access=self.access,
            reads=self.reads,
            signal=self.signals.append,
        )
        self.notes = Notes(limit=64)
        self.limits = ConnectionLimits(outbox_bytes=1 << 20, ping_interval_s=25.0, publishes_per_s=100_000)
        self.api_keys = ApiKeys(ApiKeyTable(database), clock=self.clock)
        proofs = Proofs(announce=self.broker.announce, clock=self.clock)
        self.broker.listen(PROOFS, proofs.hear)
        self.revoked = Revoked()
        self.revocations = Revocations(database)
        self.authentication = Authentication(
            self.tokens,
            Passwords(),
            users=Users(database),
            refresh_tokens=RefreshTokens(database),
            api_keys=self.api_keys,
            providers=providers,
            proofs=proofs,
            revoked=self.revoked,
            revocations=self.revocations,
            report=self.events.append,
            clock=self.clock,
        )
        self.sessions = Sessions(
            self.authentication,
            self.subscriptions,
            self.registry,
            node="n1",
            limits=self.limits,
            user_limits=self.user_limits,
            threats=self.threats,
            max_message_bytes=65_536,
            max_subscriptions=50,
            clock=self.clock,
        )
        self.watch = RevocationWatch(
            self.revoked,
            self.revocations,
            announce=self.broker.announce,
            review=self.sessions.review,
            signal=self.signals.append,
            clock=self.clock,
        )
        self.broker.listen(REVOCATIONS, self.watch.hear)
        permissions = Permissions(report=self.events.append, signal=self.signals.append, clock=self.clock)
        self.explainer = Explainer(
            self.registry,
            self.fanout,
            stored,
            notes=self.notes,
            namespaces=self.namespaces,
            access=self.access,
            permissions=permissions,
        )
        self.dispatcher = Dispatcher(permissions=permissions)
        self.dispatcher.add(
            {
                Connect: self.sessions.connect,
                Refresh: self.sessions.refresh,
                Subscribe: self.sessions.subscribe,
                Unsubscribe: self.sessions.unsubscribe,
                Publish: self.publisher.publish,
                History: self.reader.history,
                Replay: self.replays.replay,
                Explain: self.explainer.explain,
                Presence: self.reader.presence,
            },
            {},
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scene]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(work)
                for work in (
                    self.broker.run(),
                    self.durable.commit(),
                    self.durable.mend(),
                    self.durable.sweep(),
                    self.presence.run(),
                    self.registry.run(),
                    self.watch.run(),
                )
            ]
            await self.clock.until_somebody_sleeps(6)
            yield self
            for task in tasks:
                task.cancel()

    def leave(self, connection: Connection) -> None:
        self.subscriptions.unsubscribe_all(connection)
        self.registry.remove(connection)

    def token(self, user: str = "ann", *roles: str, ttl_s: int = 600, teams: tuple[str, ...] = ("*",)) -> str:
        return self.tokens.issue(user, roles=roles or ("admin",), teams=teams, ttl_s=ttl_s, principal="operator")

    def socket(self, codec: Codec = JSON) -> Client:
        """A client that has said nothing yet."""
        return Client(self, codec)

    async def client(self, user: str = "ann", *roles: str, codec: Codec = JSON, **fields: Any) -> Client:
        """A client whose `connect` has been answered."""
        made = self.socket(codec)
        reply = await made.ask("connect", token=self.token(user, *roles), **fields)
        assert "result" in reply, reply
        return made

    async def tick(self, seconds: float = 1.0, times: int = 1) -> None:
        """Let the clock move on and everybody who slept do their round."""
        for _ in range(times):
            self.clock.advance(seconds)
            await self.clock.until_somebody_sleeps(5)


class Client:
    """A connection with a recorded socket: what it sends, and what came back."""

    def __init__(self, scene: Scene, codec: Codec = JSON) -> None:
        self.scene = scene
        self.socket = RecordingSocket()
        self.number = 0
        self.connection = Connection(
            self.socket,
            codec,
            address="127.0.0.1",
            url="https://hub.example/ws",
            dispatcher=scene.dispatcher,
            touch=scene.fanout.touch,
            on_end=scene.leave,
            limits=scene.limits,
            notes=scene.notes,
            report=scene.threats.hear,
            clock=scene.clock,
        )
        self.socket.outbox = self.connection.outbox
        self.socket.on_block = self.connection.blocked
        scene.registry.add(self.connection)

    def send(self, *messages: dict[str, Any]) -> None:
        """One frame."""
        whole = list(messages) if len(messages) != 1 else messages[0]
        if self.connection.codec is JSON:
            self.connection.receive(msgspec.json.encode(whole).decode())
        else:
            self.connection.receive(msgspec.msgpack.encode(whole))

    def command(self, type: str, **fields: Any) -> dict[str, Any]:
        self.number += 1
        return {"type": type, "id": self.number, **fields}

    async def ask(self, type: str, **fields: Any) -> dict[str, Any]:
        command = self.command(type, **fields)
        self.send(command)
        return await self.reply(command["id"])

    async def reply(self, number: int) -> dict[str, Any]:
        return await self.until(lambda each: each["type"] == "reply" and each["id"] == number)

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message of that kind, waited for."""
        async with asyncio.timeout(5):
            while True:
                for each in self.messages:
                    if wanted(each):
                        return each
                await asyncio.sleep(0.001)

    async def until_offset(self, channel: str, offset: int) -> None:
        """Until a publication, live or recovered, has come this far."""
        async with asyncio.timeout(5):
            while offset not in self.seen(channel):
                await asyncio.sleep(0.001)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return self.socket.messages()

    def replies(self, number: int) -> list[dict[str, Any]]:
        return [each for each in self.messages if each["type"] == "reply" and each["id"] == number]

    def seen(self, channel: str) -> list[int]:
        """Every offset of a channel in the order in which the application meets it, recovered ones included."""
        return [each["offset"] for each in self.publications(channel)]

    def publications(self, channel: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in self.messages:
            result = each.get("result") or {}
            joined = [result, *result.get("subscriptions", {}).values()] if isinstance(result, dict) else []
            for answer in joined:
                if answer.get("channel") == channel and "recovered" in answer:
                    found += answer["messages"]
            if each.get("channel") == channel and "offset" in each and "data" in each:
                found.append(each)
        return found

    async def publish(self, channel: str, type: str = "NOTE", data: Any = None, **fields: Any) -> dict[str, Any]:
        reply = await self.ask("publish", channel=channel, message={"type": type, "data": data or {}}, **fields)
        assert "result" in reply, reply
        found: dict[str, Any] = reply["result"]
        return found
