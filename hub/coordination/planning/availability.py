"""Which specialists can be counted on."""

from __future__ import annotations

from collections.abc import Iterable, Set

from protocol.coordination import Specialist, SpecialistStatus

NOT_COUNTED_ON = ("STUCK", "FAILED")


def available(
    members: Iterable[tuple[Specialist, SpecialistStatus]],
    *,
    now_us: int,
    until_us: int | None,
    planned: Set[str] = frozenset(),
) -> list[Specialist]:
    """Who is there, well, not leaving, not full, and has a window between now and then; None: ever.

    `planned` are tasks that are being given out anew: they make nobody full.
    """
    return [
        specialist
        for specialist, status in members
        if status.presence != "OFFLINE"
        and status.health not in NOT_COUNTED_ON
        and status.activity != "DRAINING"
        and len(set(status.tasks) - planned) < specialist.max_concurrent
        and _has_window(specialist, now_us, until_us)
    ]


def _has_window(specialist: Specialist, now_us: int, until_us: int | None) -> bool:
    return not specialist.availability or any(
        window.end > now_us and (until_us is None or window.start <= until_us) for window in specialist.availability
    )
