"""docs/tutorials/three-nodes.md, done as it says: every command in one shell, and what each block prints."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from pathlib import Path

from terminal import ROOT

from storage.embedded import EmbeddedPostgres

TUTORIAL = (ROOT / "docs" / "tutorials" / "three-nodes.md").read_text()
BLOCK = re.compile(r"```(sh|text)\n(.*?)```", re.DOTALL)
LIMIT_S = 400  # half a minute, on a machine that has nothing else to do
JOB = re.compile(r"^bash: line .*\n", re.M)  # what the shell says of its jobs, sooner or later
END = "-- end of a block --"


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def moved(text: str, ports: dict[str, int], dsn: str) -> str:
    """To places that are free here. In one pass: a free port may be another one's number."""
    text = text.replace("postgresql://krin:secret@127.0.0.1:5432/krin", dsn)
    return re.sub("|".join(ports), lambda found: str(ports[found[0]]), text)


def printed(text: str) -> re.Pattern[str]:
    """`...` stands for what differs from one time to the next."""
    return re.compile(re.escape(text).replace(re.escape("..."), ".*"))


async def test_three_nodes_as_the_tutorial_has_them(tmp_path: Path) -> None:
    ports = dict(zip(("8001", "8002", "8003", "6379"), free_ports(4), strict=True))
    async with EmbeddedPostgres(tmp_path / "postgres") as dsn:
        blocks = [(kind, moved(text, ports, dsn)) for kind, text in BLOCK.findall(TUTORIAL)]
        script = f"echo '{END}'\n".join(text for kind, text in blocks if kind == "sh")
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-c", f"trap 'kill $(jobs -p); wait' EXIT\n{script}"),
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                said = (await shell.communicate())[0].decode()
        finally:
            if shell.returncode is None:
                shell.terminate()
                await shell.wait()
    told = JOB.sub("", said).split(f"{END}\n")
    for number, (kind, _) in enumerate(blocks):
        if kind == "text":
            before = sum(each == "sh" for each, _ in blocks[:number]) - 1
            assert printed(blocks[number][1]).search(told[before]), f"{told[before]}\n is not\n{blocks[number][1]}"
