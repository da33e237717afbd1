"""OAuth 2.0 as others see it: keys, tokens, codes."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jwt
from processes import krin


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
