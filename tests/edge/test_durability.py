"""`kill -9` in the middle of ten thousand durable publishes: acknowledged means there, and nothing is there twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

from processes import HubProcess, running
from sockets import Peer, peer
from websockets.exceptions import WebSocketException

CLIENTS = 8
MESSAGES = 1_250  # of each
WINDOW = 64
CHANNELS = ("team:a", "team:b", "team:c", "team:d")
KILLS_AFTER = (2_500, 5_000, 7_500)  # acknowledged messages
LIMIT_S = 55


class Shared:
    """What all clients know: where the hub is now, and what was acknowledged."""

    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub
        self.token = hub.token("ann")
        self.acknowledged: dict[str, tuple[str, str, int]] = {}  # key -> channel, epoch, offset
        self.contradictions: list[str] = []
        self.up = asyncio.Event()
        self.up.set()
        self.progress = asyncio.Event()

    def acknowledge(self, key: str, result: dict[str, Any]) -> None:
        position = (result["channel"], result["epoch"], result["offset"])
        if self.acknowledged.setdefault(key, position) != position:
            self.contradictions.append(key)
        self.progress.set()

    async def until_acknowledged(self, count: int) -> None:
        while len(self.acknowledged) < count:
            self.progress.clear()
            await self.progress.wait()


async def publish_all(shared: Shared, client: int) -> None:
    """Publish this client's messages, however often the hub dies: what was not acknowledged is sent again."""
    open_keys = [f"{client}-{number}" for number in range(MESSAGES)]
    while open_keys:
        await shared.up.wait()
        with contextlib.suppress(OSError, WebSocketException, AssertionError, TimeoutError):
            async with peer(shared.hub, shared.token) as connection:
                for start in range(0, len(open_keys), WINDOW):
                    await publish_window(shared, connection, open_keys[start : start + WINDOW])
        open_keys = [key for key in open_keys if key not in shared.acknowledged]
        await asyncio.sleep(0)


async def publish_window(shared: Shared, connection: Peer, keys: list[str]) -> None:
    numbers = {}
    for key in keys:
        message = {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": key}]}
        channel = CHANNELS[int(key.split("-")[1]) % len(CHANNELS)]
        command = connection.command("publish", channel=channel, message=message, idempotency_key=key)
        numbers[command["id"]] = key
        await connection.send(command)
    seen = len(connection.messages)
    for number, key in numbers.items():
        reply = await connection.reply(number)
        if "result" in reply:
            shared.acknowledge(key, reply["result"])
    del connection.messages[:seen]


class Follower:
    """An application that applies each message once and keeps its position, as a client should."""

    def __init__(self, shared: Shared, channel: str) -> None:
        self.shared = shared
        self.channel = channel
        self.position: dict[str, Any] | None = None
        self.applied: list[tuple[int, str]] = []
        self.broken: list[str] = []

    def apply(self, message: dict[str, Any]) -> None:
        offset = message["offset"]
        if offset != len(self.applied) + 1:
            self.broken.append(f"{offset} after {len(self.applied)}")
        self.applied.append((offset, message["data"][0]["specialist_id"]))
        assert self.position is not None
        self.position["offset"] = offset

    async def run(self) -> None:
        while True:
            await self.shared.up.wait()
            with contextlib.suppress(OSError, WebSocketException, AssertionError, TimeoutError):
                async with peer(self.shared.hub, self.shared.token) as connection:
                    options = {"recover": self.position} if self.position else {"rewind": 10_000}
                    reply = await connection.ask("subscribe", channel=self.channel, **options)
                    if "error" in reply:
                        if not reply["error"]["temporary"]:
                            self.broken.append(str(reply["error"]))
                        continue
                    result = reply["result"]
                    if self.position is not None and not result["recovered"]:
                        self.broken.append(f"not recovered: {result['reason']}")
                    self.position = self.position or {"epoch": result["epoch"], "offset": 0}
                    for each in result["messages"]:
                        self.apply(each)
                    seen = connection.messages.index(reply) + 1
                    while True:
                        ended = connection.closed is not None
                        for each in connection.messages[seen:]:
                            if each.get("channel") == self.channel and "data" in each:
                                self.apply(each)
                        seen = len(connection.messages)
                        if ended:
                            break
                        connection._news.clear()
                        await connection._news.wait()
            await asyncio.sleep(0)  # the pace, not a wait for a fact

    async def until_applied(self, count: int, running: asyncio.Task[None]) -> None:
        while len(self.applied) < count and not self.broken and not running.done():
            await asyncio.sleep(0.01)  # the pace, not a wait for a fact: whoever calls bounds it


async def stored(hub: HubProcess, token: str, channel: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    epoch = ""
    async with peer(hub, token) as client:
        while True:
            since = {"since": {"epoch": epoch, "offset": found[-1]["offset"]}} if found else {}
            result = (await client.ask("history", channel=channel, limit=1000, **since))["result"]
            epoch = result["epoch"]
            found += result["messages"]
            if not result["more"]:
                return found


async def test_what_was_acknowledged_survives_kill_9_and_nothing_is_stored_or_delivered_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with contextlib.ExitStack() as hubs:
        shared = Shared(hubs.enter_context(running(data)))
        followers = [Follower(shared, channel) for channel in CHANNELS]
        async with asyncio.timeout(LIMIT_S):
            following = [asyncio.create_task(each.run()) for each in followers]
            publishing = [asyncio.create_task(publish_all(shared, client)) for client in range(CLIENTS)]
            for count in KILLS_AFTER:
                await shared.until_acknowledged(count)
                shared.up.clear()
                shared.hub.kill()
                shared.hub = await asyncio.to_thread(hubs.enter_context, running(data))
                shared.up.set()
            await asyncio.gather(*publishing)
            logs = {channel: await stored(shared.hub, shared.token, channel) for channel in CHANNELS}
            for follower, task in zip(followers, following, strict=True):
                await follower.until_applied(len(logs[follower.channel]), task)
                task.cancel()

    assert len(shared.acknowledged) == CLIENTS * MESSAGES
    assert shared.contradictions == []
    keys: Counter[str] = Counter()
    for channel, log in logs.items():
        assert [each["offset"] for each in log] == list(range(1, len(log) + 1))
        for each in log:
            key = each["data"][0]["specialist_id"]
            keys[key] += 1
            acknowledged_channel, _, acknowledged_offset = shared.acknowledged[key]
            assert (acknowledged_channel, acknowledged_offset) == (channel, each["offset"])
    assert len(keys) == CLIENTS * MESSAGES
    assert set(keys.values()) == {1}
    for follower in followers:
        assert follower.broken == []
        assert follower.applied == [
            (each["offset"], each["data"][0]["specialist_id"]) for each in logs[follower.channel]
        ]
