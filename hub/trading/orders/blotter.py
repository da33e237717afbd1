"""The orders that the engine has in memory: all that may still trade, and the newest of those that have ended.

Rule: an order that is not here is in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec

from hub.trading.orders.event import Event
from hub.trading.orders.order import CLOSED, Order, Wish
from protocol.trading import OrderReplace, OrderSubmit

MAX_ENDED = 10_000


class Entry:
    """An order, the names it was given, and the ids of what was said of it. `pending` is done when its newest event is
    written down."""

    __slots__ = ("names", "order", "pending", "seen")

    def __init__(self, order: Order) -> None:
        self.order = order
        self.pending: asyncio.Future[None] | None = None
        self.names: list[str] = []
        self.seen: set[str] = set()

    def note(self, event: Event) -> None:
        self.seen.add(event.exec_id)
        if event.trade_id is not None and event.exec_type == "TRADE":
            self.seen.add(event.trade_id)


class Blotter:
    def __init__(self, *, max_ended: int = MAX_ENDED) -> None:
        self._max_ended = max_ended
        self._entries: dict[str, Entry] = {}
        self._names: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._alive: dict[str, dict[str, Order]] = {}  # account -> order_id -> order
        self._linked: dict[tuple[str, str], set[str]] = {}  # (account, list_id) -> those of one OCO list that live
        self._ended: dict[str, None] = {}  # in the order in which they ended
        self._decided: dict[tuple[str, str], None] = {}  # OCO lists of which an order has traded, the newest last

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, order: Order) -> Entry:
        """The order as it is now."""
        entry = self._entries.get(order.order_id)
        if entry is None:
            entry = self._entries[order.order_id] = Entry(order)
        entry.order = order
        if order.contingency == "OCO" and order.list_id is not None and order.cum_qty:
            self._decided[order.account, order.list_id] = None
            if len(self._decided) > self._max_ended:
                del self._decided[next(iter(self._decided))]
        if order.status in CLOSED:
            self._bury(order)
        else:
            self._ended.pop(order.order_id, None)
            self._alive.setdefault(order.account, {})[order.order_id] = order
            if order.contingency == "OCO" and order.list_id is not None:
                self._linked.setdefault((order.account, order.list_id), set()).add(order.order_id)
        return entry

    def name(self, account: str, client_order_id: str, order_id: str, fingerprint: bytes) -> None:
        self._names[account, client_order_id] = (order_id, fingerprint)
        self._entries[order_id].names.append(client_order_id)

    def drop(self, order_id: str) -> None:
        """It was never written down, or is not needed any more."""
        entry = self._entries.pop(order_id, None)
        if entry is None:
            return
        account = entry.order.account
        self._ended.pop(order_id, None)
        for name in entry.names:
            self._names.pop((account, name), None)
        self._leave(entry.order)

    def get(self, order_id: str) -> Entry | None:
        return self._entries.get(order_id)

    def find(self, account: str, client_order_id: str) -> Order | None:
        """By any of its names."""
        found = self._names.get((account, client_order_id))
        return self._entries[found[0]].order if found is not None else None

    def fingerprint(self, account: str, client_order_id: str) -> bytes | None:
        found = self._names.get((account, client_order_id))
        return found[1] if found is not None else None

    def alive(self, account: str) -> Iterable[Order]:
        """The account's orders that have not ended, oldest first. Copy before something happens to them."""
        return self._alive.get(account, {}).values()

    def all_alive(self) -> Iterator[Order]:
        for orders in self._alive.values():
            yield from orders.values()

    def linked(self, order: Order) -> list[Order]:
        """The others of its OCO list that live."""
        if order.contingency != "OCO" or order.list_id is None:
            return []
        ids = self._linked.get((order.account, order.list_id), set())
        return [self._entries[each].order for each in sorted(ids) if each != order.order_id]

    def decided(self, order: Order) -> bool:
        """Another order of its OCO list has traded, as far as that is still in memory."""
        return order.contingency == "OCO" and (order.account, order.list_id) in self._decided

    def _bury(self, order: Order) -> None:
        self._leave(order)
        self._ended[order.order_id] = None
        if len(self._ended) > self._max_ended:
            self.drop(next(iter(self._ended)))

    def _leave(self, order: Order) -> None:
        alive = self._alive.get(order.account, {})
        alive.pop(order.order_id, None)
        if not alive:
            self._alive.pop(order.account, None)
        if order.list_id is not None and (ids := self._linked.get((order.account, order.list_id))) is not None:
            ids.discard(order.order_id)
            if not ids:
                del self._linked[order.account, order.list_id]


def order_of(asked: OrderSubmit, *, order_id: str, user: str, now_us: int) -> Order:
    qty = Decimal(asked.qty)
    return Order(
        order_id=order_id,
        account=asked.account,
        client_order_id=asked.client_order_id,
        symbol=asked.symbol,
        side=asked.side,
        order_type=asked.order_type,
        qty=qty,
        leaves_qty=qty,
        price=number(asked.price),
        stop_price=number(asked.stop_price),
        trail=number(asked.trail),
        tif=asked.tif,
        expire_at=asked.expire_at,
        post_only=asked.post_only,
        reduce_only=asked.reduce_only,
        stp_mode=asked.stp_mode,
        strategy_id=asked.strategy_id,
        tag=asked.tag,
        list_id=asked.list_id,
        contingency=asked.contingency,
        user=user,
        created_us=now_us,
        updated_us=now_us,
    )


def wish_of(asked: OrderReplace) -> Wish:
    return Wish(
        client_order_id=asked.client_order_id,
        qty=number(asked.qty),
        price=number(asked.price),
        stop_price=number(asked.stop_price),
        trail=number(asked.trail),
    )


def number(value: str | None) -> Decimal | None:
    return Decimal(value) if value is not None else None


def fingerprint_of_order(order: Order) -> bytes:
    """Tells a repeated submit from another one under the same name: 1.0 and 1 are the same."""
    return _fingerprint(
        (order.symbol, order.side, order.order_type, order.tif, order.expire_at, order.post_only, order.reduce_only),
        (order.stp_mode, order.strategy_id, order.tag, order.list_id, order.contingency),
        tuple(map(_plain, (order.qty, order.price, order.stop_price, order.trail))),
    )


def fingerprint_of_wish(order_id: str, wish: Wish) -> bytes:
    return _fingerprint(order_id, tuple(map(_plain, (wish.qty, wish.price, wish.stop_price, wish.trail))))


def _plain(value: Decimal | None) -> str | None:
    return format(value.normalize(), "f") if value is not None else None


def _fingerprint(*said: object) -> bytes:
    return hashlib.blake2b(msgspec.msgpack.encode(said), digest_size=16).digest()
