"""A hub that found somebody hostile: told within a second, blocked at every door, and nobody else noticed (3.12)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from processes import HubProcess, running
from sockets import RawSocket, frame, peer, unique

CONFIG = """
[security]
trusted_proxies = ["127.0.0.0/8"]
"""
DETECTED_WITHIN_S = 1.0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """Each test comes from an address of its own, as a proxy would tell it."""
    data = tmp_path_factory.mktemp("watched-hub")
    config = data.with_suffix(".toml")
    config.write_text(CONFIG)
    with running(data, "--config", str(config), "--drain-timeout", "0") as hub:
        yield hub


def coming_from(address: str, **headers: str) -> dict[str, str]:
    return {"X-Forwarded-For": address, **headers}


async def test_a_scanner_is_told_of_within_a_second_and_blocked_at_every_door(watched: HubProcess) -> None:
    address = "198.51.100.9"
    async with (
        peer(watched, watched.token("guard", "security")) as guard,
        peer(watched, watched.token("thief", "trader"), headers=coming_from(address)) as inside,
        peer(watched, watched.token("ann", "trader"), headers=coming_from("198.51.100.10")) as bystander,
        httpx.AsyncClient(base_url=watched.url) as http,
    ):
        assert "result" in await guard.ask("subscribe", channel="security:threats")
        for number in range(20):
            assert (await http.get(f"/{number}.php", headers=coming_from(address))).status_code == 404
        async with asyncio.timeout(DETECTED_WITHIN_S):
            threat = await guard.until(
                lambda each: each["type"] == "THREAT_DETECTED" and each["data"]["address"] == address
            )
            assert await inside.until_closed() == 4103

        page = await http.get("/health", headers=coming_from(address))
        api = await http.get("/v1/channels", headers=coming_from(address))
        async with RawSocket.open(watched) as raw:
            handshake, _ = await raw.upgrade(headers={**coming_from(address)})
        await bystander.publish(unique("custom"))
        other = await http.get("/health", headers=coming_from("198.51.100.10"))

    data = threat["data"]
    assert (data["pattern"], data["by"], data["subject"], data["action"]) == (
        "not_found_storm",
        "address",
        address,
        "BLOCK",
    )
    assert data["evidence"]["measured"] == data["evidence"]["threshold"] == 20
    assert (page.status_code, api.status_code, handshake, other.status_code) == (403, 403, 429, 200)
    assert int(page.headers["retry-after"]) > 0
    audit = api.json()["security_audit"]
    assert (audit["threat"]["action"], audit["threat"]["patterns"]) == ("BLOCK", ["not_found_storm"])
    assert audit["token"]["reason"] == "not_checked"
    assert 57 <= audit["severity"] <= 67  # token 30, threat 27, and what of the limit is used up


async def test_an_attack_tool_that_says_its_name_is_blocked_at_its_first_request(watched: HubProcess) -> None:
    headers = coming_from("198.51.100.20", **{"User-Agent": "sqlmap/1.8#stable (https://sqlmap.org)"})
    async with httpx.AsyncClient(base_url=watched.url, headers=headers) as http:
        assert (await http.get("/")).status_code == 403
    async with RawSocket.open(watched) as raw:
        assert (await raw.upgrade(headers={**headers}))[0] == 429


async def test_forged_tokens_are_noticed_at_every_door(watched: HubProcess) -> None:
    """Five of them slow somebody down, whichever door they came through."""
    address = "198.51.100.30"
    forged = {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."}
    async with peer(watched, watched.token("guard", "security")) as guard:
        await guard.ask("subscribe", channel="security:threats")
        async with httpx.AsyncClient(base_url=watched.url) as http:
            for _ in range(2):
                assert (await http.get("/v1/channels", headers=coming_from(address, **forged))).status_code == 401
        for _ in range(2):
            async with RawSocket.open(watched) as raw:
                assert (await raw.upgrade(headers={**coming_from(address, **forged)}))[0] == 401
        async with peer(watched, headers=coming_from(address)) as client:
            await client.ask("connect", token="no.good.token")
        threat = await guard.until(
            lambda each: each["type"] == "THREAT_DETECTED" and each["data"]["address"] == address
        )
    assert (threat["data"]["pattern"], threat["data"]["action"]) == ("forged_tokens", "SLOW")
    assert "eyJhbGciOiJub25l" not in json.dumps(guard.messages)


async def test_frames_that_no_library_sends_are_told_after_three_and_blocked_after_ten(watched: HubProcess) -> None:
    address, other = "198.51.100.40", "198.51.100.41"

    async def break_off(address: str, *sent: bytes, code: int) -> None:
        async with RawSocket.open(watched) as raw:
            assert (await raw.upgrade(headers={**coming_from(address)}))[0] == 101
            for each in sent:
                raw.writer.write(each)
            assert await raw.close_code() == code

    async with peer(watched, watched.token("guard", "security")) as guard:
        await guard.ask("subscribe", channel="security:threats")
        for _ in range(4):
            await break_off(other, frame(b"", declared=1 << 40), code=1009)  # too long a message is an honest mistake
        for _ in range(5):
            await break_off(address, frame(b"{}", rsv=4), code=1002)
            await break_off(address, frame(b"\xff"), code=1007)
        await guard.until(lambda each: each["type"] == "THREAT_DETECTED" and each["data"]["action"] == "BLOCK")
        found = [each["data"] for each in guard.messages if each.get("type") == "THREAT_DETECTED"]
    assert [(each["pattern"], each["subject"], each["action"]) for each in found] == [
        ("protocol_abuse", address, "SLOW"),
        ("protocol_abuse", address, "BLOCK"),
    ]
    async with RawSocket.open(watched) as raw:
        assert (await raw.upgrade(headers={**coming_from(address)}))[0] == 429
    async with RawSocket.open(watched) as raw:
        assert (await raw.upgrade(headers={**coming_from(other)}))[0] == 101


async def test_only_admins_and_the_security_role_may_watch(watched: HubProcess) -> None:
    for role, allowed in (
        ("security", True),
        ("admin", True),
        ("dashboard", False),
        ("trader", False),
        ("agent", False),
    ):
        async with peer(
            watched, watched.token(f"a-{role}", role), headers=coming_from(f"198.51.103.{len(role)}")
        ) as client:
            reply = await client.ask("subscribe", channel="security:threats")
            assert ("result" in reply) is allowed, role
            told = await client.ask(
                "publish", channel="security:threats", message={"type": "THREAT_DETECTED", "data": {}}
            )
            assert ("result" in told) is (role == "admin"), role


async def test_the_hubs_own_machine_is_watched_and_not_locked_out(watched: HubProcess) -> None:
    async with httpx.AsyncClient(base_url=watched.url, headers={"User-Agent": "nikto"}) as http:
        for _ in range(3):
            assert (await http.get("/health")).status_code == 200
        answer = await http.get("/v1/channels", headers={"authorization": f"Bearer {watched.token('root')}"})
    assert answer.status_code == 200
    assert answer.json()["security_audit"]["threat"] == {"score": 90, "patterns": ["attack_tool"], "action": "SLOW"}
