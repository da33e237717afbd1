"""What the benchmark of tracing makes of its figures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.tracing import ratio_of


def test_a_cost_is_found_beneath_what_the_machine_does_meanwhile() -> None:
    """Each block at a speed of its own, and each slower at its end than at its beginning; the code costs 3 %."""
    speeds = [1.0, 1.2, 0.9, 1.1, 1.05, 0.95] * 2
    blocks = [[speed * each for each in (1.00, 1.03 * 1.01, 1.03 * 1.02, 1.03)] for speed in speeds]

    found = ratio_of(blocks)

    assert found.mean == pytest.approx(1.03, abs=1e-4)
    assert found.high - found.low < 1e-3


def test_the_interval_holds_what_blocks_disagree_about() -> None:
    found = ratio_of([[1.0, each, each, 1.0] for each in (1.0, 1.1) * 20])

    assert found.mean == pytest.approx(1.1**0.5, abs=1e-4)
    assert found.low * found.high == pytest.approx(found.mean**2, abs=1e-3)
    assert 1.01 < found.high / found.mean < 1.03


def test_a_stall_of_the_machine_counts_for_nothing() -> None:
    blocks = [[1.0, 1.03, 1.03, 1.0]] * 18
    assert ratio_of([*blocks, [0.3, 1.03, 1.03, 1.0], [1.0, 1.03, 0.2, 1.0]]) == (1.03, 1.03, 1.03)


def test_where_only_the_hub_is_installed_it_says_what_it_needs_and_the_others_run() -> None:
    program = (
        "import sys; sys.modules |= dict.fromkeys(['scipy', 'opentelemetry']); from benchmarks.cli import main; main()"
    )
    asked = [
        subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
        for arguments in (["broadcast", "--help"], ["tracing"])
    ]

    assert [each.returncode for each in asked] == [0, 1]
    assert asked[1].stderr.startswith("Error: ") and asked[1].stderr.endswith("pip install -e '.[dev]'\n")
