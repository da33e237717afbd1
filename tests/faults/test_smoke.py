"""A short campaign: everything dies a few times under traffic of all three classes, and no promise is broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.faults.cli import main, show
from benchmarks.faults.controls import CONTROLS, run_control
from benchmarks.faults.run import run
from benchmarks.faults.workload import Sizes

SIZES = Sizes(durable_channels=10, recoverable_channels=3, latest_channels=3, subscribers=3, durable_rate=100)
FAULTS = {"client-cut": 15, "node-kill": 4, "redis-kill": 1, "redis-stale": 1, "redis-freeze": 1, "postgres-kill": 1}


async def test_two_nodes_on_one_redis_and_one_postgres_behave_as_one_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history = tmp_path / "history.jsonl"
    report = await run(tmp_path, seconds=20, seed=1, counts=FAULTS, sizes=SIZES, history_file=history)

    assert report.violations == []
    assert sum(hurt.count for hurt in report.faults.values()) == sum(FAULTS.values()) - FAULTS["client-cut"]
    for tally in report.classes.values():
        assert tally.acknowledged > 0
        assert tally.delivered > 0
    assert CliRunner().invoke(main, ["judge", str(history)]).exit_code == 0
    show(report)
    assert "no promise was broken" in capsys.readouterr().out


async def test_a_planted_fault_is_caught(tmp_path: Path) -> None:
    """One of the negative controls, so that the harness itself stays honest; `controls` runs them all."""
    control = next(each for each in CONTROLS if each.name == "N6")
    outcome = await run_control(control._replace(seconds=4), tmp_path, seed=1, progress=lambda line: None)
    assert outcome.passed, outcome.found
