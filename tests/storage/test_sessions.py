from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from storage.database import Database
from storage.errors import Rejected
from storage.sessions import DIMENSIONS, Sessions

pytestmark = pytest.mark.asyncio

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def test_a_session_lives_until_it_expires_and_can_be_prolonged(db: Database) -> None:
    sessions = Sessions(db)
    made = await sessions.create(uuid4(), session_data={"page": "orders"}, expires_at=NOW + HOUR)
    assert await sessions.get(made.id, now=NOW) == made
    assert await sessions.touch(made.id, now=NOW, expires_at=NOW + 2 * HOUR)
    assert await sessions.get(made.id, now=NOW + HOUR) is not None
    assert await sessions.get(made.id, now=NOW + 2 * HOUR) is None
    assert not await sessions.touch(made.id, now=NOW + 2 * HOUR, expires_at=NOW + 3 * HOUR)
    assert await sessions.sweep(now=NOW + HOUR) == 0
    assert await sessions.sweep(now=NOW + 2 * HOUR) == 1


async def test_an_embedding_is_kept_with_its_model(db: Database) -> None:
    sessions = Sessions(db)
    embedding = [0.25] * DIMENSIONS
    made = await sessions.create(
        uuid4(), session_data={}, expires_at=NOW + HOUR, embedding=embedding, embedding_model="local-1"
    )
    found = await sessions.get(made.id, now=NOW)
    assert found is not None
    assert found.embedding_model == "local-1"
    assert await db.fetch_value("SELECT vector_dims(embedding) FROM ai_enhanced_sessions") == DIMENSIONS


async def test_an_embedding_of_the_wrong_dimension_or_unknown_model_is_refused(db: Database) -> None:
    sessions = Sessions(db)
    for embedding, model, why in [
        ([1.0, 2.0], "local-1", "must have 1536 dimensions, this one has 2"),
        ([1.0] * DIMENSIONS, None, "name of its model"),
        ([float("nan")] * DIMENSIONS, "local-1", "NaN"),
    ]:
        with pytest.raises(Rejected, match=why):
            await sessions.create(uuid4(), session_data={}, expires_at=NOW, embedding=embedding, embedding_model=model)
