"""Channels over Socket.IO, as its official client has them: rooms, acknowledgements, permissions, and coming back."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from dashboard.browser import PLAIN
from official_socketio import install, socket_io
from processes import krin, running
from proofs import ProofKey
from sockets import PATIENCE_S, Metrics, RawSocket, peer, unique
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

WEBSOCKET = {"transports": ["websocket"]}
POLLING = {"transports": ["polling"]}
HANDSHAKE = {"EIO": "4", "transport": "polling"}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("socketio"))


@pytest.mark.parametrize("options", [{}, WEBSOCKET, POLLING], ids=["upgrading", "websocket", "polling"])
async def test_a_room_is_a_channel_and_an_acknowledgement_a_reply(
    hub: Any, program: Path, options: dict[str, Any]
) -> None:
    room = unique("custom")
    async with (
        peer(hub, hub.token("pub")) as socket,
        socket_io(program, hub, {"token": hub.token("ann")}, **options) as client,
    ):
        assert (await client.next("connected"))["user"] == "ann"
        await socket.ask("subscribe", channel=room)
        joined = (await client.emit("join", room))["result"]
        assert (joined["channel"], joined["offset"], joined["recovered"]) == (room, 0, False)

        placed = await client.emit("publish", {"channel": room, "message": {"type": "NOTE", "data": {"n": 1}}})
        heard = await client.publication(room, placed["result"]["offset"])
        assert heard == {**await socket.until_offset(room, 1), "epoch": joined["epoch"]}
        assert (heard["type"], heard["data"]) == ("NOTE", {"n": 1})

        called = await client.emit("call", {"method": "hub.time", "params": {}})
        assert called["result"]["time"] > 0
        assert (await client.emit("leave", room)) == {"result": {}}
        await socket.publish(room)
        again = (await client.emit("subscribe", {"channel": room, "rewind": 1}))["result"]
        assert (again["offset"], client.offsets(room)) == (2, [1, 2])


async def test_the_client_moves_from_polls_to_a_websocket_without_losing_anything(hub: Any, program: Path) -> None:
    room = unique("custom")
    async with (
        peer(hub, hub.token("pub")) as socket,
        socket_io(program, hub, {"token": hub.token("ann")}) as client,
    ):
        await client.emit("join", room)
        for _ in range(50):
            await socket.publish(room)
        assert await client.ask("upgraded")
        for _ in range(50):
            await socket.publish(room)
        await client.publication(room, 100)
        assert client.offsets(room) == list(range(1, 101))


async def test_permissions_are_those_of_a_socket(hub: Any, program: Path) -> None:
    outsider = {"token": hub.token("bot", "agent", teams=("beta",))}
    async with socket_io(program, hub, outsider, **WEBSOCKET) as client:
        refused = (await client.emit("subscribe", {"channel": "team:alpha"}))["error"]
        assert (refused["code"], refused["name"]) == (1003, "permission_denied")
        update = {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": "s1"}]}
        refused = (await client.emit("publish", {"channel": "team:alpha", "message": update}))["error"]
        assert refused["name"] == "permission_denied"
        assert (await client.emit("call", {"method": "audit.verify", "params": {}}))["error"]["code"] == 1003
        await client.do("emit", event="join", args=["team:alpha"])
        told = await client.next("error")
        assert (told["event"], told["error"]["code"]) == ("join", 1003)


async def test_what_makes_no_sense_is_acknowledged_with_what_is_wrong(hub: Any, program: Path) -> None:
    async with socket_io(program, hub, {"token": hub.token("ann")}, **WEBSOCKET) as client:
        assert (await client.emit("wave", {}))["error"]["name"] == "unknown_type"
        assert (await client.emit("pong", {"time": 1}))["error"]["name"] == "unknown_type"
        wrong = (await client.emit("subscribe", {"channel": "custom:a", "rewind": "soon"}))["error"]
        assert (wrong["name"], wrong["path"]) == ("schema_invalid", "$.rewind")


@pytest.mark.parametrize("options", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_a_token_that_is_no_good_is_refused_for_good(hub: Any, program: Path, options: dict[str, Any]) -> None:
    async with socket_io(program, hub, {"token": "a.b.c"}, **options) as client:
        _, error = await client.next("connect_error")
        assert (error["code"], error["name"]) == (1010, "token_invalid")


async def test_without_a_token_nobody_hears_anything(hub: Any, program: Path) -> None:
    async with socket_io(program, hub, {}, **WEBSOCKET) as client:
        _, error = await client.next("connect_error")
        assert error["name"] == "unauthorized"


async def test_the_handshake_may_carry_the_token(hub: Any, program: Path) -> None:
    good = {"authorization": f"Bearer {hub.token('ann')}"}
    async with socket_io(program, hub, {}, extraHeaders=good, **WEBSOCKET) as client:
        assert (await client.next("connected"))["user"] == "ann"
    async with socket_io(program, hub, {}, extraHeaders={"authorization": "Bearer a.b.c"}, **POLLING) as client:
        await client.next("connect_error")
        assert client.heard == [("connect_error", ["xhr poll error", None])]


@pytest.fixture(scope="module")
def robot(hub: Any) -> tuple[str, str]:
    """A program with credentials of its own."""
    name = f"robot-{secrets.token_hex(3)}"
    added = krin("client", "add", name, "--role", "agent", "--data-dir", str(hub.data_dir), timeout_s=60)
    assert added.returncode == 0, added.stderr
    return name, added.stdout.strip()


class Holder:
    """A program that has a key, and a token that is bound to it."""

    def __init__(self, hub: Any, robot: tuple[str, str]) -> None:
        self.url = hub.url
        self.name, self._secret = robot
        self._key = ProofKey()

    def proof(self, token: str | None, path: str = "/socket.io/", method: str = "GET") -> str:
        return self._key.proof(method, self.url + path, now_s=time.time(), token=token)

    async def token(self, http: httpx.AsyncClient) -> str:
        form = {"grant_type": "client_credentials", "client_id": self.name, "client_secret": self._secret}
        answer = await http.post("/oauth/token", data=form, headers={"dpop": self.proof(None, "/oauth/token", "POST")})
        assert answer.json()["token_type"] == "DPoP", answer.text
        token: str = answer.json()["access_token"]
        return token


async def connects(program: Path, hub: Any, auth: dict[str, Any], options: dict[str, Any]) -> tuple[str, Any]:
    """The name and the content of what the client is told: who it is, or why not."""
    async with socket_io(program, hub, auth, reconnection=False, timeout=60_000, **options) as client:
        return await client.first("connected", "connect_error")


@pytest.mark.parametrize("options", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_c54_a_token_that_is_bound_to_a_key_wants_its_proof(
    hub: Any, http: httpx.AsyncClient, program: Path, robot: tuple[str, str], options: dict[str, Any]
) -> None:
    holder, thief = Holder(hub, robot), Holder(hub, robot)
    token = await holder.token(http)
    seen = holder.proof(token)

    told, connected = await connects(program, hub, {"token": token, "proof": seen}, options)
    assert told == "connected", connected
    assert connected["user"] == holder.name
    for auth in (
        {"token": token},
        {"token": token, "proof": seen},  # a replayed jti
        {"token": token, "proof": thief.proof(token)},
        {"token": token, "proof": holder.proof(token, "/ws")},
        {"token": token, "proof": holder.proof(token, method="POST")},
        {"token": token, "proof": holder.proof(await holder.token(http))},
        {"token": hub.token("ann"), "proof": holder.proof(hub.token("ann"))},
    ):
        told, (_, error) = await connects(program, hub, auth, options)
        assert (told, error["code"], error["name"]) == ("connect_error", 1022, "proof_invalid"), auth


@pytest.mark.parametrize("options", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_c54_so_it_does_in_the_handshake(
    hub: Any, http: httpx.AsyncClient, program: Path, robot: tuple[str, str], options: dict[str, Any]
) -> None:
    holder = Holder(hub, robot)
    token = await holder.token(http)
    seen = holder.proof(token)

    good = {"authorization": f"DPoP {token}", "dpop": seen}
    told, connected = await connects(program, hub, {}, {"extraHeaders": good, **options})
    assert told == "connected", connected
    assert connected["user"] == holder.name
    for headers in (good, {"authorization": f"DPoP {token}"}, {"authorization": f"Bearer {token}"}):
        told, (_, error) = await connects(program, hub, {}, {"extraHeaders": headers, **options})
        assert (told, error) == ("connect_error", None)
        answer = await http.get("/socket.io/", params=HANDSHAKE, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('DPoP error="invalid_dpop_proof"')


async def test_c54_and_the_next_token_wants_another(
    hub: Any, http: httpx.AsyncClient, program: Path, robot: tuple[str, str]
) -> None:
    holder = Holder(hub, robot)
    token, following = await holder.token(http), await holder.token(http)
    seen = holder.proof(token)
    async with socket_io(program, hub, {"token": token, "proof": seen}, **WEBSOCKET) as client:
        await client.next("connected")
        for refresh in ({"token": following}, {"token": following, "proof": seen}):
            assert (await client.emit("refresh", refresh))["error"]["name"] == "proof_invalid"
        refreshed = await client.emit("refresh", {"token": following, "proof": holder.proof(following)})
        assert refreshed["result"]["expires_at"] > time.time() * 1000
        assert (await client.emit("call", {"method": "hub.time", "params": {}}))["result"]["time"] > 0


async def test_who_was_cut_off_comes_back_and_goes_on_where_it_was(hub: Any, program: Path) -> None:
    room = unique("team")
    async with (
        peer(hub, hub.token("pub")) as socket,
        socket_io(program, hub, {"token": hub.token("ann")}, **WEBSOCKET) as client,
    ):
        start = (await client.emit("join", room))["result"]
        await socket.publish(room, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])
        seen = await client.publication(room, 1)
        assert seen["epoch"] == start["epoch"]
        before = len(client.heard)
        await client.do("cut")
        reason, active = await client.next("disconnect")
        assert (reason, active) == ("transport close", True)
        for _ in range(3):
            await socket.publish(room, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])
        await client.next("connected", after=before)
        position = {"epoch": seen["epoch"], "offset": seen["offset"]}
        again = (await client.emit("subscribe", {"channel": room, "recover": position}))["result"]
        assert (again["recovered"], again["offset"]) == (True, 4)
        assert client.offsets(room) == [1, 2, 3, 4]  # before the acknowledgement
        await socket.publish(room, "SPECIALIST_UPDATE", [{"specialist_id": "s1"}])
        await client.publication(room, 5)
        await client.emit("leave", room)
        lost = (await client.emit("subscribe", {"channel": room, "recover": {**position, "epoch": "elsewhere"}}))[
            "result"
        ]
        assert (lost["recovered"], lost["reason"]) == (False, "epoch_changed")


async def test_channels_may_be_named_with_the_token(hub: Any, program: Path) -> None:
    room = unique("custom")
    async with peer(hub, hub.token("pub")) as socket:
        placed = await socket.publish(room)
        auth = {
            "token": hub.token("ann"),
            "subscriptions": {room: {"rewind": 5}, "team:alpha": {}, "nowhere:x": {}},
        }
        async with socket_io(program, hub, auth, **WEBSOCKET) as client:
            found = (await client.next("connected"))["subscriptions"]
            assert found[room]["offset"] == placed["offset"]
            assert found["nowhere:x"]["error"]["name"] == "unknown_channel"
            assert client.offsets(room) == [1]


@pytest.mark.parametrize("options", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_signing_out_ends_it_with_a_reason_and_for_good(
    hub: Any, http: httpx.AsyncClient, program: Path, options: dict[str, Any]
) -> None:
    token = hub.token("leaver", "admin")
    async with socket_io(program, hub, {"token": token}, **options) as client:
        await client.next("connected")
        answer = await http.post("/v1/auth/logout", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        goodbye = await client.next("goodbye")
        assert (goodbye["code"], goodbye["reconnect"]) == (4001, False)
        assert await client.next("disconnect") == ["io server disconnect", False]


async def test_a_drain_sends_clients_away_to_come_back(tmp_path: Path, program: Path) -> None:
    with running(tmp_path / "data") as hub:
        async with (
            socket_io(program, hub, {"token": hub.token("ann")}, **WEBSOCKET) as one,
            socket_io(program, hub, {"token": hub.token("bob")}, **POLLING) as other,
        ):
            for client in (one, other):
                await client.next("connected")
            hub.terminate()
            for client in (one, other):
                goodbye = await client.next("goodbye")
                assert (goodbye["code"], goodbye["reconnect"]) == (4200, True)
                assert await client.next("disconnect") == ["transport close", True]
            assert await hub.exit_code() == 0
        assert "Traceback" not in hub.log.read_text()


@pytest.mark.parametrize("options", [WEBSOCKET, POLLING], ids=["websocket", "polling"])
async def test_a_client_that_goes_leaves_no_connection_behind(hub: Any, program: Path, options: dict[str, Any]) -> None:
    metrics = Metrics(hub)
    before = await metrics.value("krin_connections")
    async with socket_io(program, hub, {"token": hub.token("ann")}, **options) as client:
        await client.next("connected")
        assert await metrics.value("krin_connections") == before + 1
        await client.do("close")
        async with asyncio.timeout(PATIENCE_S):
            while await metrics.value("krin_connections") > before:
                await asyncio.sleep(0.05)


async def test_a_client_that_does_not_read_is_sent_away_at_the_bound(
    hub: Any, program: Path, bystander: Any, memory: Any
) -> None:
    room, metrics = unique("custom"), Metrics(hub)
    async with (
        peer(hub, hub.token("pub")) as socket,
        socket_io(program, hub, {"token": hub.token("stuck")}, reconnection=False, **WEBSOCKET) as client,
    ):
        await client.emit("join", room)
        connected = await metrics.value("krin_connections")
        await client.do("silence")
        async with asyncio.timeout(30):
            while await metrics.value("krin_connections") == connected:
                for _ in range(20):
                    await socket.publish(room, data={"t": "x" * 30_000})
    assert memory.grown_mib < 120  # the channel's history is up to 64 MiB of it


NONSENSE = {
    "no packet": "x",
    "an empty packet": "",
    "a binary frame": b"\x04",
    "no JSON": '42["wave"',
    "no event": "42{}",
    "no name": "42[1]",
    "two arguments": '42["join","custom:a","custom:b"]',
    "no fields": '42["join",7]',
    "another namespace": "40/admin,",
    "a binary event": '451-["wave",{"_placeholder":true,"num":0}]',
    "a number without end": "42" + "1" * 500,
    "a type of its own": "49",
    "nested without end": '42["publish",' + "[" * 20_000 + "]" * 20_000 + "]",
    "nested": '42["publish",{"a":' + "[" * 500 + "]" * 500 + "}]",
    "data of another kind": "4{}",
    "a superscript": "²",
}


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
async def test_who_speaks_nonsense_is_sent_away(hub: Any, bystander: Any, text: str | bytes) -> None:
    async with connect(f"{hub.ws_url.removesuffix('/ws')}/socket.io/?EIO=4&transport=websocket", **PLAIN) as socket:
        await socket.recv()
        await socket.send("40" + json.dumps({"token": hub.token("ann")}))
        while not str(await socket.recv()).startswith('42["connected"'):
            pass
        await socket.send(text)
        with pytest.raises(ConnectionClosed):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    await socket.recv()
        assert socket.close_code == 4000


@pytest.mark.parametrize("text", ["4²", "bé", "\x1e" * 1000, '42["wave"', "4{}"])
async def test_nonsense_in_a_poll_is_answered_and_harms_nobody(
    hub: Any, http: httpx.AsyncClient, bystander: Any, text: str
) -> None:
    opened = json.loads((await http.get("/socket.io/", params=HANDSHAKE)).text[1:])
    answer = await http.post("/socket.io/", params=HANDSHAKE | {"sid": opened["sid"]}, content=text)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    ("method", "query", "headers", "status"),
    [
        ("GET", HANDSHAKE | {"token": "a.b.c"}, {}, 400),
        ("GET", HANDSHAKE | {"j": "0"}, {}, 400),
        ("GET", HANDSHAKE | {"sid": "made-up"}, {}, 400),
        ("POST", HANDSHAKE | {"sid": "made-up"}, {}, 400),
        ("GET", {"EIO": "3", "transport": "polling"}, {}, 400),
        ("GET", HANDSHAKE, {"origin": "https://evil.example"}, 403),
        ("GET", HANDSHAKE, {"authorization": "Bearer a.b.c"}, 401),
        ("PUT", HANDSHAKE, {}, 405),
    ],
)
async def test_a_handshake_that_must_not_be_is_refused(
    hub: Any, http: httpx.AsyncClient, method: str, query: dict[str, str], headers: dict[str, str], status: int
) -> None:
    answer = await http.request(method, "/socket.io/", params=query, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers


async def test_a_page_of_another_origin_gets_no_websocket(hub: Any) -> None:
    async with RawSocket.open(hub) as raw:
        path = "/socket.io/?EIO=4&transport=websocket"
        status, _ = await raw.upgrade(path=path, headers={"Origin": "https://evil.example"})
    assert status == 403


def test_without_the_extra_there_is_no_door_and_who_asks_for_it_is_told_why(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['socketio'] = None\n")
    without = {"PYTHONPATH": str(tmp_path)}
    with running(tmp_path / "data", environment=without) as hub:
        assert httpx.get(f"{hub.url}/socket.io/", params=HANDSHAKE).status_code == 404
    config = tmp_path / "krin.toml"
    config.write_text("[doors]\nsocketio = true\n")
    asked = ("serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--config", str(config))
    done = krin(*asked, environment=without)
    assert done.returncode == 1
    assert "pip install 'krin-hub[socketio]'" in done.stderr
