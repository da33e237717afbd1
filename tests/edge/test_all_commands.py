"""What holds for every command: `--json` where something is shown, the exit codes of the manual, and the tab key."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from terminal import KRIN, ROOT, Terminal

from hub.cli import COMMANDS, main
from hub.cli.watching import Row, table_of
from hub.doctor import findings
from hub.trading.strategies.catalog import STRATEGIES

MANUAL = (ROOT / "hub" / "README.md").read_text()

SECRET = "prints a secret and nothing else"
JSON = "its answer is JSON anyway"
QUIET = "shows nothing but that it is done"
SCRIPT = "prints for other programs as it is"
WITHOUT_JSON = {
    **dict.fromkeys(("token", "client add", "key add", "user mfa", "webhook add"), SECRET),
    **dict.fromkeys(
        ("risk " + name for name in ("limits", "set", "halt", "resume", "state", "approve", "decline")), JSON
    ),
    **dict.fromkeys(("strategy start", "strategy stop", "audit seen", "audit export"), JSON),
    **dict.fromkeys(
        ("privacy " + name for name in ("export", "restrict", "restricted", "release", "holds", "retention")), JSON
    ),
    **dict.fromkeys(("migrate", "user add", "user roles", "user disable", "user enable", "user revoke"), QUIET),
    **dict.fromkeys(("key revoke", "keys rotate", "keys remove", "jobs retry", "jobs discard"), QUIET),
    **dict.fromkeys(("webhook enable", "webhook remove", "webhook test"), QUIET),
    **dict.fromkeys(("replay", "feed replay", "feed run", "privacy correct"), QUIET),
    **dict.fromkeys(("serve", "worker", "demo", "audit key", "completion"), SCRIPT),
    "bench": "a program of its own",
}


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from leaves(below, (*path, name))


LEAVES = dict(leaves(main))


@pytest.mark.parametrize("name", LEAVES)
def test_what_shows_something_shows_it_to_programs_too_or_there_is_a_reason(name: str) -> None:
    has = any(isinstance(each, click.Option) and "--json" in each.opts for each in LEAVES[name].params)
    assert has != (name in WITHOUT_JSON)


def test_reasons_are_of_commands_that_exist() -> None:
    assert WITHOUT_JSON.keys() <= LEAVES.keys()


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_is_in_the_manual_and_says_what_it_does(name: str) -> None:
    section = MANUAL.partition("## Commands")[2].partition("\n## ")[0]
    group, _, rest = name.partition(" ")
    rows = [line for line in section.splitlines() if line.startswith("| `krin") and f"krin {group}" in line]
    assert any(not rest or f"`{rest}" in row or f"krin {name}" in row for row in rows), f"krin {name}"
    assert LEAVES[name].help


def test_the_table_of_commands_is_that_of_the_modules() -> None:
    """A command whose module is another one's would be found only by whoever types it."""
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert command.name == name


HEAVY = {"starlette", "uvicorn", "redis", "highspy", "numpy", "openai", "mcp", "opentelemetry", "prometheus_client"}
DRIVERS = HEAVY | {"asyncpg", "structlog", "jwt", "cryptography"}  # what only nodes need, not who speaks to one
LOADS = {
    **dict.fromkeys(("tail", "publish", "history", "team", "order", "top", "risk"), DRIVERS),
    **dict.fromkeys(("token", "user", "auth", "keys", "key", "client", "jobs"), HEAVY),
}


def loaded_by(code: str) -> set[str]:
    code = f"import sys; from hub.cli import main\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("name", LOADS)
def test_a_command_loads_what_it_needs_only(name: str) -> None:
    assert not LOADS[name] & loaded_by(f"main.get_command(None, {name!r})")


def test_a_token_is_printed_without_a_server_or_a_driver_of_one(tmp_path: Path) -> None:
    arguments = ["token", "ann", "--role", "trader", "--data-dir", str(tmp_path)]
    assert not HEAVY & loaded_by(f"main({arguments!r}, standalone_mode=False)")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_no_command(option: str) -> None:
    found = loaded_by(f"try: main([{option!r}])\nexcept SystemExit: pass")
    assert {each for each in found if each.startswith("hub.")} == {"hub.cli"}
    assert not {"msgspec", "rich", "websockets", *DRIVERS} & found


def test_the_help_has_every_command_on_a_line_of_its_own() -> None:
    listed = CliRunner().invoke(main, ["--help"], terminal_width=80).output.partition("Commands:\n")[2]
    assert {line.split(maxsplit=1)[0] for line in listed.splitlines()} == set(main.list_commands(click.Context(main)))
    assert all(len(line.split(maxsplit=1)) > 1 for line in listed.splitlines())


