"""Commands about risk control, spoken to a running hub: limits, kill switches, approvals."""

from __future__ import annotations

import json
from typing import Any, get_args

import click
import msgspec

from hub.cli.shared import hub_client, hub_options, run
from protocol.risk import RiskLimits
from protocol.trading import TradingScope


class Scope(click.ParamType[dict[str, str]]):
    """`global`, or `account:ada`, `strategy:momentum`, `symbol:BTC-USD`."""

    name = "scope"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        if isinstance(value, dict):
            return value
        kind, _, name = value.partition(":")
        if kind.upper() not in get_args(TradingScope) or (kind.upper() == "GLOBAL") == bool(name):
            self.fail("use global, account:NAME, strategy:NAME or symbol:NAME", param, ctx)
        return {"scope": kind.upper(), **({"name": name} if name else {})}


SCOPE = Scope()


@click.group()
def risk() -> None:
    """Risk control: limits, kill switches, approvals."""


@risk.command()
@click.argument("account")
@click.option("--strategy", "strategy_id")
@click.option("--symbol")
@hub_options
def limits(account: str, strategy_id: str | None, symbol: str | None, url: str, token_: str) -> None:
    """The limits in force for an account, and which scope says what."""
    _call(url, token_, "risk.limits", account=account, strategy_id=strategy_id, symbol=symbol)


@risk.command("set")
@click.argument("scope", type=SCOPE)
@click.argument("limits", nargs=-1, metavar="[LIMIT=VALUE]...")
@click.option("--expected-version", type=int, help="only if nothing has changed since that version")
@hub_options
def set_limits(
    scope: dict[str, str], limits: tuple[str, ...], expected_version: int | None, url: str, token_: str
) -> None:
    """Let a scope say these limits and nothing else, at once; without any it says none:

    krin risk set account:ada max_notional=50000 collar_bps=300
    """
    _call(url, token_, "risk.set_limits", **scope, limits=_limits(limits), expected_version=expected_version)


@risk.command()
@click.argument("scope", type=SCOPE)
@click.option("--reason", required=True, help="for people")
@click.option("--reducing", is_flag=True, help="let orders through that make a position smaller")
@click.option("--keep-orders", is_flag=True, help="leave the open orders of the scope where they are")
@hub_options
def halt(scope: dict[str, str], reason: str, reducing: bool, keep_orders: bool, url: str, token_: str) -> None:
    """The kill switch: no more orders in a scope, and those that are open are canceled."""
    mode = "REDUCING" if reducing else "HALTED"
    _call(url, token_, "risk.halt", **scope, mode=mode, reason=reason, cancel=not keep_orders)


@risk.command()
@click.argument("scope", type=SCOPE)
@click.option("--reason", help="for people")
@hub_options
def resume(scope: dict[str, str], reason: str | None, url: str, token_: str) -> None:
    """End a halt."""
    _call(url, token_, "risk.resume", **scope, reason=reason)


@risk.command()
@hub_options
def state(url: str, token_: str) -> None:
    """Every scope that is halted or may only reduce."""
    _call(url, token_, "risk.state")


@risk.command()
@click.argument("account")
@click.argument("client_order_id")
@click.option("--reason", help="for people")
@hub_options
def approve(account: str, client_order_id: str, reason: str | None, url: str, token_: str) -> None:
    """Let one order pass above its limit."""
    _call(url, token_, "risk.approve", account=account, client_order_id=client_order_id, reason=reason)


@risk.command()
@click.argument("account")
@click.argument("client_order_id")
@click.option("--reason", help="for people")
@hub_options
def decline(account: str, client_order_id: str, reason: str | None, url: str, token_: str) -> None:
    """Refuse an order that waits for approval."""
    _call(url, token_, "risk.decline", account=account, client_order_id=client_order_id, reason=reason)


def _limits(said: tuple[str, ...]) -> dict[str, Any]:
    """`max_qty=5`, `max_position=null`, `deny_symbols=BTC-USD,ETH-USD` as the parameter of `risk.set_limits`."""
    values: dict[str, Any] = {}
    for each in said:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.UsageError(f"{each}: say it as LIMIT=VALUE")
        if value == "null":
            values[name] = None
        else:
            values[name] = value.split(",") if name.endswith("_symbols") else value
    try:
        limits = msgspec.convert(values, RiskLimits, strict=False)
    except msgspec.ValidationError as failure:
        raise click.UsageError(str(failure)) from None
    decoded: dict[str, Any] = msgspec.to_builtins(limits)
    return decoded


def _call(url: str, token: str, method: str, **params: Any) -> None:
    """Ask, and print the answer as one line of JSON."""

    async def go() -> None:
        async with hub_client(url, token, name="risk") as krin:
            answer = await krin.call(method, **{name: value for name, value in params.items() if value is not None})
        click.echo(json.dumps(answer))

    run(go())
