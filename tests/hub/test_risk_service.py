"""The `risk.*` methods over a real database: who may, what holds, what is told, what survives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from engine_double import EngineDouble
from msgspec.structs import replace

from hub.caller import Caller
from hub.guard.events import SecurityEvent
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.desk import RiskDesk
from hub.trading.risk.service import RiskService
from protocol.errors import ErrorCode, HubError
from protocol.trading import TradingState
from storage.database import Database
from storage.errors import Unavailable
from storage.orders import OrderLog
from storage.risk import RiskTable


def person(name: str, *roles: str, **fields: Any) -> Caller:
    return Caller(**({"user": name, "roles": frozenset(roles), "transport": "websocket"} | fields))


RITA, ROB = person("rita", "risk"), person("rob", "risk")
ANN, BOB = person("ann", "trader"), person("bob", "trader")
STRANGERS = [
    BOB,
    person("dora", "dashboard"),
    person("tom", "admin", tenant="acme"),
    person("tim", "risk", tenant="acme"),
]


class FailingTable(RiskTable):
    """A real table behind a database that is away now and then."""

    away = False

    async def set_state(self, state: TradingState, *, epoch: int, by: str = "krin") -> None:
        if self.away:
            raise Unavailable("The database cannot be reached.")
        await super().set_state(state, epoch=epoch, by=by)


class Room:
    """A risk service as one node has it. `restarted` is the next one on the same database."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.database = database
        self.table = FailingTable(database)
        self.engine = EngineDouble()
        self.desk = RiskDesk(RiskChecks(clock=self.clock))
        self.told: list[tuple[str, str]] = []  # (key, mode)
        self.channel_away = False
        self.leads = True
        self.events: list[SecurityEvent] = []
        self.service = RiskService(
            self.desk,
            self.table,
            self.leading,
            may_see=lambda caller, account: caller.user == account or "risk" in caller.roles,
            may_command=lambda caller, account: caller.user == account,
            publish=self._publish,
            report=self.events.append,
            clock=self.clock,
        )

    def leading(self) -> EngineDouble:
        if not self.leads:
            raise HubError(ErrorCode.NOT_AVAILABLE, "another node leads")
        return self.engine

    async def _publish(self, channel: str, type: str, data: Any, key: str | None, coordination: Any = None) -> None:
        if self.channel_away:
            raise HubError(ErrorCode.NOT_AVAILABLE, "the broker is away")
        assert (channel, type) == ("trading:state", "TRADING_STATE")
        self.told.append((str(key), data.mode))

    async def begin(self) -> None:
        await self.service.load((await OrderLog(self.database).take_over("test")).epoch)

    async def restarted(self) -> Room:
        room = Room(self.database)
        await room.begin()
        return room

    async def call(self, method: str, caller: Caller, **params: Any) -> Any:
        result = self.service.methods[method](params, caller)
        return await result if hasattr(result, "__await__") else result

    async def refused(self, method: str, caller: Caller, **params: Any) -> str:
        with pytest.raises(HubError) as caught:
            await self.call(method, caller, **params)
        return caught.value.code.wire_name


@pytest_asyncio.fixture
async def room(database: Database) -> AsyncIterator[Room]:
    await database.execute("TRUNCATE risk_limits, trading_states")
    await database.execute("UPDATE risk_head SET version = 0")
    made = Room(database)
    await made.begin()
    yield made


ACCOUNT: Mapping[str, str] = {"scope": "ACCOUNT", "name": "ann"}


async def test_limits_are_set_live_with_a_version_and_survive_a_restart(room: Room) -> None:
    answer = await room.call("risk.set_limits", RITA, **ACCOUNT, limits={"max_qty": "5", "max_notional": None})
    assert (answer.version, answer.limits.max_qty, answer.limits.max_notional) == (1, "5", None)
    assert [layer.name for layer in answer.layers] == ["ann"]
    assert room.desk.limits("ann").max_qty == 5
    again = await room.restarted()
    assert (await again.call("risk.limits", ANN, account="ann")) == answer


async def test_limits_that_changed_meanwhile_are_not_overwritten(room: Room) -> None:
    await room.call("risk.set_limits", RITA, **ACCOUNT, limits={"max_qty": "5"}, expected_version=0)
    stale = await room.refused("risk.set_limits", ROB, **ACCOUNT, limits={"max_qty": "9"}, expected_version=0)
    assert stale == "version_conflict"
    assert room.desk.limits("ann").max_qty == 5


