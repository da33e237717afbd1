"""The one node that coordinates: its term, made from the records, and the second hand that brings what time brings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn, Protocol

import msgspec

from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.coordination.desk import TaskDesk
from hub.coordination.journal import Change, Journal, Ring
from hub.coordination.roster import Roster
from hub.leadership import CHECK_S, Leadership
from storage.coordination_records import CoordinationRecords, Record
from storage.leadership import Lock

logger = logging.getLogger("krin.coordination")

TOPIC = "coordination"
OF = "the coordinator"
TICK_S = 0.5


class Desk(Protocol):
    """Something the coordinator looks after.

    `kinds`: the kinds of record that it restores, each from its body. After all of them `restored` is called.
    """

    kinds: Mapping[str, Callable[[bytes], None]]

    def restored(self, now_us: int) -> None: ...
    def tick(self, change: Change) -> None: ...


class Term:
    """Everything in memory, for as long as this node leads. `desks` are further ones, by name. `remembered`: of which
    kinds of record how many are restored that have ended.
    """

    def __init__(self, journal: Journal, *, clock: Clock) -> None:
        self._clock = clock
        self.journal = journal
        self.tasks = TaskDesk(lambda: self.roster)
        self.roster = Roster(held=self.tasks.held, clock=clock)
        self.desks: dict[str, Desk] = {}
        self.remembered: dict[str, int] = {}

    @property
    def now_us(self) -> int:
        return self._clock.now_us()

    def restore(self, records: Sequence[Record]) -> None:
        """One that cannot be read is left out: after an erasure there may be no name where it needs one."""
        kinds = {**self.roster.kinds, **self.tasks.kinds}
        for desk in self.desks.values():
            kinds |= desk.kinds
        for record in records:
            if (restore := kinds.get(record.kind)) is not None:
                try:
                    restore(record.body)
                except msgspec.ValidationError as failure:
                    logger.warning("a record of a %s is left out: %s", record.kind, failure)
        now_us = self._clock.now_us()
        self.tasks.restored(now_us)
        for desk in self.desks.values():
            desk.restored(now_us)

    def change(self) -> Change:
        """To write a decision into. Raises HubError(overloaded, not_available) when none can be taken now."""
        self.journal.require_room()
        return Change(self._clock.now_us())

    def tick(self) -> None:
        """A desk whose work fails is tried again the next time; it keeps no other from its own."""
        change = Change(self._clock.now_us())
        for tick in (self.roster.look_at_all, self.tasks.tick, *(desk.tick for desk in self.desks.values())):
            try:
                tick(change)
            except Exception:
                logger.exception("the work that time brings has failed")
        if change.records or change.messages or change.entries:
            self.journal.add(change)


Furnish = Callable[[Term], None]
"""Puts further desks into a new term, before it is restored."""


class Coordination(Leadership[Term]):
    def __init__(
        self,
        records: CoordinationRecords,
        durable: DurableChannels,
        *,
        durable_channel: Callable[[str], bool],
        ring: Ring,
        node: str,
        furnish: Furnish,
        clock: Clock,
    ) -> None:
        """`durable_channel`, `ring`: as `Journal` takes them."""
        acquire: Callable[[], AbstractAsyncContextManager[Lock | None]] = records.leadership
        super().__init__(OF, acquire=acquire, clock=clock)
        self._records = records
        self._durable = durable
        self._durable_channel = durable_channel
        self._ring = ring
        self._node = node
        self._furnish = furnish
        self._clock = clock
        self._epoch = 0

    async def begin(self) -> Term:
        self._epoch = await self._records.take_over(self._node)
        journal = Journal(
            self._records,
            self._epoch,
            self._durable,
            durable_channel=self._durable_channel,
            ring=self._ring,
            clock=self._clock,
        )
        term = Term(journal, clock=self._clock)
        self._furnish(term)
        known = [record async for record in self._records.alive()]
        for kind, limit in term.remembered.items():
            known += await self._records.ended(kind, limit)
        term.restore(known)
        return term

    async def serve(self, term: Term, group: asyncio.TaskGroup) -> None:
        group.create_task(term.journal.run(), name="coordination commit")
        group.create_task(self._tick(term), name="coordination tick")
        group.create_task(self._check(), name="coordination epoch")

    async def _check(self) -> NoReturn:
        while True:
            await self._clock.sleep(CHECK_S)
            await self._records.check(self._epoch)

    async def _tick(self, term: Term) -> NoReturn:
        while True:
            await self._clock.sleep(TICK_S)
            term.tick()
