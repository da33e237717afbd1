"""Where the engine writes down what it decides, and where it looks up what it has forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from hub.trading.orders.journal import Change
from storage.orders import StoredEvent


class Writes(Protocol):
    """See hub.trading.orders.journal.Journal."""

    @property
    def epoch(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    def require_room(self) -> None: ...
    def add(self, change: Change) -> asyncio.Future[None]: ...


class Past(Protocol):
    """See storage.orders.OrderLog."""

    async def find(self, account: str, client_order_id: str) -> tuple[str, bytes] | None: ...
    async def events(self, order_id: str) -> Sequence[StoredEvent]: ...
