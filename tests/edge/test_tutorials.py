"""The tutorials, done as they say: their scripts run as they stand, but for the hub's address."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from processes import ROOT, HubProcess, running

from hub.client import Client

TUTORIALS = ROOT / "docs" / "tutorials"


def script(tutorial: str) -> str:
    (found,) = re.findall(r"```python\n(.*?)```", (TUTORIALS / tutorial).read_text(), re.DOTALL)
    assert isinstance(found, str)
    return found


def shortness(script: str) -> int:
    return len([line for line in script.splitlines() if line.strip()])


async def run(script: str, hub: HubProcess, *roles: str) -> list[str]:
    """What it prints."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script.replace("http://127.0.0.1:8000", hub.url)],
        cwd=ROOT,
        env=os.environ | {"KRIN_TOKEN": hub.token("ada", *roles)},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_the_trading_bot_buys_sells_and_ends_holding_what_it_says(tmp_path: Path) -> None:
    bot = script("trading-bot.md")
    assert shortness(bot) <= 40
    with running(tmp_path / "data", command="demo") as hub:
        async with asyncio.timeout(150), Client(hub.url, token=hub.token("ada", "trader")) as krin:
            async for _ in krin.subscribe("prices:BTC-USD"):
                if (await krin.orders.validate("BTC-USD", "BUY", "0.01")).result == "APPROVED":
                    break  # the engine has heard of the price, too
            told = await run(bot, hub, "trader")
            again = await run(bot, hub, "trader")
            page = await krin.orders.list(open=True)

    trades = [line for line in [*told, *again] if not line.startswith("not now")]
    held = 0
    for line in trades:
        side, _, _, _, _, after = line.split()
        held += 1 if side == "BUY" else -1
        assert after == f"{held / 100:.2f}", "it goes on with what it held before it was started again"
    assert sum(line.startswith("SELL") for line in trades) == 6
    assert page.orders == []
