"""Strategies as they run: started and stopped by call, told of what concerns them, cleared up after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from clock import ManualClock

from hub.caller import SYSTEM, Caller
from hub.channels.access import Access
from hub.namespaces import Namespaces
from hub.trading.strategies import runner
from hub.trading.strategies.base import Intent, Setting, Strategy
from hub.trading.strategies.catalog import Kind
from hub.trading.strategies.service import MAX_STRATEGIES, Strategies
from protocol.errors import ErrorCode, HubError
from protocol.strategies import StrategyState
from protocol.trading import ExecutionReport, Instrument, OrderCancelAll, OrderSubmit, PriceTick, Trade, TradingState
from storage.database import Database
from storage.strategies import StrategyTable

SYMBOL = "BTC-USD"
DESK = Caller(user="desk", roles=frozenset({"trader"}), transport="rest", principal="machine", connection=object())


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a strategy that has none."""


class Diary(Strategy):
    """Writes down what it is told, and answers what the test wants."""

    intervals = ("1s", "1m")

    def __init__(self, setting: Setting) -> None:
        self.blotter = setting.blotter
        self.told: list[tuple[str, Any]] = []
        self.answers: dict[str, Callable[[], Iterable[Intent]]] = {}

    def _note(self, hook: str, what: Any = None) -> Iterable[Intent]:
        self.told.append((hook, what))
        return self.answers.get(hook, list)()

    def on_start(self, now_us: int) -> Iterable[Intent]:
        return self._note("start")

    def on_quote(self, tick: PriceTick, now_us: int) -> Iterable[Intent]:
        return self._note("quote", tick.bid)

    def on_trade(self, trade: Trade, now_us: int) -> Iterable[Intent]:
        return self._note("trade", trade.price)

    def on_execution(self, report: ExecutionReport, now_us: int) -> Iterable[Intent]:
        return self._note("execution", report.exec_type)

    def on_refused(self, intent: Intent, reason: str, now_us: int) -> Iterable[Intent]:
        return self._note("refused", reason)

    def on_disconnect(self, now_us: int) -> Iterable[Intent]:
        return self._note("disconnect")

    def on_trading_disabled(self, state: TradingState, now_us: int) -> Iterable[Intent]:
        return self._note("disabled", state.mode)

    def on_stop(self, now_us: int) -> Iterable[Intent]:
        return self._note("stop")


