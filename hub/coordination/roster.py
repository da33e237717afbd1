"""The specialists of all teams: who they are, what was seen of them, and the status that follows from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.clock import Clock
from hub.coordination.journal import Change
from hub.coordination.registry import Signs, lease_us, status_of, stuck_alert
from hub.coordination.tasks.task import Task
from protocol.coordination import AgentStatus, Specialist, SpecialistStatus
from protocol.errors import ErrorCode, HubError
from protocol.team import AgentEntry, AgentHeartbeat

KIND = "specialist"
MAX_SPECIALISTS, MAX_SPECIALISTS_OF_TEAM = 10_000, 1_000


class Registered(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A specialist as it is kept. `paused`: somebody stopped it, with this reason."""

    specialist: Specialist
    paused: str | None = None


_decode = msgspec.json.Decoder(Registered).decode


class Hear(Protocol):
    """Told of every status that changed; None: the specialist has left."""

    def __call__(self, specialist: Specialist, status: SpecialistStatus | None, change: Change) -> None: ...


class Roster:
    """`held` gives the tasks that a specialist has."""

    def __init__(self, *, held: Callable[[str], Iterable[Task]], clock: Clock) -> None:
        self._held = held
        self._clock = clock
        self._registered: dict[str, Registered] = {}
        self._teams: Counter[str] = Counter()  # how many specialists each has
        self._signs: dict[str, Signs] = {}
        self._statuses: dict[str, SpecialistStatus] = {}
        self.listeners: list[Hear] = []
        self.version = 0
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}

    def _restore(self, body: bytes) -> None:
        """From its record. What was seen of it is forgotten: it has as long as anybody to give a sign of life."""
        registered = _decode(body)
        name = registered.specialist.specialist_id
        self._enter(registered)
        self._signs[name] = self._first_signs(registered)
        self.version += 1

    def __contains__(self, specialist_id: object) -> bool:
        return specialist_id in self._registered

    def specialist(self, specialist_id: str) -> Specialist:
        """Raises HubError(not_found)."""
        registered = self._registered.get(specialist_id)
        if registered is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such specialist", path="$.params.specialist_id")
        return registered.specialist

    def own(self, specialist_id: str, caller: Caller) -> Specialist:
        """A specialist that the caller may speak for. Raises HubError(not_found, permission_denied)."""
        specialist = self.specialist(specialist_id)
        if specialist.owner != caller.user and "admin" not in caller.roles:
            raise HubError(ErrorCode.PERMISSION_DENIED, "this specialist is somebody else's")
        return specialist

    def status(self, specialist_id: str) -> SpecialistStatus:
        """As it is now. Raises HubError(not_found)."""
        return status_of(
            self.specialist(specialist_id),
            self._signs[specialist_id],
            self._held(specialist_id),
            now_us=self._clock.now_us(),
        )

    def members(self, team: str | None = None) -> Iterable[tuple[Specialist, SpecialistStatus]]:
        """Implements `planning.ports.Team`."""
        for name, registered in self._registered.items():
            if team is None or registered.specialist.team == team:
                yield registered.specialist, self.status(name)

    def heard_at(self, specialist_id: str) -> int:
        """When its last heartbeat came, microseconds."""
        return self._signs[specialist_id].last_heartbeat

    def entry(self, specialist_id: str) -> AgentEntry:
        """Raises HubError(not_found)."""
        specialist = self.specialist(specialist_id)
        return AgentEntry(
            specialist=specialist, status=self.status(specialist_id), lease_ms=lease_us(specialist) // 1000
        )

    def register(self, asked: Specialist, caller: Caller, change: Change) -> None:
        """Raises HubError(permission_denied, limit_exceeded): it is somebody else's, or there are too many."""
        name = asked.specialist_id
        before = self._registered.get(name)
        owner = caller.user
        if before is not None:
            self.own(name, caller)
            owner = before.specialist.owner or caller.user
        elif len(self._registered) >= MAX_SPECIALISTS:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_SPECIALISTS} specialists")
        new_there = before is None or before.specialist.team != asked.team
        if new_there and self._teams[asked.team] >= MAX_SPECIALISTS_OF_TEAM:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_SPECIALISTS_OF_TEAM} specialists of a team")
        specialist = replace(asked, owner=owner)
        registered = Registered(specialist=specialist, paused=before.paused if before is not None else None)
        self._signs[name] = replace(self._first_signs(registered), failure=None)
        if before != registered:
            self._enter(registered)
            self.version += 1
            change.keep(KIND, name, registered)
            change.note(KIND, name, registered, actor=caller.user)
        self.look_at(name, change)

    def beat(self, heartbeat: AgentHeartbeat, change: Change) -> None:
        """A sign of life. Raises HubError(not_found)."""
        name = heartbeat.specialist_id
        self.specialist(name)
        self._signs[name] = replace(
            self._signs[name],
            last_heartbeat=change.now_us,  # when the leases that it names are renewed: see `TaskDesk.take_back`
            gone=False,
            draining=heartbeat.draining,
            limited_until=heartbeat.limited_until,
            failure=heartbeat.failure,
            calls=heartbeat.calls,
            errors=heartbeat.errors,
        )
        self.look_at(name, change)

    def spent(self, specialist_id: str, share: float, change: Change) -> None:
        """The larger share of its day's money or tokens that is used."""
        self._signs[specialist_id] = replace(self._signs[specialist_id], budget_used=share)
        self.look_at(specialist_id, change)

    def gone(self, specialist_id: str, change: Change, *, seen_us: int) -> None:
        """A connection closed that brought its last sign at `seen_us`, or a little before: whoever was seen since is
        connected elsewhere."""
        if specialist_id in self._registered and self.heard_at(specialist_id) <= seen_us:
            self._signs[specialist_id] = replace(self._signs[specialist_id], gone=True)
            self.look_at(specialist_id, change)

    def pause(self, specialist_id: str, reason: str | None, caller: Caller, change: Change) -> None:
        """None: it may go on. Raises HubError(not_found)."""
        self.specialist(specialist_id)
        registered = self._registered[specialist_id] = replace(self._registered[specialist_id], paused=reason)
        self._signs[specialist_id] = replace(self._signs[specialist_id], paused=reason is not None)
        change.keep(KIND, specialist_id, registered)
        change.note(KIND, specialist_id, registered, actor=caller.user)
        self.look_at(specialist_id, change)

    def leave(self, specialist_id: str, caller: Caller, change: Change) -> None:
        """Its tasks have been taken back before. Raises HubError(not_found)."""
        specialist = self.specialist(specialist_id)
        registered = self._registered.pop(specialist_id)
        self._left(registered.specialist.team)
        self._signs.pop(specialist_id)
        self._statuses.pop(specialist_id, None)
        self.version += 1
        change.keep(KIND, specialist_id, registered, ended=True)
        change.note(KIND, specialist_id, registered, actor=caller.user)
        status = AgentStatus(
            specialist_id=specialist_id, presence="OFFLINE", because="it has left", ts_event=change.now_us
        )
        change.tell(f"agent:{specialist_id}", "AGENT_STATUS", status)
        for hear in self.listeners:
            hear(specialist, None, change)

    def _enter(self, registered: Registered) -> None:
        name = registered.specialist.specialist_id
        if (before := self._registered.get(name)) is not None:
            self._left(before.specialist.team)
        self._registered[name] = registered
        self._teams[registered.specialist.team] += 1

    def _left(self, team: str) -> None:
        self._teams[team] -= 1
        if not self._teams[team]:
            del self._teams[team]

    def look_at_all(self, change: Change) -> None:
        for name in self._registered:
            self.look_at(name, change)

    def look_at(self, specialist_id: str, change: Change) -> None:
        """Tell of a status that has changed; getting stuck is an alert."""
        if specialist_id not in self._registered:
            return
        before, after = self._statuses.get(specialist_id), self.status(specialist_id)
        self._statuses[specialist_id] = after
        if before is not None and _axes(before) == _axes(after):
            return
        self.version += 1
        specialist = self._registered[specialist_id].specialist
        change.tell(f"agent:{specialist_id}", "AGENT_STATUS", _message(after, change.now_us))
        if (alert := stuck_alert(before, after, now_us=change.now_us)) is not None:
            change.tell(f"team:{specialist.team}", "ALERT", alert)
        for hear in self.listeners:
            hear(specialist, after, change)

    def _first_signs(self, registered: Registered) -> Signs:
        return Signs(last_heartbeat=self._clock.now_us(), paused=registered.paused is not None)


def _axes(status: SpecialistStatus) -> tuple[Any, ...]:
    return status.presence, status.activity, status.health, status.tasks


def _message(status: SpecialistStatus, now_us: int) -> AgentStatus:
    because = status.activity_because
    if status.presence != "ONLINE":
        because = status.presence_because
    elif status.health != "HEALTHY":
        because = status.health_because
    return AgentStatus(
        specialist_id=status.specialist_id,
        presence=status.presence,
        activity=status.activity,
        health=status.health,
        because=because,
        task_id=status.tasks[0] if status.tasks else None,
        ts_event=now_us,
    )
