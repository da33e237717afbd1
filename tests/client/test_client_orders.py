"""What `client.orders` asks of a hub, and what it makes of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from fake_hub import FakeHub, Peer, joined, publication, soon

from hub.client import Client, HubError, OrderEnded
from hub.client.orders import Orders, exact, type_of
from protocol.positions import Position
from protocol.trading import ExecutionReport, OrderType

OVERLOADED = 1019


def report(**fields: Any) -> dict[str, Any]:
    common = {"account": "ada", "client_order_id": "c1", "order_id": "o1", "symbol": "BTC-USD", "side": "BUY"}
    return {**common, "exec_type": "PENDING_NEW", "ord_status": "PENDING_NEW", **fields}


@asynccontextmanager
async def connected(fake: FakeHub) -> AsyncIterator[tuple[Client, Peer]]:
    accepting = asyncio.create_task(fake.welcome())
    async with Client(fake.url, token="t", backoff_s=(0.01, 0.05)) as krin:
        yield krin, await soon(accepting)


async def answer(peer: Peer, method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Answer the next call, which must be of this method; its parameters."""
    command = await peer.expect("call", method=method)
    await peer.reply(command, **result)
    params: dict[str, Any] = command["params"]
    return params


@pytest.mark.parametrize(
    ("prices", "kind"),
    [
        ({}, "MARKET"),
        ({"price": "1"}, "LIMIT"),
        ({"stop_price": "1"}, "STOP"),
        ({"price": "1", "stop_price": "1"}, "STOP_LIMIT"),
        ({"trail": "1"}, "TRAILING_STOP"),
    ],
)
def test_the_prices_say_which_type_an_order_has(prices: dict[str, str], kind: OrderType) -> None:
    assert type_of(prices) == kind


def test_numbers_are_exact_or_refused() -> None:
    assert [exact(each) for each in ("0.10", 3, Decimal("1E+3"), Decimal("1E-8"))] == [
        "0.10",
        "3",
        "1000",
        "0.00000001",
    ]
    with pytest.raises(TypeError, match="float"):
        exact(0.1)  # type: ignore[arg-type]  # what the type forbids
    with pytest.raises(ValueError, match="finite"):
        exact(Decimal("NaN"))


