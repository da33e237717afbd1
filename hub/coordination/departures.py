"""Specialists whose connection closed, on whichever node it was: told to the coordinator, so that nobody waits for
heartbeats of a process that is gone.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn, Protocol

import msgspec

from hub.caller import SYSTEM, Caller
from hub.clock import Clock
from hub.dispatch import Method, insist
from protocol.errors import HubError

logger = logging.getLogger("krin.coordination")

MAX_SPECIALISTS = 1000  # of one connection
RETRY_S = 0.5
TRIES = 20


class AgentGone(msgspec.Struct, frozen=True, kw_only=True):
    """Of `agents.gone`. `silent_us`: so long ago that connection brought the last sign of it, by the clock of one node
    alone. Who was seen since has another connection, maybe to another node."""

    specialist_id: str
    silent_us: int


class Connected(Protocol):
    id: str


class _Left(NamedTuple):
    specialist_id: str
    seen: float  # monotonic seconds


class Departures:
    """Listens to the methods by which a specialist shows that it is there."""

    def __init__(self, methods: Mapping[str, Method], *, clock: Clock) -> None:
        self._gone = methods["agents.gone"]
        self._clock = clock
        self._here: dict[str, dict[str, float]] = {}  # connection -> specialist -> its last sign, monotonic seconds
        self._left: asyncio.Queue[_Left] = asyncio.Queue()  # bounded by who was here
        self.methods: Mapping[str, Method] = {
            **{name: method for name, method in methods.items() if name != "agents.gone"},
            "agents.register": self._seen(methods["agents.register"], lambda params: params["specialist"]),
            "agents.heartbeat": self._seen(methods["agents.heartbeat"], lambda params: params),
        }

    def leave(self, connection: Connected) -> None:
        """The connection has ended."""
        gone = self._here.pop(connection.id, {})
        still = {name for names in self._here.values() for name in names} if gone else set()
        for name, seen in gone.items():
            if name not in still:
                self._left.put_nowait(_Left(name, seen))

    async def run(self) -> NoReturn:
        while True:
            await self._tell(await self._left.get())

    def _seen(self, method: Method, where: Any) -> Method:
        async def call(params: Mapping[str, Any], caller: Caller) -> Any:
            answer = method(params, caller)
            answer = await answer if inspect.isawaitable(answer) else answer
            if caller.connection is not None and caller.connection.open:
                here = self._here.setdefault(caller.connection.id, {})
                name = where(params)["specialist_id"]
                if name in here or len(here) < MAX_SPECIALISTS:
                    here[name] = self._clock.monotonic()
            return answer

        return call

    async def _tell(self, left: _Left) -> None:
        def params() -> dict[str, Any]:
            silent_us = int((self._clock.monotonic() - left.seen) * 1_000_000)
            return {"specialist_id": left.specialist_id, "silent_us": silent_us}

        try:
            await insist(self._gone, params, SYSTEM, tries=TRIES, every_s=RETRY_S, clock=self._clock)
        except HubError as failure:
            logger.warning("%s is gone, and nobody was told: %s", left.specialist_id, failure)
