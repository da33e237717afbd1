"""Who read what, in namespaces with `audit_reads`: by reference, and together what comes often.

A page of history and a subscription's beginning and end are noted in memory, by token and channel, and written as one
event each FLUSH_S: whoever asks a hundred times a second is one row in the audit log and not a thousand.
"""

from __future__ import annotations

import msgspec

from hub.caller import Caller
from hub.clock import Clock
from hub.guard.events import Report, SecurityEvent

EVENT = "sensitive_read"
FLUSH_S = 10.0
MAX_NOTED = 1_000  # then they are written at once


class Reading(msgspec.Struct, frozen=True):
    """`socket` is the connection of a subscription; "": pages of history."""

    user: str
    address: str
    token: str
    channel: str
    socket: str = ""


class _Noted(msgspec.Struct):
    """Milliseconds and offsets. A subscription that goes on has no `until_ms`, one that began earlier no `since_ms`."""

    since_ms: int | None
    until_ms: int | None = None
    first: int | None = None
    last: int | None = None
    times: int = 0


class Reads:
    def __init__(self, *, report: Report, clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._noted: dict[Reading, _Noted] = {}

    def subscribed(self, caller: Caller, channel: str, *, socket: str, first: int) -> Reading:
        """A subscription gets everything from the offset `first` on; the answer is for its end."""
        reading = Reading(caller.user, caller.address, caller.jti, channel, socket)
        noted = self._note(reading)
        noted.until_ms = None
        noted.first = first if noted.first is None else min(noted.first, first)
        noted.times += 1
        return reading

    def unsubscribed(self, reading: Reading) -> None:
        now = self._clock.now_ms()
        if reading not in self._noted:
            self._make_room()
            self._noted[reading] = _Noted(since_ms=None)
        self._noted[reading].until_ms = now

    def read(self, caller: Caller, channel: str, *, offsets: list[int]) -> None:
        """A page of history with these offsets."""
        if offsets:
            noted = self._note(Reading(caller.user, caller.address, caller.jti, channel))
            noted.until_ms = self._clock.now_ms()
            noted.first = min(offsets) if noted.first is None else min(noted.first, *offsets)
            noted.last = max(offsets) if noted.last is None else max(noted.last, *offsets)
            noted.times += 1

    async def run(self) -> None:
        """Until cancelled, and then what is left."""
        try:
            while True:
                await self._clock.sleep(FLUSH_S)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        noted, self._noted = self._noted, {}
        for reading, each in noted.items():
            detail = {"token": reading.token, "socket": reading.socket} | msgspec.structs.asdict(each)
            self._report(
                SecurityEvent(
                    name=EVENT,
                    user=reading.user,
                    address=reading.address,
                    target=reading.channel,
                    detail={name: value for name, value in detail.items() if value not in (None, "")},
                )
            )

    def _note(self, reading: Reading) -> _Noted:
        noted = self._noted.get(reading)
        if noted is None:
            self._make_room()
            noted = self._noted[reading] = _Noted(since_ms=self._clock.now_ms())
        return noted

    def _make_room(self) -> None:
        if len(self._noted) >= MAX_NOTED:
            self.flush()
