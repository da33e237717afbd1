"""Budgets: nobody gets more than is left, in any order, however many ask at once."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from hub.coordination.budgets import (
    DAY_US,
    MAX_RESERVATIONS,
    MAX_RESERVATIONS_OF_PROJECT,
    RESERVATION_TTL_US,
    Account,
    Amount,
    Budgets,
    Limit,
    cost,
)
from protocol.coordination import ProjectConfig, Specialist, Usage
from protocol.errors import ErrorCode, HubError

DAY = 20_000
START = DAY * DAY_US
AMOUNTS = st.builds(Amount, st.integers(0, 40), st.integers(0, 400).map(lambda cents: Decimal(cents) / 100))


def limited(*, project_usd: str | None = None, agent_tokens: int | None = None) -> Budgets:
    budgets = Budgets()
    budgets.limit_project(ProjectConfig(project_id="p", budget_usd=project_usd))
    budgets.limit_agent(Specialist(specialist_id="ann", team="t", tokens_per_day=agent_tokens))
    return budgets


def usd(dollars: str) -> Amount:
    return Amount(usd=Decimal(dollars))


def code_of(act: Callable[[], object]) -> ErrorCode:
    with pytest.raises(HubError) as failure:
        act()
    return failure.value.code


LIMITS = {
    ("PROJECT", "p", False): Limit(200, Decimal(20)),
    ("PROJECT", "p", True): Limit(None, Decimal(8)),
    ("AGENT", "ann", True): Limit(60, None),
    ("AGENT", "bob", False): Limit(90, Decimal(0)),
}


class Spending(RuleBasedStateMachine):
    """Two projects, two agents, days that pass; beside it the same sums in the plainest way."""

    open_reservations = Bundle("open_reservations")

    def __init__(self) -> None:
        super().__init__()
        self.budgets = Budgets()
        for (kind, name, daily), limit in LIMITS.items():
            self.budgets.limit(Account(kind, name, 0 if daily else None), limit)  # type: ignore[arg-type]  # a Literal
        self.now_us = START
        self.booked: dict[str, tuple[str, str, int, Amount]] = {}  # reserved or spent
        self.expires: dict[str, int] = {}
        self.asked = 0

    def sum_of(self, account: Account) -> Amount:
        total = Amount()
        for project, agent, day, amount in self.booked.values():
            if account.name in (project, agent) and account.day in (None, day):
                total = total.plus(amount)
        return total

    @rule(
        target=open_reservations, amount=AMOUNTS, project=st.sampled_from("pq"), agent=st.sampled_from(["ann", "bob"])
    )
    def reserve(self, amount: Amount, project: str, agent: str) -> Any:
        self.asked += 1
        name, day = str(self.asked), self.now_us // DAY_US
        accounts = [Account("PROJECT", project), Account("PROJECT", project, day)]
        accounts += [Account("AGENT", agent), Account("AGENT", agent, day)]
        after = {each: self.sum_of(each).plus(amount) for each in accounts}
        within = [each for each in accounts if LIMITS.get(each.budget, Limit()).admits(after[each])]
        decision = self.budgets.reserve(name, amount, project=project, agent=agent, now_us=self.now_us)
        assert set(decision.refused_by) == set(accounts) - set(within)
        if decision.allowed:
            self.booked[name] = project, agent, day, amount
            self.expires[name] = self.now_us + RESERVATION_TTL_US
        return name

    @rule(name=consumes(open_reservations), share=st.integers(0, 100))
    def settle(self, name: str, share: int) -> None:
        if self.expires.get(name, 0) <= self.now_us:
            self.budgets.expire(now_us=self.now_us)
            assert code_of(lambda: self.budgets.settle(name, Amount(), project="p", agent="ann")) is ErrorCode.NOT_FOUND
            return
        project, agent, day, amount = self.booked[name]
        spent = Amount(amount.tokens * share // 100, amount.usd * share / 100)
        for _ in range(2):  # a repeat books nothing
            self.budgets.settle(name, spent, project=project, agent=agent)
        self.booked[name] = project, agent, day, spent

    @rule(passed_us=st.sampled_from([1, RESERVATION_TTL_US - 1, RESERVATION_TTL_US, DAY_US]))
    def time_passes(self, passed_us: int) -> None:
        self.now_us += passed_us
        self.budgets.expire(now_us=self.now_us)

    @invariant()
    def what_is_used_is_what_was_reserved_or_spent_and_within_every_limit(self) -> None:
        today = self.now_us // DAY_US
        for kind, name in (("PROJECT", "p"), ("PROJECT", "q"), ("AGENT", "ann"), ("AGENT", "bob")):
            for day in (None, today):
                account = Account(kind, name, day)  # type: ignore[arg-type]  # one of the Literal
                assert self.budgets.used(account) == self.sum_of(account)
                assert LIMITS.get(account.budget, Limit()).admits(self.budgets.used(account))


TestSpending = Spending.TestCase


def test_two_who_ask_at_once_do_not_both_get_the_last_dollar() -> None:
    budgets = limited(project_usd="1")
    assert budgets.reserve("a", usd("0.6"), project="p", agent="ann", now_us=START).allowed
    refused = budgets.reserve("b", usd("0.6"), project="p", agent="bob", now_us=START)
    assert refused.refused_by == (Account("PROJECT", "p"),)
    assert code_of(refused.require) is ErrorCode.LIMIT_EXCEEDED
    assert budgets.used(Account("AGENT", "bob", DAY)) == Amount()  # all accounts or none
    budgets.settle("a", usd("0.4"), project="p", agent="ann")
    assert budgets.reserve("b", usd("0.6"), project="p", agent="bob", now_us=START).allowed


def test_a_days_budget_is_new_on_the_next_day_and_the_projects_is_not() -> None:
    budgets = limited(project_usd="1", agent_tokens=10)
    assert budgets.reserve("a", Amount(10, Decimal("0.9")), project="p", agent="ann", now_us=START).allowed
    assert budgets.reserve("b", Amount(1), project="p", agent="ann", now_us=START + DAY_US - 1).refused_by == (
        Account("AGENT", "ann", DAY),
    )
    assert budgets.reserve("c", Amount(1), project="p", agent="ann", now_us=START + DAY_US).allowed
    assert not budgets.reserve("d", usd("0.2"), project="p", agent="ann", now_us=START + DAY_US).allowed


def test_what_nobody_settles_counts_as_spent() -> None:
    budgets = limited(project_usd="1")
    budgets.reserve("a", usd("1"), project="p", agent="ann", now_us=START)
    late = START + RESERVATION_TTL_US
    assert not budgets.reserve("b", usd("0.1"), project="p", agent="ann", now_us=late).allowed
    assert code_of(lambda: budgets.settle("a", Amount(), project="p", agent="ann")) is ErrorCode.NOT_FOUND


def test_what_was_spent_beyond_the_reservation_is_booked_and_refuses_what_comes_next() -> None:
    budgets = limited(project_usd="1")
    budgets.reserve("a", usd("0.5"), project="p", agent="ann", now_us=START)
    assert budgets.settle("a", usd("3"), project="p", agent="ann").alerts == (Account("PROJECT", "p"),)
    assert budgets.used(Account("PROJECT", "p")) == usd("3")
    assert not budgets.reserve("b", usd("0"), project="p", agent="ann", now_us=START).allowed


def test_a_reservation_sent_again_is_held_once_and_its_id_stands_for_nothing_else() -> None:
    budgets = limited(project_usd="1")
    for _ in range(2):
        assert budgets.reserve("a", usd("0.6"), project="p", agent="ann", now_us=START).allowed
    assert budgets.used(Account("PROJECT", "p")) == usd("0.6")
    other = code_of(lambda: budgets.reserve("a", usd("0.1"), project="p", agent="ann", now_us=START))
    assert other is ErrorCode.IDEMPOTENCY_CONFLICT


def test_what_is_settled_again_is_booked_once_for_as_long_as_it_was_held() -> None:
    budgets = limited(project_usd="1")
    budgets.reserve("a", usd("0.6"), project="p", agent="ann", now_us=START)
    for _ in range(2):
        assert budgets.settle("a", usd("0.4"), project="p", agent="ann").allowed
    assert budgets.used(Account("PROJECT", "p")) == usd("0.4")
    other = code_of(lambda: budgets.settle("a", usd("0.5"), project="p", agent="ann"))
    assert other is ErrorCode.IDEMPOTENCY_CONFLICT

    ended = budgets.expire(now_us=START + RESERVATION_TTL_US)
    assert [held.settled for held in ended.reservations.values()] == [usd("0.4")]
    assert code_of(lambda: budgets.settle("a", usd("0.4"), project="p", agent="ann")) is ErrorCode.NOT_FOUND
    assert budgets.reserve("a", usd("0.6"), project="p", agent="ann", now_us=START + RESERVATION_TTL_US).allowed


def test_what_was_settled_is_remembered_within_a_bound() -> None:
    budgets = limited()
    for number in range(MAX_RESERVATIONS + 5):
        budgets.reserve(str(number), Amount(1), project="p", agent="ann", now_us=START)
        budgets.settle(str(number), Amount(1), project="p", agent="ann")
    ended = budgets.expire(now_us=START)
    assert {name for _, _, name in ended.reservations} <= {str(number) for number in range(5)}
    assert code_of(lambda: budgets.settle("0", Amount(1), project="p", agent="ann")) is ErrorCode.NOT_FOUND
    assert budgets.settle(str(MAX_RESERVATIONS), Amount(1), project="p", agent="ann").allowed


def test_days_that_are_over_and_reservations_that_nobody_settled_are_told_once() -> None:
    budgets = limited(project_usd="1")
    budgets.reserve("a", usd("0.6"), project="p", agent="ann", now_us=START)
    held = budgets.reservation("p", "ann", "a")
    ended = budgets.expire(now_us=START + 2 * DAY_US)
    assert ended.reservations == {("p", "ann", "a"): held}
    assert {(each.kind, each.day) for each in ended.accounts} == {
        (kind, START // DAY_US) for kind in ("PROJECT", "AGENT")
    }
    assert budgets.expire(now_us=START + 2 * DAY_US) == ({}, {})
    assert budgets.used(Account("PROJECT", "p")) == usd("0.6")


@given(st.lists(st.integers(0, 30), max_size=20))
def test_an_account_is_told_of_once_when_it_passes_four_fifths(cents: list[int]) -> None:
    budgets, total, alerts = limited(project_usd="1"), 0, 0
    for number, each in enumerate(cents):
        amount = Amount(usd=Decimal(each) / 100)
        decision = budgets.reserve(str(number), amount, project="p", agent="ann", now_us=START)
        total += each if decision.allowed else 0
        alerts += len(decision.alerts)
        assert alerts == (total > 80)


@pytest.mark.parametrize("amount", [Amount(-1), usd("-0.01"), usd("NaN"), usd("Infinity")])
def test_an_amount_below_zero_or_that_is_none_is_refused(amount: Amount) -> None:
    budgets = limited()
    assert (
        code_of(lambda: budgets.reserve("a", amount, project="p", agent="ann", now_us=START)) is ErrorCode.BAD_REQUEST
    )
    assert code_of(lambda: budgets.settle("a", amount, project="p", agent="ann")) is ErrorCode.BAD_REQUEST


def test_open_reservations_have_a_bound() -> None:
    budgets = limited()

    def reserve(number: int, project: str) -> None:
        budgets.reserve(str(number), Amount(1), project=project, agent="ann", now_us=START)

    for number in range(MAX_RESERVATIONS):
        reserve(number, f"p-{number // MAX_RESERVATIONS_OF_PROJECT}")
        if number == MAX_RESERVATIONS_OF_PROJECT - 1:
            assert code_of(lambda: reserve(-1, "p-0")) is ErrorCode.OVERLOADED, "there is room for other projects only"
    assert code_of(lambda: reserve(-1, "another")) is ErrorCode.OVERLOADED
    budgets.forget_project("p-0")
    reserve(-1, "another")


def test_usage_costs_what_the_agents_prices_say() -> None:
    agent = Specialist(specialist_id="ann", team="t", usd_per_mtok_in="3", usd_per_mtok_out="15")
    assert cost(agent, Usage(input_tokens=1000, output_tokens=200)) == Amount(1200, Decimal("0.006"))
    assert cost(agent, Usage(total_tokens=500)) == Amount(500, Decimal(0))
