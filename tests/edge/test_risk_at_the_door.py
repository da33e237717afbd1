"""Risk control as clients meet it: over the WebSocket `call` and `/v1/risk`, with a market that the test makes."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from processes import running
from sockets import Peer, peer


class Floor:
    """A trader with an account, an officer, and a feed, for a symbol and an account that nobody else uses."""

    def __init__(self, hub: Any, trader: Peer, officer: Peer, feed: Peer, account: str) -> None:
        self.hub = hub
        self.trader = trader
        self.officer = officer
        self.feed = feed
        self.account = account
        self.symbol = f"{account.upper()}-USD"
        self.number = 0

    async def quote(self, mid: int = 100, state: str = "LIVE") -> None:
        """A price one off the mid on each side, made now."""
        now_us = time.time_ns() // 1000
        data = {"symbol": self.symbol, "bid": str(mid - 1), "bid_size": "1000", "ask": str(mid + 1), "ask_size": "1000"}
        data |= {"mid": str(mid), "state": state, "source": "consolidated", "ts_event": now_us, "ts_recv": now_us}
        await self.feed.publish(f"prices:{self.symbol}", "PRICE_TICK", data)

    async def listed(self) -> None:
        data = {"symbol": self.symbol, "base": self.account.upper(), "quote": "USD"}
        data |= {"tick_size": "0.01", "lot_size": "0.001"}
        await self.feed.publish(f"instruments:{self.symbol}", "INSTRUMENT", data)

    def params(self, **fields: Any) -> dict[str, Any]:
        self.number += 1
        given = {"account": self.account, "client_order_id": f"c-{self.number}", "symbol": self.symbol}
        price = str(90 - self.number % 5)  # three of the same within a second would be an error
        given |= {"side": "BUY", "order_type": "LIMIT", "qty": "1", "price": price} | fields
        return {name: value for name, value in given.items() if value is not None}

    async def submit(self, *, quoted: bool = True, **fields: Any) -> dict[str, Any]:
        if quoted:
            await self.quote()
        return await ask(self.trader, "orders.submit", **self.params(**fields))

    async def faults(self) -> list[str]:
        decision = await ask(self.trader, "orders.validate", **self.params())
        self.number = 0
        return [fault["reason"] for fault in decision.get("faults", [])]

    async def set_limits(self, **limits: Any) -> dict[str, Any]:
        return await ask(self.officer, "risk.set_limits", scope="ACCOUNT", name=self.account, limits=limits)

    async def state(self, mode: str) -> dict[str, Any]:
        """The account's next state of this mode, as everybody is told it."""
        return await self.officer.until(
            lambda each: (
                each["type"] == "TRADING_STATE"
                and each["data"]["name"] == self.account
                and each["data"]["mode"] == mode
            )
        )

    async def report(self, client_order_id: str, exec_type: str) -> dict[str, Any]:
        found = await self.trader.until(
            lambda each: (
                each["type"] == "EXECUTION_REPORT"
                and each["data"]["client_order_id"] == client_order_id
                and each["data"]["exec_type"] == exec_type
            )
        )
        report: dict[str, Any] = found["data"]
        return report


async def ask(client: Peer, method: str, **params: Any) -> Any:
    reply = await client.ask("call", method=method, params=params)
    assert "result" in reply, reply
    return reply["result"]


async def refused(client: Peer, method: str, **params: Any) -> str:
    reply = await client.ask("call", method=method, params=params)
    name: str = reply["error"]["name"]
    return name


@asynccontextmanager
async def trading_floor(hub: Any, account: str = "") -> AsyncIterator[Floor]:
    account = account or f"t{secrets.token_hex(5)}"
    async with AsyncExitStack() as stack:
        trader = await stack.enter_async_context(peer(hub, hub.token(account, "trader")))
        officer = await stack.enter_async_context(peer(hub, hub.token("rita", "risk")))
        feed = await stack.enter_async_context(peer(hub, hub.token("feed", "feed")))
        floor = Floor(hub, trader, officer, feed, account)
        await floor.listed()
        await floor.quote()
        for client, channel in [(trader, f"orders:{account}"), (trader, f"risk:{account}"), (officer, "trading:state")]:
            reply = await client.ask("subscribe", channel=channel)
            assert "result" in reply, reply
        async with asyncio.timeout(10):
            while "UNKNOWN_SYMBOL" in await floor.faults():  # a new symbol is heard of within two seconds
                await asyncio.sleep(0.05)
        yield floor


