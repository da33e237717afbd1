"""What may happen to an order in which state, as a table. Whatever is not in it is refused.

The rows follow FIX 4.4 and its precedence: while a cancel or a replacement is under way, the order stays pending
whatever else happens, until it is answered or the order ends. `Then` stands where the next state depends on the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from protocol.trading import ExecType, OrdStatus


class Then(Enum):
    BY_QUANTITY = "NEW, PARTIALLY_FILLED or FILLED, as much as has traded"
    SAME_OR_FILLED = "as before, unless nothing is left to trade"
    PREVIOUS = "as before the pending command or the halt"
    SAME = "as before"


Target = OrdStatus | Then
Row = tuple[OrdStatus, ExecType]

LIVE: tuple[OrdStatus, ...] = ("NEW", "PARTIALLY_FILLED")
PENDING: tuple[OrdStatus, ...] = ("PENDING_CANCEL", "PENDING_REPLACE")


def _rows(states: Iterable[OrdStatus], events: Iterable[ExecType], target: Target) -> dict[Row, Target]:
    return {(state, event): target for state in states for event in events}


TRANSITIONS: Mapping[Row, Target] = {
    # In the hub.
    **_rows(["INITIALIZED"], ["DENIED"], "DENIED"),
    **_rows(["INITIALIZED"], ["APPROVAL_REQUESTED"], "PENDING_APPROVAL"),
    **_rows(["PENDING_APPROVAL"], ["APPROVAL_GRANTED"], "INITIALIZED"),
    **_rows(["PENDING_APPROVAL"], ["APPROVAL_DECLINED"], "DENIED"),
    **_rows(["PENDING_APPROVAL"], ["CANCELED"], "CANCELED"),
    **_rows(["INITIALIZED"], ["PENDING_NEW"], "PENDING_NEW"),
    # On the way to the venue, which may also say nothing: then the hub says REJECTED.
    **_rows(["PENDING_NEW"], ["NEW"], "NEW"),
    **_rows(["PENDING_NEW"], ["REJECTED"], "REJECTED"),
    **_rows(["PENDING_NEW"], ["CANCELED"], "CANCELED"),
    **_rows(["PENDING_NEW"], ["EXPIRED"], "EXPIRED"),
    **_rows(["PENDING_NEW", *LIVE, "SUSPENDED"], ["TRADE"], Then.BY_QUANTITY),
    # Commands. A halted market does not take changes, but an order may always be withdrawn.
    **_rows(["PENDING_NEW", *LIVE, "SUSPENDED"], ["PENDING_CANCEL"], "PENDING_CANCEL"),
    **_rows(LIVE, ["PENDING_REPLACE"], "PENDING_REPLACE"),
    # In the market.
    **_rows(["NEW"], ["TRIGGERED"], Then.SAME),
    **_rows(["NEW"], ["REJECTED"], "REJECTED"),  # a stop order that is refused when it triggers
    **_rows([*LIVE, "SUSPENDED"], ["CANCELED"], "CANCELED"),
    **_rows([*LIVE, "SUSPENDED"], ["EXPIRED"], "EXPIRED"),
    **_rows(LIVE, ["SUSPENDED"], "SUSPENDED"),
    **_rows(["SUSPENDED"], ["RESTATED"], Then.PREVIOUS),
    **_rows(["PENDING_NEW", *LIVE, *PENDING], ["TRADE_PREVENTION"], Then.SAME),
    # While a command is under way.
    **_rows(["PENDING_CANCEL"], ["CANCELED"], "CANCELED"),
    **_rows(["PENDING_CANCEL"], ["CANCEL_REJECTED"], Then.PREVIOUS),
    **_rows(PENDING, ["TRADE"], Then.SAME_OR_FILLED),
    **_rows(PENDING, ["EXPIRED"], "EXPIRED"),
    **_rows(PENDING, ["REJECTED"], "REJECTED"),
    **_rows(["PENDING_REPLACE"], ["REPLACED"], Then.BY_QUANTITY),
    **_rows(["PENDING_REPLACE"], ["REPLACE_REJECTED"], Then.PREVIOUS),
    **_rows(["PENDING_REPLACE"], ["PENDING_CANCEL"], "PENDING_CANCEL"),
    **_rows(["PENDING_REPLACE"], ["CANCELED"], "CANCELED"),
    # The venue's answers to what was sent before, and its own doings, overtaken by a command.
    **_rows(["PENDING_CANCEL"], ["NEW", "REPLACED", "REPLACE_REJECTED"], Then.SAME),
    **_rows(PENDING, ["TRIGGERED", "SUSPENDED", "RESTATED"], Then.SAME),
    # What was asked of it came too late: it ended on the way.
    **_rows(["FILLED", "CANCELED", "EXPIRED", "REJECTED"], ["CANCEL_REJECTED", "REPLACE_REJECTED"], Then.SAME),
    # After the end: a trade that was reported late has happened all the same, and an unconfirmed order may have lived.
    **_rows(["CANCELED", "EXPIRED", "REJECTED"], ["TRADE"], Then.SAME_OR_FILLED),
    **_rows(["FILLED", "PARTIALLY_FILLED"], ["TRADE_CANCEL", "TRADE_CORRECT"], Then.BY_QUANTITY),
    **_rows(
        [*PENDING, "SUSPENDED", "CANCELED", "EXPIRED", "REJECTED"],
        ["TRADE_CANCEL", "TRADE_CORRECT"],
        Then.SAME_OR_FILLED,
    ),
}
"""(state, what happens) -> state. A SUBMIT makes the order, so no state comes before it."""
