"""Orders as an application gives them, and what becomes of them."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Protocol, Self, TypedDict, Unpack

import msgspec

from hub.client.subscription import OnLost, Subscription
from protocol.positions import Position
from protocol.trading import (
    Canceled,
    Contingency,
    ExecutionReport,
    OrderPage,
    OrderType,
    OrdStatus,
    RiskDecision,
    Side,
    StpMode,
    SwitchState,
    TimeInForce,
)

Number = str | int | Decimal
"""A price or quantity. Not a float: that has no exact decimals."""

Call = Callable[[str, Mapping[str, Any]], Awaitable[Any]]
"""(method, params) -> result. It is sent again until it is answered: repeating it must do no harm."""

CLOSED: frozenset[OrdStatus] = frozenset({"DENIED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"})
NUMBERS = ("qty", "price", "stop_price", "trail")


class Fields(TypedDict, total=False):
    """What an order may say besides symbol, side and quantity; see `protocol.trading.OrderSubmit`."""

    price: Number
    stop_price: Number
    trail: Number
    tif: TimeInForce
    expire_at: int
    post_only: bool
    reduce_only: bool
    stp_mode: StpMode
    client_order_id: str
    account: str
    strategy_id: str
    tag: str
    list_id: str
    contingency: Contingency


class Changes(TypedDict, total=False):
    """What a replacement may say; see `protocol.trading.OrderReplace`."""

    qty: Number
    price: Number
    stop_price: Number
    trail: Number
    client_order_id: str
    account: str


class Subscribe(Protocol):
    def __call__(
        self, channel: str, *, recover: Position | None, rewind: int | str | None, on_lost: OnLost | None
    ) -> Subscription: ...


class OrderEnded(Exception):
    """An order has ended otherwise than was waited for; `report` says how."""

    def __init__(self, report: ExecutionReport) -> None:
        why = ": ".join(part for part in (report.reject_reason, report.text) if part)
        super().__init__(f"{report.client_order_id} is {report.ord_status} {why}".rstrip())
        self.report = report


class Reports:
    """The execution reports of one account, each once and in order. Made by `Orders.reports`; see Subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    @property
    def position(self) -> Position | None:
        """Store it with the effect of the last report, and go on from there with `recover`."""
        return self._subscription.position

    async def until(self, order: ExecutionReport, *statuses: OrdStatus) -> ExecutionReport:
        """The next report that leaves the order, known by any report of it, in one of these statuses; those before it
        are dropped. Raises OrderEnded when it ends in another, StopAsyncIteration when the subscription ends first.
        """
        while True:
            report = await anext(self)
            if leaves_in(report, order, statuses):
                return report

    async def aclose(self) -> None:
        await self._subscription.aclose()

    async def __aenter__(self) -> Self:
        await self._subscription.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ExecutionReport:
        while True:
            message = await anext(self._subscription)
            if message.type == "EXECUTION_REPORT":
                report: ExecutionReport = message.typed()
                return report


