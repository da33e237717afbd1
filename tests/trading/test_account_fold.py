from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.accounts import (
    DAY_US,
    MAX_RECENT,
    Account,
    UnknownExecution,
    apply_execution,
    assets_of,
    balance_message,
    begin_day,
    locked,
    position_message,
)
from hub.trading.orders.order import Order
from hub.trading.venues.base import VenueReport
from protocol.trading import Side

from .wire import check_message

NOON = 20_000 * DAY_US + DAY_US // 2
START = {"USD": Decimal(1_000_000)}

Trade = tuple[Side, Decimal, Decimal, Decimal, str]  # side, quantity, price, commission and in what

decimals = st.decimals(min_value="0.00000001", max_value="100000", places=8)
trades = st.lists(
    st.tuples(
        st.sampled_from(("BUY", "SELL")),
        decimals,
        decimals,
        st.decimals(min_value="-5", max_value="5", places=4),
        st.sampled_from(("USD", "BTC", "BNB")),
    ),
    max_size=20,
)


def order(side: Side, symbol: str = "BTC-USD", **fields: object) -> Order:
    qty = Decimal(1)
    given = {"order_id": "o", "order_type": "LIMIT", "qty": qty, "leaves_qty": qty, **fields}
    return Order(account="desk", client_order_id="c", symbol=symbol, side=side, **given)  # type: ignore[arg-type]  # the fields of a test


def report(trade: Trade, trade_id: str, *, kind: str = "TRADE", at_us: int = NOON) -> VenueReport:
    _, qty, price, commission, asset = trade
    return VenueReport(
        order_id="o",
        exec_type=kind,  # type: ignore[arg-type]  # a literal by name
        exec_id=f"{kind}-{trade_id}",
        ts_event=at_us,
        trade_id=trade_id,
        last_qty=qty,
        last_px=price,
        commission=commission,
        commission_asset=asset,
    )


def simple(side: Side, qty: str, price: str) -> Trade:
    return side, Decimal(qty), Decimal(price), Decimal(0), "USD"


def after(trades: Iterable[Trade], account: Account | None = None) -> Account:
    account = account or Account(name="desk", balances=START)
    numbered = enumerate(trades)
    return reduce(
        lambda known, each: apply_execution(known, order(each[1][0]), report(each[1], str(each[0]))), numbered, account
    )


def signed(trade: Trade) -> Decimal:
    return trade[1] if trade[0] == "BUY" else -trade[1]


@given(trades)
def test_position_money_and_balances_add_up_to_the_executions(trades: Sequence[Trade]) -> None:
    account = after(trades)

    qty = sum((signed(each) for each in trades), Decimal(0))
    money = sum((-signed(each) * each[2] for each in trades), Decimal(0))
    balances = {"USD": START["USD"] + money, "BTC": qty, "BNB": Decimal(0)}
    for *_, commission, asset in trades:
        balances[asset] -= commission
    assert {asset: account.balances.get(asset, 0) for asset in balances} == balances
    if trades:
        standing = account.positions["BTC-USD"].standing
        assert (standing.qty, standing.realized - standing.cost) == (qty, money)


@given(trades, decimals)
def test_realized_and_unrealized_are_together_what_closing_now_would_leave(
    trades: Sequence[Trade], mark: Decimal
) -> None:
    account = after(trades)

    money = sum((-signed(each) * each[2] for each in trades), Decimal(0))
    worth = sum((signed(each) for each in trades), Decimal(0)) * mark
    realized = sum((each.standing.realized for each in account.positions.values()), Decimal(0))
    assert realized + account.unrealized({"BTC-USD": mark}) == money + worth


@given(trades)
def test_cost_has_the_sign_of_the_position_and_nothing_stays_in_a_closed_one(trades: Sequence[Trade]) -> None:
    for holding in after(trades).positions.values():
        assert holding.standing.cost * holding.qty >= 0
        assert (holding.avg_px_open is None) == (holding.qty == 0)
        if not holding.qty:
            assert holding.standing.cost == 0


@given(trades.filter(bool), st.data())
def test_a_bust_leaves_what_the_other_executions_make(trades: Sequence[Trade], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(trades) - 1))
    busted = apply_execution(
        after(trades), order(trades[place][0]), report(trades[place], str(place), kind="TRADE_CANCEL")
    )

    never = after([*trades[:place], *trades[place + 1 :]])
    assert standing(busted) == standing(never)
    assert money(busted) == money(never)
    assert busted.realized_today == never.realized_today


@given(trades.filter(bool), st.data())
def test_a_correction_leaves_what_the_true_figures_make(trades: Sequence[Trade], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(trades) - 1))
    true: Trade = (trades[place][0], data.draw(decimals), data.draw(decimals), *trades[place][3:])
    corrected = apply_execution(after(trades), order(true[0]), report(true, str(place), kind="TRADE_CORRECT"))

    always = after([*trades[:place], true, *trades[place + 1 :]])
    assert corrected.positions == always.positions
    assert money(corrected) == money(always)
    assert corrected.realized_today == always.realized_today


@given(trades.filter(bool))
def test_an_execution_that_comes_twice_counts_once(trades: Sequence[Trade]) -> None:
    account = after(trades)

    assert after(trades, account) == account


def standing(account: Account) -> object:
    holding = account.positions.get("BTC-USD")
    return holding.standing if holding and holding.fills else None


def money(account: Account) -> dict[str, Decimal]:
    return {asset: amount for asset, amount in account.balances.items() if amount}


def test_a_short_position_gains_when_it_is_bought_back_for_less() -> None:
    account = after([simple("SELL", "2", "100"), simple("BUY", "1", "90")])

    holding = account.positions["BTC-USD"]
    assert (holding.qty, holding.avg_px_open, holding.standing.realized) == (-1, 100, 10)
    assert holding.unrealized(Decimal(80)) == 20


