"""The `bench` command: one subcommand for each scenario, the peers, the report and the headline."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import compare as comparing
from benchmarks import dashboard as viewing
from benchmarks import report as reporting
from benchmarks import scaling, scenarios
from benchmarks import search as searching
from benchmarks.processes import Unavailable
from benchmarks.results import load_all, store
from benchmarks.runner import LoadFailed

out = Console(highlight=False, soft_wrap=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure the hub, and others beside it. Results are kept as JSON in benchmarks/results/."""


def finish(result: dict[str, Any], *, keep: bool = True) -> None:
    """Print a result, keep it, and end with exit code 1 when something is missing from it."""
    show(result)
    if keep:
        out.print(f"[dim]stored {store(result).name}[/dim]")
    if not result["ok"]:
        sys.exit(1)


def show(result: dict[str, Any]) -> None:
    figures = result["figures"]
    table = Table(box=None, show_header=False, title=result["name"], title_justify="left", title_style="bold")
    if "servers" in figures:
        show_servers(figures)
        figures = {}
    for name, value in figures.items():
        if name == "histogram" or value in ([], {}):
            continue
        if name == "routes":
            for route, each in value.items():
                table.add_row(route, _line(each["latency_ms"]) + f"   {each['statuses']}")
        elif isinstance(value, dict):
            table.add_row(name, _line(value))
        else:
            table.add_row(name, f"{value:,}" if type(value) is int else str(value))
    if table.rows:
        out.print(table)
    for problem in result["problems"]:
        out.print(f"[red]failed: {problem}[/red]")
    for note in result["notes"]:
        out.print(f"[yellow]{note}[/yellow]")


def show_servers(figures: dict[str, Any]) -> None:
    table = Table(box=None)
    for heading in ("server", "held", "us/delivery", "x floor", "deliveries/s", "p50", "p99", "max", "delivered %", ""):
        table.add_column(heading, justify="left" if heading in ("server", "") else "right")
    for name, each in figures["servers"].items():
        latency = each.get("latency_ms", {})
        flag = "generator saturated" if each.get("generator_saturated") else each.get("failed", "")
        cells = [
            each.get("held", ""),
            each.get("server_cpu_us_per_delivery", ""),
            each.get("cpu_to_floor", ""),
            f"{each.get('deliveries_per_s', 0):,}",
            *(latency.get(key, "") for key in ("p50", "p99", "max")),
            each.get("delivered_percent", ""),
            flag,
        ]
        table.add_row(name, *(str(cell) for cell in cells))
    out.print(table)
    for name, reason in figures["skipped"].items():
        out.print(f"[dim]skipped {name}: {reason}[/dim]")


def _line(values: dict[str, Any]) -> str:
    return "  ".join(f"{name} {value}" for name, value in values.items())


def guarded(work: Callable[[], dict[str, Any]], *, keep: bool = True) -> None:
    try:
        result = work()
    except (LoadFailed, Unavailable) as failure:
        raise click.ClickException(str(failure)) from None
    finish(result, keep=keep)


SHARED = {"keep": click.option("--keep/--no-keep", default=True, help="store the result")}


@main.command()
@click.option("--subscribers", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 20_000), default=100, show_default=True, help="messages per second")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@click.option("--padding", type=click.IntRange(0, 30_000), default=0, show_default=True, help="bytes added to each")
@click.option("--format", type=click.Choice(["json", "msgpack"]), default="json", show_default=True)
@SHARED["keep"]
def broadcast(keep: bool, **options: Any) -> None:
    """One publisher, N subscribers."""
    guarded(lambda: scenarios.broadcast(**options), keep=keep)


@main.command()
@click.option("--subscribers", type=click.IntRange(1, 100_000), default=2000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 20_000), default=20, show_default=True, help="messages per second")
@click.option("--node-rate", type=click.FloatRange(1, 20_000), default=500, show_default=True, help="between two nodes")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def scale(keep: bool, **options: Any) -> None:
    """The model of scale.md against measurements; then its tables again, from stored results."""
    scaling.write(load_all())
    guarded(lambda: scenarios.scale(**options), keep=keep)