class Orders:
    """The orders of an account, by default of the one that is named like the user. Made by `Client.orders`.

    A `client_order_id` names an order for ever: given again it is the same order. So what meets a temporary error or a
    lost connection is sent again, and an order is placed once; or, when an error is raised after the client's
    `timeout_s`, perhaps not, and `status` knows.

    Answers come when they are committed. What the risk checks refuse is an order too, with the status DENIED and a
    `reject_reason`; HubError is for what is no order, or not yours to give.
    """

    def __init__(self, call: Call, subscribe: Subscribe, *, user: Callable[[], str | None]) -> None:
        self._call = call
        self._subscribe = subscribe
        self._user = user

    async def submit(self, symbol: str, side: Side, qty: Number, **fields: Unpack[Fields]) -> ExecutionReport:
        """Place an order. The prices say which type it has: none, MARKET; `price`, LIMIT; `stop_price`, STOP; both of
        them, STOP_LIMIT; `trail`, TRAILING_STOP. Without a `client_order_id` it gets one.
        """
        return _report(await self._call("orders.submit", self._order(symbol, side, qty, fields)))

    async def validate(self, symbol: str, side: Side, qty: Number, **fields: Unpack[Fields]) -> RiskDecision:
        """What the risk checks say of such an order, every fault and not only the first. Nothing is placed."""
        decision = await self._call("orders.validate", self._order(symbol, side, qty, fields))
        return msgspec.convert(decision, RiskDecision)

    async def replace(self, order: str, /, **changes: Unpack[Changes]) -> ExecutionReport:
        """Change an open order, named by its `client_order_id`. What is not named stays; `qty` is the new total. Once
        it is REPLACED the order has the new `client_order_id`, and answers to the old one too. What the risk checks
        refuse is a report as well, REPLACE_REJECTED.
        """
        wish = self._params(changes, orig_client_order_id=order)
        wish.setdefault("client_order_id", new_id())
        return _report(await self._call("orders.replace", wish))

    async def cancel(self, client_order_id: str, *, account: str | None = None) -> ExecutionReport:
        params = self._params({"account": account}, client_order_id=client_order_id)
        return _report(await self._call("orders.cancel", params))

    async def cancel_all(
        self,
        *,
        symbol: str | None = None,
        side: Side | None = None,
        strategy_id: str | None = None,
        account: str | None = None,
    ) -> int:
        """Cancel every open order of the account that fits; answers how many are being canceled."""
        fits = {"account": account, "symbol": symbol, "side": side, "strategy_id": strategy_id}
        canceled = msgspec.convert(await self._call("orders.cancel_all", self._params(fits)), Canceled)
        return canceled.count

    async def cancel_all_after(self, timeout_ms: int, *, account: str | None = None) -> int | None:
        """The dead man's switch: unless called again in time, every order of the account is canceled. 0 disarms it.

        Answers when it fires, in microseconds since 1970.
        """
        params = self._params({"account": account}, timeout_ms=timeout_ms)
        return msgspec.convert(await self._call("orders.cancel_all_after", params), SwitchState).fires_at

    async def cancel_on_disconnect(self, enabled: bool = True, *, account: str | None = None) -> None:
        """Cancel every order of the account when this connection ends. The next connection must say it again."""
        await self._call("orders.cancel_on_disconnect", self._params({"account": account}, enabled=enabled))

    async def status(self, client_order_id: str, *, account: str | None = None) -> ExecutionReport:
        params = self._params({"account": account}, client_order_id=client_order_id)
        return _report(await self._call("orders.status", params))

    async def list(
        self,
        *,
        open: bool = False,
        symbol: str | None = None,
        limit: int = 100,
        before: int | None = None,
        account: str | None = None,
    ) -> OrderPage:
        """The account's orders, the newest first; `open`: those that may still trade. `next` is the next `before`."""
        fits = {"account": account, "open": open, "symbol": symbol, "limit": limit, "before": before}
        return msgspec.convert(await self._call("orders.list", self._params(fits)), OrderPage)

    def reports(
        self,
        account: str | None = None,
        *,
        recover: Position | None = None,
        rewind: int | str | None = None,
        on_lost: OnLost | None = None,
    ) -> Reports:
        """What happens to the orders of the account from now on, or from `recover` on. See `Client.subscribe`."""
        channel = f"orders:{self._account(account)}"
        return Reports(self._subscribe(channel, recover=recover, rewind=rewind, on_lost=on_lost))

    def _order(self, symbol: str, side: Side, qty: Number, fields: Mapping[str, Any]) -> dict[str, Any]:
        order = self._params(fields, symbol=symbol, side=side, qty=qty)
        order.setdefault("client_order_id", new_id())
        order["order_type"] = type_of(order)
        return order

    def _params(self, fields: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        given = {name: value for name, value in {**fields, **more}.items() if value is not None}
        given["account"] = self._account(given.get("account"))
        return {name: exact(value) if name in NUMBERS else value for name, value in given.items()}

    def _account(self, account: str | None) -> str:
        name = account or self._user()
        if name is None:
            raise RuntimeError("until the client is connected, an account must be named")
        return name


def leaves_in(report: ExecutionReport, order: ExecutionReport, statuses: Collection[OrdStatus]) -> bool:
    """Whether the report leaves the order, known by any report of it, in one of these. Raises OrderEnded."""
    if report.order_id != order.order_id:
        return False
    if report.ord_status not in statuses and report.ord_status in CLOSED:
        raise OrderEnded(report)
    return report.ord_status in statuses


def type_of(order: Mapping[str, Any]) -> OrderType:
    """The type that an order with these prices has."""
    match "price" in order, "stop_price" in order, "trail" in order:
        case _, _, True:
            return "TRAILING_STOP"
        case True, True, _:
            return "STOP_LIMIT"
        case False, True, _:
            return "STOP"
        case True, False, _:
            return "LIMIT"
        case _:
            return "MARKET"


def exact(number: Number) -> str:
    """As the protocol writes it. Raises TypeError for a float, ValueError for what is no finite number."""
    if isinstance(number, str):
        return number
    if isinstance(number, float):
        raise TypeError("prices and quantities are str, int or Decimal: a float has no exact decimals")
    decimal = Decimal(number)
    if not decimal.is_finite():
        raise ValueError("prices and quantities are finite")
    return format(decimal, "f")


def new_id() -> str:
    """A `client_order_id` that nobody else has."""
    return secrets.token_hex(8)


def _report(answer: Any) -> ExecutionReport:
    return msgspec.convert(answer, ExecutionReport)
