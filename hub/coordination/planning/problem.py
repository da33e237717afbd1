"""The allocation of tasks as a mixed-integer problem: who may do what, at which price, within which limits.

Hours and dollars are whole numbers of a ten-thousandth here, so sums are exact and limits really hold.
Durations and costs are rounded up, capacities and budgets down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

import msgspec

from hub.coordination.planning.graph import dependencies, in_order
from protocol.coordination import Complexity, Gate, Skill, Specialist, TaskSpec, Weights

PARTS = 10_000  # of an hour, of a dollar
MICROS_PER_PART = 3_600_000_000 // PARTS
CONTINGENCY_AT_100 = 0.25  # how much longer than estimated tasks of the most complex project take
Choice = Sequence[int | None]  # for each task the specialist's index, or nobody


class AllocationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`specialists` are those who may be given work: whoever is away or stuck is not among them.

    `progress` (0 to 1) shortens what is left of a task; `holders` says who has, or had, a task: moving it to another
    costs a switch, and who did a task does not review it.
    """

    project_id: str
    tasks: Sequence[TaskSpec]
    specialists: Sequence[Specialist]
    start: int  # microseconds
    complexity: Complexity | None = None
    timeline: int | None = None  # the deadline, in microseconds
    quality_gates: Sequence[Gate] = ()
    budget_usd: str | None = None
    budget_tokens: int | None = None
    weights: Weights = Weights()
    progress: Mapping[str, float] = {}
    holders: Mapping[str, str] = {}
    registry_version: int = 0
    supersedes: str | None = None


class Candidate(NamedTuple):
    """One specialist for one task. `score` is what the choice adds to the objective, apart from overload."""

    specialist: int
    duration: int
    cost: int
    quality: float
    speed: float
    switches: bool
    late_h: float
    score: float


class Overload(NamedTuple):
    """Each hour that a specialist works beyond `free` hours in each of its lanes costs `weight`."""

    free: int
    weight: float


class Problem(msgspec.Struct, frozen=True):
    request: AllocationRequest
    tasks: list[TaskSpec]  # what others wait for first
    waits_for: list[list[int]]
    specialists: list[Specialist]
    candidates: list[dict[int, Candidate]]  # for each task, by specialist
    barred: dict[int, str]  # why a task has no candidate
    efforts: list[int]  # at speed 1
    penalties: list[float]  # for leaving a task to nobody
    apart: list[list[int]]  # for each task those that somebody else must do
    capacities: list[int | None]
    windows: list[list[tuple[int, int]] | None]  # when a specialist is there; None: always
    budget: int | None
    overloads: list[Overload]

    def overload(self, specialist: int, load: int) -> float:
        lanes = self.specialists[specialist].max_concurrent
        return sum(max(0.0, load / lanes - each.free) * each.weight for each in self.overloads) / PARTS

    def objective(self, choice: Choice) -> float:
        """What a plan minimises."""
        loads = [0] * len(self.specialists)
        total = 0.0
        for task, specialist in enumerate(choice):
            if specialist is None:
                total += self.penalties[task]
            else:
                candidate = self.candidates[task][specialist]
                loads[specialist] += candidate.duration
                total += candidate.score
        return total + sum(self.overload(specialist, load) for specialist, load in enumerate(loads))


def parts_down(value: str | float) -> int:
    return int((Decimal(value) * PARTS).to_integral_value(ROUND_FLOOR))


def parts_up(value: Decimal) -> int:
    return int((value * PARTS).to_integral_value(ROUND_CEILING))


