"""The way in, as a client finds it: through whatever stands in front of the hub, over the address that clients use."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Origin, Subprotocol

from hub.clock import Clock
from hub.doctor import findings
from hub.doctor.findings import Finding
from protocol import SUBPROTOCOL_JSON

ANSWER_S = 10.0
SLACK_S = 5.0  # after which a ping that is due has not come
STRANGER = "https://krin-doctor.invalid"  # RFC 6761: nobody's page


async def door(url: str, *, token: str, clock: Clock, tls: ssl.SSLContext | None = None) -> AsyncIterator[Finding]:
    """`url`: http(s)://host[:port], as clients use it; `tls`: whom to trust. Takes as long as a ping interval."""
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S, verify=tls or True) as http:
        try:
            ready = await http.get("/ready")
            metrics = await http.get("/metrics")
        except httpx.HTTPError as failure:
            yield findings.error(
                "address", f"{url}: {type(failure).__name__}", "start the hub or what is in front of it"
            )
            return
    if ready.status_code == 200:
        yield findings.fine("address", f"{url} is ready")
    else:
        yield findings.error("address", f"/ready answers {ready.status_code}", "see /health: the hub drains or is away")
    yield findings.metrics_page(metrics.status_code)
    where = url.replace("http", "ws", 1).rstrip("/") + "/ws"
    secure = tls or ssl.create_default_context() if urlsplit(url).scheme == "https" else None
    yield await _stranger(where, secure)
    async for finding in _socket(where, secure, token, clock):
        yield finding


async def _stranger(where: str, tls: ssl.SSLContext | None) -> Finding:
    """A page of nobody must not get in: browsers send a handshake from any page."""
    try:
        async with _dial(where, tls, origin=Origin(STRANGER)):
            return findings.error(
                "foreign origin", "accepted", "[security] allowed_origins, and pass Origin on unchanged"
            )
    except InvalidStatus as failure:
        return findings.fine("foreign origin", f"refused with {failure.response.status_code}")
    except (OSError, WebSocketException, TimeoutError) as failure:
        return findings.error("foreign origin", f"{type(failure).__name__}", "see the other findings")


async def _socket(where: str, tls: ssl.SSLContext | None, token: str, clock: Clock) -> AsyncIterator[Finding]:
    try:
        socket = await _dial(where, tls)
    except InvalidStatus as failure:
        yield findings.error(
            "upgrade",
            f"the handshake is answered with {failure.response.status_code}",
            "pass Upgrade and Connection on, over HTTP/1.1 (proxy_http_version 1.1)",
        )
        return
    except (OSError, WebSocketException, TimeoutError) as failure:
        yield findings.error("upgrade", type(failure).__name__, "pass WebSockets on to the hub")
        return
    async with socket:
        yield findings.fine("upgrade", "WebSockets come through")
        before = clock.now_ms()
        await socket.send(msgspec.json.encode({"type": "connect", "id": 1, "token": token}).decode())
        try:
            async with asyncio.timeout(ANSWER_S):
                answer = (await _hear(socket))[0]
        except (ConnectionClosed, TimeoutError) as failure:
            yield findings.error("token", type(failure).__name__, "see the hub's log")
            return
        if "result" not in answer:
            yield findings.error("token", answer["error"]["name"], "give this command the keys that the hub has")
            return
        now_ms = (before + clock.now_ms()) / 2
        result = answer["result"]
        yield findings.fine("token", f"accepted by {result['node']}, {result['version']}")
        yield findings.clock("of the hub", result["server_time"] - now_ms)
        yield await _silence(socket, result["ping_interval_ms"] / 1000, clock)


async def _silence(socket: ClientConnection, ping_interval_s: float, clock: Clock) -> Finding:
    """Say nothing until the hub does."""
    began = clock.monotonic()
    ended: str | None = None
    try:
        async with asyncio.timeout(ping_interval_s + SLACK_S):
            while all(message["type"] != "ping" for message in await _hear(socket)):
                pass
    except ConnectionClosed as failure:
        ended = "cut off" if failure.rcvd is None else f"close code {failure.rcvd.code}"
    except TimeoutError:
        ended = "no ping came"
    return findings.idle(clock.monotonic() - began, ping_interval_s=ping_interval_s, ended=ended)


async def _hear(socket: ClientConnection) -> list[Any]:
    """The messages of the next frame."""
    heard = msgspec.json.decode(await socket.recv())
    return heard if isinstance(heard, list) else [heard]


def _dial(where: str, tls: ssl.SSLContext | None, *, origin: Origin | None = None) -> connect:
    return connect(
        where,
        ssl=tls,
        origin=origin,
        subprotocols=[Subprotocol(SUBPROTOCOL_JSON)],
        ping_interval=None,
        open_timeout=ANSWER_S,
        close_timeout=1.0,
    )
