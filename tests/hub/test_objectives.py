"""Error budgets: an alert begins soon after the trouble does, ends soon after it, and a hiccup raises none."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.observe.metrics import LATENCIES_MS, MAX_KINDS, OTHER, Histogram, Tally
from hub.observe.objectives import AVERAGE, FAST, SAMPLE_S, BurnRate, Objective, Totals
from hub.observe.operations import ALERT_CHANNEL, STATUS_CHANNEL, Operations
from protocol.errors import ErrorCode, HubError


class Traffic:
    """Events as they add up."""

    def __init__(self) -> None:
        self.bad = 0.0
        self.events = 0.0

    def read(self) -> Totals:
        return Totals(bad=self.bad, events=self.events)

    def objective(self, budget: float = 0.01, **fields: Any) -> Objective:
        return Objective(
            name="broadcast",
            title="deliveries are quick",
            budget=budget,
            read=self.read,
            bad="rate(late[{window}])",
            events="rate(all[{window}])",
            **fields,
        )


def states(rate: BurnRate, traffic: Traffic, shares: Iterable[float], at: float = 0.0) -> list[tuple[float, str]]:
    """When alerts began and ended, in seconds: 100 events a sample, of which these shares are bad."""
    told = []
    for share in shares:
        at += SAMPLE_S
        traffic.events += 100
        traffic.bad += 100 * share
        rate.sample(at)
        told += [(at, f"{alert.severity} {alert.state}") for alert in rate.changes(0)]
    return told


def test_an_alert_begins_within_a_minute_of_the_trouble_and_ends_within_a_minute_after_it() -> None:
    traffic = Traffic()
    rate = BurnRate(traffic.objective())
    assert states(rate, traffic, [0.0] * 720) == []  # an hour of peace
    told = states(rate, traffic, [1.0] * 60, at=3600)
    assert [what for _, what in told if "CRITICAL" in what] == ["CRITICAL FIRING"]
    began = next(at for at, what in told if what == "CRITICAL FIRING")
    assert began - 3600 <= 60
    told = states(rate, traffic, [0.0] * 60, at=3900)
    ended = next(at for at, what in told if what == "CRITICAL RESOLVED")
    assert ended - 3900 <= 60


def test_a_hiccup_raises_no_alert() -> None:
    traffic = Traffic()
    rate = BurnRate(traffic.objective())
    assert states(rate, traffic, [0.0] * 720 + [0.5] + [0.0] * 60) == []


def test_an_average_may_be_the_objective() -> None:
    traffic = Traffic()
    rate = BurnRate(traffic.objective(budget=50.0, rules=(AVERAGE,)))
    assert states(rate, traffic, [49.0] * 100) == []
    assert [what for _, what in states(rate, traffic, [500.0] * 20, at=500)] == ["WARNING FIRING"]


def test_a_quiet_hub_has_nothing_to_be_alarmed_about() -> None:
    rate = BurnRate(Traffic().objective())
    for second in range(100):
        rate.sample(float(second))
        assert rate.changes(0) == []
    assert rate.budget_left() == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_alerts_of_a_rule_begin_and_end_in_turn(shares: list[float]) -> None:
    traffic = Traffic()
    told = [what for _, what in states(BurnRate(traffic.objective(rules=(FAST,))), traffic, shares)]
    assert told == (["CRITICAL FIRING", "CRITICAL RESOLVED"] * 200)[: len(told)]


@given(st.lists(st.floats(0, 20_000), max_size=50))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values))
    for bound in LATENCIES_MS:
        assert histogram.above(bound) == sum(value > bound for value in values)
    assert histogram.buckets()[-1] == ("+Inf", len(values))


@given(st.lists(st.floats(0, 20_000)), st.lists(st.floats(0, 20_000), min_size=1), st.floats(0.001, 1))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_has_this_rank(
    before: list[float], values: list[float], share: float
) -> None:
    histogram = Histogram()
    for value in before:
        histogram.observe(value)
    since = tuple(histogram.counts)
    for value in values:
        histogram.observe(value)
    found = histogram.quantiles([share], since=since)
    assert found is not None
    exact = sorted(values)[math.ceil(round(share * len(values), 9)) - 1]
    edges = (0.0, *LATENCIES_MS)
    place = bisect_left(LATENCIES_MS, exact)
    assert edges[min(place, len(LATENCIES_MS))] <= found[0] <= (*LATENCIES_MS, LATENCIES_MS[-1])[place]


def test_a_histogram_that_took_nothing_since_has_no_quantiles() -> None:
    histogram = Histogram()
    histogram.observe(3.0)
    assert histogram.quantiles([0.5], since=tuple(histogram.counts)) is None


def test_kinds_that_strangers_make_up_are_counted_together() -> None:
    tally = Tally()
    for number in range(10_000):
        tally.add(f"kind {number}")
    assert len(tally.counts) == MAX_KINDS + 1
    assert sum(tally.counts.values()) == 10_000
    assert tally.counts[OTHER] == 10_000 - MAX_KINDS


class Desk:
    """Where operators are told; refuses when it is told to."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.closed: tuple[str, ...] = ()  # channels
        self.tarries_s = 0.0
        self.clock = ManualClock()

    async def tell(self, channel: str, type: str, data: Any) -> None:
        self.clock.advance(self.tarries_s)
        if channel in self.closed:
            raise HubError(ErrorCode.NOT_AVAILABLE, "closed")
        self.told.append((channel, type, data))

    def of(self, channel: str) -> list[Any]:
        return [data for where, _, data in self.told if where == channel]


