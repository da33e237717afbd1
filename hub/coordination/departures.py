"""Specialists whose connection closed, on whichever node it was: told to the coordinator, so that nobody waits for
heartbeats of a process that is gone.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol

from hub.caller import SYSTEM, Caller
from hub.clock import Clock
from hub.dispatch import Method
from protocol.errors import HubError

logger = logging.getLogger("krin.coordination")

MAX_SPECIALISTS = 1000  # of one connection
RETRY_S = 0.5
TRIES = 20


class Connected(Protocol):
    id: str


class Departures:
    """Listens to the methods by which a specialist shows that it is there."""

    def __init__(self, methods: Mapping[str, Method], *, clock: Clock) -> None:
        self._gone = methods["agents.gone"]
        self._clock = clock
        self._here: dict[str, dict[str, None]] = {}  # connection -> specialists
        self._left: asyncio.Queue[str] = asyncio.Queue()  # bounded by who was here
        self.methods: Mapping[str, Method] = {
            **{name: method for name, method in methods.items() if name != "agents.gone"},
            "agents.register": self._seen(methods["agents.register"], lambda params: params["specialist"]),
            "agents.heartbeat": self._seen(methods["agents.heartbeat"], lambda params: params),
        }

    def leave(self, connection: Connected) -> None:
        """The connection has ended."""
        gone = self._here.pop(connection.id, {})
        still = {name for names in self._here.values() for name in names} if gone else set()
        for name in gone:
            if name not in still:
                self._left.put_nowait(name)

    async def run(self) -> NoReturn:
        while True:
            await self._tell(await self._left.get())

    def _seen(self, method: Method, where: Any) -> Method:
        async def call(params: Mapping[str, Any], caller: Caller) -> Any:
            answer = method(params, caller)
            answer = await answer if inspect.isawaitable(answer) else answer
            if caller.connection is not None and caller.connection.open:
                here = self._here.setdefault(caller.connection.id, {})
                if len(here) < MAX_SPECIALISTS:
                    here[where(params)["specialist_id"]] = None
            return answer

        return call

    async def _tell(self, specialist_id: str) -> None:
        for _ in range(TRIES):
            try:
                answer = self._gone({"specialist_id": specialist_id}, SYSTEM)
                if inspect.isawaitable(answer):
                    await answer
                return
            except HubError as failure:
                if not failure.code.temporary:
                    logger.warning("%s is gone, and nobody was told: %s", specialist_id, failure)
                    return
            await self._clock.sleep(RETRY_S)