# --- exit codes


def ended(*arguments: str, said: str = "") -> int:
    return CliRunner().invoke(main, arguments, input=said).exit_code


def unprotected(folder: Path) -> int:
    config = folder / "krin.toml"
    config.write_text("[security]\ntls_required = true\n")
    return ended("check", "--config", str(config), "--data-dir", str(folder))


def unread(folder: Path) -> int:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*KRIN, "completion", "bash"], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert done.stderr == b""
    return done.returncode


ENDS: dict[int, Callable[[Path], int]] = {
    0: lambda folder: ended("completion", "bash"),
    1: lambda folder: ended("serve", "--config", str(folder / "nowhere.toml")),
    2: lambda folder: ended("nothing"),
    3: unprotected,
    4: lambda folder: findings.exit_code([findings.error("disk", "full", "make room")]),
    5: lambda folder: findings.exit_code([findings.warning("disk", "slow", "buy another")]),
    6: lambda folder: ended("conformance", "http://127.0.0.1:1", "--token", "t"),
    130: lambda folder: ended("privacy", "erase", "ann", said="n\n"),
    141: unread,
}


def test_the_manual_has_every_exit_code_and_each_has_an_example_here() -> None:
    table = MANUAL.partition("| exit code |")[2].partition("\n\n")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.M)} == ENDS.keys()


@pytest.mark.parametrize("code", ENDS)
def test_a_command_ends_with_the_code_of_the_manual(code: int, tmp_path: Path) -> None:
    assert ENDS[code](tmp_path) == code


@pytest.mark.parametrize("name", ["krin", "acme|ann"])
def test_no_token_is_made_for_a_name_that_nobody_here_can_have(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["token", name, "--role", "admin", "--data-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "bad_request" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(("token", "ann", "--role", "admin", "--ttl", ttl) for ttl in ("²d", "0h", "-1h", "1w", "9" * 5000 + "d")),
        *(("demo", "--rate", rate) for rate in ("nan", "0", "-1", "inf", "1001")),
        *(("replay", "custom:a", "custom:b", "--speed", speed) for speed in ("nan", "-1", "inf")),
        ("backtest", next(iter(STRATEGIES)), "--simulate", "1", "--latency-ms", "nan"),
        ("conformance", "http://127.0.0.1:1", "--token", "t", "--patience", "nan"),
    ],
)
def test_what_cannot_be_meant_is_a_mistake_in_the_command_line(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert f"Error: Invalid value for '{arguments[-2]}'" in done.stderr


def test_what_is_no_utf_8_is_a_mistake_in_the_command_line() -> None:
    name = next(iter(STRATEGIES))
    done = CliRunner().invoke(main, ["backtest", name, "--symbol", "BTC-USD", "--limits", "\udcff"])
    assert (done.exit_code, done.stderr) == (2, "Error: what is typed must be UTF-8\n")


# --- the tab key


async def test_bash_completes_commands_options_namespaces_and_the_types_of_a_channel(tmp_path: Path) -> None:
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    async with Terminal("bash", "--norc", "--noprofile", "-i", PATH=search, PS1="$ ", HOME=str(tmp_path)) as terminal:
        terminal.type("source <(krin completion bash) && echo rea''dy\n")
        await terminal.shows("ready")
        terminal.type("krin conf\t")
        await terminal.shows("$ krin conformance ")
        terminal.type("\x15\nkrin tail custo\t")
        await terminal.shows("$ krin tail custom:")
        terminal.type("orders --rew\t")
        await terminal.shows("$ krin tail custom:orders --rewind ")
        terminal.type("\x15\nkrin publish prices:BTC-USD P\t")
        await terminal.shows("$ krin publish prices:BTC-USD PRICE_TICK ")
        terminal.type("\x15\nkrin order sub\t")
        await terminal.shows("$ krin order submit ")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_of_what_ends_without_a_space(shell: str) -> None:
    assert "nospace" in CliRunner().invoke(main, ["completion", shell]).output


def test_the_headings_of_krin_top_are_whole_at_80_columns() -> None:
    row = Row(
        "hub-1", "DEGRADED", 12_345, 98_765.0, {"p50": 12.3, "p99": 456.7}, 1_234_567, 0.75, 0.91, "redis is away"
    )
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(table_of([row]))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert {"clients", "sent/s", "12,345", "98,765", "1,234,567", "DEGRADED"} <= set(shown.split())
