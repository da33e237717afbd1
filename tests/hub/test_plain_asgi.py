"""The hub under any ASGI server, without the raw way to the socket: the same protocol, a little slower."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest_asyncio
from clock import ManualClock
from scene import Scene

from hub.auth.fetching import fetch
from hub.auth.keys import generate, key_of
from hub.auth.providers import Provider, ProviderPolicy, Providers
from hub.edge.credentials import Credentials
from hub.edge.websocket import WebSocketEndpoint
from storage.database import Database

ROOM = "custom:room"


class Server:
    """As much of an ASGI server as one WebSocket needs. `stuck`: the peer takes nothing for now."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.inbox.put_nowait({"type": "websocket.connect"})

    async def receive(self) -> dict[str, Any]:
        return await self.inbox.get()

    async def send(self, message: Any) -> None:
        await self.may_send.wait()
        self.sent.append(message)

    def say(self, message: Any) -> None:
        self.inbox.put_nowait({"type": "websocket.receive", "text": json.dumps(message), "bytes": None})

    @property
    def messages(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for each in self.sent:
            if each["type"] == "websocket.send":
                message = json.loads(each["text"])
                found += message if isinstance(message, list) else [message]
        return found

    async def until(self, wanted: Any) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while True:
                for each in [*self.messages, *self.sent]:
                    if wanted(each):
                        return each
                await asyncio.sleep(0.001)

    async def reply(self, number: int) -> dict[str, Any]:
        return await self.until(lambda each: each["type"] == "reply" and each["id"] == number)


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


@asynccontextmanager
async def connected(
    scene: Scene, *, subprotocols: list[str] | None = None, headers: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[Server]:
    endpoint = WebSocketEndpoint(
        scene.dispatcher,
        scene.authentication,
        scene.registry,
        scene.fanout,
        credentials=Credentials("krin"),
        on_end=scene.leave,
        limits=scene.limits,
        notes=scene.notes,
        report=scene.threats.hear,
        clock=scene.clock,
    )
    server = Server()
    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(b"host", b"localhost"), *(headers or [])],
        "query_string": b"",
        "subprotocols": ["krin.v1.json"] if subprotocols is None else subprotocols,
        "client": ("127.0.0.1", 1),
    }
    serving = asyncio.create_task(endpoint(scope, server.receive, server.send))
    try:
        yield server
    finally:
        server.may_send.set()
        server.inbox.put_nowait({"type": "websocket.disconnect", "code": 1005})
        async with asyncio.timeout(5):
            await serving


async def test_the_protocol_works_the_same(scene: Scene) -> None:
    async with connected(scene) as server:
        server.say({"type": "connect", "id": 1, "token": scene.token(), "subscriptions": {ROOM: {}}})
        await server.reply(1)
        server.say({"type": "publish", "id": 2, "channel": ROOM, "message": {"type": "NOTE", "data": {"a": "é"}}})
        got = await server.until(lambda each: each["type"] == "NOTE")

        assert got["data"] == {"a": "é"}
    assert len(scene.registry) == 0
    assert scene.fanout.channels() == []


async def test_a_binary_frame_on_a_json_connection_ends_it(scene: Scene) -> None:
    async with connected(scene) as server:
        server.inbox.put_nowait({"type": "websocket.receive", "bytes": b"{}", "text": None})
        closed = await server.until(lambda each: each["type"] == "websocket.close")

        assert closed["code"] == 4000
        assert server.messages[-1]["type"] == "disconnect"


async def test_a_refused_token_is_answered_and_then_closed(scene: Scene) -> None:
    async with connected(scene) as server:
        server.say({"type": "connect", "id": 1, "token": "x.y.z"})
        closed = await server.until(lambda each: each["type"] == "websocket.close")

        assert (await server.reply(1))["error"]["code"] == 1010
        assert closed["code"] == 4002


async def test_an_unknown_subprotocol_and_a_bad_header_are_refused_before_the_upgrade(scene: Scene) -> None:
    async with connected(scene, subprotocols=["mqtt"]) as server:
        assert (await server.until(lambda each: "status" in each))["status"] == 400
    async with connected(scene, headers=[(b"authorization", b"Bearer \xff\xfe")]) as server:
        assert (await server.until(lambda each: "status" in each))["status"] == 401


async def test_a_credential_that_cannot_be_looked_up_now_is_no_reason_to_give_it_up(database: Database) -> None:
    key = key_of(generate("ES256"), "ES256")
    policy = ProviderPolicy(issuer="https://id.example/", audience="krin", jwks_url="http://127.0.0.1:9/nobody")
    clock = ManualClock(now_ms=time.time_ns() // 1_000_000)
    provider = Provider("acme", policy, fetch=fetch, clock=clock)
    now = clock.now_ms() // 1000
    claims = {"iss": policy.issuer, "aud": "krin", "sub": "ann", "iat": now, "exp": now + 60, "jti": "t"}
    token = jwt.encode(claims, key.signing, algorithm="ES256", headers={"typ": "at+jwt", "kid": key.kid})
    bearer = (b"authorization", f"Bearer {token}".encode())
    async with (
        Scene(database, clock=clock, providers=Providers([provider])).running() as scene,
        connected(scene, headers=[bearer]) as server,
    ):
        answer = await server.until(lambda each: "status" in each)

    assert answer["status"] == 503
    assert (b"retry-after", b"10") in answer["headers"]
    assert b"www-authenticate" not in dict(answer["headers"])


async def test_a_reader_that_takes_nothing_gets_the_newest_value_when_it_takes_again(scene: Scene) -> None:
    feed = await scene.client("feed")
    async with connected(scene) as server:
        server.say({"type": "connect", "id": 1, "token": scene.token(), "subscriptions": {"prices:X": {}}})
        await server.reply(1)
        server.may_send.clear()
        for number in range(1, 301):
            await feed.publish("prices:X", "PRICE_TICK", {"symbol": "X", "bid": str(number)})
        server.may_send.set()
        await server.until(lambda each: each.get("offset") == 300)
        ticks = [each for each in server.messages if each["type"] == "PRICE_TICK"]

        assert len(ticks) + sum(each.get("skipped", 0) for each in ticks) == 300
        assert len(ticks) < 300
        assert [each["offset"] for each in ticks] == sorted({each["offset"] for each in ticks})


async def test_a_reader_that_goes_while_it_takes_nothing_is_forgotten(scene: Scene) -> None:
    publisher = await scene.client("pub")
    async with connected(scene) as server:
        server.say({"type": "connect", "id": 1, "token": scene.token(), "subscriptions": {ROOM: {}}})
        await server.reply(1)
        server.may_send.clear()
        for _ in range(5):
            await publisher.publish(ROOM)
        server.inbox.put_nowait({"type": "websocket.disconnect", "code": 1006})
        async with asyncio.timeout(5):
            while scene.fanout.listeners(ROOM):
                await asyncio.sleep(0.001)
