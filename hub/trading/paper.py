"""A simulated trader for the demo: invented orders against simulated prices, no venue, no risk checks, no money.

It is not the order manager. What it publishes is shaped like an order manager's output: every report follows a legal
transition, `exec_id`s are unique, `cum_qty` + `leaves_qty` = `order_qty` while an order is open, and `leaves_qty` is 0
once it is closed. Deterministic for a seed, a start and the ticks it is shown. Every report has `paper: true`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from hub.trading.decimals import EXACT, ratio, text
from hub.trading.market.simulator import SIMULATED, Instrument
from hub.trading.outgoing import Outgoing
from protocol.trading import ExecType, ExecutionReport, OrdStatus, PriceTick, Side

MAX_OPEN = 4
MAX_POSITION = 6  # in typical sizes

TRANSITIONS: dict[tuple[OrdStatus, ExecType], tuple[OrdStatus, ...]] = {
    ("INITIALIZED", "PENDING_NEW"): ("PENDING_NEW",),
    ("PENDING_NEW", "NEW"): ("NEW",),
    ("NEW", "TRADE"): ("PARTIALLY_FILLED", "FILLED"),
    ("PARTIALLY_FILLED", "TRADE"): ("PARTIALLY_FILLED", "FILLED"),
    ("NEW", "PENDING_REPLACE"): ("PENDING_REPLACE",),
    ("PARTIALLY_FILLED", "PENDING_REPLACE"): ("PENDING_REPLACE",),
    ("PENDING_REPLACE", "REPLACED"): ("NEW", "PARTIALLY_FILLED"),
    ("NEW", "PENDING_CANCEL"): ("PENDING_CANCEL",),
    ("PARTIALLY_FILLED", "PENDING_CANCEL"): ("PENDING_CANCEL",),
    ("PENDING_CANCEL", "CANCELED"): ("CANCELED",),
    ("PENDING_CANCEL", "TRADE"): ("PENDING_CANCEL", "FILLED"),
}
CLOSED: frozenset[OrdStatus] = frozenset({"FILLED", "CANCELED"})


@dataclass
class _Order:
    id: int
    instrument: Instrument
    side: Side
    qty: Decimal
    price: Decimal
    status: OrdStatus = "INITIALIZED"
    cum: Decimal = Decimal(0)
    notional: Decimal = Decimal(0)
    next_price: Decimal | None = None  # what a replacement under way asks for
    accepted: bool = False  # the venue has given it an id
    rested: bool = False  # it did not find its counterpart at once: from then on it makes the price

    @property
    def leaves(self) -> Decimal:
        return self.qty - self.cum


class SimulatedTrader:
    """Show it ticks with `observe`, then `step` it about twice a second; it answers reports to publish."""

    def __init__(self, seed: int, *, start_us: int, instruments: Sequence[Instrument], account: str = "demo") -> None:
        self._account = account
        self._random = random.Random(f"{seed}:{account}")
        self._run = f"{start_us:x}"  # in every id: two runs must not share them
        self._instruments = instruments
        self._ticks: dict[str, PriceTick] = {}
        self._orders: list[_Order] = []
        self._positions: dict[str, Decimal] = {}
        self._count = 0
        self._executions = 0

    def observe(self, tick: PriceTick) -> None:
        self._ticks[tick.symbol] = tick

    def step(self, now_us: int) -> list[Outgoing]:
        out: list[Outgoing] = []
        for order in list(self._orders):
            out += self._advance(order, now_us)
        self._orders = [order for order in self._orders if order.status not in CLOSED]
        if len(self._orders) < MAX_OPEN and self._random.random() < 0.35:
            out += self._place(now_us)
        return out

    def _place(self, now_us: int) -> list[Outgoing]:
        instrument = self._random.choice(self._instruments)
        tick = self._live(instrument.symbol)
        if tick is None or tick.bid is None or tick.ask is None:
            return []
        side = self._side(instrument)
        touch = Decimal(tick.bid if side == "BUY" else tick.ask)
        far = Decimal(tick.ask if side == "BUY" else tick.bid)
        lots = max(2, round(instrument.typical_lots * self._random.uniform(0.3, 1.5)))
        self._count += 1
        order = _Order(
            id=self._count,
            instrument=instrument,
            side=side,
            qty=Decimal(instrument.size_of(lots)),
            price=far if self._random.random() < 0.4 else touch,
        )
        self._orders.append(order)
        submitted = self._report(order, "SUBMIT", "INITIALIZED", now_us, first=True)
        return [submitted, self._report(order, "PENDING_NEW", "PENDING_NEW", now_us)]

    def _side(self, instrument: Instrument) -> Side:
        position = self._positions.get(instrument.symbol, Decimal(0))
        if abs(position) > MAX_POSITION * Decimal(instrument.typical_size):
            return "SELL" if position > 0 else "BUY"
        return "BUY" if self._random.random() < 0.5 else "SELL"

    def _advance(self, order: _Order, now_us: int) -> list[Outgoing]:
        match order.status:
            case "PENDING_NEW":
                order.accepted = True
                return [self._report(order, "NEW", "NEW", now_us)]
            case "PENDING_CANCEL":
                if self._random.random() < 0.3:  # the fill was faster than the cancel
                    return self._fill(order, now_us)
                return [self._report(order, "CANCELED", "CANCELED", now_us)]
            case "PENDING_REPLACE":
                order.price, order.next_price = order.next_price or order.price, None
                return [self._report(order, "REPLACED", _working_status(order), now_us)]
            case _:
                return self._work(order, now_us)

    def _work(self, order: _Order, now_us: int) -> list[Outgoing]:
        if filled := self._fill(order, now_us):
            return filled
        order.rested = True
        choice = self._random.random()
        if choice < 0.04:
            return [self._report(order, "PENDING_CANCEL", "PENDING_CANCEL", now_us)]
        tick = self._live(order.instrument.symbol)
        if choice < 0.12 and tick is not None and tick.bid is not None and tick.ask is not None:
            touch = Decimal(tick.bid if order.side == "BUY" else tick.ask)
            if touch != order.price:
                order.next_price = touch
                return [self._report(order, "PENDING_REPLACE", "PENDING_REPLACE", now_us)]
        return []

    def _fill(self, order: _Order, now_us: int) -> list[Outgoing]:
        """What the market gives now: all who reach the other side are served, those at the touch now and then."""
        tick = self._live(order.instrument.symbol)
        if tick is None or tick.bid is None or tick.ask is None:
            return []
        buys = order.side == "BUY"
        far = Decimal(tick.ask if buys else tick.bid)
        touch = Decimal(tick.bid if buys else tick.ask)
        crosses = order.price >= far if buys else order.price <= far
        at_touch = order.price >= touch if buys else order.price <= touch
        if not crosses and not (at_touch and self._random.random() < 0.25):
            return []
        share = Decimal(self._random.choice(("0.3", "0.6", "1")))
        lot = Decimal(order.instrument.lot_size)
        qty = min(order.leaves, max(lot, (order.leaves * share // lot) * lot))
        takes = crosses and not order.rested
        price = far if takes else order.price
        order.cum += qty
        order.notional = EXACT.add(order.notional, EXACT.multiply(price, qty))
        symbol = order.instrument.symbol
        self._positions[symbol] = self._positions.get(symbol, Decimal(0)) + (qty if buys else -qty)
        return self._filled(order, qty, price, takes, now_us)

    def _filled(self, order: _Order, qty: Decimal, price: Decimal, takes: bool, now_us: int) -> list[Outgoing]:
        if not order.leaves:
            status: OrdStatus = "FILLED"
        else:
            status = "PENDING_CANCEL" if order.status == "PENDING_CANCEL" else "PARTIALLY_FILLED"
        trade = self._report(order, "TRADE", status, now_us, last=(qty, price), taker=takes)
        return [trade, trade._replace(channel=f"fills:{self._account}")]

    def _report(
        self,
        order: _Order,
        exec_type: ExecType,
        status: OrdStatus,
        now_us: int,
        *,
        first: bool = False,
        last: tuple[Decimal, Decimal] | None = None,
        taker: bool = False,
    ) -> Outgoing:
        """Move the order on and say so. Raises ValueError for a transition that is not in the table."""
        if not first and status not in TRANSITIONS.get((order.status, exec_type), ()):
            raise ValueError(f"no transition {order.status} -{exec_type}-> {status}")
        previous, order.status = order.status, status
        self._executions += 1
        instrument = order.instrument
        places = len(instrument.tick_size.partition(".")[2]) + 4
        report = ExecutionReport(
            account=self._account,
            client_order_id=f"sim-{self._run}-{order.id}",
            order_id=f"sim-order-{self._run}-{order.id}",
            venue="simulator",
            venue_order_id=f"sim-venue-{self._run}-{order.id}" if order.accepted else None,
            exec_id=f"sim-exec-{self._run}-{self._executions}",
            symbol=instrument.symbol,
            side=order.side,
            order_type="LIMIT",
            tif="GTC",
            exec_type=exec_type,
            ord_status=status,
            prev_status=None if first else previous,
            price=text(order.price),
            order_qty=text(order.qty),
            cum_qty=text(order.cum),
            leaves_qty="0" if status in CLOSED else text(order.leaves),
            avg_px=text(ratio(order.notional, order.cum, places)) if order.cum else None,
            last_qty=text(last[0]) if last else None,
            last_px=text(last[1]) if last else None,
            trade_id=f"sim-trade-{self._run}-{self._executions}" if last else None,
            liquidity=("TAKER" if taker else "MAKER") if last else None,
            working=status in ("NEW", "PARTIALLY_FILLED", "PENDING_CANCEL", "PENDING_REPLACE"),
            position_qty=text(self._positions.get(instrument.symbol, Decimal(0))) if last else None,
            paper=True,
            ts_event=now_us,
            ext=SIMULATED,
        )
        return Outgoing(f"orders:{self._account}", "EXECUTION_REPORT", report)

    def _live(self, symbol: str) -> PriceTick | None:
        """The symbol's price, unless nobody stands behind it."""
        tick = self._ticks.get(symbol)
        return tick if tick is not None and tick.state in ("LIVE", "DEGRADED") else None


def _working_status(order: _Order) -> OrdStatus:
    return "PARTIALLY_FILLED" if order.cum else "NEW"