@pytest_asyncio.fixture
async def floor(hub: Any) -> AsyncIterator[Floor]:
    async with trading_floor(hub) as made:
        yield made


@pytest.mark.parametrize(("state", "reason"), [("STALE", "STALE_MARKET_DATA"), ("DISPUTED", "DISPUTED_MARKET_DATA")])
async def test_an_order_against_a_stale_or_disputed_price_is_denied_with_the_reason(
    floor: Floor, state: str, reason: str
) -> None:
    await floor.quote(state=state)
    denied = await floor.submit(quoted=False)
    assert (denied["ord_status"], denied["reject_reason"]) == ("DENIED", reason)
    told = await floor.trader.until(lambda each: each["type"] == "RISK_DECISION")
    assert told["data"]["result"] == "REFUSED"
    assert [fault["reason"] for fault in told["data"]["faults"]] == [reason]
    assert told["data"]["market"]["state"] == state
    assert (await floor.submit())["ord_status"] == "PENDING_NEW"


async def test_a_limit_changed_live_holds_from_the_next_order_on_and_for_nobody_else(floor: Floor, hub: Any) -> None:
    assert (await floor.submit(qty="2"))["ord_status"] == "PENDING_NEW"
    changed = await floor.set_limits(max_qty="1")
    denied = await floor.submit(qty="2")
    assert (denied["ord_status"], denied["reject_reason"]) == ("DENIED", "QUANTITY_EXCEEDS_MAXIMUM")
    told = await floor.trader.until(
        lambda each: each["type"] == "RISK_DECISION" and each["data"]["result"] == "REFUSED"
    )
    assert told["data"]["config_version"] == changed["version"]
    async with trading_floor(hub) as other:
        assert (await other.submit(qty="2"))["ord_status"] == "PENDING_NEW"
    stale = {"scope": "ACCOUNT", "name": floor.account, "limits": {}, "expected_version": changed["version"] - 1}
    assert await refused(floor.officer, "risk.set_limits", **stale) == "version_conflict"
    await floor.set_limits()
    assert (await floor.submit(qty="2"))["ord_status"] == "PENDING_NEW"


async def test_validating_one_bad_order_names_all_of_its_faults_and_places_nothing(floor: Floor) -> None:
    await floor.set_limits(max_qty="5", max_position="10")
    await floor.quote(state="DISPUTED")
    bad = floor.params(qty="200.0005", price="120.001", post_only=True, reduce_only=True)
    decision = await ask(floor.trader, "orders.validate", **bad)
    assert decision["result"] == "REFUSED"
    assert [(fault["check"], fault["reason"]) for fault in decision["faults"]] == [
        ("precision", "TICK_SIZE_INVALID"),
        ("precision", "LOT_SIZE_INVALID"),
        ("max_qty", "QUANTITY_EXCEEDS_MAXIMUM"),
        ("notional", "NOTIONAL_EXCEEDS_MAXIMUM"),
        ("price_collar", "PRICE_OUTSIDE_COLLAR"),
        ("fresh_reference", "DISPUTED_MARKET_DATA"),
        ("position", "POSITION_LIMIT_EXCEEDED"),
        ("instructions", "REDUCE_ONLY_WOULD_INCREASE"),
        ("instructions", "POST_ONLY_WOULD_MATCH"),
    ]
    status = {"account": floor.account, "client_order_id": bad["client_order_id"]}
    assert await refused(floor.trader, "orders.status", **status) == "not_found"


async def test_the_kill_switch_denies_new_orders_cancels_open_ones_and_tells_everybody(floor: Floor) -> None:
    resting = await floor.submit()
    await floor.report(resting["client_order_id"], "NEW")
    halted = await ask(floor.officer, "risk.halt", scope="ACCOUNT", name=floor.account, reason="fire drill")
    assert halted["canceled"] == 1
    assert (await floor.state("HALTED"))["data"]["reason"] == "fire drill"
    await floor.report(resting["client_order_id"], "CANCELED")
    denied = await floor.submit()
    assert (denied["ord_status"], denied["reject_reason"]) == ("DENIED", "TRADING_HALTED")
    states = (await ask(floor.trader, "risk.state"))["states"]
    assert [each["mode"] for each in states if each["name"] == floor.account] == ["HALTED"]
    assert await refused(floor.trader, "risk.resume", scope="ACCOUNT", name=floor.account) == "permission_denied"
    await ask(floor.officer, "risk.resume", scope="ACCOUNT", name=floor.account)
    await floor.state("ACTIVE")
    assert (await floor.submit())["ord_status"] == "PENDING_NEW"


