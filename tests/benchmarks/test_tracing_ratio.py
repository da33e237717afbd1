"""What the benchmark of tracing makes of its figures."""

from __future__ import annotations

import pytest

from benchmarks.tracing import ratio_of


def test_a_cost_is_found_beneath_the_luck_of_processes() -> None:
    """Each set has a luck of its own, up to 20 %, that both of its sides share; one costs 3 % more."""
    luck = [1.0, 1.2, 0.9, 1.1, 1.05, 0.95]
    those = [[5 * each, 5.1 * each] for each in luck]
    these = [[1.03 * run for run in of_set] for of_set in those]

    found = ratio_of(these, those)

    assert found.mean == pytest.approx(1.03, abs=1e-4)
    assert found.high - found.low < 1e-3


def test_the_interval_holds_what_sets_disagree_about() -> None:
    """By the table of Student: six sets, five degrees of freedom, 2.571."""
    found = ratio_of([[1.0], [1.1], [1.0], [1.1], [1.0], [1.1]], [[1.0]] * 6)

    assert found.mean == pytest.approx(1.1**0.5, abs=1e-4)
    assert found.high / found.mean == pytest.approx(1.0563, abs=1e-3)
    assert found.low * found.high == pytest.approx(found.mean**2, abs=1e-3)


def test_many_runs_of_one_set_do_not_count_as_many_sets() -> None:
    few = ratio_of([[1.0], [1.1], [1.2]], [[1.0]] * 3)
    many = ratio_of([[1.0] * 9, [1.1] * 9, [1.2] * 9], [[1.0] * 9] * 3)

    assert many == few
