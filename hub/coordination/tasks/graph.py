"""Which task of a project waits for which. Rule: no task ever waits for itself, over however many others."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from protocol.coordination import TaskSpec
from protocol.errors import ErrorCode, HubError


class TaskGraph:
    """Grows, and is asked after every change: adding a task or a dependency looks only at what it touches."""

    def __init__(self) -> None:
        self._waits_for: dict[str, set[str]] = {}
        self._followers: dict[str, set[str]] = {}

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._waits_for

    def add(self, tasks: Sequence[TaskSpec], *, at: str = "$.params.tasks") -> None:
        """All of them, in any order, or none. A review waits for what it reviews. `at`: where they stand in a command.

        Raises HubError: a task is there already, names one that is not, or waits for itself.
        """
        added = {task.task_id: _dependencies(task) for task in tasks}
        if len(added) < len(tasks) or any(task_id in self for task_id in added):
            raise HubError(ErrorCode.SCHEMA_INVALID, "Two tasks have the same task_id.", path=at)
        for index, task in enumerate(tasks):
            if any(name not in self and name not in added for name in added[task.task_id]):
                raise HubError(ErrorCode.SCHEMA_INVALID, "A task names one that does not exist.", path=f"{at}[{index}]")
        # What was there before waits for nothing new: a circle can only be among the new ones.
        _check_circles(added, at)
        self._waits_for |= added
        self._followers |= {task_id: set() for task_id in added}
        for task_id, names in added.items():
            for name in names:
                self._followers[name].add(task_id)

    def depend(self, task_id: str, on: str) -> None:
        """From now on the first waits for the second, too. Raises HubError as `add` does."""
        if task_id not in self or on not in self:
            raise HubError(
                ErrorCode.SCHEMA_INVALID, "A task names one that does not exist.", path="$.params.depends_on"
            )
        if task_id == on or on in self.descendants(task_id):
            raise _circle("$.params.depends_on")
        self._waits_for[task_id].add(on)
        self._followers[on].add(task_id)

    def waits_for(self, task_id: str) -> frozenset[str]:
        """What the task names itself. Raises KeyError."""
        return frozenset(self._waits_for[task_id])

    def descendants(self, task_id: str) -> set[str]:
        """All that wait for the task, over others too. Raises KeyError."""
        found: set[str] = set()
        left = [task_id]
        while left:
            fresh = self._followers[left.pop()] - found
            found |= fresh
            left.extend(fresh)
        return found

    def released_by(self, task_id: str, done: Container[str]) -> Iterator[str]:
        """What has nothing more to wait for now that the task is done, which `done` says. Raises KeyError."""
        return (each for each in sorted(self._followers[task_id]) if self.is_ready(each, done))

    def is_ready(self, task_id: str, done: Container[str]) -> bool:
        """Raises KeyError."""
        return all(name in done for name in self._waits_for[task_id])


def _dependencies(task: TaskSpec) -> set[str]:
    return {*task.depends_on, *([task.review_of] if task.review_of is not None else [])}


def _check_circles(graph: dict[str, set[str]], at: str) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise _circle(at) from error


def _circle(path: str) -> HubError:
    return HubError(ErrorCode.SCHEMA_INVALID, "Tasks wait for each other in a circle.", path=path)