@main.command()
@click.option("--clients", type=click.IntRange(1, 100_000), default=1000, show_default=True)
@click.option("--symbols", type=click.IntRange(1, 5), default=1, show_default=True, help="each client reads them all")
@click.option(
    "--rate", type=click.FloatRange(1, 100), default=10, show_default=True, help="quotes/s per source and symbol"
)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10, show_default=True)
@SHARED["keep"]
def market(keep: bool, **options: Any) -> None:
    """Several sources consolidated by the hub: from a quote in the hub to the price at N readers."""
    guarded(lambda: scenarios.market(**options), keep=keep)


@main.command()
@click.option("--clients", type=click.IntRange(1, 20_000), default=1000, show_default=True)
@click.option("--symbols", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--each", type=click.IntRange(1, 1000), default=20, show_default=True, help="symbols per client")
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=100, show_default=True, help="per symbol and second")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def ticks(keep: bool, **options: Any) -> None:
    """Many symbols, each client its own selection of them."""
    guarded(lambda: scenarios.ticks(**options), keep=keep)


@main.command()
@click.option("--clients", type=click.IntRange(1, 20_000), default=500, show_default=True)
@click.option("--tick-rate", type=click.FloatRange(1, 10_000), default=50, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def mixed(keep: bool, **options: Any) -> None:
    """Prices, orders and specialist updates on one connection."""
    guarded(lambda: scenarios.mixed(**options), keep=keep)


@main.command()
@click.option("--publishers", type=click.IntRange(1, 2000), default=64, show_default=True)
@click.option("--window", type=click.IntRange(1, 256), default=4, show_default=True, help="unacknowledged, each")
@click.option(
    "--rate", type=click.FloatRange(0, 200_000), default=0, help="open loop: messages/s in all; 0: closed loop"
)
@click.option("--channels", type=click.IntRange(1, 1000), default=64, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def durable(keep: bool, **options: Any) -> None:
    """Publishes that are acknowledged after the commit."""
    guarded(lambda: scenarios.durable(**options), keep=keep)


@main.command()
@click.option("--traders", type=click.IntRange(1, 500), default=8, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 10_000), default=500, show_default=True, help="orders/s in all")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10, show_default=True)
@SHARED["keep"]
def orders(keep: bool, **options: Any) -> None:
    """Orders from submit to committed, through risk checks to the paper venue and back."""
    guarded(lambda: scenarios.orders(**options), keep=keep)


@main.command()
@click.option("--watchers", type=click.IntRange(1, 20_000), default=1000, show_default=True)
@click.option("--tasks", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="of the project")
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=20, show_default=True, help="reports/s")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10, show_default=True)
@SHARED["keep"]
def team(keep: bool, **options: Any) -> None:
    """Reports of a specialist: stored, next steps found, and told to all who watch."""
    guarded(lambda: scenarios.team(**options), keep=keep)


@main.command()
@click.option("--rows", type=click.IntRange(1000, 1_000_000), default=50_000, show_default=True)
@click.option("--queries", type=click.IntRange(10, 10_000), default=200, show_default=True)
@SHARED["keep"]
def search(keep: bool, **options: Any) -> None:
    """Recall and speed of the vector index, with everything in reach and with one document in a hundred."""
    guarded(lambda: searching.search(**options), keep=keep)


@main.command()
@click.option("--subscribers", type=click.IntRange(1, 20_000), default=1000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 5000), default=100, show_default=True, help="prices/s")
@click.option("--messages", type=click.FloatRange(1, 20_000), default=5000, show_default=True, help="durable ones/s")
@click.option("--rounds", type=click.IntRange(1, 20), default=6, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=10, show_default=True)
@SHARED["keep"]
def ingest(keep: bool, **options: Any) -> None:
    """What it costs a broadcast that documents are made of a flood of durable messages."""
    guarded(lambda: searching.ingest(**options), keep=keep)


