"""How hard a project is, by rules: works offline, and more of anything never makes a project look easier."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hub.coordination.planning.graph import dependencies, in_order
from protocol.coordination import Complexity, ProjectConfig, TaskSpec

# What each driver adds at most, and the value at which it has added half of that: no project is so large that
# a larger one looks the same.
DRIVERS: Mapping[str, tuple[float, float]] = {
    "size": (25, 50),
    "dependency_depth": (20, 8),
    "critical_path_h": (20, 80),
    "fan_in": (10, 6),
    "skill_breadth": (15, 8),
    "uncertain_h": (10, 80),
}
MICROS_PER_HOUR = 3_600_000_000
LONG_TASK_H = 40.0  # longer estimates are guesses
HIGH_UNCERTAINTY = 0.5
WIDE_FAN_IN = 8


def analyze_project_complexity(project: ProjectConfig) -> Complexity:
    """Raises `HubError` when tasks wait for each other in a circle."""
    tasks = in_order(project.tasks)
    depth, path_h = _longest_chains(tasks)
    measures: dict[str, float] = {
        "size": len(tasks),
        "dependency_depth": depth,
        "critical_path_h": path_h,
        "fan_in": max((len(task.depends_on) for task in tasks), default=0),
        "skill_breadth": len({skill for task in tasks for skill in task.required_skills}),
        "uncertain_h": sum(task.effort_h for task in tasks if _uncertain(task)),
    }
    effort_h = sum(task.effort_h for task in tasks)
    uncertainty = measures["uncertain_h"] / effort_h if effort_h else 0.0
    drivers = {name: round(_contribution(name, value), 3) for name, value in measures.items() if value}
    return Complexity(
        score=min(100.0, round(sum(drivers.values()), 3)),
        size=len(tasks),
        dependency_depth=depth,
        critical_path_h=path_h,
        fan_in=int(measures["fan_in"]),
        skill_breadth=int(measures["skill_breadth"]),
        uncertainty=min(1.0, uncertainty),
        risk_flags=_risk_flags(project, tasks, path_h, uncertainty),
        drivers=drivers,
    )


def _contribution(driver: str, value: float) -> float:
    most, half = DRIVERS[driver]
    return most * value / (value + half)


def _longest_chains(tasks: list[TaskSpec]) -> tuple[int, float]:
    """The most tasks, and the most hours, that must follow one another."""
    chains: dict[str, tuple[int, float]] = {}
    for task in tasks:
        before = [chains[name] for name in dependencies(task, chains)]
        chains[task.task_id] = (
            1 + max((depth for depth, _ in before), default=0),
            task.effort_h + max((hours for _, hours in before), default=0.0),
        )
    return max((depth for depth, _ in chains.values()), default=0), max((h for _, h in chains.values()), default=0.0)


def _uncertain(task: TaskSpec) -> bool:
    return task.effort_h > LONG_TASK_H or not (task.description or task.title)


def _risk_flags(project: ProjectConfig, tasks: list[TaskSpec], path_h: float, uncertainty: float) -> list[str]:
    long = sum(task.effort_h > LONG_TASK_H for task in tasks)
    widest = max((len(task.depends_on) for task in tasks), default=0)
    flags = [f"{long} tasks are longer than {LONG_TASK_H:g} h"] if long else []
    if uncertainty > HIGH_UNCERTAINTY:
        flags.append("most of the effort is uncertain")
    if widest > WIDE_FAN_IN:
        flags.append(f"one task waits for {widest} others")
    hours = math.inf
    if project.start is not None and project.deadline is not None:
        hours = (project.deadline - project.start) / MICROS_PER_HOUR
    if path_h > hours:
        flags.append("the critical path is longer than the time to the deadline")
    return flags
