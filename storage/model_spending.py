"""What models were paid, by day, purpose and tenant."""

from __future__ import annotations

from datetime import date, timedelta
from typing import NamedTuple

from storage.database import Database

KEPT = timedelta(days=400)

TAKE = """
INSERT INTO model_spending AS s (day, purpose, tenant, usd, tokens)
SELECT $1, $2, $3, $4::float8, $5::bigint WHERE $4 <= $6::float8 AND $5 <= $7::bigint
ON CONFLICT (day, purpose, tenant) DO UPDATE SET usd = s.usd + excluded.usd, tokens = s.tokens + excluded.tokens
WHERE s.usd + excluded.usd <= $6 AND s.tokens + excluded.tokens <= $7
RETURNING usd, tokens
"""
SETTLE = """
UPDATE model_spending SET usd = greatest(0, usd + $4), tokens = greatest(0, tokens + $5)
WHERE day = $1 AND purpose = $2 AND tenant = $3
"""


class Spent(NamedTuple):
    usd: float
    tokens: int


class ModelSpending:
    """Nodes share it: what one has taken, another cannot take."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self, day: date, purpose: str, tenant: str, amount: Spent, *, limit: Spent) -> Spent | None:
        """Put an estimate aside; answer the day's sum with it, or None if that would be more than the limit."""
        row = await self._db.fetch_row(TAKE, day, purpose, tenant, *amount, *limit)
        return Spent(*row) if row is not None else None

    async def settle(self, day: date, purpose: str, tenant: str, difference: Spent) -> None:
        """What it was in truth, less what was put aside."""
        await self._db.execute(SETTLE, day, purpose, tenant, *difference)

    async def sweep(self, today: date) -> None:
        """Delete days that are long past."""
        await self._db.execute("DELETE FROM model_spending WHERE day < $1", today - KEPT)
