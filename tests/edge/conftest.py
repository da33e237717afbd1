"""Every test here also checks that the hub stayed calm: no traceback, no incident, and a bystander undisturbed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
import pytest_asyncio
from sockets import peer, unique

ALARMS = re.compile(r"Traceback|incident |exception|never retrieved|\"level\": \"(error|critical)\"", re.IGNORECASE)


def alarms(text: str) -> list[str]:
    return [line[:600] for line in text.splitlines() if ALARMS.search(line)]


@pytest.fixture(autouse=True)
def calm_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the session's hub logs during a test must not be alarming, whatever was done to it."""
    if "hub" not in request.fixturenames:
        yield
        return
    log = Path(request.getfixturevalue("hub").data_dir) / "stderr.log"
    before = log.stat().st_size
    yield
    with log.open("rb") as stream:
        stream.seek(before)
        assert alarms(stream.read().decode(errors="replace")) == []


@pytest_asyncio.fixture
async def bystander(hub: Any) -> AsyncIterator[Any]:
    """Another client, which must go on being served: checked when the test ends."""
    async with peer(hub, hub.token("bystander", "admin")) as made:
        channel = unique("custom")
        await made.ask("subscribe", channel=channel)
        yield made
        await made.publish(channel)
        await made.until_offset(channel, 1)
        assert made.closed is None


@pytest_asyncio.fixture
async def http(hub: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=hub.url, timeout=10) as client:
        yield client


class Memory:
    """How much a process has grown since this was made."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._process.memory_info().rss

    @property
    def grown_mib(self) -> float:
        return float((self._process.memory_info().rss - self._before) / (1 << 20))


@pytest.fixture
def memory(hub: Any) -> Memory:
    return Memory(hub.process.pid)
