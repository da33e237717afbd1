"""`krin feed run`: the sources in a process of their own, the hub elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from processes import ROOT, krin, running

from hub.client import Client

LIMIT_S = 60


def config(folder: Path) -> Path:
    path = folder / "feeds.toml"
    path.write_text('[feeds.sim]\nkind = "simulated"\nsymbols = 1\n')
    return path


async def test_feeds_run_beside_the_hub_and_end_when_they_may_not_publish(tmp_path: Path) -> None:
    feeds = config(tmp_path)
    with running(tmp_path / "data") as hub:
        command = [sys.executable, "-m", "hub", "feed", "run", "--config", str(feeds), "--url", hub.url]
        token = hub.token("feed", "feed")
        feeding = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=os.environ | {"KRIN_TOKEN": token}, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(LIMIT_S), Client(hub.url, token=hub.token("ann", "dashboard")) as ann:
                async for price in ann.subscribe("prices:BTC-USD"):
                    assert price.data["source"] == "consolidated"
                    assert price.data["ext"] == {"simulated": True}
                    break
        finally:
            feeding.terminate()
            await feeding.wait()
        refused = await asyncio.to_thread(
            krin, *command[3:], timeout_s=LIMIT_S, environment={"KRIN_TOKEN": hub.token("ann", "dashboard")}
        )
        assert refused.returncode == 1
        assert "permission_denied" in refused.stderr


def test_without_feeds_there_is_nothing_to_run(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    done = krin("feed", "run", "--config", str(path), "--token", "any")
    assert done.returncode == 1
    assert "[feeds.NAME]" in done.stderr
