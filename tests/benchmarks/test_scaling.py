"""The model behind scale.md: it follows from its unit costs, and knows when its predictions were wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import everything
from benchmarks.results import load_all
from benchmarks.scaling import PAGE, SIZES, Costs, Prediction, checked, costs_of, fill, needs, one_node, two_nodes

COSTS = Costs(
    write_us=5.0,
    read_us=8.0,
    idle_us_per_s=3.0,
    connect_us=500.0,
    connection_kib=24.0,
    durable_per_s=20_000.0,
    alone_us=460.0,
    company_us=46.0,
    hop_ms=0.7,
    redis_us=4.0,
)


def test_one_node_costs_its_writes_and_a_message_waits_for_one_round_at_most() -> None:
    assert one_node(COSTS, subscribers=1000, rate=100) == pytest.approx((0.5, 4.0, 7.92))
    assert one_node(COSTS, subscribers=10_000, rate=100).cpu == 1.0


def test_a_message_between_nodes_waits_for_company_once_the_core_is_full() -> None:
    quiet, full = two_nodes(COSTS, rate=1000), two_nodes(COSTS, rate=20_000)
    assert quiet == pytest.approx((0.46, 0.7, 2.8))
    assert full.cpu == 1.0
    assert full.p50_ms > quiet.p50_ms


@given(st.integers(1_000, 10_000_000), st.integers(1_000, 10_000_000))
def test_more_connections_never_need_less(one: int, other: int) -> None:
    few, many = needs(COSTS, min(one, other)), needs(COSTS, max(one, other))
    assert few.processes <= many.processes
    assert few.memory_gib <= many.memory_gib
    assert few.redis_shards <= many.redis_shards


def test_what_breaks_first_is_named() -> None:
    light = COSTS._replace(write_us=0.1)
    assert needs(light, 100_000).first == "connections of a process"
    assert needs(COSTS._replace(write_us=100.0), 100_000).first == "processor time"
    assert needs(COSTS, 100_000_000).first == "hearing what others publish"


def test_a_prediction_that_is_far_off_is_a_problem() -> None:
    measured = {"server_cpu": 0.5, "latency_ms": {"p50": 10.0}}
    assert checked(Prediction(0.45, 8.0, 20.0), measured)[1] == []
    assert len(checked(Prediction(0.9, 2.0, 20.0), measured)[1]) == 2


def test_the_stored_results_hold_every_unit_cost_and_the_page_has_a_row_for_each_size() -> None:
    costs = costs_of(load_all())
    assert all(each > 0 for each in costs)
    stored = load_all()
    broadcast, nodes = stored["broadcast-10000x10-json"], stored["nodes-1000"]
    slower = {**broadcast, "figures": {**broadcast["figures"], "server_cpu_us_per_delivery": 2 * costs.write_us}}
    assert costs_of(stored, here=(slower, nodes)) == costs._replace(write_us=2 * costs.write_us)
    page = PAGE.read_text()
    assert all(f"| {size:,} |" in page for size in SIZES)


def test_a_result_without_a_generator_leaves_the_list_of_all_results_as_it_is() -> None:
    results = load_all()
    scale = {"scenario": "scale", "figures": {"one_node_cpu_predicted": 0.2}, "load_average": [1.0], "notes": []}
    assert everything({**results, "scale": scale}) == everything(results)


def test_a_block_is_replaced_and_the_rest_is_kept() -> None:
    text = "a\n<!-- bench:needs -->\nold\n<!-- /bench:needs -->\nb\n"
    assert fill(text, {"needs": "new"}) == "a\n<!-- bench:needs -->\nnew\n<!-- /bench:needs -->\nb\n"
