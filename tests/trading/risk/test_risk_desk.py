"""What the desk remembers between orders: limits in force, switches, and what happened lately."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from hub.trading.orders.order import Order
from hub.trading.risk.activity import MOST_KEYS, Activity
from hub.trading.risk.decision import Approved, Outcome, Refused
from hub.trading.risk.desk import RiskDesk
from hub.trading.risk.view import Facts, Override
from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import TradingState

from .scenes import CHECKS, NOW_US, facts, order

SECOND_US = 1_000_000


@pytest.fixture
def desk() -> RiskDesk:
    return RiskDesk(CHECKS)


def at(seconds: float, **fields: object) -> Facts:
    return facts(now_us=NOW_US + round(seconds * SECOND_US), **fields)


def different(number: int) -> Order:
    """Orders that do not look like one another."""
    return order(order_id=f"o-{number}", client_order_id=f"c-{number}", qty=str(number))


def why(outcome: Outcome) -> str:
    return outcome.decision.faults[0].reason if isinstance(outcome, Refused) else type(outcome).__name__


def set_limits(desk: RiskDesk, scope: str, name: str, **limits: object) -> None:
    desk.set_limits(LimitLayer(scope=scope, name=name, limits=RiskLimits(**limits)), desk.version + 1)


def test_a_limit_holds_from_the_next_order_on_and_names_its_version(desk: RiskDesk) -> None:
    assert isinstance(desk.decide(different(1), at(0)), Approved)
    set_limits(desk, "ACCOUNT", "ann", max_qty="1")
    refused = desk.decide(different(2), at(1))
    assert why(refused) == "QUANTITY_EXCEEDS_MAXIMUM"
    assert refused.decision.config_version == 1
    set_limits(desk, "ACCOUNT", "ann", max_qty="2")
    assert isinstance(desk.decide(different(2), at(2)), Approved)


def test_symbol_decides_over_strategy_over_account_over_everybody(desk: RiskDesk) -> None:
    for most, (scope, name) in enumerate(
        [("GLOBAL", "*"), ("ACCOUNT", "ann"), ("STRATEGY", "s"), ("SYMBOL", "BTC-USD")], start=1
    ):
        set_limits(desk, scope, name, max_qty=str(most))
        assert desk.limits("ann", "s", "BTC-USD").max_qty == most
    assert desk.limits("ann", "s", "ETH-USD").max_qty == 3
    assert desk.limits("ann").max_qty == 2
    assert desk.limits("bob").max_qty == 1
    assert [layer.scope for layer in desk.layers("ann", "s", "BTC-USD")] == ["GLOBAL", "ACCOUNT", "STRATEGY", "SYMBOL"]


def test_the_rate_lets_in_again_whoever_waits_though_they_went_on_knocking(desk: RiskDesk) -> None:
    set_limits(desk, "GLOBAL", "*", submit_rate=2)
    assert [why(desk.decide(different(n), at(n / 10))) for n in (1, 2, 3, 4)] == [
        "Approved",
        "Approved",
        "RATE_LIMIT_EXCEEDED",
        "RATE_LIMIT_EXCEEDED",
    ]
    assert why(desk.decide(different(5), at(1.1))) == "Approved"
    assert why(desk.decide(different(6), at(1.15))) == "RATE_LIMIT_EXCEEDED"
    assert desk.decided == {"APPROVED": 3, "RATE_LIMIT_EXCEEDED": 3}


def test_submits_and_changes_have_a_rate_each_and_every_account_its_own(desk: RiskDesk) -> None:
    set_limits(desk, "GLOBAL", "*", submit_rate=1, modify_rate=1)
    assert why(desk.decide(different(1), at(0))) == "Approved"
    assert why(desk.decide(different(2), at(0), replaces=different(1))) == "Approved"
    assert why(desk.decide(different(3), at(0), replaces=different(1))) == "RATE_LIMIT_EXCEEDED"
    assert why(desk.decide(different(3), at(0))) == "RATE_LIMIT_EXCEEDED"
    assert why(desk.decide(order(account="bob", user="bob"), at(0))) == "Approved"


def test_the_third_order_alike_within_a_second_is_an_error(desk: RiskDesk) -> None:
    alike = [order(order_id=f"o-{n}", client_order_id=f"c-{n}", qty="1.0" if n else "1") for n in range(4)]
    assert [why(desk.decide(each, at(0.4 * n))) for n, each in enumerate(alike)] == [
        "Approved",
        "Approved",
        "DUPLICATE_PATTERN",
        "DUPLICATE_PATTERN",
    ]
    assert why(desk.decide(different(2), at(1.3))) == "Approved"
    assert why(desk.decide(alike[0], at(2.3))) == "Approved"


def test_validating_counts_nothing(desk: RiskDesk) -> None:
    set_limits(desk, "GLOBAL", "*", submit_rate=1)
    for _ in range(5):
        assert desk.validate(order(), at(0)).result == "APPROVED"
    assert why(desk.decide(order(), at(0))) == "Approved"
    assert desk.validate(order(), at(0)).faults[0].reason == "RATE_LIMIT_EXCEEDED"


def test_an_order_that_others_let_pass_is_not_counted_twice(desk: RiskDesk) -> None:
    set_limits(desk, "GLOBAL", "*", submit_rate=1, max_qty="1", approver_role="risk")
    assert why(desk.decide(different(2), at(0))) == "NeedsApproval"
    override = Override(order_id="o-2", approvers=frozenset({"bob"}), expires_us=NOW_US + SECOND_US)
    assert why(desk.decide(different(2), at(0.5), override=override)) == "Approved"


def test_a_switch_of_any_scope_stops_what_belongs_to_it_and_nothing_else(desk: RiskDesk) -> None:
    ours = order(strategy_id="s")
    for scope, name in [("GLOBAL", "*"), ("ACCOUNT", "ann"), ("STRATEGY", "s"), ("SYMBOL", "BTC-USD")]:
        halted = TradingState(scope=scope, name=name, mode="HALTED")  # type: ignore[arg-type]
        desk.set_state(halted)
        assert desk.validate(ours, at(0)).faults[0].reason == "TRADING_HALTED", scope
        desk.set_state(replace(halted, mode="ACTIVE"))
        assert desk.validate(ours, at(0)).result == "APPROVED", scope
    for scope, name in [("ACCOUNT", "bob"), ("STRATEGY", "t"), ("SYMBOL", "ETH-USD"), ("ACCOUNT", "BTC-USD")]:
        desk.set_state(TradingState(scope=scope, name=name, mode="HALTED"))  # type: ignore[arg-type]
    assert desk.validate(ours, at(0)).result == "APPROVED"
    assert desk.validate(order(), at(0)).result == "APPROVED"


def test_a_daily_loss_lets_the_account_only_reduce_until_somebody_resumes_it(desk: RiskDesk) -> None:
    set_limits(desk, "ACCOUNT", "ann", max_daily_loss="500")
    desk.profit("ann", Decimal("-499.99"), now_us=NOW_US)
    assert desk.take_changes() == []
    desk.profit("ann", Decimal(-500), now_us=NOW_US)
    desk.profit("ann", Decimal(-600), now_us=NOW_US + 1)
    [state] = desk.take_changes()
    assert (state.scope, state.name, state.mode, state.actor) == ("ACCOUNT", "ann", "REDUCING", "krin")
    assert state.reason == "DAILY_LOSS_LIMIT: 500"
    long = {"positions": {"BTC-USD": Decimal(1)}}
    assert why(desk.decide(different(1), at(0, **long))) == "TRADING_REDUCING"
    assert why(desk.decide(order(side="SELL"), at(0, **long))) == "Approved"
    desk.set_state(replace(state, mode="ACTIVE"))
    assert why(desk.decide(different(2), at(0, **long))) == "Approved"


def test_a_loss_does_not_loosen_a_halt(desk: RiskDesk) -> None:
    set_limits(desk, "ACCOUNT", "ann", max_daily_loss="500")
    desk.set_state(TradingState(scope="ACCOUNT", name="ann", mode="HALTED", actor="rita"))
    desk.profit("ann", Decimal(-900), now_us=NOW_US)
    assert desk.take_changes() == []
    assert desk.states["ACCOUNT", "ann"].mode == "HALTED"


def test_a_strategy_that_has_traded_too_often_stays_halted_until_it_is_resumed(desk: RiskDesk) -> None:
    set_limits(desk, "STRATEGY", "s", max_executions=3, execution_window_ms=60_000)
    ours = order(strategy_id="s")
    for second in range(3):
        assert desk.validate(ours, at(second)).result == "APPROVED"
        desk.executed(ours, now_us=NOW_US + second * SECOND_US)
    [state] = desk.take_changes()
    assert (state.scope, state.name, state.mode) == ("STRATEGY", "s", "HALTED")
    assert state.reason == "EXECUTION_THROTTLE: 3 trades"
    an_hour_later = desk.validate(ours, at(3600))
    assert [fault.reason for fault in an_hour_later.faults] == ["TRADING_HALTED"]
    assert desk.validate(order(strategy_id="t"), at(3)).result == "APPROVED"
    desk.set_state(replace(state, mode="ACTIVE"))
    assert desk.validate(ours, at(3)).result == "APPROVED", "it begins anew"


def test_trades_in_more_time_than_the_window_halt_nothing(desk: RiskDesk) -> None:
    set_limits(desk, "STRATEGY", "s", max_executions=3, execution_window_ms=60_000)
    for minute in range(10):
        desk.executed(order(strategy_id="s"), now_us=NOW_US + minute * 30 * SECOND_US)
    assert desk.take_changes() == []


def test_what_could_not_be_written_down_is_taken_again_unless_something_newer_is(desk: RiskDesk) -> None:
    halted = TradingState(scope="ACCOUNT", name="ann", mode="HALTED")
    desk.set_state(halted)
    desk.put_back(halted)
    assert desk.take_changes() == [halted]
    desk.put_back(halted)
    desk.set_state(replace(halted, mode="ACTIVE"))
    assert desk.take_changes() == []


def test_a_restart_begins_with_what_is_stored(desk: RiskDesk) -> None:
    set_limits(desk, "ACCOUNT", "ann", max_qty="1")
    halted = TradingState(scope="GLOBAL", mode="HALTED")
    layer = LimitLayer(scope="ACCOUNT", name="bob", limits=RiskLimits(max_qty="7"))
    desk.restore(version=9, layers=[layer], states=[halted])
    assert (desk.version, desk.limits("bob").max_qty, desk.limits("ann").max_qty) == (9, 7, None)
    assert why(desk.decide(order(), at(0))) == "TRADING_HALTED"


def test_activity_is_bounded_and_forgets_the_longest_silent_first() -> None:
    activity = Activity()
    for number in range(MOST_KEYS):
        activity.add(number, number)
    activity.add(0, MOST_KEYS)  # heard of again
    activity.add("new", MOST_KEYS)
    assert activity.count(1, now_us=MOST_KEYS, window_ms=60_000) == 0
    assert activity.count(0, now_us=MOST_KEYS, window_ms=60_000) == 2
    assert activity.count("new", now_us=MOST_KEYS, window_ms=60_000) == 1


def test_the_window_is_open_at_its_beginning() -> None:
    activity = Activity()
    activity.add("a", NOW_US)
    assert activity.count("a", now_us=NOW_US + 999_999, window_ms=1000) == 1
    assert activity.count("a", now_us=NOW_US + 1_000_000, window_ms=1000) == 0