def state_of(alert: dict[str, Any]) -> str:
    return alert.get("state", "FIRING")


async def test_operators_hear_the_state_each_second_and_an_alert_that_could_not_be_told_at_once_later() -> None:
    traffic, desk = Traffic(), Desk()
    clock = desk.clock
    operations = Operations(
        [traffic.objective()],
        node="n1",
        tell=desk.tell,
        health=lambda: ["redis: away"],
        figures=lambda: {"connections": 3},
        clock=clock,
    )
    running = asyncio.ensure_future(operations.run())
    await clock.until_somebody_sleeps()
    first = desk.of(STATUS_CHANNEL)[0]
    assert (first["component"], first["state"], first["detail"], first["ext"]) == (
        "n1",
        "DEGRADED",
        "redis: away",
        {"connections": 3},
    )
    desk.closed = STATUS_CHANNEL, ALERT_CHANNEL
    for _ in range(60):
        traffic.events += 100
        traffic.bad += 100
        clock.advance(1)
        await clock.until_somebody_sleeps()
    assert desk.of(ALERT_CHANNEL) == []
    desk.closed = ()
    clock.advance(1)
    await clock.until_somebody_sleeps()
    told = [(alert["source"], alert["severity"], state_of(alert)) for alert in desk.of(ALERT_CHANNEL)]
    assert sorted(told) == [
        ("canary", "CRITICAL", "FIRING"),
        ("canary", "CRITICAL", "RESOLVED"),
        ("objectives", "CRITICAL", "FIRING"),
        ("objectives", "WARNING", "FIRING"),
    ]
    assert len(desk.of(STATUS_CHANNEL)) == 2
    running.cancel()


@pytest.mark.parametrize("trouble", ["refused", "late"])
async def test_trouble_on_the_way_is_told_before_any_client_meets_it(trouble: str) -> None:
    """Checklist 171: the hub's own statuses are the canary. No operation of a user is counted here."""
    traffic, desk = Traffic(), Desk()
    operations = Operations(
        [traffic.objective()], node="n1", tell=desk.tell, health=list, figures=dict, clock=desk.clock
    )
    running = asyncio.ensure_future(operations.run())
    await desk.clock.until_somebody_sleeps()
    if trouble == "refused":
        desk.closed = (STATUS_CHANNEL,)
    else:
        desk.tarries_s = 1.5
    for _ in range(3):
        desk.clock.advance(1)
        await desk.clock.until_somebody_sleeps()
    [alert] = desk.of(ALERT_CHANNEL)
    assert (alert["alert_id"], state_of(alert), traffic.events) == ("canary:n1", "FIRING", 0)
    desk.closed, desk.tarries_s = (), 0.0
    for _ in range(3):
        desk.clock.advance(1)
        await desk.clock.until_somebody_sleeps()
    assert [state_of(each) for each in desk.of(ALERT_CHANNEL)] == ["FIRING", "RESOLVED"]
    running.cancel()
