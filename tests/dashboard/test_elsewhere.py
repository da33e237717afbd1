"""A page of another origin in a real browser: what a listed one may do, and what one that is not listed cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .browser import Page
from .conftest import Demo

PAGE = b"<!doctype html><title>elsewhere</title><p>A page of somebody else."

ASK = """(async () => {
  const headers = { authorization: "Bearer %(token)s", "content-type": "application/json", "x-request-id": "from-a-page" };
  const body = JSON.stringify({ channel: "%(channel)s", message: { type: "NOTE", data: { n: 1 } } });
  const placed = await fetch("%(hub)s/v1/publish", { method: "POST", headers, body });
  const refused = await fetch("%(hub)s/v1/channels");
  const stream = await fetch("%(hub)s/sse?channels=%(channel)s&rewind=1", { headers });
  const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
  let heard = "";
  while (!heard.includes('"offset":1,')) heard += (await reader.read()).value;
  await reader.cancel();
  const socket = new WebSocket("%(hub)s/ws".replace("http", "ws"));
  const opened = await new Promise((done) => { socket.onopen = () => done(true); socket.onerror = () => done(false); });
  return {
    status: placed.status,
    id: placed.headers.get("x-request-id"),
    offset: (await placed.json()).data.offset,
    challenge: refused.headers.get("www-authenticate"),
    opened,
  };
})()"""
TRY = """(async () => {
  const tried = await Promise.allSettled([
    fetch("%(hub)s/v1/channels", { headers: { authorization: "Bearer %(token)s" } }),
    fetch("%(hub)s/health"),
    new Promise((done, failed) => {
      const socket = new WebSocket("%(hub)s/ws".replace("http", "ws"));
      socket.onopen = done;
      socket.onerror = () => failed(new Error("refused"));
    }),
  ]);
  return tried.map((each) => each.status);
})()"""


@asynccontextmanager
async def server_of_pages() -> AsyncIterator[int]:
    """Answers every request with a page; yields the port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n")
        writer.write(b"content-length: %d\r\n\r\n" % len(PAGE) + PAGE)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_page_of_a_listed_origin_uses_every_door_and_one_that_is_not_listed_none(
    page: Page, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    async with server_of_pages() as port:
        demo = Demo(tmp_path / "data", "--allow-origin", f"http://127.0.0.1:{port}")
        demo.start()
        try:
            names = {"hub": demo.url, "token": demo.token("ann"), "channel": "custom:elsewhere"}
            await page.open(f"http://127.0.0.1:{port}/")
            await page.until("document.title === 'elsewhere'")
            assert await page.evaluate(ASK % names) == {
                "status": 200,
                "id": "from-a-page",
                "offset": 1,
                "challenge": "Bearer",
                "opened": True,
            }
            await page.open(f"http://localhost:{port}/")  # the same pages, and another origin
            await page.until("location.hostname === 'localhost' && document.title === 'elsewhere'")
            assert await page.evaluate(TRY % names) == ["rejected"] * 3
        finally:
            demo.stop()