@pytest.mark.parametrize("caller", STRANGERS, ids=lambda caller: f"{caller.user}")
async def test_whoever_is_no_officer_changes_nothing_and_is_reported(room: Room, caller: Caller) -> None:
    assert await room.refused("risk.set_limits", caller, **ACCOUNT, limits={}) == "permission_denied"
    assert await room.refused("risk.halt", caller, **ACCOUNT, reason="x") == "permission_denied"
    assert await room.refused("risk.halt", caller, scope="GLOBAL", reason="x") == "permission_denied"
    await room.call("risk.halt", RITA, **ACCOUNT, reason="x")
    assert await room.refused("risk.resume", caller, **ACCOUNT) == "permission_denied"
    assert [event.name for event in room.events] == ["authz_fail"] * 4
    assert room.desk.states["ACCOUNT", "ann"].mode == "HALTED"


async def test_limits_are_shown_to_whoever_may_see_the_account(room: Room) -> None:
    assert (await room.call("risk.limits", ANN, account="ann")).version == 0
    assert await room.refused("risk.limits", BOB, account="ann") == "permission_denied"


@pytest.mark.parametrize("params", [{"scope": "GLOBAL", "name": "ann"}, {"scope": "ACCOUNT"}, {"scope": "ALL"}])
async def test_a_scope_that_does_not_exist_is_refused(room: Room, params: dict[str, str]) -> None:
    assert await room.refused("risk.halt", RITA, **params, reason="x") == "schema_invalid"
    assert await room.refused("risk.resume", RITA, **params) == "schema_invalid"
    assert await room.refused("risk.set_limits", RITA, **params, limits={}) == "schema_invalid"


async def test_a_halt_holds_cancels_is_told_and_survives_a_restart(room: Room) -> None:
    answer = await room.call("risk.halt", RITA, scope="GLOBAL", reason="fire drill")
    assert (answer.state.mode, answer.state.actor, answer.state.reason, answer.canceled) == (
        "HALTED",
        "rita",
        "fire drill",
        3,
    )
    assert room.engine.canceled == [("GLOBAL", "*")]
    assert room.told == [("GLOBAL:*", "HALTED")]
    again = await room.restarted()
    assert (await again.call("risk.state", BOB)).states == [answer.state]
    await again.service.watch()
    assert again.told == [("GLOBAL:*", "HALTED")]


async def test_only_reducing_may_leave_the_orders_alone(room: Room) -> None:
    answer = await room.call("risk.halt", RITA, **ACCOUNT, mode="REDUCING", reason="x", cancel=False)
    assert (answer.canceled, room.engine.canceled, room.told) == (0, [], [("ACCOUNT:ann", "REDUCING")])
    assert await room.refused("risk.halt", RITA, **ACCOUNT, mode="ACTIVE", reason="x") == "schema_invalid"


async def test_a_trader_halts_the_own_account_and_resumes_what_they_halted(room: Room) -> None:
    await room.call("risk.halt", ANN, **ACCOUNT, reason="lunch")
    assert (await room.call("risk.resume", ANN, **ACCOUNT)).state.mode == "ACTIVE"
    assert room.told == [("ACCOUNT:ann", "HALTED"), ("ACCOUNT:ann", "ACTIVE")]
    assert (await room.table.load()).states == []
    await room.call("risk.halt", RITA, **ACCOUNT, reason="too wild")
    assert await room.refused("risk.resume", ANN, **ACCOUNT) == "permission_denied"


async def test_a_trader_does_not_make_the_halt_of_another_the_own_one(room: Room) -> None:
    halted = (await room.call("risk.halt", RITA, **ACCOUNT, reason="too wild")).state
    for mode in ("HALTED", "REDUCING"):
        assert await room.refused("risk.halt", ANN, **ACCOUNT, mode=mode, reason="mine") == "permission_denied"
    assert room.desk.states["ACCOUNT", "ann"] == halted


async def test_a_machine_may_halt_and_only_a_person_may_resume(room: Room) -> None:
    machine = person("watchdog", "risk", principal="machine")
    await room.call("risk.halt", machine, **ACCOUNT, reason="heartbeat lost")
    assert await room.refused("risk.resume", machine, **ACCOUNT) == "permission_denied"
    assert (await room.call("risk.resume", RITA, **ACCOUNT)).state.mode == "ACTIVE"
    assert await room.refused("risk.resume", RITA, **ACCOUNT) == "not_found"