@main.command()
@click.option("--subscribers", type=click.IntRange(1, 20_000), default=1000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 5000), default=100, show_default=True, help="messages per second")
@click.option("--sets", type=click.IntRange(1, 60), default=2, show_default=True, help="of processes, started anew")
@click.option("--blocks", type=click.IntRange(10, 600), default=24, show_default=True, help="of four slices, each load")
@click.option("--seconds", type=click.FloatRange(0.2, 60), default=1, show_default=True, help="of each slice")
@SHARED["keep"]
def tracing(keep: bool, **options: Any) -> None:
    """What tracing costs a broadcast: off, against a hub without it, and with one message in a hundred."""
    try:
        from benchmarks import tracing as traces  # the packages that it needs are none of the hub's
    except ModuleNotFoundError as missing:
        raise click.ClickException(f"{missing.name} is not installed: pip install -e '.[dev]'") from None
    guarded(lambda: traces.tracing(**options), keep=keep)


@main.command()
@click.option("--symbols", type=click.IntRange(1, 900), default=500, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 100), default=20, show_default=True, help="updates/s per symbol")
@click.option("--seconds", type=click.FloatRange(3, 600), default=60, show_default=True)
@SHARED["keep"]
def dashboard(keep: bool, **options: Any) -> None:
    """The dashboard in Chromium while every symbol moves: frames a second, long tasks, memory."""
    guarded(lambda: viewing.dashboard(**options), keep=keep)


@main.command()
@click.option("--rate", type=click.FloatRange(1, 20_000), default=500, show_default=True, help="requests per second")
@click.option("--connections", type=click.IntRange(1, 1000), default=32, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=4, show_default=True, help="per route")
@click.option("--hanging", is_flag=True, help="with a language model that never answers")
@SHARED["keep"]
def rest(keep: bool, **options: Any) -> None:
    """Mean and p99 of each REST route."""
    guarded(lambda: scenarios.rest(**options), keep=keep)


@main.command("connect-storm")
@click.option("--clients", type=click.IntRange(1, 100_000), default=5000, show_default=True)
@click.option("--in-flight", type=click.IntRange(1, 4000), default=256, show_default=True)
@SHARED["keep"]
def connect_storm(keep: bool, **options: Any) -> None:
    """Full connects per second: TCP, upgrade, token, one subscription."""
    guarded(lambda: scenarios.connect_storm(**options), keep=keep)


@main.command("reconnect-storm")
@click.option("--clients", type=click.IntRange(1, 19_000), default=10_000, show_default=True)
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=10, show_default=True)
@click.option("--away", type=click.FloatRange(0, 60), default=1.0, show_default=True, help="seconds before they return")
@click.option("--in-flight", type=click.IntRange(1, 4000), default=2000, show_default=True)
@SHARED["keep"]
def reconnect_storm(keep: bool, **options: Any) -> None:
    """All clients cut at once, all back and recovered."""
    guarded(lambda: scenarios.reconnect_storm(**options), keep=keep)


@main.command("slow-readers")
@click.option("--subscribers", type=click.IntRange(10, 19_000), default=1000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 5000), default=200, show_default=True)
@click.option("--share", type=click.FloatRange(0, 0.9), default=0.1, show_default=True, help="of them never reads")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=20, show_default=True)
@SHARED["keep"]
def slow_readers(keep: bool, **options: Any) -> None:
    """A share of the clients never reads."""
    guarded(lambda: scenarios.slow_readers(**options), keep=keep)


