"""Delays after failed sign-ins: who is slowed down, and who is not (C48)."""

from __future__ import annotations

import contextlib

import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.auth import lockout
from hub.auth.lockout import ACCOUNT, ADDRESS, NODE, NONE, Failures, Lockout, failed, wait_s
from hub.guard.events import SecurityEvent
from protocol.errors import ErrorCode, HubError


class Door:
    """A lockout with a clock and what it reported; `wrong` and `right` answer the seconds to wait, or None."""

    def __init__(self, *, max_entries: int = lockout.MAX_ENTRIES) -> None:
        self.clock = ManualClock()
        self.events: list[SecurityEvent] = []
        self.lockout = Lockout(clock=self.clock, report=self.events.append, max_entries=max_entries)

    def wrong(self, account: str, address: str) -> float | None:
        return self._try(account, address, right=False)

    def right(self, account: str, address: str) -> float | None:
        return self._try(account, address, right=True)

    def _try(self, account: str, address: str, *, right: bool) -> float | None:
        try:
            with self.lockout.attempt(account, address) as attempt:
                (attempt.succeeded if right else attempt.failed)()
        except HubError as error:
            assert error.code is ErrorCode.RATE_LIMITED
            assert error.retry_after_ms is not None
            return error.retry_after_ms / 1000
        return None


def test_c48_the_eleventh_failure_of_an_account_is_told_to_wait_and_each_further_one_twice_as_long() -> None:
    door = Door()
    first = [door.wrong("ann", f"10.0.0.{number}") for number in range(10)]
    waits = []
    for number in range(9):
        wait = door.wrong("ann", f"10.0.1.{number}")
        assert wait is not None
        waits.append(wait)
        door.clock.advance(wait)
        assert door.wrong("ann", f"10.0.2.{number}") is None

    assert first == [None] * 10
    assert waits == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert [each.name for each in door.events].count("authn_login_fail") == 19
    assert {each.name for each in door.events} == {"authn_login_fail", "authn_login_fail_max"}
    assert not any(each.allowed for each in door.events)


def test_c48_somebody_who_signed_in_from_an_address_before_cannot_be_locked_out_by_others() -> None:
    door = Door()
    door.right("ann", "10.0.0.1")
    for number in range(10):
        door.wrong("ann", f"10.9.9.{number}")

    assert door.wrong("ann", "10.9.9.99") == 10
    assert door.right("ann", "10.0.0.1") is None


def test_c48_an_address_that_is_known_has_ten_tries_like_any_other() -> None:
    door = Door()
    door.right("ann", "10.0.0.1")

    assert [door.wrong("ann", "10.0.0.1") for _ in range(11)] == [None] * 10 + [10]
    assert door.right("ann", "10.0.0.2") is None


def test_c48_fifty_failures_from_an_address_whoever_they_were_meant_for() -> None:
    door = Door()
    door.right("ann", "10.0.0.1")
    waits = [door.wrong(f"user{number}", "10.0.0.1") for number in range(51)]

    assert waits == [None] * 50 + [10]
    assert door.right("ann", "10.0.0.1") is None
    assert door.right("bob", "10.0.0.2") is None


def test_c48_a_whole_ipv6_network_is_one_address() -> None:
    door = Door()
    for number in range(50):
        door.wrong(f"user{number}", f"2001:db8::{number:x}")

    assert door.wrong("bob", "2001:db8::ffff:1") == 10
    assert door.wrong("bob", "2001:db8:0:1::1") is None


def test_c48_the_node_takes_a_breath_when_a_thousand_fail_in_a_minute() -> None:
    door = Door()
    door.right("ann", "10.0.0.1")
    waits = [door.wrong(f"u{number}", f"a{number}") for number in range(1001)]

    assert waits == [None] * 1000 + [1]
    assert door.right("bob", "10.0.0.9") == 1
    assert door.right("ann", "10.0.0.1") is None


def test_c48_tries_that_come_all_at_once_do_not_slip_through_together() -> None:
    door = Door()
    with contextlib.ExitStack() as stack:
        attempts = [stack.enter_context(door.lockout.attempt("ann", "10.0.0.1")) for _ in range(10)]
        refused = door.wrong("ann", "10.0.0.1")
        for attempt in attempts:
            attempt.failed()

    assert refused == 10


def test_a_success_forgives_and_a_try_without_an_outcome_counts_for_nothing() -> None:
    door = Door()
    for _ in range(9):
        door.wrong("ann", "10.0.0.1")
    for _ in range(20):
        with contextlib.suppress(RuntimeError), door.lockout.attempt("ann", "10.0.0.1"):
            raise RuntimeError
    door.right("ann", "10.0.0.1")

    assert [door.wrong("ann", "10.0.0.1") for _ in range(11)] == [None] * 10 + [10]


def test_failures_are_forgotten_after_a_quiet_window() -> None:
    door = Door()
    for _ in range(9):
        door.wrong("ann", "10.0.0.1")
    door.clock.advance(ACCOUNT.window_s)

    assert [door.wrong("ann", "10.0.0.1") for _ in range(10)] == [None] * 10


def test_c48_names_and_addresses_without_end_do_not_stay_in_memory() -> None:
    door = Door(max_entries=50)
    for number in range(500):
        door.wrong(f"{number}" + "x" * 100_000, f"a{number}")
        door.right(f"known{number}", f"a{number}")

    tables = (door.lockout._accounts, door.lockout._addresses, door.lockout._known)
    assert all(len(table) <= 50 for table in tables)
    assert max(len(name) for name in door.lockout._accounts) <= lockout.MAX_NAME
    assert max(len(each.user) for each in door.events) <= lockout.MAX_NAME


def test_a_name_that_no_table_could_hold_is_reported_as_one_that_can_be_written_down() -> None:
    door = Door()
    door.wrong("a\0b", "10.0.0.1")

    assert [each.user for each in door.events] == ["a\ufffdb"]


@given(st.lists(st.floats(0, 2000), max_size=60), st.sampled_from([ACCOUNT, ADDRESS, NODE]))
def test_c48_a_wait_is_never_longer_than_the_longest_and_ends_when_it_said(
    gaps: list[float], limit: lockout.Limit
) -> None:
    now, failures = 0.0, NONE
    for gap in gaps:
        now += gap
        failures = failed(failures, limit, now=now)
        wait = wait_s(failures, limit, in_flight=0, now=now)
        assert wait <= limit.longest_delay_s + 1e-6
        assert (wait > 0) is (failures.count >= limit.failures)
        assert wait_s(failures, limit, in_flight=0, now=now + wait + 1e-6) == 0


@pytest.mark.parametrize("count", [10, 100, 10**6])
def test_a_count_of_any_size_gives_a_delay(count: int) -> None:
    after = failed(Failures(count, since=0.0), ACCOUNT, now=1.0)

    assert after.blocked_until <= 1.0 + ACCOUNT.longest_delay_s
