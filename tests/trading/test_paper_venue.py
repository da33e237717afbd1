"""Latency, bounds and repeatability of the paper venue."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from hub.trading.venues.base import VenueReport
from hub.trading.venues.matching import Matcher
from hub.trading.venues.paper import EXPIRY_PERIOD_S, Latency, PaperVenue

from .paper_market import INSTRUMENT, SYMBOL, approve, line, make_order, make_tick
from .virtual_clock import VirtualClock

TASKS = 2  # of a venue that sleep when all is done: commands under way and expiries


@asynccontextmanager
async def running(clock: VirtualClock, latency: Latency, **options: Any) -> AsyncIterator[PaperVenue]:
    matcher = Matcher(instrument={SYMBOL: INSTRUMENT}.get, position=lambda _account, _symbol: Decimal(0))
    venue = PaperVenue(matcher, clock=clock, latency=latency, **options)
    venue.hear(make_tick("100", "101"))
    task = asyncio.create_task(venue.run())
    try:
        yield venue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read(venue: PaperVenue, count: int) -> list[VenueReport]:
    reports = venue.reports()
    async with asyncio.timeout(5):
        return [await anext(reports) for _ in range(count)]


async def test_a_command_meets_the_market_as_it_is_when_it_arrives() -> None:
    clock = VirtualClock()
    async with running(clock, Latency(least_ms=20)) as venue:
        await venue.submit(approve(make_order("BUY", "1")))
        await clock.advance(0.019, sleepers=TASKS)
        venue.hear(make_tick("200", "201"))
        sent_us = clock.now_us() - 19_000
        await clock.advance(0.001, sleepers=1)
        accepted, trade = await read(venue, 2)
        assert line(trade) == "TRADE 1 @ 201 TAKER"
        assert accepted.ts_event == sent_us + 20_000


async def test_jitter_lets_no_command_overtake_another() -> None:
    clock = VirtualClock()
    orders = [make_order("BUY", "1", "99") for _ in range(20)]
    async with running(clock, Latency(least_ms=1, jitter_ms=50)) as venue:
        for order in orders:
            await venue.submit(approve(order))
        reading = asyncio.create_task(read(venue, len(orders)))
        while not reading.done():
            await clock.advance(0.001, sleepers=1)
            await asyncio.sleep(0)
        assert [each.order_id for each in reading.result()] == [order.order_id for order in orders]


async def test_an_order_ends_at_its_time_though_the_market_is_silent() -> None:
    clock = VirtualClock()
    async with running(clock, Latency(least_ms=0)) as venue:
        order = make_order("BUY", "1", "99", tif="GTD", expire_at=clock.now_us() + 1_000_000)
        await venue.submit(approve(order))
        assert [each.exec_type for each in await read(venue, 1)] == ["NEW"]
        await clock.advance(1 + EXPIRY_PERIOD_S, sleepers=1)
        (ended,) = await read(venue, 1)
        assert ended.exec_type == "EXPIRED"


async def test_with_too_much_unread_nothing_is_matched_and_nothing_is_lost() -> None:
    async with running(VirtualClock(), Latency(least_ms=0), max_unread=2) as venue:
        far = make_order("BUY", "1", "97")
        for order in (make_order("BUY", "1", "99"), make_order("BUY", "1", "99"), far):
            await venue.submit(approve(order))
        assert [line(each) for each in await read(venue, 3)] == ["NEW"] * 3

        venue.hear(make_tick("98", "98.5"))
        venue.hear(make_tick("96", "96.5"))
        await venue.submit(approve(make_order("BUY", "1", "90")))
        status = await venue.status(far)
        assert status is not None
        assert status.open

        assert [line(each) for each in await read(venue, 3)] == ["TRADE 1 @ 99 MAKER", "TRADE 1 @ 99 MAKER", "NEW"]
        venue.hear(make_tick("96", "96.5"))
        assert [line(each) for each in await read(venue, 1)] == ["TRADE 1 @ 97 MAKER"]


async def told(seed: int) -> list[VenueReport]:
    """What a venue reports of a random but repeatable hour."""
    clock = VirtualClock()
    dice = random.Random(7)
    async with running(clock, Latency(least_ms=2, jitter_ms=5), seed=seed) as venue:
        for n in range(200):
            side = dice.choice(("BUY", "SELL"))
            price = str(dice.randint(97, 104))
            await venue.submit(approve(make_order(side, "1", price, account=dice.choice("ab"), order_id=f"r{n}")))
            await clock.advance(dice.random() / 100, sleepers=1)
            middle = dice.randint(98, 103)
            venue.hear(make_tick(str(middle), str(middle + 1), size="3"))
        await clock.advance(1, sleepers=1)
        venue.hear(make_tick("100", "101"))
        reports = venue.reports()
        out: list[VenueReport] = []
        while True:
            try:
                async with asyncio.timeout(0):
                    out.append(await anext(reports))
            except TimeoutError:
                return out


async def test_the_same_seed_gives_the_same_reports() -> None:
    first = await told(1)
    assert len(first) > 300
    assert await told(1) == first
