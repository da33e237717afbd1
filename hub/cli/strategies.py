"""Commands about strategies, spoken to a running hub: list, start, stop."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from rich.table import Table

from hub.cli.shared import err, hub_options, pairs, run
from hub.client import Client
from hub.trading.strategies.catalog import STRATEGIES
from protocol.strategies import StrategyState


@click.group()
def strategy() -> None:
    """Strategies: start, stop, list."""


@strategy.command("list")
@click.option("--account", help="default: the user's own")
@hub_options
def list_strategies(account: str | None, url: str, token_: str) -> None:
    """The newest runs of an account."""

    async def go() -> None:
        async with Client(url, token=token_) as krin:
            answer = await krin.call("strategies.list", account=account or krin.user)
        table = Table("strategy", "kind", "symbols", "state", "started by", "orders", "positions")
        for each in msgspec.convert(answer, list[StrategyState]):
            positions = ", ".join(f"{qty} {symbol}" for symbol, qty in each.positions.items())
            state = f"{each.state}: {each.reason}" if each.reason else each.state
            names = (each.strategy_id, each.strategy, ", ".join(each.symbols))
            table.add_row(*names, state, each.started_by, str(each.submitted), positions)
        err.print(table)

    run(go())


@strategy.command()
@click.argument("strategy_id")
@click.argument("kind", type=click.Choice(list(STRATEGIES)))
@click.option("--symbol", "symbols", multiple=True, required=True, help="may be given several times")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="e.g. --param qty=0.1")
@click.option("--account", help="default: the user's own")
@hub_options
def start(
    strategy_id: str,
    kind: str,
    symbols: tuple[str, ...],
    given: tuple[str, ...],
    account: str | None,
    url: str,
    token_: str,
) -> None:
    """Let a strategy trade, e.g. krin strategy start m1 momentum --symbol BTC-USD --param qty=0.05."""
    fields = {"strategy": kind, "symbols": list(symbols), "parameters": pairs(given)}
    _command("strategies.start", strategy_id, account, url, token_, **fields)


@strategy.command()
@click.argument("strategy_id")
@click.option("--account", help="default: the user's own")
@hub_options
def stop(strategy_id: str, account: str | None, url: str, token_: str) -> None:
    """End a strategy; what is left of its orders is canceled."""
    _command("strategies.stop", strategy_id, account, url, token_)


def _command(method: str, strategy_id: str, account: str | None, url: str, token: str, **fields: Any) -> None:
    async def go() -> None:
        async with Client(url, token=token) as krin:
            answer = await krin.call(method, account=account or krin.user, strategy_id=strategy_id, **fields)
        click.echo(msgspec.json.encode(answer).decode())

    run(go())
