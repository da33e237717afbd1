"""What is said beside an answer: at once what rules, statistics and the newest insight know, and later what a model
sees.

Rules: no model on the way of an answer; of a channel a model is asked once a minute at most, whoever reads there. What
was said before is read from the table of insights, not from a cache: one taken back or erased is gone at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, NoReturn
from uuid import uuid5

import msgspec

from hub.caller import Caller
from hub.clock import Clock
from hub.insight.insights.page import NAMESPACE, Page, page_of
from hub.insight.insights.rules import by_rules
from hub.insight.insights.statistics import by_statistics
from hub.observe.metrics import Tally
from hub.shared_reading import SharedReading
from protocol.channels import split_channel
from protocol.insights import Insight
from storage.errors import StorageError
from storage.insights import InsightTable, StoredInsight
from storage.jobs import Jobs

logger = logging.getLogger("krin.insights")

ASK_EVERY_MS = 60_000
MAX_PROMISED = 1_000  # that are not in the queue yet
MAX_QUEUED = 10_000  # that are remembered: what is forgotten is put again, which changes nothing
QUEUE_S = 0.003  # after it was asked an answer waits no longer for its promise to be queued: 5 ms are its all
READ_S = 0.004  # likewise for what was said before
RETRY_S = 1.0
MAX_READING = 2  # of the pool's connections, which answers need too
RULES = "rules"


class Model(msgspec.Struct, frozen=True):
    """Where a model is configured: what its insights are kept in and asked for by.

    `available`: whether it is to be had right now. `namespaces`: of the channels that it may be shown. `read_s`: how
    long an answer waits for what was said before.
    """

    table: InsightTable
    jobs: Jobs
    available: Callable[[], bool]
    namespaces: Collection[str]
    read_s: float = READ_S


class _Promise:
    """What is to be queued, and who waits for that."""

    __slots__ = ("kept", "payload")

    def __init__(self, payload: dict[str, Any]) -> None:
        self.payload = payload
        self.kept = asyncio.Event()


class InsightCoordinator:
    """An AICoordinator (hub.edge.envelope). `answers` counts them by status."""

    def __init__(
        self, model: Model | None = None, *, hear: Callable[[Exception], None] = lambda failure: None, clock: Clock
    ) -> None:
        """model None: rules and statistics only, which the answers say. `hear` is told of errors."""
        self._model = model
        self._hear = hear
        self._clock = clock
        self._newest = SharedReading(self._read_newest, turns=asyncio.Semaphore(MAX_READING))
        self._promised: dict[str, _Promise] = {}  # by the key of the job
        self._queued: OrderedDict[str, None] = OrderedDict()  # keys of jobs that Postgres has
        self._bell = asyncio.Event()
        self.answers = Tally()

    async def generate_insights(self, result: Any, caller: Caller) -> dict[str, Any]:
        """Never raises: what rules see is said without the database, too."""
        began = self._clock.monotonic()
        page = page_of(result)
        items: list[Insight] = []
        if page is not None:
            now_us = self._clock.now_us()
            items = [*by_rules(page, now_us=now_us), *by_statistics(page, now_us=now_us)]
        answer: dict[str, Any] = {"status": "ready", "source": RULES, "items": items}
        if page is not None and self._model is not None and self._is_of_interest(page, self._model):
            answer |= await self._promise(page, caller, self._model, items, until=began + QUEUE_S)
        self.answers.add(answer["status"])
        return answer

    async def analyze_error(self, failure: Exception) -> None:
        self._hear(failure)

    async def run(self) -> NoReturn:
        """Queue what was promised: a full queue or a lost database delays it."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            try:
                await self.keep_promises()
            except StorageError as failure:
                logger.warning("insights wait: %s", failure)
                await self._clock.sleep(RETRY_S)
                self._bell.set()

    async def keep_promises(self) -> None:
        """Raises StorageError: the next time goes on from there."""
        while self._promised and self._model is not None:
            key, promise = next(iter(self._promised.items()))
            await self._model.jobs.put("insight", key, promise.payload)
            del self._promised[key]
            self._queued[key] = None
            if len(self._queued) > MAX_QUEUED:
                self._queued.popitem(last=False)
            promise.kept.set()

    def _is_of_interest(self, page: Page, model: Model) -> bool:
        """Whether a model might look at it: the newest messages of a channel that it may be shown."""
        return page.ends[1] >= page.head and split_channel(page.channel)[0] in model.namespaces

    async def _promise(
        self, page: Page, caller: Caller, model: Model, items: list[Insight], *, until: float
    ) -> dict[str, Any]:
        """What is different because of the model."""
        try:
            async with asyncio.timeout(model.read_s):
                newest = await self._newest.of(page.channel)
        except TimeoutError:
            return {"status": "degraded", "reason": "timeout"}
        except StorageError:
            return {"status": "degraded", "reason": "failed"}
        known = _with(newest, items)
        id = str(uuid5(NAMESPACE, f"{page.channel} {self._clock.now_ms() // ASK_EVERY_MS}"))
        if newest is not None and (newest.upto >= page.head or newest.id == id):
            return known
        if not model.available():
            return known | {"status": "degraded", "reason": "the model is not to be had"}
        if id not in self._queued and id not in self._promised and len(self._promised) >= MAX_PROMISED:
            return known | {"status": "degraded", "reason": "too much is waiting for the model"}
        queued = await self._is_queued(id, {"subject": page.channel, "tenant": caller.tenant}, until=until)
        return known | {
            "status": "pending",
            "insight_id": id,
            "channel": f"insights:{page.channel}",
            "queued": queued,
        }

    async def _read_newest(self, subject: str) -> StoredInsight | None:
        assert self._model is not None
        return await self._model.table.newest(subject, now_us=self._clock.now_us())

    async def _is_queued(self, id: str, payload: dict[str, Any], *, until: float) -> bool:
        """Whether Postgres has the job by now, so that it outlives this node. It is put all the same."""
        if id in self._queued:
            return True
        if (promise := self._promised.get(id)) is None:
            promise = self._promised[id] = _Promise(payload)
            self._bell.set()
        left_s = until - self._clock.monotonic()
        if left_s <= 0:
            return False
        try:
            async with asyncio.timeout(left_s):
                await promise.kept.wait()
        except TimeoutError:
            return False
        return True


def _with(stored: StoredInsight | None, items: list[Insight]) -> dict[str, Any]:
    """The newest insight of the channel, even if it has not seen the newest messages, beside what rules see."""
    if stored is None or stored.insight is None or stored.retracted_us is not None:
        return {"source": RULES, "items": items}
    return {"source": stored.insight.source, "items": [stored.insight, *items]}
