"""Limits as a stranger meets them: 429 at the handshake and in REST, 4004 for one connection too many (C23, C67, C70)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from processes import HubProcess, running
from sockets import RawSocket, peer, unique

from protocol.errors import ErrorCode

CONFIG = """
[limits]
exempt_networks = []
connects_per_s = 20
address_connections = 12
user_connections = 3
requests_per_s = 20
logins_per_min = 6
reads_per_s = 1
[security]
trusted_proxies = ["127.0.0.0/8"]
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub that limits its own machine too. Each test comes from an address of its own, as a proxy would tell it."""
    data = tmp_path_factory.mktemp("limited-hub")
    config = data.with_suffix(".toml")
    config.write_text(CONFIG)
    with running(data, "--config", str(config), "--drain-timeout", "0") as hub:
        yield hub


def coming_from(address: str) -> dict[str, str]:
    return {"X-Forwarded-For": address}


async def test_c23_the_twenty_first_handshake_in_a_second_is_429_with_a_time_to_come_back(limited: HubProcess) -> None:
    statuses, heads = [], []
    for _ in range(60):  # more than could be refilled meanwhile
        async with RawSocket.open(limited) as raw:
            status, head = await raw.upgrade(headers={**coming_from("198.51.100.1"), "Sec-WebSocket-Protocol": "none"})
        statuses.append(status)
        heads.append(head.lower())
    assert statuses[:20] == [400] * 20
    assert 429 in statuses
    refused = [head for head, status in zip(heads, statuses, strict=True) if status == 429]
    assert all(b"retry-after: " in head for head in refused)
    async with RawSocket.open(limited) as raw:
        assert (await raw.upgrade(headers={**coming_from("198.51.100.2")}))[0] == 101


async def test_c23_one_socket_too_many_from_an_address_is_429_until_one_has_gone(limited: HubProcess) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(12):
            raw = await stack.enter_async_context(RawSocket.open(limited))
            assert (await raw.upgrade(headers={**coming_from("198.51.100.3")}))[0] == 101
        async with RawSocket.open(limited) as raw:
            assert (await raw.upgrade(headers={**coming_from("198.51.100.3")}))[0] == 429


async def test_c23_one_connection_too_many_of_a_user_is_closed_with_4004_and_a_takeover_is_not(
    limited: HubProcess,
) -> None:
    token = limited.token("ann", "trader")
    async with contextlib.AsyncExitStack() as stack:
        for number in range(3):
            headers = coming_from(f"198.51.101.{number}")
            await stack.enter_async_context(peer(limited, token, headers=headers, session=f"s{number}"))
        async with peer(limited, headers=coming_from("198.51.101.9")) as fourth:
            reply = await fourth.ask("connect", token=token)
            assert reply["error"]["name"] == "limit_exceeded"
            assert await fourth.until_closed() == 4004
        async with peer(limited, token, headers=coming_from("198.51.101.10"), session="s1") as again:
            assert again.closed is None
    async with peer(limited, token, headers=coming_from("198.51.101.11")) as later:
        assert later.closed is None


async def test_c68_pages_of_history_have_a_budget_at_both_doors(limited: HubProcess) -> None:
    channel = unique("custom")
    token = limited.token("reader", "trader")
    async with peer(limited, token, headers=coming_from("198.51.102.1")) as client:
        told = client.messages[0]["result"]["limits"]
        assert told["max_reads_per_s"] == 1
        assert (await client.ask("history", channel=channel, limit=900)).get("result") is not None
        error = (await client.ask("history", channel=channel, limit=900))["error"]
        assert (error["name"], error["temporary"]) == ("rate_limited", True)
        assert error["retry_after_ms"] > 0
    async with httpx.AsyncClient(base_url=limited.url, headers={"authorization": f"Bearer {token}"}) as http:
        answer = await http.get(f"/v1/history/{channel}", params={"limit": 1000}, headers=coming_from("198.51.102.2"))
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.json()["meta"]["error"]["code"] == ErrorCode.RATE_LIMITED


async def test_c68_exports_have_a_budget_of_their_own(limited: HubProcess) -> None:
    async with httpx.AsyncClient(base_url=limited.url) as http:
        for number, name in enumerate(("reader-1", "reader-2")):
            headers = {"authorization": f"Bearer {limited.token(name, 'trader')}"}
            headers |= coming_from(f"198.51.102.{number + 10}")
            answers = [await http.get("/v1/privacy/export", headers=headers) for _ in range(10)]
            assert [each.status_code for each in answers] == [200] * 5 + [429] * 5
            assert all(int(each.headers["retry-after"]) >= 1 for each in answers[5:])


@pytest.mark.parametrize("path", ["/oauth/token", "/v1/auth/login"])
async def test_c67_sign_ins_of_one_address_are_few_and_of_others_are_not(limited: HubProcess, path: str) -> None:
    here = "203.0.113.5" if path.startswith("/v1") else "203.0.113.6"

    async def attempt(http: httpx.AsyncClient, address: str) -> httpx.Response:
        if path.startswith("/v1"):
            return await http.post(path, json={"name": "nobody", "password": "x" * 20}, headers=coming_from(address))
        return await http.post(path, data={"grant_type": "client_credentials"}, headers=coming_from(address))

    async with httpx.AsyncClient(base_url=limited.url, timeout=20) as http:
        answers: list[Any] = [await attempt(http, here) for _ in range(3)]
        elsewhere = await attempt(http, "203.0.113.7" if path.startswith("/v1") else "203.0.113.8")
    assert [each.status_code for each in answers][1:] == [429, 429]
    assert answers[0].status_code == 401
    assert elsewhere.status_code == 401
    assert int(answers[-1].headers["retry-after"]) >= 1


async def test_c67_a_flood_of_requests_is_429_with_or_without_a_token(limited: HubProcess) -> None:
    async with httpx.AsyncClient(base_url=limited.url) as http:
        for path, address in (("/health", "203.0.113.20"), ("/v1/channels", "203.0.113.21")):
            answers = [await http.get(path, headers=coming_from(address)) for _ in range(120)]
            assert 429 in {each.status_code for each in answers}
            assert all("retry-after" in each.headers for each in answers if each.status_code == 429)
            assert (await http.get("/health", headers=coming_from("203.0.113.22"))).status_code == 200
