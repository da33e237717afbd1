"""The `krin` command."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from hub import __version__


class Place(NamedTuple):
    module: str
    summary: str  # for `krin --help`


# Where each command is. A module is loaded when one of its commands is named: all of them, with a server and its
# drivers, take seconds, and the shell asks at every press of the tab key.
COMMANDS = {
    "serve": Place("serving", "run the hub"),
    "worker": Place("serving", "do what gateways leave to others, beside or apart from a hub"),
    "demo": Place("serving", "run the hub with a market, a team and trading strategies"),
    "migrate": Place("serving", "bring the database to this version's schema"),
    "check": Place("serving", "check the configuration and the environment before a start"),
    "doctor": Place("diagnosing", "check a running deployment, and say what to change"),
    "token": Place("people", "print an access token"),
    "client": Place("people", "programs with credentials of their own"),
    "user": Place("access", "people who sign in with a password"),
    "auth": Place("access", "who may do what, and why"),
    "keys": Place("keys", "the keys that sign access tokens"),
    "key": Place("credentials", "API keys for agents"),
    "publish": Place("messages", "publish messages"),
    "history": Place("messages", "what a channel has kept, oldest first"),
    "search": Place("messages", "what is about something, the best first"),
    "explain": Place("messages", "what became of a message"),
    "tail": Place("tailing", "follow channels"),
    "replay": Place("replaying", "publish again what a channel or a file has kept"),
    "top": Place("watching", "the nodes, as they are doing now"),
    "feed": Place("feeds", "market data from elsewhere"),
    "order": Place("orders", "place, change, cancel and look up orders"),
    "risk": Place("risk", "limits, kill switches and their approvals"),
    "backtest": Place("backtesting", "run a strategy against the past"),
    "strategy": Place("strategies", "start, stop and list strategies"),
    "team": Place("team", "specialists, tasks, plans and what waits for a person"),
    "audit": Place("auditing", "the audit log: who did what, and what was denied"),
    "privacy": Place("privacy", "what is stored about people: export, erase, restrict"),
    "jobs": Place("jobs", "work of the workers: list, retry, discard"),
    "webhook": Place("webhooks", "tell addresses outside what is published"),
    "conformance": Place("conformance", "check a hub from outside, promise by promise"),
    "completion": Place("completion", "the script for the tab key of bash, zsh or fish"),
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
        command: click.Command = getattr(importlib.import_module(f"hub.cli.{COMMANDS[cmd_name].module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its summary, and none of them loaded."""
        summaries = {name: place.summary for name, place in COMMANDS.items()}
        summaries |= {name: each.short_help or "" for name, each in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(summaries.items()))

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
        except UnicodeEncodeError as failure:
            if failure.encoding != "utf-8":  # of the terminal: what was to be written to it
                raise
            raise click.UsageError("what is typed must be UTF-8") from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the end writes to it once more
            raise SystemExit(NOBODY_READS) from None


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="krin")
def main() -> None:
    """Krin: a real-time coordination server. Start with `krin demo`."""


@main.command(
    short_help="the scenarios of the benchmarks folder, in a checkout",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure: the scenarios of the benchmarks folder, in a checkout. `krin bench --help` lists them."""
    if not Path("benchmarks/__main__.py").is_file():
        raise click.ClickException("benchmarks are run in a checkout: there is no benchmarks folder here")
    module = "benchmarks.faults" if arguments[:1] == ("faults",) else "benchmarks"
    rest = arguments[1:] if module == "benchmarks.faults" else arguments
    raise SystemExit(subprocess.run([sys.executable, "-m", module, *rest], check=False).returncode)
