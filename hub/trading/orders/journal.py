"""What the order engine decides, as the log of orders takes it: see `hub.group_commit`."""

from __future__ import annotations

from collections.abc import Callable

from hub.channels.durable import DurableChannels
from hub.clock import Clock
from hub.group_commit import Decision, GroupCommit, new_message
from storage.orders import LogEnd, NewEvent, NewName, NewOrder, OrderBatch, OrderLog, Taken


class NameTaken(Exception):
    """A name was used by an order that is in the log only. Nothing of the change was written."""


class Change(Decision):
    """What one decision writes down. `undo` is called if a name turned out to be taken."""

    __slots__ = ("ended", "events", "names", "order", "order_ids", "reopened", "undo")

    def __init__(self) -> None:
        super().__init__()
        self.order: tuple[str, str, str, str] | None = None  # order_id, account, symbol, side of a new one
        self.names: list[NewName] = []
        self.events: list[NewEvent] = []
        self.ended: list[str] = []
        self.reopened: list[str] = []
        self.order_ids: set[str] = set()
        self.undo: Callable[[], None] | None = None


class Journal(GroupCommit[Change]):
    """Knows where the log ends. A change may fail with NameTaken, too."""

    def __init__(self, log: OrderLog, end: LogEnd, durable: DurableChannels, *, clock: Clock) -> None:
        super().__init__(durable, of="orders", repeat="retry with the same client_order_id")
        self._log = log
        self._end = end
        self._clock = clock

    @property
    def epoch(self) -> int:
        return self._end.epoch

    async def commit(self, batch: list[Change]) -> None:
        while batch:
            whole = OrderBatch()
            owners: list[Change] = []
            for change in batch:
                if change.order is not None:
                    whole.orders.append(NewOrder(*change.order, len(whole.events)))  # type: ignore[arg-type]  # a Side
                owners += [change] * len(change.names)
                whole.names += change.names
                whole.events += change.events
                whole.ended += change.ended
                whole.reopened += change.reopened
                whole.messages += [new_message(publication) for publication in change.messages]
            try:
                stored, self._end = await self._log.commit(whole, self._end, now_us=self._clock.now_us())
            except Taken as taken:
                batch = self._without({id(owners[place]) for place in taken.places}, batch)
                continue
            self._settle(batch, iter(stored))
            return

    def _without(self, wrong: set[int], batch: list[Change]) -> list[Change]:
        """Take out the changes whose names are taken, and whatever else was decided about their orders."""
        dropped = {order_id for change in batch if id(change) in wrong for order_id in change.order_ids}
        kept: list[Change] = []
        for change in batch:
            (self._refuse(change) if change.order_ids & dropped else kept.append(change))
        for change in [each for each in self._queue if each.order_ids & dropped]:
            self._queue.remove(change)
            self._refuse(change)
        return kept

    def _refuse(self, change: Change) -> None:
        if change.undo is not None:
            change.undo()
        change.fail(NameTaken())
