"""What operators are told over the socket that all use: the hub's state each second, and alerts on `alerts:ops`."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import msgspec

from hub.clock import Clock
from hub.observe.objectives import SAMPLE_S, BurnRate, Objective
from protocol.coordination import Alert, Status
from protocol.errors import HubError

logger = logging.getLogger("krin.operations")

STATUS_CHANNEL = "system:status"
ALERT_CHANNEL = "alerts:ops"
STATUS_S = 1.0
LATE_S = 1.0  # a status that takes longer counts as one that did not get through
CANARY_FAILURES = 3  # in a row
MAX_UNTOLD = 100

Tell = Callable[[str, str, Any], Awaitable[Any]]
"""Publish (channel, type, data). Raises HubError."""


class Operations:
    """`health` is what `/health` says; `figures` go along with every status."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        node: str,
        tell: Tell,
        health: Callable[[], Sequence[str]],
        figures: Callable[[], dict[str, Any]],
        clock: Clock,
    ) -> None:
        """`health` gives the reasons why the hub is degraded; none: it is well."""
        self.rates = [BurnRate(objective) for objective in objectives]
        self._node = node
        self._tell = tell
        self._health = health
        self._figures = figures
        self._clock = clock
        self._untold: list[Alert] = []
        self._failures = 0  # of statuses, in a row
        self._failing = False

    async def run(self) -> NoReturn:
        sampled = -SAMPLE_S
        while True:
            now = self._clock.monotonic()
            if now - sampled >= SAMPLE_S:
                sampled = now
                self._sample(now)
            await self._report()
            await self._clock.sleep(STATUS_S)

    def _sample(self, now: float) -> None:
        for rate in self.rates:
            rate.sample(now)
            self._untold += rate.changes(self._clock.now_us())
        del self._untold[:-MAX_UNTOLD]

    async def _report(self) -> None:
        began = self._clock.monotonic()
        failure = await self._told(STATUS_CHANNEL, "STATUS", self._status())
        late_s = self._clock.monotonic() - began
        if failure is None and late_s > LATE_S:
            failure = f"a status took {late_s:.1f} s"
        self._judge(failure)
        while self._untold and await self._told(ALERT_CHANNEL, "ALERT", self._untold[0]) is None:
            del self._untold[0]

    def _status(self) -> Status:
        reasons = self._health()
        return Status(
            component=self._node,
            state="DEGRADED" if reasons else "OK",
            detail="; ".join(reasons)[:500] or None,
            ts_event=self._clock.now_us(),
            ext=self._figures(),
        )

    async def _told(self, channel: str, type: str, data: Status | Alert) -> str | None:
        """None, or why that could not be told: what is degraded may be the very thing that would carry it."""
        try:
            await self._tell(channel, type, msgspec.to_builtins(data))
        except HubError as failure:
            return str(failure)
        return None

    def _judge(self, failure: str | None) -> None:
        """A status goes the way of everybody's messages: it meets what is wrong there before any client must."""
        self._failures = self._failures + 1 if failure is not None else 0
        if self._failures == CANARY_FAILURES or (self._failing and not self._failures):
            self._failing = not self._failing
            logger.warning("statuses %s", f"do not get through: {failure}" if self._failing else "get through again")
            alert = Alert(
                alert_id=f"canary:{self._node}",
                severity="CRITICAL",
                title=f"statuses of {self._node} {'do not get through' if self._failing else 'get through again'}",
                state="FIRING" if self._failing else "RESOLVED",
                source="canary",
                detail=failure,
                ts_event=self._clock.now_us(),
            )
            self._untold = [*self._untold, alert][-MAX_UNTOLD:]
