"""What is said when a command is used wrongly: one line that says what to do, and the exit code of its kind."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from processes import ROOT

from hub.cli import main
from hub.cli.shared import say

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED, NOBODY_READS = 0, 1, 2, 6, 130, 141
NOTE = ("custom:wrong", "NOTE", "{}")


def ended(*arguments: str, typed: str = "", **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, input=typed, env=environment)


def said(result: Result, code: int) -> str:
    """Its one line; wrong usage has the usage above it."""
    assert result.exit_code == code, result.output
    *usage, line = result.stderr.strip().splitlines()
    assert usage == [] or (code == USAGE and usage[0].startswith("Usage: ")), result.stderr
    return line


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("publish", "nowhere:a", "NOTE", "{}"), FAILED, "no such namespace at $.channel: a hub without namespaces of"),
        (("publish", "hello", "NOTE", "{}"), USAGE, "a channel is namespace:name"),
        (("publish", "custom:a", "note", "{}"), USAGE, "a type is written as PRICE_TICK"),
        (("publish", "custom:a", "NOTE", "{"), USAGE, "the data is not JSON: "),
        (("publish", *NOTE, "--json"), USAGE, "--json is about what --watch shows"),
        (("publish", "team:a", "PRICE_TICK", "{}"), FAILED, "this namespace accepts PLAN_PROPOSED"),
        (("tail", "nowhere:a"), FAILED, "no such namespace"),
        (("tail", "custom"), USAGE, "such as custom:hello"),
        (("tail", "custom:a", "--rewind", "soon"), USAGE, "use a count up to 10000, or how old with ms, s, m or h"),
        (("tail", "custom:a", "--rewind", "10001"), USAGE, "use a count up to 10000"),
        (("search", ""), USAGE, "say what it should be about"),
        (("history", "x"), USAGE, "a channel is namespace:name"),
        (("replay", "nowhere.jsonl", "custom:a"), USAGE, "neither a channel (namespace:name) nor a file"),
        (("replay", "custom:a", "custom:a"), USAGE, "cannot be replayed to itself"),
        (("order", "submit", "BTC-USD", "BUY", "much"), USAGE, "use a number such as 0.01"),
        (("order", "submit", "BTC-USD", "BUY", "1", "--price", "-1"), USAGE, "use a number such as 0.01"),
        (("order", "status", "nothing"), FAILED, "the account has no order of this name"),
        (("order", "replace", "nothing"), USAGE, "say what changes: --qty, --price, --stop-price or --trail"),
        (("team", "tasks", "nothing", "--state", "NOPE"), USAGE, "'NOPE' is not one of 'SUBMITTED', 'WORKING'"),
        (("team", "tasks", "nothing"), FAILED, "no such project"),
        (("strategy", "stop", "nothing"), FAILED, "no such strategy is running"),
        (("feed", "replay", __file__), FAILED, "not a recording of an exchange we know"),
        (("feed", "replay", __file__, "--speed", "-1"), USAGE, "-1.0 is not in the range"),
        (("top",), USAGE, "this is no terminal: say --once, or --json"),
        (("conformance", "nothing"), USAGE, "a hub's address is http(s)://host:port"),
        (("serve", "--config", "/nowhere.toml"), FAILED, "cannot read /nowhere.toml: No such file or directory"),
        (
            ("backtest", "momentum", "--symbol", "BTC-USD"),
            USAGE,
            "by --param NAME=VALUE: Object missing required field",
        ),
        (("backtest", "momentum", "--symbol", "X", "--limits", "{"), USAGE, "--limits: "),
        (("token", "", "--role", "agent"), USAGE, "a name has 1 to 128 characters"),
        (("key", "add", "n" * 129, "--role", "agent"), USAGE, "a name has 1 to 128 characters"),
        (("user", "add", "", "--role", "agent", "--password", "x"), USAGE, "a name has 1 to 128 characters"),
        (("client", "add", "", "--role", "agent"), USAGE, "a name has 1 to 128 characters"),
        (("nothing",), USAGE, "No such command 'nothing'"),
    ],
    ids=lambda each: " ".join(each[:3]) if isinstance(each, tuple) else "",
)
def test_a_mistake_is_told_in_one_line_that_says_what_is_right(
    hub: Any, arguments: tuple[str, ...], code: int, told: str
) -> None:
    assert told in said(ended(*arguments, KRIN_URL=hub.url, KRIN_TOKEN=hub.token("wanda", "admin")), code)


def test_a_password_comes_from_standard_input_where_there_is_no_terminal(hub: Any) -> None:
    name = f"paula-{secrets.token_hex(3)}"
    add = ("user", "add", name, "--role", "agent", "--data-dir", str(hub.data_dir))
    assert said(ended(*add), USAGE).endswith("give the password as KRIN_PASSWORD, on standard input or at a terminal")
    assert said(ended(*add, typed="a quiet horse in the rain\n"), DONE) == f"added {name} with agent"
    body = {"name": name, "password": "a quiet horse in the rain"}
    assert httpx.post(f"{hub.url}/v1/auth/login", json=body).status_code == 200


def test_who_may_not_is_told_where_the_rule_can_be_looked_up(hub: Any) -> None:
    told = said(ended("publish", *NOTE, KRIN_URL=hub.url, KRIN_TOKEN=hub.token("wanda", "dashboard")), FAILED)
    assert told.endswith(
        "you may not publish to this channel at $.channel: krin auth explain USER ACTION CHANNEL says "
        "which rule decides"
    )


def test_who_lacks_a_role_is_not_sent_to_the_command_that_explains_channels(hub: Any) -> None:
    refused = ended("risk", "resume", "global", KRIN_URL=hub.url, KRIN_TOKEN=hub.token("wanda", "dashboard"))
    assert said(refused, FAILED) == "Error: 1003 permission_denied: this needs the role risk"


@pytest.mark.parametrize(
    "command", [("publish", *NOTE), ("order", "list"), ("conformance", "http://127.0.0.1:1"), ("feed", "run")]
)
def test_whoever_names_no_token_is_told_where_one_comes_from(command: tuple[str, ...]) -> None:
    told = said(ended(*command, KRIN_TOKEN=""), USAGE)
    assert told == (
        "Error: Missing option '--token'. krin token NAME --role ROLE prints one, --token or KRIN_TOKEN names it"
    )


def test_something_else_at_the_address_is_no_hub(hub: Any) -> None:
    refused = ended("history", "custom:a", KRIN_URL=f"{hub.url}/elsewhere", KRIN_TOKEN=hub.token("wanda", "admin"))
    assert said(refused, UNREACHABLE).startswith(f"Error: there is no hub at {hub.url}/elsewhere (404")


@pytest.mark.parametrize("name", ["[/x]", "[red]x", "n" * 200, "a\nb", "\x1b[2Jx"])
def test_a_name_is_repeated_on_one_line_whatever_is_in_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(f"everything that {name} had is revoked")
    assert capsys.readouterr().err == f"everything that {ascii(name)[1:-1]} had is revoked\n"


def test_a_token_that_is_no_good_is_told_where_a_good_one_comes_from(hub: Any) -> None:
    where = "krin token NAME --role ROLE prints one, --token or KRIN_TOKEN names it"
    assert said(ended("publish", *NOTE, KRIN_URL=hub.url, KRIN_TOKEN="nonsense"), FAILED) == (
        f"Error: 4002 the token is not valid here: {where}"
    )
    expired = hub.token("wanda", "admin", ttl_s=-60)
    told = said(ended("publish", *NOTE, KRIN_URL=hub.url, KRIN_TOKEN=expired), FAILED)
    assert told == f"Error: 4202 the token has expired: {where}"
    assert "krin token prints one" in ended("publish", "--help").output
    refused = ended("conformance", hub.url, "--only", "2", "--token", "nonsense")
    assert (
        said(refused, USAGE)
        == "Error: nothing was checked: the hub does not take the token: token_invalid, the token is not valid here"
    )


@pytest.mark.parametrize("command", [("tail", "custom:a"), ("conformance",)])
def test_where_there_is_no_hub_it_is_told_how_to_have_one(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    arguments = (*command, url) if command == ("conformance",) else (*command, "--url", url)
    assert said(ended(*arguments, "--token", "t"), UNREACHABLE) == (
        f"Error: there is no hub at {url} (connection refused): krin serve starts one, --url or KRIN_URL names another"
    )


def test_a_hub_that_speaks_no_tls_is_no_hub_at_https(hub: Any) -> None:
    url = hub.url.replace("http", "https", 1)
    told = said(ended("publish", *NOTE, "--url", url, "--token", "t"), UNREACHABLE)
    assert told.startswith(f"Error: there is no hub at {url} (no TLS, ")


@pytest.mark.parametrize(
    ("address", "code", "told"),
    [
        ("postgresql://u:secretword@127.0.0.1:1/x", UNREACHABLE, "The database at 127.0.0.1:1/x cannot be reached"),
        ("u:secretword@nowhere", FAILED, "an address is written as postgresql://user:password@host:port/database."),
    ],
)
def test_a_database_that_is_not_there_is_told_without_its_password(
    tmp_path: Path, address: str, code: int, told: str
) -> None:
    for command in (("audit", "tail"), ("serve", "--port", "0")):
        line = said(ended(*command, "--data-dir", str(tmp_path), "--database-url", address), code)
        assert told in line
        assert "secretword" not in line


def test_a_port_that_is_taken_and_a_folder_that_cannot_be_written_are_told_with_the_way_out(
    hub: Any, tmp_path: Path
) -> None:
    host, port = hub.address
    taken = ended("serve", "--data-dir", str(tmp_path), "--host", host, "--port", str(port))
    assert said(taken, FAILED).endswith(
        f"cannot listen on {host}:{port}: Address already in use; --port 0 takes any free port"
    )
    no_folder = tmp_path / "file"
    no_folder.touch()
    for command in (("serve", "--port", "0"), ("token", "ann", "--role", "admin")):
        told = said(ended(*command, "--data-dir", str(no_folder)), FAILED)
        assert told.endswith("Not a directory; --data-dir or KRIN_DATA_DIR names another data folder")


def test_whoever_stops_reading_ends_a_command_without_a_word(hub: Any) -> None:
    environment = os.environ | {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("wanda", "admin")}
    publish = [sys.executable, "-m", "hub", "publish", "custom:pipe", "NOTE", "-"]
    krin_history = f"{sys.executable} -m hub history custom:pipe | head -n 1; echo ${{PIPESTATUS[0]}}"
    lines = "\n".join(['{"text": "' + 1000 * "x" + '"}'] * 400)
    subprocess.run(publish, cwd=ROOT, env=environment, input=lines, text=True, check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(
        ["bash", "-c", krin_history], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert (done.stdout.splitlines()[1], done.stderr) == (str(NOBODY_READS), "")
