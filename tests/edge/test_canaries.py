"""Nothing secret comes out (C4, C76, C82): secrets go in through every door, and everything that came out is searched."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from processes import HubProcess, krin, running
from sockets import RawSocket, peer

from hub.auth import totp
from hub.bootstrap import open_database
from hub.config import load

PLACES = 8  # characters of a canary that must not be found either: nobody shortens a secret by accident


class Canaries:
    """Secrets by the door they went in through, and the texts that came out."""

    def __init__(self) -> None:
        self.planted: dict[str, str] = {}
        self.told: dict[str, str] = {}

    def make(self, door: str) -> str:
        return self.plant(door, f"cAnary{secrets.token_hex(12)}")

    def plant(self, door: str, secret: str) -> str:
        """A secret that the hub itself made up is one as well."""
        assert len(secret) >= PLACES
        self.planted[door] = secret
        return secret

    def hear(self, where: str, text: str) -> None:
        self.told[where] = self.told.get(where, "") + text

    def found(self) -> list[tuple[str, str]]:
        """(door, where) of every secret that came out, as it is or as its bytes in base64 or hexadecimal."""
        return [
            (door, where)
            for door, secret in self.planted.items()
            for where, text in self.told.items()
            if any(form in text for form in forms(secret))
        ]


def forms(secret: str) -> set[str]:
    data = secret.encode()
    return {secret, quote(secret), data.hex(), base64.b64encode(data).decode().rstrip("=")}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    (tmp_path / "stderr.log").touch()
    with running(tmp_path / "data", "--log-level", "debug") as started:
        (started.data_dir / "stderr.log").touch()  # where the other tests' watch looks
        yield started


def on(hub: HubProcess, *arguments: str, password: str = "") -> str:
    done = krin(*arguments, "--data-dir", str(hub.data_dir), environment={"KRIN_PASSWORD": password})
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_c04_c76_c82_no_secret_comes_out_by_any_way(hub: HubProcess, http: httpx.AsyncClient) -> None:
    canaries = Canaries()
    await passwords_and_second_factors(hub, http, canaries)
    await machines(hub, http, canaries)
    await wrong_places(hub, http, canaries)
    canaries.hear("/metrics", (await http.get("/metrics")).text)
    canaries.hear("/health", (await http.get("/health")).text)
    canaries.hear("krin audit export", await asyncio.to_thread(on, hub, "audit", "export"))
    canaries.hear("krin key list", await asyncio.to_thread(on, hub, "key", "list"))
    canaries.hear("the database", await dump(hub))
    hub.terminate()
    assert await hub.exit_code() == 0
    canaries.hear("the log", hub.log.read_text())
    for path in sorted(hub.data_dir.rglob("*")):
        if path.is_file():
            canaries.hear(f"the file {path.relative_to(hub.data_dir)}", path.read_bytes().decode("latin-1"))

    assert len(canaries.planted) >= 25
    assert "info" in canaries.told["the log"]
    assert canaries.found() == []


async def passwords_and_second_factors(hub: HubProcess, http: httpx.AsyncClient, canaries: Canaries) -> None:
    password = canaries.make("password")
    await asyncio.to_thread(on, hub, "user", "add", "ann", "--role", "trader", password=password)
    login = {"name": "ann", "password": password}
    pair = (await http.post("/v1/auth/login", json=login)).json()["data"]
    token = canaries.plant("access token", pair["access_token"])
    headers = {"authorization": f"Bearer {token}"}

    async def refused(path: str, **body: Any) -> None:
        answer = await http.post(path, json=body, headers=headers)
        assert answer.status_code >= 400, answer.text
        canaries.hear(f"an error of {path}", answer.text + str(answer.headers))

    await refused("/v1/auth/login", name="ann", password=canaries.make("wrong password"))
    await refused("/v1/auth/login", name=canaries.make("password in place of the name"), password="x" * 20)
    await refused("/v1/auth/login", name="ann", password=["", canaries.make("password in a list")])
    await refused("/v1/auth/login", name="ann", secret=canaries.make("password in an unknown field"))
    await refused("/v1/auth/password", old_password=canaries.make("wrong old password"), new_password="x" * 20)
    await refused("/v1/auth/mfa/enrol", password=canaries.make("wrong password for a second factor"))

    begun = (await http.post("/v1/auth/mfa/enrol", json={"password": password}, headers=headers)).json()["data"]
    seed = canaries.plant("TOTP seed", parse_qs(urlsplit(begun["uri"]).query)["secret"][0])
    raw = base64.b32decode(seed)
    canaries.plant("TOTP seed as bytes", raw.decode("latin-1"))
    code = totp.code(raw, totp.step_at(time.time()))
    confirmed = (await http.post("/v1/auth/mfa/confirm", json={"otp": code}, headers=headers)).json()["data"]
    for number, recovery_code in enumerate(confirmed["recovery_codes"]):
        canaries.plant(f"recovery code {number}", recovery_code)
    await http.post("/v1/auth/login", json=login | {"recovery_code": confirmed["recovery_codes"][0]})
    await refused("/v1/auth/login", **login, recovery_code=canaries.make("wrong recovery code"))
    await refused("/v1/auth/login", **login, recovery_code=confirmed["recovery_codes"][0])

    form = {"grant_type": "refresh_token", "refresh_token": canaries.plant("refresh token", pair["refresh_token"])}
    renewed = (await http.post("/oauth/token", data=form)).json()
    if "refresh_token" in renewed:
        canaries.plant("second refresh token", renewed["refresh_token"])
    reused = await http.post("/oauth/token", data=form)
    assert reused.status_code == 400
    canaries.hear("an error of a reused refresh token", reused.text)
    forged = await http.post("/oauth/token", data=form | {"refresh_token": canaries.make("forged refresh token")})
    canaries.hear("an error of a forged refresh token", forged.text)


async def machines(hub: HubProcess, http: httpx.AsyncClient, canaries: Canaries) -> None:
    printed = await asyncio.to_thread(on, hub, "client", "add", "robot", "--role", "agent")
    secret = canaries.plant("client secret", printed.split()[-1])
    form = {"grant_type": "client_credentials", "client_id": "robot"}
    issued = (await http.post("/oauth/token", data=form | {"client_secret": secret})).json()
    canaries.plant("access token of a client", issued["access_token"])
    for door, answer in {
        "a form": await http.post("/oauth/token", data=form | {"client_secret": canaries.make("wrong client secret")}),
        "Basic": await http.post("/oauth/token", data=form, auth=("robot", canaries.make("client secret by Basic"))),
    }.items():
        assert answer.status_code in (400, 401)
        canaries.hear(f"an error of {door}", answer.text + str(answer.headers))
    printed = await asyncio.to_thread(on, hub, "key", "add", "robot-7", "--role", "agent")
    key = canaries.plant("API key", printed.strip())
    assert (await http.get("/v1/channels", headers={"authorization": f"Bearer {key}"})).status_code == 200


async def wrong_places(hub: HubProcess, http: httpx.AsyncClient, canaries: Canaries) -> None:
    for door, value in {
        "authorization": f"Bearer {canaries.make('authorization header')}",
        "cookie": f"token={canaries.make('cookie')}",
        "idempotency-key": canaries.make("idempotency key of a refused request") + "!" * 300,
        "x-forwarded-for": canaries.make("forwarded address"),
        "user-agent": canaries.make("user agent"),
    }.items():
        answer = await http.post("/v1/publish", json={}, headers={door: value})
        canaries.hear(f"an error for a header {door}", answer.text + str(answer.headers))
    for path in ("/v1/channels", "/nowhere", "/v1/history/custom:x", "/oauth/authorize"):
        for name in ("token", "access_token"):
            answer = await http.get(path, params={name: canaries.make(f"{name} in the URL of {path}")})
            canaries.hear(f"an error of {path}", answer.text + str(answer.headers))
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(path=f"/ws?token={canaries.make('token in the URL of a socket')}")
        assert status == 400
        canaries.hear("the refusal of a socket", head.decode("latin-1"))
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(headers={"Authorization": f"Bearer {canaries.make('header of a socket')}"})
        assert status == 401
        canaries.hear("the refusal of a socket", head.decode("latin-1"))
    for binary in (False, True):
        await in_messages(hub, canaries, binary=binary)


async def in_messages(hub: HubProcess, canaries: Canaries, *, binary: bool) -> None:
    name = "msgpack" if binary else "JSON"

    def secret(door: str) -> str:
        return canaries.make(f"{door} ({name})")

    wrong = [
        {"type": "publish", "channel": "custom:x", "message": {"type": "NOTE", "data": secret("data of a wrong kind")}},
        {"type": "publish", "channel": "custom:x", "message": {"type": secret("message type"), "data": {}}},
        {"type": "publish", "channel": "prices:X", "message": {"type": "PRICE_TICK", "data": {"symbol": "X", "bid": secret("a price")}}},
        {"type": "publish", "channel": "custom:x", "message": {"type": "NOTE", "data": {}}, "key": [secret("key")]},
        {"type": "publish", "channel": secret("channel name"), "message": {"type": "NOTE", "data": {}}},
        {"type": secret("type")},
        {"type": "refresh", "token": secret("token of a refresh")},
    ]  # fmt: skip
    async with peer(hub, hub.token("bob"), binary=binary) as client:
        for command in wrong:
            reply = await client.ask(command.pop("type"), **command)
            assert "error" in reply
            canaries.hear(f"an error of a command ({name})", json.dumps(reply))
    async with peer(hub, binary=binary) as client:
        reply = await client.ask("connect", token=secret("token of a connect"))
        canaries.hear(f"an error of connect ({name})", json.dumps(reply))
        assert await client.until_closed() == 4002


async def dump(hub: HubProcess) -> str:
    """Every row of every table as Postgres writes it."""
    async with open_database(load(data_dir=str(hub.data_dir))) as (database, _):
        tables = await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        rows = [await database.fetch(f'SELECT t::text FROM "{name}" t') for [name] in tables]
    assert len(tables) > 8
    return "\n".join(str(row[0]) for table in rows for row in table)


def test_a_secret_that_came_out_would_be_found() -> None:
    canaries = Canaries()
    secret = canaries.make("a door")
    for text in forms(secret):
        canaries.told = {"somewhere": f"before{text}after"}
        assert canaries.found() == [("a door", "somewhere")]
    canaries.told = {"somewhere": secret[:-1]}
    assert canaries.found() == []
