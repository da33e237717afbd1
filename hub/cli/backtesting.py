"""`krin backtest`: a strategy against the past."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from hub.cli.parameters import Channel, Number
from hub.cli.shared import Progressed, hub_client, pairs, print_json, progress, run
from hub.client import Client
from hub.clock import SystemClock
from hub.trading.backtest import Backtest, BacktestResult, EndlessStrategy, Recorded
from hub.trading.histories import KINDS, NextPage, captured, merged, simulated, within
from hub.trading.market.captures import CaptureError
from hub.trading.strategies.catalog import STRATEGIES
from hub.trading.venues.matching import Fees
from hub.trading.venues.paper import Latency
from protocol.positions import Position
from protocol.risk import RiskLimits

START_US = 1_700_000_000_000_000  # of simulated history, so that two runs are alike
PAGE = 1_000
MAX_LATENCY_MS = 3_600_000


@click.command()
@click.argument("strategy", type=click.Choice(list(STRATEGIES)))
@click.option("--symbol", "symbols", multiple=True, required=True, help="may be given several times")
@click.option("--param", "given", multiple=True, metavar="NAME=VALUE", help="of the strategy, e.g. --param qty=0.1")
@click.option("--capture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="a recording")
@click.option("--simulate", type=click.IntRange(1, 86_400), metavar="SECONDS", help="of the demo's market")
@click.option("--channel", "channels", type=Channel(), multiple=True, help="that a hub has kept, e.g. trades:BTC-USD")
@click.option("--from", "from_ms", type=int, help="milliseconds since 1970")
@click.option("--to", "to_ms", type=int, help="milliseconds since 1970")
@click.option("--url", envvar="KRIN_URL", default="http://127.0.0.1:8000", show_default=True)
@click.option("--token", "token_", envvar="KRIN_TOKEN")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="of the simulated market and of the venue's jitter"
)
@click.option("--balance", default="USD=1000000", show_default=True, metavar="ASSET=AMOUNT,...")
@click.option("--limits", default="{}", help='risk limits as JSON, e.g. {"max_notional": "50000"}')
@click.option("--maker-bps", default="0", show_default=True, help="commission; negative: a rebate")
@click.option("--taker-bps", default="0", show_default=True)
@click.option(
    "--latency-ms",
    type=Number(0, MAX_LATENCY_MS),
    default=5.0,
    show_default=True,
    help="of a command on its way to the venue",
)
@click.option("--jitter-ms", type=Number(0, MAX_LATENCY_MS), default=0.0, show_default=True)
@click.option("--reports", is_flag=True, help="print each execution report, a JSON object a line, then the result")
@click.option("--json", "as_json", is_flag=True, help="the result as JSON")
def backtest(strategy: str, reports: bool, as_json: bool, **options: Any) -> None:
    """Run a strategy against the past: a recording, the demo's market, or what a hub has stored.

    The same history, parameters and seed give the same result, and the fingerprint tells.
    """
    run(_backtest(strategy, reports, as_json, options))


async def _backtest(strategy: str, reports: bool, as_json: bool, options: Mapping[str, Any]) -> None:
    try:
        limits = msgspec.json.decode(options["limits"], type=RiskLimits)
    except msgspec.MsgspecError as wrong:
        raise click.UsageError(f"--limits: {wrong}") from None
    try:
        test = Backtest(
            strategy,
            STRATEGIES[strategy],
            pairs(options["given"]),
            symbols=options["symbols"],
            balances={name: Decimal(amount) for name, amount in pairs(options["balance"].split(",")).items()},
            limits=limits,
            fees=Fees(maker_bps=Decimal(options["maker_bps"]), taker_bps=Decimal(options["taker_bps"])),
            latency=Latency(least_ms=options["latency_ms"], jitter_ms=options["jitter_ms"]),
            seed=options["seed"],
            on_report=print_json if reports else lambda report: None,
        )
    except msgspec.MsgspecError as wrong:
        raise click.UsageError(f"what {strategy} is given by --param NAME=VALUE: {wrong}") from None
    except InvalidOperation:
        raise click.UsageError("an amount of --balance, --maker-bps or --taker-bps is not a number") from None
    async with AsyncExitStack() as stack:
        history = await _history(stack, options)
        times = (options["from_ms"], options["to_ms"])
        limited = within(history, *(None if at_ms is None else at_ms * 1000 for at_ms in times))
        try:
            with progress("messages of the past", beside=sys.stdout if reports else None) as told:
                result = await test.run(_counted(limited, told))
        except (EndlessStrategy, CaptureError) as failure:
            raise click.ClickException(str(failure)) from None
    if as_json or reports:
        print_json(result)
    else:
        _print_result(result)


async def _history(stack: AsyncExitStack, options: Mapping[str, Any]) -> AsyncIterator[Recorded]:
    sources = [options["capture"], options["simulate"], options["channels"] or None]
    if sum(source is not None for source in sources) != 1:
        raise click.UsageError("name one history: --capture, --simulate or --channel")
    if options["capture"] is not None:
        return captured(options["capture"], SystemClock())
    if options["simulate"] is not None:
        return simulated(options["seed"], start_us=START_US, seconds=options["simulate"], symbols=options["symbols"])
    if options["token_"] is None:
        raise click.UsageError("--channel needs --token")
    krin = await stack.enter_async_context(hub_client(options["url"], options["token_"], name="backtest"))
    return merged([_pages(krin, channel) for channel in options["channels"]])


async def _counted(history: AsyncIterator[Recorded], told: Progressed) -> AsyncIterator[Recorded]:
    count = 0
    async for message in history:
        told(count := count + 1, None)
        yield message


def _pages(krin: Client, channel: str) -> NextPage:
    """A channel's stored messages, page by page."""
    since: Position | None = None
    done = False

    async def fetch() -> Sequence[Recorded]:
        nonlocal since, done
        if done:
            return []
        page = await krin.history(channel, since, PAGE)
        done = not page.more
        if page.messages:
            since = Position(page.epoch, page.messages[-1].offset)
        typed = ((message.timestamp * 1000, message.typed()) for message in page.messages)
        found = [Recorded(at_us, data) for at_us, data in typed if isinstance(data, KINDS)]
        return found or await fetch()

    return fetch


def _print_result(result: BacktestResult) -> None:
    table = Table(title=f"{result.strategy} on {', '.join(result.symbols)}", show_header=False)
    for name, value in msgspec.to_builtins(result).items():
        if name not in ("strategy", "symbols"):
            table.add_row(name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
    Console(highlight=False).print(table)
