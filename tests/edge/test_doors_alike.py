"""One hub, three doors: what each tells, refuses and makes up for is the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard.browser import PLAIN
from official_socketio import SocketIo, install, socket_io
from sockets import peer, unique
from test_sse_door import Heard, curl
from websockets.asyncio.client import ClientConnection, connect

Told = list[dict[str, Any]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("socketio"))


def plain(message: dict[str, Any], epoch: str) -> dict[str, Any]:
    """A publication with the epoch that only some doors repeat."""
    return {**message, "epoch": message.get("epoch", epoch)}


class BareScript:
    """What anybody writes in ten lines with `websockets`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._waiting: list[dict[str, Any]] = []

    async def ask(self, **command: Any) -> dict[str, Any]:
        await self._socket.send(json.dumps(command))
        while (message := await self.next())["type"] != "reply":
            pass
        return message

    async def next(self) -> dict[str, Any]:
        while not self._waiting:
            frame = json.loads(await self._socket.recv())
            self._waiting = frame if isinstance(frame, list) else [frame]
        return self._waiting.pop(0)

    async def publications(self, count: int) -> Told:
        found: Told = []
        while len(found) < count:
            if "offset" in (message := await self.next()) and "data" in message:
                found.append(message)
        return found


@asynccontextmanager
async def bare_script(hub: Any, token: str) -> AsyncIterator[BareScript]:
    async with connect(hub.ws_url, **PLAIN) as socket:
        script = BareScript(socket)
        assert "result" in await script.ask(type="connect", id=1, token=token)
        yield script


async def events(heard: Heard, count: int) -> Told:
    found: Told = []
    while len(found) < count:
        name, data = await heard.next()
        assert name, "the stream has ended"
        if name == "message":
            found.append(data)
    return found


async def emitted(client: SocketIo, offsets: list[int], room: str) -> Told:
    return [await client.publication(room, offset) for offset in offsets]


async def test_three_doors_tell_the_same_refuse_the_same_and_make_up_for_what_was_missed(
    hub: Any, http: httpx.AsyncClient, program: Path
) -> None:
    room, secret, outside = unique("team"), "orders:bob", unique("team")
    token = hub.token("reader", "agent", teams=(room.removeprefix("team:"),))
    auth = {"token": token}
    async with peer(hub, hub.token("pub")) as publisher:

        async def say(times: int) -> None:
            for number in range(times):
                await publisher.publish(room, "SPECIALIST_UPDATE", [{"specialist_id": f"s{number}"}])

        async with socket_io(program, hub, auth, transports=["websocket"]) as client:
            begun = (await client.emit("subscribe", {"channel": room}))["result"]
            epoch = begun["epoch"]
            async with bare_script(hub, token) as script, curl(hub, token, room) as heard:
                await script.ask(type="subscribe", id=2, channel=room)
                await heard.next()
                await say(3)
                told = [plain(each, epoch) for each in await script.publications(3)]
                assert [each["offset"] for each in told] == [1, 2, 3]
                assert told == [plain(each, epoch) for each in await events(heard, 3)]
                assert told == await emitted(client, [1, 2, 3], room)

                for number, channel in enumerate((secret, outside), start=10):
                    by_script = (await script.ask(type="subscribe", id=number, channel=channel))["error"]
                    by_event = (await client.emit("subscribe", {"channel": channel}))["error"]
                    bearer = {"authorization": f"Bearer {token}"}
                    answer = await http.get("/sse", params={"channels": channel}, headers=bearer)
                    assert by_script == by_event == answer.json()["meta"]["error"]
                    assert by_script["name"] == "permission_denied"
                here = heard.id
            before = len(client.heard)
            await client.do("cut")  # and the other two are gone by now
            await client.next("disconnect")
            await say(2)

            position = {"epoch": epoch, "offset": 3}
            await client.next("connected", after=before)
            again = (await client.emit("subscribe", {"channel": room, "recover": position}))["result"]
            async with bare_script(hub, token) as script, curl(hub, token, room, after=here) as heard:
                joined = (await script.ask(type="subscribe", id=2, channel=room, recover=position))["result"]
                _, about = await heard.next()
                assert [each["recovered"] for each in (joined, about, again)] == [True, True, True]
                await say(1)
                late = [*joined["messages"], *await script.publications(1)]
                told = [plain(each, epoch) for each in late]
                assert [each["offset"] for each in told] == [4, 5, 6]
                assert told == [plain(each, epoch) for each in await events(heard, 3)]
                assert told == await emitted(client, [4, 5, 6], room)
                assert client.offsets(room) == [1, 2, 3, 4, 5, 6]
