"""Sessions as Postgres remembers them: made when a client has connected, kept while it is here, gone a day later."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid5

from hub.clock import Clock
from hub.connections.connection import Connection
from hub.connections.registry import Registry
from storage.errors import StorageError
from storage.sessions import Sessions, SessionUse

logger = logging.getLogger("krin.sessions")

INTERVAL_S = 1.0
KEEP_S = 300.0  # a session that goes on unchanged is prolonged as often
LIVES = timedelta(days=1)  # after its client was last seen
SWEEP_S = 60.0
BATCH = 100  # sessions a second
SLICE = 500
MAX_CHANNELS = 100  # of a session that are named
NAMESPACE = UUID("9a0b3c0e-64a1-4e55-9d0c-7d9d1b7a5a51")


class _Kept(NamedTuple):
    """What was written last of a connection's session: how many channels, and when."""

    session: str
    channels: int
    at: float


class SessionKeeper:
    """Looks at this node's connections once a second, so that connecting waits for no database.

    A client that comes back with the `session` it had goes on with the same row.
    """

    def __init__(self, registry: Registry, sessions: Sessions, *, clock: Clock) -> None:
        self._registry = registry
        self._sessions = sessions
        self._clock = clock
        self._kept: dict[str, _Kept] = {}  # by connection

    async def run(self) -> None:
        swept = self._clock.monotonic() - SWEEP_S
        while True:
            try:
                await self.look()
                if self._clock.monotonic() - swept >= SWEEP_S:
                    swept = self._clock.monotonic()
                    await self._sessions.sweep(now=self._now())
            except StorageError as failure:
                logger.warning("sessions wait: %s", failure)
            await self._clock.sleep(INTERVAL_S)

    async def look(self) -> None:
        """Write what is new about sessions here, BATCH of them: those that were never written, then the oldest.

        A thousand clients that come at once are no reason to keep Postgres, and with it messages, from those who are
        here. Raises StorageError: the next look writes it.
        """
        at = self._clock.monotonic()
        connections = [each for each in self._registry if each.session]
        here = {each.id for each in connections}
        self._kept = {id: kept for id, kept in self._kept.items() if id in here}
        due: list[Connection] = []
        for start in range(0, len(connections), SLICE):
            await asyncio.sleep(0)  # looking at ten thousand at once would hold up whoever waits for a message
            due += [each for each in connections[start : start + SLICE] if self._is_due(each, at)]
        due = sorted(due, key=self._kept_at)[:BATCH]
        if due:
            uses = {use.id: use for use in map(use_of, due)}  # one that comes back may meet its earlier connection here
            await self._sessions.keep([*uses.values()], now=self._now(), expires_at=self._now() + LIVES)
            self._kept.update((each.id, _Kept(each.session, len(each.subscriptions), at)) for each in due)

    def _kept_at(self, connection: Connection) -> float:
        kept = self._kept.get(connection.id)
        return kept.at if kept is not None else -1.0

    def _is_due(self, connection: Connection, at: float) -> bool:
        """Whether it is new, follows more or fewer channels, or was not written for long."""
        kept = self._kept.get(connection.id)
        return (
            kept is None
            or at - kept.at >= KEEP_S
            or (kept.session, kept.channels) != (connection.session, len(connection.subscriptions))
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)


def use_of(connection: Connection) -> SessionUse:
    caller = connection.caller
    data = {
        "session": connection.session,
        "kind": caller.kind,
        "name": caller.name,
        "channels": sorted(connection.subscriptions)[:MAX_CHANNELS],
    }
    id = uuid5(NAMESPACE, f"{caller.user}\0{connection.session}")
    return SessionUse(id=id, user=caller.user, issued_ms=caller.issued_ms, session_data=data)
