"""Churn for minutes on end: connect, subscribe, publish, cut. Nothing may be left over.

    python -m benchmarks.soak --minutes 20

Starts Redis and one hub, lets clients come and go, and prints memory, file descriptors, tasks and Redis subscriptions
as they go. Fails when memory at the end is more than 10 % above that after minute 3, or when anything is left of the
clients once all have gone.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import load
from hub.supervise import local_redis

CLIENTS = 40
CHANNELS = 500
SAMPLE_S = 10.0
SETTLE_S = 8.0  # presence leases and the last cuts
KINDS = (
    ("custom", {"type": "NOTE", "data": {"text": "x" * 100}}),
    ("prices", {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": "1.5", "ask": "1.6"}}),
    ("team", {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": "s", "progress": 0.5}]}),
)


class Sample:
    """What the hub holds at one moment."""

    def __init__(self, process: psutil.Process, metrics: dict[str, float], redis_channels: int) -> None:
        self.rss_mib = process.memory_info().rss / 2**20
        self.descriptors = process.num_fds()
        self.tasks = int(metrics["krin_tasks"])
        self.connections = int(metrics["krin_connections"])
        self.subscriptions = int(metrics["krin_subscriptions"])
        self.redis_channels = redis_channels

    def __str__(self) -> str:
        return (
            f"{self.rss_mib:7.1f} MiB  {self.descriptors:4} descriptors  {self.tasks:4} tasks"
            f"  {self.connections:4} connections  {self.redis_channels:4} redis channels"
        )


@click.command()
@click.option("--minutes", type=click.FloatRange(0.5, 120), default=20.0, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(minutes: float, seed: int) -> None:
    """Run the soak; exit code 1 when something is left over."""
    sys.exit(asyncio.run(_soak(minutes, random.Random(seed))))


async def _soak(minutes: float, rng: random.Random) -> int:
    with tempfile.TemporaryDirectory(prefix="krin-soak-") as folder:
        async with local_redis(Path(folder)) as redis_url, _hub(Path(folder), redis_url) as (process, url):
            token = make_tokens(load(data_dir=folder), SystemClock()).issue(
                "soak", roles=["admin"], ttl_s=86_400, principal="operator"
            )
            loop = asyncio.get_running_loop()
            ends = loop.time() + minutes * 60
            async with Redis.from_url(redis_url) as redis, asyncio.TaskGroup() as group:
                empty = await _sample(process, url, redis)
                click.echo(f"start    {empty}")
                for _ in range(CLIENTS):
                    group.create_task(_churn(url, token, random.Random(rng.random()), ends))
                early = empty
                while loop.time() < ends:
                    await asyncio.sleep(min(SAMPLE_S, max(0.1, ends - loop.time())))
                    now = await _sample(process, url, redis)
                    minute = minutes - (ends - loop.time()) / 60
                    click.echo(f"{minute:5.1f}    {now}")
                    if minute <= max(3.0, minutes * 0.15):
                        early = now
            async with Redis.from_url(redis_url) as redis:
                await asyncio.sleep(SETTLE_S)
                last = await _sample(process, url, redis)
            click.echo(f"end      {last}")
    growth = last.rss_mib / early.rss_mib - 1
    left = (
        last.connections,
        last.subscriptions,
        max(0, last.tasks - empty.tasks),
        max(0, last.descriptors - empty.descriptors - 8),  # the database pool may have grown to its bound
        max(0, last.redis_channels - empty.redis_channels),
    )
    click.echo(
        f"memory {growth:+.1%} since minute 3; left over (connections, subscriptions, tasks, files, redis): {left}"
    )
    return int(growth > 0.10 or any(left))


async def _churn(url: str, token: str, rng: random.Random, ends: float) -> None:
    """One client after another, each for a moment."""
    loop = asyncio.get_running_loop()
    while loop.time() < ends:
        try:
            async with connect(url.replace("http", "ws", 1) + "/ws", max_size=None) as socket:
                await _live(socket, token, rng)
                if rng.random() < 0.5:
                    socket.transport.abort()
        except (ConnectionClosed, OSError, TimeoutError):
            await asyncio.sleep(0.1)


async def _live(socket: ClientConnection, token: str, rng: random.Random) -> None:
    chosen = [(f"{kind}:{rng.randrange(CHANNELS)}", message) for kind, message in KINDS]
    subscriptions = {channel: {"presence": True} if channel[0] in "ct" else {} for channel, _ in chosen}
    await socket.send(json.dumps({"type": "connect", "id": 1, "token": token, "subscriptions": subscriptions}))
    number = 1
    for _ in range(rng.randrange(1, 20)):
        channel, message = rng.choice(chosen)
        number += 1
        await socket.send(json.dumps({"type": "publish", "id": number, "channel": channel, "message": message}))
        async with asyncio.timeout(10):
            await socket.recv()


@asynccontextmanager
async def _hub(folder: Path, redis_url: str) -> AsyncIterator[tuple[psutil.Process, str]]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hub", "serve", "--port", "0", "--data-dir", str(folder), "--redis-url", redis_url),
        *("--drain-timeout", "1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert child.stdout is not None
        line = (await child.stdout.readline()).decode()
        if not line.startswith("ready "):
            raise click.ClickException("the hub did not start")
        yield psutil.Process(child.pid), line.split()[1]
    finally:
        child.terminate()
        await child.wait()


async def _sample(process: psutil.Process, url: str, redis: Any) -> Sample:
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode())
    metrics = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        if "{" not in name
    }
    return Sample(process, metrics, len(await redis.pubsub_channels()))


if __name__ == "__main__":
    main()
