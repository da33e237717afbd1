"""Which servers there are, and whose a channel is: one for all, or a Redis Cluster whose slots may move."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from hub.brokers.redis.publishing import COMMAND_TIMEOUT_S
from hub.brokers.redis.server import READ_TIMEOUT_S, RETRY_S, Server
from hub.clock import Clock
from hub.redis_url import at, servers

logger = logging.getLogger("krin.redis")

SLOTS = 16_384
LOOK_INTERVAL_S = 5.0
LOOK_PAUSE_S = 0.1  # between two looks, however often a server says that a slot has moved

Make = Callable[[str], Server]


class Topology(Protocol):
    @property
    def servers(self) -> Collection[Server]: ...

    def server_of(self, name: str) -> Server | None:
        """The server that a key or a channel of Redis belongs to; None while nobody has its slot."""
        ...

    def look_again(self) -> None:
        """Something moved."""
        ...

    async def run(self) -> None:
        """Run the servers."""
        ...


class OneServer:
    def __init__(self, url: str, make: Make) -> None:
        self._server = make(url)
        self.servers = (self._server,)

    def server_of(self, name: str) -> Server | None:
        return self._server

    def look_again(self) -> None:
        pass

    async def run(self) -> None:
        await self._server.run()


class Cluster:
    """Asks for the slots when something moved, and now and then. Servers come and go with them.

    `on_change` is called after each look: subscriptions may belong elsewhere now.
    """

    def __init__(self, url: str, make: Make, *, on_change: Callable[[], None], clock: Clock) -> None:
        self._seeds = servers(url)
        self._make = make
        self._on_change = on_change
        self._clock = clock
        self._by_url: dict[str, tuple[Server, asyncio.Task[None]]] = {}
        self._slots: list[Server | None] = [None] * SLOTS
        self._moved = asyncio.Event()
        self.servers: tuple[Server, ...] = ()

    def server_of(self, name: str) -> Server | None:
        return self._slots[key_slot(name.encode())]

    def look_again(self) -> None:
        self._moved.set()

    async def run(self) -> None:
        pause = RETRY_S[0]
        async with asyncio.TaskGroup() as group:
            while True:
                self._moved.clear()
                found = await self._look()
                if found is None:
                    await self._clock.sleep(pause)
                    pause = min(pause * 2, RETRY_S[1])
                    continue
                pause = RETRY_S[0]
                self._take(found, group)
                self._on_change()
                await self._clock.sleep(LOOK_PAUSE_S)
                try:
                    async with asyncio.timeout(LOOK_INTERVAL_S):
                        await self._moved.wait()
                except TimeoutError:
                    pass

    async def _look(self) -> list[tuple[int, int, str]] | None:
        """(first, last, URL of the server) of every range of slots, from whichever server answers."""
        for url in dict.fromkeys([*self._by_url, *self._seeds]):
            pool = ConnectionPool.from_url(
                url, protocol=2, retry=Retry(NoBackoff(), 0), socket_connect_timeout=COMMAND_TIMEOUT_S
            )
            connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    await connection.connect()  # type: ignore[no-untyped-call]
                    await connection.send_command("CLUSTER", "SLOTS")
                    return _ranges(await connection.read_response(disable_decoding=True), asked=url)
            except (RedisError, OSError, TimeoutError) as failure:
                logger.debug("a Redis does not tell the slots: %s", failure)
            finally:
                await connection.disconnect(nowait=True)
        return None

    def _take(self, ranges: list[tuple[int, int, str]], group: asyncio.TaskGroup) -> None:
        urls = {url for _, _, url in ranges}
        for url in urls - set(self._by_url):
            server = self._make(url)
            self._by_url[url] = server, group.create_task(server.run(), name="redis server")
        slots: list[Server | None] = [None] * SLOTS
        for first, last, url in ranges:
            slots[first : last + 1] = [self._by_url[url][0]] * (last + 1 - first)
        self._slots = slots
        for url in set(self._by_url) - urls:
            self._by_url.pop(url)[1].cancel()
        self.servers = tuple(server for server, _ in self._by_url.values())


def _ranges(answer: Iterable[Any], *, asked: str) -> list[tuple[int, int, str]]:
    """CLUSTER SLOTS: per range its first and last slot, then the servers, the master first."""
    found = []
    for first, last, master, *_ in answer:
        host = master[0].decode() if master[0] else urlsplit(asked).hostname or ""  # nameless: the one we asked
        found.append((first, last, at(asked, f"[{host}]:{master[1]}" if ":" in host else f"{host}:{master[1]}")))
    return found
