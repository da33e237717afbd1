"""Every code block of the documentation runs in a test, or is listed here with the reason why not.

A block is known by a piece of its text. Whoever adds one finds its name in a failure of this file.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hub.client.sync import connect
from hub.config import load

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HERE = "tests/edge/test_code_blocks.py"
PATIENCE_S = 60.0


class Block(NamedTuple):
    file: str
    kind: str
    text: str


class Why(str):
    """Why a block does not run."""


DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in (
        "*.md",
        "hub/*.md",
        "hub/*/*.md",
        "protocol/*.md",
        "storage/*.md",
        "benchmarks/*.md",
        "docs/**/*.md",
    )
    for path in ROOT.glob(pattern)
)

WIRE = "tests/protocol/test_readme.py::test_the_hex_of_an_example_is_exactly_the_json_beside_it"
CHANNEL = "tests/edge/test_first_channel.py::test_what_one_terminal_publishes_the_other_shows"
PAGE = "tests/dashboard/test_first_page.py::test_the_page_of_the_readme_shows_a_price_that_moves"
SETTINGS = f"{HERE}::test_every_piece_of_a_configuration_is_one"
BOARD = "tests/dashboard/test_price_board.py::test_the_board_shows_prices_that_move_and_comes_back"
LOBBY = "tests/edge/test_from_socketio.py::test_the_program_is_in_the_room_and_comes_back_with_nothing_missed"
BOT = "tests/edge/test_tutorials.py::test_the_trading_bot_buys_sells_and_ends_holding_what_it_says"
NODES = "tests/edge/test_three_nodes.py::test_three_nodes_as_the_tutorial_has_them"
REDIS = "tests/hub/test_redis_broker.py::test_c71_the_hubs_user_may_nothing_beyond_what_the_hub_needs"

PROOFS: dict[str, dict[str, str]] = {
    "README.md": {
        "pip install . && krin demo": "tests/edge/test_image.py::test_the_steps_of_the_image_make_a_hub_that_is_healthy_and_stops",
        "&& pytest": Why("this is how these tests are run"),
        "krin serve --data-dir ./data": "tests/edge/test_start_and_stop.py::test_a_second_start_finds_what_the_first_one_left",
        "export KRIN_TOKEN": f"{HERE}::test_the_token_of_the_readme_lets_its_owner_publish",
        "krin tail custom:hello": CHANNEL,
        "krin publish custom:hello": CHANNEL,
        "SPECIALIST_UPDATE": "tests/edge/test_first_channel.py::test_the_script_hears_what_it_published",
        "krin.orders": "tests/edge/test_first_orders.py::test_the_script_of_the_readme_trades_in_the_demo",
        "Specialist(": "tests/edge/test_first_agent.py::test_the_agent_of_the_readme_works_through_its_project",
        '<script type="module">': PAGE,
        "--allow-origin": PAGE,
        "krin feed replay coinbase.txt": Why(
            "recordings are not part of the repository; tests/trading has some of its own"
        ),
        "--workers 4": Why("of an operator's own Postgres and Redis; tests/edge/test_workers.py has both"),
    },
    "hub/README.md": {
        'host = "0.0.0.0"': SETTINGS,
        "krin auth explain": f"{HERE}::test_what_is_shown_of_auth_explain_is_what_it_says",
        "krin risk set": "tests/client/test_order_commands.py::test_limits_are_said_in_the_types_the_hub_wants",
        "ACL SETUSER krin on": REDIS,
        "ACL SETUSER krin +spublish": "tests/hub/test_redis_cluster.py::test_nodes_add_up_their_limits_in_a_cluster_too",
        "[feeds.coinbase]": SETTINGS,
        "mcpServers": Why(
            "of somebody's MCP client; the official one comes in the same way in tests/edge/test_mcp_door.py"
        ),
        "SendMessage": Why(
            "waits for a specialist; the official client sends such messages in tests/edge/test_a2a_door.py"
        ),
        "emitWithAck": Why(
            "a part of a program; the official client does the same in tests/edge/test_socketio_door.py"
        ),
        "krin webhook add": "tests/edge/test_webhooks.py::test_the_commands",
        "custom:notes": f"{HERE}::test_the_script_without_a_loop_hears_itself",
        "dataframes.read": f"{HERE}::test_the_tables_are_made",
        "[audit]": SETTINGS,
        "[retention]": SETTINGS,
    },
    "hub/dashboard/README.md": {
        "process.env.KRIN_TOKEN": "tests/dashboard/test_krin_package.py::test_the_installed_package_speaks_with_a_hub",
        "ord_status, reject_reason": "tests/dashboard/test_krin_package.py::test_types_narrow_and_everything_that_is_meant_to_work_compiles",
    },
    "protocol/README.md": {
        "namespace  = ": Why("a grammar; tests/protocol/test_channel_names.py makes names by it"),
        "curl -N": Why("never ends; curl listens in tests/edge/test_sse_door.py"),
        "class Krin": "tests/protocol/test_readme.py::test_the_client_of_the_appendix_gets_each_durable_message_once_across_cuts",
    },
    "benchmarks/README.md": {
        "python -m benchmarks headline": Why("takes minutes on a machine of its own; tests/benchmarks has each part"),
    },
    "docs/tutorials/price-board.md": {
        "<!doctype html>": BOARD,
        "http.server": BOARD,
    },
    "docs/tutorials/three-nodes.md": {
        "redis-server --port": NODES,
        "docker run": Why("of whoever has no Postgres; the test has one"),
        "export KRIN_DATABASE_URL": NODES,
        "krin check": NODES,
        "krin tail team:alpha": NODES,
        '"node":"n2"': NODES,
        "kill $n2": NODES,
        "n2 ended with 0": NODES,
        "kill -9 $n1": NODES,
        "team:alpha 1": NODES,
        "kill $redis": NODES,
        '"offset": 4': NODES,
        "krin doctor": Why("of an operator's own address; tests/edge/test_doctor.py has one"),
    },
    "docs/tutorials/from-socketio.md": {
        "npm install": LOBBY,
        "emitWithAck": LOBBY,
    },
    "docs/tutorials/trading-bot.md": {
        "export KRIN_TOKEN": BOT,
        "asyncio.run": BOT,
        "holding 0.00": BOT,
    },
}


def blocks(document: str) -> Iterator[Block]:
    for kind, text in BLOCK.findall((ROOT / document).read_text()):
        if document != "protocol/README.md" or not kind.startswith(("json ", "msgpack")):  # those: see WIRE
            yield Block(document, kind, text)


def block(document: str, piece: str) -> str:
    (found,) = [each.text for each in blocks(document) if piece in each.text]
    return found


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_accounted_for(document: str) -> None:
    pieces = PROOFS.get(document, {})
    for each in blocks(document):
        known = [piece for piece in pieces if piece in each.text]
        assert len(known) == 1, f"{document}: {known} of PROOFS are in\n{each.text}"
    for piece in pieces:
        block(document, piece)


@pytest.mark.parametrize("proof", sorted({each for file in PROOFS.values() for each in file.values()} | {WIRE}))
def test_every_proof_is_a_test_or_a_reason(proof: str) -> None:
    if isinstance(proof, Why):
        for named in re.findall(r"tests/[\w/.]+", proof):
            assert (ROOT / named).exists(), named
        return
    file, _, name = proof.partition("::")
    tests = [
        each.name
        for each in ast.parse((ROOT / file).read_text()).body
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert name in tests


def environment(hub: Any, *roles: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ada", *roles), "KRIN_DATA_DIR": str(hub.data_dir)}
    return {**os.environ, **given, "PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def run(hub: Any, script: str, *roles: str) -> str:
    """What a script of the documentation prints, to its end."""
    done = subprocess.run(
        [sys.executable, "-c", script.replace("http://127.0.0.1:8000", hub.url)],
        env=environment(hub, *roles),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_token_of_the_readme_lets_its_owner_publish(hub: Any) -> None:
    export, publish = (block("README.md", piece) for piece in ("export KRIN", "krin publish"))
    given = environment(hub)
    del given["KRIN_TOKEN"]
    script = export.replace("./data", str(hub.data_dir)) + publish
    done = subprocess.run(["bash", "-euc", script], env=given, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0


def test_the_script_without_a_loop_hears_itself(hub: Any) -> None:
    assert run(hub, block("hub/README.md", "custom:notes")).endswith(" from a script\n")


def test_the_tables_are_made(hub: Any) -> None:
    fill = {"account": "ada", "client_order_id": "c1", "side": "BUY", "exec_type": "TRADE", "ord_status": "FILLED"}
    with connect(hub.url, token=hub.token("ada")) as krin:
        krin.publish("trades:BTC-USD", "TRADE", {"symbol": "BTC-USD", "price": "64000.5", "size": "0.5"})
        krin.publish("orders:ada", "EXECUTION_REPORT", {**fill, "symbol": "BTC-USD", "last_qty": "0.5"})
    told = run(hub, block("hub/README.md", "dataframes.read"))
    assert "+00:00" in told
    assert "BTC-USD" in told


def test_what_is_shown_of_auth_explain_is_what_it_says(hub: Any) -> None:
    command, _, shown = block("hub/README.md", "krin auth explain").removeprefix("$ ").partition("\n")
    done = subprocess.run(
        ["bash", "-c", command], env=environment(hub), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.stdout + done.stderr, done.returncode) == (shown, 1)


PIECES = [each.text for each in blocks("hub/README.md") if each.kind == "toml"]


@pytest.mark.parametrize("text", PIECES, ids=[text.splitlines()[0][:30] for text in PIECES])
def test_every_piece_of_a_configuration_is_one(text: str, tmp_path: Path) -> None:
    config = tmp_path / "krin.toml"
    config.write_text(text)
    load(config)
