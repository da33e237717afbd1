"""Two strategies and the blotter that keeps their orders. No hub: events in, intents out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trading.strategies.base import Intent, Setting, Strategy
from hub.trading.strategies.blotter import MAX_CLOSED, Blotter
from hub.trading.strategies.catalog import STRATEGIES, make_strategy
from hub.trading.strategies.momentum import Momentum
from protocol.trading import (
    Bar,
    ExecType,
    ExecutionReport,
    Instrument,
    OrderCancel,
    OrderReplace,
    OrderSubmit,
    OrdStatus,
    PriceTick,
    Quality,
    QuoteState,
    TradingState,
)

SYMBOL = "BTC-USD"
NOW = 1_700_000_000_000_000
SECOND = 1_000_000
INSTRUMENT = Instrument(symbol=SYMBOL, base="BTC", quote="USD", tick_size="0.01", lot_size="0.0001")


def setting() -> Setting:
    blotter = Blotter(account="desk", strategy_id="s1", run="s1-7")
    return Setting(symbols=(SYMBOL,), blotter=blotter, instrument={SYMBOL: INSTRUMENT}.get)


def tick(bid: str = "100.00", ask: str = "100.10", state: QuoteState = "LIVE", **fields: Any) -> PriceTick:
    mid = str((Decimal(bid) + Decimal(ask)) / 2)
    return PriceTick(symbol=SYMBOL, bid=bid, ask=ask, mid=mid, state=state, **fields)


def bar(close: str, **fields: Any) -> Bar:
    told: dict[str, Any] = {"interval": "1s", "closed": True, **fields}
    return Bar(symbol=SYMBOL, start=0, end=1, open=close, high=close, low=close, close=close, volume="1", **told)


def report(
    order: OrderSubmit, status: OrdStatus, kind: ExecType = "NEW", *, cum: str = "0", **fields: Any
) -> ExecutionReport:
    told = {"client_order_id": order.client_order_id, "price": order.price, **fields}
    return ExecutionReport(
        account=order.account,
        symbol=order.symbol,
        side=order.side,
        exec_type=kind,
        ord_status=status,
        cum_qty=cum,
        leaves_qty=str(Decimal(order.qty) - Decimal(cum)),
        strategy_id=order.strategy_id,
        **told,
    )


def only(intents: Any) -> Any:
    [intent] = list(intents)
    return intent


# --- the blotter


def test_an_order_is_open_from_the_moment_it_was_made_until_its_last_report() -> None:
    blotter = setting().blotter
    order = blotter.submit(SYMBOL, "BUY", Decimal("0.5"), price=Decimal("100.00"))
    [own] = blotter.open(SYMBOL)
    assert (own.status, own.idle) == ("INITIALIZED", False)

    blotter.hear(report(order, "NEW"))
    assert own.idle
    blotter.hear(report(order, "FILLED", "TRADE", cum="0.5"))

    assert list(blotter.open(SYMBOL)) == []
    assert blotter.position(SYMBOL) == Decimal("0.5")


def test_reports_of_other_orders_are_not_its_own() -> None:
    blotter = setting().blotter
    order = blotter.submit(SYMBOL, "BUY", Decimal(1))

    assert not blotter.hear(report(order, "FILLED", "TRADE", cum="1", client_order_id="someone-elses"))
    assert blotter.position(SYMBOL) == 0


def test_an_order_that_was_replaced_is_known_by_both_of_its_ids() -> None:
    blotter = setting().blotter
    order = blotter.submit(SYMBOL, "SELL", Decimal(1), price=Decimal(101))
    blotter.hear(report(order, "NEW"))
    [own] = blotter.open(SYMBOL)

    command = blotter.replace(own, price=Decimal(102))
    assert not own.idle
    blotter.hear(report(order, "NEW", "REPLACED", client_order_id=command.client_order_id, price="102"))
    blotter.hear(report(order, "PARTIALLY_FILLED", "TRADE", cum="0.4", price="102"))

    assert (own.client_order_id, own.price, own.idle) == (command.client_order_id, 102, True)
    assert blotter.cancel(own).client_order_id == command.client_order_id
    assert blotter.position(SYMBOL) == Decimal("-0.4")


def test_a_bust_after_the_end_takes_the_position_back() -> None:
    blotter = setting().blotter
    order = blotter.submit(SYMBOL, "BUY", Decimal(1))
    blotter.hear(report(order, "FILLED", "TRADE", cum="1"))

    blotter.hear(report(order, "PARTIALLY_FILLED", "TRADE_CANCEL", cum="0.3"))

    assert blotter.position(SYMBOL) == Decimal("0.3")


def test_what_nobody_took_changes_nothing() -> None:
    blotter = setting().blotter
    lost = blotter.submit(SYMBOL, "BUY", Decimal(1))
    blotter.refused(lost)
    assert list(blotter.open(SYMBOL)) == []

    order = blotter.submit(SYMBOL, "BUY", Decimal(1), price=Decimal(1))
    blotter.hear(report(order, "NEW"))
    [own] = blotter.open(SYMBOL)
    moved = blotter.replace(own, price=Decimal(2))
    assert not own.idle
    blotter.refused(moved)
    assert own.idle
    cancel = blotter.cancel(own)
    assert not own.idle
    blotter.refused(cancel)
    assert own.idle


def test_client_order_ids_of_two_runs_differ_and_the_protocol_admits_them() -> None:
    ids = set()
    for run in ("s1-7", "s1-8"):
        blotter = Blotter(account="desk", strategy_id="s1", run=run)
        for _ in range(3):
            order = blotter.submit(SYMBOL, "BUY", Decimal(1))
            assert msgspec.convert(msgspec.to_builtins(order), OrderSubmit) == order
            ids.add(order.client_order_id)
    assert len(ids) == 6


def test_closed_orders_are_forgotten_in_the_end() -> None:
    blotter = setting().blotter
    for _ in range(MAX_CLOSED + 5):
        blotter.refused(blotter.submit(SYMBOL, "BUY", Decimal(1)))

    assert not blotter.hear(
        report(
            OrderSubmit(
                account="desk", client_order_id="s1-7-5", symbol=SYMBOL, side="BUY", order_type="LIMIT", qty="1"
            ),
            "FILLED",
            "TRADE",
            cum="1",
        )
    )
    assert blotter.hear(
        report(
            OrderSubmit(
                account="desk", client_order_id="s1-7-6", symbol=SYMBOL, side="BUY", order_type="LIMIT", qty="1"
            ),
            "DENIED",
            "DENIED",
        )
    )


# --- momentum


def momentum(**parameters: Any) -> tuple[Strategy, Blotter]:
    given = setting()
    strategy = make_strategy(STRATEGIES["momentum"], {"qty": "2", "fast": 2, "slow": 4, **parameters}, given)
    strategy.on_quote(tick(), NOW)
    return strategy, given.blotter


def closes(strategy: Strategy, *prices: str) -> list[Intent]:
    return [intent for price in prices for intent in strategy.on_bar(bar(price), NOW)]


def test_momentum_buys_what_rises_at_the_ask_and_not_before_it_has_seen_enough() -> None:
    strategy, _ = momentum()

    assert closes(strategy, "100", "101", "102") == []
    order = only(closes(strategy, "103"))

    assert (order.side, order.qty, order.price, order.tif, order.strategy_id) == ("BUY", "2", "100.10", "IOC", "s1")


def test_momentum_waits_for_its_order_and_then_asks_for_the_rest() -> None:
    strategy, blotter = momentum()
    order = only(closes(strategy, "100", "101", "102", "103"))
    assert closes(strategy, "104") == []

    blotter.hear(report(order, "EXPIRED", "EXPIRED", cum="0.5"))

    assert only(closes(strategy, "105")).qty == "1.5"


def test_momentum_turns_round_when_the_trend_does() -> None:
    strategy, blotter = momentum()
    order = only(closes(strategy, "100", "101", "102", "103"))
    blotter.hear(report(order, "FILLED", "TRADE", cum="2"))

    order = only(closes(strategy, "90"))

    assert (order.side, order.qty, order.price) == ("SELL", "4", "100.00")


def test_momentum_without_short_goes_flat_at_most() -> None:
    strategy, _ = momentum(short=False)

    assert closes(strategy, "100", "99", "98", "97") == []


def test_momentum_takes_no_price_that_nobody_stands_behind() -> None:
    strategy, _ = momentum()
    for state in ("DISPUTED", "STALE", "HALTED"):
        strategy.on_quote(tick(state=state), NOW)  # type: ignore[arg-type]  # literals
        assert closes(strategy, "100", "101", "102", "103", "104") == []


def test_momentum_counts_finished_bars_of_its_interval_once() -> None:
    strategy, _ = momentum()
    for price in ("100", "101", "102", "103", "104"):
        for odd in (bar(price, closed=False), bar(price, revision=1), bar(price, interval="1m")):
            assert list(strategy.on_bar(odd, NOW)) == []


def test_momentum_goes_home_flat() -> None:
    strategy, blotter = momentum()
    order = only(closes(strategy, "100", "101", "102", "103"))
    blotter.hear(report(order, "FILLED", "TRADE", cum="2"))

    order = only(strategy.on_stop(NOW))

    assert (order.side, order.qty) == ("SELL", "2")


# --- market making


def making(**parameters: Any) -> tuple[Strategy, Blotter]:
    given = setting()
    told = {"qty": "1", "max_position": "2", "half_spread_bps": "10", **parameters}
    return make_strategy(STRATEGIES["market_making"], told, given), given.blotter


def quotes(strategy: Strategy, blotter: Blotter, now_us: int = NOW, **fields: Any) -> list[Intent]:
    return list(strategy.on_quote(tick(**fields), now_us))


def placed(strategy: Strategy, blotter: Blotter) -> tuple[OrderSubmit, OrderSubmit]:
    bid, offer = quotes(strategy, blotter)
    assert isinstance(bid, OrderSubmit)
    assert isinstance(offer, OrderSubmit)
    blotter.hear(report(bid, "NEW"))
    blotter.hear(report(offer, "NEW"))
    return bid, offer


def test_market_making_quotes_both_sides_of_the_middle_and_never_takes() -> None:
    bid, offer = placed(*making())

    assert (bid.side, bid.price, bid.post_only) == ("BUY", "99.94", True)
    assert (offer.side, offer.price, offer.post_only) == ("SELL", "100.16", True)


def test_market_making_moves_its_quotes_with_the_market_but_not_for_nothing_and_not_too_often() -> None:
    strategy, blotter = making(requote_bps="5", pause_ms=500)
    placed(strategy, blotter)

    assert quotes(strategy, blotter, NOW + SECOND, bid="100.01", ask="100.11") == []
    assert quotes(strategy, blotter, NOW + SECOND // 4, bid="101.00", ask="101.10") == []
    moved = quotes(strategy, blotter, NOW + SECOND, bid="101.00", ask="101.10")
    assert [type(each) for each in moved] == [OrderReplace, OrderReplace]
    assert [each.price for each in moved if isinstance(each, OrderReplace)] == ["100.94", "101.16"]
    assert quotes(strategy, blotter, NOW + 2 * SECOND, bid="102.00", ask="102.10") == []  # both are under way


def test_market_making_leans_against_its_position_and_stops_adding_to_it() -> None:
    strategy, blotter = making(skew_bps="10")
    bid, _ = placed(strategy, blotter)
    blotter.hear(report(bid, "FILLED", "TRADE", cum="1"))

    again, moved = quotes(strategy, blotter, NOW + SECOND)
    assert isinstance(again, OrderSubmit)
    assert isinstance(moved, OrderReplace)
    assert (again.price, moved.price) == ("99.89", "100.11")  # half of the skew for half of the limit
    blotter.hear(report(again, "FILLED", "TRADE", cum="1"))
    later = quotes(strategy, blotter, NOW + 2 * SECOND)
    assert not any(isinstance(each, OrderSubmit) for each in later)


@pytest.mark.parametrize(
    "fields",
    [
        {"state": "STALE"},
        {"state": "DISPUTED"},
        {"state": "HALTED"},
        {"quality": Quality(sources_ok=2, sources_total=2, crossed=True)},
    ],
)
def test_market_making_withdraws_when_the_price_cannot_be_trusted(fields: dict[str, Any]) -> None:
    strategy, blotter = making()
    bid, offer = placed(strategy, blotter)

    cancels = quotes(strategy, blotter, NOW + SECOND, **fields)

    assert [each.client_order_id for each in cancels if isinstance(each, OrderCancel)] == [
        bid.client_order_id,
        offer.client_order_id,
    ]
    assert quotes(strategy, blotter, NOW + 2 * SECOND, **fields) == []


def test_market_making_withdraws_on_a_kill_switch_and_comes_back_after_it() -> None:
    strategy, blotter = making()
    bid, offer = placed(strategy, blotter)

    cancels = list(strategy.on_trading_disabled(TradingState(scope="GLOBAL", mode="HALTED"), NOW))
    assert len(cancels) == 2
    for order in (bid, offer):
        blotter.hear(report(order, "CANCELED", "CANCELED"))
    assert quotes(strategy, blotter, NOW + SECOND) == []

    assert list(strategy.on_trading_disabled(TradingState(scope="GLOBAL", mode="ACTIVE"), NOW)) == []
    assert len(quotes(strategy, blotter, NOW + 2 * SECOND)) == 2


def test_market_making_waits_until_it_knows_how_a_symbol_trades() -> None:
    blotter = setting().blotter
    unknown = Setting(symbols=(SYMBOL,), blotter=blotter, instrument=lambda symbol: None)
    strategy = make_strategy(STRATEGIES["market_making"], {"qty": "1", "max_position": "1"}, unknown)

    assert quotes(strategy, blotter) == []


@given(
    st.lists(st.tuples(st.decimals(1, 1000, places=2), st.decimals("0.02", 10, places=2), st.booleans()), max_size=30)
)
def test_market_making_never_quotes_across_the_middle_nor_beyond_its_limit(
    market: list[tuple[Decimal, Decimal, bool]],
) -> None:
    strategy, blotter = making(skew_bps="0", pause_ms=0)
    for place, (bid, spread, filled) in enumerate(market):
        mid = bid + spread / 2
        for intent in quotes(strategy, blotter, NOW + place * SECOND, bid=str(bid), ask=str(bid + spread)):
            if isinstance(intent, OrderCancel):
                blotter.refused(intent)
                continue
            assert isinstance(intent, OrderSubmit)
            assert intent.price is not None
            price = Decimal(intent.price)
            assert price % Decimal("0.01") == 0
            assert price <= mid if intent.side == "BUY" else price >= mid
            outcome = ("FILLED", "TRADE", "1") if filled else ("CANCELED", "CANCELED", "0")
            blotter.hear(report(intent, *outcome[:2], cum=outcome[2]))  # type: ignore[arg-type]  # literals
        assert abs(blotter.position(SYMBOL)) <= 2


# --- the catalog


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("momentum", {}),
        ("momentum", {"qty": "0"}),
        ("momentum", {"qty": "1", "fast": 30, "slow": 20}),
        ("momentum", {"qty": "1", "other": 1}),
        ("market_making", {"qty": "2", "max_position": "1"}),
        ("market_making", {"qty": "NaN", "max_position": "1"}),
    ],
)
def test_parameters_that_make_no_sense_make_no_strategy(kind: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        make_strategy(STRATEGIES[kind], parameters, setting())


def test_numbers_may_be_given_as_text() -> None:
    strategy = make_strategy(STRATEGIES["momentum"], {"qty": "1.5", "fast": "3", "slow": "9"}, setting())

    assert isinstance(strategy, Momentum)
