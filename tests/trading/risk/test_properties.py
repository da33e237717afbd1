"""What holds for every order, account and set of limits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hub.trading.orders.order import Order
from hub.trading.risk.decision import Approved, NeedsApproval, Refused
from hub.trading.risk.limits import Limits
from hub.trading.risk.view import RiskView

from .scenes import CHECKS, order, view

AMOUNTS = st.integers(1, 60).map(Decimal)
SIDES = st.sampled_from(["BUY", "SELL"])
SYMBOLS = st.sampled_from(["BTC-USD", "ETH-USD", "BTC-EUR"])


@st.composite
def orders(draw: Any, *, symbol: Any = SYMBOLS) -> Order:
    return order(
        symbol=draw(symbol),
        side=draw(SIDES),
        qty=draw(AMOUNTS),
        price=Decimal(draw(st.integers(80, 120))),
        reduce_only=draw(st.booleans()),
        list_id=draw(st.sampled_from([None, "a", "b"])),
        contingency=draw(st.sampled_from(["NONE", "OCO"])),
    )


@st.composite
def views(draw: Any) -> RiskView:
    some = st.none() | st.integers(0, 10_000).map(Decimal)
    return view(
        draw(orders(symbol=st.just("BTC-USD"))),
        limits=Limits(
            max_notional=draw(some),
            max_position=draw(st.none() | AMOUNTS),
            max_gross=draw(some),
            max_net=draw(some),
            allow_short=draw(st.booleans()),
            max_daily_loss=draw(some),
            approver_role=draw(st.sampled_from([None, "risk"])),
        ),
        open_orders=draw(st.lists(orders(), max_size=6)),
        positions=draw(st.dictionaries(SYMBOLS, st.integers(-50, 50).map(Decimal))),
        balances={"USD": draw(st.integers(0, 9_000).map(Decimal))},
        daily_pnl=Decimal(draw(st.integers(-500, 500))),
    )


@given(views())
def test_the_short_way_and_the_long_way_agree(seen: RiskView) -> None:
    outcome, decision = CHECKS.check(seen), CHECKS.check_all(seen)
    kinds = {"APPROVED": Approved, "REFUSED": Refused, "NEEDS_APPROVAL": NeedsApproval}
    assert isinstance(outcome, kinds[decision.result])
    assert outcome.decision.result == decision.result
    assert outcome.decision.faults == decision.faults[: len(outcome.decision.faults)]
    assert bool(decision.faults) == (decision.result != "APPROVED")


def most(seen: RiskView, symbol: str, side: str) -> Decimal:
    """How far the position can go to one side, written once more: every set of orders that can fill together."""
    alone, lists = Decimal(0), dict[str, Decimal]()
    for each in [*seen.facts.open_orders, seen.order]:
        if (each.symbol, each.side) != (symbol, side):
            continue
        if each.contingency == "OCO" and each.list_id:
            lists[each.list_id] = max(lists.get(each.list_id, Decimal(0)), each.leaves_qty)
        else:
            alone += each.leaves_qty
    held = seen.facts.positions.get(symbol, Decimal(0))
    return alone + sum(lists.values()) + (held if side == "BUY" else -held)


@given(views())
def test_an_approved_order_cannot_take_the_position_beyond_its_limit(seen: RiskView) -> None:
    if isinstance(CHECKS.check(seen), Approved) and seen.limits.max_position is not None:
        assert most(seen, "BTC-USD", seen.order.side) <= seen.limits.max_position


@given(views())
def test_an_approved_reduce_only_order_never_turns_the_position(seen: RiskView) -> None:
    if isinstance(CHECKS.check(seen), Approved) and seen.order.reduce_only:
        assert most(seen, "BTC-USD", seen.order.side) <= 0


@given(views())
def test_without_leave_nothing_is_sold_that_is_not_held(seen: RiskView) -> None:
    if isinstance(CHECKS.check(seen), Approved) and seen.order.side == "SELL" and not seen.limits.allow_short:
        assert most(seen, "BTC-USD", "SELL") <= 0


@given(views(), AMOUNTS)
def test_a_tighter_limit_never_lets_more_through(seen: RiskView, most_qty: Decimal) -> None:
    tight = view(seen.order, limits=Limits(max_qty=most_qty), positions=seen.facts.positions)
    loose = view(seen.order, limits=Limits(max_qty=most_qty + 1), positions=seen.facts.positions)
    if CHECKS.check_all(tight).result == "APPROVED":
        assert CHECKS.check_all(loose).result == "APPROVED"