@main.command()
@click.option("--clients", type=click.IntRange(1, 100_000), default=5000, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def idle(keep: bool, **options: Any) -> None:
    """Memory per quiet connection, in the process and in the kernel."""
    guarded(lambda: scenarios.idle(**options), keep=keep)


@main.command()
@click.option("--rate", type=click.FloatRange(1, 100_000), default=1000, show_default=True)
@click.option("--channels", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.option("--subscribers", type=click.IntRange(1, 10_000), default=4, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=5, show_default=True)
@SHARED["keep"]
def nodes(keep: bool, **options: Any) -> None:
    """Published on one node, read on another, through Redis."""
    guarded(lambda: scenarios.nodes(**options), keep=keep)


@main.command("rolling-restart")
@click.option("--clients", type=click.IntRange(1, 15_000), default=5000, show_default=True)
@click.option(
    "--rate", type=click.FloatRange(0.1, 1000), default=10, show_default=True, help="of each class of message"
)
@click.option(
    "--drain", type=click.FloatRange(0, 60), default=5, show_default=True, help="seconds: the announced window"
)
@SHARED["keep"]
def rolling_restart(keep: bool, **options: Any) -> None:
    """Two nodes replaced one after the other under load."""
    guarded(lambda: scenarios.rolling_restart(**options), keep=keep)


@main.command()
@click.option("--subscribers", type=click.IntRange(1, 20_000), default=1000, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 20_000), default=100, show_default=True)
@click.option("--seconds", type=click.FloatRange(0.5, 120), default=5, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True)
@click.option("--only", multiple=True, help="names of servers; default: all that are there")
@click.option("--quick", is_flag=True, help="two rounds of three seconds")
@SHARED["keep"]
def compare(keep: bool, quick: bool, **options: Any) -> None:
    """The same broadcast through Krin and every peer that is installed, in alternating rounds."""
    if quick:
        options |= {"rounds": 2, "seconds": 3.0}
    finish(comparing.compare(**options), keep=keep)


@main.command()
@click.argument("what", type=click.Choice(["rate", "audience"]))
@click.option("--seconds", type=click.FloatRange(0.5, 120), default=4, show_default=True, help="per step")
@click.option("--only", multiple=True, help="names of servers; default: all that are there")
@SHARED["keep"]
def highest(what: str, keep: bool, **options: Any) -> None:
    """The highest rate, or the largest audience, that each server holds with p99 under 100 ms and nothing missing."""
    finish(comparing.highest(what, **options), keep=keep)


@main.command()
def report() -> None:
    """Write the tables of benchmarks/README.md and the plots from stored results."""
    for path in reporting.write():
        out.print(f"wrote {path.name}")


# What the headline table stands on: the command line of each row, about seven minutes in all on two cores.
HEADLINE = (
    ("broadcast",),
    ("broadcast", "--rate", "3000"),
    ("broadcast", "--subscribers", "10000", "--rate", "10"),
    ("broadcast", "--subscribers", "10000", "--rate", "100"),
    ("ticks",),
    ("durable",),
    ("orders",),
    ("team",),
    ("rest",),
    ("connect-storm",),
    ("reconnect-storm",),
    ("idle",),
    ("nodes",),
    ("rolling-restart",),
    ("compare", "--quick"),
)


@main.command()
@click.pass_context
def headline(context: click.Context) -> None:
    """Every row of the headline table and the peers, quick; then the report. Under ten minutes on two cores."""
    failed = []
    program = sys.argv[:]
    for name, *options in HEADLINE:
        command = main.commands[name]
        sys.argv[1:] = [name, *options]  # what a result says about how to repeat it
        try:
            with command.make_context(name, list(options), parent=context) as inner:
                command.invoke(inner)
        except (SystemExit, click.ClickException) as failure:
            told = failure.format_message() if isinstance(failure, click.ClickException) else "see above"
            failed.append(f"{' '.join([name, *options])}: {told}")
    sys.argv = program
    context.invoke(report)
    for text in failed:
        out.print(f"[red]failed: {text}[/red]")
    if failed:
        sys.exit(1)
