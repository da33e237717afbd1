"""The outcome of the risk checks. Only `Approved` can be handed to a venue, and only the checks can make one."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from hub.trading.orders.order import Order
from protocol.trading import RiskDecision

BY_THE_CHECKS: Final = object()
"""Known to hub.trading.risk.checks alone, which a test sees to."""


class Approved:
    """An order that has passed every check, or what one is to be changed into."""

    __slots__ = ("decision", "order", "price", "qty", "stop_price", "trail")

    def __init__(
        self,
        order: Order,
        decision: RiskDecision,
        *,
        made_by: object,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail: Decimal | None = None,
    ) -> None:
        """The last four are a replacement's wishes; None: as it is."""
        if made_by is not BY_THE_CHECKS:
            raise TypeError("only the risk checks approve an order")
        self.order = order
        self.decision = decision
        self.qty = qty
        self.price = price
        self.stop_price = stop_price
        self.trail = trail


class Refused(msgspec.Struct, frozen=True):
    """The first fault of the decision is the reason."""

    order: Order
    decision: RiskDecision


class NeedsApproval(msgspec.Struct, frozen=True, kw_only=True):
    """Every fault is one that `required` people of `role`, none of them the submitter, may let pass until then."""

    order: Order
    decision: RiskDecision
    role: str
    required: int
    expires_us: int


Outcome = Approved | Refused | NeedsApproval
