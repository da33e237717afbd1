"""From the TCP connection to the WebSocket, and who is let in: everything unusual gets its documented answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from pathlib import Path
from typing import Any

import jwt
import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own
import pytest
from sockets import Metrics, Peer, RawSocket, peer, unique

from hub.auth.keyring import KeyRing
from hub.clock import SystemClock

HANDSHAKE_LIMIT_S = 8  # the hub's deadline is 5 s


def body_free_of(head: bytes, *secrets: str) -> None:
    assert not [each for each in secrets if each.encode() in head]


async def test_without_a_subprotocol_the_hub_speaks_json_and_names_none(hub: Any) -> None:
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(subprotocol=None)

        assert status == 101
        assert b"sec-websocket-protocol" not in head.lower()


async def test_the_first_known_subprotocol_is_taken(hub: Any) -> None:
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(subprotocol="mqtt, krin.v1.msgpack, krin.v1.json")

        assert status == 101
        assert b"krin.v1.msgpack" in head


@pytest.mark.parametrize("offered", ["mqtt", "krin.v2.json", "KRIN.V1.JSON", "krin.v1", ","])
async def test_an_unknown_subprotocol_is_refused(hub: Any, bystander: Peer, offered: str) -> None:
    async with RawSocket.open(hub) as raw:
        assert (await raw.upgrade(subprotocol=offered))[0] == 400


@pytest.mark.parametrize("query", ["token={t}", "a=1&token={t}", "access_token={t}", "tok%65n={t}", "TOKEN={t}"])
async def test_a_token_in_the_address_is_refused_and_never_logged(hub: Any, query: str) -> None:
    """C4."""
    token = hub.token("ann")
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(path="/ws?" + query.format(t=token))

        assert status == 400
        body_free_of(head, token)
    assert token not in (Path(hub.data_dir) / "stderr.log").read_text()


@pytest.mark.parametrize(
    "value",
    [
        "Bearer",
        "Bearer ",
        "Bearer x.y.z",
        "Basic YTpi",
        "token",
        "",
        "Bearer é",
        "Bearer \x7f",
        "Bearer a b c",
        "bearer  ",
    ],
)
async def test_c5_a_bad_authorization_header_is_401_before_the_upgrade(hub: Any, bystander: Peer, value: str) -> None:
    async with RawSocket.open(hub) as raw:
        status, head = await raw.upgrade(headers={"Authorization": value})

        assert status in (400, 401)
        assert status == 400 or b"www-authenticate" in head.lower()


async def test_two_authorization_headers_do_not_let_anybody_choose(hub: Any) -> None:
    async with RawSocket.open(hub) as raw:
        status, _ = await raw.upgrade(
            headers={"Authorization": f"Bearer {hub.token('ann')}", "authorization": "Bearer x.y.z"}
        )

        assert status in (400, 401)


async def test_a_good_authorization_header_needs_no_token_in_connect(hub: Any) -> None:
    async with peer(hub, headers={"Authorization": f"Bearer {hub.token('ann', 'dashboard')}"}) as client:
        reply = await client.ask("connect")

        assert reply["result"]["user"] == "ann"


async def test_a_token_in_connect_beats_the_header(hub: Any) -> None:
    async with peer(hub, headers={"Authorization": f"Bearer {hub.token('ann')}"}) as client:
        reply = await client.ask("connect", token=hub.token("bob", "dashboard"))

        assert reply["result"]["user"] == "bob"


def forged(hub: Any, **changes: Any) -> str:
    key = KeyRing(hub.data_dir, algorithm="EdDSA", clock=SystemClock()).current.signing(int(time.time()))
    assert key is not None
    now = int(time.time())
    claims = {"iss": "krin", "aud": "krin", "sub": "eve", "iat": now, "exp": now + 600, "jti": "j", "roles": ["admin"]}
    return jwt.encode(claims | changes, key.signing, algorithm="EdDSA", headers={"typ": "at+jwt", "kid": key.kid})


def tokens(hub: Any) -> dict[str, tuple[str, int, int]]:
    """name -> (token, error code, close code)."""
    good = hub.token("ann")
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    return {
        "forged": (good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB"), 1010, 4002),
        "alg none": (f"{head}.{good.split('.')[1]}.", 1010, 4002),
        "other audience": (forged(hub, aud="other"), 1010, 4002),
        "other issuer": (forged(hub, iss="evil"), 1010, 4002),
        "other type": (jwt.encode({"sub": "x"}, "k" * 32, algorithm="HS256"), 1010, 4002),
        "not yet valid": (forged(hub, nbf=int(time.time()) + 3600), 1010, 4002),
        "expired": (forged(hub, exp=int(time.time()) - 60), 1009, 4202),
        "garbage": ("garbage", 1010, 4002),
        "not ASCII": ("é.ü.ö", 1010, 4002),
    }


NAMES = ("forged", "alg none", "other audience", "other issuer", "other type", "not yet valid", "expired", "garbage")


@pytest.mark.parametrize("name", [*NAMES, "not ASCII"])
async def test_a_token_that_is_not_good_is_answered_and_the_connection_ends(
    hub: Any, bystander: Peer, name: str
) -> None:
    token, error, close = tokens(hub)[name]
    async with peer(hub) as client:
        reply = await client.ask("connect", token=token)

        assert reply["error"]["code"] == error
        assert token not in json.dumps(reply)
        assert await client.until_closed() == close
        goodbye = client.messages[-1]
        assert (goodbye["type"], goodbye["code"]) == ("disconnect", close)
        assert goodbye["reconnect"] is (close == 4202)
    assert token not in (Path(hub.data_dir) / "stderr.log").read_text()


async def test_connect_without_any_token_is_unauthorized_and_ends(hub: Any) -> None:
    async with peer(hub) as client:
        reply = await client.ask("connect")

        assert reply["error"]["code"] == 1001
        assert await client.until_closed() == 4001


async def test_a_token_that_lives_for_ages_still_makes_a_valid_reply(hub: Any) -> None:
    async with peer(hub) as client:
        reply = await client.ask("connect", token=hub.token("ann", ttl_s=10**13))

        assert "result" in reply or reply["error"]["code"] == 1010


async def test_c6_who_connects_and_says_nothing_is_sent_away_after_ten_seconds(hub: Any, bystander: Peer) -> None:
    async with RawSocket.upgraded(hub) as raw:
        started = time.monotonic()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(9):
                await raw.reader.readexactly(2)
            pytest.fail("sent away too early")
        frames = await raw.rest()

        assert 9 < time.monotonic() - started < 15
        assert json.loads(frames[0][1])["code"] == 4006
        assert frames[-1][1][:2] == (4006).to_bytes(2, "big")


async def test_c6_a_thousand_sockets_that_never_connect_are_sent_away_and_leave_nothing(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    process = psutil.Process(hub.process.pid)
    files = process.num_fds()
    async with contextlib.AsyncExitStack() as stack:
        raws = [await stack.enter_async_context(RawSocket.upgraded(hub)) for _ in range(1_000)]
        assert process.num_fds() >= files + 1_000
        codes = set(await asyncio.gather(*(sent_away(raw) for raw in raws)))
        async with asyncio.timeout(10):
            while process.num_fds() > files + 5:
                await asyncio.sleep(0.05)

    assert codes == {4006}
    assert memory.grown_mib < 16


async def sent_away(raw: RawSocket) -> int | None:
    """The code with which a silent socket ends, however long that takes within half a minute."""
    async with asyncio.timeout(30):
        first = await raw.reader.readuntil(b"}")
    assert b'"disconnect"' in first
    return await raw.close_code()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Large": "x" * 9_000},
        {"X-Larger": "x" * 70_000},
        {f"X-{number}": "x" for number in range(200)},
    ],
    ids=["9,000 bytes", "70,000 bytes", "200 headers"],
)
@pytest.mark.parametrize("upgrade", [True, False], ids=["websocket", "http"])
async def test_c8_a_header_flood_is_431_and_the_connection_ends(
    hub: Any, bystander: Peer, headers: dict[str, str], upgrade: bool
) -> None:
    async with RawSocket.open(hub) as raw:
        if upgrade:
            status, _ = await raw.upgrade(headers=dict(headers))
        else:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            raw.writer.write("\r\n".join(["GET /health HTTP/1.1", "Host: localhost", *lines, "", ""]).encode())
            status, _ = await raw.response()

        assert status == 431
        await raw.ended()


async def test_headers_without_end_are_cut_off_before_they_fill_the_memory(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    async with RawSocket.open(hub) as raw:
        raw.writer.write(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")
        block = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 1_000) for number in range(1_000))
        with contextlib.suppress(ConnectionError):
            for _ in range(100):  # 100 MB, unless the hub has had enough
                raw.writer.write(block)
                await raw.writer.drain()
        grown = memory.grown_mib
        with contextlib.suppress(ConnectionError):
            await raw.ended()

    assert grown < 16


async def test_one_header_line_without_end_is_cut_off_before_it_fills_the_memory(
    hub: Any, bystander: Peer, memory: Any
) -> None:
    async with RawSocket.open(hub) as raw:
        raw.writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.writer.write(b"x" * 1_000_000)
                await raw.writer.drain()
        grown = memory.grown_mib
        with contextlib.suppress(ConnectionError):
            await raw.ended()

    assert grown < 16


DRIPS = {
    "nothing": b"",
    "one byte": b"G",
    "request line": b"GET /ws HTTP/1.1\r\n",
    "headers": b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-A: ",
    "body": b"POST /v1/auth/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
}


async def test_c7_a_slow_drip_is_cut_off_wherever_it_drips(hub: Any, bystander: Peer) -> None:
    """All at once, because each takes as long as the deadline."""

    async def drip(start: bytes) -> bool:
        async with RawSocket.open(hub) as raw:
            raw.writer.write(start)
            ended = asyncio.create_task(raw.ended())
            deadline = time.monotonic() + HANDSHAKE_LIMIT_S
            while not ended.done() and time.monotonic() < deadline:
                with contextlib.suppress(ConnectionError):
                    raw.writer.write(b"a" if start else b"")
                await asyncio.wait([ended], timeout=0.25)
            return ended.done()

    cut_off = await asyncio.gather(*(drip(start) for start in DRIPS.values()))

    assert dict(zip(DRIPS, cut_off, strict=True)) == dict.fromkeys(DRIPS, True)


async def test_a_client_that_vanishes_in_the_middle_of_a_body_is_no_incident(hub: Any, bystander: Peer) -> None:
    for path in ("/v1/auth/login", "/oauth/token"):
        async with RawSocket.open(hub) as raw:
            raw.writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{{".encode())
            await raw.writer.drain()
    async with peer(hub, hub.token("ann")) as client:  # the log is read when this test ends
        await client.publish(unique("custom"))


@pytest.mark.parametrize(
    ("request_text", "allowed"),
    [
        (b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {400}),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nHost: b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {400}),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {400, 426}),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2hvcnQ=\r\n\r\n", {400}),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n", {400}),
        (b"POST /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {400, 405}),
        (b"GET /ws2 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {404}),
        (b"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404, 426}),
        (b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", {400}),
        (b"POST /v1/publish HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n", {400}),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", {400, 405}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {0, 400}),
        (b"SSH-2.0-OpenSSH_9.0\r\n", {0, 400}),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
        (b"GET /static/../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
        (b"GET /static/..%2f..%2f..%2fetc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", {400, 404}),
    ],
    ids=range(20),
)  # fmt: skip
async def test_c9_c10_an_odd_request_is_refused_in_http(
    hub: Any, bystander: Peer, request_text: bytes, allowed: set[int]
) -> None:
    """C9 (strict HTTP), C10 (version, key and method of the upgrade), C11 (unknown paths)."""
    async with RawSocket.open(hub) as raw:
        raw.writer.write(request_text)
        status, head = await raw.response()

        assert status in allowed
        body_free_of(head, "uvicorn", "Python", "Traceback")


async def test_a_forwarded_address_from_a_stranger_is_not_believed(hub: Any) -> None:
    async with peer(hub, headers={"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}) as client:
        await client.ask("connect", token=hub.token("ann"))
    assert "6.6.6.6" not in (Path(hub.data_dir) / "stderr.log").read_text()


async def test_a_second_connection_with_the_same_session_replaces_the_first(hub: Any) -> None:
    session = unique("s")
    async with peer(hub, hub.token("ann"), session=session) as first, peer(hub, hub.token("ann"), session=session):
        assert await first.until_closed() == 4205
        assert first.messages[-1]["code"] == 4205


async def test_c7_five_hundred_strangers_that_never_connect_do_not_keep_others_out(hub: Any, bystander: Peer) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(500):
            raw = await stack.enter_async_context(RawSocket.open(hub))
            raw.writer.write(b"GET /ws HTTP/1.1\r\nHost:")
        async with asyncio.timeout(5), peer(hub, hub.token("ann")) as client:
            await client.publish(unique("custom"))


async def test_connections_are_counted_down_again(hub: Any) -> None:
    metrics = Metrics(hub)
    before = await metrics.value("krin_connections")
    async with peer(hub, hub.token("ann")):
        assert await metrics.value("krin_connections") == before + 1
    async with asyncio.timeout(5):
        while await metrics.value("krin_connections") != before:
            await asyncio.sleep(0.02)
