"""The eighteen checks, each on both sides of its limit."""

from __future__ import annotations

import ast
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
from msgspec.structs import replace

from hub.trading.reasons import CXL_REJ_REASON, ORD_REJ_REASON, Reason
from hub.trading.risk.decision import Approved, NeedsApproval, Refused
from hub.trading.risk.limits import Limits
from hub.trading.risk.rules import CHECKS as TABLE
from hub.trading.risk.view import Override, Recent, RiskView
from protocol.trading import Instrument, TradingState

from .scenes import BTC, CHECKS, NOW_US, faults, market, order, reasons, view

SECOND_US = 1_000_000
LONG = {"positions": {"BTC-USD": Decimal(10)}}
SHORT = {"positions": {"BTC-USD": Decimal(-10)}}


def thrown(mode: str, scope: str = "ACCOUNT", name: str = "ann") -> list[TradingState]:
    return [TradingState(scope=scope, name=name, mode=mode)]  # type: ignore[arg-type]


def listed(**fields: object) -> dict[str, dict[str, Instrument]]:
    return {"instruments": {"BTC-USD": replace(BTC, **fields)}}


def resting(count: int, **fields: object) -> dict[str, object]:
    return {"open_orders": [order(order_id=f"r-{n}", client_order_id=f"r-{n}", **fields) for n in range(count)]}


def allowed(**fields: object) -> Override:
    given = {"order_id": "o-1", "approvers": frozenset({"bob"}), "expires_us": NOW_US + SECOND_US}
    return Override(**(given | fields))  # type: ignore[arg-type]


class Case(NamedTuple):
    """What passes, what is just beyond, and why that is refused."""

    check: str
    reason: Reason
    passes: Callable[[], RiskView]
    refused: Callable[[], RiskView]


