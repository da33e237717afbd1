"""No task ever waits for itself, however many tasks and dependencies come, and in whatever order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.coordination.tasks.graph import TaskGraph
from protocol.coordination import TaskSpec
from protocol.errors import ErrorCode, HubError

NAMES = [f"t-{number}" for number in range(7)]
names = st.sampled_from(NAMES)
edges = st.lists(st.tuples(names, names), max_size=20)


def task(task_id: str, *depends_on: str, review_of: str | None = None) -> TaskSpec:
    return TaskSpec(task_id=task_id, depends_on=list(depends_on), review_of=review_of)


def graph_of(*tasks: TaskSpec) -> TaskGraph:
    graph = TaskGraph()
    graph.add(tasks)
    return graph


def reached(task_id: str, found: set[tuple[str, str]]) -> set[str]:
    """Whatever the task waits for, the slow and obvious way."""
    upstream: set[str] = set()
    for _ in NAMES:
        upstream |= {on for waiting, on in found if waiting in {task_id, *upstream}}
    return upstream


@given(edges)
def test_exactly_the_dependencies_that_close_a_circle_are_refused(asked: list[tuple[str, str]]) -> None:
    graph, accepted = graph_of(*map(task, NAMES)), set[tuple[str, str]]()
    for task_id, on in asked:
        closes = task_id == on or task_id in reached(on, accepted)
        try:
            graph.depend(task_id, on)
        except HubError:
            assert closes
        else:
            assert not closes
            accepted.add((task_id, on))
    for name in NAMES:
        assert graph.waits_for(name) == {on for waiting, on in accepted if waiting == name}
        assert graph.descendants(name) == {other for other in NAMES if name in reached(other, accepted)}


@given(edges, st.permutations(NAMES))
def test_tasks_that_come_together_are_judged_as_if_they_came_one_by_one(
    asked: list[tuple[str, str]], order: list[str]
) -> None:
    tasks = [task(name, *{on for waiting, on in asked if waiting == name}) for name in order]
    graph = TaskGraph()
    if any(name in reached(name, set(asked)) for name in NAMES):
        with pytest.raises(HubError, match="circle"):
            graph.add(tasks)
        assert not any(name in graph for name in NAMES)
    else:
        graph.add(tasks)
        assert all(name not in graph.descendants(name) for name in NAMES)


@given(edges)
def test_a_task_is_released_by_the_last_that_it_waits_for(asked: list[tuple[str, str]]) -> None:
    graph = graph_of(*map(task, NAMES))
    for task_id, on in asked:
        if task_id != on and task_id not in graph.descendants(on) and on not in graph.descendants(task_id):
            graph.depend(task_id, on)
    done: set[str] = set()
    ready = [name for name in NAMES if graph.is_ready(name, done)]
    finished: list[str] = []
    while ready:
        finished.append(ready.pop())
        done.add(finished[-1])
        ready.extend(graph.released_by(finished[-1], done))
    assert sorted(finished) == NAMES


@pytest.mark.parametrize(
    "tasks",
    [
        pytest.param([task("t-1", "t-1")], id="itself"),
        pytest.param([task("t-1", "t-2"), task("t-2", "t-1")], id="each other"),
        pytest.param([task("t-1", "t-2"), task("t-2", review_of="t-1")], id="its own review"),
        pytest.param([task("t-1", "t-9")], id="nothing there is"),
        pytest.param([task("t-1"), task("t-1")], id="twice"),
        pytest.param([task("t-1"), task("t-0")], id="there already"),
    ],
)
def test_of_tasks_that_cannot_be_none_is_added(tasks: list[TaskSpec]) -> None:
    graph = graph_of(task("t-0"))
    with pytest.raises(HubError) as refused:
        graph.add(tasks)
    assert refused.value.code == ErrorCode.SCHEMA_INVALID
    assert "t-1" not in graph
    assert graph.descendants("t-0") == set()


def test_later_tasks_may_wait_for_earlier_ones_and_for_each_other() -> None:
    graph = graph_of(task("t-1"))
    graph.add([task("t-3", "t-2"), task("t-2", "t-1")])
    assert graph.descendants("t-1") == {"t-2", "t-3"}
    assert list(graph.released_by("t-1", {"t-1"})) == ["t-2"]


def test_a_dependency_on_a_task_that_is_not_there_is_refused() -> None:
    graph = graph_of(task("t-1"))
    for pair in (("t-1", "t-9"), ("t-9", "t-1")):
        with pytest.raises(HubError, match="does not exist"):
            graph.depend(*pair)
