"""The `krin` command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

from hub import __version__
from hub.cli import (
    access,
    auditing,
    backtesting,
    credentials,
    feeds,
    keys,
    messages,
    orders,
    people,
    privacy,
    risk,
    serving,
    strategies,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="krin")
def main() -> None:
    """Krin: a real-time coordination server. Start with `krin demo`."""


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure: the scenarios of the benchmarks folder, in a checkout. `krin bench --help` lists them."""
    if not Path("benchmarks/__main__.py").is_file():
        raise click.ClickException("benchmarks are run in a checkout: there is no benchmarks folder here")
    module = "benchmarks.faults" if arguments[:1] == ("faults",) else "benchmarks"
    rest = arguments[1:] if module == "benchmarks.faults" else arguments
    raise SystemExit(subprocess.run([sys.executable, "-m", module, *rest], check=False).returncode)


for command in (
    *(serving.serve, serving.demo, serving.migrate, serving.check),
    *(people.token, people.user, people.client),
    *(keys.keys, credentials.key),
    *(messages.publish, messages.tail, feeds.feed),
    *(orders.order, risk.risk, backtesting.backtest, strategies.strategy),
    access.auth,
    *(auditing.audit, privacy.privacy),
    bench,
):
    main.add_command(command)
