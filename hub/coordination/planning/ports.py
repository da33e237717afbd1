"""What the planning of a team needs of the rest of the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from hub.coordination.planning.next_steps import Outlook
from protocol.coordination import Specialist, SpecialistStatus, SpecialistUpdate


class Team(Protocol):
    """The registry."""

    @property
    def version(self) -> int:
        """Grows with every change."""
        ...

    def members(self, team: str | None = None) -> Iterable[tuple[Specialist, SpecialistStatus]]:
        """Of one team, or all."""
        ...


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How far the tasks of a project are: who has, or had, each; 0 to 1; and which have ended, however they did."""

    holders: Mapping[str, str] = {}
    progress: Mapping[str, float] = {}
    ended: frozenset[str] = frozenset()


class Work(Protocol):
    """The tasks of all projects. One that is not known stands at its beginning."""

    def standing(self, project_id: str) -> Standing: ...
    def outlook(self, project_id: str) -> Outlook: ...


class UpdateLog(Protocol):
    async def append(self, project_id: str, updates: Sequence[SpecialistUpdate]) -> None:
        """Stores all of them, or raises."""
        ...


class WebSocketService(Protocol):
    async def broadcast_to_team(self, project_id: str, message: Mapping[str, Any]) -> None: ...
    async def send_to(self, specialist_id: str, message: Mapping[str, Any]) -> None: ...
    async def publish(self, channel: str, message: Mapping[str, Any]) -> None: ...
