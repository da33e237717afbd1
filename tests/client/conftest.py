from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from fake_hub import FakeHub


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeHub]:
    async with FakeHub() as hub:
        yield hub