CASES = [
    # 1
    Case("trading_state", "TRADING_HALTED", lambda: view(states=[]), lambda: view(states=thrown("HALTED"))),
    Case("trading_state", "TRADING_HALTED", lambda: view(order(side="SELL"), **LONG), lambda: view(order(side="SELL"), states=thrown("HALTED"), **LONG)),
    Case("trading_state", "TRADING_REDUCING", lambda: view(order(side="SELL", qty="10"), states=thrown("REDUCING"), **LONG), lambda: view(order(side="SELL", qty="10.001"), states=thrown("REDUCING"), **LONG)),
    Case("trading_state", "TRADING_REDUCING", lambda: view(order(qty="10"), states=thrown("REDUCING", "GLOBAL", "*"), **SHORT), lambda: view(order(qty="10"), states=thrown("REDUCING", "GLOBAL", "*"))),
    Case("trading_state", "TRADING_REDUCING", lambda: view(order(side="SELL", qty="8"), states=thrown("REDUCING"), **LONG, **resting(1, side="SELL", qty="2")), lambda: view(order(side="SELL", qty="8"), states=thrown("REDUCING"), **LONG, **resting(1, side="SELL", qty="2.001"))),
    # 2
    Case("symbol", "UNKNOWN_SYMBOL", lambda: view(), lambda: view(order(symbol="DOGE-USD"))),
    Case("symbol", "RESTRICTED_INSTRUMENT", lambda: view(limits=Limits(allow_symbols=("BTC-USD",))), lambda: view(limits=Limits(allow_symbols=("ETH-USD",)))),
    Case("symbol", "RESTRICTED_INSTRUMENT", lambda: view(limits=Limits(deny_symbols=("ETH-USD",))), lambda: view(limits=Limits(deny_symbols=("BTC-USD",)))),
    Case("symbol", "INSTRUMENT_HALTED", lambda: view(**listed(status="TRADING")), lambda: view(**listed(status="HALT"))),
    Case("symbol", "MARKET_CLOSED", lambda: view(**listed(status="TRADING")), lambda: view(**listed(status="CLOSED"))),
    Case("symbol", "MARKET_CLOSED", lambda: view(**listed(status="TRADING")), lambda: view(**listed(status="BREAK"))),
    Case("symbol", "MARKET_CLOSED", lambda: view(**listed(status="TRADING")), lambda: view(**listed(status="AUCTION"))),
    Case("symbol", "CANCEL_ONLY", lambda: view(**listed(status="TRADING")), lambda: view(**listed(status="CANCEL_ONLY"))),
    Case("symbol", "UNSUPPORTED_TIME_IN_FORCE", lambda: view(order(post_only=True), **listed(status="POST_ONLY")), lambda: view(**listed(status="POST_ONLY"))),
    Case("symbol", "UNSUPPORTED_ORDER_TYPE", lambda: view(**listed(status="LIMIT_ONLY")), lambda: view(order(order_type="MARKET"), **listed(status="LIMIT_ONLY"))),
    # 3
    Case("precision", "TICK_SIZE_INVALID", lambda: view(order(price="100.01")), lambda: view(order(price="100.015"))),
    Case("precision", "TICK_SIZE_INVALID", lambda: view(order(order_type="STOP", stop_price="102.01")), lambda: view(order(order_type="STOP", stop_price="102.001"))),
    Case("precision", "TICK_SIZE_INVALID", lambda: view(order(order_type="TRAILING_STOP", trail="0.01")), lambda: view(order(order_type="TRAILING_STOP", trail="0"))),
    Case("precision", "LOT_SIZE_INVALID", lambda: view(order(qty="1.001")), lambda: view(order(qty="1.0005"))),
    Case("precision", "QUANTITY_BELOW_MINIMUM", lambda: view(order(qty="0.01")), lambda: view(order(qty="0"))),
    Case("precision", "QUANTITY_BELOW_MINIMUM", lambda: view(order(qty="0.5"), **listed(min_qty="0.5")), lambda: view(order(qty="0.499"), **listed(min_qty="0.5"))),
    Case("precision", "QUANTITY_EXCEEDS_MAXIMUM", lambda: view(order(qty="2"), **listed(max_qty="2")), lambda: view(order(qty="2.001"), **listed(max_qty="2"))),
    Case("precision", "NOTIONAL_BELOW_MINIMUM", lambda: view(**listed(min_notional="100")), lambda: view(**listed(min_notional="100.01"))),
    Case("precision", "NOTIONAL_EXCEEDS_MAXIMUM", lambda: view(**listed(max_notional="100")), lambda: view(**listed(max_notional="99.99"))),
    Case("precision", "VALIDATION_FAILED", lambda: view(order(order_type="LIMIT", price="100")), lambda: view(order(order_type="LIMIT", price=None))),
    Case("precision", "VALIDATION_FAILED", lambda: view(order(order_type="MARKET")), lambda: view(order(order_type="MARKET", price="100"))),
    Case("precision", "VALIDATION_FAILED", lambda: view(order(order_type="STOP_LIMIT", price="103", stop_price="102")), lambda: view(order(order_type="STOP_LIMIT", stop_price="102"))),
    # 4
    Case("max_qty", "QUANTITY_EXCEEDS_MAXIMUM", lambda: view(order(qty="5"), limits=Limits(max_qty=Decimal(5))), lambda: view(order(qty="5.001"), limits=Limits(max_qty=Decimal(5)))),
    # 5
    Case("notional", "NOTIONAL_EXCEEDS_MAXIMUM", lambda: view(order(qty="100")), lambda: view(order(qty="100", price="100.01"))),
    Case("notional", "NOTIONAL_EXCEEDS_MAXIMUM", lambda: view(order(order_type="MARKET"), limits=Limits(max_notional=Decimal(101))), lambda: view(order(order_type="MARKET"), limits=Limits(max_notional=Decimal(100)))),
    Case("notional", "NOTIONAL_BELOW_MINIMUM", lambda: view(limits=Limits(min_notional=Decimal(100))), lambda: view(limits=Limits(min_notional=Decimal("100.01")))),
    # 6
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(price="105")), lambda: view(order(price="105.01"))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(side="SELL", price="95")), lambda: view(order(side="SELL", price="94.99"))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(order_type="MARKET"), market=market(ask="105")), lambda: view(order(order_type="MARKET"), market=market(ask="105.01"))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(price="90"), limits=Limits(passive_collar_bps=1000)), lambda: view(order(price="89.99"), limits=Limits(passive_collar_bps=1000))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(order_type="STOP_LIMIT", stop_price="200", price="210")), lambda: view(order(order_type="STOP_LIMIT", stop_price="200", price="210.01"))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(price="110"), market=market(mid=None), vwap=Decimal(105), last=Decimal(1)), lambda: view(order(price="110"), market=market(mid=None), vwap=Decimal(104), last=Decimal(105))),
    Case("price_collar", "PRICE_OUTSIDE_COLLAR", lambda: view(order(price="110"), market=market(mid=None), last=Decimal(105)), lambda: view(order(price="110"), market=market(mid=None), last=Decimal(104))),
    # 7
    Case("fresh_reference", "STALE_MARKET_DATA", lambda: view(market=market(age_us=2 * SECOND_US)), lambda: view(market=market(age_us=2 * SECOND_US + 1))),
    Case("fresh_reference", "STALE_MARKET_DATA", lambda: view(market=market(state="DEGRADED")), lambda: view(market=market(state="STALE"))),
    Case("fresh_reference", "STALE_MARKET_DATA", lambda: view(), lambda: view(market=None)),
    Case("fresh_reference", "STALE_MARKET_DATA", lambda: view(market=market(age_us=None), limits=Limits(max_ref_age_ms=None)), lambda: view(market=market(age_us=None))),
    Case("fresh_reference", "DISPUTED_MARKET_DATA", lambda: view(market=market(state="DEGRADED")), lambda: view(market=market(state="DISPUTED"))),
    Case("fresh_reference", "DEGRADED_MARKET_DATA", lambda: view(limits=Limits(min_quality="LIVE")), lambda: view(market=market(state="DEGRADED"), limits=Limits(min_quality="LIVE"))),
    Case("fresh_reference", "INSTRUMENT_HALTED", lambda: view(market=market(state="LIVE")), lambda: view(market=market(state="HALTED"))),
    # 8
    Case("message_rate", "RATE_LIMIT_EXCEEDED", lambda: view(recent=Recent(submits=99)), lambda: view(recent=Recent(submits=100))),
    Case("message_rate", "RATE_LIMIT_EXCEEDED", lambda: view(recent=Recent(submits=100, modifies=99), replaces=order()), lambda: view(recent=Recent(modifies=100), replaces=order())),
    # 9
    Case("duplicate_pattern", "DUPLICATE_PATTERN", lambda: view(recent=Recent(same=1)), lambda: view(recent=Recent(same=2))),
    # 10
    Case("open_orders", "MAX_OPEN_ORDERS", lambda: view(**resting(24)), lambda: view(**resting(25))),
    Case("open_orders", "MAX_OPEN_ORDERS", lambda: view(**resting(199, symbol="ETH-USD", price="1")), lambda: view(**resting(200, symbol="ETH-USD", price="1"))),
    # 11
    Case("position", "POSITION_LIMIT_EXCEEDED", lambda: view(order(qty="5"), limits=Limits(max_position=Decimal(15)), **LONG), lambda: view(order(qty="5.001"), limits=Limits(max_position=Decimal(15)), **LONG)),
    Case("position", "POSITION_LIMIT_EXCEEDED", lambda: view(order(qty="3"), limits=Limits(max_position=Decimal(15)), **LONG, **resting(1, qty="2")), lambda: view(order(qty="3"), limits=Limits(max_position=Decimal(15)), **LONG, **resting(1, qty="2.001"))),
    Case("position", "POSITION_LIMIT_EXCEEDED", lambda: view(order(side="SELL", qty="25"), limits=Limits(max_position=Decimal(15)), **LONG), lambda: view(order(side="SELL", qty="25.001"), limits=Limits(max_position=Decimal(15)), **LONG)),
    # 12: ETH counts 10 each, BTC 100 each, and what is quoted in euro is another credit
    Case("exposure", "EXPOSURE_LIMIT_EXCEEDED", lambda: view(limits=Limits(max_gross=Decimal(600)), positions={"ETH-USD": Decimal(-50)}), lambda: view(limits=Limits(max_gross=Decimal(600)), positions={"ETH-USD": Decimal("-50.1")})),
    Case("exposure", "EXPOSURE_LIMIT_EXCEEDED", lambda: view(limits=Limits(max_gross=Decimal(100)), positions={"BTC-EUR": Decimal(5)}), lambda: view(limits=Limits(max_gross=Decimal(100)), **resting(1, symbol="ETH-USD", qty="1", price="10"))),
    Case("exposure", "EXPOSURE_LIMIT_EXCEEDED", lambda: view(order(side="SELL", qty="10"), limits=Limits(max_gross=Decimal(100)), **LONG), lambda: view(order(side="SELL", qty="20.001"), limits=Limits(max_gross=Decimal(100)), **LONG)),
    Case("exposure", "EXPOSURE_LIMIT_EXCEEDED", lambda: view(limits=Limits(max_net=Decimal(50)), positions={"ETH-USD": Decimal(-5)}), lambda: view(limits=Limits(max_net=Decimal(50)), positions={"ETH-USD": Decimal("-4.9")})),
    Case("exposure", "EXPOSURE_LIMIT_EXCEEDED", lambda: view(order(side="SELL"), limits=Limits(max_net=Decimal(50)), positions={"ETH-USD": Decimal(5)}), lambda: view(order(side="SELL"), limits=Limits(max_net=Decimal(50)), positions={"ETH-USD": Decimal("4.9")})),
    # 13
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(balances={"USD": Decimal(100)}), lambda: view(balances={"USD": Decimal("99.99")})),
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(balances={"USD": Decimal(150)}, **resting(1, qty="0.5")), lambda: view(balances={"USD": Decimal(149)}, **resting(1, qty="0.5"))),
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(order(order_type="MARKET"), balances={"USD": Decimal(101)}), lambda: view(order(order_type="MARKET"), balances={"USD": Decimal(100)})),
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(order(side="SELL", qty="11"), balances={"USD": Decimal(100)}, **LONG), lambda: view(order(side="SELL", qty="11"), balances={"USD": Decimal(99)}, **LONG)),
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(order(qty="10"), balances={"USD": Decimal(0)}, **SHORT), lambda: view(order(qty="11"), balances={"USD": Decimal(2099)}, **SHORT)),
    Case("buying_power", "INSUFFICIENT_BALANCE", lambda: view(order(side="SELL", qty="10"), limits=Limits(allow_short=False), **LONG), lambda: view(order(side="SELL", qty="10.001"), limits=Limits(allow_short=False), **LONG)),
    # 14
    Case("daily_loss", "DAILY_LOSS_LIMIT", lambda: view(daily_pnl=Decimal("-499.99"), limits=Limits(max_daily_loss=Decimal(500))), lambda: view(daily_pnl=Decimal(-500), limits=Limits(max_daily_loss=Decimal(500)))),
    Case("daily_loss", "DAILY_LOSS_LIMIT", lambda: view(order(side="SELL"), daily_pnl=Decimal(-500), limits=Limits(max_daily_loss=Decimal(500)), **LONG), lambda: view(daily_pnl=Decimal(-500), limits=Limits(max_daily_loss=Decimal(500)), **LONG)),
    # 15
    Case("self_trade", "SELF_TRADE_PREVENTED", lambda: view(order(stp_mode="NONE"), **resting(1, side="SELL", price="100.01")), lambda: view(order(stp_mode="NONE"), **resting(1, side="SELL", price="100"))),
    Case("self_trade", "SELF_TRADE_PREVENTED", lambda: view(order(side="SELL", stp_mode="NONE"), **resting(1, price="99.99")), lambda: view(order(side="SELL", stp_mode="NONE"), **resting(1, price="100"))),
    Case("self_trade", "SELF_TRADE_PREVENTED", lambda: view(order(order_type="MARKET", stp_mode="EXPIRE_TAKER"), **resting(1, side="SELL")), lambda: view(order(order_type="MARKET", stp_mode="NONE"), **resting(1, side="SELL"))),
    Case("self_trade", "SELF_TRADE_PREVENTED", lambda: view(order(stp_mode="NONE"), limits=Limits(allow_self_trade=True), **resting(1, side="SELL")), lambda: view(order(stp_mode="NONE"), **resting(1, side="SELL"))),
    # 16
    Case("instructions", "REDUCE_ONLY_WOULD_INCREASE", lambda: view(order(side="SELL", qty="10", reduce_only=True), **LONG), lambda: view(order(side="SELL", qty="10.001", reduce_only=True), **LONG)),
    Case("instructions", "REDUCE_ONLY_WOULD_INCREASE", lambda: view(order(qty="10", reduce_only=True), **SHORT), lambda: view(order(qty="10", reduce_only=True), **LONG)),
    Case("instructions", "POST_ONLY_WOULD_MATCH", lambda: view(order(price="100.99", post_only=True)), lambda: view(order(price="101", post_only=True))),
    Case("instructions", "POST_ONLY_WOULD_MATCH", lambda: view(order(side="SELL", price="99.01", post_only=True)), lambda: view(order(side="SELL", price="99", post_only=True))),
    Case("instructions", "STOP_WOULD_TRIGGER", lambda: view(order(order_type="STOP", stop_price="101.01")), lambda: view(order(order_type="STOP", stop_price="101"))),
    Case("instructions", "STOP_WOULD_TRIGGER", lambda: view(order(side="SELL", order_type="STOP", stop_price="98.99")), lambda: view(order(side="SELL", order_type="STOP", stop_price="99"))),
    Case("instructions", "EXPIRE_TIME_IN_PAST", lambda: view(order(tif="GTD", expire_at=NOW_US + 1)), lambda: view(order(tif="GTD", expire_at=NOW_US))),
    Case("instructions", "UNSUPPORTED_TIME_IN_FORCE", lambda: view(order(tif="GTD", expire_at=NOW_US + 1)), lambda: view(order(tif="GTD"))),
    Case("instructions", "UNSUPPORTED_TIME_IN_FORCE", lambda: view(order(tif="GTC", post_only=True)), lambda: view(order(tif="IOC", post_only=True))),
    Case("instructions", "UNSUPPORTED_TIME_IN_FORCE", lambda: view(order(order_type="STOP", stop_price="102")), lambda: view(order(order_type="STOP", stop_price="102", tif="FOK"))),
    # 17
    Case("execution_throttle", "EXECUTION_THROTTLE", lambda: view(order(strategy_id="s"), recent=Recent(executions=9), limits=Limits(max_executions=10)), lambda: view(order(strategy_id="s"), recent=Recent(executions=10), limits=Limits(max_executions=10))),
    # 18
    Case("override", "APPROVAL_EXPIRED", lambda: view(override=allowed(expires_us=NOW_US + 1)), lambda: view(override=allowed(expires_us=NOW_US))),
    Case("override", "APPROVAL_DECLINED", lambda: view(override=allowed()), lambda: view(override=allowed(approvers=frozenset({"ann"})))),
    Case("override", "APPROVAL_DECLINED", lambda: view(override=allowed(approvers=frozenset({"bob", "cy"})), limits=Limits(approvals_required=2)), lambda: view(override=allowed(), limits=Limits(approvals_required=2))),
    Case("override", "VALIDATION_FAILED", lambda: view(override=allowed()), lambda: view(override=allowed(order_id="o-2"))),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.reason}")
