"""Nothing is kept longer than it is needed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from hub.clock import Clock
from storage.errors import StorageError
from storage.privacy import Privacy
from storage.retention import Retention

logger = logging.getLogger("krin.privacy")

INTERVAL_S = 3600.0


class RetentionJob:
    """Applies the retention windows once an hour. `deleted` counts rows by table; `overdue` requests."""

    def __init__(self, retention: Retention, privacy: Privacy, *, clock: Clock) -> None:
        self._retention = retention
        self._privacy = privacy
        self._clock = clock
        self.deleted: dict[str, int] = {}
        self.overdue = 0

    async def run(self) -> None:
        while True:
            await self._clock.sleep(INTERVAL_S)
            now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            try:
                for table, rows in (await self._retention.apply(now)).items():
                    self.deleted[table] = self.deleted.get(table, 0) + rows
                    logger.info("retention: %d rows of %s deleted", rows, table)
                waiting = await self._privacy.requests(open_only=True)
                self.overdue = sum(request.due_at < now for request in waiting)
            except StorageError as failure:
                logger.warning("retention waits: %s", failure)
