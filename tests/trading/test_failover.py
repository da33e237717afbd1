from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.trading.market.failover import Failover, decide

DWELL_US = 5_000_000


def after(state: Failover, now_us: int, *, primary: bool, secondary: bool) -> Failover:
    return decide(state, primary=primary, secondary=secondary, now_us=now_us, dwell_us=DWELL_US)


def test_the_secondary_stands_in_at_once_and_the_primary_is_back_after_the_dwell() -> None:
    state = after(Failover(), 0, primary=True, secondary=True)
    assert not state.standing_in
    state = after(state, 1_000_000, primary=False, secondary=True)
    assert state.standing_in
    state = after(state, 2_000_000, primary=True, secondary=True)
    assert state.standing_in, "clean data for no time yet"
    assert after(state, 6_999_999, primary=True, secondary=True).standing_in
    assert not after(state, 7_000_000, primary=True, secondary=True).standing_in


def test_a_break_of_the_primary_begins_the_dwell_anew() -> None:
    state = Failover(standing_in=True, clean_since_us=0, failed=True)
    state = after(state, 4_000_000, primary=False, secondary=True)
    state = after(state, 4_500_000, primary=True, secondary=True)
    assert after(state, 9_499_999, primary=True, secondary=True).standing_in
    assert not after(state, 9_500_000, primary=True, secondary=True).standing_in


def test_without_a_secondary_the_primary_need_not_wait() -> None:
    assert not after(Failover(standing_in=True, failed=True), 0, primary=True, secondary=False).standing_in


def test_at_the_start_the_primary_takes_over_as_soon_as_it_speaks() -> None:
    state = after(Failover(), 0, primary=False, secondary=True)
    assert state.standing_in
    assert not after(state, 1, primary=True, secondary=True).standing_in


@given(st.lists(st.tuples(st.integers(0, 3_000_000), st.booleans(), st.booleans()), max_size=40))
def test_whoever_makes_the_price_is_usable_if_anybody_is(steps: list[tuple[int, bool, bool]]) -> None:
    state, now_us = Failover(), 0
    for pause_us, primary, secondary in steps:
        now_us += pause_us
        state = after(state, now_us, primary=primary, secondary=secondary)
        assert (secondary if state.standing_in else primary) or not (primary or secondary)
