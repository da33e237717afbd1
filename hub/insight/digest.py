"""Once a week each team is told what was learned: its own knowledge and insights, and what is everybody's.

Two kinds of job: one for the week, which finds the teams, and one for each team's digest. A team's channel takes the
digest of a week once, whoever publishes it again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn, Protocol

import msgspec

from hub.clock import Clock
from hub.insight.engine.engine import JobHandler
from protocol.errors import ErrorCode, HubError
from protocol.knowledge import DigestEntry, KnowledgeDigest
from storage.errors import StorageError
from storage.jobs import Job, Jobs
from storage.news import Piece, TeamNews

logger = logging.getLogger("krin.digest")

LOOK_S = 600.0  # between two looks whether a week is over
SETTLE_MS = 3_600_000  # after its end, for what is still on its way to being found
PAGE = 500  # teams
MAX_ENTRIES = 50
MAX_TITLE = 512
EVERYBODY = "system:knowledge"


class Week(msgspec.Struct, frozen=True):
    """An ISO week, from Monday to Monday in UTC."""

    name: str
    since_ms: int
    until_ms: int


class TeamWeek(msgspec.Struct, frozen=True):
    week: Week
    team: str


class Publish(Protocol):
    async def __call__(self, channel: str, type: str, data: Any, *, idempotency_key: str) -> object: ...


class Digests:
    def __init__(self, jobs: Jobs, news: TeamNews, publish: Publish, *, clock: Clock) -> None:
        self._jobs = jobs
        self._news = news
        self._publish = publish
        self._clock = clock
        self.handlers: Mapping[str, JobHandler] = {"digests": self.plan, "digest": self.make}

    async def run(self) -> NoReturn:
        while True:
            week = week_before(self._clock.now_ms() - SETTLE_MS)
            try:
                await self._jobs.put("digests", week.name, msgspec.to_builtins(week))
            except StorageError as failure:
                logger.warning("the digest of %s waits: %s", week.name, failure)
            await self._clock.sleep(LOOK_S)

    async def plan(self, job: Job) -> None:
        """Raises StorageError, also when there are more teams than jobs may wait: the next attempt adds the rest."""
        week = msgspec.convert(job.payload, Week)
        after = ""
        while teams := await self._news.teams(week.since_ms, week.until_ms, after=after, limit=PAGE):
            for team in teams:
                await self._jobs.put("digest", f"{week.name} {team}", msgspec.to_builtins(TeamWeek(week, team)))
            after = teams[-1]

    async def make(self, job: Job) -> None:
        """Raises HubError, StorageError."""
        given = msgspec.convert(job.payload, TeamWeek)
        week, team = given.week, given.team
        news = await self._news.of(
            [team, f"insights:{team}", EVERYBODY],
            *(week.since_ms, week.until_ms),
            characters=MAX_TITLE,
            limit=MAX_ENTRIES,
        )
        digest = KnowledgeDigest(
            week=week.name,
            since=week.since_ms * 1000,
            until=week.until_ms * 1000,
            knowledge=news.knowledge,
            insights=news.insights,
            entries=[entry_of(each) for each in news.pieces],
        )
        try:
            await self._publish(
                team, "KNOWLEDGE_DIGEST", msgspec.to_builtins(digest), idempotency_key=f"digest {week.name}"
            )
        except HubError as refused:
            if refused.code is not ErrorCode.IDEMPOTENCY_CONFLICT:  # which it is when more has been found meanwhile
                raise


def entry_of(piece: Piece) -> DigestEntry:
    return DigestEntry(
        kind=piece.kind, type=piece.type, channel=piece.channel, title=piece.title, at=piece.timestamp_ms * 1000
    )


def week_before(now_ms: int) -> Week:
    """The newest week that is over."""
    today = datetime.fromtimestamp(now_ms / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = today - timedelta(days=today.weekday())
    since = until - timedelta(days=7)
    year, number, _ = since.isocalendar()
    return Week(f"{year}-W{number:02}", int(since.timestamp() * 1000), int(until.timestamp() * 1000))
