"""The command line: `run` a campaign of faults, or the negative `controls` that make its results count."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.faults import checker
from benchmarks.faults.cluster import Broken
from benchmarks.faults.controls import CONTROLS, Outcome, run_control
from benchmarks.faults.history import load
from benchmarks.faults.run import Report
from benchmarks.faults.run import run as run_campaign
from benchmarks.faults.workload import Sizes

T = TypeVar("T")
# How often a minute, for one kill of a node every five seconds.
RATES = {
    "node-kill": 12.0,
    "node-freeze": 2.0,
    "node-drain": 2.0,
    "client-cut": 60.0,
    "client-part": 2.0,
    "redis-kill": 2.0,
    "redis-restart": 0.5,
    "redis-stale": 1.0,
    "redis-freeze": 1.0,
    "redis-part": 1.0,
    "postgres-kill": 1.5,
    "postgres-backend": 0.5,
    "postgres-freeze": 0.5,
}
WIDTH = 120  # the tables need it, also in a pipe
SHOWN = 20  # violations printed; all are in the JSON

screen = Console(highlight=False, width=max(WIDTH, Console().width))
notes = Console(stderr=True, highlight=False)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Kill, freeze and cut real nodes, Redis and Postgres under load, and prove what was promised."""


@main.command()
@click.option("--seconds", type=click.FloatRange(5, 3600), default=60.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True, help="of schedule, choices and workload")
@click.option("--nodes", type=click.IntRange(2, 8), default=2, show_default=True)
@click.option("--kills-per-minute", type=float, default=RATES["node-kill"], show_default=True, help="of nodes")
@click.option("--rate", "rates", multiple=True, metavar="FAULT=PER_MINUTE", help=f"one of {', '.join(RATES)}; 0: none")
@click.option("--apart", is_flag=True, help="one fault at a time, so that each is timed alone")
@click.option("--append-only", is_flag=True, help="Redis writes its log to disk; redis-stale is then one more restart")
@click.option("--channels", type=click.IntRange(1, 900), default=20, show_default=True, help="durable ones")
@click.option("--messages-per-second", type=float, default=200.0, show_default=True, help="durable ones")
@click.option("--subscribers", type=click.IntRange(1, 32), default=4, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="the whole report on standard output")
@click.option("--history", "history_file", type=click.Path(path_type=Path), help="write every event to this file")
def run(
    seconds: float,
    seed: int,
    nodes: int,
    kills_per_minute: float,
    rates: tuple[str, ...],
    apart: bool,
    append_only: bool,
    channels: int,
    messages_per_second: float,
    subscribers: int,
    as_json: bool,
    history_file: Path | None,
) -> None:
    """A campaign. Ends with 1 if any promise was broken."""
    per_minute = RATES | {"node-kill": kills_per_minute} | dict(map(_rate, rates))
    sizes = Sizes(durable_channels=channels, durable_rate=messages_per_second, subscribers=subscribers)
    with _folder() as folder, notes.status("") as status:
        report = _run(
            run_campaign(
                folder,
                seconds=seconds,
                seed=seed,
                counts={kind: round(rate * seconds / 60) for kind, rate in per_minute.items()},
                sizes=sizes,
                nodes=nodes,
                apart=apart,
                append_only=append_only,
                progress=status.update,
                history_file=history_file,
            )
        )
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        show(report)
    sys.exit(0 if report.clean else 1)


@main.command()
@click.option("--only", multiple=True, type=click.Choice([control.name for control in CONTROLS]))
@click.option("--seed", type=int, default=1, show_default=True)
def controls(only: tuple[str, ...], seed: int) -> None:
    """Plant known faults, and see that each is caught. Ends with 1 if one is not."""
    table = Table(box=None, header_style="bold")
    for title in ("control", "planted", "result", "found"):
        table.add_column(title)
    passed = True
    for control in CONTROLS:
        if only and control.name not in only:
            continue
        with _folder() as folder, notes.status("") as status:
            outcome = _run(run_control(control, folder, seed=seed, progress=status.update))
        passed = passed and outcome.passed
        table.add_row(control.name, control.what, _word(outcome), _found(outcome))
        notes.print(f"{control.name}: {_word(outcome)}")
    screen.print(table)
    sys.exit(0 if passed else 1)


@main.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def judge(file: Path) -> None:
    """Check again what `run --history` wrote."""
    violations = checker.check(load(file))
    for violation in violations:
        click.echo("  ".join(violation))
    sys.exit(1 if violations else 0)


def show(report: Report) -> None:
    """The report as tables."""
    classes = Table(title=f"seed {report.seed}, {report.seconds:.0f} s, {report.nodes} nodes", box=None)
    figures = ("published", "acknowledged", "delivered", "lost", "repeated", "reordered", "phantom")
    classes.add_column("class")
    for figure in (*figures, "arrival p50", "p99", "max"):
        classes.add_column(figure, justify="right")
    for name, tally in report.classes.items():
        arrivals = (tally.arrival_p50_s, tally.arrival_p99_s, tally.arrival_max_s)
        row = [str(getattr(tally, figure)) for figure in figures]
        classes.add_row(name, *row, *(f"{arrival * 1000:.0f} ms" for arrival in arrivals))
    screen.print(classes)
    faults = Table(title="faults, and the longest time without an acknowledgement around each", box=None)
    faults.add_column("fault")
    for title in ("count", "alone", "durable p50", "max", "other p50", "max", "95 % bound"):
        faults.add_column(title, justify="right")
    for name, hurt in report.faults.items():
        times = (hurt.durable_p50_s, hurt.durable_max_s, hurt.broker_p50_s, hurt.broker_max_s)
        shown = [f"{time:.2f} s" if hurt.alone else "-" for time in times]
        faults.add_row(name, str(hurt.count), str(hurt.alone), *shown, f"{hurt.bound:.1%}")
    screen.print(faults)
    errors = ", ".join(f"{name} {count}" for name, count in sorted(report.errors.items())) or "none"
    screen.print(f"connections {report.connections}, repeats dropped {report.repeats_dropped}, errors: {errors}")
    for violation in report.violations[:SHOWN]:
        screen.print(f"[red]{violation.anomaly}[/] {violation.channel} {violation.detail}")
    verdict = ", ".join(f"{name} {count}" for name, count in Counter(v.anomaly for v in report.violations).items())
    screen.print(f"[red]{verdict}[/]" if verdict else "[green]no promise was broken[/]")


def _word(outcome: Outcome) -> str:
    if outcome.control.expected:
        return "caught" if outcome.passed else "NOT CAUGHT"
    return "clean" if outcome.passed else "NOT CLEAN"


def _found(outcome: Outcome) -> str:
    return ", ".join(f"{name} {count}" for name, count in Counter(v.anomaly for v in outcome.report.violations).items())


def _rate(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        if name not in RATES:
            raise ValueError
        return name, float(number)
    except ValueError:
        raise click.BadParameter(f"use FAULT=PER_MINUTE with one of {', '.join(RATES)}") from None


@contextlib.contextmanager
def _folder() -> Any:
    with tempfile.TemporaryDirectory(prefix="krin-faults-", ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o755)  # Postgres may run as another user, who must be able to walk through
        yield path


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; SIGTERM and Ctrl-C still end every process that was started."""

    async def go() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(go())
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except asyncio.CancelledError:
        raise SystemExit(143) from None
    except Broken as failure:
        raise click.ClickException(str(failure)) from None
