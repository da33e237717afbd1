"""When each task starts and ends, once it is known who does it: a list schedule, the longest chain first.

Times are ten-thousandths of an hour from the start. A task that nobody has is scheduled as if somebody of speed 1 did
it as soon as it can start: what waits for it must wait at least so long.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import NamedTuple

from hub.coordination.planning.problem import Choice, Problem


class Slot(NamedTuple):
    start: int
    finish: int
    lane_before: int | None  # the task whose end set its lane free


class Schedule(NamedTuple):
    slots: list[Slot]
    slack: list[int]  # how much later a task may end without the last one ending later
    critical: list[int]  # the chain that decides when the last one ends, first to last
    makespan: int


def durations(problem: Problem, choice: Choice) -> list[int]:
    return [
        problem.efforts[task] if specialist is None else problem.candidates[task][specialist].duration
        for task, specialist in enumerate(choice)
    ]


def tails(waits_for: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[int]:
    """For each task the longest chain that begins with it. Tasks stand before those that wait for them."""
    longest = list(lengths)
    for task in reversed(range(len(lengths))):
        for before in waits_for[task]:
            longest[before] = max(longest[before], lengths[before] + longest[task])
    return longest


def schedule(problem: Problem, choice: Choice) -> tuple[Schedule, list[int]]:
    """The schedule, and the tasks that end after the last window of whoever has them."""
    lengths = durations(problem, choice)
    rank = [(-tail, task) for task, tail in enumerate(tails(problem.waits_for, lengths))]
    missing = [len(before) for before in problem.waits_for]
    dependents: list[list[int]] = [[] for _ in lengths]
    for task, befores in enumerate(problem.waits_for):
        for before in befores:
            dependents[before].append(task)
    lanes: list[list[int | None]] = [[None] * each.max_concurrent for each in problem.specialists]  # the free ones
    queues: list[list[tuple[int, int]]] = [[] for _ in problem.specialists]  # what could start
    slots: list[Slot] = [Slot(0, 0, None)] * len(lengths)
    ends: list[tuple[int, int]] = []
    order: list[int] = []
    late: list[int] = []

    def begin(task: int, now: int, lane_before: int | None) -> None:
        specialist = choice[task]
        windows = None if specialist is None else problem.windows[specialist]
        span = (now, now + lengths[task]) if windows is None else _within(windows, now, lengths[task])
        if span is None:
            late.append(task)
            span = (now, now + lengths[task])
        slots[task] = Slot(*span, lane_before)
        order.append(task)
        heappush(ends, (span[1], task))

    def offer(task: int, now: int) -> None:
        specialist = choice[task]
        if specialist is None:
            begin(task, now, None)
        else:
            heappush(queues[specialist], rank[task])

    def fill(now: int) -> None:
        for queue, free in zip(queues, lanes, strict=True):
            while queue and free:
                begin(heappop(queue)[1], now, free.pop())

    for task, count in enumerate(missing):
        if not count:
            offer(task, 0)
    fill(0)
    while ends:
        now = ends[0][0]
        while ends and ends[0][0] == now:
            _, done = heappop(ends)
            if (specialist := choice[done]) is not None:
                lanes[specialist].append(done)
            for task in dependents[done]:
                missing[task] -= 1
                if not missing[task]:
                    offer(task, now)
        fill(now)
    return _measure(problem, slots, order), late


def _within(windows: Sequence[tuple[int, int]], now: int, length: int) -> tuple[int, int] | None:
    """Start and end of work that pauses between windows; None if the last one closes before it is done."""
    start = None
    for opens, closes in windows:
        begins = max(opens, now)
        if begins >= closes:
            continue
        start = begins if start is None else start
        if closes - begins >= length:
            return start, begins + length
        length -= closes - begins
    return None


def _measure(problem: Problem, slots: list[Slot], order: Sequence[int]) -> Schedule:
    """Slack backwards over both kinds of waiting: for what must be done before, and for a free lane."""
    makespan = max((slot.finish for slot in slots), default=0)
    latest = [makespan] * len(slots)  # finish
    befores = [
        [*waits, *([] if slot.lane_before is None else [slot.lane_before])]
        for waits, slot in zip(problem.waits_for, slots, strict=True)
    ]
    for task in reversed(order):
        for before in befores[task]:
            latest[before] = min(latest[before], latest[task] - (slots[task].finish - slots[task].start))
    critical: list[int] = []
    following = max(range(len(slots)), key=lambda each: (slots[each].finish, -each), default=None)
    while following is not None:
        critical.append(following)
        following = max(befores[following], key=lambda each: (slots[each].finish, -each), default=None)
    slack = [last - slot.finish for last, slot in zip(latest, slots, strict=True)]
    return Schedule(slots, slack, critical[::-1], makespan)
