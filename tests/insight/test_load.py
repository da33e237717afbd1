"""What the hub learns from its load: forecasts that follow it, and anomalies that are some."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from clock import ManualClock
from hypothesis import given
from hypothesis import strategies as st

from hub.insight.load.anomalies import CLEAR_AFTER, FIRE_AFTER, WINDOW, Anomalies
from hub.insight.load.forecast import HoltWinters
from hub.insight.load.watch import ALERTS, SAMPLE_S, LoadWatch, Sum
from protocol.errors import ErrorCode, HubError

ordinary = st.lists(st.floats(9, 11), min_size=30, max_size=60)


@given(st.floats(0, 1e6), st.integers(1, 60), st.integers(1, 30))
def test_what_never_changes_is_forecast_to_stay(value: float, count: int, steps: int) -> None:
    load = HoltWinters(season=24)
    for _ in range(count):
        load.observe(value)
    assert load.forecast(steps) == pytest.approx(value, rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=80), st.integers(1, 50))
def test_a_forecast_is_a_number_that_a_load_can_have_and_the_same_each_time(values: list[float], steps: int) -> None:
    loads = HoltWinters(season=10), HoltWinters(season=10)
    for load in loads:
        for value in values:
            load.observe(value)
    assert loads[0].forecast(steps) == loads[1].forecast(steps)
    assert 0 <= loads[0].forecast(steps) < math.inf
    assert loads[0].peak(steps) >= loads[0].forecast(steps)


@given(st.floats(1, 100))
def test_a_load_that_grows_is_forecast_to_be_higher(slope: float) -> None:
    load = HoltWinters(season=1000)
    for step in range(100):
        load.observe(step * slope)
    assert 99 * slope < load.forecast(10) < 110 * slope


@given(st.floats(10, 1000), st.integers(0, 23))
def test_after_a_season_the_next_peak_is_forecast_before_anything_rises(height: float, phase: int) -> None:
    def value(step: int) -> float:
        return height * (2 + math.sin(2 * math.pi * (step + phase) / 24))

    load = HoltWinters(season=24)
    for step in range(24 * 4):
        load.observe(value(step))
    for ahead in range(1, 25):
        assert load.forecast(ahead) == pytest.approx(value(24 * 4 - 1 + ahead), abs=0.5 * height)
    assert load.peak(24) > 2.5 * height


def test_a_season_of_one_step_is_none() -> None:
    with pytest.raises(ValueError, match="two steps"):
        HoltWinters(season=1)


def fed(values: list[float]) -> Anomalies:
    anomalies = Anomalies()
    assert [change for change in map(anomalies.observe, values) if change] == []
    return anomalies


@given(ordinary)
def test_ordinary_values_raise_nothing_and_a_lasting_jump_fires_once_and_clears_once(values: list[float]) -> None:
    anomalies = fed(values)
    fired = [change for _ in range(FIRE_AFTER + 5) if (change := anomalies.observe(100.0))]
    cleared = [change for _ in range(CLEAR_AFTER + 5) if (change := anomalies.observe(10.0))]
    assert [change.firing for change in (*fired, *cleared)] == [True, False]
    assert fired[0].score >= 6
    assert 9 <= fired[0].usual <= 11


@given(ordinary, st.lists(st.integers(1, FIRE_AFTER - 1), max_size=10))
def test_a_hiccup_raises_nothing_and_does_not_move_the_yardstick(values: list[float], hiccups: list[int]) -> None:
    anomalies = fed(values)
    before = anomalies.score(50.0)
    for length in hiccups:
        assert [anomalies.observe(1000.0) for _ in range(length)] == [None] * length
        assert anomalies.score(50.0) == pytest.approx(before, rel=0.5)
        assert anomalies.observe(10.0) is None


def test_around_the_threshold_an_alert_does_not_flap() -> None:
    anomalies = fed([10.0] * 30)
    wave = [100.0] * FIRE_AFTER + [10.0, 100.0] * 50
    assert [change.firing for change in map(anomalies.observe, wave) if change] == [True]


def test_what_lasts_a_whole_window_is_the_new_ordinary() -> None:
    anomalies = fed([10.0] * 30)
    changes = [change.firing for change in map(anomalies.observe, [100.0] * (FIRE_AFTER + 2 * WINDOW)) if change]
    assert changes == [True, False]


class Hub:
    """A load as a test says, and what operators heard."""

    def __init__(self, clock: ManualClock) -> None:
        self.connections, self.deliveries, self.sum = 0, 0, Sum(0.0, 0)
        self.told: list[tuple[str, str, Any]] = []
        self.deaf = False
        self.watch = LoadWatch(
            node="n1",
            connections=lambda: self.connections,
            deliveries=lambda: self.deliveries,
            latencies={"rest": lambda: self.sum},
            capacity=lambda: (100.0, 1000.0),
            warm=self.warm,
            tell=self.tell,
            clock=clock,
        )
        self.warmed_at: list[int] = []

    async def tell(self, channel: str, type: str, data: Any) -> None:
        if self.deaf:
            raise HubError(ErrorCode.NOT_AVAILABLE, "no broker")
        self.told.append((channel, type, data))

    async def warm(self) -> None:
        self.warmed_at.append(self.connections)

    def serve(self, mean_ms: float, events: int = 100) -> None:
        self.sum = Sum(self.sum.total + mean_ms * events, self.sum.events + events)


async def test_slow_requests_are_told_to_operators_once_the_hub_can_and_so_is_their_end() -> None:
    clock = ManualClock()
    hub = Hub(clock)
    task = asyncio.create_task(hub.watch.run())

    async def serve(mean_ms: float, times: int) -> None:
        for _ in range(times):
            await clock.until_somebody_sleeps()
            hub.serve(mean_ms)
            clock.advance(SAMPLE_S)
        await clock.until_somebody_sleeps()

    await serve(5.0, 30)
    hub.deaf = True
    await serve(200.0, FIRE_AFTER)
    assert hub.told == []
    hub.deaf = False
    await serve(200.0, 1)
    await serve(5.0, CLEAR_AFTER)
    task.cancel()

    assert [(channel, type, data.get("state", "FIRING")) for channel, type, data in hub.told] == [
        (ALERTS, "ALERT", "FIRING"),
        (ALERTS, "ALERT", "RESOLVED"),
    ]
    assert hub.told[0][2]["detail"].startswith("200.0 ms on average, usually 5.0 ms")


def test_the_scale_hint_follows_whatever_is_fullest() -> None:
    clock = ManualClock()
    hub = Hub(clock)
    for _ in range(40):
        hub.connections = 50
        hub.deliveries += int(2500 * SAMPLE_S)
        clock.advance(SAMPLE_S)
        hub.watch.sample()
    assert hub.watch.forecast == {"connections": pytest.approx(50), "deliveries": pytest.approx(2500)}
    assert hub.watch.scale_hint == pytest.approx(2.5)


async def test_the_hub_gets_ready_while_more_is_expected_than_there_is() -> None:
    clock = ManualClock()
    hub = Hub(clock)
    hub.connections = 100
    task = asyncio.create_task(hub.watch.run())
    for connections in (*[100] * 20, *range(100, 300, 20), *[300] * 200):
        await clock.until_somebody_sleeps()
        hub.connections = connections
        clock.advance(SAMPLE_S)
    await clock.until_somebody_sleeps()
    task.cancel()
    assert hub.watch.warmed == len(hub.warmed_at) > 0
    assert min(hub.warmed_at) > 100, "not while nothing changed"
    assert hub.warmed_at[0] < 300, "before it was there"
    assert not hub.watch.rising, "and no more once it has come"


def test_a_latency_of_which_there_is_little_waits_for_more() -> None:
    hub = Hub(ManualClock())

    def serve(requests: int) -> float:
        for _ in range(requests):
            hub.serve(5.0, events=1)
            hub.watch.sample()
        return hub.watch.anomalies["rest"].score(50.0)

    assert serve(199) == 0  # 19 samples of ten: no yardstick yet
    assert serve(1) > 0
