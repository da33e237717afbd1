"""How a WebSocket handshake is refused: an ordinary HTTP answer of one line, before anything was upgraded."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Send


async def refuse_websocket(send: Send, status: int, text: str, *, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "websocket.http.response.start", "status": status, "headers": [kind, *headers]})
    await send({"type": "websocket.http.response.body", "body": f"{text}\n".encode()})
