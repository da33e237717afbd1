"""The paper market's matching engine. Pure: it is told the time and the market, and answers with reports.

Orders meet what the market offers and one another, at the better price first; at the same price those at the venue come
before the market's, the earlier before the later. Whoever arrives and finds a counterpart takes at the counterpart's
price; whoever rests is served at its own. The same commands and ticks give the same reports.

Rules an exchange has and the order manager cannot enforce, because the market moves on the way: a stop that would
trigger at once, or a post-only order that would trade, is refused; FOK is all or nothing; a reduce-only order never
trades more than the position it reduces; orders of one account do not trade with each other but as the `stp_mode` of
the one that arrives says.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from hub.trading.decimals import EXACT, ratio
from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk.decision import Approved
from hub.trading.venues.base import VenueOrder, VenueReport
from hub.trading.venues.resting import OPPOSITE, LiveOrder, Market, beyond, venue_order_id
from protocol.trading import Book, ExecType, Instrument, PriceTick, Side

COMMISSION_PLACES = 8
CLOSED_KEPT = 10_000  # for `status` and against repeats; the order manager remembers for ever


class Fees(msgspec.Struct, frozen=True, kw_only=True):
    """In basis points of the traded amount, charged in the quote asset. Negative: a rebate."""

    maker_bps: Decimal = Decimal(0)
    taker_bps: Decimal = Decimal(0)


class Matcher:
    """`instrument` answers None for a symbol that is not traded here, or not yet; `position` what an account held of a
    symbol before it traded here, below zero when short.
    """

    def __init__(
        self,
        *,
        instrument: Callable[[str], Instrument | None],
        position: Callable[[str, str], Decimal],
        fees: Fees = Fees(),
    ) -> None:
        self._instrument = instrument
        self._position = position
        self._fees = fees
        self._forget_everything()

    def _forget_everything(self) -> None:
        self._orders: dict[str, LiveOrder] = {}
        self._closed: deque[str] = deque()
        self._markets: dict[str, Market] = {}
        self._positions: dict[tuple[str, str], Decimal] = {}
        self._expiries: list[tuple[int, int, LiveOrder]] = []
        self._arrivals = itertools.count(1)
        self._now_us = 0
        self._out: list[VenueReport] = []

    # Commands

    def submit(self, order: Order, now_us: int) -> list[VenueReport]:
        """An `order_id` that is known already is the same order again: nothing happens."""
        self._now_us = now_us
        if order.order_id in self._orders:
            return []
        live = self._orders[order.order_id] = LiveOrder.of(order)
        market = self._market(order.symbol)
        if self._instrument(order.symbol) is None:
            self._close(live, "REJECTED", reason="UNKNOWN_SYMBOL")
        elif (reason := self._refusal(live, market)) is not None:
            self._close(live, "REJECTED", reason=reason)
        else:
            self._report(live, "NEW")
            self._arrive(live, market)
            self._remember_expiry(live)
        return self._said()

    def replace(self, approved: Approved, now_us: int) -> list[VenueReport]:
        """Less of it keeps its place in the queue; more of it, or another price, is a new arrival."""
        self._now_us = now_us
        live = self._orders.get(approved.order.order_id)
        if live is None:
            return [_unknown(approved.order, "REPLACE_REJECTED", now_us)]
        market = self._market(live.order.symbol)
        wished = _replaced(live, approved)
        if (reason := self._replace_refusal(live, wished, market)) is not None:
            self._report(live, "REPLACE_REJECTED", reason=reason)
        else:
            self._change(live, wished, market)
        return self._said()

    def cancel(self, order: Order, now_us: int) -> list[VenueReport]:
        self._now_us = now_us
        live = self._orders.get(order.order_id)
        if live is None:
            return [_unknown(order, "CANCEL_REJECTED", now_us)]
        if live.open:
            self._close(live, "CANCELED")
        else:
            self._report(live, "CANCEL_REJECTED", reason="TOO_LATE")
        return self._said()

    def status(self, order_id: str) -> VenueOrder | None:
        live = self._orders.get(order_id)
        if live is None:
            return None
        return VenueOrder(
            order_id=order_id,
            venue_order_id=live.venue_order_id,
            open=live.open,
            cum_qty=live.cum,
            reports=tuple(live.reports),
        )

    def restore(self, orders: Iterable[Order], now_us: int) -> list[VenueReport]:
        """Forget everything, and take these orders as they are. What cannot rest expires: its moment is over. What had
        not been accepted arrives with the next price.
        """
        self._forget_everything()
        self._now_us = now_us
        for order in sorted(orders, key=lambda each: (each.created_us, each.order_id)):
            live = self._orders[order.order_id] = LiveOrder.of(order)
            live.arrival = next(self._arrivals)
            if not (live.waits or live.rests):
                self._close(live, "EXPIRED", text="the venue was restarted")
                continue
            market = self._market(order.symbol)
            live.suspended = "SUSPENDED" in (order.status, order.prev_status)
            market.halted = market.halted or live.suspended
            market.turned = True
            if order.venue_order_id is None:
                self._report(live, "NEW")
                live.arrives = not live.waits
            market.enter(live)
            self._remember_expiry(live)
        return self._said()

    # The market

    def book(self, book: Book) -> None:
        self._market(book.symbol).depth.book(book)

    def observe(self, tick: PriceTick) -> None:
        """Know the price, without serving anybody yet."""
        if (instrument := self._instrument(tick.symbol)) is not None:
            market = self._market(tick.symbol)
            market.depth.quote(tick, Decimal(instrument.lot_size))
            halted = tick.state == "HALTED" or (market.halted and not market.depth.tradable)
            market.turned = market.turned or halted != market.halted
            market.halted = halted

    def match(self, symbol: str, now_us: int) -> list[VenueReport]:
        """Serve whom the present price reaches."""
        market = self._market(symbol)
        if not market.occupied:
            return []
        self._now_us = now_us
        self._expire()
        if market.turned:
            self._halt_or_resume(market)
        if not market.halted:
            self._serve(market, "BUY")
            self._serve(market, "SELL")
            if market.depth.tradable:
                self._let_arrive(market)
            self._trigger(market)
        return self._said()

    def expire(self, now_us: int) -> list[VenueReport]:
        """End what is valid no longer."""
        self._now_us = now_us
        self._expire()
        return self._said()

    # Arriving

    def _refusal(self, live: LiveOrder, market: Market) -> Reason | None:
        if market.halted:
            return "INSTRUMENT_HALTED"
        if live.expire_at is not None and live.expire_at <= self._now_us:
            return "EXPIRE_TIME_IN_PAST"
        if not live.waits and live.limit is None and not market.depth.tradable:
            return "STALE_MARKET_DATA"
        if live.waits and self._triggered(live, market):
            return "STOP_WOULD_TRIGGER"
        if not live.waits and self._breaks_post_only(live, market):
            return "POST_ONLY_WOULD_MATCH"
        return None

    def _arrive(self, live: LiveOrder, market: Market) -> None:
        """Take what is there; the rest rests, or expires."""
        live.arrival = next(self._arrivals)
        if live.waits:
            self._follow(live, market)
            market.enter(live)
            return
        if live.order.tif != "FOK" or self._obtainable(live, market) >= live.leaves:
            self._take(live, market)
        if live.open:
            if live.rests:
                market.enter(live)
            else:
                self._close(live, "EXPIRED", text="the market offered no more")

    def _let_arrive(self, market: Market) -> None:
        """Those that the hub sent before it went down."""
        for live in list(market.arriving):
            market.leave(live)
            live.arrives = False
            if self._breaks_post_only(live, market):
                self._close(live, "REJECTED", reason="POST_ONLY_WOULD_MATCH")
            else:
                self._arrive(live, market)

    def _take(self, taker: LiveOrder, market: Market) -> None:
        while taker.open and (wanted := self._wanted(taker)):
            maker = next(iter(market.resting[OPPOSITE[taker.side]]), None)
            offer = market.depth.best(taker.side)
            if maker is not None and (offer is None or not beyond(taker.side, maker.resting_price, offer.price)):
                price = maker.resting_price
                if not taker.reaches(price):
                    return
                if maker.order.account == taker.order.account and taker.order.stp_mode != "NONE":
                    self._prevent(taker, maker)
                elif available := self._wanted(maker):
                    qty = min(wanted, available)
                    self._trade(maker, qty, price, "MAKER")
                    self._trade(taker, qty, price, "TAKER")
            elif offer is not None and taker.reaches(offer.price):
                qty = min(wanted, offer.size)
                market.depth.take(taker.side, qty)
                self._trade(taker, qty, offer.price, "TAKER")
            else:
                return

    def _obtainable(self, taker: LiveOrder, market: Market) -> Decimal:
        """What a FOK order can count on. Nothing from behind an order of its own account that would stop it, and
        nothing from reduce-only orders: how much those may trade changes while they do.
        """
        account, mode = taker.order.account, taker.order.stp_mode
        makers = market.resting[OPPOSITE[taker.side]]
        own = [maker.resting_price for maker in makers if maker.order.account == account]
        stops_at = own[0] if own and mode not in ("NONE", "EXPIRE_MAKER") else None
        offers = [(offer.price, offer.size) for offer in market.depth.offers(taker.side)]
        for maker in makers:
            if not maker.order.reduce_only and (mode == "NONE" or maker.order.account != account):
                offers.append((maker.resting_price, maker.leaves))
        total = Decimal(0)
        for price, size in offers:
            if taker.reaches(price) and (stops_at is None or beyond(taker.side, stops_at, price)):
                total = EXACT.add(total, size)
        return min(total, self._reducible(taker))

    def _breaks_post_only(self, live: LiveOrder, market: Market) -> bool:
        """Whether a post-only order would find a counterpart."""
        if not live.order.post_only:
            return False
        counterparts = [offer.price for offer in [market.depth.best(live.side)] if offer is not None]
        counterparts += [maker.resting_price for maker in market.resting[OPPOSITE[live.side]][:1]]
        return any(live.reaches(price) for price in counterparts)

    # Replacing

    def _replace_refusal(self, live: LiveOrder, wished: LiveOrder, market: Market) -> Reason | None:
        if not live.open or wished.qty < live.cum:
            return "TOO_LATE"
        if market.halted:
            return "INSTRUMENT_HALTED"
        if wished.waits and self._triggered(wished, market):
            return "STOP_WOULD_TRIGGER"
        if not wished.waits and self._breaks_post_only(wished, market):
            return "POST_ONLY_WOULD_MATCH"
        return None

    def _change(self, live: LiveOrder, wished: LiveOrder, market: Market) -> None:
        keeps_place = live.arrives or (wished.price == live.price and wished.qty <= live.qty)
        market.leave(live)
        live.qty, live.price, live.trail = wished.qty, wished.price, wished.trail
        live.stop_price = wished.stop_price
        stop_price = live.stop_price if live.trail is None else None  # where a trailing stop is, is its own affair
        self._report(live, "REPLACED", qty=live.qty, price=live.price, stop_price=stop_price)
        if not live.leaves:
            self._finish(live)
        elif keeps_place:
            self._follow(live, market)
            market.enter(live)
        else:
            self._arrive(live, market)

    # When the market moves

    def _serve(self, market: Market, side: Side) -> None:
        """Those who rest and whom the market has reached, best price first, then the earliest."""
        while market.resting[side]:
            maker = market.resting[side][0]
            offer = market.depth.best(side)
            if offer is None or not maker.reaches(offer.price):
                return
            if wanted := self._wanted(maker):
                qty = min(wanted, offer.size)
                market.depth.take(side, qty)
                self._trade(maker, qty, maker.resting_price, "MAKER")

    def _trigger(self, market: Market) -> None:
        for stop in list(market.stops):
            self._follow(stop, market)
            if not stop.open or not self._triggered(stop, market):
                continue
            market.leave(stop)
            stop.waits = False
            self._report(stop, "TRIGGERED")
            if self._breaks_post_only(stop, market):
                self._close(stop, "REJECTED", reason="POST_ONLY_WOULD_MATCH")
            else:
                self._arrive(stop, market)

    def _triggered(self, stop: LiveOrder, market: Market) -> bool:
        """By the price at which it would trade, as it is usual for quotes: the ask for a buy, the bid for a sell."""
        offer = market.depth.best(stop.side)
        if offer is None or stop.stop_price is None:
            return False
        return offer.price >= stop.stop_price if stop.side == "BUY" else offer.price <= stop.stop_price

    def _follow(self, stop: LiveOrder, market: Market) -> None:
        """A trailing stop follows the market, and never goes back."""
        offer = market.depth.best(stop.side)
        if stop.trail is None or not stop.waits or offer is None:
            return
        if stop.side == "SELL":
            level = EXACT.subtract(offer.price, stop.trail)
            stop.stop_price = level if stop.stop_price is None else max(stop.stop_price, level)
        else:
            level = EXACT.add(offer.price, stop.trail)
            stop.stop_price = level if stop.stop_price is None else min(stop.stop_price, level)

    def _halt_or_resume(self, market: Market) -> None:
        market.turned = False
        for live in market.open_orders():
            if live.suspended != market.halted:
                live.suspended = market.halted
                self._report(live, "SUSPENDED" if live.suspended else "RESTATED")

    def _expire(self) -> None:
        while self._expiries and self._expiries[0][0] <= self._now_us:
            live = heapq.heappop(self._expiries)[2]
            if live.open:
                self._close(live, "EXPIRED")

    def _remember_expiry(self, live: LiveOrder) -> None:
        if not live.open or live.expire_at is None:
            return
        heapq.heappush(self._expiries, (live.expire_at, live.arrival, live))
        if len(self._expiries) > 2 * len(self._orders):  # most of them have ended long before their time
            self._expiries = [each for each in self._expiries if each[2].open]
            heapq.heapify(self._expiries)

    # What happens to an order

    def _wanted(self, live: LiveOrder) -> Decimal:
        """How much it may trade now. A reduce-only order with nothing left to reduce expires: then it is 0."""
        wanted = min(live.leaves, self._reducible(live))
        if not wanted:
            self._close(live, "EXPIRED", reason="REDUCE_ONLY_WOULD_INCREASE")
        return wanted

    def _reducible(self, live: LiveOrder) -> Decimal:
        if not live.order.reduce_only:
            return live.leaves
        held = self._held(live.order)
        return max(Decimal(0), held if live.side == "SELL" else held.copy_negate())

    def _held(self, order: Order) -> Decimal:
        key = (order.account, order.symbol)
        if key not in self._positions:
            self._positions[key] = self._position(*key)
        return self._positions[key]

    def _trade(self, live: LiveOrder, qty: Decimal, price: Decimal, liquidity: str) -> None:
        held = self._held(live.order)
        moved = EXACT.add(held, qty) if live.side == "BUY" else EXACT.subtract(held, qty)
        self._positions[live.order.account, live.order.symbol] = moved
        live.cum = EXACT.add(live.cum, qty)
        bps = self._fees.maker_bps if liquidity == "MAKER" else self._fees.taker_bps
        amount = EXACT.multiply(EXACT.multiply(qty, price), bps)
        instrument = self._instrument(live.order.symbol)
        self._report(
            live,
            "TRADE",
            trade_id=live.next_exec_id,
            last_qty=qty,
            last_px=price,
            liquidity=liquidity,
            commission=ratio(amount, Decimal(10_000), COMMISSION_PLACES),
            commission_asset=instrument.quote if instrument is not None else None,
        )
        if not live.leaves:
            self._finish(live)

    def _prevent(self, taker: LiveOrder, maker: LiveOrder) -> None:
        """They would trade with each other: do to them what the arriving one's mode says. Not for NONE."""
        mode = taker.order.stp_mode
        qty = min(taker.leaves, maker.leaves)
        ending = {
            "EXPIRE_TAKER": [taker],
            "EXPIRE_MAKER": [maker],
            "EXPIRE_BOTH": [maker, taker],
            "DECREMENT": [live for live in (maker, taker) if live.leaves == qty],
        }[mode]
        for live in (maker, taker):
            smaller = mode == "DECREMENT" and live not in ending
            if smaller:
                live.qty = EXACT.subtract(live.qty, qty)
            self._report(
                live,
                "TRADE_PREVENTION",
                last_qty=qty,
                last_px=maker.resting_price,
                qty=live.qty if smaller else None,
                reason="SELF_TRADE_PREVENTED",
            )
        for live in ending:
            self._close(live, "EXPIRED", reason="SELF_TRADE_PREVENTED")

    def _close(
        self, live: LiveOrder, exec_type: ExecType, *, reason: Reason | None = None, text: str | None = None
    ) -> None:
        self._finish(live)
        self._report(live, exec_type, reason=reason, text=text)

    def _finish(self, live: LiveOrder) -> None:
        self._market(live.order.symbol).leave(live)
        live.open = False
        self._closed.append(live.order.order_id)
        if len(self._closed) > CLOSED_KEPT:
            del self._orders[self._closed.popleft()]

    def _report(self, live: LiveOrder, exec_type: ExecType, **facts: Any) -> None:
        report = VenueReport(
            order_id=live.order.order_id,
            exec_type=exec_type,
            exec_id=live.next_exec_id,
            ts_event=self._now_us,
            venue_order_id=live.venue_order_id,
            **facts,
        )
        live.reports.append(report)
        self._out.append(report)

    def _said(self) -> list[VenueReport]:
        said, self._out = self._out, []
        return said

    def _market(self, symbol: str) -> Market:
        market = self._markets.get(symbol)
        if market is None:
            market = self._markets[symbol] = Market()
        return market


def _replaced(live: LiveOrder, approved: Approved) -> LiveOrder:
    """The order as it is wished. At another distance a trailing stop follows anew."""
    trail = live.trail if approved.trail is None else approved.trail
    stop_price = live.stop_price if approved.stop_price is None else approved.stop_price
    return dataclasses.replace(
        live,
        qty=live.qty if approved.qty is None else approved.qty,
        price=live.price if approved.price is None else approved.price,
        stop_price=stop_price if trail == live.trail else None,
        trail=trail,
    )


def _unknown(order: Order, exec_type: ExecType, now_us: int) -> VenueReport:
    return VenueReport(
        order_id=order.order_id,
        exec_type=exec_type,
        exec_id=f"{venue_order_id(order.order_id)}-{exec_type.lower()}-{order.version}",
        ts_event=now_us,
        reason="UNKNOWN_ORDER",
    )