async def test_an_order_is_placed_and_its_report_typed(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        placing = asyncio.create_task(krin.orders.submit("BTC-USD", "BUY", Decimal("0.10"), price=64_000, tif="IOC"))
        params = await answer(peer, "orders.submit", report())
        assert params.pop("client_order_id")
        assert params == {
            "account": "ada",
            "symbol": "BTC-USD",
            "side": "BUY",
            "qty": "0.10",
            "price": "64000",
            "order_type": "LIMIT",
            "tif": "IOC",
        }
        placed = await soon(placing)
        assert isinstance(placed, ExecutionReport)
        assert placed.ord_status == "PENDING_NEW"


async def test_an_order_whose_answer_was_lost_is_asked_for_again_under_its_id(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        placing = asyncio.create_task(krin.orders.submit("BTC-USD", "BUY", "1"))
        first = await peer.expect("call", method="orders.submit")
        peer.cut()
        peer = await fake.welcome()
        assert await answer(peer, "orders.submit", report()) == first["params"]
        await soon(placing)


async def test_a_hub_without_an_engine_for_the_moment_is_asked_again(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        canceling = asyncio.create_task(krin.orders.cancel("c1", account="desk"))
        await peer.refuse(await peer.expect("call", method="orders.cancel"), OVERLOADED, temporary=True)
        params = await answer(peer, "orders.cancel", report(ord_status="PENDING_CANCEL", exec_type="PENDING_CANCEL"))
        assert params == {"account": "desk", "client_order_id": "c1"}
        assert (await soon(canceling)).ord_status == "PENDING_CANCEL"


async def test_a_refusal_for_good_is_raised(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        asking = asyncio.create_task(krin.orders.status("nobody"))
        await peer.refuse(await peer.expect("call", method="orders.status"), 1007)
        with pytest.raises(HubError):
            await soon(asking)


async def test_a_replacement_names_the_order_it_changes_and_only_what_changes(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        moving = asyncio.create_task(krin.orders.replace("c1", price="63000", client_order_id="c2"))
        params = await answer(peer, "orders.replace", report(client_order_id="c2"))
        assert params == {
            "account": "ada",
            "orig_client_order_id": "c1",
            "client_order_id": "c2",
            "price": "63000",
        }
        assert (await soon(moving)).client_order_id == "c2"


async def test_validating_answers_every_fault(fake: FakeHub) -> None:
    faults = [{"check": "max_qty", "reason": "QUANTITY_EXCEEDS_MAXIMUM", "limit": "5", "observed": "9"}]
    decision = {"account": "ada", "client_order_id": "c1", "symbol": "BTC-USD", "result": "REFUSED", "faults": faults}
    async with connected(fake) as (krin, peer):
        asking = asyncio.create_task(krin.orders.validate("BTC-USD", "BUY", "9"))
        await answer(peer, "orders.validate", decision)
        assert [fault.reason for fault in (await soon(asking)).faults] == ["QUANTITY_EXCEEDS_MAXIMUM"]


async def test_the_safeguards_answer_plainly(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        canceling = asyncio.create_task(krin.orders.cancel_all(symbol="BTC-USD"))
        params = await answer(peer, "orders.cancel_all", {"account": "ada", "count": 3})
        assert (params, await soon(canceling)) == ({"account": "ada", "symbol": "BTC-USD"}, 3)

        arming = asyncio.create_task(krin.orders.cancel_all_after(30_000))
        params = await answer(peer, "orders.cancel_all_after", {"account": "ada", "fires_at": 7})
        assert (params, await soon(arming)) == ({"account": "ada", "timeout_ms": 30_000}, 7)

        disarming = asyncio.create_task(krin.orders.cancel_all_after(0))
        await answer(peer, "orders.cancel_all_after", {"account": "ada"})
        assert await soon(disarming) is None

        leaving = asyncio.create_task(krin.orders.cancel_on_disconnect())
        params = await answer(peer, "orders.cancel_on_disconnect", {"account": "ada", "enabled": True})
        assert params == {"account": "ada", "enabled": True}
        await soon(leaving)


async def test_reports_go_on_where_they_were_and_nothing_else_is_among_them(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        reports = krin.orders.reports(recover=Position("e1", 6))
        entering = asyncio.create_task(reports.__aenter__())
        command = await peer.expect("subscribe", channel="orders:ada", recover={"epoch": "e1", "offset": 6})
        missed = publication(7, "orders:ada", type="EXECUTION_REPORT", data=report(exec_type="NEW", ord_status="NEW"))
        other = publication(8, "orders:ada", type="ORDER_EVENT", data={"account": "ada", "client_order_id": "c1"})
        await peer.reply(command, **joined("orders:ada", recovered=True, offset=8, messages=[missed, other]))
        await soon(entering)
        filled = report(exec_type="TRADE", ord_status="FILLED", avg_px="64000")
        await peer.send(publication(9, "orders:ada", type="EXECUTION_REPORT", data=filled))
        accepted = await soon(anext(reports))
        assert accepted.ord_status == "NEW"
        assert (await soon(reports.until(accepted, "FILLED"))).avg_px == "64000"
        assert reports.position == Position("e1", 9)


async def test_waiting_for_what_cannot_come_any_more_ends(fake: FakeHub) -> None:
    async with connected(fake) as (krin, peer):
        reports = krin.orders.reports()
        entering = asyncio.create_task(reports.__aenter__())
        await peer.reply(await peer.expect("subscribe"), **joined("orders:ada"))
        await soon(entering)
        denied = report(exec_type="DENIED", ord_status="DENIED", reject_reason="STALE_MARKET_DATA", text="no price")
        await peer.send(publication(1, "orders:ada", type="EXECUTION_REPORT", data=denied))
        with pytest.raises(OrderEnded, match="c1 is DENIED STALE_MARKET_DATA: no price"):
            await soon(reports.until(msgspec.convert(report(), ExecutionReport), "FILLED"))


def test_without_a_connection_an_account_must_be_named() -> None:
    krin = Client("http://127.0.0.1:1", token="t")
    assert isinstance(krin.orders, Orders)
    with pytest.raises(RuntimeError, match="account"):
        krin.orders.reports()
