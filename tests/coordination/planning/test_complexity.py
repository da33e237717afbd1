"""How hard a project is: more of anything never looks easier."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.coordination.planning.complexity import analyze_project_complexity
from hub.coordination.planning.graph import in_order
from protocol.coordination import ProjectConfig, TaskSpec
from protocol.errors import ErrorCode, HubError

from .teams import SKILLS, task


@st.composite
def graphs(draw: st.DrawFn) -> list[TaskSpec]:
    tasks: list[TaskSpec] = []
    for number in range(draw(st.integers(1, 12))):
        before = draw(st.sets(st.sampled_from([each.task_id for each in tasks]))) if tasks else set()
        skills = draw(st.sets(st.sampled_from(SKILLS), max_size=3))
        title = draw(st.sampled_from(["", "described"]))
        effort_h = draw(st.floats(0, 100))
        tasks.append(task(f"t{number}", *sorted(skills), effort_h=effort_h, depends_on=sorted(before), title=title))
    return tasks


def score(tasks: list[TaskSpec]) -> float:
    return analyze_project_complexity(ProjectConfig(project_id="p", tasks=tasks)).score


@given(graphs())
def test_one_more_task_one_more_level_and_one_more_skill_never_lower_the_score(tasks: list[TaskSpec]) -> None:
    names = [each.task_id for each in tasks]
    larger = [*tasks, task("more", title="described")]
    deeper = [*tasks, task("more", title="described", depends_on=names)]
    broader = [*tasks, task("more", "a-new-skill", title="described", depends_on=names)]
    scores = [score(each) for each in (tasks, larger, deeper, broader)]
    assert scores == sorted(scores)
    assert scores[0] < scores[1] < scores[2] < scores[3] <= 100


@given(graphs())
def test_the_report_does_not_depend_on_the_order_of_tasks(tasks: list[TaskSpec]) -> None:
    assert score(tasks) == score(list(reversed(tasks)))
    assert in_order(tasks) == in_order(list(reversed(tasks)))


def test_the_report_says_what_the_score_is_made_of() -> None:
    chain = [task("a", "python", effort_h=3.0), task("b", "sql", effort_h=50.0, depends_on=["a"], title="x")]
    found = analyze_project_complexity(ProjectConfig(project_id="p", start=0, deadline=1, tasks=chain))
    assert (found.size, found.dependency_depth, found.critical_path_h, found.skill_breadth) == (2, 2, 53.0, 2)
    assert found.uncertainty == 1.0
    assert found.score == pytest.approx(sum(found.drivers.values()))
    assert found.risk_flags == [
        "1 tasks are longer than 40 h",
        "most of the effort is uncertain",
        "the critical path is longer than the time to the deadline",
    ]


def test_an_empty_project_is_not_complex() -> None:
    assert score([]) == 0


def test_tasks_that_wait_for_each_other_have_no_order() -> None:
    with pytest.raises(HubError) as refused:
        in_order([task("a", depends_on=["b"]), task("b", review_of="a")])
    assert refused.value.code is ErrorCode.SCHEMA_INVALID
