"""What we missed of an order, by comparing our record of it with the venue's.

Pure, and safe to repeat: the ids of what is inferred depend only on the facts, so that neither a second comparison nor
a restart counts anything twice.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from decimal import Decimal

import msgspec

from hub.trading.decimals import EXACT, ratio
from hub.trading.orders.order import CLOSED, OPEN, Order
from hub.trading.reasons import Reason
from hub.trading.venues.base import VenueOrder, VenueReport
from protocol.trading import ExecType

IN_FLIGHT_US = 5_000_000  # so long a command or its answer may be on its way; as Nautilus has it
INFERRED_PLACES = 12
ENDINGS: frozenset[ExecType] = frozenset({"CANCELED", "EXPIRED", "REJECTED"})
CORRECTIONS: frozenset[ExecType] = frozenset({"TRADE_CANCEL", "TRADE_CORRECT"})


class Reconciled(msgspec.Struct, frozen=True, kw_only=True):
    """`reports` are to be applied in this order, as if the venue had just sent them. `cancel_again`: our cancel has not
    had its effect. `unexplained` is what traded there at a price that nobody can tell: a person must look at it.
    """

    reports: tuple[VenueReport, ...] = ()
    cancel_again: bool = False
    unexplained: Decimal = Decimal(0)


def reconcile(ours: Order, theirs: VenueOrder | None, *, seen: Set[str], now_us: int) -> Reconciled:
    """`seen`: the `exec_id`s and `trade_id`s in our record of this order. `theirs` None: the venue never heard of it.

    What the venue reports and we have not seen comes first, as it is; then what only its totals tell: a trade for the
    missing quantity, and an end. What may still be on its way is left alone; PENDING_NEW is for whoever counts tries.
    """
    settled = now_us - ours.updated_us >= IN_FLIGHT_US
    if theirs is None:
        gone = settled and ours.status in OPEN
        return Reconciled(reports=(_inferred(ours, "CANCELED", "unknown", now_us, "UNKNOWN_ORDER"),) if gone else ())
    reports = [each for each in theirs.reports if not _is_known(each, seen)]
    answers = {each.exec_type for each in reports}
    missing, unexplained = _missing_trade(ours, theirs, reports, now_us), Decimal(0)
    if missing is not None and missing.last_px is not None:
        _insert_before_end(reports, missing)
    elif missing is not None:
        unexplained = missing.last_qty or unexplained
    if not theirs.open and ours.status not in CLOSED and not answers & ENDINGS and theirs.cum_qty < _qty(ours, reports):
        reports.append(_inferred(ours, "CANCELED", "closed", now_us))
    waits = settled and theirs.open
    if waits and ours.status == "PENDING_REPLACE" and not answers & {"REPLACED", "REPLACE_REJECTED"}:
        reports.append(_inferred(ours, "REPLACE_REJECTED", f"replace-{ours.version}", now_us, "UNCONFIRMED"))
    cancel_again = waits and ours.status == "PENDING_CANCEL" and "CANCEL_REJECTED" not in answers
    return Reconciled(reports=tuple(reports), cancel_again=cancel_again, unexplained=unexplained)


def _is_known(report: VenueReport, seen: Set[str]) -> bool:
    """A trade also by its trade id; what corrects a trade names the id of that one."""
    return report.exec_id in seen or (report.exec_type == "TRADE" and report.trade_id in seen)


def _missing_trade(ours: Order, theirs: VenueOrder, missed: Sequence[VenueReport], now_us: int) -> VenueReport | None:
    """What the venue's total holds beyond its reports. Its price follows from the average, or is the order's own."""
    trades = [each for each in missed if each.exec_type == "TRADE" and each.last_qty and each.last_px]
    known, amount = ours.cum_qty, ours.filled
    for each in trades:
        assert each.last_qty is not None and each.last_px is not None
        known = EXACT.add(known, each.last_qty)
        amount = EXACT.fma(each.last_qty, each.last_px, amount)
    qty = EXACT.subtract(theirs.cum_qty, known)
    if qty <= 0 or any(each.exec_type in CORRECTIONS for each in missed):
        return None
    price = ours.price
    if theirs.avg_px is not None:
        price = ratio(EXACT.subtract(EXACT.multiply(theirs.avg_px, theirs.cum_qty), amount), qty, INFERRED_PLACES)
    trade = _inferred(ours, "TRADE", f"trade-{theirs.cum_qty.normalize():f}", now_us)
    return msgspec.structs.replace(trade, trade_id=trade.exec_id, last_qty=qty, last_px=price)


def _insert_before_end(reports: list[VenueReport], trade: VenueReport) -> None:
    at = next((n for n, each in enumerate(reports) if each.exec_type in ENDINGS), len(reports))
    reports.insert(at, trade)


def _qty(ours: Order, missed: Sequence[VenueReport]) -> Decimal:
    """What the order is for, after the changes we missed."""
    return next((each.qty for each in reversed(missed) if each.qty is not None), ours.qty)


def _inferred(ours: Order, exec_type: ExecType, fact: str, now_us: int, reason: Reason | None = None) -> VenueReport:
    return VenueReport(
        order_id=ours.order_id,
        exec_type=exec_type,
        exec_id=f"reconciled-{ours.order_id}-{fact}",
        ts_event=now_us,
        venue_order_id=ours.venue_order_id,
        reason=reason,
        text="inferred by comparing with the venue",
    )
