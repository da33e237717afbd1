"""What the fault tests do with a cluster: publish, read, ask a node how it is. All over the wire."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from benchmarks.faults.cluster import Cluster, Node, eventually
from benchmarks.faults.wire import Lost, Wire
from benchmarks.faults.workload import key_of, message_of

_numbers = itertools.count(1)


def new_key(text: str = "m") -> str:
    return f"{text}-{os.getpid()}-{next(_numbers)}"


def new_channel(promise: str) -> str:
    """A channel nobody has used."""
    space = {"durable": "team", "recoverable": "custom", "latest": "prices"}[promise]
    return f"{space}:row-{next(_numbers)}"


def promise_of(channel: str) -> Any:
    return {"team": "durable", "custom": "recoverable", "prices": "latest"}[channel.partition(":")[0]]


def publish_command(channel: str, key: str) -> dict[str, Any]:
    promise = promise_of(channel)
    slot = "slot" if promise == "latest" else ""
    command = {"type": "publish", "channel": channel, "message": message_of(promise, key, slot), "key": slot or key}
    return command if promise == "latest" else command | {"idempotency_key": key}


@asynccontextmanager
async def connected(node: Node) -> AsyncIterator[Wire]:
    wire = await Wire.open(node.ws_url, node.cluster.token, lambda push: None)
    try:
        yield wire
    finally:
        await wire.close()


async def publish(node: Node, channel: str, key: str) -> dict[str, Any]:
    """One attempt: the whole reply. Raises Lost when the outcome is unknown."""
    async with connected(node) as wire:
        return await wire.send(publish_command(channel, key))


async def publish_until_acknowledged(node: Node, channel: str, key: str, *, within_s: float) -> dict[str, Any]:
    """As a client does it: the same key, again and again. The result of the attempt that succeeded."""
    result: dict[str, Any] = {}

    async def attempt() -> bool:
        with contextlib.suppress(Lost):
            result.update((await publish(node, channel, key)).get("result", {}))
        return bool(result)

    await eventually(attempt, within_s=within_s)
    return result


async def stored(cluster: Cluster, channel: str) -> list[tuple[int, str]]:
    """(offset, key) of every message of a channel in Postgres."""
    rows = await cluster.postgres.query(
        'SELECT m."offset", m.key FROM messages AS m JOIN channels AS c ON c.id = m.channel_id '
        'WHERE c.name = $1 ORDER BY m."offset"',
        channel,
    )
    return [(row["offset"], row["key"]) for row in rows]


async def health(node: Node) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=5) as http:
        answer: dict[str, Any] = (await http.get(f"http://127.0.0.1:{node.port}/health")).json()
        return answer


async def degraded(node: Node, what: str) -> bool:
    return any(reason.startswith(what) for reason in (await health(node))["reasons"])


class Reader:
    """Follows one channel on one node. `seen` is what came over the wire, in order: (epoch, offset, key)."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.epoch = ""
        self.offset = 0
        self.recovered: bool | None = None
        self.reason: str | None = None
        self.seen: list[tuple[str, int, str]] = []
        self.wire: Wire | None = None

    @classmethod
    @asynccontextmanager
    async def at(cls, node: Node, channel: str) -> AsyncIterator[Reader]:
        reader = cls(channel)
        await reader.connect(node)
        try:
            yield reader
        finally:
            reader.cut()

    async def connect(self, node: Node, *, within_s: float = 20) -> None:
        """Connect and, after the first time, resume from where it stands; until the hub lets it in."""
        joined: list[dict[str, Any]] = []

        async def attempt() -> bool:
            self.cut()
            options = {"recover": {"epoch": self.epoch, "offset": self.offset}} if self.epoch else {}
            with contextlib.suppress(Lost):
                self.wire = await Wire.open(
                    node.ws_url,
                    node.cluster.token,
                    self._take,
                    subscriptions={self.channel: options},
                    on_reply=lambda reply: joined.append(self._join(reply)),
                )
            return bool(joined and joined[-1])

        await eventually(attempt, within_s=within_s)

    def cut(self) -> None:
        if self.wire is not None:
            self.wire.cut()

    @property
    def keys(self) -> list[str]:
        return [key for _, _, key in self.seen]

    @property
    def offsets(self) -> list[int]:
        return [offset for _, offset, _ in self.seen]

    async def sees(self, *keys: str, within_s: float) -> float:
        """Wait until all these have come; answers how long it took."""
        return await eventually(lambda: set(keys) <= set(self.keys), within_s=within_s)

    def _join(self, reply: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = reply.get("result", {}).get("subscriptions", {}).get(self.channel, {})
        if "epoch" not in result:
            return {}
        self.recovered, self.reason = result["recovered"], result.get("reason")
        self.epoch, self.offset = result["epoch"], result["offset"]
        for publication in result["messages"]:
            self.seen.append((self.epoch, publication["offset"], key_of(publication)))
        return result

    def _take(self, publication: dict[str, Any]) -> None:
        self.epoch = publication.get("epoch", self.epoch)
        self.offset = publication["offset"]
        self.seen.append((self.epoch, self.offset, key_of(publication)))


async def replies(wire: Wire, commands: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Send all at once; None for those that were never answered."""
    futures = [wire.send(command) for command in commands]
    done = await asyncio.gather(*futures, return_exceptions=True)
    return [reply if isinstance(reply, dict) else None for reply in done]