def test_an_order_at_the_limit_passes_and_one_just_beyond_is_refused_with_the_reason(case: Case) -> None:
    assert reasons(case.passes()) == []
    assert isinstance(CHECKS.check(case.passes()), Approved)
    assert (case.check, case.reason) in faults(case.refused())
    assert {check for check, _ in faults(case.refused())} == {case.check}, "another check answers for it"
    refused = CHECKS.check(case.refused())
    assert isinstance(refused, Refused)
    assert refused.decision.faults[0].reason == case.reason


def test_all_eighteen_checks_have_a_case_on_each_side() -> None:
    assert len(TABLE) == 18
    assert list(dict.fromkeys(case.check for case in CASES)) == list(TABLE)


def test_one_bad_order_is_told_all_of_its_faults_and_refused_for_the_first() -> None:
    limits = Limits(
        deny_symbols=("BTC-USD",),
        max_qty=Decimal(5),
        max_position=Decimal(50),
        max_gross=Decimal(100),
        max_daily_loss=Decimal(1),
        max_executions=1,
    )
    bad = view(
        order(
            strategy_id="s",
            qty="200.0005",
            price="110.001",
            stp_mode="NONE",
            post_only=True,
            reduce_only=True,
            tif="GTD",
            expire_at=NOW_US - 1,
        ),
        limits=limits,
        states=thrown("HALTED", "GLOBAL", "*"),
        market=market(state="DISPUTED", age_us=3 * SECOND_US),
        recent=Recent(submits=100, same=2, executions=1),
        balances={"USD": Decimal(1)},
        daily_pnl=Decimal(-1),
        override=allowed(expires_us=NOW_US),
        **resting(25, side="SELL", qty="0.1"),
    )
    assert {check for check, _ in faults(bad)} == set(TABLE)
    assert reasons(bad)[0] == "TRADING_HALTED"
    refused = CHECKS.check(bad)
    assert isinstance(refused, Refused)
    assert [fault.reason for fault in refused.decision.faults] == ["TRADING_HALTED"]


