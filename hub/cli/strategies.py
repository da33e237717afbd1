"""Commands about strategies, spoken to a running hub: list, start, stop."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from hub.cli.shared import hub_client, hub_options, json_option, pairs, print_json, run, show
from hub.trading.strategies.catalog import STRATEGIES
from protocol.strategies import StrategyState


@click.group()
def strategy() -> None:
    """Strategies: start, stop, list."""


@strategy.command("list")
@click.option("--account", help="default: the user's own")
@json_option
@hub_options
def list_strategies(account: str | None, as_json: bool, url: str, token_: str) -> None:
    """The newest runs of an account."""

    async def go() -> None:
        async with hub_client(url, token_, name="strategy") as krin:
            answer = await krin.call("strategies.list", account=account or krin.user)
        show(answer if as_json else map(_row, msgspec.convert(answer, list[StrategyState])), as_json=as_json)

    run(go())


def _row(state: StrategyState) -> dict[str, Any]:
    return {
        "strategy": state.strategy_id,
        "kind": state.strategy,
        "symbols": state.symbols,
        "state": f"{state.state}: {state.reason}" if state.reason else state.state,
        "started_by": state.started_by,
        "orders": state.submitted,
        "positions": [f"{qty} {symbol}" for symbol, qty in state.positions.items()],
    }


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
        async with hub_client(url, token, name="strategy") as krin:
            answer = await krin.call(method, account=account or krin.user, strategy_id=strategy_id, **fields)
        print_json(answer)

    run(go())
