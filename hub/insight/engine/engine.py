"""Does the jobs of the queue.

Rules: a job may be done twice, never not at all, so handlers are idempotent by its key; what goes wrong in one job is
that job's affair; one that fails again and again is parked with its error.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn
from uuid import UUID

from hub.clock import Clock
from hub.observe.metrics import Histogram, Tally
from storage.errors import StorageError
from storage.jobs import MAX_ATTEMPTS, Job, JobCounts, Jobs

logger = logging.getLogger("krin.jobs")

JobHandler = Callable[[Job], Awaitable[None]]

CONCURRENCY = 4  # jobs at once: as many as may ask a model
LEASE_S = 30.0  # after which the jobs of a dead worker are taken by another
LIMIT_S = 120.0  # for one attempt
POLL_S = 1.0  # between two looks when no bell rings
RETRY_S = 2.0  # before the second attempt; five times as long before each further one
GIVE_BACK_S = 1.0


class AIAnalysisEngine:
    """`outcomes` counts attempts: done, failed, parked, lost (another worker has taken the job over meanwhile).
    `counts` is the whole queue, as of the last look."""

    def __init__(
        self,
        jobs: Jobs,
        *,
        handlers: Mapping[str, JobHandler],
        node: str,
        clock: Clock,
        concurrency: int = CONCURRENCY,
        lease_s: float = LEASE_S,
    ) -> None:
        """`handlers`: by kind of job. A job of another kind waits for a worker that knows it."""
        self._jobs = jobs
        self._handlers = handlers
        self._node = node
        self._clock = clock
        self._concurrency = concurrency
        self._lease_s = lease_s
        self._running: dict[UUID, asyncio.Task[None]] = {}  # by claim
        self._bell = asyncio.Event()
        self._reached = True  # whether the queue was, at the last look
        self.counts = JobCounts()
        self.outcomes = Tally()
        self.job_ms = Histogram()

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._hear(), name="jobs: bell")
                group.create_task(self._poll(), name="jobs: poll")
                group.create_task(self._upkeep(), name="jobs: leases")
                while True:
                    self._bell.clear()
                    for job in await self._claim():
                        self._running[job.claim] = group.create_task(self._do(job), name=f"job {job.id}")
                    await self._bell.wait()
        finally:
            await self._give_back()

    @property
    def running(self) -> int:
        return len(self._running)

    async def _claim(self) -> list[Job]:
        free = self._concurrency - len(self._running)
        if not free:
            return []
        try:
            jobs = await self._jobs.claim(self._handlers, worker=self._node, lease_s=self._lease_s, limit=free)
        except StorageError as failure:
            if self._reached:  # said once, not at every look
                logger.warning("jobs wait: %s", failure)
            self._reached = False
            return []
        self._reached = True
        return jobs

    async def _do(self, job: Job) -> None:
        began = self._clock.monotonic()
        failure = await self._attempt(job)
        # From here on no lease is renewed. What is cancelled before stays where it is, and is given back.
        self._running.pop(job.claim, None)
        self.job_ms.observe((self._clock.monotonic() - began) * 1000)
        try:
            outcome = await self._end(job, failure)
        except StorageError as unknown:
            logger.warning("job %d (%s) may be done again: %s", job.id, job.kind, unknown)
            outcome = "lost"
        self.outcomes.add(outcome)
        self._bell.set()

    async def _attempt(self, job: Job) -> Exception | None:
        try:
            async with asyncio.timeout(LIMIT_S):
                await self._handlers[job.kind](job)
        except Exception as failure:  # the rim of a job
            logger.warning("job %d (%s), attempt %d: %r", job.id, job.kind, job.attempt, failure)
            return failure
        return None

    async def _end(self, job: Job, failure: Exception | None) -> str:
        """How it went. Raises StorageError when that could not be written down."""
        if failure is None:
            return "done" if await self._jobs.finish(job) else "lost"
        retry_in_s = pause_s(job.attempt)
        error = f"{type(failure).__name__}: {failure}"
        if not await self._jobs.fail(job, error, retry_in_s=retry_in_s):
            return "lost"
        if retry_in_s is None:
            logger.error("job %d (%s) is parked after %d attempts", job.id, job.kind, job.attempt)
        return "failed" if retry_in_s is not None else "parked"

    async def _hear(self) -> NoReturn:
        while True:
            with contextlib.suppress(StorageError):  # then there is the poll
                await self._jobs.listen(self._bell.set)
            await self._clock.sleep(POLL_S)

    async def _poll(self) -> NoReturn:
        """What is due later rings no bell, nor does a worker that dies; and a pooler may let none through."""
        while True:
            await self._clock.sleep(POLL_S)
            self._bell.set()

    async def _upkeep(self) -> NoReturn:
        while True:
            try:
                await self._renew()
                for id in await self._jobs.park_lost():
                    logger.error("job %d is parked: every worker that had it was lost", id)
                self.counts = await self._jobs.count()
            except StorageError as failure:
                logger.warning("leases of jobs cannot be renewed: %s", failure)
            await self._clock.sleep(self._lease_s / 3)

    async def _renew(self) -> None:
        claims = set(self._running)
        if not claims:
            return
        for claim in claims - await self._jobs.renew(claims, lease_s=self._lease_s):
            if (task := self._running.pop(claim, None)) is not None:
                self.outcomes.add("lost")
                task.cancel()
                self._bell.set()

    async def _give_back(self) -> None:
        if self._running:
            try:
                async with asyncio.timeout(GIVE_BACK_S):
                    await self._jobs.give_back(self._running)
            except (StorageError, TimeoutError):
                logger.warning("%d jobs wait until their leases end", len(self._running))
            self._running.clear()


def pause_s(attempt: int) -> float | None:
    """How long a job rests after an attempt that failed. None: it has had its attempts."""
    if attempt >= MAX_ATTEMPTS:
        return None
    return float(RETRY_S * 5 ** (attempt - 1))
