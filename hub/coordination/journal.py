"""What the coordinator decides, as Postgres takes it: see `hub.group_commit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

import msgspec

from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.group_commit import Decision, GroupCommit, new_message
from hub.publication import Publication
from protocol.codec import encode_body
from protocol.coordination import SpecialistUpdate
from protocol.vocabulary import DEFAULT_KEYS, message_type
from storage.coordination_records import Batch, CoordinationRecords, LogEntry, Record, RecordedEvent

HUB = "krin"
PROJECTS = UUID("5b0f0f3e-6a56-4c0b-9d5e-2b1b6a0c9a55")
"""The name space of projects in `specialist_coordination`, whose `project_id` is a UUID."""
TYPE_CHARACTERS = 100

_encode = msgspec.json.Encoder().encode


def key_within(project_id: str, *names: str) -> str:
    """The id of what has its name within a project, another one than that of anything in any other project: the first
    `/` ends the project's, and a channel, which a project's name is a part of, has no `%`.
    """
    return "/".join((project_id.replace("/", "%"), *names))


def project_uuid(project_id: str) -> UUID:
    return uuid5(PROJECTS, project_id)


class Change(Decision):
    """What one decision writes down and tells. `now_us`: when it was taken."""

    __slots__ = ("entries", "events", "now_us", "records")

    def __init__(self, now_us: int) -> None:
        super().__init__()
        self.now_us = now_us
        self.records: list[Record] = []
        self.events: list[RecordedEvent] = []
        self.entries: list[LogEntry] = []

    def keep(self, kind: str, id: str, value: msgspec.Struct, *, project_id: str = "", ended: bool = False) -> None:
        """The value of a thing from now on."""
        self.records.append(Record(kind, id, project_id, _encode(value), ended))

    def note(self, kind: str, id: str, event: msgspec.Struct, *, actor: str, project_id: str = "") -> None:
        """What happened to it."""
        self.events.append(RecordedEvent(kind, id, project_id, actor, self.now_us, _encode(event)))

    def tell(self, channel: str, type: str, data: Any, *, coordination: dict[str, Any] | None = None) -> None:
        """A message, published when this is committed. `data` is of the struct that the vocabulary has for `type`."""
        message = message_type(type)(type=type, data=data, coordination=coordination)
        field = DEFAULT_KEYS.get(type)
        key = getattr(data, field) if field is not None else None
        body = encode_body(message, key=key, publisher=HUB)
        self.messages.append(
            Publication(channel, type, body=body, timestamp=self.now_us // 1000, key=key, publisher=HUB)
        )

    def log(self, project_id: str, update: SpecialistUpdate) -> None:
        """A row of the coordination log."""
        self.entries.append(
            LogEntry(
                project_uuid(project_id),
                (update.specialist_type or "agent")[:TYPE_CHARACTERS],
                (update.action_type or "update")[:TYPE_CHARACTERS],
                _encode(update),
            )
        )


Ring = Callable[[Publication], None]
"""Publish to a channel that keeps nothing in Postgres."""


class Journal(GroupCommit[Change]):
    """`durable_channel` says of which channels the messages are committed together with what they are about. Those of
    the others are rung after the commit. Neither it nor `ring` raises: many decisions share a commit.
    """

    def __init__(
        self,
        records: CoordinationRecords,
        epoch: int,
        durable: DurableChannels,
        *,
        durable_channel: Callable[[str], bool],
        ring: Ring,
        clock: Clock,
    ) -> None:
        super().__init__(durable, of="decisions", repeat="look how it stands")
        self._durable_channel = durable_channel
        self._ring = ring
        self._records = records
        self._epoch = epoch
        self._clock = clock

    async def commit(self, batch: list[Change]) -> None:
        whole, rung = Batch(), list[Publication]()
        for change in batch:
            whole.records += change.records
            whole.events += change.events
            whole.entries += change.entries
            rung += [each for each in change.messages if not self._durable_channel(each.channel)]
            change.messages = [each for each in change.messages if self._durable_channel(each.channel)]
            whole.messages += [new_message(publication) for publication in change.messages]
        stored = await self._records.commit(whole, self._epoch, now_us=self._clock.now_us())
        self._settle(batch, iter(stored))
        for publication in rung:
            self._ring(publication)
