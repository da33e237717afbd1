"""The `risk.*` methods, and what the desk must do by the clock, on the node that has the engine.

Rule: a switch is thrown before it is written down, and written down before it is reset. Whatever fails, trading is
halted rather than not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hub.caller import Caller
from hub.clock import Clock
from hub.dispatch import Method, convert
from hub.guard.events import Report
from hub.trading.outgoing import Publish
from hub.trading.risk.approvals import Approvals
from hub.trading.risk.desk import Place, RiskDesk
from hub.trading.risk.limits import in_words
from hub.trading.risk.officers import Officers
from hub.trading.risk.ports import Engine, stored
from protocol.errors import ErrorCode, HubError
from protocol.risk import Halt, LimitLayer, LimitsInForce, LimitsOf, Resume, RiskState, SetLimits, StateChanged
from protocol.trading import TradingScope, TradingState
from storage.errors import StorageError
from storage.risk import RiskTable

logger = logging.getLogger("krin.risk")

CHANNEL = "trading:state"
WATCH_INTERVAL_S = 0.5


class RiskService:
    def __init__(
        self,
        desk: RiskDesk,
        table: RiskTable,
        engine: Engine,
        *,
        may_see: Callable[[Caller, str], bool],
        may_command: Callable[[Caller, str], bool],
        publish: Publish,
        report: Report,
        clock: Clock,
    ) -> None:
        """`may_see` and `may_command` are about an account, by its channels."""
        self._desk = desk
        self._table = table
        self._engine = engine
        self._may_see = may_see
        self._may_command = may_command
        self._publish = publish
        self._clock = clock
        self._officers = Officers(report=report)
        self._approvals = Approvals(desk, table, engine, officers=self._officers, clock=clock)
        self._changing = asyncio.Lock()  # one change at a time, so that store, desk and channel agree on the last one
        self._untold: dict[Place, TradingState] = {}
        self._epoch = 0
        self.methods: Mapping[str, Method] = {
            "risk.limits": self.limits,
            "risk.set_limits": self.set_limits,
            "risk.state": self.state,
            "risk.halt": self.halt,
            "risk.resume": self.resume,
            "risk.waiting": self._approvals.waiting,
            "risk.approve": self._approvals.approve,
            "risk.decline": self._approvals.decline,
        }

    async def load(self, epoch: int) -> None:
        """Begin with what is stored; before the first order. `epoch` is the engine's. Raises StorageError."""
        self._epoch = epoch
        record = await self._table.load()
        self._desk.restore(version=record.version, layers=record.layers, states=record.states)
        self._untold = {(state.scope, state.name): state for state in record.states}

    async def run(self) -> None:
        """As long as the node lives; it does something only while the node leads."""
        while True:
            with suppress(HubError):  # not_available: another node has the engine
                await self.watch()
            await self._clock.sleep(WATCH_INTERVAL_S)

    async def watch(self) -> None:
        """Look at results and at approvals that have run out; write down and tell what was thrown."""
        engine = self._engine()
        if self._desk.limits_losses:
            for account, result in engine.daily_results():
                self._desk.profit(account, result, now_us=self._clock.now_us())
        for state in self._desk.take_changes():
            await self._keep_thrown(state)
        await self._approvals.expire()
        await self._tell()

    # --- limits ---

    def limits(self, params: Mapping[str, Any], caller: Caller) -> LimitsInForce:
        """Raises HubError(permission_denied)."""
        asked: LimitsOf = convert(params, LimitsOf)
        if not self._may_see(caller, asked.account):
            self._officers.refuse(caller, f"risk:{asked.account}", "you may not see this account")
        return self._in_force(asked.account, asked.strategy_id, asked.symbol)

    async def set_limits(self, params: Mapping[str, Any], caller: Caller) -> LimitsInForce:
        """Holds from the next order on.

        Raises HubError(permission_denied, version_conflict, not_available).
        """
        asked: SetLimits = convert(params, SetLimits)
        self._officers.require(caller, "risk.set_limits")
        layer = LimitLayer(scope=asked.scope, name=_named(asked.scope, asked.name), limits=asked.limits)
        async with self._changing:
            with stored():
                version = await self._table.set_limits(
                    layer, epoch=self._epoch, expected_version=asked.expected_version, by=caller.user
                )
            self._desk.set_limits(layer, version)
        return self._in_force(
            layer.name if layer.scope == "ACCOUNT" else "*",
            layer.name if layer.scope == "STRATEGY" else None,
            layer.name if layer.scope == "SYMBOL" else None,
        )

    def _in_force(self, account: str, strategy_id: str | None, symbol: str | None) -> LimitsInForce:
        return LimitsInForce(
            version=self._desk.version,
            layers=self._desk.layers(account, strategy_id, symbol),
            limits=in_words(self._desk.limits(account, strategy_id, symbol)),
        )

    # --- kill switches ---

    def state(self, params: Mapping[str, Any], caller: Caller) -> RiskState:
        return RiskState(version=self._desk.version, states=list(self._desk.states.values()))

    async def halt(self, params: Mapping[str, Any], caller: Caller) -> StateChanged:
        """By an officer, or of an account by whoever may trade for it, unless somebody else has halted it. It holds
        at once, written down or not.

        Raises HubError(permission_denied, not_available).
        """
        asked: Halt = convert(params, Halt)
        name = _named(asked.scope, asked.name)
        thrown = self._desk.states.get((asked.scope, name))
        own = asked.scope == "ACCOUNT" and (thrown is None or thrown.actor == caller.user)
        if not (own and self._may_command(caller, name)):  # who halts may resume: nobody makes another's halt their own
            self._officers.require(caller, "risk.halt")
        state = TradingState(
            scope=asked.scope,
            name=name,
            mode=asked.mode,
            reason=asked.reason,
            actor=caller.user,
            ts_event=self._clock.now_us(),
        )
        self._desk.set_state(state)
        try:
            canceled = await self._engine().cancel_scope(asked.scope, name, by=caller.user) if asked.cancel else 0
            async with self._changing:
                self._desk.set_state(state)  # once more: somebody may have resumed it meanwhile
                with stored():
                    await self._table.set_state(state, epoch=self._epoch, by=caller.user)
                await self._tell(state)
        except BaseException:
            self._desk.put_back(state)  # the watch goes on trying
            raise
        return StateChanged(state=state, canceled=canceled)

    async def resume(self, params: Mapping[str, Any], caller: Caller) -> StateChanged:
        """By an officer, or by whoever has halted an account that they may trade for.

        Raises HubError(permission_denied, not_found, not_available).
        """
        asked: Resume = convert(params, Resume)
        name = _named(asked.scope, asked.name)
        async with self._changing:
            thrown = self._desk.states.get((asked.scope, name))
            own = asked.scope == "ACCOUNT" and thrown is not None and thrown.actor == caller.user
            if not (own and self._may_command(caller, name)):
                self._officers.require(caller, "risk.resume")
            self._officers.require_person(caller, "risk.resume")
            if thrown is None:
                raise HubError(ErrorCode.NOT_FOUND, "this scope is active")
            state = TradingState(
                scope=asked.scope,
                name=name,
                mode="ACTIVE",
                reason=asked.reason,
                actor=caller.user,
                ts_event=self._clock.now_us(),
            )
            with stored():
                await self._table.set_state(state, epoch=self._epoch, by=caller.user)
            self._desk.set_state(state)
            await self._tell(state)
        return StateChanged(state=state)

    async def _keep_thrown(self, state: TradingState) -> None:
        """Write down what the desk has thrown by itself, or what could not be written down before."""
        place = (state.scope, state.name)
        async with self._changing:
            if self._desk.states.get(place) is not state:
                return  # somebody has decided otherwise
            self._untold[place] = state
            logger.warning("trading of %s %s is %s: %s", *place, state.mode, state.reason)
            try:
                if state.mode == "HALTED":
                    await self._engine().cancel_scope(*place, by=state.actor or "")
                await self._table.set_state(state, epoch=self._epoch, by=state.actor or "")
            except (HubError, StorageError) as failure:
                logger.error("a halt holds, but is not written down yet: %s", failure)
                self._desk.put_back(state)

    async def _tell(self, state: TradingState | None = None) -> None:
        """Publish what has not been told; what cannot be told now is told later."""
        if state is not None:
            self._untold[state.scope, state.name] = state
        for place, untold in list(self._untold.items()):
            try:
                await self._publish(CHANNEL, "TRADING_STATE", untold, ":".join(place))
            except HubError as failure:
                logger.warning("a trading state waits to be told: %s", failure)
                return
            if self._untold.get(place) is untold:
                del self._untold[place]


def _named(scope: TradingScope, name: str) -> str:
    """The name of a scope. Raises HubError(schema_invalid)."""
    if (scope == "GLOBAL") != (name == "*"):
        raise HubError(ErrorCode.SCHEMA_INVALID, "GLOBAL is named *, every other scope is not", path="$.params.name")
    return name
