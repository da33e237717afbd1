"""The day's money and tokens of each tenant, checked before a call by an estimate."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from typing import NamedTuple, Protocol

from hub.clock import Clock
from hub.insight.calls.base import CallRefused
from storage.errors import StorageError
from storage.model_spending import Spent

logger = logging.getLogger("krin.calls")

WARN_SHARE = 0.8


class Spending(Protocol):
    """storage.model_spending.ModelSpending."""

    async def take(self, day: date, purpose: str, tenant: str, amount: Spent, *, limit: Spent) -> Spent | None: ...
    async def settle(self, day: date, purpose: str, tenant: str, difference: Spent) -> None: ...
    async def sweep(self, today: date) -> None: ...


class Reservation(NamedTuple):
    day: date
    tenant: str
    amount: Spent


Warn = Callable[[str, str, float], Awaitable[None]]
"""(purpose, tenant, share of the day's budget that is used): told once a day, at WARN_SHARE."""


class Budget:
    """Of one purpose. `limit` is a day's, of each tenant alike."""

    def __init__(self, spending: Spending, *, purpose: str, limit: Spent, warn: Warn, clock: Clock) -> None:
        self._spending = spending
        self._purpose = purpose
        self._limit = limit
        self._warn = warn
        self._clock = clock
        self._day = date.min
        self._warned: set[str] = set()
        self.exhausted = 0

    async def reserve(self, tenant: str, amount: Spent) -> Reservation:
        """Raises CallRefused(budget): also while nobody can say what is left."""
        today = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).date()
        try:
            if today != self._day:
                await self._spending.sweep(today)
                self._day, self._warned = today, set()
            sum_ = await self._spending.take(today, self._purpose, tenant, amount, limit=self._limit)
        except StorageError:
            raise CallRefused("budget", "what is left of the day's budget is not known now") from None
        if sum_ is None:
            self.exhausted += 1
            raise CallRefused("budget", "the day's budget for models is used")
        share = max(sum_.usd / self._limit.usd, sum_.tokens / self._limit.tokens)
        if share >= WARN_SHARE and tenant not in self._warned:
            self._warned.add(tenant)
            await self._warn(self._purpose, tenant, share)
        return Reservation(today, tenant, amount)

    async def settle(self, reservation: Reservation, used: Spent) -> None:
        """What the call has used in truth. What cannot be written stays reserved."""
        taken = reservation.amount
        try:
            await self._spending.settle(
                *(reservation.day, self._purpose, reservation.tenant),
                Spent(used.usd - taken.usd, used.tokens - taken.tokens),
            )
        except StorageError as failure:
            logger.warning("what a model was paid could not be written, its estimate counts: %s", failure)
