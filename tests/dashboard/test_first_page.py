"""What a new user tries first with a browser: the page of the README, served by another program than the hub."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.async_api import expect

from .conftest import ROOT, Demo
from .person import opened_browser


def address(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    """`python -m http.server` for a folder `pages`."""
    (tmp_path / "pages").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "pages"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def demo(served: ThreadingHTTPServer, tmp_path: Path) -> Iterator[Demo]:
    (tmp_path / "data").mkdir()
    running = Demo(tmp_path / "data", "--allow-origin", address(served))
    running.start()
    yield running
    running.stop()


async def test_the_page_of_the_readme_shows_a_price_that_moves(
    chromium: str, demo: Demo, served: ThreadingHTTPServer, tmp_path: Path
) -> None:
    (html,) = re.findall(r"```html\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "pages" / "price.html").write_text(html.replace("127.0.0.1:8000", demo.url.removeprefix("http://")))
    token = demo.token(role="dashboard")
    async with opened_browser(chromium) as browser:
        page = await browser.new_page()
        page.once("dialog", lambda prompt: prompt.accept(token))
        await page.goto(f"{address(served)}/price.html")
        price = page.get_by_role("heading")
        await expect(price).to_have_text(re.compile(r"^\d+\.\d+ / \d+\.\d+$"))
        earlier = await price.inner_text()
        await expect(price).not_to_have_text(earlier)
