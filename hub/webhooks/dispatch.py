"""Who delivers: one node at a time, with a courier for each webhook that is enabled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import NoReturn

from hub.clock import Clock
from hub.leadership import Leadership
from hub.observe.metrics import Tally
from hub.webhooks.courier import Courier
from storage.errors import StorageError
from storage.webhooks import Webhook, Webhooks

logger = logging.getLogger("krin.webhooks")

LOOK_S = 1.0  # how often it is looked at which there are
RETRY_S = 5.0  # after a courier failed

MakeCourier = Callable[[Webhook, Tally], Courier]


class Couriers:
    """A term: those at work, by webhook."""

    def __init__(self, table: Webhooks, *, courier: MakeCourier, outcomes: Tally, clock: Clock) -> None:
        self._table = table
        self._courier = courier
        self._outcomes = outcomes
        self._clock = clock
        self._at_work: dict[str, tuple[int, asyncio.Task[None]]] = {}  # the webhook's version, and its courier

    def __len__(self) -> int:
        return len(self._at_work)

    async def run(self) -> NoReturn:
        """Raises StorageError."""
        async with asyncio.TaskGroup() as group:
            while True:
                enabled = {each.id: each for each in await self._table.list() if each.enabled}
                for id, (version, task) in list(self._at_work.items()):
                    if id not in enabled or enabled[id].version != version:
                        task.cancel()
                        await asyncio.wait([task])  # its last attempt must not overtake the first of the next one
                        del self._at_work[id]
                for id, webhook in enabled.items():
                    if id not in self._at_work:
                        task = group.create_task(self._deliver(webhook), name=f"webhook {id}")
                        self._at_work[id] = (webhook.version, task)
                await self._clock.sleep(LOOK_S)

    async def _deliver(self, webhook: Webhook) -> None:
        while True:
            try:
                await self._courier(webhook, self._outcomes).run()
                return
            except StorageError:
                raise  # the term ends, and the next one begins with what is stored
            except Exception:
                logger.exception("a courier failed")  # of one webhook, whose fault it may be: others go on
            await self._clock.sleep(RETRY_S)


class WebhookDispatch(Leadership[Couriers]):
    """`outcomes`: attempts of this node."""

    def __init__(self, table: Webhooks, *, courier: MakeCourier, clock: Clock) -> None:
        super().__init__("webhooks", acquire=table.leadership, clock=clock)
        self._table = table
        self._courier = courier
        self.outcomes = Tally()

    async def begin(self) -> Couriers:
        return Couriers(self._table, courier=self._courier, outcomes=self.outcomes, clock=self._clock)

    async def serve(self, term: Couriers, group: asyncio.TaskGroup) -> None:
        group.create_task(term.run(), name="webhooks: couriers")
