"""The `krin` command."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from hub import __version__

# Where each command is. A module is loaded when one of its commands is named: all of them, with a server and its
# drivers, take two seconds, and the shell asks at every press of the tab key.
COMMANDS = {
    **dict.fromkeys(("serve", "worker", "demo", "migrate", "check"), "serving"),
    "doctor": "diagnosing",
    **dict.fromkeys(("token", "client"), "people"),
    **dict.fromkeys(("user", "auth"), "access"),
    "keys": "keys",
    "key": "credentials",
    **dict.fromkeys(("publish", "history", "search", "explain"), "messages"),
    "tail": "tailing",
    "replay": "replaying",
    "top": "watching",
    "feed": "feeds",
    "order": "orders",
    "risk": "risk",
    "backtest": "backtesting",
    "strategy": "strategies",
    "team": "team",
    "audit": "auditing",
    "privacy": "privacy",
    "jobs": "jobs",
    "webhook": "webhooks",
    "conformance": "conformance",
    "completion": "completion",
}

INTERRUPTED = 128 + 2  # SIGINT, as shells say it
NOBODY_READS = 128 + 13  # SIGPIPE


class Commands(click.Group):
    """What is registered here, and what stands in the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"hub.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names without their help, which would load every module."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in self.list_commands(ctx) if name.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """The ends that no command can tell itself; click would make 1 of each."""
        try:
            return super().invoke(ctx)
        except click.Abort:  # a question was not answered with yes
            click.echo("nothing was done", err=True)
            raise SystemExit(INTERRUPTED) from None
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the end writes to it once more
            raise SystemExit(NOBODY_READS) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="krin")
def main() -> None:
    """Krin: a real-time coordination server. Start with `krin demo`."""


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure: the scenarios of the benchmarks folder, in a checkout. `krin bench --help` lists them."""
    if not Path("benchmarks/__main__.py").is_file():
        raise click.ClickException("benchmarks are run in a checkout: there is no benchmarks folder here")
    module = "benchmarks.faults" if arguments[:1] == ("faults",) else "benchmarks"
    rest = arguments[1:] if module == "benchmarks.faults" else arguments
    raise SystemExit(subprocess.run([sys.executable, "-m", module, *rest], check=False).returncode)