def state_problem(request: AllocationRequest) -> Problem:
    """Raises `HubError` when tasks wait for each other in a circle."""
    tasks = in_order(request.tasks)
    position = {task.task_id: index for index, task in enumerate(tasks)}
    waits_for = [[position[name] for name in dependencies(task, position)] for task in tasks]
    specialists = sorted(request.specialists, key=lambda each: each.specialist_id)
    windows = [_windows(each, request.start) for each in specialists]
    capacities = [_capacity(each, open_) for each, open_ in zip(specialists, windows, strict=True)]
    efforts = [_effort(task, request) for task in tasks]
    barred: dict[int, str] = {}
    able = [_able(task, specialists, request.holders) for task in tasks]
    found: list[dict[int, _Way]] = []
    for index, (task, (indexes, reason)) in enumerate(zip(tasks, able, strict=True)):
        ways = {each: _way(task, specialists[each], efforts[index], request) for each in indexes}
        fitting = {each: way for each, way in ways.items() if _fits(way, capacities[each])}
        found.append(fitting)
        if not fitting:
            barred[index] = reason or "it is longer than those who could do it are there"
    fastest = [
        min((way.duration for way in ways.values()), default=effort)
        for ways, effort in zip(found, efforts, strict=True)
    ]
    earliest = _earliest(waits_for, fastest)
    candidates: list[dict[int, Candidate]] = []
    for task, ways, start in zip(tasks, found, earliest, strict=True):
        holder = request.holders.get(task.task_id, "")
        others = {each for each in ways if holder and specialists[each].specialist_id != holder}
        candidates.append(
            {
                each: _candidate(each, way, task, start, switches=each in others, request=request)
                for each, way in ways.items()
            }
        )
    worst = max((candidate.score for each in candidates for candidate in each.values()), default=0.0)
    longest = max((candidate.duration for each in candidates for candidate in each.values()), default=0)
    # Somebody, however late and overloaded, is better than nobody.
    nobody = 1 + worst + (request.weights.time + request.weights.late) * longest / PARTS
    return Problem(
        request=request,
        tasks=tasks,
        waits_for=waits_for,
        specialists=specialists,
        candidates=candidates,
        barred=barred,
        efforts=efforts,
        penalties=[nobody * (1 + task.priority / 10) for task in tasks],
        apart=_apart(tasks, position),
        capacities=capacities,
        windows=windows,
        budget=None if request.budget_usd is None else parts_down(request.budget_usd),
        overloads=_overloads(request, specialists, candidates, waits_for, fastest),
    )


class _Way(NamedTuple):
    """How one specialist would do one task."""

    duration: int
    cost: int
    quality: float
    speed: float


def _skills(task: TaskSpec, specialist: Specialist) -> list[Skill] | None:
    """Those that the task needs, or None where one is missing."""
    has = {skill.id: skill for skill in specialist.skills}
    if not has.keys() >= set(task.required_skills):
        return None
    return [has[name] for name in task.required_skills]


def _quality(skills: Sequence[Skill]) -> float:
    return min((skill.level * skill.quality for skill in skills), default=1.0)


def _able(task: TaskSpec, specialists: Sequence[Specialist], holders: Mapping[str, str]) -> tuple[list[int], str]:
    """Who may do the task, and if nobody, why."""
    skilled = {index: skills for index, each in enumerate(specialists) if (skills := _skills(task, each)) is not None}
    if not skilled:
        return [], f"nobody available has all of: {', '.join(task.required_skills) or 'no skill'}"
    good = [index for index, skills in skilled.items() if _quality(skills) >= task.min_quality]
    if not good:
        return [], f"nobody with the skills reaches the quality of {task.min_quality:g}"
    author = None if task.review_of is None else holders.get(task.review_of)
    free = [index for index in good if specialists[index].specialist_id not in (author, task.reviewer)]
    if not free:
        return [], "nobody but its author and its reviewer could do it"
    if task.pinned is None:
        return free, ""
    pinned = [index for index in free if specialists[index].specialist_id == task.pinned]
    return pinned, f"it is pinned to {task.pinned}, who may not do it or is not available"


def _effort(task: TaskSpec, request: AllocationRequest) -> int:
    """What is left to do, at speed 1; a complex project takes longer than its estimates."""
    contingency = CONTINGENCY_AT_100 * (request.complexity.score / 100 if request.complexity else 0.0)
    left = 1 - request.progress.get(task.task_id, 0.0)
    return math.ceil(task.effort_h * (1 + contingency) * left * PARTS)


