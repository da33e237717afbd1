"""OAuth 2.0 as others see it: keys, tokens, codes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
import pytest
from processes import krin
from sockets import peer


def on(hub: Any, *arguments: str) -> str:
    """A command on the data folder of the running hub."""
    done = krin(*arguments, "--data-dir", str(hub.data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_c58_the_running_hub_shows_a_new_key_before_it_signs_and_forgets_a_removed_one(
    hub: Any, http: httpx.AsyncClient
) -> None:
    async def names() -> set[str]:
        answer = await http.get("/.well-known/jwks.json")
        assert answer.headers["cache-control"] == "public, max-age=30"
        return {key["kid"] for key in answer.json()["keys"]}

    before = await names()
    token = hub.token("ann")
    await asyncio.to_thread(on, hub, "keys", "rotate", "--overlap", "1h")
    listed = await asyncio.to_thread(on, hub, "keys", "list")
    [added] = {line.split()[0] for line in listed.splitlines()[1:]} - before
    async with asyncio.timeout(10):
        while added not in await names():
            await asyncio.sleep(0.05)

    assert jwt.get_unverified_header(hub.token("ann"))["kid"] in before
    assert (await http.get("/v1/channels", headers={"authorization": f"Bearer {token}"})).status_code == 200
    await asyncio.to_thread(on, hub, "keys", "remove", added)
    async with asyncio.timeout(10):
        while added in await names():
            await asyncio.sleep(0.05)
    assert before < await names(), "the key before was about to end: another must follow it"


# --- API keys


async def test_a_key_is_shown_once_and_opens_every_door_until_it_is_revoked(hub: Any, http: httpx.AsyncClient) -> None:
    key = (await asyncio.to_thread(on, hub, "key", "add", "robot-7", "--role", "agent", "--ttl", "1d")).strip()
    listed = await asyncio.to_thread(on, hub, "key", "list")
    [line] = [line for line in listed.splitlines() if " robot-7 " in line]
    headers = {"authorization": f"Bearer {key}"}

    assert key not in listed
    assert (await http.get("/v1/channels", headers=headers)).status_code == 200
    async with peer(hub, key) as client:
        assert "result" in await client.ask("subscribe", channel="agent:robot-7")
    async with peer(hub, headers=headers) as client:
        assert (await client.ask("connect"))["result"]["user"] == "robot-7"
    await asyncio.to_thread(on, hub, "key", "revoke", line.split()[0])
    async with asyncio.timeout(10):
        while (await http.get("/v1/channels", headers=headers)).status_code == 200:
            await asyncio.sleep(0.05)
    answer = await http.get("/v1/channels", headers=headers)

    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (401, "token_invalid")
    assert key not in (hub.data_dir / "stderr.log").read_text()


@pytest.mark.parametrize("name", ["acme|robot", "robot --ttl 400d", "robot --role nobody"])
async def test_a_key_that_cannot_be_is_refused_in_one_line(hub: Any, name: str) -> None:
    done = await asyncio.to_thread(krin, "key", "add", *name.split(), "--data-dir", str(hub.data_dir))

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
