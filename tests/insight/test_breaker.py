"""The breaker before a model: who is asked, when not, and for how long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hub.insight.calls.breaker import COOLDOWN_S, FEWEST, IN_A_ROW, Breaker


def test_some_failures_in_a_row_open_it() -> None:
    breaker = Breaker()
    for number in range(IN_A_ROW):
        assert breaker.admit(number)
        breaker.failed(number)
    assert breaker.state(IN_A_ROW) == "open"
    assert not breaker.admit(IN_A_ROW)


def test_half_of_those_of_a_minute_open_it_and_old_ones_do_not_count() -> None:
    breaker, late = Breaker(), Breaker()
    for number in range(FEWEST):
        for each in (breaker, late):
            at = number if each is breaker else number * 30.0
            assert each.admit(at)
            (each.failed if number % 2 else each.succeeded)(at)
    assert breaker.state(FEWEST) == "open"
    assert late.state(300) == "closed"


def test_after_the_cooldown_one_may_try_and_each_failure_doubles_it() -> None:
    breaker, now, cooldowns = Breaker(in_a_row=1), 0.0, []
    assert breaker.admit(now)
    breaker.failed(now)
    for _ in range(6):
        opened = now
        while not breaker.admit(now):
            now += 1
        cooldowns.append(now - opened)
        assert breaker.state(now) == "half_open"
        assert not breaker.admit(now), "one probe at a time"
        breaker.failed(now)
    assert cooldowns == [30, 60, 120, 240, 300, 300]
    now += COOLDOWN_S[1]
    assert breaker.admit(now)
    breaker.succeeded(now)
    assert breaker.state(now) == "closed"
    breaker.failed(now)
    assert breaker.state(now + COOLDOWN_S[0]) == "half_open", "the cooldown begins anew"


def test_a_probe_whose_end_nobody_knows_makes_room_for_the_next() -> None:
    breaker = Breaker(in_a_row=1)
    breaker.failed(0)
    assert breaker.admit(30)
    breaker.abandoned()
    assert breaker.admit(30)


def test_a_call_from_before_that_succeeds_late_does_not_close_it() -> None:
    breaker = Breaker(in_a_row=1)
    assert breaker.admit(0)
    assert breaker.admit(0)
    breaker.failed(1)
    breaker.succeeded(2)
    assert breaker.state(2) == "open"


@given(st.lists(st.tuples(st.floats(0, 100), st.sampled_from(["admit", "succeeded", "failed", "abandoned"]))))
def test_it_never_stays_shut_for_ever(steps: list[tuple[float, str]]) -> None:
    breaker, now, out = Breaker(), 0.0, 0
    for pause, step in steps:
        now += pause
        if step == "admit":
            out += breaker.admit(now)
        elif out:
            out -= 1
            breaker.abandoned() if step == "abandoned" else getattr(breaker, step)(now)
    for _ in range(out):
        breaker.abandoned()
    assert breaker.admit(now + COOLDOWN_S[1])