def test_a_position_turned_round_starts_at_the_price_that_turned_it() -> None:
    account = after([simple("BUY", "2", "100"), simple("SELL", "5", "110")])

    holding = account.positions["BTC-USD"]
    assert (holding.qty, holding.avg_px_open, holding.standing.realized) == (-3, 110, 20)


def test_what_an_average_loses_by_rounding_is_not_lost() -> None:
    account = after([simple("BUY", "3", "100"), simple("BUY", "4", "101"), *[simple("SELL", "1", "102")] * 7])

    standing = account.positions["BTC-USD"].standing
    assert (standing.qty, standing.cost, standing.realized) == (0, 0, 714 - 704)


def test_a_correction_that_is_silent_about_the_commission_leaves_it() -> None:
    bought: Trade = ("BUY", Decimal(1), Decimal(100), Decimal("0.5"), "USD")
    true = VenueReport(
        order_id="o",
        exec_type="TRADE_CORRECT",
        exec_id="e",
        ts_event=NOON,
        trade_id="0",
        last_qty=Decimal(1),
        last_px=Decimal(99),
    )

    account = apply_execution(after([bought]), order("BUY"), true)

    assert account.balances["USD"] == START["USD"] - 99 - Decimal("0.5")


def test_an_account_that_trades_with_itself_has_both_sides_of_the_trade() -> None:
    bought, sold = simple("BUY", "1", "100"), simple("SELL", "1", "100")
    account = apply_execution(Account(name="desk"), order("BUY", order_id="maker"), report(bought, "same"))

    account = apply_execution(account, order("SELL", order_id="taker"), report(sold, "same"))

    assert account.positions["BTC-USD"].qty == 0
    assert len(account.positions["BTC-USD"].fills) == 2


def test_reports_of_other_kinds_change_nothing() -> None:
    account = after([simple("BUY", "1", "100")])

    for kind in ("NEW", "CANCELED", "EXPIRED", "REPLACED", "TRADE_PREVENTION"):
        assert apply_execution(account, order("BUY"), report(simple("BUY", "1", "100"), "new", kind=kind)) is account


def test_a_bust_of_a_trade_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnknownExecution, match="other of BTC-USD"):
        apply_execution(
            after([simple("BUY", "1", "100")]),
            order("BUY"),
            report(simple("BUY", "1", "100"), "other", kind="TRADE_CANCEL"),
        )


def test_the_newest_executions_can_be_busted_and_older_ones_stay_in_the_sums() -> None:
    bought = simple("BUY", "1", "100")
    account = after([bought] * (MAX_RECENT + 1))

    busted = apply_execution(account, order("BUY"), report(bought, "1", kind="TRADE_CANCEL"))

    assert busted.positions["BTC-USD"].qty == MAX_RECENT
    with pytest.raises(UnknownExecution):
        apply_execution(busted, order("BUY"), report(bought, "0", kind="TRADE_CANCEL"))


def test_a_day_counts_its_own_profit_only() -> None:
    yesterday = after([simple("BUY", "2", "100"), simple("SELL", "1", "110")])
    marks = {"BTC-USD": Decimal(120)}
    assert yesterday.daily_pnl(marks) == 30

    today = begin_day(yesterday, NOON + DAY_US, marks)

    assert today.daily_pnl(marks) == 0
    assert today.daily_pnl({"BTC-USD": Decimal(115)}) == -5
    sold = apply_execution(today, order("SELL"), report(simple("SELL", "1", "125"), "n", at_us=NOON + DAY_US))
    assert (sold.realized_today, sold.daily_pnl(marks)) == (25, 5)
    assert begin_day(sold, NOON, marks) is sold


def test_todays_profit_is_after_commission() -> None:
    account = after([("BUY", Decimal(1), Decimal(100), Decimal("0.01"), "BTC")])

    assert account.realized_today == -1
    assert account.positions["BTC-USD"].standing.commission == 1


@pytest.mark.parametrize(
    ("symbol", "assets"),
    [
        ("BTC-USD", ("BTC", "USD")),
        ("BTC/USDT", ("BTC", "USDT")),
        ("BTC/USDT:USDT", ("BTC", "USDT")),
        ("BRK.B", ("BRK.B", "USD")),
        ("-", ("-", "USD")),
    ],
)
def test_a_symbol_tells_what_is_traded_and_in_what(symbol: str, assets: tuple[str, str]) -> None:
    assert assets_of(symbol) == assets


def test_open_orders_lock_money_for_purchases_and_goods_for_sales() -> None:
    orders = [
        order("BUY", price=Decimal(100)),
        order("BUY", order_type="STOP", stop_price=Decimal(110)),
        order("SELL", leaves_qty=Decimal("0.4")),
        order("BUY", order_type="MARKET"),
    ]

    assert locked(orders) == {"USD": 210, "BTC": Decimal("0.4")}


@given(trades, decimals)
def test_what_is_published_of_an_account_is_what_the_protocol_admits(trades: Sequence[Trade], mark: Decimal) -> None:
    account = after(trades)

    position = position_message(account, "BTC-USD", mark=mark, paper=True, ts_event=NOON)
    check_message("positions:desk", "POSITION", position)
    assert Decimal(position.qty) == sum((signed(each) for each in trades), Decimal(0))
    for asset in account.balances:
        held = {"USD": Decimal(10)}
        balance = balance_message(account, asset, held=held, paper=True, ts_event=NOON)
        check_message("positions:desk", "BALANCE", balance)
        assert Decimal(balance.free) + Decimal(balance.locked) == account.balances[asset]