def test_a_decision_says_what_was_seen_what_the_limit_is_and_on_which_market() -> None:
    decision = CHECKS.check_all(view(order(qty="100", price="100.01", strategy_id="s"), version=7))
    [fault] = decision.faults
    assert (fault.check, fault.observed, fault.limit) == ("notional", "10001.00", "10000")
    assert (decision.account, decision.client_order_id, decision.strategy_id) == ("ann", "c-1", "s")
    assert (decision.result, decision.config_version, decision.ts_event) == ("REFUSED", 7, NOW_US)
    assert decision.market is not None
    assert decision.market.mid == "100"


SOFT = Limits(approver_role="risk", max_qty=Decimal(5))


def test_an_order_above_a_limit_waits_for_approval_where_a_role_may_give_it() -> None:
    outcome = CHECKS.check(view(order(qty="6"), limits=SOFT))
    assert isinstance(outcome, NeedsApproval)
    assert (outcome.role, outcome.required, outcome.expires_us) == ("risk", 1, NOW_US + 300 * SECOND_US)
    assert CHECKS.check_all(view(order(qty="6"), limits=SOFT)).result == "NEEDS_APPROVAL"


def test_an_approved_order_passes_the_limit_and_nothing_else() -> None:
    assert isinstance(CHECKS.check(view(order(qty="6"), limits=SOFT, override=allowed())), Approved)
    stale = CHECKS.check(view(order(qty="6"), limits=SOFT, override=allowed(), market=market(state="STALE")))
    assert isinstance(stale, Refused)
    assert [fault.reason for fault in stale.decision.faults] == ["STALE_MARKET_DATA"]


