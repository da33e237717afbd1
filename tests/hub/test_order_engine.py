"""The order engine over a real log: what is committed, what is told, what survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest
import pytest_asyncio
from msgspec.structs import replace
from trading_floor import SYMBOL, Floor, order

from hub.trading.orders.order import CLOSED
from hub.trading.orders.watch import IN_FLIGHT_S, TRIES
from hub.trading.risk.view import Override
from hub.trading.venues.base import VenueReport
from protocol.errors import ErrorCode, HubError
from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import OrderCancel, OrderCancelAll
from storage.database import Database
from storage.orders import OrderBatch, OrderLog


@pytest_asyncio.fixture
async def floor(database: Database) -> AsyncIterator[Floor]:
    async with Floor(database).open() as opened:
        yield opened


def status(name: str) -> OrderCancel:
    return OrderCancel(account="ann", client_order_id=name)


async def test_an_order_is_written_down_before_the_venue_hears_of_it_and_then_fills(floor: Floor) -> None:
    report = await floor.engine.submit(order("BUY", "2", "101", client_order_id="c"), user="ann")
    assert (report.exec_type, report.ord_status, report.prev_status) == ("PENDING_NEW", "PENDING_NEW", "INITIALIZED")
    assert (await floor.recorded("c")).status == "PENDING_NEW"
    await floor.until("c", "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    [fill] = floor.reports(channel="fills:ann")
    assert (fill.ord_status, fill.last_qty, fill.last_px, fill.position_qty) == ("FILLED", "2", "101", "2")
    assert (fill.cum_qty, fill.leaves_qty, fill.avg_px, fill.paper) == ("2", "0", "101", True)
    assert floor.engine.accounts["ann"].positions[SYMBOL].qty == 2
    assert [each.offset for each in floor.told if each.channel == "orders:ann"] == [1, 2, 3, 4]
    assert [each.type for each in floor.told if each.channel == "risk:ann"] == ["RISK_DECISION"]


async def test_a_refused_order_is_denied_with_the_reason_and_never_reaches_the_venue(floor: Floor) -> None:
    report = await floor.engine.submit(order("BUY", "1", "150", client_order_id="c"), user="ann")
    assert (report.ord_status, report.reject_reason) == ("DENIED", "PRICE_OUTSIDE_COLLAR")
    assert floor.types("c") == ["SUBMIT", "DENIED"]
    recorded = await floor.recorded("c")
    assert (recorded.status, recorded.leaves_qty) == ("DENIED", 0)
    assert await floor.paper.status(recorded) is None


@pytest.mark.parametrize("state", ["STALE", "DISPUTED"])
async def test_an_order_against_a_price_nobody_stands_behind_is_denied(floor: Floor, state: str) -> None:
    floor.quote(state=state)  # type: ignore[arg-type]  # one of them
    report = await floor.engine.submit(order(), user="ann")
    assert (report.ord_status, report.reject_reason) == ("DENIED", f"{state}_MARKET_DATA")


async def test_a_repeated_submit_is_the_same_order(floor: Floor) -> None:
    asked = order("BUY", "1.0", "99", client_order_id="c")
    first, second = await asyncio.gather(
        floor.engine.submit(asked, user="ann"), floor.engine.submit(replace(asked, qty="1"), user="ann")
    )
    assert second.exec_type == "ORDER_STATUS"
    assert first.order_id == second.order_id
    await floor.until("c", "SUBMIT", "PENDING_NEW", "NEW")


async def test_another_order_under_the_same_name_is_refused(floor: Floor) -> None:
    asked = order(client_order_id="c")
    await floor.engine.submit(asked, user="ann")
    with pytest.raises(HubError, match="DUPLICATE_ORDER") as refused:
        await floor.engine.submit(replace(asked, qty="2"), user="ann")
    assert refused.value.code is ErrorCode.IDEMPOTENCY_CONFLICT


async def test_a_name_is_taken_for_ever_though_the_engine_has_forgotten_it(database: Database) -> None:
    asked = order("BUY", "1", "101", client_order_id="c")
    async with Floor(database).open() as floor:
        first = await floor.engine.submit(asked, user="ann")
        await floor.until("c", "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    async with Floor(database).open() as floor:
        assert floor.engine.blotter.find("ann", "c") is None
        again = await floor.engine.submit(asked, user="ann")
        assert (again.order_id, again.exec_type, again.ord_status) == (first.order_id, "ORDER_STATUS", "FILLED")
        with pytest.raises(HubError, match="DUPLICATE_ORDER"):
            await floor.engine.submit(replace(asked, side="SELL"), user="ann")
        assert not list(floor.engine.blotter.alive("ann"))
        # Its neighbours in the same commit are not touched.
        answers = await asyncio.gather(
            *(floor.engine.submit(each, user="ann") for each in (order(), asked, order())), return_exceptions=True
        )
        assert [each.ord_status for each in answers] == ["PENDING_NEW", "FILLED", "PENDING_NEW"]  # type: ignore[union-attr]


async def test_a_name_that_turns_out_to_be_taken_takes_nothing_else_with_it(database: Database) -> None:
    taken = order("BUY", "1", "101", client_order_id="c", list_id="pair", contingency="OCO")
    async with Floor(database).open() as floor:
        await floor.engine.submit(taken, user="ann")
        await floor.until("c", "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    async with Floor(database).open() as floor:
        one = await floor.submit("BUY", "1", "99", list_id="pair", contingency="OCO")
        two = await floor.submit("BUY", "1", "98")
        for name in (one, two):
            await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
        repeats = [asyncio.create_task(floor.engine.submit(taken, user="ann")) for _ in range(2)]
        await asyncio.sleep(0)  # in memory, and not written down
        trade = VenueReport(
            order_id=floor.reports(one)[0].order_id or "",
            exec_type="TRADE",
            exec_id="x",
            trade_id="x",
            ts_event=1,
            last_qty=Decimal(1),
            last_px=Decimal(99),
        )
        told = floor.engine.hear(trade)
        assert told is not None
        await told
        assert [(await each).ord_status for each in repeats] == ["FILLED", "FILLED"]
        assert (await floor.recorded(one)).status == "FILLED"
        repeat = asyncio.create_task(floor.engine.submit(taken, user="ann"))
        await asyncio.sleep(0)
        asked = asyncio.create_task(floor.engine.status(status("c")))
        refused = asyncio.create_task(floor.cancel("c"))
        await asyncio.sleep(0)
        assert await floor.engine.cancel_all(OrderCancelAll(account="ann"), user="ann") == 1
        assert [(await each).ord_status for each in (repeat, asked)] == ["FILLED", "FILLED"]
        with pytest.raises(HubError, match="TOO_LATE"):
            await refused
        await floor.until(two, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_CANCEL", "CANCELED")


async def test_an_order_is_moved_and_canceled(floor: Floor) -> None:
    name = await floor.submit("BUY", "2", "99")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    report = await floor.replace(name, price="98", qty="3")
    assert (report.exec_type, report.client_order_id, report.causation_id) == ("PENDING_REPLACE", name, f"{name}-2")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_REPLACE", "REPLACED")
    replaced = floor.reports(name)[-1]
    assert (replaced.client_order_id, replaced.orig_client_order_id) == (f"{name}-2", name)
    assert (replaced.price, replaced.order_qty, replaced.ord_status) == ("98", "3", "NEW")
    assert (await floor.cancel(name)).ord_status == "PENDING_CANCEL"  # by its old name too
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_REPLACE", "REPLACED", "PENDING_CANCEL", "CANCELED")
    assert (await floor.engine.status(status(f"{name}-2"))).ord_status == "CANCELED"


async def test_a_replacement_that_risk_refuses_leaves_the_order_alone(floor: Floor) -> None:
    name = await floor.submit()
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    report = await floor.replace(name, price="150")
    assert (report.exec_type, report.ord_status, report.reject_reason) == (
        "REPLACE_REJECTED",
        "NEW",
        "PRICE_OUTSIDE_COLLAR",
    )
    assert (await floor.recorded(name)).price == 99


async def test_a_repeated_replacement_is_made_once(floor: Floor) -> None:
    name = await floor.submit()
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    await asyncio.gather(floor.replace(name, price="98"), floor.replace(name, price="98"))
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_REPLACE", "REPLACED")
    await floor.replace(name, price="98")
    assert floor.types(name).count("PENDING_REPLACE") == 1


async def test_what_has_ended_can_be_neither_moved_nor_canceled(floor: Floor) -> None:
    name = await floor.submit("BUY", "1", "101")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    with pytest.raises(HubError, match="TOO_LATE"):
        await floor.cancel(name)
    with pytest.raises(HubError, match="TOO_LATE"):
        await floor.replace(name, price="98")
    with pytest.raises(HubError, match="UNKNOWN_ORDER"):
        await floor.cancel("nothing")


async def test_validate_names_every_fault_and_leaves_nothing_behind(floor: Floor) -> None:
    decision = floor.engine.validate(order("BUY", "1000.05", "150"), user="ann")
    assert decision.result == "REFUSED"
    assert {"LOT_SIZE_INVALID", "PRICE_OUTSIDE_COLLAR", "NOTIONAL_EXCEEDS_MAXIMUM"} <= {
        fault.reason for fault in decision.faults
    }
    assert floor.told == []


async def test_cancel_all_takes_what_fits(floor: Floor) -> None:
    bought = [await floor.submit("BUY", "1", "99") for _ in range(3)]
    sold = await floor.submit("SELL", "1", "102")
    count = await floor.engine.cancel_all(OrderCancelAll(account="ann", side="BUY"), user="ann")
    assert count == 3
    for name in bought:
        async with asyncio.timeout(10):
            while floor.types(name)[-1] != "CANCELED":
                await asyncio.sleep(0.005)
    assert (await floor.engine.status(status(sold))).ord_status == "NEW"


async def test_of_an_oco_pair_the_one_that_trades_cancels_the_other(floor: Floor) -> None:
    pair = {"list_id": "pair", "contingency": "OCO"}
    low = await floor.submit("SELL", "1", None, order_type="STOP", stop_price="95", **pair)
    high = await floor.submit("SELL", "1", "102", **pair)
    await floor.until(high, "SUBMIT", "PENDING_NEW", "NEW")
    floor.quote("102", "103")
    await floor.until(high, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    await floor.until(low, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_CANCEL", "CANCELED")


async def test_after_one_of_an_oco_list_has_traded_no_other_is_placed(floor: Floor) -> None:
    pair = {"list_id": "pair", "contingency": "OCO"}
    traded = await floor.submit("BUY", "1", "101", **pair)
    await floor.until(traded, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    late = await floor.submit("BUY", "1", "99", **pair)
    assert floor.types(late) == ["SUBMIT", "DENIED"]
    assert floor.reports(late)[-1].reject_reason == "TOO_LATE"
    other = await floor.submit("BUY", "1", "99", list_id="another", contingency="OCO")
    await floor.until(other, "SUBMIT", "PENDING_NEW", "NEW")


async def test_of_an_oco_pair_the_one_that_the_hub_ends_cancels_the_other(floor: Floor) -> None:
    pair = {"list_id": "pair", "contingency": "OCO"}
    floor.desk.set_limits(
        LimitLayer(scope="ACCOUNT", name="ann", limits=RiskLimits(max_qty="1", approver_role="risk")), 2
    )
    for number in range(2):
        resting = await floor.submit("BUY", "1", "99", **pair)
        await floor.until(resting, "SUBMIT", "PENDING_NEW", "NEW")
        if number:
            floor.venue.lost = True
            floor.engine.reject(await floor.recorded(await floor.submit("BUY", "1", "98", **pair)), "UNCONFIRMED", "x")
            floor.venue.lost = False
        else:
            await floor.submit("BUY", "2", "98", **pair)
            [waiting] = floor.engine.awaiting_approval()
            await floor.engine.deny(waiting, "APPROVAL_DECLINED", text="no", by="rita")
        await floor.until(resting, "SUBMIT", "PENDING_NEW", "NEW", "PENDING_CANCEL", "CANCELED")


async def test_a_restarted_engine_knows_what_the_one_before_knew(database: Database) -> None:
    async with Floor(database).open() as floor:
        filled = await floor.submit("BUY", "2", "101")
        await floor.until(filled, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
        resting = await floor.submit("BUY", "1", "99")
        await floor.until(resting, "SUBMIT", "PENDING_NEW", "NEW")
        before = {each.order_id: each for each in floor.engine.blotter.all_alive()}
        accounts = floor.engine.accounts
    async with Floor(database).open() as floor:
        assert {each.order_id: each for each in floor.engine.blotter.all_alive()} == before
        assert floor.engine.accounts["ann"].positions == accounts["ann"].positions
        assert floor.engine.accounts["ann"].balances == accounts["ann"].balances
        floor.quote("98", "99")
        async with asyncio.timeout(10):
            while "TRADE" not in floor.types(resting):
                await asyncio.sleep(0.005)
        assert (await floor.recorded(resting)).status == "FILLED"
        assert await floor.log.verify() is None


async def test_an_order_whose_acceptance_was_lost_with_the_hub_is_accepted_after_the_restart(
    database: Database,
) -> None:
    async with Floor(database).open() as floor:
        floor.venue.silent = True
        name = await floor.submit("BUY", "1", "99")
        assert (await floor.recorded(name)).status == "PENDING_NEW"
    async with Floor(database).open() as floor:
        await floor.until(name, "NEW")
        assert (await floor.recorded(name)).status == "NEW"


async def test_lost_reports_are_found_by_asking(floor: Floor) -> None:
    floor.venue.silent = True
    name = await floor.submit("BUY", "1", "101")
    order = await floor.recorded(name)
    async with asyncio.timeout(10):
        while await floor.paper.status(order) is None:
            await asyncio.sleep(0.005)
    floor.clock.advance(IN_FLIGHT_S + 1)
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")


async def test_a_venue_that_never_answers_ends_in_unconfirmed_and_an_alert(floor: Floor) -> None:
    floor.venue.lost = True
    name = await floor.submit("BUY", "1", "99")
    for _ in range(TRIES):
        assert floor.types(name) == ["SUBMIT", "PENDING_NEW"]
        floor.clock.advance(IN_FLIGHT_S)
        await floor.watch.ask_about_silence()
    await floor.until(name, "SUBMIT", "PENDING_NEW", "REJECTED")
    assert floor.reports(name)[-1].reject_reason == "UNCONFIRMED"
    assert [each.type for each in floor.told if each.channel == "alerts:trading"] == ["ALERT"]


async def test_a_report_that_comes_twice_counts_once(floor: Floor) -> None:
    """`repeats` is what krin_orders_repeats shows."""
    floor.venue.copies = 3
    name = await floor.submit("BUY", "1", "101")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW", "TRADE")
    assert floor.engine.accounts["ann"].positions[SYMBOL].qty == 1
    assert floor.engine.repeats > 0


async def test_an_impossible_report_is_not_believed_and_somebody_is_told(floor: Floor) -> None:
    """`illegal` is what krin_orders_illegal shows."""
    name = await floor.submit("BUY", "1", "99")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    order_id = floor.reports(name)[0].order_id
    assert order_id is not None
    floor.venue.report(
        VenueReport(
            order_id=order_id,
            exec_type="TRADE",
            exec_id="x",
            trade_id="x",
            ts_event=1,
            last_qty=Decimal(2),
            last_px=Decimal(99),
        )
    )
    async with asyncio.timeout(10):
        while not any(each.channel == "alerts:trading" for each in floor.told):
            await asyncio.sleep(0.005)
    assert (await floor.recorded(name)).cum_qty == 0
    assert floor.engine.illegal == 1


async def test_the_dead_mans_switch_cancels_everything_of_its_account_once(floor: Floor) -> None:
    names = [await floor.submit("BUY", "1", "99") for _ in range(2)]
    await floor.watch.arm("ann", 5_000)
    floor.clock.advance(4)
    await floor.watch.fire_switches()
    await floor.watch.arm("ann", 5_000)  # still there
    floor.clock.advance(4)
    await floor.watch.fire_switches()
    assert all("PENDING_CANCEL" not in floor.types(name) for name in names)
    floor.clock.advance(1.1)
    await floor.watch.fire_switches()
    for name in names:
        assert "PENDING_CANCEL" in floor.types(name)
    assert await floor.log.switches() == {}


async def test_a_switch_that_is_armed_again_while_it_fires_stays_armed(floor: Floor) -> None:
    await floor.submit("BUY", "1", "99")
    await floor.watch.arm("ann", 1)
    floor.clock.jump(0.01)
    firing = asyncio.create_task(floor.watch.fire_switches())
    await asyncio.sleep(0)
    fires_at = await floor.watch.arm("ann", 60_000)
    await firing
    assert await floor.log.switches() == {"ann": fires_at}


@pytest.mark.parametrize("timeout_ms", [0, 60_000])
async def test_a_switch_that_was_due_and_is_taken_back_while_another_fires_does_not_fire(
    floor: Floor, timeout_ms: int
) -> None:
    await floor.submit("BUY", "1", "99")
    name = await floor.submit("BUY", "1", "98", account="bob")
    for account in ("ann", "bob"):
        await floor.watch.arm(account, 1)
    floor.clock.jump(0.01)
    firing = asyncio.create_task(floor.watch.fire_switches())
    await asyncio.sleep(0)
    await floor.watch.arm("bob", timeout_ms)
    await firing
    assert (await floor.recorded(name, "bob")).status in ("PENDING_NEW", "NEW")


async def test_a_switch_fires_though_the_venue_answers_no_question(floor: Floor) -> None:
    name = await floor.submit("BUY", "1", "99")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    await floor.watch.arm("ann", 20_000)
    floor.venue.answers.clear()
    async with asyncio.timeout(10):
        while "PENDING_CANCEL" not in floor.types(name):
            floor.clock.advance(1)
            await asyncio.sleep(0.005)


async def test_an_order_that_was_given_up_is_not_sent_any_more(floor: Floor) -> None:
    floor.venue.answers.clear()
    await floor.submit("BUY", "1", "99")
    name = await floor.submit("BUY", "1", "98")
    given_up = await floor.recorded(name)
    floor.engine.reject(given_up, "UNCONFIRMED", "no answer")
    floor.venue.answers.set()
    last = await floor.submit("BUY", "1", "97")
    await floor.until(last, "SUBMIT", "PENDING_NEW", "NEW")
    assert await floor.paper.status(given_up) is None


async def test_a_replacement_under_way_counts_against_the_limits(floor: Floor) -> None:
    floor.desk.set_limits(LimitLayer(scope="ACCOUNT", name="ann", limits=RiskLimits(max_position="5")), 2)
    name = await floor.submit("BUY", "1", "99")
    await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
    floor.venue.answers.clear()
    await floor.replace(name, qty="5")
    report = await floor.engine.submit(order("BUY", "1", "98"), user="ann")
    assert (report.ord_status, report.reject_reason) == ("DENIED", "POSITION_LIMIT_EXCEEDED")


async def test_a_switch_outlives_the_hub(database: Database) -> None:
    async with Floor(database).open() as floor:
        name = await floor.submit("BUY", "1", "99")
        await floor.until(name, "SUBMIT", "PENDING_NEW", "NEW")
        await floor.watch.arm("ann", 1_000)
    clock = floor.clock
    clock.advance(2)
    async with Floor(database, clock=clock).open() as floor:
        await floor.watch.fire_switches()
        async with asyncio.timeout(10):
            while (await floor.recorded(name)).status != "CANCELED":
                await asyncio.sleep(0.005)


async def test_orders_that_their_venue_forgets_to_end_are_canceled(floor: Floor) -> None:
    expire_at = floor.clock.now_us() + 10_000_000
    floor.venue.lost = True
    name = await floor.submit("BUY", "1", "99", tif="GTD", expire_at=expire_at)
    floor.clock.advance(10)
    await floor.watch.end_what_was_due()
    assert floor.types(name) == ["SUBMIT", "PENDING_NEW"]  # it may still say so itself
    floor.clock.advance(2)
    await floor.until(name, "SUBMIT", "PENDING_NEW", "PENDING_CANCEL")


async def test_one_node_leads_and_the_next_takes_over_with_everything(database: Database) -> None:
    clock = None
    async with Floor(database, node="n1").open() as first:
        clock = first.clock
        name = await first.submit("BUY", "1", "99")
        await first.until(name, "SUBMIT", "PENDING_NEW", "NEW")
        async with Floor(database, node="n2").open(leading=False) as second:
            await second.clock.until_somebody_sleeps()
            with pytest.raises(HubError) as refused:
                second.engine  # noqa: B018 - asking is the test
            assert refused.value.code is ErrorCode.NOT_AVAILABLE
    async with Floor(database, clock=clock, node="n2").open() as second:
        assert second.engine.blotter.find("ann", name) is not None


async def test_an_engine_that_was_replaced_without_noticing_acknowledges_nothing(
    database: Database, floor: Floor
) -> None:
    end = await OrderLog(database).take_over("n2")
    with pytest.raises(HubError) as refused:
        await floor.submit("BUY", "1", "101", client_order_id="c")
    assert refused.value.code is ErrorCode.NOT_AVAILABLE
    assert await floor.log.find("ann", "c") is None
    assert floor.told == []
    await OrderLog(database).commit(OrderBatch(), end, now_us=1)


async def test_an_order_above_a_limit_waits_until_somebody_lets_it_pass(floor: Floor) -> None:
    floor.desk.set_limits(
        LimitLayer(scope="ACCOUNT", name="ann", limits=RiskLimits(max_qty="1", approver_role="risk")), 2
    )
    name = await floor.submit("BUY", "2", "99")
    [waiting] = floor.engine.awaiting_approval()
    assert floor.types(name) == ["SUBMIT", "APPROVAL_REQUESTED"]
    override = Override(
        order_id=waiting.order_id, approvers=frozenset({"rita"}), expires_us=floor.clock.now_us() + 1_000_000
    )
    await floor.engine.approve(waiting, override)
    await floor.until(name, "SUBMIT", "APPROVAL_REQUESTED", "APPROVAL_GRANTED", "PENDING_NEW", "NEW")
    declined = await floor.submit("BUY", "2", "99")
    [waiting] = floor.engine.awaiting_approval()
    await floor.engine.deny(waiting, "APPROVAL_DECLINED", text="no", by="rita")
    assert floor.types(declined) == ["SUBMIT", "APPROVAL_REQUESTED", "APPROVAL_DECLINED"]
    assert (await floor.recorded(declined)).status in CLOSED


async def test_approvers_are_told_that_an_order_waits_and_what_becomes_of_it(floor: Floor) -> None:
    limits = RiskLimits(max_qty="1", approver_role="risk", approval_ttl_ms=60_000)
    floor.desk.set_limits(LimitLayer(scope="ACCOUNT", name="ann", limits=limits), 2)
    now_us = floor.clock.now_us()
    for reason in ("APPROVAL_DECLINED", "APPROVAL_EXPIRED", None):
        name = await floor.submit("BUY", "2", "99")
        [waiting] = floor.engine.awaiting_approval()
        if reason is not None:
            await floor.engine.deny(waiting, reason, text="no", by="rita")  # type: ignore[arg-type]  # a Reason
        else:
            await floor.engine.cancel(OrderCancel(account="ann", client_order_id=name), user="ann")
    channel = [each for each in floor.told if each.channel == "approvals:risk"]
    told = [msgspec.json.decode(b"{" + each.body + b"}")["data"] for each in channel]
    assert [(each.type, data["state"], data.get("resolved_by")) for each, data in zip(channel, told, strict=True)] == [
        ("APPROVAL_REQUESTED", "REQUESTED", None),
        ("APPROVAL_RESOLVED", "DECLINED", "rita"),
        ("APPROVAL_REQUESTED", "REQUESTED", None),
        ("APPROVAL_RESOLVED", "EXPIRED", None),
        ("APPROVAL_REQUESTED", "REQUESTED", None),
        ("APPROVAL_RESOLVED", "EXPIRED", None),
    ]
    first, second = told[:2]
    assert (first["subject"], first["requested_by"]) == ("BUY 2 BTC-USD at 99 for ann", "ann")
    assert first["expires_at"] == now_us + 60_000_000
    assert first["approval_id"] == second["approval_id"]
    assert {data["ext"]["account"] for data in told} == {"ann"}