def _way(task: TaskSpec, specialist: Specialist, effort: int, request: AllocationRequest) -> _Way:
    skills = _skills(task, specialist) or []
    speed = min((skill.speed for skill in skills), default=1.0)
    duration = math.ceil(effort / speed)
    # A budget must hold however tokens divide into input and output: each is taken at the dearer price.
    per_token = max(Decimal(specialist.usd_per_mtok_in), Decimal(specialist.usd_per_mtok_out)) / 1_000_000
    cost = parts_up(Decimal(specialist.usd_per_hour) * duration / PARTS + per_token * task.est_tokens)
    return _Way(duration, cost, _quality(skills), speed)


def _fits(way: _Way, capacity: int | None) -> bool:
    return capacity is None or way.duration <= capacity


def _candidate(
    index: int, way: _Way, task: TaskSpec, earliest: int, *, switches: bool, request: AllocationRequest
) -> Candidate:
    weights = request.weights
    late_h = 0.0
    if task.deadline is not None:
        late_h = max(0, earliest + way.duration - (task.deadline - request.start) // MICROS_PER_PART) / PARTS
    score = (
        weights.time * way.duration / PARTS
        + weights.cost * way.cost / PARTS
        + weights.quality * (1 - way.quality)
        + weights.switch * switches
        + weights.late * late_h
    )
    return Candidate(index, way.duration, way.cost, way.quality, way.speed, switches, late_h, score)


def _earliest(waits_for: Sequence[Sequence[int]], durations: Sequence[int]) -> list[int]:
    """When each task could start if everybody were free and the fastest did everything."""
    starts: list[int] = []
    for before in waits_for:
        starts.append(max((starts[index] + durations[index] for index in before), default=0))
    return starts


def _windows(specialist: Specialist, start: int) -> list[tuple[int, int]] | None:
    """Merged and in order, counted from the start."""
    if not specialist.availability:
        return None
    merged: list[tuple[int, int]] = []
    for window in sorted(specialist.availability, key=lambda each: each.start):
        opens = -(-max(0, window.start - start) // MICROS_PER_PART)
        closes = (window.end - start) // MICROS_PER_PART
        if merged and opens <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(closes, merged[-1][1]))
        elif closes > opens:
            merged.append((opens, closes))
    return merged


def _capacity(specialist: Specialist, windows: Sequence[tuple[int, int]] | None) -> int | None:
    limits = []
    if specialist.hours is not None:
        limits.append(parts_down(specialist.hours))
    if windows is not None:
        limits.append(specialist.max_concurrent * sum(closes - opens for opens, closes in windows))
    return min(limits, default=None)


def _apart(tasks: Sequence[TaskSpec], position: Mapping[str, int]) -> list[list[int]]:
    apart: list[list[int]] = [[] for _ in tasks]
    for index, task in enumerate(tasks):
        if task.review_of is not None and task.review_of in position:
            apart[index].append(position[task.review_of])
            apart[position[task.review_of]].append(index)
    return apart


def _overloads(
    request: AllocationRequest,
    specialists: Sequence[Specialist],
    candidates: Sequence[Mapping[int, Candidate]],
    waits_for: Sequence[Sequence[int]],
    fastest: Sequence[int],
) -> list[Overload]:
    """Work is spread: no plan ends before the longest chain, nor before everybody had an even share."""
    useful = {index for each in candidates for index in each}
    lanes = sum(specialists[index].max_concurrent for index in useful)
    share = sum(duration for each, duration in zip(candidates, fastest, strict=True) if each) // max(1, lanes)
    starts = _earliest(waits_for, fastest)
    chain = max((start + duration for start, duration in zip(starts, fastest, strict=True)), default=0)
    overloads = [Overload(max(share, chain), request.weights.time)]
    if request.timeline is not None:
        overloads.append(Overload(max(0, (request.timeline - request.start) // MICROS_PER_PART), request.weights.late))
    return overloads
