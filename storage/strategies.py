"""Which strategies ran when. A run that has no end was cut off with its node."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.strategies import StrategyState
from storage.database import Database

BEGIN = """
INSERT INTO strategy_runs (run, account, strategy_id, strategy, symbols, parameters, started_by, started_us)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7, $8)
"""
END = """
UPDATE strategy_runs SET ended_us = $2, state = $3, reason = $4, stopped_by = $5 WHERE run = $1 AND ended_us IS NULL
"""
COLUMNS = """
SELECT run, account, strategy_id, strategy, symbols, parameters::text, started_by, started_us, ended_us, state, reason,
       stopped_by
FROM strategy_runs
"""
RUNNING = f"{COLUMNS} WHERE ended_us IS NULL ORDER BY started_us"
OF_ACCOUNT = f"{COLUMNS} WHERE account = $1 ORDER BY started_us DESC LIMIT $2"


class StoredRun(msgspec.Struct, frozen=True):
    run: str
    state: StrategyState


class StrategyTable:
    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, run: str, state: StrategyState) -> None:
        """Raises `Conflict` for a run that there was."""
        parameters = msgspec.json.encode(state.parameters).decode()
        what = (state.account, state.strategy_id, state.strategy, state.symbols, parameters)
        await self._db.execute(BEGIN, run, *what, state.started_by, state.started_at)

    async def end(self, run: str, state: StrategyState) -> None:
        """Its first end counts."""
        await self._db.execute(END, run, state.ended_at, state.state, state.reason, state.stopped_by)

    async def running(self) -> list[StoredRun]:
        return [_stored(*row) for row in await self._db.fetch(RUNNING)]

    async def of_account(self, account: str, *, limit: int) -> list[StoredRun]:
        """The newest runs, the newest first."""
        return [_stored(*row) for row in await self._db.fetch(OF_ACCOUNT, account, limit)]


def _stored(run: str, account: str, strategy_id: str, strategy: str, symbols: list[str], *rest: Any) -> StoredRun:
    parameters, started_by, started_us, ended_us, state, reason, stopped_by = rest
    return StoredRun(
        run,
        StrategyState(
            account=account,
            strategy_id=strategy_id,
            strategy=strategy,
            symbols=symbols,
            parameters=msgspec.json.decode(parameters),
            state=state,
            reason=reason,
            started_by=started_by,
            started_at=started_us,
            ended_at=ended_us,
            stopped_by=stopped_by,
        ),
    )
