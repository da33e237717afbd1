"""A strategy against the past: by the engine, checks and accounts of every day, and the same every time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from hub.cli import main
from hub.trading.backtest import Backtest, BacktestResult, EndlessStrategy, Recorded
from hub.trading.histories import captured, merged, simulated, within
from hub.trading.strategies.base import Intent, Setting, Strategy
from hub.trading.strategies.catalog import STRATEGIES, Kind
from hub.trading.venues.matching import Fees
from hub.trading.venues.paper import Latency
from protocol.risk import RiskLimits
from protocol.trading import ExecutionReport, Instrument, PriceTick, Trade

from .virtual_clock import VirtualClock

SYMBOL = "BTC-USD"
START = 1_700_000_000_000_000
SECOND = 1_000_000
INSTRUMENT = Instrument(symbol=SYMBOL, base="BTC", quote="USD", tick_size="0.5", lot_size="0.1")
WIDE = RiskLimits(max_notional="1000000", duplicate_count=None)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a strategy that has none."""


class Buyer(Strategy):
    """Buys one at the ask of each quote."""

    def __init__(self, setting: Setting, parameters: Nothing) -> None:
        self.blotter = setting.blotter

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        assert tick.ask is not None
        return [self.blotter.submit(SYMBOL, "BUY", Decimal(1), price=Decimal(tick.ask), tif="IOC")]


class Rester(Strategy):
    """Leaves an order in the market that nobody fills."""

    def __init__(self, setting: Setting, parameters: Nothing) -> None:
        self.blotter = setting.blotter

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        if any(self.blotter.open(SYMBOL)):
            return []
        return [self.blotter.submit(SYMBOL, "BUY", Decimal(1), price=Decimal(99))]


class Mirror(Strategy):
    """Answers each answer."""

    def __init__(self, setting: Setting, parameters: Nothing) -> None:
        self.blotter = setting.blotter

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        return [self.blotter.submit(SYMBOL, "BUY", Decimal(1), price=Decimal(100))]

    def on_execution(self, report: ExecutionReport, now_us: int) -> Iterable[Intent]:
        return self.on_quote(PriceTick(symbol=SYMBOL, bid="1"), now_us)


def tick(second: float, bid: str, ask: str, size: str = "10") -> Recorded:
    at_us = START + round(second * SECOND)
    mid = str((Decimal(bid) + Decimal(ask)) / 2)
    quote = {"bid": bid, "bid_size": size, "ask": ask, "ask_size": size, "mid": mid}
    return Recorded(at_us, PriceTick(symbol=SYMBOL, state="LIVE", ts_event=at_us, **quote))


async def told(recorded: Iterable[Recorded]) -> AsyncIterator[Recorded]:
    for each in recorded:
        yield each


def backtest(strategy: Any, reports: list[ExecutionReport], **fields: Any) -> Backtest:
    made = {"balances": {"USD": Decimal(10_000)}, "instruments": {SYMBOL: INSTRUMENT}, "limits": WIDE, **fields}
    return Backtest("t", Kind(Nothing, strategy), {}, symbols=[SYMBOL], on_report=reports.append, **made)


async def run(
    strategy: Any, history: Sequence[Recorded], **fields: Any
) -> tuple[BacktestResult, list[ExecutionReport]]:
    reports: list[ExecutionReport] = []
    return await backtest(strategy, reports, **fields).run(told(history)), reports


async def demo_run(seed: int, kind: str = "market_making", **fields: Any) -> BacktestResult:
    parameters: dict[str, Any] = {"qty": "0.05"}
    if kind == "market_making":
        parameters |= {"max_position": "0.2", "half_spread_bps": "1"}
    test = Backtest(
        kind,
        STRATEGIES[kind],
        parameters,
        symbols=[SYMBOL],
        balances={"USD": Decimal(1_000_000)},
        limits=WIDE,
        latency=Latency(least_ms=20, jitter_ms=30),
        seed=seed,
        **fields,
    )
    return await test.run(simulated(seed, start_us=START, seconds=60, symbols=[SYMBOL]))


