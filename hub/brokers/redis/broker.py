"""The contract (`base.Broker`) over Redis: finds the server of a channel, and keeps subscriptions where they belong."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError, ResponseError

from hub.brokers.base import Deliver, Recovered
from hub.brokers.redis.mirror import Mirror
from hub.brokers.redis.payloads import Payloads, base, channel_of
from hub.brokers.redis.publishing import Pending
from hub.brokers.redis.refusals import away
from hub.brokers.redis.seals import NotSealed, Seals, Seen
from hub.brokers.redis.server import Server
from hub.brokers.redis.slots import Cluster, OneServer, Topology
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent
from hub.namespaces import Namespace
from hub.observe.metrics import Histogram
from hub.publication import Publication
from hub.redis_url import is_cluster
from protocol.messages import Published

CONTROL = "krin:all"
CONTROL_NAME = CONTROL.encode()  # as Redis names it
REPORT_INTERVAL_S = 10.0


class RedisBroker:
    """See `base.Broker` for the contract."""

    def __init__(self, url: str, deliver: Deliver, *, secret: bytes, report: Report, clock: Clock) -> None:
        """`secret` is known to all nodes of the cluster and to nobody else: it seals what they tell each other."""
        self._deliver = deliver
        self._report = report
        self._clock = clock
        self._payloads = Payloads(Seals(secret), clock=clock)
        self._mirror = Mirror(deliver, payloads=self._payloads, ask_reading=self._ask_reading, clock=clock)
        self._handlers: dict[str, Callable[[bytes], None]] = {}
        self._seen = Seen()
        self.round_trip_ms = Histogram()
        self._sharded = is_cluster(url)
        self._topology: Topology = (
            Cluster(url, self._make, on_change=self._settle, clock=clock)
            if self._sharded
            else OneServer(url, self._make)
        )
        self._subscribed: dict[str, Server] = {}  # where Redis has confirmed what
        self._connected = asyncio.Event()
        self._reported_at = -REPORT_INTERVAL_S
        self.rejected: Counter[str] = Counter({"forged": 0, "replayed": 0, "malformed": 0})

    @property
    def available(self) -> bool:
        servers = self._topology.servers
        return bool(servers) and all(server.available for server in servers)

    @property
    def reconnects(self) -> int:
        return sum(server.reconnects for server in self._topology.servers)

    @property
    def mended(self) -> int:
        """Messages read from histories to close gaps."""
        return self._mirror.mended

    # --- publishing ---

    def publish(
        self, publication: Publication, policy: Namespace, *, idempotency_key: str | None = None
    ) -> asyncio.Future[Published]:
        server = self._server_of(publication.channel)
        if server is None:
            raise away()
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        server.publish(Pending(publication, policy, idempotency_key, future))
        return future

    def ring(self, publication: Publication) -> None:
        self._deliver(publication)  # listeners here need no bell
        if (server := self._server_of(publication.channel)) is not None:
            server.tell(base(publication.channel), self._payloads.bell(publication))

    def announce(self, topic: str, payload: bytes) -> None:
        server = self._topology.server_of(CONTROL)
        if server is not None and server.available:
            server.tell(CONTROL, self._payloads.announcement(topic, payload))

    # --- listening ---

    def listen(self, topic: str, handler: Callable[[bytes], None]) -> None:
        self._handlers[topic] = handler

    def subscribe(self, channel: str, policy: Namespace) -> asyncio.Future[None] | None:
        server = self._server_of(channel)
        followed = self._mirror.get(channel)
        if followed is None:
            followed = self._mirror.follow(channel, policy)
            if server is not None:
                server.subscribe([base(channel)])
        if followed.ready.done():
            return None
        if server is None:
            if policy.durable:
                return None  # the log tells what missed bells would have
            self._mirror.lost(channel)
        return followed.ready

    def unsubscribe(self, channel: str) -> None:
        self._mirror.leave(channel)
        name = base(channel)
        if (server := self._subscribed.pop(name, None) or self._server_of(channel)) is not None:
            server.unsubscribe([name])

    def recover(
        self, channel: str, policy: Namespace, *, epoch: str | None, offset: int, limit: int
    ) -> Recovered | asyncio.Future[Recovered]:
        return self._mirror.recover(channel, epoch=epoch, offset=offset, limit=limit)

    def history(
        self, channel: str, policy: Namespace, *, after: int, limit: int, reverse: bool
    ) -> Recovered | asyncio.Future[Recovered]:
        at_hand = self._mirror.history(channel, after=after, limit=limit, reverse=reverse)
        if at_hand is not None:
            return at_hand
        return asyncio.ensure_future(self._history(channel, policy, after, limit, reverse))

    async def _history(self, channel: str, policy: Namespace, after: int, limit: int, reverse: bool) -> Recovered:
        server = self._server_of(channel)
        if server is None:
            raise away()
        try:
            [answer] = await server.read([(channel, policy, policy.history_size)])
        except (RedisError, OSError, TimeoutError):
            raise away() from None
        if isinstance(answer, ResponseError):
            raise away()
        kept = self._mirror.kept(channel, policy, answer)
        kept.expire(self._clock.now_ms())
        return kept.read(after=after, limit=limit, reverse=reverse)

    async def forget(self, theirs: Callable[[str], bool]) -> None:
        self._mirror.forget(theirs)
        if not self.available:
            raise away()
        try:
            for server in self._topology.servers:
                for channel in await server.channels():
                    await server.forget(channel, theirs)
        except (RedisError, OSError, TimeoutError):
            raise away() from None

    async def channels(self) -> list[str]:
        """Every channel Redis keeps something of."""
        if not self.available:
            raise away()
        try:
            return [name for server in self._topology.servers for name in await server.channels()]
        except (RedisError, OSError, TimeoutError):
            raise away() from None

    async def connected(self) -> None:
        await self._connected.wait()

    async def run(self) -> None:
        await self._topology.run()

    # --- what the servers tell ---

    def arrived(self, server: Server) -> None:
        server.subscribe(name for name in self._wanted() if self._topology.server_of(name) is server)
        if self.available:
            self._connected.set()

    def lost(self, server: Server) -> None:
        self._subscribed = {name: other for name, other in self._subscribed.items() if other is not server}
        self._topology.look_again()
        for channel in list(self._mirror):
            if self._topology.server_of(base(channel)) is server:
                self._mirror.lost(channel)

    def confirmed(self, server: Server, where: bytes) -> None:
        name = where.decode()
        self._subscribed[name] = server
        if name != CONTROL:
            self._mirror.confirmed(channel_of(where))

    def dropped(self, server: Server, where: bytes) -> None:
        if self._subscribed.get(where.decode()) is server:  # not the answer to our own wish
            del self._subscribed[where.decode()]
            self._topology.look_again()

    def moved(self) -> None:
        self._topology.look_again()

    def heard(self, where: bytes, payload: bytes) -> None:
        try:
            if where == CONTROL_NAME:
                topic, body = self._payloads.open_announcement(payload, self._seen)
                if (handler := self._handlers.get(topic)) is not None:
                    handler(body)
            else:
                self._mirror.receive(channel_of(where), payload)
        except NotSealed as refusal:
            self._reject(where, refusal.reason)

    async def read(self, server: Server, channels: set[str]) -> None:
        for channel in await self._mirror.read(server, channels):
            self._mirror.lost(channel)
            if self._mirror.get(channel) is None:
                self.unsubscribe(channel)
            self._topology.look_again()

    # ---

    def _make(self, url: str) -> Server:
        return Server(
            url,
            self,
            sharded=self._sharded,
            payloads=self._payloads,
            round_trip_ms=self.round_trip_ms,
            clock=self._clock,
        )

    def _server_of(self, channel: str) -> Server | None:
        """Only if it answers."""
        server = self._topology.server_of(base(channel))
        return server if server is not None and server.available else None

    def _wanted(self) -> Iterator[str]:
        yield CONTROL
        for channel in self._mirror:
            yield base(channel)

    def _settle(self) -> None:
        """Bring every subscription to the server that has its slot now. What is under way may be asked for twice."""
        for name in self._wanted():
            server = self._topology.server_of(name)
            if server is not None and server.available and (former := self._subscribed.get(name)) is not server:
                if former is not None:
                    former.unsubscribe([name])
                server.subscribe([name])

    def _ask_reading(self, channel: str) -> bool:
        server = self._server_of(channel)
        if server is not None:
            server.ask_reading(channel)
        return server is not None

    def _reject(self, where: bytes, reason: str) -> None:
        """Counted, and reported now and then: whoever may publish on our Redis may do it often."""
        self.rejected[reason] += 1
        now = self._clock.monotonic()
        if now - self._reported_at >= REPORT_INTERVAL_S:
            self._reported_at = now
            self._report(
                SecurityEvent(
                    name="malicious_extraneous",
                    target=where.decode(errors="replace"),
                    allowed=False,
                    severity="CRITICAL",
                    detail={"what": "bell", "reason": reason, "rejected": sum(self.rejected.values())},
                )
            )
