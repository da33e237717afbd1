"""Who is connected to this node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from hub.clock import Clock
from hub.connections.connection import Connection
from hub.guard.addresses import party
from hub.observe.metrics import Tally

CHECK_INTERVAL_S = 1.0
CHECKED_AT_ONCE = 256  # connections: most of a millisecond


class Registry:
    """Owner of the set of live connections. `run` looks after each of them about once a second."""

    def __init__(self, *, clock: Clock, max_connections: int) -> None:
        self._clock = clock
        self._max_connections = max_connections
        self._connections: dict[Connection, None] = {}
        self._sessions: dict[tuple[str, str], Connection] = {}  # by user and session: names are the clients' own
        self._of_party: dict[str, int] = {}  # sockets by the party their address belongs to
        self._of_user: dict[str, int] = {}
        self.accepted = 0
        self.ended = Tally()  # by how they ended
        self._conflated = 0  # for those that have ended

    @property
    def conflated(self) -> int:
        """Values merged for slow readers since the start."""
        return self._conflated + sum(connection.outbox.conflated for connection in self._connections)

    @property
    def full(self) -> bool:
        return len(self._connections) >= self._max_connections

    def add(self, connection: Connection) -> None:
        self._connections[connection] = None
        _count(self._of_party, party(connection.address), 1)
        self.accepted += 1

    def remove(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        del self._connections[connection]
        self.ended.add(connection.goodbye.name.lower() if connection.goodbye is not None else "lost")
        self._conflated += connection.outbox.conflated
        _count(self._of_party, party(connection.address), -1)
        if connection.session:
            _count(self._of_user, connection.caller.user, -1)
        session = (connection.caller.user, connection.session)
        if self._sessions.get(session) is connection:
            del self._sessions[session]

    def enter_session(self, connection: Connection) -> Connection | None:
        """This connection carries its session from now on; returns the one it replaces."""
        session = (connection.caller.user, connection.session)
        _count(self._of_user, connection.caller.user, 1)
        earlier = self._sessions.get(session)
        self._sessions[session] = connection
        return earlier

    def carries(self, user: str, session: str) -> bool:
        return (user, session) in self._sessions

    def sockets_from(self, address: str) -> int:
        """Sockets of the party this address belongs to."""
        return self._of_party.get(party(address), 0)

    def sockets_of(self, user: str) -> int:
        return self._of_user.get(user, 0)

    def of_user(self, user: str) -> list[Connection]:
        return [each for each in self._connections if each.session and each.caller.user == user]

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._connections))

    async def run(self) -> None:
        while True:
            await self._clock.sleep(CHECK_INTERVAL_S)
            for place, connection in enumerate(list(self._connections)):
                if place and place % CHECKED_AT_ONCE == 0:
                    await asyncio.sleep(0)  # 19,000 at once would hold up every message for 50 ms, each second
                if connection in self._connections:
                    connection.check()


def _count(counts: dict[str, int], key: str, step: int) -> None:
    """Keep a count that is forgotten at zero."""
    if left := counts.get(key, 0) + step:
        counts[key] = left
    else:
        del counts[key]
