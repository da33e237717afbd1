"""`krin order` and `krin risk`: what is asked of the hub, and what is printed of its answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_hub import FakeHub, joined, publication

from hub.cli import main
from hub.cli.orders import describe, describe_decision
from protocol.trading import ExecutionReport, RiskDecision, RiskFault

REPORT = {
    "account": "ada",
    "client_order_id": "b1",
    "order_id": "o1",
    "symbol": "BTC-USD",
    "side": "BUY",
    "order_qty": "0.10",
    "order_type": "LIMIT",
    "price": "64000",
    "exec_type": "PENDING_NEW",
    "ord_status": "PENDING_NEW",
}


async def krin(fake: FakeHub, *arguments: str) -> asyncio.Future[Result]:
    """Begin a command, in a thread of its own: it runs a loop."""
    environment = {"KRIN_URL": fake.url, "KRIN_TOKEN": "t"}
    return asyncio.ensure_future(asyncio.to_thread(CliRunner().invoke, main, [*arguments], env=environment))


async def asked(fake: FakeHub, *arguments: str, method: str, answer: Any) -> tuple[dict[str, Any], Result]:
    """Run a command that makes one call: the parameters of the call, and how the command ended."""
    running = await krin(fake, *arguments)
    peer = await fake.welcome()
    command = await peer.expect("call", method=method)
    await peer.send({"type": "reply", "id": command["id"], "result": answer})
    return command["params"], await running


async def test_an_order_is_placed_by_one_line(fake: FakeHub) -> None:
    params, result = await asked(
        *(fake, "order", "submit", "BTC-USD", "buy", "0.10", "--price", "64000", "--id", "b1", "--post-only"),
        method="orders.submit",
        answer=REPORT,
    )
    assert params == {
        "account": "ada",
        "client_order_id": "b1",
        "symbol": "BTC-USD",
        "side": "BUY",
        "qty": "0.10",
        "price": "64000",
        "order_type": "LIMIT",
        "tif": "GTC",
        "post_only": True,
    }
    assert (result.exit_code, result.output) == (0, "b1 BUY 0.10 BTC-USD LIMIT 64000 PENDING_NEW\n")


async def test_a_refused_order_is_exit_code_1_and_says_why(fake: FakeHub) -> None:
    denied = REPORT | {"exec_type": "DENIED", "ord_status": "DENIED", "reject_reason": "PRICE_OUTSIDE_COLLAR"}
    _, result = await asked(fake, "order", "submit", "BTC-USD", "BUY", "0.10", method="orders.submit", answer=denied)
    assert result.exit_code == 1
    assert result.output == "b1 BUY 0.10 BTC-USD LIMIT 64000 DENIED PRICE_OUTSIDE_COLLAR\n"


async def test_a_refused_change_is_exit_code_1_though_the_order_lives(fake: FakeHub) -> None:
    refused = REPORT | {"exec_type": "REPLACE_REJECTED", "ord_status": "NEW", "reject_reason": "PRICE_OUTSIDE_COLLAR"}
    params, result = await asked(
        fake, "order", "replace", "b1", "--price", "1", method="orders.replace", answer=refused
    )
    assert (params["orig_client_order_id"], params["price"]) == ("b1", "1")
    assert (result.exit_code, result.output) == (1, "b1 BUY 0.10 BTC-USD LIMIT 64000 NEW PRICE_OUTSIDE_COLLAR\n")


async def test_follow_prints_what_becomes_of_an_order_until_it_is_closed(fake: FakeHub) -> None:
    running = await krin(fake, "order", "submit", "BTC-USD", "BUY", "0.10", "--follow")
    peer = await fake.welcome()
    await peer.reply(await peer.expect("subscribe", channel="orders:ada"), **joined("orders:ada"))
    await peer.reply(await peer.expect("call", method="orders.submit"), **REPORT)
    changes = [
        {"ord_status": "PENDING_NEW"},
        {"ord_status": "NEW", "exec_type": "NEW", "order_id": "another"},
        {"ord_status": "FILLED", "exec_type": "TRADE", "cum_qty": "0.10", "avg_px": "63999.5"},
    ]
    for offset, change in enumerate(changes, 1):
        await peer.send(publication(offset, "orders:ada", type="EXECUTION_REPORT", data=REPORT | change))
    result = await running
    assert result.output.splitlines() == [
        "b1 BUY 0.10 BTC-USD LIMIT 64000 PENDING_NEW",
        "b1 BUY 0.10 BTC-USD LIMIT 64000 FILLED 0.10 at 63999.5",
    ]


async def test_validate_prints_every_fault(fake: FakeHub) -> None:
    faults = [{"check": "max_qty", "reason": "QUANTITY_EXCEEDS_MAXIMUM", "limit": "5", "observed": "9"}]
    decision = {"account": "ada", "client_order_id": "x", "symbol": "BTC-USD", "result": "REFUSED", "faults": faults}
    _, result = await asked(fake, "order", "validate", "BTC-USD", "BUY", "9", method="orders.validate", answer=decision)
    assert result.exit_code == 1
    assert result.output == "REFUSED\nmax_qty QUANTITY_EXCEEDS_MAXIMUM limit 5, observed 9\n"


async def test_cancel_all_is_asked_for_by_name_only(fake: FakeHub) -> None:
    params, result = await asked(
        fake,
        "order",
        "cancel",
        "--all",
        "--account",
        "desk",
        method="orders.cancel_all",
        answer={"account": "desk", "count": 2},
    )
    assert (params, result.output) == ({"account": "desk"}, "2 are being canceled\n")
    assert CliRunner().invoke(main, ["order", "cancel", "--token", "t"]).exit_code == 2


async def test_open_orders_are_listed_a_line_each(fake: FakeHub) -> None:
    page = {"orders": [REPORT | {"ord_status": "NEW"}, REPORT | {"client_order_id": "b2", "ord_status": "NEW"}]}
    params, result = await asked(fake, "order", "list", "--open", method="orders.list", answer=page)
    assert params == {"account": "ada", "open": True, "limit": 100}
    assert result.output.splitlines() == [
        "b1 BUY 0.10 BTC-USD LIMIT 64000 NEW",
        "b2 BUY 0.10 BTC-USD LIMIT 64000 NEW",
    ]


async def test_limits_are_said_in_the_types_the_hub_wants(fake: FakeHub) -> None:
    said = ("max_notional=50000", "collar_bps=300", "max_position=null", "deny_symbols=A,B", "allow_short=false")
    params, result = await asked(
        fake, "risk", "set", "account:ada", *said, method="risk.set_limits", answer={"version": 4}
    )
    assert params == {
        "scope": "ACCOUNT",
        "name": "ada",
        "limits": {
            "max_notional": "50000",
            "collar_bps": 300,
            "max_position": None,
            "deny_symbols": ["A", "B"],
            "allow_short": False,
        },
    }
    assert json.loads(result.output) == {"version": 4}


@pytest.mark.parametrize("said", ["max_notional", "collar_bps=wide", "no_such_limit=1"])
def test_a_limit_that_is_none_is_refused_before_the_hub_is_asked(said: str) -> None:
    result = CliRunner().invoke(main, ["risk", "set", "global", said, "--token", "t"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize("scope", ["everything", "account", "account:", "global:x"])
def test_a_scope_that_is_none_is_refused(scope: str) -> None:
    result = CliRunner().invoke(main, ["risk", "resume", scope, "--token", "t"])
    assert (result.exit_code, "use global" in result.output) == (2, True)


async def test_halting_cancels_unless_told_otherwise(fake: FakeHub) -> None:
    params, _ = await asked(
        fake, "risk", "halt", "symbol:BTC-USD", "--reason", "news", method="risk.halt", answer={"canceled": 1}
    )
    assert params == {"scope": "SYMBOL", "name": "BTC-USD", "mode": "HALTED", "reason": "news", "cancel": True}
    params, _ = await asked(
        *(fake, "risk", "halt", "global", "--reason", "night", "--reducing", "--keep-orders"),
        method="risk.halt",
        answer={},
    )
    assert params == {"scope": "GLOBAL", "mode": "REDUCING", "reason": "night", "cancel": False}


def test_what_is_not_known_of_an_order_takes_no_room() -> None:
    report = ExecutionReport(
        account="ada", client_order_id="b1", symbol="AAPL", side="SELL", exec_type="NEW", ord_status="NEW"
    )
    assert describe(report) == "b1 SELL AAPL NEW"


def test_an_approved_decision_is_one_word() -> None:
    approved = RiskDecision(account="a", client_order_id="b", symbol="S", result="APPROVED")
    assert describe_decision(approved) == ["APPROVED"]
    fault = RiskFault(check="collar", reason="PRICE_OUTSIDE_COLLAR", text="too far")
    refused = RiskDecision(account="a", client_order_id="b", symbol="S", result="REFUSED", faults=[fault])
    assert describe_decision(refused)[1:] == ["collar PRICE_OUTSIDE_COLLAR too far"]


async def test_json_is_the_report_itself_and_a_refusal_is_still_exit_code_1(fake: FakeHub) -> None:
    page = {"orders": [REPORT, REPORT | {"client_order_id": "b2"}]}
    _, listed = await asked(fake, "order", "list", "--json", method="orders.list", answer=page)
    assert [json.loads(line) for line in listed.output.splitlines()] == page["orders"]
    denied = REPORT | {"exec_type": "DENIED", "ord_status": "DENIED", "reject_reason": "UNKNOWN_SYMBOL"}
    order = ("order", "submit", "BTC-USD", "BUY", "0.10", "--json")
    _, refused = await asked(fake, *order, method="orders.submit", answer=denied)
    assert (refused.exit_code, json.loads(refused.output)) == (1, denied)
    canceled = {"account": "ada", "count": 2}
    _, ended = await asked(fake, "order", "cancel", "--all", "--json", method="orders.cancel_all", answer=canceled)
    assert json.loads(ended.output) == {"canceled": 2}
