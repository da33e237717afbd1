"""What every venue must do, whoever it is. A new venue joins `VENUES`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from hub.clock import SystemClock
from hub.trading.orders.order import Order
from hub.trading.venues.base import Venue, VenueOrder, VenueReport
from hub.trading.venues.matching import Matcher
from hub.trading.venues.paper import Latency, PaperVenue

from .faulty_venue import FaultyVenue
from .paper_market import INSTRUMENT, SYMBOL, approve, line, make_order, make_tick

SOON_S = 10.0


class Scene:
    """A venue, what it says, and its market: 100 to 101, ten at each."""

    def __init__(self, venue: Venue, quote: Callable[[str, str], None]) -> None:
        self.venue = venue
        self.quote = quote
        self._reports = venue.reports()

    async def next(self) -> VenueReport:
        async with asyncio.timeout(SOON_S):
            return await anext(self._reports)

    async def until(self, *exec_types: str) -> list[VenueReport]:
        """Everything up to the first report of one of these types."""
        reports = [await self.next()]
        while reports[-1].exec_type not in exec_types:
            reports.append(await self.next())
        return reports

    async def status(self, order: Order) -> VenueOrder:
        status = await self.venue.status(order)
        assert status is not None
        return status

    async def resting(self, qty: str = "1", **fields: Any) -> Order:
        """A buy order that is open."""
        order = make_order("BUY", qty, "99", **fields)
        await self.venue.submit(approve(order))
        await self.until("NEW")
        return order


Start = Callable[[Coroutine[Any, Any, None]], None]


def paper_venue(start: Start, *, latency: Latency) -> Scene:
    matcher = Matcher(instrument={SYMBOL: INSTRUMENT}.get, position=lambda _account, _symbol: Decimal(0))
    venue = PaperVenue(matcher, clock=SystemClock(), latency=latency)
    start(venue.run())

    def quote(bid: str, ask: str) -> None:
        venue.hear(make_tick(bid, ask))

    quote("100", "101")
    return Scene(venue, quote)


def paper(start: Start) -> Scene:
    return paper_venue(start, latency=Latency(least_ms=0))


def slow_paper(start: Start) -> Scene:
    return paper_venue(start, latency=Latency(least_ms=1, jitter_ms=3))


def without_a_fault(start: Start) -> Scene:
    behind = paper(start)
    venue = FaultyVenue(behind.venue)
    start(venue.run())
    return Scene(venue, behind.quote)


VENUES = (paper, slow_paper, without_a_fault)


@asynccontextmanager
async def tasks() -> AsyncIterator[Start]:
    async with asyncio.TaskGroup() as group:
        running: list[asyncio.Task[None]] = []
        yield lambda work: running.append(group.create_task(work))
        for task in running:
            task.cancel()


@pytest_asyncio.fixture(params=VENUES, ids=lambda make: make.__name__)
async def scene(request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    async with tasks() as start:
        yield request.param(start)


async def test_an_order_is_accepted_by_a_report(scene: Scene) -> None:
    order = make_order("BUY", "1", "99")
    await scene.venue.submit(approve(order))
    report = await scene.next()
    assert (report.order_id, report.exec_type) == (order.order_id, "NEW")
    assert report.venue_order_id == (await scene.status(order)).venue_order_id


async def test_an_order_is_refused_by_a_report(scene: Scene) -> None:
    await scene.venue.submit(approve(make_order("BUY", "1", "101", post_only=True)))
    assert line(await scene.next()) == "REJECTED POST_ONLY_WOULD_MATCH"


async def test_an_execution_says_all_that_an_account_must_know(scene: Scene) -> None:
    await scene.venue.submit(approve(make_order("BUY", "1")))
    trade = (await scene.until("TRADE"))[-1]
    assert (trade.last_qty, trade.last_px, trade.liquidity) == (Decimal(1), Decimal(101), "TAKER")
    assert trade.trade_id
    assert trade.commission is not None
    assert trade.commission_asset


async def test_the_same_order_twice_does_not_make_two(scene: Scene) -> None:
    order = make_order("BUY", "1")
    await scene.venue.submit(approve(order))
    await scene.venue.submit(approve(order))
    await scene.until("TRADE")
    following = await scene.resting()
    assert (await scene.status(order)).cum_qty == 1
    assert [each.exec_type for each in (await scene.status(order)).reports] == ["NEW", "TRADE"]
    assert (await scene.status(following)).open


async def test_a_cancel_is_answered(scene: Scene) -> None:
    order = await scene.resting()
    await scene.venue.cancel(order)
    assert line(await scene.next()) == "CANCELED"
    assert not (await scene.status(order)).open


async def test_a_cancel_that_comes_too_late_is_refused(scene: Scene) -> None:
    order = make_order("BUY", "1")
    await scene.venue.submit(approve(order))
    await scene.until("TRADE")
    await scene.venue.cancel(order)
    assert line(await scene.next()) == "CANCEL_REJECTED TOO_LATE"


async def test_what_the_venue_never_heard_of_can_be_neither_changed_nor_canceled(scene: Scene) -> None:
    stranger = make_order("BUY", "1", "99")
    await scene.venue.cancel(stranger)
    assert line(await scene.next()) == "CANCEL_REJECTED UNKNOWN_ORDER"
    await scene.venue.replace(approve(stranger, price="98"))
    assert line(await scene.next()) == "REPLACE_REJECTED UNKNOWN_ORDER"
    assert await scene.venue.status(stranger) is None


async def test_a_replaced_order_says_what_it_now_is(scene: Scene) -> None:
    order = await scene.resting()
    await scene.venue.replace(approve(order, price="98", qty="2"))
    report = await scene.next()
    assert (report.exec_type, report.price, report.qty) == ("REPLACED", Decimal(98), Decimal(2))
    scene.quote("97", "98")
    trade = await scene.next()
    assert (trade.last_qty, trade.last_px) == (Decimal(2), Decimal(98))


async def test_a_replacement_that_comes_too_late_is_refused(scene: Scene) -> None:
    order = await scene.resting()
    scene.quote("97", "98")
    await scene.until("TRADE")
    await scene.venue.replace(approve(order, price="98"))
    assert line(await scene.next()) == "REPLACE_REJECTED TOO_LATE"


async def test_commands_take_effect_in_the_order_they_were_given(scene: Scene) -> None:
    order = make_order("BUY", "1", "99")
    await scene.venue.submit(approve(order))
    await scene.venue.replace(approve(order, price="98"))
    await scene.venue.cancel(order)
    assert [each.exec_type for each in await scene.until("CANCELED")] == ["NEW", "REPLACED", "CANCELED"]


async def test_the_status_of_an_order_is_what_was_reported_of_it(scene: Scene) -> None:
    order = await scene.resting("15")
    scene.quote("98", "99")
    first = await scene.until("TRADE")
    await scene.venue.replace(approve(order, qty="20"))
    changed = await scene.until("REPLACED")
    scene.quote("98", "99")
    reports = [*first, *changed, *await scene.until("TRADE")]
    status = await scene.status(order)
    assert list(status.reports)[1:] == reports
    assert status.cum_qty == sum(each.last_qty or 0 for each in reports)


async def test_no_two_facts_share_an_id(scene: Scene) -> None:
    orders = [await scene.resting("3", account=name) for name in ("ada", "bob", "cy")]
    scene.quote("97", "98")
    reports = [await scene.next() for _ in orders]
    await scene.venue.submit(approve(make_order("BUY", "1")))
    reports += await scene.until("TRADE")
    ids = [each.exec_id for each in reports]
    trades = [each.trade_id for each in reports if each.exec_type == "TRADE"]
    assert len(set(ids)) == len(ids)
    assert len(set(trades)) == len(trades) == 4


async def test_the_orders_of_the_hub_are_open_again_after_it_came_back(scene: Scene) -> None:
    order = await scene.resting("2")
    await scene.venue.restore(
        [make_order("BUY", "2", "99", order_id=order.order_id, status="NEW", venue_order_id="v", version=3)]
    )
    scene.quote("97", "98")
    trade = await scene.next()
    assert (trade.order_id, trade.last_qty) == (order.order_id, Decimal(2))
