from __future__ import annotations

from uuid import uuid4

import pytest

from storage.coordination import CoordinationLog, NewEntry
from storage.database import Database
from storage.errors import Rejected

pytestmark = pytest.mark.asyncio


async def test_entries_are_paged_by_time_and_id_without_gaps_or_repeats(db: Database) -> None:
    log, project = CoordinationLog(db), uuid4()
    # One statement gives all its entries one time: only the id tells them apart.
    made = [
        entry
        for _ in range(3)
        for entry in await log.append([NewEntry(project, "backend", "plan", {"n": n}) for n in range(5)])
    ]
    await log.append([NewEntry(uuid4(), "backend", "plan", {})])
    expected = sorted(made, key=lambda entry: (entry.timestamp, entry.id))

    for reverse in (False, True):
        seen, after = [], None
        while page := await log.page(project, after=after, limit=4, reverse=reverse):
            seen += page
            after = (page[-1].timestamp, page[-1].id)
        assert seen == (expected[::-1] if reverse else expected)


async def test_all_entries_of_a_call_are_stored_or_none(db: Database) -> None:
    log, project = CoordinationLog(db), uuid4()
    good = NewEntry(project, "backend", "plan", {}, ai_analysis={"risk": 0.5}, performance_metrics={"ms": 3})
    with pytest.raises(Rejected):
        await log.append([good, NewEntry(project, "x" * 101, "plan", {})])
    assert await log.page(project) == []
    [stored] = await log.append([good])
    assert (stored.ai_analysis, stored.performance_metrics) == ({"risk": 0.5}, {"ms": 3})
    assert await log.append([]) == []
