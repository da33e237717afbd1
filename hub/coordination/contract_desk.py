"""Changes of contracts, announced to a team before they are in force, and told again when they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from hub.caller import Caller
from hub.channels.access import Access
from hub.coordination.archive import Archive
from hub.coordination.coordinator import Coordination, Term
from hub.coordination.desk import Project, TaskDesk
from hub.coordination.journal import HUB, Change, key_within
from hub.coordination.service import decided, team_channel
from hub.dispatch import Method, convert
from protocol.contracts import ContractAnnounce, ContractChange
from protocol.errors import ErrorCode, HubError

KIND = "contract"
MAX_ANNOUNCED, MAX_ANNOUNCED_TO_TEAM = 1_000, 100  # that are not in force yet
MAX_AHEAD_US = 366 * 86_400_000_000


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    project_id: str
    change: ContractChange

    @property
    def key(self) -> str:
        return key_within(self.project_id, self.change.contract, self.change.version)


_decode = msgspec.json.Decoder(Announced).decode


class ContractDesk:
    def __init__(self, tasks: TaskDesk) -> None:
        self._waiting: dict[str, Announced] = {}
        self.kinds: Mapping[str, Callable[[bytes], None]] = {KIND: self._restore}
        tasks.leaving.append(self._leave)

    def _restore(self, body: bytes) -> None:
        announced = _decode(body)
        self._waiting[announced.key] = announced

    def restored(self, now_us: int) -> None:
        """Nothing more to do."""

    def announce(self, asked: ContractAnnounce, caller: Caller, change: Change) -> ContractChange:
        """The same again is the same one. Raises HubError(bad_request, idempotency_conflict, limit_exceeded)."""
        if not change.now_us < asked.effective_at <= change.now_us + MAX_AHEAD_US:
            raise HubError(
                ErrorCode.BAD_REQUEST,
                "a change is announced before it is in force, a year at most",
                path="$.params.effective_at",
            )
        told = ContractChange(
            contract=asked.contract,
            version=asked.version,
            change=asked.change,
            effective_at=asked.effective_at,
            announced_by=caller.user,
            ts_event=change.now_us,
        )
        announced = Announced(project_id=asked.project_id, change=told)
        if (known := self._waiting.get(announced.key)) is not None:
            if replace(known.change, ts_event=change.now_us) != told:
                raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "another change is announced for this version")
            return known.change
        if len(self._waiting) >= MAX_ANNOUNCED:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_ANNOUNCED} changes are announced")
        if sum(each.project_id == asked.project_id for each in self._waiting.values()) >= MAX_ANNOUNCED_TO_TEAM:
            raise HubError(ErrorCode.LIMIT_EXCEEDED, f"at most {MAX_ANNOUNCED_TO_TEAM} changes are announced to a team")
        self._waiting[announced.key] = announced
        self._keep(announced, change, actor=caller.user)
        change.tell(team_channel(asked.project_id), "SCHEMA_CHANGE_ANNOUNCED", told)
        return told

    def _leave(self, project: Project, change: Change) -> None:
        """It ends, and there is nobody to tell any more."""
        for key in [each.key for each in self._waiting.values() if each.project_id == project.project_id]:
            del self._waiting[key]

    def tick(self, change: Change) -> None:
        for announced in [each for each in self._waiting.values() if each.change.effective_at <= change.now_us]:
            del self._waiting[announced.key]
            self._keep(announced, change, actor=HUB, ended=True)
            told = replace(announced.change, ts_event=change.now_us)
            change.tell(team_channel(announced.project_id), "CONTRACT_CHANGED", told)

    def _keep(self, announced: Announced, change: Change, *, actor: str, ended: bool = False) -> None:
        change.keep(KIND, announced.key, announced, project_id=announced.project_id, ended=ended)
        change.note(KIND, announced.key, announced, actor=actor, project_id=announced.project_id)


class ContractService:
    """Whoever may publish to `team:{project}` announces."""

    def __init__(self, coordination: Coordination, *, access: Access, archive: Archive) -> None:
        self._coordination = coordination
        self._access = access
        self._archive = archive
        self.methods: Mapping[str, Method] = {"contracts.announce": self.announce}

    async def announce(self, params: Mapping[str, Any], caller: Caller) -> ContractChange:
        asked: ContractAnnounce = convert(params, ContractAnnounce)
        self._access.require(caller, "publish", team_channel(asked.project_id))
        await self._archive.refuse_ended(asked.project_id)

        def decide(term: Term, change: Change) -> ContractChange:
            desk = term.desks["contracts"]
            assert isinstance(desk, ContractDesk)
            return desk.announce(asked, caller, change)

        return await decided(self._coordination, decide)
