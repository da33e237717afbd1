"""The risk desk: the one owner of limits in force, kill switches and recent activity, on the node that has the engine.

Nothing here waits. What must be written down and told because of what happened is in `take_changes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hub.trading.decimals import text
from hub.trading.orders.order import Order
from hub.trading.reasons import Reason
from hub.trading.risk.activity import Activity
from hub.trading.risk.checks import RiskChecks
from hub.trading.risk.decision import Outcome
from hub.trading.risk.limits import Limits, layered
from hub.trading.risk.view import Facts, Override, Recent, RiskView
from protocol.risk import LimitLayer, RiskLimits
from protocol.trading import RiskDecision, TradingMode, TradingScope, TradingState

HUB = "krin"  # the actor of what the hub does by itself
MOST_REMEMBERED = 4_096  # sets of limits in force

Place = tuple[TradingScope, str]
"""A scope and its name, such as ("ACCOUNT", "ann")."""

EVERYTHING: Place = ("GLOBAL", "*")


class RiskDesk:
    def __init__(self, checks: RiskChecks) -> None:
        self._checks = checks
        self._layers: dict[Place, RiskLimits] = {}
        self._states: dict[Place, TradingState] = {}
        self._activity = Activity()
        self._in_force: dict[tuple[Place, ...], Limits] = {}
        self._changes: dict[Place, TradingState] = {}
        self.version = 0
        self.decided: dict[str, int] = {}  # result, or the reason of a refusal -> how often, for the metrics

    def restore(self, *, version: int, layers: list[LimitLayer], states: list[TradingState]) -> None:
        """What the store holds, in place of everything that was known, but for the switches that are not written down
        yet: they hold. What happened lately stays counted."""
        self.version = version
        self._layers = {(layer.scope, layer.name): layer.limits for layer in layers}
        self._states = {(state.scope, state.name): state for state in states} | self._changes
        self._in_force.clear()

    # --- decisions ---

    def decide(
        self, order: Order, facts: Facts, *, replaces: Order | None = None, override: Override | None = None
    ) -> Outcome:
        """Whether this order, or what `replaces` is to become, may go to a venue. Counts the command, unless it is the
        one that exceeds the rate: who goes on too fast is let in again as soon as there is room."""
        view = self._view(order, facts, replaces=replaces, override=override)
        outcome = self._checks.check(view)
        decision = outcome.decision
        said = decision.faults[0].reason if decision.result == "REFUSED" else decision.result
        self.decided[said] = self.decided.get(said, 0) + 1
        if override is None and said != "RATE_LIMIT_EXCEEDED":
            self._activity.add(("modify" if replaces else "submit", order.account), facts.now_us)
            if replaces is None:
                self._activity.add(_pattern(order), facts.now_us)
        return outcome

    def validate(self, order: Order, facts: Facts) -> RiskDecision:
        """What `decide` would say of a new order, with all of its faults. Counts nothing."""
        return self._checks.check_all(self._view(order, facts))

    def executed(self, order: Order, *, now_us: int) -> None:
        """A trade of this order was reported. Halts its strategy when that has traded as often as it may."""
        if order.strategy_id is None:
            return
        limits = self.limits_for(order)
        self._activity.add(("execution", order.strategy_id), now_us)
        traded = self._executions(order, limits, now_us)
        if limits.max_executions is not None and traded >= limits.max_executions:
            self._throw(("STRATEGY", order.strategy_id), "HALTED", "EXECUTION_THROTTLE", f"{traded} trades", now_us)

    def profit(self, account: str, daily_pnl: Decimal, *, now_us: int) -> None:
        """What the account has made since midnight UTC. Lets it only reduce when it has lost as much as it may."""
        limit = self.limits(account).max_daily_loss
        if limit is not None and daily_pnl < 0 and -daily_pnl >= limit:
            self._throw(("ACCOUNT", account), "REDUCING", "DAILY_LOSS_LIMIT", text(-daily_pnl), now_us)

    def _view(
        self, order: Order, facts: Facts, *, replaces: Order | None = None, override: Override | None = None
    ) -> RiskView:
        limits = self.limits_for(order)
        places = places_of(order.account, order.strategy_id, order.symbol)
        return RiskView(
            order=order,
            facts=facts,
            replaces=replaces,
            limits=limits,
            version=self.version,
            states=[self._states[place] for place in places if place in self._states],
            recent=self._recent(order, limits, facts.now_us, counted=override is not None),
            override=override,
        )

    def _recent(self, order: Order, limits: Limits, now_us: int, *, counted: bool) -> Recent:
        """`counted`: the command itself was counted when it came; now it is looked at once more."""
        executions = self._executions(order, limits, now_us)
        if counted:
            return Recent(executions=executions)
        count, window_ms = self._activity.count, limits.rate_window_ms
        return Recent(
            submits=count(("submit", order.account), now_us=now_us, window_ms=window_ms),
            modifies=count(("modify", order.account), now_us=now_us, window_ms=window_ms),
            same=count(_pattern(order), now_us=now_us, window_ms=limits.duplicate_window_ms),
            executions=executions,
        )

    def _executions(self, order: Order, limits: Limits, now_us: int) -> int:
        return self._activity.count(
            ("execution", order.strategy_id), now_us=now_us, window_ms=limits.execution_window_ms
        )

    # --- limits ---

    def limits(self, account: str, strategy_id: str | None = None, symbol: str | None = None) -> Limits:
        """What holds there now."""
        said = tuple(place for place in places_of(account, strategy_id, symbol) if place in self._layers)
        if (found := self._in_force.get(said)) is None:
            if len(self._in_force) >= MOST_REMEMBERED:  # a cache, not a registry: forget rather than grow
                self._in_force.clear()
            found = self._in_force[said] = layered(self._layers[place] for place in said)
        return found

    @property
    def limits_losses(self) -> bool:
        """Whether anybody's daily loss is limited at all."""
        return any(isinstance(layer.max_daily_loss, str) for layer in self._layers.values())

    def limits_for(self, order: Order) -> Limits:
        return self.limits(order.account, order.strategy_id, order.symbol)

    def layers(self, account: str, strategy_id: str | None = None, symbol: str | None = None) -> list[LimitLayer]:
        """What each scope says, from wide to narrow."""
        return [
            LimitLayer(scope=scope, name=name, limits=self._layers[scope, name])
            for scope, name in places_of(account, strategy_id, symbol)
            if (scope, name) in self._layers
        ]

    def set_limits(self, layer: LimitLayer, version: int) -> None:
        self._layers[layer.scope, layer.name] = layer.limits
        self._in_force.clear()
        self.version = version

    # --- kill switches ---

    @property
    def states(self) -> Mapping[Place, TradingState]:
        """Of the scopes that are not ACTIVE."""
        return self._states

    def set_state(self, state: TradingState) -> None:
        place = (state.scope, state.name)
        self._changes.pop(place, None)
        if state.mode != "ACTIVE":
            self._states[place] = state
            return
        self._states.pop(place, None)
        if state.scope == "STRATEGY":  # it begins anew
            self._activity.drop(("execution", state.name))

    def take_changes(self) -> list[TradingState]:
        """The switches that were thrown by what happened and are not yet written down."""
        changes, self._changes = self._changes, {}
        return list(changes.values())

    def put_back(self, state: TradingState) -> None:
        """It could not be written down: it holds, and is to be taken again, unless something newer is."""
        place = (state.scope, state.name)
        if place not in self._changes:
            self._states[place] = self._changes[place] = state

    def _throw(self, place: Place, mode: TradingMode, reason: Reason, seen: str, now_us: int) -> None:
        before = self._states.get(place)
        if before is not None and (before.mode == mode or before.mode == "HALTED"):
            return
        scope, name = place
        state = TradingState(scope=scope, name=name, mode=mode, reason=f"{reason}: {seen}", actor=HUB, ts_event=now_us)
        self._states[place] = self._changes[place] = state


def places_of(account: str, strategy_id: str | None, symbol: str | None) -> tuple[Place, ...]:
    """The scopes that an order belongs to, from wide to narrow."""
    places: list[Place] = [EVERYTHING, ("ACCOUNT", account)]
    if strategy_id is not None:
        places.append(("STRATEGY", strategy_id))
    if symbol is not None:
        places.append(("SYMBOL", symbol))
    return tuple(places)


def _pattern(order: Order) -> tuple[object, ...]:
    return ("pattern", order.account, order.symbol, order.side, order.qty, order.price, order.stop_price, order.trail)