async def test_a_halt_holds_even_while_it_cannot_be_written_down_and_is_written_down_later(room: Room) -> None:
    room.table.away = True
    assert await room.refused("risk.halt", RITA, **ACCOUNT, reason="x") == "not_available"
    assert room.desk.states["ACCOUNT", "ann"].mode == "HALTED"
    assert await room.refused("risk.resume", RITA, **ACCOUNT) == "not_available"
    assert room.desk.states["ACCOUNT", "ann"].mode == "HALTED", "what cannot be written down is not reset"
    await room.service.watch()
    assert room.told == [("ACCOUNT:ann", "HALTED")]
    assert (await room.table.load()).states == []
    await room.begin()
    assert room.desk.states["ACCOUNT", "ann"].mode == "HALTED", "another term of the engine begins with it"
    room.table.away = False
    await room.service.watch()
    assert (await room.restarted()).desk.states["ACCOUNT", "ann"].mode == "HALTED"


async def test_a_halt_whose_cancels_fail_holds_and_is_written_down(room: Room) -> None:
    room.engine.away = True
    assert await room.refused("risk.halt", RITA, **ACCOUNT, reason="x") == "not_available"
    assert room.desk.states["ACCOUNT", "ann"].mode == "HALTED"
    room.engine.away = False
    await room.service.watch()
    assert room.engine.canceled == [("ACCOUNT", "ann")]
    assert (await room.restarted()).desk.states["ACCOUNT", "ann"].mode == "HALTED"


async def test_a_state_that_could_not_be_told_is_told_later(room: Room) -> None:
    room.channel_away = True
    await room.call("risk.halt", RITA, **ACCOUNT, reason="x")
    await room.call("risk.resume", RITA, **ACCOUNT)
    room.channel_away = False
    await room.service.watch()
    assert room.told == [("ACCOUNT:ann", "ACTIVE")], "only the newest counts"


async def test_a_daily_loss_is_noticed_without_an_order_and_written_down(room: Room) -> None:
    await room.call("risk.set_limits", RITA, **ACCOUNT, limits={"max_daily_loss": "500"})
    room.engine.results["ann"] = Decimal("-499.99")
    await room.service.watch()
    assert room.told == []
    room.engine.results["ann"] = Decimal(-500)
    await room.service.watch()
    assert room.told == [("ACCOUNT:ann", "REDUCING")]
    assert room.engine.canceled == []
    assert (await room.restarted()).desk.states["ACCOUNT", "ann"].actor == "krin"
    assert await room.refused("risk.resume", ANN, **ACCOUNT) == "permission_denied"


async def test_a_strategy_halted_by_its_own_trades_has_its_orders_canceled(room: Room) -> None:
    await room.call("risk.set_limits", RITA, scope="STRATEGY", name="s", limits={"max_executions": 1})
    order = room.engine.wait_for_approval("c", now_us=room.clock.now_us())
    room.desk.executed(replace(order, strategy_id="s"), now_us=room.clock.now_us())
    await room.service.watch()
    assert room.engine.canceled == [("STRATEGY", "s")]
    assert room.told == [("STRATEGY:s", "HALTED")]


async def test_the_service_of_an_engine_that_was_replaced_halts_and_loosens_nothing_for_others(room: Room) -> None:
    again = await room.restarted()
    assert await room.refused("risk.set_limits", RITA, **ACCOUNT, limits={"max_qty": None}) == "not_available"
    assert await room.refused("risk.halt", RITA, **ACCOUNT, reason="x") == "not_available"
    assert (await again.call("risk.state", BOB)).states == []
    assert (await room.table.load()).version == 0


async def test_a_node_that_does_not_lead_only_waits_until_it_does(room: Room) -> None:
    await room.call("risk.set_limits", RITA, **ACCOUNT, limits={"max_daily_loss": "500"})
    room.engine.results["ann"] = Decimal(-500)
    room.leads = False
    running = asyncio.create_task(room.service.run())
    await room.clock.until_somebody_sleeps()
    assert room.told == []
    assert await room.refused("risk.approve", RITA, **WAITING) == "not_available"
    room.leads = True
    room.clock.advance(0.5)
    async with asyncio.timeout(5):
        while not room.told:
            await asyncio.sleep(0.01)
    assert room.told == [("ACCOUNT:ann", "REDUCING")]
    running.cancel()


