"""What a new user tries first: two clients and a channel, with the commands and the script of the README."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

from processes import ROOT, krin, running

README = (ROOT / "README.md").read_text()


async def listening(*command: str, environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=os.environ | environment, stdout=asyncio.subprocess.PIPE
    )


async def first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = await process.stdout.readline()
    process.terminate()
    await process.wait()
    return line.decode()


async def test_what_one_terminal_publishes_the_other_shows(tmp_path: Path) -> None:
    channel, kind, data = re.findall(r"^krin publish (\S+) (\S+) '(.*)'$", README, re.MULTILINE)[0]
    assert f"krin tail {channel}\n" in README
    with running(tmp_path / "data") as hub:
        environment = {"KRIN_URL": hub.url, "KRIN_TOKEN": hub.token("ada", "agent")}
        published = krin("publish", channel, kind, data, environment=environment)
        assert published.returncode == 0, published.stderr
        tail = await listening("-m", "hub", "tail", channel, "--rewind", "1", environment=environment)
        line = await first_line(tail)

    assert f"{channel} 1 {kind} " in line


async def test_the_script_hears_what_it_published(tmp_path: Path) -> None:
    (script,) = [each for each in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "krin.publish" in each]
    with running(tmp_path / "data") as hub:
        environment = {"KRIN_TOKEN": hub.token("ada", "agent"), "PYTHONUNBUFFERED": "1"}
        script = script.replace("http://127.0.0.1:8000", hub.url)
        line = await first_line(await listening("-c", script, environment=environment))

    assert line == "1 SPECIALIST_UPDATE [{'specialist_id': 'ada', 'activity': 'WORKING'}]\n"
