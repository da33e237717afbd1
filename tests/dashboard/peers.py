"""Both ends of the browser SDK under test: a hub that follows a script, and the SDK itself inside Node."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SDK = Path(__file__).parents[2] / "hub" / "dashboard" / "krin.js"
DRIVER = Path(__file__).with_name("driver.mjs")
PATIENCE_S = 15.0


def node_command() -> list[str] | str:
    """How to start Node with a global WebSocket, or why that is not possible."""
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    for flags in ([], ["--experimental-websocket"]):
        probe = subprocess.run([node, *flags, "-p", "typeof WebSocket"], capture_output=True, text=True, check=False)
        if probe.stdout.strip() == "function":
            return [node, *flags]
    return "this node has no global WebSocket (it needs 20.10 or newer)"


class HubSide:
    """One accepted connection, seen from the hub. `expect` takes the client's messages in order."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket
        self._waiting: list[dict[str, Any]] = []
        self.frames: list[str] = []

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next message, which must be of this type."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._waiting:
                frame = await self._socket.recv()
                assert isinstance(frame, str)
                self.frames.append(frame)
                message = json.loads(frame)
                self._waiting += message if isinstance(message, list) else [message]
        message = self._waiting.pop(0)
        assert message["type"] == kind, message
        return dict(message)

    async def push(self, *messages: dict[str, Any]) -> None:
        """Send messages as one frame."""
        await self._socket.send(json.dumps(messages if len(messages) != 1 else messages[0]))

    async def reply(self, command: dict[str, Any], result: Any = None, *also: dict[str, Any]) -> None:
        await self.push({"type": "reply", "id": command["id"], "result": {} if result is None else result}, *also)

    async def refuse(self, command: dict[str, Any], **error: Any) -> None:
        body = {"code": 1000, "name": "internal", "message": "no", "temporary": False, **error}
        await self.push({"type": "reply", "id": command["id"], "error": body})

    async def welcome(self, subscriptions: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        """Answer `connect`; returns the command."""
        command = await self.expect("connect")
        await self.reply(command, connected(subscriptions or {}, **fields))
        return command

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    async def drop(self) -> None:
        """As if a cable was pulled: no close frame."""
        self._socket.transport.abort()

    async def closed_by_client(self) -> int | None:
        async with asyncio.timeout(PATIENCE_S):
            try:
                while True:
                    await self._socket.recv()
            except ConnectionClosed:
                return self._socket.close_code


def connected(subscriptions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    limits = {"max_message_bytes": 65_536, "max_subscriptions": 1024, "max_commands_in_flight": 256}
    return {
        "client": "c1",
        "session": "s1",
        "user": "ada",
        "node": "n1",
        "version": "0",
        "ping_interval_ms": 25_000,
        "limits": limits,
        "server_time": 1_700_000_000_000,
        "subscriptions": subscriptions,
        **fields,
    }


def joined(
    channel: str,
    offset: int,
    *messages: dict[str, Any],
    promise: str = "recoverable",
    epoch: str = "e1",
    recovered: bool = False,
    reason: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A subscribe result."""
    why = {} if recovered else {"reason": reason or "not_requested"}
    return {
        "channel": channel,
        "epoch": epoch,
        "offset": offset,
        "promise": promise,
        "recovered": recovered,
        "messages": list(messages),
        **why,
        **fields,
    }


def publication(channel: str, offset: int, **fields: Any) -> dict[str, Any]:
    return {"type": "NOTE", "channel": channel, "offset": offset, "timestamp": 1, "data": {"n": offset}, **fields}


class ScriptedHub:
    """Accepts connections and hands them to the test one by one."""

    def __init__(self) -> None:
        self.arrivals: asyncio.Queue[HubSide] = asyncio.Queue()
        self.accepted = 0
        self.url = ""

    async def connection(self) -> HubSide:
        async with asyncio.timeout(PATIENCE_S):
            return await self.arrivals.get()

    async def _serve(self, socket: ServerConnection) -> None:
        self.accepted += 1
        self.arrivals.put_nowait(HubSide(socket))
        await socket.wait_closed()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ScriptedHub]:
        server: Server
        async with serve(self._serve, "127.0.0.1", 0, subprotocols=["krin.v1.json"], ping_interval=None) as server:  # type: ignore[list-item]
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"ws://127.0.0.1:{port}/ws"
            yield self


class Client:
    """The SDK in a Node process. `do` gives it an order, `event` takes what it reported, in order per kind."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._events: list[dict[str, Any]] = []
        self._news = asyncio.Condition()

    async def do(self, op: str, **details: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"op": op, **details}).encode() + b"\n")
        await self._process.stdin.drain()

    async def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event of this kind; earlier ones of the kind must not differ in `fields`, if any are given."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            while True:
                for index, event in enumerate(self._events):
                    if event["event"] == kind and all(event.get(name) == value for name, value in fields.items()):
                        return self._events.pop(index)
                await self._news.wait()

    def seen(self, kind: str) -> list[dict[str, Any]]:
        """What was reported and not yet taken."""
        return [event for event in self._events if event["event"] == kind]

    async def offsets(self, count: int) -> list[int]:
        return [(await self.event("message"))["offset"] for _ in range(count)]

    async def collect(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            async with self._news:
                self._events.append(json.loads(line))
                self._news.notify_all()


@asynccontextmanager
async def running_client(command: list[str], url: str, **options: Any) -> AsyncIterator[Client]:
    process = await asyncio.create_subprocess_exec(
        *command,
        str(DRIVER),
        SDK.as_uri(),
        url,
        json.dumps({"token": "t1", "name": "test", "kind": "dashboard", **options}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    client = Client(process)
    collecting = asyncio.create_task(client.collect(), name="node output")
    try:
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await collecting