WAITING: Mapping[str, str] = {"account": "ann", "client_order_id": "c-1"}


async def approvable(room: Room, **limits: Any) -> None:
    await room.call("risk.set_limits", RITA, **ACCOUNT, limits={"max_qty": "5", "approver_role": "head", **limits})
    room.engine.wait_for_approval("c-1", now_us=room.clock.now_us())


HEAD = person("hugo", "head")


async def test_an_order_above_a_limit_goes_on_when_somebody_of_the_role_approves_it(room: Room) -> None:
    await approvable(room)
    answer = await room.call("risk.approve", HEAD, **WAITING, reason="a hedge")
    assert (answer.approved_by, answer.required, answer.declined) == (["hugo"], 1, False)
    [override] = room.engine.overrides
    assert (override.order_id, override.approvers) == ("o-c-1", frozenset({"hugo"}))
    assert override.expires_us == room.clock.now_us() + 300_000_000
    assert await room.refused("risk.approve", HEAD, **WAITING) == "not_found"


async def test_four_eyes_the_submitter_and_the_account_do_not_approve_their_own_order(room: Room) -> None:
    await approvable(room)
    assert await room.refused("risk.approve", person("ann", "trader", "head"), **WAITING) == "permission_denied"
    room.engine.wait_for_approval("c-1", now_us=room.clock.now_us(), user="hugo")
    assert await room.refused("risk.approve", HEAD, **WAITING) == "permission_denied"
    assert await room.refused("risk.approve", BOB, **WAITING) == "permission_denied"
    assert (
        await room.refused("risk.approve", person("bot", "head", principal="machine"), **WAITING) == "permission_denied"
    )
    assert room.engine.overrides == []


async def test_two_of_the_role_must_approve_where_two_are_required(room: Room) -> None:
    await approvable(room, approvals_required=2)
    for _ in range(2):
        assert (await room.call("risk.approve", HEAD, **WAITING)).approved_by == ["hugo"]
    assert room.engine.overrides == []
    assert (await room.call("risk.approve", RITA, **WAITING)).approved_by == ["hugo", "rita"]
    assert room.engine.overrides[0].approvers == {"hugo", "rita"}


async def test_a_declined_order_is_denied(room: Room) -> None:
    await approvable(room)
    assert (await room.call("risk.decline", HEAD, **WAITING, reason="no")).declined
    assert room.engine.denied == [("c-1", "APPROVAL_DECLINED", "hugo")]
    assert await room.refused("risk.decline", HEAD, **WAITING) == "not_found"


async def test_the_orders_that_wait_are_listed_for_those_who_placed_them_or_may_approve_them(room: Room) -> None:
    await approvable(room, approvals_required=2, approval_ttl_ms=60_000)
    await room.call("risk.approve", HEAD, **WAITING)
    for caller in (ANN, HEAD, RITA):
        [waiting] = (await room.call("risk.waiting", caller)).orders
        assert (waiting.account, waiting.client_order_id) == ("ann", "c-1")
        approval = waiting.approval
        assert (approval.approval_id, approval.subject) == ("order:o-c-1", "BUY 6 BTC-USD at 100 for ann")
        assert (approval.approver_roles, approval.quorum, approval.state) == (["head"], 2, "REQUESTED")
        assert approval.expires_at == room.clock.now_us() + 60_000_000
        assert [(each.user, each.decision) for each in approval.answers] == [("hugo", "APPROVED")]
    for stranger in STRANGERS:
        assert (await room.call("risk.waiting", stranger)).orders == []
    await room.call("risk.approve", RITA, **WAITING)
    assert (await room.call("risk.waiting", RITA)).orders == []


async def test_an_order_that_nobody_approves_in_time_is_denied(room: Room) -> None:
    await approvable(room, approval_ttl_ms=10_000)
    room.clock.advance(9.999)
    await room.service.watch()
    assert room.engine.denied == []
    room.clock.advance(0.001)
    assert await room.refused("risk.approve", HEAD, **WAITING) == "illegal_transition"
    await room.service.watch()
    assert room.engine.denied == [("c-1", "APPROVAL_EXPIRED", "krin")]


async def test_the_orders_that_wait_are_no_secret_of_whom_may_not_ask(room: Room) -> None:
    await approvable(room)
    absent = await room.refused("risk.approve", BOB, account="ann", client_order_id="nothing")
    assert absent == await room.refused("risk.approve", BOB, **WAITING) == "permission_denied"
