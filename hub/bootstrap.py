"""The one place where parts meet: what the house is made of, in the order in which it is built."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.core import Metric

from hub import __version__
from hub.audit import AuditLog
from hub.audit_heads import CHANNEL as AUDIT_CHANNEL
from hub.audit_heads import AuditKey, Checkpoints
from hub.audit_verify import AuditVerification
from hub.auth.accounts import Accounts
from hub.auth.administration import Administration, known_roles
from hub.auth.api_keys import ApiKeys
from hub.auth.clients import ClientRegistry
from hub.auth.fetching import fetch
from hub.auth.keyring import KeyRing, KeyUnusable
from hub.auth.keys import Keys, KeySet, configured_keys
from hub.auth.lockout import Lockout
from hub.auth.multi_factor import MultiFactor
from hub.auth.oauth2 import AuthorizationServer
from hub.auth.passwords import Passwords
from hub.auth.providers import Provider, Providers
from hub.auth.revocations import TOPIC as REVOCATIONS
from hub.auth.revocations import RevocationWatch, Revoked
from hub.auth.sealing import Sealer, sealing_key
from hub.auth.service import Authentication
from hub.auth.sign_ins import SignIns
from hub.auth.tokens import Tokens
from hub.brokers.base import Broker
from hub.brokers.local import LocalBroker
from hub.brokers.redis import RedisBroker
from hub.caller import SYSTEM, Caller
from hub.channels.access import Access
from hub.channels.durable import DurableChannels
from hub.channels.fanout import Fanout
from hub.channels.history import ChannelReader
from hub.channels.publishing import Amplification, Publisher
from hub.channels.subscriptions import Subscriptions
from hub.clock import Clock, SystemClock
from hub.config import ConfigError, Settings
from hub.connections.burst import open_burst
from hub.connections.connection import Connection, ConnectionLimits
from hub.connections.directory import TOPIC as SOCKETS
from hub.connections.directory import Directory
from hub.connections.registry import Registry
from hub.dispatch import Dispatcher
from hub.edge.accounts import AccountRoutes
from hub.edge.administration import AdministrationRoutes
from hub.edge.envelope import KrinAPIService
from hub.edge.oauth import OAuthRoutes
from hub.edge.privacy import PrivacyRoutes
from hub.edge.rest import RestRoutes
from hub.edge.security import RevolutionarySecurityService
from hub.edge.sessions import Sessions
from hub.edge.websocket import WebSocketEndpoint
from hub.guard.addresses import networks
from hub.guard.events import SecurityEvents
from hub.guard.limits import SEARCH_COST, Limits, history_cost, table_of
from hub.guard.sharing import RedisCounters, Sharing
from hub.guard.threats import BLOCKED_MS, Threats
from hub.guard.threats import CHANNEL as THREAT_CHANNEL
from hub.guard.threats import TOPIC as THREATS
from hub.namespaces import Namespaces
from hub.observe.metrics import Metrics, Reader, counter, counters, gauge
from hub.permissions import Permissions
from hub.presence.service import TOPIC as PRESENCE
from hub.presence.service import PresenceService
from hub.privacy import ErasedList, Forgetting, OptOuts, PrivacyService, RetentionJob
from protocol.audit import AuditHead
from protocol.close_codes import CloseCode
from protocol.errors import ErrorCode, HubError
from protocol.messages import (
    Connect,
    History,
    Presence,
    Publish,
    Published,
    Refresh,
    Search,
    Subscribe,
    Unsubscribe,
)
from storage.api_keys import ApiKeyTable
from storage.audit import AuditTable
from storage.authorization_codes import AuthorizationCodes
from storage.consents import Consents
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.lineage import verify_lineage
from storage.messages import MessageLog
from storage.migrate import migrate
from storage.privacy import Privacy
from storage.retention import Retention
from storage.revocations import Kind, Revocations
from storage.second_factors import SecondFactors
from storage.shared_secrets import SECRET_BYTES, shared_secret
from storage.users import OAuthClients, RefreshTokens, Users

logger = logging.getLogger("krin")

TRADERS_FIRST = {"trader": 0, "agent": 1}
BROKER_START_S = 2.0
DRAIN_BATCH = 200
DRAIN_STEP_S = 0.05


class Hub(msgspec.Struct, kw_only=True, dict=True):
    """The services an edge or a command may use."""

    settings: Settings
    clock: Clock
    database: Database
    authentication: Authentication
    dispatcher: Dispatcher
    publisher: Publisher
    subscriptions: Subscriptions
    registry: Registry
    limits: Limits
    threats: Threats
    fanout: Fanout
    durable: DurableChannels
    broker: Broker
    websocket: WebSocketEndpoint
    rest: RestRoutes
    accounts: AccountRoutes
    privacy: PrivacyRoutes
    oauth: OAuthRoutes
    administration: AdministrationRoutes
    metrics: Metrics
    permissions: Permissions

    async def publish(
        self,
        channel: str,
        type: str,
        data: Any,
        *,
        caller: Caller = SYSTEM,
        key: str | None = None,
        coordination: dict[str, Any] | None = None,
    ) -> Published:
        """Publish from inside the hub, through the same door, checks and promises as everybody else."""
        message = {"type": type, "data": data} | ({"coordination": coordination} if coordination else {})
        command = Publish(id=1, channel=channel, message=msgspec.Raw(msgspec.json.encode(message)), key=key)
        published = self.dispatcher.handle(command, caller)
        result: Published = published if isinstance(published, Published) else await published
        return result

    def health(self) -> dict[str, Any]:
        """What works and what does not: OK, or DEGRADED with reasons."""
        reasons = []
        if not self.durable.available:
            reasons.append("postgres: durable publishing is refused")
        if not self.broker.available:
            reasons.append("redis: recoverable and latest publishing is refused; durable messages arrive late")
        return {
            "status": "DEGRADED" if reasons else "OK",
            "reasons": reasons,
            "node": self.settings.node,
            "version": __version__,
            "connections": len(self.registry),
        }

    @property
    def draining(self) -> bool:
        return self.websocket.draining

    async def drain(self) -> None:
        """Send every client away with a time to come back: trading clients first, spread over the drain window."""
        self.websocket.draining = True
        window_ms = int(self.settings.drain_timeout_s * 1000)
        connections = sorted(self.registry, key=lambda each: TRADERS_FIRST.get(each.caller.kind or "", 2))
        total = len(connections)
        for index in range(0, total, DRAIN_BATCH):
            for place, connection in enumerate(connections[index : index + DRAIN_BATCH], start=index):
                # Full spread: the first come back at once, the last at the end of the window.
                connection.close(CloseCode.DRAINING, retry_after_ms=100 + window_ms * place // max(total, 1))
            await self.clock.sleep(DRAIN_STEP_S)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[tuple[Database, EmbeddedPostgres | None]]:
    """The configured Postgres, or the embedded one of the data folder; migrated and checked for durability."""
    embedded = None
    async with AsyncExitStack() as inner:
        dsn = settings.database_url
        if dsn is None:
            embedded = EmbeddedPostgres(settings.data_dir)
            dsn = await inner.enter_async_context(embedded)
        database = await inner.enter_async_context(Database.open(dsn))
        for name in await migrate(database):
            logger.info("migrated: %s", name)
        await database.durability_settings()
        if (restored := await verify_lineage(database)) is not None:
            logger.warning("the database was restored (%s, now %s): every channel has a new epoch", *restored)
        yield database, embedded


@asynccontextmanager
async def open_hub(settings: Settings, *, clock: Clock | None = None) -> AsyncIterator[Hub]:
    """Build the hub, run its background tasks, and close everything in reverse.

    A background task that fails ends the hub with its error: a node that no longer hears must not keep its clients.
    """
    clock = clock or SystemClock()
    loop = asyncio.get_running_loop()
    keys = open_keys(settings, clock)  # first: a wrong key should stop the start before anything has begun
    tokens = make_tokens(settings, clock, keys)
    audit_key = load_audit_key(settings)
    sealer = make_sealer(settings)
    async with AsyncExitStack() as stack:
        database, embedded = await stack.enter_async_context(open_database(settings))
        writer = await stack.enter_async_context(database.writer())
        await make_privacy(settings, database, clock=clock).reapply()  # before anybody is served

        events = SecurityEvents()
        revoked = Revoked()
        passwords = Passwords()
        users = Users(database)
        api_keys = ApiKeys(ApiKeyTable(database), clock=clock)
        clients = ClientRegistry(OAuthClients(database), passwords)
        refresh_tokens = RefreshTokens(database)
        providers = Providers(
            Provider(name, policy, fetch=fetch, clock=clock) for name, policy in settings.auth.providers.items()
        )
        authentication = Authentication(
            tokens,
            passwords,
            users=users,
            refresh_tokens=refresh_tokens,
            api_keys=api_keys,
            providers=providers,
            revoked=revoked,
            revocations=Revocations(database),
            report=events.report,
            clock=clock,
        )
        authorization = AuthorizationServer(
            authentication,
            tokens,
            clients,
            api_keys,
            codes=AuthorizationCodes(database),
            refresh_tokens=refresh_tokens,
            report=events.report,
            clock=clock,
        )
        permissions = Permissions(report=events.report, clock=clock)
        audit_table = AuditTable(database)
        audit_log = AuditLog(audit_table, clock=clock)
        events.listen(audit_log.hear)
        access = Access(Namespaces(settings.namespaces), report=events.report)
        fanout = Fanout(loop, burst=stack.enter_context(open_burst(uring=settings.io_uring)))
        durable = DurableChannels(MessageLog(database, writer=writer), deliver=fanout.deliver, clock=clock)
        broker: Broker
        readers: list[Reader] = []
        if settings.redis_url:
            secret = await _bell_secret(settings, database)
            redis = RedisBroker(settings.redis_url, durable.receive, secret=secret, report=events.report, clock=clock)
            broker = redis
            readers.append(lambda: _measure_redis(redis))
        else:
            broker = LocalBroker(durable.receive, clock=clock, max_bytes=settings.limits.kept_bytes)
        durable.ring_with(broker)
        presence = PresenceService(loop, node=settings.node, announce=broker.announce, clock=clock)
        broker.listen(PRESENCE, presence.hear)
        registry = Registry(clock=clock, max_connections=settings.limits.connections)
        limits = Limits(
            table_of(settings.limits),
            exempt=networks(settings.limits.exempt_networks),
            address_connections=settings.limits.address_connections,
            user_connections=settings.limits.user_connections,
            report=events.report,
            clock=clock,
        )
        threats = Threats(
            unblockable=networks(settings.security.unblockable_networks),
            announce=broker.announce,
            report=events.report,
            clock=clock,
        )
        events.listen(threats.hear)
        broker.listen(THREATS, threats.hear_node)
        limits.slow_by(threats.slowness)
        sharing = None
        if settings.redis_url:
            counters_of_all = RedisCounters(settings.redis_url)
            stack.push_async_callback(counters_of_all.aclose)
            sharing = Sharing(limits, counters_of_all, clock=clock)
        publisher = Publisher(
            broker,
            durable,
            access=access,
            clock=clock,
            rate_per_s=settings.limits.publishes_per_s,
            limits=limits,
            amplification=(
                Amplification(settings.limits.deliveries_per_s, fanout.listeners)
                if settings.limits.deliveries_per_s is not None
                else None
            ),
        )
        subscriptions = Subscriptions(
            fanout,
            broker,
            durable,
            presence,
            access=access,
            clock=clock,
            loop=loop,
            max_subscriptions=settings.limits.subscriptions,
        )
        reader = ChannelReader(broker, durable, presence, access=access)
        connection_limits = ConnectionLimits(
            bytes_per_s=settings.limits.bytes_per_s,
            outbox_bytes=settings.limits.outbox_bytes,
            ping_interval_s=settings.ping_interval_s,
            publishes_per_s=settings.limits.publishes_per_s,
        )
        sessions = Sessions(
            authentication,
            subscriptions,
            registry,
            node=settings.node,
            limits=connection_limits,
            user_limits=limits,
            threats=threats,
            max_message_bytes=settings.limits.message_bytes,
            max_subscriptions=settings.limits.subscriptions,
            clock=clock,
        )

        async def forget(theirs: Callable[[str], bool]) -> None:
            await durable.forget(theirs)
            await broker.forget(theirs)

        forgetting = Forgetting(forget, clock=clock)

        def review(touched: set[tuple[Kind, str]]) -> None:
            sessions.review(touched)
            forgetting.hear(touched)

        watch = RevocationWatch(revoked, Revocations(database), announce=broker.announce, review=review, clock=clock)
        accounts = Accounts(
            authentication,
            passwords,
            MultiFactor(SecondFactors(database), sealer, issuer=settings.auth.issuer, clock=clock),
            Lockout(clock=clock, report=events.report),
            users=users,
            ring=watch.ring,
            report=events.report,
            clock=clock,
        )
        broker.listen(REVOCATIONS, watch.hear)
        await watch.look()  # before the first token is looked at
        directory = Directory(
            registry, node=settings.node, nodes=lambda: presence.nodes, announce=broker.announce, clock=clock
        )
        broker.listen(SOCKETS, directory.hear)
        administration = Administration(
            authentication,
            users=Users(database),
            revocations=Revocations(database),
            access=access,
            roles=known_roles(settings.namespaces),
            ring=watch.ring,
            clock=clock,
        )
        sign_ins = SignIns(
            authentication,
            refresh_tokens=RefreshTokens(database),
            revocations=Revocations(database),
            directory=directory,
            ring=watch.ring,
            clock=clock,
        )
        verification = AuditVerification(audit_table, file=settings.checkpoint_file, key=audit_key.public)
        dispatcher = Dispatcher(
            {
                Connect: sessions.connect,
                Refresh: sessions.refresh,
                Subscribe: limits.guarded("subscribe", sessions.subscribe),
                Unsubscribe: sessions.unsubscribe,
                Publish: publisher.publish,
                History: limits.guarded("read", reader.history, cost=history_cost),
                Presence: limits.guarded("read", reader.presence),
                Search: limits.guarded("read", _search, cost=lambda _: SEARCH_COST),
            },
            {
                "channels.list": lambda params, caller: reader.channels(caller),
                "audit.verify": lambda params, caller: verification.call(),
                "hub.time": lambda params, caller: {"time": clock.now_ms()},
                "auth.explain": administration.explain,
            },
            permissions=permissions,
        )

        def leave(connection: Connection) -> None:
            subscriptions.unsubscribe_all(connection)
            registry.remove(connection)

        retention = RetentionJob(stored_retention(settings, database), stored_privacy(settings, database), clock=clock)
        consents = Consents(database)
        opt_outs = OptOuts(consents, clock=clock)
        service = KrinAPIService(
            RevolutionarySecurityService(authentication, limits, threats=threats, report=events.report, clock=clock),
            dispatcher,
            permissions=permissions,
            clock=clock,
            opted_out=opt_outs.hear,
        )
        hub = Hub(
            settings=settings,
            clock=clock,
            database=database,
            authentication=authentication,
            dispatcher=dispatcher,
            publisher=publisher,
            subscriptions=subscriptions,
            registry=registry,
            limits=limits,
            threats=threats,
            fanout=fanout,
            durable=durable,
            broker=broker,
            websocket=WebSocketEndpoint(
                dispatcher,
                authentication,
                registry,
                fanout,
                on_end=leave,
                limits=connection_limits,
                report=events.report,
                clock=clock,
            ),
            rest=RestRoutes(service, dispatcher, max_body_bytes=settings.limits.message_bytes),
            accounts=AccountRoutes(service, accounts, max_body_bytes=settings.limits.message_bytes),
            administration=AdministrationRoutes(
                service, administration, sign_ins, permissions=permissions, max_body_bytes=settings.limits.message_bytes
            ),
            oauth=OAuthRoutes(
                authorization,
                clients,
                authentication,
                tokens,
                dispatcher,
                issuer=settings.auth.issuer,
                max_body_bytes=settings.limits.message_bytes,
            ),
            privacy=PrivacyRoutes(
                service,
                make_privacy(settings, database, clock=clock, ring=watch.ring),
                consents,
                audit_table,
                permissions=permissions,
                max_body_bytes=settings.limits.message_bytes,
                clock=clock,
            ),
            metrics=Metrics(
                [
                    lambda: _measure(
                        registry, fanout, durable, dispatcher, subscriptions, audit_log, retention, limits, threats
                    ),
                    *readers,
                ]
            ),
            permissions=permissions,
        )

        async def announce(head: AuditHead) -> None:
            await hub.publish(AUDIT_CHANNEL, "AUDIT_HEAD", msgspec.to_builtins(head))

        checkpoints = Checkpoints(
            audit_table,
            key=audit_key,
            file=settings.checkpoint_file,
            node=settings.node,
            announce=announce,
            report=events.report,
            clock=clock,
        )
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(audit_log.run(), name="audit log"),
                group.create_task(checkpoints.run(), name="audit checkpoints"),
                group.create_task(forgetting.run(), name="forgetting"),
                group.create_task(opt_outs.run(), name="opt-outs"),
                group.create_task(retention.run(), name="retention"),
                group.create_task(registry.run(), name="connections"),
                group.create_task(broker.run(), name="broker"),
                group.create_task(presence.run(), name="presence"),
                group.create_task(watch.run(), name="revocations"),
                group.create_task(durable.commit(), name="durable commit"),
                group.create_task(durable.mend(), name="durable mend"),
                group.create_task(durable.sweep(), name="durable sweep"),
            ]
            tasks += [group.create_task(each.run(), name="identity provider") for each in providers.all]
            if isinstance(keys, KeyRing):
                tasks.append(group.create_task(keys.run(), name="keys"))
            tell_threat = partial(hub.publish, THREAT_CHANNEL, "THREAT_DETECTED")
            watching = threats.run(tell=tell_threat, send_away=partial(send_blocked_away, registry, threats))
            tasks.append(group.create_task(watching, name="threats"))
            if sharing is not None:
                tasks.append(group.create_task(sharing.run(), name="shared limits"))
            if embedded is not None:
                tasks.append(group.create_task(embedded.run(), name="embedded postgres"))
            try:
                with contextlib.suppress(TimeoutError):  # without Redis the node is degraded, not dead
                    async with asyncio.timeout(BROKER_START_S):
                        await broker.connected()
                yield hub
            finally:
                for task in tasks:
                    task.cancel()


def send_blocked_away(registry: Registry, threats: Threats) -> None:
    """End the connections of whoever may not be here any more."""
    for connection in registry:
        if threats.assess(connection.address, connection.caller.user).action == "BLOCK":
            connection.close(CloseCode.RATE_LIMITED, retry_after_ms=BLOCKED_MS)


async def _bell_secret(settings: Settings, database: Database) -> bytes:
    """What seals the messages between nodes: from the configured file, else shared through Postgres."""
    if settings.redis.bell_key_file is None:
        return await shared_secret(database, "bells")
    try:
        secret = Path(settings.redis.bell_key_file).read_bytes().strip()
    except OSError as failure:
        raise ConfigError(f"[redis] bell_key_file cannot be read: {failure.strerror}") from None
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"[redis] bell_key_file must hold at least {SECRET_BYTES} bytes")
    return secret


def make_tokens(settings: Settings, clock: Clock, keys: Keys | None = None) -> Tokens:
    """The issuer and verifier of access tokens. Raises ConfigError for a key that cannot be used."""
    auth = settings.auth
    return Tokens(keys or open_keys(settings, clock), clock=clock, issuer=auth.issuer, audience=auth.audience)


def open_keys(settings: Settings, clock: Clock) -> KeySet | KeyRing:
    """The keys that are configured, or the ring of the data folder. Raises ConfigError."""
    auth = settings.auth
    try:
        if auth.signing_key_file is None and auth.verifying_key_file is None:
            return KeyRing(settings.data_dir, algorithm=auth.algorithm, clock=clock)
        return configured_keys(
            auth.algorithm,
            signing=Path(auth.signing_key_file).read_bytes() if auth.signing_key_file else None,
            verifying=Path(auth.verifying_key_file).read_bytes() if auth.verifying_key_file else None,
        )
    except OSError as failure:
        raise ConfigError(f"a key file cannot be read: {failure.strerror}") from None
    except KeyUnusable as failure:
        raise ConfigError(str(failure)) from None
    except ValueError as failure:
        raise ConfigError(f"[auth] {failure}") from None


def stored_privacy(settings: Settings, database: Database) -> Privacy:
    """Raises ConfigError for a key that cannot be used."""
    own = {
        name
        for name, policy in settings.namespaces.items()
        if any(entry.endswith(":own") for entry in (*policy.publish, *policy.subscribe))
    }
    sealer = make_sealer(settings)
    return Privacy(
        database,
        seal=lambda record, owner: sealer.seal(record, owner=owner),
        own=own,
        hold_days=settings.retention.legal_hold_days,
    )


def open_hold(settings: Settings) -> Callable[[bytes, bytes], bytes]:
    """(sealed record, owner) -> record. Raises ConfigError; the function Unreadable."""
    sealer = make_sealer(settings)
    return lambda record, owner: sealer.open(record, owner=owner)


def stored_retention(settings: Settings, database: Database) -> Retention:
    days = settings.retention
    return Retention(database, MessageLog(database), days=days.by_table(), message_days=days.message_days)


def make_privacy(
    settings: Settings, database: Database, *, clock: Clock, ring: Callable[[], None] = lambda: None
) -> PrivacyService:
    """Raises ConfigError for a key that cannot be used."""
    erased = ErasedList(settings.data_dir / "privacy" / "erased.jsonl", key=_key_of(settings, "erased.key"))
    return PrivacyService(stored_privacy(settings, database), erased, clock=clock, ring=ring)


def _key_of(settings: Settings, name: str) -> bytes:
    try:
        return sealing_key(settings.data_dir / "keys" / name, create=True)
    except ValueError as failure:
        raise ConfigError(str(failure)) from None


def load_audit_key(settings: Settings) -> AuditKey:
    """The key that signs the audit log's tree heads. Raises ConfigError."""
    return AuditKey(_key_of(settings, "audit.key"))