@pytest.mark.parametrize("kind", ["market_making", "momentum"])
async def test_the_same_seed_gives_the_same_result_to_the_last_report(kind: str) -> None:
    first, again, other = await demo_run(3, kind), await demo_run(3, kind), await demo_run(4, kind)

    assert first == again
    assert first.trades > 0
    assert first.fingerprint != other.fingerprint


async def test_the_result_is_the_sum_of_the_executions() -> None:
    reports: list[ExecutionReport] = []

    result = await demo_run(5, fees=Fees(maker_bps=Decimal(-1), taker_bps=Decimal(5)), on_report=reports.append)

    qty = money = volume = commission = Decimal(0)
    for each in reports:
        if each.exec_type == "TRADE":
            assert each.last_qty is not None
            assert each.last_px is not None
            size, price = Decimal(each.last_qty), Decimal(each.last_px)
            qty += size if each.side == "BUY" else -size
            money -= (size if each.side == "BUY" else -size) * price
            volume += size * price
            commission += Decimal(each.commission or 0)
    assert (Decimal(result.positions[SYMBOL]), Decimal(result.volume)) == (qty, volume)
    assert Decimal(result.commission) == commission
    assert Decimal(result.balances["USD"]) == 1_000_000 + money - commission
    assert all(each.paper for each in reports)


async def test_orders_arrive_a_latency_later_at_what_the_market_is_then() -> None:
    history = [tick(0, "99.5", "100"), tick(0.05, "100.5", "101"), tick(1, "100.5", "101")]

    quick, _ = await run(Buyer, history[:1] + history[2:], latency=Latency(least_ms=10))
    late, reports = await run(Buyer, history, latency=Latency(least_ms=100))

    assert (quick.trades, late.trades) == (2, 2)
    expired = [each.client_order_id for each in reports if each.exec_type == "EXPIRED"]
    assert expired == ["t-1"]  # the ask had gone when it came


async def test_the_risk_checks_are_those_of_every_day() -> None:
    history = [tick(second, "99.5", "100") for second in range(3)]

    result, reports = await run(Buyer, history, limits=RiskLimits(max_notional="99"))

    assert (result.submitted, result.refused, result.trades) == (3, 3, 0)
    assert {each.reject_reason for each in reports if each.exec_type == "DENIED"} == {"NOTIONAL_EXCEEDS_MAXIMUM"}


async def test_money_that_is_not_there_cannot_be_spent() -> None:
    history = [tick(second, "99.5", "100") for second in range(3)]

    result, _ = await run(Buyer, history, balances={"USD": Decimal(250)})

    assert (result.trades, result.refused, result.balances) == (2, 1, {"USD": "50", "BTC": "2"})


async def test_a_history_without_quotes_is_traded_at_what_others_paid() -> None:
    prints = [
        Recorded(START + n * SECOND, Trade(symbol=SYMBOL, price=price, size="5", aggressor_side=side))
        for n, (price, side) in enumerate([("100", "BUYER"), ("101", "SELLER"), ("102", "BUYER")])
    ]

    result, reports = await run(Buyer, prints)  # type: ignore[arg-type]

    paid = [each.last_px for each in reports if each.exec_type == "TRADE"]
    assert paid == ["100", "101.5", "102"]
    assert result.messages == 3


async def test_at_the_end_nothing_of_it_stays_in_the_market() -> None:
    result, reports = await run(Rester, [tick(0, "99.5", "100"), tick(1, "99.5", "100")])

    assert [each.exec_type for each in reports] == ["SUBMIT", "PENDING_NEW", "NEW", "PENDING_CANCEL", "CANCELED"]
    assert result.positions == {}


async def test_the_worst_fall_is_kept() -> None:
    history = [tick(0, "99.5", "100", "1"), tick(1, "109.5", "110", "1"), tick(2, "89.5", "90", "1")]

    result, _ = await run(Buyer, history, latency=Latency(least_ms=0), balances={"USD": Decimal(150)})

    # One bought at 100: worth 109.75, then 89.75.
    assert (result.max_drawdown, result.realized_pnl, result.unrealized_pnl) == ("20", "0", "-10.25")


