"""Projects that have ended: out of memory, and in the records for whoever asks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from hub.caller import Caller
from hub.coordination.coordinator import Term
from hub.coordination.desk import PROJECT, KeptProject, UnknownProject, read_project, read_task
from hub.coordination.journal import key_within
from hub.coordination.tasks.task import Task
from hub.dispatch import Method
from protocol.errors import ErrorCode, HubError
from protocol.team import ProjectList, TaskList
from storage.coordination_records import Record

TASK = "task"


class EndedRecords(Protocol):
    """What `storage.coordination_records` offers of it."""

    async def find(self, kind: str, id: str) -> Record | None: ...
    async def ended_projects(self, *, state: str, before: str | None, limit: int) -> list[Record]: ...
    async def ended_tasks(
        self, project_id: str, *, state: str | None, specialist_id: str | None, after: int, limit: int
    ) -> list[Record]: ...
    async def ended_of(self, project_id: str, kind: str) -> list[Record]: ...


class Archive:
    """`term` is that of now: what it has just ended is awaited until it is written down."""

    def __init__(self, records: EndedRecords, *, term: Callable[[], Term]) -> None:
        self._records = records
        self._term = term

    async def find(self, project_id: str) -> KeptProject | None:
        """One that has ended."""
        if (written := self._term().tasks.ended.get(project_id)) is not None:
            await asyncio.wait([written])
        record = await self._records.find(PROJECT, project_id)
        return read_project(record.body) if record is not None and record.ended else None

    async def refuse_ended(self, project_id: str) -> None:
        """For what may name a project that was never made, but none that has ended. Raises HubError."""
        if project_id not in self._term().tasks.projects and (found := await self.find(project_id)) is not None:
            raise has_ended(found)

    async def project(self, project_id: str) -> KeptProject:
        """Raises UnknownProject."""
        found = await self.find(project_id)
        if found is None:
            raise UnknownProject(project_id)
        return found

    async def projects(self, asked: ProjectList, may_see: Callable[[str], bool]) -> tuple[list[KeptProject], bool]:
        """Those that ended last first, and whether there are more of them."""
        before, found = asked.before, list[KeptProject]()
        while len(found) <= asked.limit:
            page = await self._records.ended_projects(state=asked.state, before=before, limit=asked.limit + 1)
            found += [read_project(record.body) for record in page if may_see(record.id)]
            if len(page) <= asked.limit:
                break
            before = page[-1].id
        return found[: asked.limit], len(found) > asked.limit

    async def tasks(self, asked: TaskList) -> list[Task]:
        """One more than the page holds, if there are more. Raises UnknownProject, HubError(not_found)."""
        await self.project(asked.project_id)
        after = (await self.task(asked.project_id, asked.after)).place if asked.after is not None else -1
        found = await self._records.ended_tasks(
            asked.project_id,
            state=asked.state,
            specialist_id=asked.specialist_id,
            after=after,
            limit=asked.limit + 1,
        )
        return [read_task(record.body) for record in found]

    async def task(self, project_id: str, task_id: str) -> Task:
        """Raises UnknownProject, HubError(not_found)."""
        await self.project(project_id)
        record = await self._records.find(TASK, key_within(project_id, task_id))
        if record is None:
            raise HubError(ErrorCode.NOT_FOUND, "no such task", path="$.params.task_id")
        return read_task(record.body)

    async def last(self, project_id: str, kind: str) -> list[bytes]:
        """What a project has left behind of a kind of record, the newest first. Raises UnknownProject."""
        await self.project(project_id)
        return [record.body for record in await self._records.ended_of(project_id, kind)]

    def explaining(self, methods: Mapping[str, Method]) -> Mapping[str, Method]:
        """These methods, which say of a project that has ended that it has, and not that there is none."""
        return {name: self._explaining(method) for name, method in methods.items()}

    def _explaining(self, method: Method) -> Method:
        async def call(params: Mapping[str, Any], caller: Caller) -> Any:
            try:
                answer = method(params, caller)
                return await answer if inspect.isawaitable(answer) else answer
            except UnknownProject as unknown:
                found = await self.find(unknown.project_id)
                if found is None:
                    raise
                raise has_ended(found) from None

        return call


def has_ended(kept: KeptProject) -> HubError:
    return HubError(
        ErrorCode.ILLEGAL_TRANSITION, f"the project has ended: it is {kept.state}", path="$.params.project_id"
    )
