"""The order engine: the one writer of orders, on the node that leads.

Decisions are synchronous, over what is in memory, and are remembered at once; then they wait for their commit. If a
commit fails, memory and log may differ: the engine ends, and another one begins with the log.

Rule: a venue hears of a command after its commit, and of an order only if the risk checks approved it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from hub.clock import Clock
from hub.trading.accounts import Account, UnknownExecution, apply_execution, begin_day
from hub.trading.decimals import EXACT
from hub.trading.orders.blotter import (
    Blotter,
    Entry,
    fingerprint_of_order,
    fingerprint_of_wish,
    order_of,
    wish_of,
)
from hub.trading.orders.event import Event
from hub.trading.orders.fold import InvalidTransition, apply, replay
from hub.trading.orders.journal import Change, NameTaken
from hub.trading.orders.order import CLOSED, Order, Wish
from hub.trading.orders.ports import Past, Writes
from hub.trading.orders.reporting import (
    HUB,
    TRADES,
    alert,
    approval_of,
    channels_of,
    decode_event,
    encoded,
    publication,
    report_of,
    status_of,
)
from hub.trading.orders.transitions import LIVE, TRANSITIONS
from hub.trading.reasons import Reason
from hub.trading.risk.decision import Approved, NeedsApproval
from hub.trading.risk.desk import RiskDesk
from hub.trading.risk.facts import Market, gather
from hub.trading.risk.view import Override
from hub.trading.venues.base import Venue, VenueReport, VenueUnreachable
from protocol.errors import ErrorCode, HubError
from protocol.trading import (
    ExecType,
    ExecutionReport,
    OrderCancel,
    OrderCancelAll,
    OrderReplace,
    OrderSubmit,
    RiskDecision,
    TradingScope,
)
from storage.orders import NewEvent, NewName

logger = logging.getLogger("krin.orders")

MAX_UNSENT = 10_000  # commands on their way to the venue
MAX_UNWRITTEN = 1_024  # changes, beyond which the venue's reports wait
ORDERS_PER_CHANGE = 256

Hear = Callable[[Order, Event, Account], None]
"""(order after it, what happened, its account after it), once that is committed. Must not raise or block."""


class Funds(Protocol):
    def __call__(self, account: str) -> Account:
        """An account that nobody has traded for yet."""
        ...


class Engine:
    """One term of leadership. `accounts` are those that have traded."""

    def __init__(
        self,
        journal: Writes,
        log: Past,
        venue: Venue,
        desk: RiskDesk,
        market: Market,
        *,
        blotter: Blotter,
        accounts: dict[str, Account],
        funds: Funds,
        listeners: Sequence[Hear],
        clock: Clock,
    ) -> None:
        self.blotter = blotter
        self.accounts = accounts
        self._journal = journal
        self._log = log
        self._venue = venue
        self._desk = desk
        self._market = market
        self._funds = funds
        self._listeners = listeners
        self._clock = clock
        self._numbers = 0
        self._unsent: deque[Callable[[], Coroutine[Any, Any, None]]] = deque()
        self._to_send = asyncio.Event()
        self.repeats = 0  # reports that a venue sent twice
        self.illegal = 0  # reports that no order in that state can have

    # --- commands ---

    async def submit(self, asked: OrderSubmit, *, user: str) -> ExecutionReport:
        """The order is PENDING_NEW, PENDING_APPROVAL or DENIED, or what has become of it if it was placed before.

        Raises HubError(idempotency_conflict) for another order under the same name.
        """
        now_us = self._clock.now_us()
        order = order_of(asked, order_id=self._next_id(), user=user, now_us=now_us)
        fingerprint = fingerprint_of_order(order)
        name = (order.account, order.client_order_id)
        if self.blotter.fingerprint(*name) is not None:
            return await self._repeated(*name, fingerprint)
        self._journal.require_room()
        change = Change()
        change.order = (order.order_id, order.account, order.symbol, order.side)
        change.names.append(NewName(*name, order.order_id, fingerprint))
        change.undo = partial(self.blotter.drop, order.order_id)
        self._happen(change, self._event(order, "SUBMIT", actor=user, order=order))
        self.blotter.name(*name, order.order_id, fingerprint)
        if self.blotter.decided(order):
            text = "another order of its list has traded"
            _, report = self._happen(change, self._event(order, "DENIED", actor=HUB, reason="TOO_LATE", text=text))
        else:
            report = self._judge(change, order, actor=user)
        try:
            await self._journal.add(change)
        except NameTaken:
            return await self._repeated_in_log(*name, fingerprint)
        return report

    def validate(self, asked: OrderSubmit, *, user: str) -> RiskDecision:
        """What `submit` would be told, with every fault; nothing comes of it."""
        order = order_of(asked, order_id="", user=user, now_us=self._clock.now_us())
        return self._desk.validate(order, gather(order, **self._known(order)))

    async def replace(self, asked: OrderReplace, *, user: str) -> ExecutionReport:
        """PENDING_REPLACE, or the REPLACE_REJECTED of the risk checks.

        Raises HubError(not_found, illegal_transition, idempotency_conflict).
        """
        account, wish = asked.account, wish_of(asked)
        order_id = (await self.find(account, asked.orig_client_order_id)).order_id
        fingerprint = fingerprint_of_wish(order_id, wish)
        if self.blotter.fingerprint(account, wish.client_order_id) is None:
            found = await self._log.find(account, wish.client_order_id)
            if found is not None and self.blotter.fingerprint(account, wish.client_order_id) is None:
                return await self._repeated_in_log(account, wish.client_order_id, fingerprint)
        if self.blotter.fingerprint(account, wish.client_order_id) is not None:
            return await self._repeated(account, wish.client_order_id, fingerprint)
        entry = self.blotter.get(order_id)
        if entry is None or entry.order.status not in LIVE:
            raise _illegal("replace", entry.order if entry is not None else None)
        order = entry.order
        if wish.qty is not None and wish.qty <= order.cum_qty:
            raise HubError(ErrorCode.ILLEGAL_TRANSITION, "TOO_LATE: as much of the order has traded", path="$.qty")
        self._journal.require_room()
        wished = _wished(order, wish)
        outcome = self._desk.decide(wished, gather(wished, **self._known(order)), replaces=order)
        change = Change()
        change.names.append(NewName(account, wish.client_order_id, order_id, fingerprint))
        self.blotter.name(account, wish.client_order_id, order_id, fingerprint)
        self._tell_decision(change, outcome.decision)
        fields = msgspec.structs.asdict(wish)
        pending, report = self._happen(
            change, self._event(order, "PENDING_REPLACE", actor=user, decision=outcome.decision, **fields)
        )
        if isinstance(outcome, Approved):
            change.then.append(partial(self._send, partial(self._venue.replace, outcome)))
        else:
            fault = outcome.decision.faults[0]
            refused = self._event(pending, "REPLACE_REJECTED", actor=HUB, reason=fault.reason, text=fault.text)
            _, report = self._happen(change, refused)
        await self._journal.add(change)
        return report

    async def cancel(self, asked: OrderCancel, *, user: str) -> ExecutionReport:
        """PENDING_CANCEL; CANCELED at once if the order was not at the venue yet.

        Raises HubError(not_found, illegal_transition).
        """
        order = await self.find(asked.account, asked.client_order_id)
        try:
            if order.status == "PENDING_CANCEL":
                return await self._settled(order.order_id)
            self._journal.require_room()
            change = Change()
            report = self._cancel(change, order, actor=user)
            if report is None:
                raise _illegal("cancel", order)
            await self._journal.add(change)
        except NameTaken:  # the name is that of an older order
            return await self.cancel(asked, user=user)
        return report

    async def cancel_all(self, asked: OrderCancelAll, *, user: str, text: str | None = None) -> int:
        """Ask for the cancel of all that fit; answers how many that are."""
        fits = [
            order
            for order in self.blotter.alive(asked.account)
            if asked.symbol in (None, order.symbol)
            and asked.side in (None, order.side)
            and asked.strategy_id in (None, order.strategy_id)
        ]
        return await self.cancel_these(fits, actor=user, text=text)

    async def cancel_these(self, orders: Iterable[Order], *, actor: str, text: str | None = None) -> int:
        """Those that can be canceled now; answers how many that are."""
        waiting: list[asyncio.Future[None]] = []
        change, count = Change(), 0
        for order in list(orders):
            own = self._change_for(order, change)
            if self._cancel(own, order, actor=actor, text=text) is None:
                continue
            count += 1
            if own is not change:
                waiting.append(self._journal.add(own))
            elif len(change.order_ids) == ORDERS_PER_CHANGE:
                waiting.append(self._journal.add(change))
                change = Change()
        if change.order_ids:
            waiting.append(self._journal.add(change))
        for each in waiting:
            try:
                await each
            except NameTaken:  # it never was an order
                count -= 1
        return count

    async def status(self, asked: OrderCancel) -> ExecutionReport:
        """As it is written down. Raises HubError(not_found)."""
        order = await self.find(asked.account, asked.client_order_id)
        try:
            return await self._settled(order.order_id) if self.blotter.get(order.order_id) else self.describe(order)
        except NameTaken:  # the name is that of an older order
            return await self.status(asked)

    async def find(self, account: str, client_order_id: str) -> Order:
        """By any of its names, in memory or in the log. Raises HubError(not_found)."""
        order = self.blotter.find(account, client_order_id)
        if order is None:
            found = await self._log.find(account, client_order_id)
            if found is None:
                raise HubError(ErrorCode.NOT_FOUND, "UNKNOWN_ORDER: the account has no order of this name")
            entry = self.blotter.get(found[0])
            order = entry.order if entry is not None else await self.recorded(found[0])
        return order

    def open_orders(self, account: str) -> list[Order]:
        """Those that have not ended, the oldest first."""
        return list(self.blotter.alive(account))

    async def recorded(self, order_id: str) -> Order:
        """An order as the log has it."""
        return replay([decode_event(event.body) for event in await self._log.events(order_id)])

    def describe(self, order: Order) -> ExecutionReport:
        """How an order stands: an answer, not an event."""
        return status_of(order, paper=self._venue.paper, now_us=self._clock.now_us())

    # --- what risk control asks for ---

    def awaiting_approval(self) -> list[Order]:
        return [order for order in self.blotter.all_alive() if order.status == "PENDING_APPROVAL"]

    async def approve(self, order: Order, override: Override) -> None:
        """All checks once more. Raises HubError(illegal_transition)."""
        order = self._waiting(order)
        change = Change()
        actor = ", ".join(sorted(override.approvers))
        granted, _ = self._happen(change, self._event(order, "APPROVAL_GRANTED", actor=actor))
        self._judge(change, granted, actor=actor, override=override)
        await self._journal.add(change)

    async def deny(self, order: Order, reason: Reason, *, text: str, by: str) -> None:
        order = self._waiting(order)
        change = Change()
        denied, _ = self._happen(change, self._event(order, "APPROVAL_DECLINED", actor=by, reason=reason, text=text))
        self._cancel_linked(change, denied)
        await self._journal.add(change)

    async def cancel_scope(self, scope: TradingScope, name: str, *, by: str) -> int:
        belongs: Callable[[Order], bool] = {
            "GLOBAL": lambda order: True,
            "ACCOUNT": lambda order: order.account == name,
            "STRATEGY": lambda order: order.strategy_id == name,
            "SYMBOL": lambda order: order.symbol == name,
        }[scope]
        return await self.cancel_these(filter(belongs, self.blotter.all_alive()), actor=by, text=f"halt of {name}")

    def daily_results(self) -> list[tuple[str, Decimal]]:
        marks: dict[str, Decimal] = {}
        for account in self.accounts.values():
            for symbol in account.positions:
                if symbol not in marks and (mark := self._market.mark(symbol)) is not None:
                    marks[symbol] = mark
        return [(name, account.daily_pnl(marks)) for name, account in self.accounts.items()]

    def new_day(self, at_us: int) -> None:
        """Profit counts from zero again if a day has begun."""
        for name, account in self.accounts.items():
            marks = {symbol: mark for symbol in account.positions if (mark := self._market.mark(symbol)) is not None}
            self.accounts[name] = begin_day(account, at_us, marks)

    # --- the venue ---

    def hear(self, report: VenueReport) -> asyncio.Future[None] | None:
        """Take in what the venue says of an order that is in memory; None if that was known."""
        entry = self.blotter.get(report.order_id)
        assert entry is not None
        is_trade = report.exec_type == "TRADE"
        if report.exec_id in entry.seen or (is_trade and report.trade_id in entry.seen):
            self.repeats += 1
            return None
        before = entry.order
        fields = {name: getattr(report, name) for name in REPORTED}
        event = Event(order_id=before.order_id, actor=self._venue.name, venue=self._venue.name, **fields)
        change = Change()
        try:
            order, _ = self._happen(change, event)
        except InvalidTransition as refusal:
            self._refuse(change, entry, event, str(refusal))
            return self._journal.add(change)
        if is_trade and before.status in CLOSED:
            now_us = self._clock.now_us()
            change.messages.append(alert(order, "Late fill", f"{event.last_qty} traded after the end", now_us=now_us))
        if is_trade or order.status in CLOSED:
            self._cancel_linked(change, order)
        return self._journal.add(change)

    def reject(self, order: Order, reason: Reason, text: str) -> None:
        """The venue never answered."""
        change = Change()
        rejected, _ = self._happen(change, self._event(order, "REJECTED", actor=HUB, reason=reason, text=text))
        change.messages.append(alert(rejected, "Unconfirmed order", text, now_us=self._clock.now_us()))
        self._cancel_linked(change, rejected)
        self._journal.add(change)

    def warn(self, order: Order, title: str, detail: str) -> None:
        """A person must look at this order."""
        change = Change()
        change.messages.append(alert(order, title, detail, now_us=self._clock.now_us()))
        self._journal.add(change)

    def cancel_again(self, order: Order) -> None:
        self._send(partial(self._venue.cancel, order))

    async def listen(self) -> None:
        """Hears the venue as long as the engine lives."""
        async for report in self._venue.reports():
            if self.blotter.get(report.order_id) is None and not await self._recall(report.order_id):
                logger.warning("%s reports %s of an order nobody knows", self._venue.name, report.exec_type)
                continue
            written = self.hear(report)
            if written is not None and self._journal.waiting > MAX_UNWRITTEN:
                await asyncio.wait([written])

    async def send(self) -> None:
        """Sends committed commands to the venue, in order."""
        while True:
            while self._unsent:
                command = self._unsent.popleft()
                try:
                    await command()
                except VenueUnreachable as failure:  # the watch asks what has become of it
                    logger.warning("%s cannot be reached: %s", self._venue.name, failure)
            self._to_send.clear()
            await self._to_send.wait()

    async def _submit(self, approved: Approved) -> None:
        """Unless the order was given up while it waited to be sent."""
        entry = self.blotter.get(approved.order.order_id)
        if entry is not None and entry.order.status not in CLOSED:
            await self._venue.submit(approved)

    def _send(self, command: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if len(self._unsent) >= MAX_UNSENT:
            logger.error("a command to %s is dropped: %d are waiting", self._venue.name, MAX_UNSENT)
            return  # as if it had got lost on the way: the watch asks what has become of it
        self._unsent.append(command)
        self._to_send.set()

    # --- how an order changes ---

    def _judge(self, change: Change, order: Order, *, actor: str, override: Override | None = None) -> ExecutionReport:
        """Put an INITIALIZED order to the checks."""
        outcome = self._desk.decide(order, gather(order, **self._known(order)), override=override)
        decision = outcome.decision
        self._tell_decision(change, decision)
        if isinstance(outcome, Approved):
            event = self._event(order, "PENDING_NEW", actor=actor, venue=self._venue.name, decision=decision)
            change.then.append(partial(self._send, partial(self._submit, outcome)))
        else:
            waits = isinstance(outcome, NeedsApproval)
            fault = decision.faults[0]
            event = self._event(
                order,
                "APPROVAL_REQUESTED" if waits else "DENIED",
                actor=HUB,
                reason=fault.reason,
                text=fault.text,
                decision=decision,
            )
        return self._happen(change, event)[1]

    def _cancel(self, change: Change, order: Order, *, actor: str, text: str | None = None) -> ExecutionReport | None:
        """None if it cannot be canceled any more, or is being canceled."""
        if order.status == "PENDING_APPROVAL":
            return self._happen(change, self._event(order, "CANCELED", actor=actor, text=text))[1]
        if (order.status, "PENDING_CANCEL") not in TRANSITIONS:
            return None
        pending, report = self._happen(change, self._event(order, "PENDING_CANCEL", actor=actor, text=text))
        change.then.append(partial(self._send, partial(self._venue.cancel, pending)))
        return report

    def _cancel_linked(self, change: Change, order: Order) -> None:
        """One cancels the other: `order` has traded or ended."""
        for other in self.blotter.linked(order):
            own = self._change_for(other, change)
            text = f"one cancels the other: {order.client_order_id}"
            if self._cancel(own, other, actor=HUB, text=text) is not None and own is not change:
                self._journal.add(own)

    def _change_for(self, order: Order, change: Change) -> Change:
        """`change`, or one apart while the order is not written down: if its name turns out to be taken, whatever was
        decided about it is taken back, and with it all else in that change."""
        entry = self.blotter.get(order.order_id)
        written = entry is None or entry.pending is None or entry.pending.done()
        return change if written else Change()

    def _happen(self, change: Change, event: Event) -> tuple[Order, ExecutionReport]:
        """Let it happen in memory, and put what is to be written and told into the change. Raises InvalidTransition."""
        known = self.blotter.get(event.order_id)
        before = known.order if known is not None else None
        order = apply(before, event)
        now_us = self._clock.now_us()
        entry = self.blotter.put(order)
        entry.note(event)
        entry.pending = change.done
        position = self._execute(change, order, event) if event.exec_type in TRADES else None
        report = report_of(order, event, before, paper=self._venue.paper, now_us=now_us, position=position)
        change.order_ids.add(order.order_id)
        change.events.append(
            NewEvent(order.order_id, order.account, event.exec_type, event.exec_id, event.ts_event, encoded(event))
        )
        for channel in channels_of(event, order.account):
            change.messages.append(publication(channel, "EXECUTION_REPORT", report, now_us))
        if (order.status == "PENDING_APPROVAL") != (before is not None and before.status == "PENDING_APPROVAL"):
            self._tell_approval(change, order, event)
        was_closed = before is not None and before.status in CLOSED
        if order.status in CLOSED and not was_closed:
            change.ended.append(order.order_id)
        elif was_closed and order.status not in CLOSED:
            change.reopened.append(order.order_id)
        if self._listeners:
            change.then.append(partial(self._tell, order, event, self.account(order.account)))
        return order, report

    def _execute(self, change: Change, order: Order, event: Event) -> Decimal:
        """The account after a trade, a bust or a correction; answers its position."""
        account = self.account(order.account)
        try:
            account = self.accounts[order.account] = apply_execution(account, order, event)
        except UnknownExecution as failure:
            logger.error("the position of %s in %s is in doubt: %s", order.account, order.symbol, failure)
            change.messages.append(alert(order, "Position in doubt", str(failure), now_us=self._clock.now_us()))
        if event.exec_type == "TRADE":
            self._desk.executed(order, now_us=self._clock.now_us())
        holding = account.positions.get(order.symbol)
        return holding.qty if holding is not None else Decimal(0)

    def _refuse(self, change: Change, entry: Entry, event: Event, why: str) -> None:
        """A venue says what cannot be. It is told to people, and not believed."""
        entry.seen.add(event.exec_id)  # a comparison with the venue must not bring it up again and again
        self.illegal += 1
        logger.error("order %s: %s", entry.order.order_id, why)
        detail = f"{event.exec_id}: {why}"
        change.messages.append(alert(entry.order, "Impossible report", detail, now_us=self._clock.now_us()))

    def _tell(self, order: Order, event: Event, account: Account) -> None:
        for hear in self._listeners:
            hear(order, event, account)

    def _tell_decision(self, change: Change, decision: RiskDecision) -> None:
        channel = f"risk:{decision.account}"
        change.messages.append(publication(channel, "RISK_DECISION", decision, self._clock.now_us()))

    def _tell_approval(self, change: Change, order: Order, event: Event) -> None:
        """That others have to approve it, or need not any more."""
        limits = self._desk.limits_for(order)
        if limits.approver_role is not None:
            approval = approval_of(order, event, ttl_ms=limits.approval_ttl_ms)
            type_name = "APPROVAL_REQUESTED" if approval.state == "REQUESTED" else "APPROVAL_RESOLVED"
            channel = f"approvals:{limits.approver_role}"
            change.messages.append(publication(channel, type_name, approval, self._clock.now_us()))

    # --- what is known ---

    def account(self, name: str) -> Account:
        return self.accounts.get(name) or self._funds(name)

    def _known(self, order: Order) -> dict[str, Any]:
        others = [_at_most(each) for each in self.blotter.alive(order.account) if each.order_id != order.order_id]
        return {
            "market": self._market,
            "account": self.account(order.account),
            "open_orders": others,
            "now_us": self._clock.now_us(),
        }

    def _event(self, about: Order, exec_type: ExecType, *, actor: str, **fields: Any) -> Event:
        """One of the hub's own: an order's events are counted, so its number is new."""
        known = self.blotter.get(about.order_id)
        number = known.order.version + 1 if known is not None else 1
        return Event(
            order_id=about.order_id,
            exec_type=exec_type,
            exec_id=f"h{number}",
            ts_event=self._clock.now_us(),
            actor=actor,
            **fields,
        )

    def _next_id(self) -> str:
        self._numbers += 1
        return f"{self._journal.epoch}-{self._numbers}"

    def _waiting(self, order: Order) -> Order:
        entry = self.blotter.get(order.order_id)
        if entry is None or entry.order.status != "PENDING_APPROVAL":
            raise _illegal("approve", entry.order if entry is not None else None)
        return entry.order

    async def _repeated(self, account: str, client_order_id: str, fingerprint: bytes) -> ExecutionReport:
        if self.blotter.fingerprint(account, client_order_id) != fingerprint:
            raise _name_used()
        order = self.blotter.find(account, client_order_id)
        assert order is not None
        try:
            return await self._settled(order.order_id)
        except NameTaken:
            return await self._repeated_in_log(account, client_order_id, fingerprint)

    async def _settled(self, order_id: str) -> ExecutionReport:
        """How an order in memory stands, once what has happened to it so far is written down. Raises NameTaken."""
        entry = self.blotter.get(order_id)
        assert entry is not None
        order = entry.order
        if entry.pending is not None and not entry.pending.done():
            await asyncio.shield(entry.pending)
        return self.describe(order)

    async def _repeated_in_log(self, account: str, client_order_id: str, fingerprint: bytes) -> ExecutionReport:
        found = await self._log.find(account, client_order_id)
        if found is None or found[1] != fingerprint:
            raise _name_used()
        return self.describe(await self.recorded(found[0]))

    async def _recall(self, order_id: str) -> bool:
        """Bring an order that has ended back into memory."""
        events = [decode_event(event.body) for event in await self._log.events(order_id)]
        if not events:
            return False
        if self.blotter.get(order_id) is None:
            restore(self.blotter, events)
        return True


REPORTED = tuple({*VenueReport.__struct_fields__} & {*Event.__struct_fields__} - {"order_id"})


def restore(blotter: Blotter, events: Iterable[Event]) -> None:
    """Put orders into memory from their events, in the order of the log."""
    for event in events:
        known = blotter.get(event.order_id)
        order = apply(known.order if known is not None else None, event)
        blotter.put(order).note(event)
        if event.order is not None:
            blotter.name(order.account, order.client_order_id, order.order_id, fingerprint_of_order(event.order))
        if event.exec_type == "PENDING_REPLACE" and order.wish is not None:
            fingerprint = fingerprint_of_wish(order.order_id, order.wish)
            blotter.name(order.account, order.wish.client_order_id, order.order_id, fingerprint)


def _wished(order: Order, wish: Wish) -> Order:
    qty = order.qty if wish.qty is None else wish.qty
    return replace(
        order,
        client_order_id=wish.client_order_id,
        qty=qty,
        leaves_qty=EXACT.subtract(qty, order.cum_qty),
        price=order.price if wish.price is None else wish.price,
        stop_price=order.stop_price if wish.stop_price is None else wish.stop_price,
        trail=order.trail if wish.trail is None else wish.trail,
    )


def _at_most(order: Order) -> Order:
    """An order as heavy as it can be until its replacement is answered."""
    if order.wish is None:
        return order
    wished = _wished(order, order.wish)
    prices = [price for price in (order.price, wished.price) if price is not None]
    return replace(
        order,
        leaves_qty=max(order.leaves_qty, wished.leaves_qty),
        price=(max if order.side == "BUY" else min)(prices, default=None),
    )


def _illegal(what: str, order: Order | None) -> HubError:
    status = order.status if order is not None else "CLOSED"
    late = "TOO_LATE: " if order is None or order.status in CLOSED else ""
    return HubError(ErrorCode.ILLEGAL_TRANSITION, f"{late}cannot {what} an order that is {status}")


def _name_used() -> HubError:
    return HubError(
        ErrorCode.IDEMPOTENCY_CONFLICT,
        "DUPLICATE_ORDER: this client_order_id was used for another order",
        path="$.client_order_id",
    )