def test_a_fault_that_nobody_may_let_pass_is_not_put_to_anybody() -> None:
    both = CHECKS.check(view(order(qty="6"), limits=SOFT, market=market(state="DISPUTED")))
    assert isinstance(both, Refused)
    assert [fault.check for fault in both.decision.faults] == ["max_qty", "fresh_reference"]


def test_a_replacement_above_a_limit_is_refused_and_waits_for_nobody() -> None:
    assert isinstance(CHECKS.check(view(order(qty="6"), limits=SOFT, replaces=order())), Refused)


def test_an_approved_replacement_says_what_is_to_change() -> None:
    before = order()
    approved = CHECKS.check(view(order(qty="2"), replaces=before))
    assert isinstance(approved, Approved)
    assert approved.order is before
    assert (approved.qty, approved.price, approved.stop_price, approved.trail) == (Decimal(2), None, None, None)


def test_of_an_oco_list_only_one_order_is_thought_to_fill() -> None:
    exits = {"side": "SELL", "qty": "10", "list_id": "exit", "contingency": "OCO"}
    take_profit = order(order_id="r", client_order_id="r", price="110", **exits)
    stop_loss = order(order_type="STOP", stop_price="90", reduce_only=True, **exits)
    limits = Limits(allow_short=False, max_position=Decimal(10))
    assert reasons(view(stop_loss, limits=limits, open_orders=[take_profit], **LONG)) == []
    alone = replace(take_profit, contingency="NONE")
    assert "INSUFFICIENT_BALANCE" in reasons(view(stop_loss, limits=limits, open_orders=[alone], **LONG))


def test_every_reason_has_its_fix_code() -> None:
    assert set(get_args(Reason)) == set(ORD_REJ_REASON)
    assert CXL_REJ_REASON.keys() <= ORD_REJ_REASON.keys()


def test_nothing_but_the_checks_can_approve_an_order() -> None:
    decision = CHECKS.check_all(view())
    with pytest.raises(TypeError, match="only the risk checks"):
        Approved(order(), decision, made_by=object())
    root = Path(__file__).parents[3]
    users = {
        str(path.relative_to(root))
        for path in (root / "hub").rglob("*.py")
        if "BY_THE_CHECKS"
        in {getattr(node, "id", None) or getattr(node, "name", None) for node in ast.walk(ast.parse(path.read_text()))}
    }
    assert users == {"hub/trading/risk/decision.py", "hub/trading/risk/checks.py"}