async def test_a_strategy_that_answers_every_answer_is_stopped() -> None:
    with pytest.raises(ExceptionGroup) as failure:
        await run(Mirror, [tick(0, "99.5", "100")])
    assert failure.group_contains(EndlessStrategy)


async def test_other_symbols_are_not_its_business() -> None:
    other = Recorded(START, PriceTick(symbol="ETH-USD", bid="1", ask="2"))

    result, reports = await run(Buyer, [other])

    assert (result.messages, reports) == (0, [])


async def test_a_recording_is_a_history(coinbase: Path) -> None:
    seen = [each async for each in captured(coinbase, VirtualClock())]

    assert {type(each.message) for each in seen} >= {PriceTick, Trade}
    assert [each.at_us for each in seen] == sorted(each.at_us for each in seen)
    result = await Backtest(
        "market_making",
        STRATEGIES["market_making"],
        {"qty": "100", "max_position": "1000", "half_spread_bps": "1"},
        symbols=["SKL-USD"],
        balances={"USD": Decimal(1_000_000)},
        limits=WIDE,
    ).run(told(seen))
    assert result.messages > 100
    assert result.trades > 0


async def test_stored_channels_are_merged_by_time_and_each_keeps_its_order() -> None:
    def channel(*pages: Sequence[int]) -> Any:
        left = [[Recorded(at, Trade(symbol=SYMBOL, price="1", size="1")) for at in page] for page in pages]

        async def fetch() -> Sequence[Recorded]:
            return left.pop(0) if left else []

        return fetch

    history = [each.at_us async for each in merged([channel([1, 4], [6]), channel(), channel([2, 9, 5], [7])])]

    assert history == [1, 2, 4, 6, 9, 9, 9]  # a clock was set back: the order of the channel counts


async def test_a_part_of_a_history_has_both_of_its_ends() -> None:
    history = [Recorded(at, Trade(symbol=SYMBOL, price="1", size="1")) for at in range(6)]

    assert [each.at_us async for each in within(told(history), 2, 4)] == [2, 3, 4]
    assert [each.at_us async for each in within(told(history), None, None)] == [0, 1, 2, 3, 4, 5]


def krin(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["backtest", *arguments])


def test_the_command_prints_the_result_and_every_report_when_asked() -> None:
    command = ["momentum", "--symbol", SYMBOL, "--param", "qty=0.05", "--param", "fast=2", "--param", "slow=4"]
    command += ["--simulate", "40"]

    done = krin(*command, "--reports", "--limits", '{"max_notional": "100000"}')

    assert done.exit_code == 0, done.output
    *reports, last = done.stdout.splitlines()
    result = msgspec.json.decode(last, type=BacktestResult)
    assert result.trades == sum(msgspec.json.decode(each)["exec_type"] == "TRADE" for each in reports) > 0
    assert "fingerprint" in krin(*command).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--param", "qty=0.05"], "name one history"),
        (["--param", "qty=0.05", "--simulate", "5", "--channel", "trades:X"], "name one history"),
        (["--param", "qty=0.05", "--channel", "trades:X"], "--channel needs --token"),
        (["--simulate", "5"], "`qty`"),
        (["--param", "qty", "--simulate", "5"], "NAME=VALUE"),
        (["--param", "qty=1", "--simulate", "5", "--balance", "USD=much"], "not a number"),
        (["--param", "qty=1", "--simulate", "5", "--limits", '{"max_everything": 1}'], "max_everything"),
    ],
)
def test_a_command_that_makes_no_sense_says_why(arguments: list[str], said: str) -> None:
    done = krin("momentum", "--symbol", SYMBOL, *arguments)

    assert done.exit_code != 0
    assert said in done.output
    assert "Traceback" not in done.output
