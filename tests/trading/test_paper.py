from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from hub.trading.market.simulator import DEFAULT_INSTRUMENTS
from hub.trading.outgoing import Outgoing
from hub.trading.paper import SimulatedTrader
from protocol.trading import ExecType, ExecutionReport, OrdStatus, PriceTick

from .simulation import START_US, Simulation
from .wire import check_message

# The transitions of an order that a limit order without risk checks can make, written down apart from the trader's own.
LEGAL: set[tuple[OrdStatus | None, ExecType, OrdStatus]] = {
    (None, "SUBMIT", "INITIALIZED"),
    ("INITIALIZED", "PENDING_NEW", "PENDING_NEW"),
    ("PENDING_NEW", "NEW", "NEW"),
    ("NEW", "TRADE", "PARTIALLY_FILLED"),
    ("NEW", "TRADE", "FILLED"),
    ("PARTIALLY_FILLED", "TRADE", "PARTIALLY_FILLED"),
    ("PARTIALLY_FILLED", "TRADE", "FILLED"),
    ("NEW", "PENDING_CANCEL", "PENDING_CANCEL"),
    ("PARTIALLY_FILLED", "PENDING_CANCEL", "PENDING_CANCEL"),
    ("PENDING_CANCEL", "CANCELED", "CANCELED"),
    ("PENDING_CANCEL", "TRADE", "PENDING_CANCEL"),
    ("PENDING_CANCEL", "TRADE", "FILLED"),
    ("NEW", "PENDING_REPLACE", "PENDING_REPLACE"),
    ("PARTIALLY_FILLED", "PENDING_REPLACE", "PENDING_REPLACE"),
    ("PENDING_REPLACE", "REPLACED", "NEW"),
    ("PENDING_REPLACE", "REPLACED", "PARTIALLY_FILLED"),
}


def traded(seed: int, seconds: int) -> list[Outgoing]:
    market = Simulation(seed)
    trader = SimulatedTrader(seed, start_us=START_US, instruments=DEFAULT_INSTRUMENTS)
    out: list[Outgoing] = []
    for n in range(seconds * 10):
        for message in market.step(START_US + n * 100_000):
            if isinstance(message.data, PriceTick):
                trader.observe(message.data)
        if n % 5 == 0:
            out += trader.step(START_US + n * 100_000)
    return out


@pytest.fixture(scope="module")
def messages() -> list[Outgoing]:
    return traded(2, 1200)


@pytest.fixture(scope="module")
def orders(messages: list[Outgoing]) -> dict[str, list[ExecutionReport]]:
    lives: defaultdict[str, list[ExecutionReport]] = defaultdict(list)
    for each in messages:
        if each.channel == "orders:demo":
            lives[each.data.client_order_id].append(each.data)
    return dict(lives)


def test_every_report_is_one_the_hub_accepts_and_says_that_it_is_paper(messages: list[Outgoing]) -> None:
    for channel, kind, data, key in messages:
        check_message(channel, kind, data)
        assert (kind, key, data.account, data.paper, data.ext) == (
            "EXECUTION_REPORT",
            None,
            "demo",
            True,
            {"simulated": True},
        )
    assert {each.channel for each in messages} == {"orders:demo", "fills:demo"}


def test_every_life_follows_legal_transitions_and_all_of_them_happen(orders: dict[str, list[ExecutionReport]]) -> None:
    made: Counter[tuple[OrdStatus | None, ExecType, OrdStatus]] = Counter()
    for reports in orders.values():
        status: OrdStatus | None = None
        for report in reports:
            assert report.prev_status == status
            made[status, report.exec_type, report.ord_status] += 1
            status = report.ord_status
    assert made.keys() <= LEGAL
    assert LEGAL - made.keys() <= {("PENDING_CANCEL", "TRADE", "FILLED")}, "the rarest may be missing"
    assert len(orders) > 300


def test_quantities_add_up_in_every_report(orders: dict[str, list[ExecutionReport]]) -> None:
    for reports in orders.values():
        cum = notional = Decimal(0)
        for report in reports:
            qty = Decimal(report.order_qty or 0)
            if report.exec_type == "TRADE":
                last = Decimal(report.last_qty or 0)
                assert last > 0
                cum += last
                notional += last * Decimal(report.last_px or 0)
            assert Decimal(report.cum_qty or 0) == cum <= qty
            if report.ord_status in ("FILLED", "CANCELED"):
                assert report.leaves_qty == "0"
                assert report is reports[-1], "nothing happens to a closed order"
            else:
                assert Decimal(report.leaves_qty or 0) == qty - cum
            assert (report.ord_status == "FILLED") == (cum == qty)
            if cum:
                assert abs(Decimal(report.avg_px or 0) - notional / cum) < Decimal("0.000001")
            assert (report.trade_id is not None) == (report.exec_type == "TRADE")


def test_execution_ids_are_unique_and_every_fill_is_on_both_channels(messages: list[Outgoing]) -> None:
    on_orders = [each.data for each in messages if each.channel == "orders:demo"]
    assert len({report.exec_id for report in on_orders}) == len(on_orders)
    fills = [each.data for each in messages if each.channel == "fills:demo"]
    assert fills == [report for report in on_orders if report.exec_type == "TRADE"]


def test_an_order_never_fills_worse_than_its_price(orders: dict[str, list[ExecutionReport]]) -> None:
    kinds: Counter[str | None] = Counter()
    for reports in orders.values():
        for report in reports:
            if report.last_px is not None and report.price is not None:
                price, last = Decimal(report.price), Decimal(report.last_px)
                assert last <= price if report.side == "BUY" else last >= price
                kinds[report.liquidity] += 1
    assert kinds["MAKER"] and kinds["TAKER"]


def test_the_position_is_the_sum_of_the_fills(messages: list[Outgoing]) -> None:
    positions: defaultdict[str, Decimal] = defaultdict(Decimal)
    for each in messages:
        if each.channel == "fills:demo":
            report = each.data
            positions[report.symbol] += Decimal(report.last_qty) * (1 if report.side == "BUY" else -1)
            assert Decimal(report.position_qty) == positions[report.symbol]


def test_the_same_seed_trades_the_same_and_another_run_has_other_ids() -> None:
    assert traded(9, 60) == traded(9, 60)
    trader = SimulatedTrader(9, start_us=START_US + 1, instruments=DEFAULT_INSTRUMENTS)
    ids = {each.data.client_order_id for each in traded(9, 60)}
    trader.observe(PriceTick(symbol="BTC-USD", bid="1.00", bid_size="1", ask="2.00", ask_size="1", state="LIVE"))
    others = {each.data.client_order_id for n in range(200) for each in trader.step(START_US + n)}
    assert others and not ids & others


def test_nobody_trades_on_a_stale_price() -> None:
    trader = SimulatedTrader(1, start_us=START_US, instruments=DEFAULT_INSTRUMENTS)
    for instrument in DEFAULT_INSTRUMENTS:
        trader.observe(PriceTick(symbol=instrument.symbol, bid="1", bid_size="1", ask="2", ask_size="1", state="STALE"))
    assert [each for n in range(100) for each in trader.step(START_US + n)] == []
