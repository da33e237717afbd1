"""What risk control asks of others, and what it says when the store does not do what it should."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Protocol

from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk.view import Override
from protocol.errors import ErrorCode, HubError
from protocol.trading import TradingScope
from storage.errors import Conflict, Rejected, StorageError


class Orders(Protocol):
    """The engine. Everything that waits raises HubError(not_available) when it is over."""

    async def find(self, account: str, client_order_id: str) -> Order:
        """Raises HubError(not_found)."""
        ...

    def awaiting_approval(self) -> Iterable[Order]: ...

    def daily_results(self) -> Iterable[tuple[str, Decimal]]:
        """(account, realised and unrealised profit since midnight UTC) of every account that has a position or has
        traded today."""
        ...

    async def approve(self, order: Order, override: Override) -> None:
        """Put an order that waits for approval to all checks once more, and let it go on or end accordingly.

        Raises HubError(illegal_transition) if it waits no more.
        """
        ...

    async def deny(self, order: Order, reason: Reason, *, text: str, by: str) -> None:
        """End an order that waits for approval. Raises HubError(illegal_transition) if it waits no more."""
        ...

    async def cancel_scope(self, scope: TradingScope, name: str, *, by: str) -> int:
        """Ask for the cancel of every order of a scope that may still trade; answers how many those are."""
        ...


Engine = Callable[[], Orders]
"""The engine of this node. Raises HubError(not_available) while the node does not lead."""


@contextmanager
def stored() -> Iterator[None]:
    """What the store says, in the protocol's words."""
    try:
        yield
    except Conflict:
        raise HubError(ErrorCode.VERSION_CONFLICT, "the limits have changed since that version") from None
    except Rejected:
        raise HubError(ErrorCode.BAD_REQUEST, "this cannot be stored") from None
    except StorageError as failure:
        raise HubError(ErrorCode.NOT_AVAILABLE, "this is not possible right now", retry_after_ms=1000) from failure
