"""A strategy's own orders and what they made it hold. Pure: it hears reports and makes commands."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from decimal import Decimal

from hub.trading.decimals import EXACT, text
from hub.trading.orders.order import CLOSED
from protocol.trading import (
    ExecutionReport,
    OrderCancel,
    OrderReplace,
    OrderSubmit,
    OrderType,
    OrdStatus,
    Side,
    TimeInForce,
)

MAX_CLOSED = 1_000  # orders that still may be corrected
IDLE: frozenset[OrdStatus] = frozenset({"NEW", "PARTIALLY_FILLED"})


class Own:
    """One order of the strategy. `client_order_id` is the newest, after a replacement that was accepted."""

    __slots__ = ("client_order_id", "cum_qty", "leaves_qty", "price", "side", "status", "symbol")

    def __init__(self, order: OrderSubmit) -> None:
        self.client_order_id = order.client_order_id
        self.symbol = order.symbol
        self.side: Side = order.side
        self.price = Decimal(order.price) if order.price is not None else None
        self.status: OrdStatus = "INITIALIZED"
        self.cum_qty = Decimal(0)
        self.leaves_qty = Decimal(order.qty)

    @property
    def idle(self) -> bool:
        """At the venue, and nothing is under way: it can be replaced or canceled."""
        return self.status in IDLE


class Blotter:
    """`run` is part of every client order id and must differ from run to run: an id is for ever."""

    def __init__(self, *, account: str, strategy_id: str, run: str) -> None:
        self.account = account
        self.strategy_id = strategy_id
        self._run = run
        self._count = 0
        self._by_id: dict[str, Own] = {}
        self._open: dict[int, Own] = {}  # by identity, in the order in which they were made
        self._closed: OrderedDict[int, list[str]] = OrderedDict()
        self._positions: dict[str, Decimal] = {}

    def position(self, symbol: str) -> Decimal:
        """What the orders of this run have bought of it less what they have sold."""
        return self._positions.get(symbol, Decimal(0))

    def open(self, symbol: str) -> Iterator[Own]:
        return (own for own in [*self._open.values()] if own.symbol == symbol)

    def submit(
        self,
        symbol: str,
        side: Side,
        qty: Decimal,
        *,
        order_type: OrderType = "LIMIT",
        price: Decimal | None = None,
        tif: TimeInForce = "GTC",
        post_only: bool = False,
    ) -> OrderSubmit:
        """A new order, which counts as open from now on."""
        order = OrderSubmit(
            account=self.account,
            client_order_id=self._next_id(),
            symbol=symbol,
            side=side,
            order_type=order_type,
            qty=text(qty),
            price=text(price) if price is not None else None,
            tif=tif,
            post_only=post_only,
            strategy_id=self.strategy_id,
        )
        own = Own(order)
        self._by_id[order.client_order_id] = self._open[id(own)] = own
        return order

    def replace(self, own: Own, *, price: Decimal) -> OrderReplace:
        own.status = "PENDING_REPLACE"
        command = OrderReplace(
            account=self.account,
            orig_client_order_id=own.client_order_id,
            client_order_id=self._next_id(),
            price=text(price),
        )
        self._by_id[command.client_order_id] = own
        return command

    def cancel(self, own: Own) -> OrderCancel:
        own.status = "PENDING_CANCEL"
        return OrderCancel(account=self.account, client_order_id=own.client_order_id)

    def cancel_open(self, symbol: str) -> list[OrderCancel]:
        """A cancel for each open order that can be canceled now."""
        return [self.cancel(own) for own in self.open(symbol) if own.idle]

    def hear(self, report: ExecutionReport) -> bool:
        """Take a report in; False: it is about somebody else's order."""
        own = self._by_id.get(report.client_order_id)
        if own is None:
            return False
        if report.cum_qty is not None:
            self._count_execution(own, Decimal(report.cum_qty))
        if report.leaves_qty is not None:
            own.leaves_qty = Decimal(report.leaves_qty)
        if report.exec_type == "REPLACED":
            own.client_order_id = report.client_order_id
        if report.price is not None:
            own.price = Decimal(report.price)
        own.status = report.ord_status
        if own.status in CLOSED:
            self._close(own)
        return True

    def refused(self, command: OrderSubmit | OrderReplace | OrderCancel) -> None:
        """A command that nobody took and that changed nothing."""
        own = self._by_id.get(
            command.orig_client_order_id if isinstance(command, OrderReplace) else command.client_order_id
        )
        if own is None or own.status in CLOSED:
            return
        if isinstance(command, OrderSubmit):
            own.status = "DENIED"
            self._close(own)
        else:
            own.status = "PARTIALLY_FILLED" if own.cum_qty else "NEW"

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._run}-{self._count}"

    def _count_execution(self, own: Own, cum_qty: Decimal) -> None:
        change = EXACT.subtract(cum_qty, own.cum_qty)
        own.cum_qty = cum_qty
        signed = change if own.side == "BUY" else -change
        self._positions[own.symbol] = EXACT.add(self.position(own.symbol), signed)

    def _close(self, own: Own) -> None:
        if self._open.pop(id(own), None) is None:
            return
        self._closed[id(own)] = [name for name, known in self._by_id.items() if known is own]
        if len(self._closed) > MAX_CLOSED:
            _, names = self._closed.popitem(last=False)
            for name in names:
                del self._by_id[name]
