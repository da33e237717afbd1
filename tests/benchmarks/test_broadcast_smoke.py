"""One real, short broadcast: the engine, the runner and the record together. Nothing is asserted about time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, results
from benchmarks.results import problems_of
from benchmarks.scenarios import broadcast, ladder


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return broadcast(subscribers=50, rate=50, seconds=3)


def test_everything_published_is_delivered(measured: dict[str, Any]) -> None:
    figures = measured["figures"]
    assert measured["ok"], measured["problems"]
    assert figures["published"] == 150
    assert figures["delivered"] == figures["expected"] == 150 * 50
    assert figures["missing"] == figures["surplus"] == figures["lost_connections"] == 0
    assert figures["latency_ms"]["count"] == 150 * figures["sampled_connections"]


def test_a_result_says_how_it_came_about(measured: dict[str, Any], tmp_path: Path) -> None:
    stored = json.loads(results.store(measured, tmp_path).read_text())
    assert stored == json.loads(json.dumps(measured))
    assert set(stored) >= {"scenario", "name", "at", "commit", "command", "hardware", "versions", "load_average"}
    assert set(stored["figures"]["latency_ms"]) >= {"p50", "p90", "p99", "p99_9", "max"}
    assert stored["figures"].keys() >= {
        "generator_cpu",
        "generator_saturated",
        "server_cpu_us_per_delivery",
        "process_kib_per_connection",
        "kernel_kib_per_connection",
        "rss_mib_end",
        "sampled_connections",
        "delivered_percent",
    }


def test_the_report_is_made_of_stored_results(measured: dict[str, Any], tmp_path: Path) -> None:
    results.store(measured, tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench:all -->\nold\n<!-- /bench:all -->\nafter\n")
    report.write(tmp_path, readme, tmp_path / "plots")
    text = readme.read_text()
    assert "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    assert "broadcast-50x50-json" in text


@pytest.mark.parametrize(
    "wrong", [{"missing": 1}, {"surplus": 1}, {"lost_connections": 1}, {"publish_errors": 1}, {"unanswered": 1}]
)
def test_a_run_that_is_not_complete_is_a_failed_one(wrong: dict[str, int]) -> None:
    assert problems_of({"expected": 10, "missing": 0, "surplus": 0}) == []
    assert len(problems_of({"expected": 10, **wrong})) == 1


def test_a_ladder_ends_at_the_first_step_that_loses_or_lags() -> None:
    def measure(step: float) -> dict[str, Any]:
        figures = dict.fromkeys(("delivered_percent", "deliveries_per_s", "server_cpu", "generator_cpu"), 0)
        return {
            "ok": step < 4,
            "figures": {**figures, "generator_saturated": False, "latency_ms": {"p99": step * 40}},
        }

    held, _, climbed = ladder(measure, (1, 2, 3, 4))
    assert held == 2
    assert [each["step"] for each in climbed] == [1, 2, 3]
