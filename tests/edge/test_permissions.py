"""The permission table at the doors: whoever has no token gets nothing but what lets people in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from hub.permissions import ROUTES, Need

ROOT = Path(__file__).parents[2]
FORGETFUL = "from hub import permissions; del permissions.{table}[{name!r}]; from hub.cli import main; main()"


@pytest.mark.parametrize(
    ("table", "name"),
    [
        ("METHODS", "channels.list"),
        ("ROUTES", "POST /v1/publish"),
        ("ROUTES", "GET /metrics"),
        ("ROUTES", "GET /ws"),
        ("ROUTES", "GET /static"),
    ],
)
def test_c59_a_handler_without_a_permission_stops_the_start_with_one_line_and_exit_code_3(
    tmp_path: Path, table: str, name: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", FORGETFUL.format(table=table, name=name)),
            *("serve", "--port", "0", "--log-level", "error", "--data-dir", str(tmp_path / "data")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert name in line


@pytest.mark.parametrize("name", sorted(name for name, need in ROUTES.items() if need is not Need.NOTHING))
async def test_c59_a_route_that_needs_a_token_answers_nobody_without_one(
    hub: Any, http: httpx.AsyncClient, name: str
) -> None:
    method, path = name.split(" ")
    answer = await http.request(method, path.replace("{channel:path}", "prices:X"))

    assert answer.status_code == 401
    assert answer.json()["data"] is None


@pytest.mark.parametrize("name", sorted(name for name, need in ROUTES.items() if need is Need.ADMIN))
async def test_c59_a_route_for_admins_answers_nobody_else(hub: Any, http: httpx.AsyncClient, name: str) -> None:
    method, path = name.split(" ")
    token = hub.token("ann", "trader", "agent", "feed", "dashboard")
    answer = await http.request(method, path, headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 403
    assert answer.json()["data"] is None