async def test_the_global_switch_stops_everybody_and_a_symbol_s_only_that_symbol(floor: Floor, hub: Any) -> None:
    async with trading_floor(hub) as other:
        await ask(floor.officer, "risk.halt", scope="SYMBOL", name=floor.symbol, reason="odd prices")
        assert (await floor.submit())["reject_reason"] == "TRADING_HALTED"
        assert (await other.submit())["ord_status"] == "PENDING_NEW"
        await ask(floor.officer, "risk.halt", scope="GLOBAL", reason="fire drill")
        try:
            assert (await other.submit())["reject_reason"] == "TRADING_HALTED"
        finally:
            await ask(floor.officer, "risk.resume", scope="GLOBAL")
        assert (await other.submit())["ord_status"] == "PENDING_NEW"


async def test_a_trader_halts_the_own_account_and_no_other(floor: Floor, hub: Any) -> None:
    async with trading_floor(hub) as other:
        theirs = {"scope": "ACCOUNT", "name": other.account, "reason": "x"}
        assert await refused(floor.trader, "risk.halt", **theirs) == "permission_denied"
        assert await refused(floor.trader, "risk.halt", scope="GLOBAL", reason="x") == "permission_denied"
        assert await refused(floor.trader, "risk.limits", account=other.account) == "permission_denied"
    await ask(floor.trader, "risk.halt", scope="ACCOUNT", name=floor.account, reason="lunch")
    assert (await floor.submit())["reject_reason"] == "TRADING_HALTED"
    await ask(floor.trader, "risk.resume", scope="ACCOUNT", name=floor.account)
    assert (await floor.submit())["ord_status"] == "PENDING_NEW"


async def test_a_daily_loss_leaves_only_the_way_out(floor: Floor) -> None:
    await floor.set_limits(max_daily_loss="5")
    bought = await floor.submit(order_type="MARKET", price=None)
    await floor.report(bought["client_order_id"], "TRADE")
    await floor.quote(90)
    state = await floor.state("REDUCING")
    assert state["data"]["actor"] == "krin"
    assert state["data"]["reason"].startswith("DAILY_LOSS_LIMIT")
    more = await floor.submit()
    assert (more["ord_status"], more["reject_reason"]) == ("DENIED", "TRADING_REDUCING")
    assert (await floor.submit(side="SELL", price="99"))["ord_status"] == "PENDING_NEW"
    assert (await floor.submit(side="SELL", price="98", qty="0.5"))["reject_reason"] == "TRADING_REDUCING"


async def test_a_strategy_that_trades_too_often_is_halted_until_a_named_person_resumes_it(floor: Floor) -> None:
    strategy = f"s-{floor.account}"
    scope = {"scope": "STRATEGY", "name": strategy}
    await ask(floor.officer, "risk.set_limits", **scope, limits={"max_executions": 2})
    for qty in ("1", "2"):
        bought = await floor.submit(order_type="MARKET", price=None, qty=qty, strategy_id=strategy)
        await floor.report(bought["client_order_id"], "TRADE")
    denied = await floor.submit(strategy_id=strategy)
    assert (denied["ord_status"], denied["reject_reason"]) == ("DENIED", "TRADING_HALTED")
    assert "EXECUTION_THROTTLE" in denied["text"]
    assert (await floor.submit())["ord_status"] == "PENDING_NEW", "by hand the trader goes on"
    assert await refused(floor.trader, "risk.resume", **scope) == "permission_denied"
    await ask(floor.officer, "risk.resume", **scope)
    assert (await floor.submit(strategy_id=strategy))["ord_status"] == "PENDING_NEW"


