"""The weekly digest: each team hears what it and everybody learned in the week that is over, once, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.insight.digest import LOOK_S, MAX_ENTRIES, SETTLE_MS, Digests, week_before
from protocol.errors import ErrorCode, HubError
from storage.database import Database
from storage.jobs import Job, Jobs
from storage.news import TeamNews

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)  # a Thursday
WEEK = week_before(int(NOW.timestamp() * 1000))
DOCUMENT = """
INSERT INTO documents (kind, reference, channel, timestamp_ms, type, publisher, content)
VALUES ($1, $2, $3, $4, 'PERFORMANCE', '', $5)
"""


class Channels:
    """Where digests are published. A channel takes a key once."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    async def publish(self, channel: str, type: str, data: Any, *, idempotency_key: str) -> None:
        assert (type, idempotency_key) == ("KNOWLEDGE_DIGEST", f"digest {WEEK.name}")
        if self.told.setdefault(channel, data) != data:
            raise HubError(ErrorCode.IDEMPOTENCY_CONFLICT, "that key is of another message")


@pytest.fixture
def jobs(database: Database) -> Jobs:
    return Jobs(database)


async def learn(
    database: Database, channel: str, title: str, *, kind: str = "knowledge", at: int | None = None
) -> None:
    await database.execute(DOCUMENT, kind, title, channel, WEEK.since_ms if at is None else at, f"{title}\ntags\nbody")


def digests(database: Database, jobs: Jobs, channels: Channels) -> Digests:
    return Digests(jobs, TeamNews(database), channels.publish, clock=ManualClock(now_ms=int(NOW.timestamp() * 1000)))


async def work(jobs: Jobs, made: Digests) -> list[Job]:
    """Everything in the queue, and what comes of it."""
    done: list[Job] = []
    while claimed := await jobs.claim(made.handlers, worker="a", lease_s=60, limit=10):
        for job in claimed:
            await made.handlers[job.kind](job)
            await jobs.finish(job)
            done.append(job)
    return done


async def scheduled(jobs: Jobs, made: Digests) -> None:
    running = asyncio.create_task(made.run())
    async with asyncio.timeout(5):
        while not await jobs.listed():
            await asyncio.sleep(0.01)
    running.cancel()


async def test_each_team_hears_what_it_and_everybody_learned_in_that_week(database: Database, jobs: Jobs) -> None:
    await learn(database, "team:alpha", "Index the foreign keys")
    await learn(database, "insights:team:alpha", "The build is slower", kind="insight", at=WEEK.until_ms - 1)
    await learn(database, "insights:team:beta", "Nobody reviews", kind="insight")
    await learn(database, "system:knowledge", "Measure first")
    await learn(database, "team:alpha", "Too old", at=WEEK.since_ms - 1)
    await learn(database, "team:gamma", "Too new", at=WEEK.until_ms)
    await learn(database, "team:delta", "said", kind="message")
    channels = Channels()
    made = digests(database, jobs, channels)
    await scheduled(jobs, made)
    await work(jobs, made)
    assert channels.told.keys() == {"team:alpha", "team:beta"}
    alpha = channels.told["team:alpha"]
    assert (alpha["week"], alpha["knowledge"], alpha["insights"]) == ("2026-W47", 2, 1)
    titles = [each["title"] for each in alpha["entries"]]
    assert titles == ["The build is slower", "Measure first", "Index the foreign keys"]
    assert {each["title"] for each in channels.told["team:beta"]["entries"]} == {"Nobody reviews", "Measure first"}


async def test_what_was_done_is_not_done_again_and_what_has_changed_meanwhile_is_no_failure(
    database: Database, jobs: Jobs
) -> None:
    await learn(database, "team:alpha", "First")
    channels = Channels()
    made = digests(database, jobs, channels)
    await scheduled(jobs, made)
    done = await work(jobs, made)
    before = channels.told["team:alpha"]
    await scheduled(jobs, made)
    assert await work(jobs, made) == []
    await learn(database, "team:alpha", "Found late")
    await made.make(next(job for job in done if job.kind == "digest"))  # whose worker died before it could say so
    assert channels.told["team:alpha"] == before


async def test_a_digest_has_the_newest_and_counts_all(database: Database, jobs: Jobs) -> None:
    for number in range(MAX_ENTRIES + 5):
        await learn(database, "team:alpha", f"Entry {number}", at=WEEK.since_ms + number)
    channels = Channels()
    made = digests(database, jobs, channels)
    await scheduled(jobs, made)
    await work(jobs, made)
    alpha = channels.told["team:alpha"]
    assert alpha["knowledge"] == MAX_ENTRIES + 5
    assert [each["title"] for each in alpha["entries"]] == [f"Entry {n}" for n in range(MAX_ENTRIES + 4, 4, -1)]


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))
def test_the_week_before_is_over_and_is_the_newest_that_is(now: datetime) -> None:
    now_ms = int(now.timestamp() * 1000)
    week = week_before(now_ms)
    since = datetime.fromtimestamp(week.since_ms / 1000, UTC)
    assert week.until_ms - week.since_ms == timedelta(days=7).total_seconds() * 1000
    assert week.until_ms <= now_ms < week.until_ms + 7 * 86_400_000
    assert since.strftime("%G-W%V %u %H:%M") == f"{week.name} 1 00:00"


async def test_a_week_that_has_just_ended_waits_for_what_is_on_its_way(database: Database, jobs: Jobs) -> None:
    clock = ManualClock(now_ms=WEEK.until_ms + SETTLE_MS - 1)
    running = asyncio.create_task(Digests(jobs, TeamNews(database), Channels().publish, clock=clock).run())
    await clock.until_somebody_sleeps()
    assert [each.key for each in await jobs.listed()] == ["2026-W46"]
    clock.advance(LOOK_S)
    await clock.until_somebody_sleeps()
    assert [each.key for each in await jobs.listed()] == ["2026-W47", "2026-W46"]
    running.cancel()
