"""What orders must pass, and who controls that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from prometheus_client.core import Metric

from hub.bootstrap.channels import Channels
from hub.bootstrap.ground import Ground
from hub.bootstrap.rest import Rest
from hub.bootstrap.room import Room
from hub.caller import Caller
from hub.edge.risk import RiskRoutes
from hub.observe.metrics import counters, gauge
from hub.trading.risk.desk import RiskDesk
from hub.trading.risk.ports import Engine
from hub.trading.risk.service import RiskService
from storage.risk import RiskTable


class Risk(Room, frozen=True, kw_only=True):
    """The service's methods work where the engine is: the room that knows where gives them to the whole."""

    service: RiskService


def open_risk(ground: Ground, channels: Channels, rest: Rest, desk: RiskDesk, engine: Engine) -> Risk:
    access = channels.access

    def may_see(caller: Caller, account: str) -> bool:
        return access.decide(caller, "subscribe", f"risk:{account}").allowed

    def may_command(caller: Caller, account: str) -> bool:
        return access.decide(caller, "publish", f"orders:{account}").allowed

    async def publish(
        channel: str, type: str, data: Any, key: str | None, coordination: dict[str, Any] | None = None
    ) -> None:
        await ground.dispatcher.publish(channel, type, msgspec.to_builtins(data), key=key, coordination=coordination)

    service = RiskService(
        desk,
        RiskTable(ground.database),
        engine,
        may_see=may_see,
        may_command=may_command,
        publish=publish,
        report=ground.events.report,
        clock=ground.clock,
    )
    routes = RiskRoutes(rest.service, ground.dispatcher, max_body_bytes=ground.settings.limits.message_bytes)
    return Risk(service=service, routes=routes.routes, metrics=lambda: _measure(desk), tasks={"risk": service.run})


def _measure(desk: RiskDesk) -> Iterable[Metric]:
    yield counters("krin_risk_decisions", "Orders by result, refused ones by reason.", "result", desk.decided)
    yield gauge("krin_trading_halted", "Scopes that are halted or may only reduce.", len(desk.states))