async def test_four_eyes_an_order_above_a_limit_goes_on_when_somebody_else_approves_it(floor: Floor) -> None:
    await floor.set_limits(max_qty="1", approver_role="risk")
    waiting = await floor.submit(qty="2")
    assert waiting["ord_status"] == "PENDING_APPROVAL"
    this = {"account": floor.account, "client_order_id": waiting["client_order_id"]}
    assert await refused(floor.trader, "risk.approve", **this) == "permission_denied"
    await floor.quote()
    answer = await ask(floor.officer, "risk.approve", **this)
    assert (answer["approved_by"], answer["required"]) == (["rita"], 1)
    await floor.report(waiting["client_order_id"], "APPROVAL_GRANTED")
    assert (await floor.report(waiting["client_order_id"], "NEW"))["order_qty"] == "2"
    assert await refused(floor.officer, "risk.approve", **this) == "not_found"


async def test_four_eyes_a_declined_order_is_denied(floor: Floor) -> None:
    await floor.set_limits(max_qty="1", approver_role="risk")
    waiting = await floor.submit(qty="2")
    this = {"account": floor.account, "client_order_id": waiting["client_order_id"]}
    assert (await ask(floor.officer, "risk.decline", **this, reason="not today"))["declined"]
    denied = await floor.report(waiting["client_order_id"], "APPROVAL_DECLINED")
    assert (denied["ord_status"], denied["reject_reason"]) == ("DENIED", "APPROVAL_DECLINED")


async def test_an_approved_order_still_meets_every_other_check(floor: Floor) -> None:
    await floor.set_limits(max_qty="1", approver_role="risk")
    waiting = await floor.submit(qty="2")
    await floor.quote(state="STALE")
    await ask(floor.officer, "risk.approve", account=floor.account, client_order_id=waiting["client_order_id"])
    assert (await floor.report(waiting["client_order_id"], "DENIED"))["reject_reason"] == "STALE_MARKET_DATA"


async def test_the_same_over_http(floor: Floor, http: httpx.AsyncClient) -> None:
    officer = {"authorization": f"Bearer {floor.hub.token('rita', 'risk')}"}
    trader = {"authorization": f"Bearer {floor.hub.token(floor.account, 'trader')}"}
    scope = {"scope": "ACCOUNT", "name": floor.account}
    limits = {**scope, "limits": {"max_qty": "1", "max_notional": None}}
    assert (await http.put("/v1/risk/limits", json=limits, headers=trader)).status_code == 403
    changed = await http.put("/v1/risk/limits", json=limits, headers=officer)
    assert changed.status_code == 200, changed.text
    query = f"/v1/risk/limits?account={floor.account}"
    assert (await http.get(query, headers=trader)).json()["data"] == changed.json()["data"]
    assert (
        await http.put("/v1/risk/limits", json={**limits, "expected_version": 0}, headers=officer)
    ).status_code == 409
    halted = await http.post("/v1/risk/halt", json={**scope, "reason": "fire drill"}, headers=trader)
    assert halted.json()["data"]["state"]["mode"] == "HALTED"
    states = (await http.get("/v1/risk/state", headers=trader)).json()["data"]["states"]
    assert floor.account in {each["name"] for each in states}
    assert (await http.post("/v1/risk/resume", json=scope, headers=trader)).status_code == 200
    nothing = {"account": floor.account, "client_order_id": "nothing"}
    for route in ("approve", "decline"):
        assert (await http.post(f"/v1/risk/{route}", json=nothing, headers=officer)).status_code == 404
    wrong = await http.post("/v1/risk/halt", json={**scope, "mode": "SLEEPING", "reason": "x"}, headers=officer)
    assert wrong.json()["meta"]["error"]["path"] == "$.mode"


async def test_halts_and_what_waits_for_approval_survive_a_kill(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with trading_floor(hub) as floor, trading_floor(hub) as other:
            await floor.set_limits(max_qty="1", approver_role="risk")
            waiting = await floor.submit(qty="2")
            assert waiting["ord_status"] == "PENDING_APPROVAL"
            await ask(other.officer, "risk.halt", scope="ACCOUNT", name=other.account, reason="fire drill")
            hub.kill()
    with running(tmp_path / "data", "--drain-timeout", "0") as hub:
        async with trading_floor(hub, floor.account) as floor, trading_floor(hub, other.account) as other:
            assert (await other.submit())["reject_reason"] == "TRADING_HALTED"
            assert (await floor.submit(qty="0.5", client_order_id="new"))["ord_status"] == "PENDING_NEW"
            await ask(floor.officer, "risk.approve", account=floor.account, client_order_id=waiting["client_order_id"])
            assert (await floor.report(waiting["client_order_id"], "NEW"))["order_qty"] == "2"
