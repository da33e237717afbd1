"""Tasks and what they wait for. A dependency that is not among the tasks given counts as done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from protocol.coordination import TaskSpec
from protocol.errors import ErrorCode, HubError


def in_order(tasks: Iterable[TaskSpec]) -> list[TaskSpec]:
    """What others wait for comes first; the result depends on the set of tasks, not on their order.

    Raises `HubError` when tasks wait for each other in a circle.
    """
    by_id = {task.task_id: task for task in sorted(tasks, key=lambda task: task.task_id)}
    sorter = TopologicalSorter({name: dependencies(task, by_id) for name, task in by_id.items()})
    try:
        return [by_id[name] for name in sorter.static_order()]
    except CycleError as error:
        raise HubError(
            ErrorCode.SCHEMA_INVALID, "Tasks wait for each other in a circle.", path="$.params.tasks"
        ) from error


def dependencies(task: TaskSpec, among: Mapping[str, object]) -> list[str]:
    """What the task waits for, each once. A review waits for the task it reviews."""
    named = [*task.depends_on, *([task.review_of] if task.review_of is not None else [])]
    return [name for name in dict.fromkeys(named) if name in among]
