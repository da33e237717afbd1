"""Knowledge of a project or of everybody: best practice, performance, security, AI; added, read, searched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid5

import msgspec

from hub.caller import Caller
from hub.channels.access import Access
from hub.clock import Clock
from hub.dispatch import Method, convert
from protocol.errors import ErrorCode, HubError
from protocol.knowledge import (
    KnowledgeAdd,
    KnowledgeAnswer,
    KnowledgeEntry,
    KnowledgeFound,
    KnowledgeGet,
    KnowledgeSearch,
)
from storage.errors import StorageError
from storage.knowledge import KnowledgeTable

NAMESPACE = UUID("6f0d0a52-5f0f-4c0e-9d5e-0b5a1c8f2e11")
AUTHORS = frozenset({"agent", "admin"})
"""Who may add what everybody reads: agents act on it."""


class Knowledge:
    def __init__(self, table: KnowledgeTable, *, access: Access, clock: Clock) -> None:
        self._table = table
        self._access = access
        self._clock = clock
        self.methods: Mapping[str, Method] = {
            "knowledge.add": self.add,
            "knowledge.get": self.get,
            "knowledge.search": self.search,
        }

    async def add(self, params: Mapping[str, Any], caller: Caller) -> KnowledgeAnswer:
        """Raises HubError(permission_denied, schema_invalid, not_available)."""
        new: KnowledgeAdd = convert(params, KnowledgeAdd)
        if new.project_id is not None:
            self._access.require(caller, "publish", f"team:{new.project_id}")
        elif caller.roles.isdisjoint(AUTHORS):
            raise HubError(ErrorCode.PERMISSION_DENIED, "this needs the role agent")
        entry = KnowledgeEntry(
            **msgspec.structs.asdict(new),
            entry_id=_id_of(new),
            author=caller.user,
            added_at=self._clock.now_us(),
        )
        with _stored():
            return KnowledgeAnswer(entry=await self._table.add(entry))

    async def get(self, params: Mapping[str, Any], caller: Caller) -> KnowledgeAnswer:
        """Raises HubError(not_found, schema_invalid, not_available). What the caller may not read is not found."""
        wanted: KnowledgeGet = convert(params, KnowledgeGet)
        with _stored():
            entry = await self._table.get(wanted.entry_id)
        if entry is None or not self._may_read(caller, entry.project_id):
            raise HubError(ErrorCode.NOT_FOUND, "there is no such entry", path="$.params.entry_id")
        return KnowledgeAnswer(entry=entry)

    async def search(self, params: Mapping[str, Any], caller: Caller) -> KnowledgeFound:
        """Raises HubError(permission_denied, schema_invalid, not_available)."""
        wanted: KnowledgeSearch = convert(params, KnowledgeSearch)
        readable: list[str] = []
        if wanted.project_id is not None:
            self._access.require(caller, "subscribe", f"team:{wanted.project_id}")
        with _stored():
            if wanted.project_id is None:
                readable = [each for each in await self._table.projects() if self._may_read(caller, each)]
            return KnowledgeFound(entries=await self._table.search(wanted, readable=readable))

    def _may_read(self, caller: Caller, project_id: str | None) -> bool:
        return project_id is None or self._access.decide(caller, "subscribe", f"team:{project_id}").allowed


def _id_of(new: KnowledgeAdd) -> str:
    """The same for the same text: who did not hear the answer may add it again."""
    return str(uuid5(NAMESPACE, msgspec.json.encode([new.kind, new.project_id, new.title, new.body]).decode()))


@contextmanager
def _stored() -> Iterator[None]:
    try:
        yield
    except StorageError as failure:
        raise HubError(ErrorCode.NOT_AVAILABLE, "the database is not available", retry_after_ms=1000) from failure
