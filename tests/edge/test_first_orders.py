"""What a new user tries first with orders: the demo, and the script of the README."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from processes import ROOT, running

from hub.client import Client

SCRIPTS = re.compile(r"```python\n(.*?)```", re.DOTALL)
LINES = 20


def script() -> str:
    (found,) = [each for each in SCRIPTS.findall((ROOT / "README.md").read_text()) if "krin.orders" in each]
    return found


def test_the_script_is_as_short_as_promised() -> None:
    assert len([line for line in script().splitlines() if line.strip()]) <= LINES


async def test_the_script_of_the_readme_trades_in_the_demo(tmp_path: Path) -> None:
    with running(tmp_path / "data", command="demo") as hub:
        async with asyncio.timeout(60), Client(hub.url, token=hub.token("ada", "trader")) as krin:
            async for _ in krin.subscribe("prices:BTC-USD"):
                if (await krin.orders.validate("BTC-USD", "BUY", "0.01")).result == "APPROVED":
                    break  # the engine has heard of the price, too
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script().replace("http://127.0.0.1:8000", hub.url)],
            cwd=ROOT,
            env=os.environ | {"KRIN_TOKEN": hub.token("ada", "trader")},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        filled, moved, ended = done.stdout.splitlines()
        price = float(filled.removeprefix("filled at "))
        assert 0 < float(moved.removeprefix("moved to ")) < price
        assert ended == "ended CANCELED"