def make_sealer(settings: Settings) -> Sealer:
    """For the secrets in the database that must be read again. Raises ConfigError."""
    given = settings.auth.encryption_key_file
    path = Path(given) if given else settings.data_dir / "keys" / "encryption.key"
    try:
        return Sealer(sealing_key(path, create=given is None))
    except ValueError as failure:
        raise ConfigError(str(failure)) from None


def _search(command: Any, caller: Any, codec: Any) -> Any:
    raise HubError(ErrorCode.BAD_REQUEST, "this hub has no search index")


def _measure(
    registry: Registry,
    fanout: Fanout,
    durable: DurableChannels,
    dispatcher: Dispatcher,
    subscriptions: Subscriptions,
    audit_log: AuditLog,
    retention: RetentionJob,
    limits: Limits,
    threats: Threats,
) -> Iterable[Metric]:
    connections = list(registry)
    yield gauge("krin_connections", "Open WebSocket connections.", len(connections))
    yield gauge("krin_subscriptions", "Subscriptions on this node.", sum(len(c.subscriptions) for c in connections))
    yield gauge("krin_channels", "Channels with listeners on this node.", len(fanout.channels()))
    yield gauge("krin_outbox_bytes", "Bytes that wait for clients.", sum(c.outbox.waiting_bytes for c in connections))
    yield gauge("krin_tasks", "Tasks of the event loop.", len(asyncio.all_tasks()))
    yield gauge("krin_durable_available", "1 while durable publishing works.", float(durable.available))
    yield counter("krin_connections_accepted", "Connections since start.", registry.accepted)
    yield counter("krin_deliveries", "Publications handed to subscribers.", fanout.delivered)
    yield counter("krin_conflated", "Values merged for slow readers.", sum(c.outbox.conflated for c in connections))
    yield counter("krin_durable_commits", "Group commits.", durable.commits)
    yield counter("krin_durable_committed", "Durable messages committed.", durable.committed)
    yield counter("krin_durable_mended", "Durable messages read from Postgres to close a gap.", durable.mended)
    yield gauge("krin_audit_waiting", "Audit entries that wait for Postgres.", audit_log.waiting)
    yield counter("krin_audit_written", "Security events written to the audit log.", audit_log.written)
    yield counter("krin_audit_lost", "Security events that the audit log could not keep.", audit_log.lost)
    yield gauge("krin_privacy_overdue", "Requests of people that are late.", retention.overdue)
    yield counters("krin_retention_deleted", "Rows that had outlived their time.", "table", retention.deleted)
    yield counters("krin_commands", "Commands by type.", "command", dispatcher.commands)
    yield counters("krin_errors", "Errors by name.", "error", dispatcher.errors)
    yield counters("krin_threats", "Patterns of hostile behaviour found.", "pattern", threats.detected)
    yield counters("krin_rate_limited", "Refusals by limit.", "limit", limits.refused)
    yield counters("krin_recoveries", "Subscriptions by recovery outcome.", "outcome", subscriptions.recoveries)


def _measure_redis(broker: RedisBroker) -> Iterable[Metric]:
    yield gauge("krin_redis_available", "1 while every Redis server answers.", float(broker.available))
    yield counter("krin_bell_reconnects", "Lost connections to Redis.", broker.reconnects)
    yield counter("krin_redis_mended", "Messages read from Redis to close a gap.", broker.mended)
    yield counters("krin_bells_rejected", "Messages on Redis that no node sealed.", "reason", broker.rejected)
