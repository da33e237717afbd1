"""What a new user tries first with agents: the script of the README, against a hub of their own."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from processes import ROOT, running

SCRIPTS = re.compile(r"```python\n(.*?)```", re.DOTALL)
LINES = 20


def script() -> str:
    (found,) = [each for each in SCRIPTS.findall((ROOT / "README.md").read_text()) if "Specialist" in each]
    return found


def test_the_agent_is_as_short_as_promised() -> None:
    assert len([line for line in script().splitlines() if line.strip()]) <= LINES


async def test_the_agent_of_the_readme_works_through_its_project(tmp_path: Path) -> None:
    with running(tmp_path / "data") as hub:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script().replace("http://127.0.0.1:8000", hub.url)],
            cwd=ROOT,
            env=os.environ | {"KRIN_TOKEN": hub.token("ada", "agent")},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["t-1 COMPLETED", "t-2 COMPLETED"]
