"""The tutorial "a price board in 30 lines of HTML", done as it says, in Chromium."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from .browser import Page
from .conftest import ROOT, Demo, ServeHub

TUTORIAL = (ROOT / "docs" / "tutorials" / "price-board.md").read_text()
LINES = 30


def board() -> str:
    (found,) = re.findall(r"```html\n(.*?)```", TUTORIAL, re.DOTALL)
    assert isinstance(found, str)
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder and the port at which it is served, as `python -m http.server` does."""
    served = tmp_path_factory.mktemp("served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(served)))
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield served, server.server_port
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


@pytest.fixture(scope="module")
def demo(folder: tuple[Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    _, port = folder
    (setting,) = re.findall(r"^krin demo (.*)$", TUTORIAL, re.MULTILINE)
    demo = Demo(tmp_path_factory.mktemp("demo"), *setting.replace("8080", str(port)).split())
    demo.start()
    try:
        yield demo
    finally:
        demo.stop()


def test_the_board_is_as_short_as_promised() -> None:
    assert len([line for line in board().splitlines() if line.strip()]) <= LINES


async def test_the_board_shows_prices_that_move_and_comes_back(
    folder: tuple[Path, int], demo: Demo, page: Page
) -> None:
    served, port = folder
    (served / "board.html").write_text(board().replace("127.0.0.1:8000", f"127.0.0.1:{demo.port}"))
    price = "document.querySelector('#board tr').cells[1].textContent"

    await page.open(f"http://127.0.0.1:{port}/board.html#{demo.token('board', 'dashboard')}")
    await page.until("document.getElementById('state').textContent.trim() === 'open'")
    await page.until("document.querySelectorAll('#board tr').length >= 5")
    first = await page.until(f"/^[0-9.]+$/.test({price}) && {price}")
    await page.until(f"{price} !== {json.dumps(first)}")
    assert re.fullmatch(
        r"\d of 3(, [A-Z]+)?", await page.until("document.querySelector('#board tr').cells[3].textContent")
    )
    assert [complaint for complaint in page.complaints if "favicon.ico" not in complaint] == []

    demo.stop()
    await page.until("document.getElementById('state').textContent.startsWith('reconnecting')")
    before = await page.evaluate(price)
    demo.start()
    await page.until("document.getElementById('state').textContent.trim() === 'open'")
    await page.until(f"{price} !== {json.dumps(before)}")


async def test_without_the_setting_the_page_says_that_it_is_not_let_in(
    folder: tuple[Path, int], hub: ServeHub, page: Page
) -> None:
    """The stumbling block that the tutorial takes away."""
    served, port = folder
    (served / "board.html").write_text(board().replace("127.0.0.1:8000", hub.url.removeprefix("http://")))
    await page.open(f"http://127.0.0.1:{port}/board.html#{hub.token('board', 'dashboard')}")
    await page.until("document.getElementById('state').textContent.startsWith('reconnecting')")
    assert any("403" in complaint for complaint in page.complaints), page.complaints
