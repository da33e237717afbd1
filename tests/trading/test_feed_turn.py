from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from postgres_server import migrated_postgres

from hub.trading.market.desk import MarketDesk
from hub.trading.market.service import MarketFeed
from hub.trading.market.turn import CHECK_S, FeedTurn
from storage.database import Database
from storage.errors import Unavailable
from storage.feed_lock import FeedLock

from .virtual_clock import VirtualClock


class Lock:
    """Says what a test tells it to."""

    def __init__(self) -> None:
        self.free: bool | None = True  # None: nobody can be asked
        self.released = False

    async def hold(self) -> bool:
        if self.free is None:
            raise Unavailable("Postgres is away.")
        return self.free

    async def release(self) -> None:
        self.released = True


async def _publish(
    channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
) -> None:
    raise AssertionError("a feed without sources has nothing to say")


@asynccontextmanager
async def turning(lock: Lock, clock: VirtualClock) -> AsyncIterator[FeedTurn]:
    turn = FeedTurn(lambda: MarketFeed([], MarketDesk(), _publish, clock=clock), lock, clock=clock)
    task = asyncio.create_task(turn.run())
    try:
        async with asyncio.timeout(10):
            await clock.advance(0.5, sleepers=1)
            yield turn
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_who_holds_the_lock_feeds_and_stops_when_another_has_it() -> None:
    lock, clock = Lock(), VirtualClock()
    async with turning(lock, clock) as turn:
        first = turn.feed
        assert first is not None
        lock.free = False
        await clock.advance(CHECK_S, sleepers=1)
        await clock.advance(CHECK_S, sleepers=1)
        assert turn.feed is None
        lock.free = True
        await clock.advance(CHECK_S, sleepers=1)
        assert turn.feed is not None and turn.feed is not first, "what the last one knew is old"
    assert lock.released


async def test_prices_go_on_while_postgres_is_away_but_nobody_begins_then() -> None:
    lock, clock = Lock(), VirtualClock()
    async with turning(lock, clock) as turn:
        first = turn.feed
        lock.free = None
        await clock.advance(3 * CHECK_S, sleepers=1)
        assert turn.feed is first is not None
    lock.free = None
    async with turning(lock, clock) as turn:
        assert turn.feed is None


@pytest.fixture(scope="module")
def dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with migrated_postgres(tmp_path_factory.mktemp("postgres")) as address:
        yield address


async def test_of_two_nodes_one_has_the_lock_until_it_lets_go(dsn: str) -> None:
    async with Database.open(dsn) as one, Database.open(dsn) as other:
        first, second = FeedLock(one), FeedLock(other)
        assert [await first.hold(), await second.hold(), await first.hold()] == [True, False, True]
        await first.release()
        assert [await second.hold(), await first.hold()] == [True, False]
        await second.release()


async def test_a_session_that_died_has_lost_the_lock_and_may_win_it_again(dsn: str) -> None:
    async with Database.open(dsn) as database:
        lock = FeedLock(database)
        assert await lock.hold()
        await database.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert await lock.hold()
        await lock.release()
