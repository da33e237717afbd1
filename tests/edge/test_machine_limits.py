"""Rows 14 and 27 of the failure table: a full disk under Postgres, and no file descriptor left."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import running
from sockets import PATIENCE_S, Peer, peer

ROOM = "team:limits"
DISK_MIB = 192
numbers = itertools.count()
SPARE = 20  # descriptors beyond those of a quiet hub


def update(text: str) -> dict[str, Any]:
    return {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": "s1", "ext": {"text": text}}]}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which nobody else minds being full."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0755", "krin-test", str(disk)]
    if (done := subprocess.run(command, capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError as full:
            assert full.errno == errno.ENOSPC
    return filler


async def publish_until(client: Peer, wanted: str, kept: list[str]) -> None:
    """Publish until the outcome is `wanted` ("result" or an error's name); what was acknowledged is added to `kept`."""
    async with asyncio.timeout(60):
        while True:
            text = f"{next(numbers)} " + "x" * 4_000
            reply = await client.ask("publish", channel=ROOM, message=update(text))
            if "result" in reply:
                kept.append(text)
            if wanted in (*reply, reply.get("error", {}).get("name")):
                return
            if "error" in reply:
                await asyncio.sleep(0.05)  # as the answer asks: `temporary`


async def test_row_14_a_full_disk_is_refused_without_an_acknowledgement_and_ends_when_there_is_room_again(
    small_disk: Path,
) -> None:
    with running(small_disk / "data") as hub:
        kept: list[str] = []
        async with peer(hub, hub.token("ada", "agent")) as client:
            await publish_until(client, "result", kept)
            filler = fill(small_disk)
            await publish_until(client, "not_available", kept)
            await client.publish("custom:ticks", "NOTE", {"n": 1})  # what needs no disk goes on
            filler.unlink()
            await publish_until(client, "result", kept)

            found: list[str] = []
            more, since = True, 0
            while more:
                page = (await client.ask("history", channel=ROOM, since={"epoch": "", "offset": since}, limit=100))[
                    "result"
                ]
                found += [message["data"][0]["ext"]["text"] for message in page["messages"]]
                more, since = page["more"], page["messages"][-1]["offset"]
    assert [text for text in found if text in kept] == kept


async def test_row_27_without_a_descriptor_left_the_old_connections_live_and_new_ones_come_in_later(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "data") as hub:
        async with peer(hub, hub.token("ada", "agent")) as old:
            await old.ask("subscribe", channel="custom:row27")
            in_use = len(os.listdir(f"/proc/{hub.process.pid}/fd"))
            _, hard = resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (in_use + SPARE, hard))

            crowd = [await asyncio.open_connection(*hub.address) for _ in range(3 * SPARE)]
            async with asyncio.timeout(PATIENCE_S):
                while "accept" not in hub.log.read_text():  # the loop has said that it cannot
                    await asyncio.sleep(0.05)
            seen = len(old.messages)
            await old.publish("custom:row27", "NOTE", {"n": 1})
            await old.next_after(seen)
            complaints = hub.log.read_text().count("accept")

            for _, writer in crowd:
                writer.close()
            async with peer(hub, hub.token("bob", "agent")) as new:
                await new.publish("custom:row27", "NOTE", {"n": 2})
            assert complaints < SPARE  # it waits before it tries again
