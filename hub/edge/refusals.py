"""How a WebSocket handshake is refused: an ordinary HTTP answer of one line, before anything was upgraded."""

from __future__ import annotations

from starlette.types import Send


async def refuse_websocket(send: Send, status: int, text: str, *, retry_after_s: int | None = None) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer error="invalid_token"'))
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": f"{text}\n".encode()})
