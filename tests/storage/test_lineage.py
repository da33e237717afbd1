from __future__ import annotations

import asyncio

import pytest

from storage.database import Database
from storage.lineage import verify_lineage
from storage.messages import MessageLog

pytestmark = pytest.mark.asyncio


async def test_the_same_database_keeps_its_epochs(db: Database, log: MessageLog) -> None:
    assert await verify_lineage(db) is None
    made = await log.heads(["a:1", "a:2"])
    assert await verify_lineage(db) is None
    assert await log.heads(made) == made


@pytest.mark.parametrize("sign", ["system_identifier = 1", "timeline = '000000FF'"])
async def test_a_restored_database_changes_every_epoch_once(db: Database, log: MessageLog, sign: str) -> None:
    await verify_lineage(db)
    before = await log.heads(["a:1", "a:2"])
    await db.execute(f"UPDATE lineage SET {sign}")
    noticed = await asyncio.gather(*(verify_lineage(db) for _ in range(4)))
    after = await log.heads(before)
    assert sum(found is not None for found in noticed) == 1
    assert all(after[name].epoch != before[name].epoch and after[name].top == before[name].top for name in before)
    assert after["a:1"].epoch != after["a:2"].epoch
