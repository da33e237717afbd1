"""The analysis engine on a real queue: every job is done, none holds up another, none is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from clock import ManualClock

from hub.clock import Clock, SystemClock
from hub.insight.engine.engine import RETRY_S, AIAnalysisEngine, JobHandler, pause_s
from storage.database import Database
from storage.errors import Unavailable
from storage.jobs import MAX_ATTEMPTS, Job, Jobs

LEASE_S = 30.0


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


@asynccontextmanager
async def working(
    jobs: Jobs, handler: JobHandler, *, clock: Clock | None = None, node: str = "a", concurrency: int = 4
) -> AsyncIterator[AIAnalysisEngine]:
    engine = AIAnalysisEngine(
        jobs,
        handlers={"insight": handler},
        node=node,
        clock=clock or SystemClock(),
        concurrency=concurrency,
        lease_s=LEASE_S,
    )
    task = asyncio.create_task(engine.run())
    try:
        async with asyncio.timeout(10):
            yield engine
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until(fact: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await fact():
            await asyncio.sleep(0.01)


def all_ended(jobs: Jobs) -> Callable[[], Awaitable[bool]]:
    async def ended() -> bool:
        counts = await jobs.count()
        return counts.waiting + counts.running == 0

    return ended


async def put(jobs: Jobs, count: int) -> None:
    for number in range(count):
        await jobs.put("insight", str(number), {"number": number})


async def test_everything_in_the_queue_is_done_a_few_at_a_time(jobs: Jobs) -> None:
    done: list[int] = []
    at_once: list[int] = []

    async def handler(job: Job) -> None:
        at_once.append(engine.running)
        done.append(job.payload["number"])

    await put(jobs, 50)
    async with working(jobs, handler, concurrency=3) as engine:
        await until(all_ended(jobs))
    assert sorted(done) == list(range(50))
    assert max(at_once) <= 3
    assert engine.outcomes.counts == {"done": 50}


async def test_what_is_put_while_the_engine_sleeps_wakes_it(jobs: Jobs) -> None:
    handled = asyncio.Event()

    async def handler(job: Job) -> None:
        handled.set()

    clock = ManualClock()  # no poll will ever come
    async with working(jobs, handler, clock=clock):
        await clock.until_somebody_sleeps(2)
        await put(jobs, 1)
        await handled.wait()


async def test_without_a_bell_the_engine_looks_by_itself(database: Database) -> None:
    class Deaf(Jobs):
        """As behind a pooler that lets no LISTEN through."""

        async def listen(self, ring: Callable[[], None]) -> None:  # type: ignore[override]  # it never hears anything
            await asyncio.get_running_loop().create_future()

    handled = asyncio.Event()

    async def handler(job: Job) -> None:
        handled.set()

    clock, jobs = ManualClock(), Deaf(database)
    async with working(jobs, handler, clock=clock):
        await clock.until_somebody_sleeps(2)
        await put(jobs, 1)
        async with asyncio.timeout(5):
            while not handled.is_set():
                clock.advance(1)
                await asyncio.sleep(0.01)


async def test_a_job_that_fails_holds_up_no_other_and_is_parked_with_its_error(
    jobs: Jobs, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    attempts: list[int] = []

    async def handler(job: Job) -> None:
        if job.payload["number"] == 1:
            attempts.append(job.attempt)
            raise ValueError("poison")

    await put(jobs, 3)
    with caplog.at_level(logging.CRITICAL, "krin.jobs"):
        async with working(jobs, handler) as engine:

            async def parked() -> bool:
                await database.execute("UPDATE jobs SET due_at = now() WHERE state = 'waiting'")
                return bool(await jobs.listed(state="parked"))

            await until(parked)
    [listed] = await jobs.listed(state="parked")
    assert (listed.key, listed.error, listed.worker) == ("1", "ValueError: poison", "a")
    assert attempts == [1, 2, 3, 4, 5]
    assert engine.outcomes.counts == {"done": 2, "failed": 4, "parked": 1}


async def test_a_queue_that_is_away_is_complained_of_once_and_worked_on_when_it_is_back(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Jobs):
        """As while Postgres restarts."""

        looks = 0

        async def claim(self, *arguments: Any, **options: Any) -> list[Job]:
            self.looks += 1
            if self.looks <= 3:
                raise Unavailable("away")
            return await super().claim(*arguments, **options)

    handled = asyncio.Event()

    async def handler(job: Job) -> None:
        handled.set()

    clock, jobs = ManualClock(), Away(database)
    await put(jobs, 1)
    with caplog.at_level(logging.WARNING, "krin.jobs"):
        async with working(jobs, handler, clock=clock), asyncio.timeout(5):
            while not handled.is_set():
                clock.advance(1)
                await asyncio.sleep(0.01)
    assert [record.getMessage() for record in caplog.records] == ["jobs wait: away"]


async def test_an_engine_that_ends_gives_back_what_it_was_doing(jobs: Jobs) -> None:
    begun = asyncio.Event()

    async def never(job: Job) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    await put(jobs, 1)
    async with working(jobs, never):
        await begun.wait()
    [listed] = await jobs.listed()
    assert (listed.state, listed.attempts) == ("waiting", 0)


async def test_long_work_keeps_its_lease(jobs: Jobs, database: Database) -> None:
    begun, finish = asyncio.Event(), asyncio.Event()

    async def slow(job: Job) -> None:
        begun.set()
        await finish.wait()

    clock = ManualClock()
    await put(jobs, 1)
    async with working(jobs, slow, clock=clock):
        await begun.wait()
        before = (await jobs.listed())[0].due_at
        await clock.until_somebody_sleeps(2)
        clock.advance(LEASE_S / 3)

        async def renewed() -> bool:
            return (await jobs.listed())[0].due_at > before

        await until(renewed)
        finish.set()
        await until(all_ended(jobs))
    assert [(each.state, each.attempts) for each in await jobs.listed()] == [("done", 1)]


async def test_work_whose_lease_was_lost_is_dropped_and_done_by_whoever_has_it(jobs: Jobs, database: Database) -> None:
    begun, dropped = asyncio.Event(), asyncio.Event()

    async def frozen(job: Job) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            dropped.set()

    clock = ManualClock()
    await put(jobs, 1)
    async with working(jobs, frozen, clock=clock) as engine:
        await begun.wait()
        await clock.until_somebody_sleeps(2)
        await database.execute("UPDATE jobs SET due_at = now()")  # as if this node had slept for LEASE_S
        [job] = await jobs.claim(["insight"], worker="b", lease_s=LEASE_S, limit=1)
        clock.advance(LEASE_S / 3)
        await dropped.wait()
        assert await jobs.finish(job)
    assert engine.outcomes.counts == {"lost": 1}
    assert [each.state for each in await jobs.listed()] == ["done"]


def test_the_pauses_between_attempts_grow_and_end() -> None:
    pauses = [pause_s(attempt) for attempt in range(1, MAX_ATTEMPTS + 1)]
    assert pauses == [RETRY_S, RETRY_S * 5, RETRY_S * 25, RETRY_S * 125, None]