class Scene:
    """The service with a market that is silent, an engine that only cancels, and a hub that takes every order, or
    refuses it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.diaries: list[Diary] = []
        self.calls: list[tuple[str, Mapping[str, Any], Caller]] = []
        self.refusal: HubError | None = None
        self.rights: Callable[[Caller], Caller] = lambda caller: caller
        self.gate = asyncio.Event()
        self.gate.set()
        self.clock = ManualClock()
        self.followed: list[str] = []
        self.canceled: list[tuple[str, str | None]] = []
        self.service = Strategies(
            self,
            StrategyTable(database),
            call=self.call,
            follow=self.follow,
            leave=lambda channel: self.followed.remove(channel),
            judge=lambda caller: self.rights(caller),
            access=Access(Namespaces(), report=lambda event: None),
            clock=self.clock,
            catalog={"diary": Kind(Nothing, self.make)},
        )

    def make(self, setting: Setting, parameters: Nothing) -> Strategy:
        self.diaries.append(Diary(setting))
        return self.diaries[-1]

    def tick(self, symbol: str) -> PriceTick | None:
        return None

    def instrument(self, symbol: str) -> Instrument | None:
        return None

    async def call(self, method: str, params: Mapping[str, Any], caller: Caller) -> object:
        self.calls.append((method, params, caller))
        await self.gate.wait()
        if self.refusal is not None and method == "orders.submit":
            raise self.refusal
        return {}

    async def follow(self, channel: str) -> None:
        if channel not in self.followed:
            self.followed.append(channel)

    async def cancel_all(self, asked: OrderCancelAll, *, user: str, text: str | None = None) -> int:
        self.canceled.append((asked.account, asked.strategy_id))
        return 1

    async def start(self, strategy_id: str = "s1", caller: Caller = DESK, **fields: Any) -> StrategyState:
        self.clock.advance(1)
        told = {"account": "desk", "strategy_id": strategy_id, "strategy": "diary", "symbols": [SYMBOL], **fields}
        return await self.service.start(told, caller)

    async def stop(self, strategy_id: str = "s1", caller: Caller = DESK) -> StrategyState:
        return await self.service.stop({"account": "desk", "strategy_id": strategy_id}, caller)

    async def list(self, caller: Caller = DESK) -> list[StrategyState]:
        return await self.service.list({"account": "desk"}, caller)

    async def ended(self) -> None:
        """Until no strategy runs."""
        async with asyncio.timeout(5):
            while any(each.state in ("RUNNING", "STOPPING") for each in await self.list()):
                await asyncio.sleep(0.001)

    async def told(self, count: int, diary: int = 0) -> list[tuple[str, Any]]:
        """What the strategy has written down, once it is so much."""
        async with asyncio.timeout(5):
            while len(self.diaries) <= diary or len(self.diaries[diary].told) < count:
                await asyncio.sleep(0)
        return self.diaries[diary].told


@asynccontextmanager
async def term(scene: Scene) -> AsyncIterator[None]:
    """As long as this node leads."""
    task = asyncio.create_task(scene.service.run(scene))  # type: ignore[arg-type]  # what of the engine it needs
    async with asyncio.timeout(5):
        while not scene.service.ready:
            await asyncio.sleep(0.001)
    yield
    task.cancel()
    await asyncio.wait([task])


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    await database.execute("TRUNCATE strategy_runs")
    made = Scene(database)
    async with term(made):
        yield made


def tick(bid: str, symbol: str = SYMBOL) -> PriceTick:
    return PriceTick(symbol=symbol, bid=bid)


def report(order: OrderSubmit, **fields: Any) -> ExecutionReport:
    told: dict[str, Any] = {"exec_type": "NEW", "ord_status": "NEW", **fields}
    return ExecutionReport(
        account=order.account,
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        strategy_id=order.strategy_id,
        **told,
    )


async def test_a_strategy_hears_of_its_symbols_its_orders_and_its_kill_switches_and_of_no_others(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)
    order = scene.diaries[0].blotter.submit(SYMBOL, "BUY", Decimal(1))
    for happening in (
        tick("1", "ETH-USD"),
        tick("2"),
        Trade(symbol=SYMBOL, price="3", size="1"),
        report(order),
        report(msgspec.structs.replace(order, strategy_id="s2")),
        report(msgspec.structs.replace(order, account="other")),
        TradingState(scope="ACCOUNT", name="other", mode="HALTED"),
        TradingState(scope="ACCOUNT", name="desk", mode="REDUCING"),
        TradingState(scope="SYMBOL", name="ETH-USD", mode="HALTED"),
        TradingState(scope="STRATEGY", name="s1", mode="HALTED"),
        TradingState(scope="GLOBAL", mode="HALTED"),
    ):
        scene.service.hear(happening)

    told = await scene.told(7)

    assert told == [
        ("start", None),
        ("trade", "3"),
        ("execution", "NEW"),
        ("disabled", "REDUCING"),
        ("disabled", "HALTED"),
        ("disabled", "HALTED"),
        ("quote", "2"),
    ]


async def test_the_bars_it_wants_are_followed_as_long_as_somebody_wants_them(scene: Scene) -> None:
    await scene.start(symbols=[SYMBOL, "X"])
    await scene.start("s2", symbols=["X"])
    assert sorted(scene.followed) == ["bars:1m:BTC-USD", "bars:1m:X", "bars:1s:BTC-USD", "bars:1s:X"]

    await scene.stop()
    await scene.told(1, 1)
    async with asyncio.timeout(5):
        while "bars:1s:BTC-USD" in scene.followed:
            await asyncio.sleep(0.001)

    assert sorted(scene.followed) == ["bars:1m:X", "bars:1s:X"]


async def test_quotes_that_come_too_fast_are_put_together_and_nothing_else_is(scene: Scene) -> None:
    await scene.start()
    scene.gate.clear()
    await scene.told(1)
    for n in range(100):
        scene.service.hear(tick(str(n)))
        scene.service.hear(Trade(symbol=SYMBOL, price=str(n), size="1"))

    told = await scene.told(102)

    assert [what for hook, what in told if hook == "trade"] == [str(n) for n in range(100)]
    assert [what for hook, what in told if hook == "quote"] == ["99"]


async def test_its_orders_go_the_way_of_everybodys_with_the_rights_of_who_started_it(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)
    diary = scene.diaries[0]
    diary.answers["quote"] = lambda: [diary.blotter.submit(SYMBOL, "BUY", Decimal("0.5"), price=Decimal(7))]

    scene.service.hear(tick("1"))
    await scene.told(2)
    await asyncio.sleep(0)

    [(method, params, caller)] = scene.calls
    assert method == "orders.submit"
    order = msgspec.convert(params, OrderSubmit)
    assert (order.account, order.strategy_id, order.qty, order.price) == ("desk", "s1", "0.5", "7")
    assert (caller.user, caller.roles, caller.connection) == ("desk", DESK.roles, None)


async def test_who_has_lost_their_rights_trades_no_more(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)
    diary = scene.diaries[0]
    diary.answers["quote"] = lambda: [diary.blotter.submit(SYMBOL, "BUY", Decimal(1))]

    def gone(caller: Caller) -> Caller:
        raise HubError(ErrorCode.TOKEN_INVALID, "signed out")

    scene.rights = gone
    scene.service.hear(tick("1"))

    assert (await scene.told(3))[2] == ("refused", "token_invalid")
    assert scene.calls == []


async def test_the_orders_of_who_has_lost_their_rights_are_canceled_by_the_hub(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)

    def gone(caller: Caller) -> Caller:
        raise HubError(ErrorCode.TOKEN_INVALID, "signed out")

    scene.rights = gone
    stopped = await scene.stop()

    assert (stopped.state, scene.calls, scene.canceled) == ("STOPPED", [], [("desk", "s1")])


async def test_a_refusal_is_told_once_and_the_order_is_not_open(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)
    diary = scene.diaries[0]
    again = lambda: [diary.blotter.submit(SYMBOL, "BUY", Decimal(1))]  # noqa: E731 - two hooks answer the same
    diary.answers |= {"quote": again, "refused": again}
    scene.refusal = HubError(ErrorCode.NOT_AVAILABLE, "no engine")

    scene.service.hear(tick("1"))
    told = await scene.told(4)
    await asyncio.sleep(0)

    assert told == [("start", None), ("quote", "1"), ("refused", "not_available"), ("disconnect", None)]
    assert len(scene.calls) == 2  # the second attempt is not told of again: it would never end
    assert list(diary.blotter.open(SYMBOL)) == []


async def test_stopping_lets_it_speak_and_then_cancels_what_is_left(scene: Scene) -> None:
    started = await scene.start()
    await scene.told(1)

    stopped = await scene.stop()

    assert (started.state, stopped.state, stopped.stopped_by) == ("RUNNING", "STOPPED", "desk")
    assert await scene.told(2) == [("start", None), ("stop", None)]
    assert [(method, params) for method, params, _ in scene.calls] == [
        ("orders.cancel_all", {"account": "desk", "strategy_id": "s1"})
    ]
    scene.service.hear(tick("1"))
    await scene.ended()
    assert len(scene.diaries[0].told) == 2
    with pytest.raises(HubError, match="no such strategy"):
        await scene.stop()
    [kept] = await scene.list()
    assert kept == msgspec.structs.replace(stopped, positions={}, submitted=0, executions=0)


async def test_one_that_fails_is_cleared_up_and_the_others_go_on(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.start("s1")
    await scene.start("s2")
    await scene.told(1, 1)

    def fail() -> Iterable[Intent]:
        raise ZeroDivisionError

    scene.diaries[0].answers["quote"] = fail
    scene.service.hear(tick("1"))
    await scene.told(2, 1)
    async with asyncio.timeout(5):
        while not scene.calls:
            await asyncio.sleep(0)

    async with asyncio.timeout(5):
        while (await scene.list())[1].state != "FAILED":
            await asyncio.sleep(0.001)
    other, one = await scene.list()
    assert (one.state, one.reason, other.state) == ("FAILED", "it failed with ZeroDivisionError", "RUNNING")
    assert scene.calls[0][:2] == ("orders.cancel_all", {"account": "desk", "strategy_id": "s1"})
    assert "strategy s1 of desk failed" in caplog.text


async def test_one_that_falls_behind_does_not_go_on_trading(scene: Scene) -> None:
    await scene.start()
    await scene.told(1)
    for _ in range(runner.MAX_WAITING + 1):
        scene.service.hear(Trade(symbol=SYMBOL, price="1", size="1"))
    await scene.ended()

    [state] = await scene.list()
    assert (state.state, state.reason) == ("FAILED", "it was too slow for what happened")


async def test_a_name_runs_once_and_again_after_its_end(scene: Scene) -> None:
    await scene.start()
    with pytest.raises(HubError, match="is running") as error:
        await scene.start()
    assert error.value.code is ErrorCode.VERSION_CONFLICT
    await scene.stop()
    await scene.ended()

    assert (await scene.start()).state == "RUNNING"
    assert [each.state for each in await scene.list()] == ["RUNNING", "STOPPED"]


async def test_so_many_run_at_once(scene: Scene) -> None:
    for n in range(MAX_STRATEGIES):
        await scene.start(f"s{n}")
    with pytest.raises(HubError) as error:
        await scene.start("one-more")
    assert error.value.code is ErrorCode.LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("fields", "name", "path"),
    [
        ({"account": "other"}, "permission_denied", "$.params.account"),
        ({"strategy": "nothing"}, "not_found", "$.params.strategy"),
        ({"symbols": []}, "schema_invalid", "$.params.symbols"),
        ({"parameters": {"odd": 1}}, "schema_invalid", "$.params.parameters"),
        ({"strategy_id": "a b"}, "schema_invalid", "$.params.strategy_id"),
    ],
)
async def test_what_cannot_be_started_says_why(scene: Scene, fields: dict[str, Any], name: str, path: str) -> None:
    with pytest.raises(HubError) as error:
        await scene.start(**fields)
    assert (error.value.code.wire_name, error.value.path) == (name, path)
    assert await scene.list(SYSTEM) == []


async def test_only_who_may_see_the_account_sees_its_strategies_and_only_who_may_trade_in_it_stops_them(
    scene: Scene,
) -> None:
    await scene.start()
    stranger = Caller(user="bob", roles=frozenset({"trader"}), transport="websocket")
    with pytest.raises(HubError, match="may not"):
        await scene.list(stranger)
    with pytest.raises(HubError, match="may not"):
        await scene.stop(caller=stranger)
    with pytest.raises(HubError, match="no such strategy"):
        await scene.stop("unknown")


async def test_without_the_engine_nothing_starts(database: Database) -> None:
    with pytest.raises(HubError) as error:
        await Scene(database).start()
    assert error.value.code is ErrorCode.NOT_AVAILABLE


async def test_strategies_end_with_their_engine_and_the_next_one_cancels_what_they_left(scene: Scene) -> None:
    after = Scene(scene.database)
    after.clock.advance(60)
    await scene.start("s1")
    await scene.start("s2")
    await scene.stop("s2")
    await scene.told(1)

    async with term(after):
        [two, one] = await after.list()
        assert (one.state, one.reason, two.state) == ("STOPPED", "its engine ended", "STOPPED")
        assert after.canceled == [("desk", "s1")]
        assert (await after.start("s1")).state == "RUNNING"
