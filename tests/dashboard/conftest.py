"""The dashboard's surroundings: Chromium, a running demo, and a feed of a test's own."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import IO, Any, Protocol
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect

from hub.auth import totp

from .browser import Page, browser_page, chromium_binary
from .tools import absent

ROOT = Path(__file__).parents[2]
LIVE = "document.getElementById('state').textContent === 'Live'"
STOP_S = 20


async def enrol(url: str, name: str, password: str) -> list[str]:
    """Give an account a second factor, in a session of its own; returns the recovery codes."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        pair = (await http.post("/v1/auth/login", json={"name": name, "password": password})).json()
        http.headers["authorization"] = f"Bearer {pair['data']['access_token']}"
        begun = (await http.post("/v1/auth/mfa/enrol", json={"password": password})).json()
        [text] = parse_qs(urlsplit(begun["data"]["uri"]).query)["secret"]
        otp = totp.code(base64.b32decode(text), totp.step_at(time.time()))
        confirmed = (await http.post("/v1/auth/mfa/confirm", json={"otp": otp})).json()
        codes: list[str] = confirmed["data"]["recovery_codes"]
        return codes


async def sign_in(page: Page, name: str, password: str) -> None:
    """Somebody else instead of whom the demo lets in."""
    await page.until(LIVE)
    await sign_out(page)
    fill = (
        "(({{elements}}) => {{ elements.name.value = {name}; elements.password.value = {password};"
        " document.querySelector('#sign-in button').click(); }})(document.getElementById('sign-in'))"
    )
    await page.evaluate(fill.format(name=json.dumps(name), password=json.dumps(password)))


async def sign_out(page: Page) -> None:
    """And wait for the page that comes after: it loads itself anew."""
    await page.evaluate("window.earlier = true; document.getElementById('sign-out').click()")
    await page.until("!window.earlier && !document.getElementById('sign-in').hidden")


async def show(page: Page, view: str) -> None:
    """Switch to one of the five views."""
    await page.evaluate(f"location.hash = {json.dumps(view)}")
    await page.until(f"!document.getElementById('view-{view}').hidden")


class ServeHub(Protocol):
    """The session's hub, as tests/conftest.py offers it."""

    url: str
    ws_url: str
    data_dir: Path

    def token(self, name: str, *roles: str) -> str: ...


class Demo:
    """`python -m hub demo` with a data folder of its own."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self._options = options
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, name: str = "ada", role: str = "admin") -> str:
        command = ["token", name, "--role", role, "--data-dir", str(self.data_dir)]
        printed = subprocess.run([sys.executable, "-m", "hub", *command], cwd=ROOT, capture_output=True, check=True)
        return printed.stdout.decode().strip()

    def add_user(self, name: str, password: str, *roles: str) -> None:
        """Without roles: dashboard."""
        given = [option for role in roles or ("dashboard",) for option in ("--role", role)]
        command = ["user", "add", name, *given, "--data-dir", str(self.data_dir)]
        subprocess.run(
            [sys.executable, "-m", "hub", *command],
            cwd=ROOT,
            input=f"{password}\n{password}\n",
            text=True,
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        log = (self.data_dir / "stderr.log").open("a")
        options = ["--port", str(self.port), "--data-dir", str(self.data_dir), "--drain-timeout", "0"]
        command = [sys.executable, "-m", "hub", "demo", *options, *self._options]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        log.close()
        ready = _first_line(self._process.stdout)
        found = re.match(r"ready http://.*:(\d+)$", ready)
        assert found, f"{ready}\n{(self.data_dir / 'stderr.log').read_text()}"
        self.port = int(found[1])

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


def _first_line(stream: IO[str] | None) -> str:
    assert stream is not None
    return next((line.strip() for line in stream if line.strip()), "")


@pytest.fixture(scope="module")
def chromium() -> str:
    binary = chromium_binary()
    if binary is None:
        absent("Chromium is not installed")
    return binary


@pytest.fixture(scope="module")
def demo(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest_asyncio.fixture
async def page(chromium: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with browser_page(chromium, tmp_path) as opened:
        yield opened


class Feed:
    """Publishes what a test wants to see."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._id = 1

    async def connect(self, token: str) -> None:
        await self._command(type="connect", token=token, kind="trader")

    async def publish(self, channel: str, type: str, data: Any) -> None:
        await self._command(type="publish", channel=channel, message={"type": type, "data": data})

    async def call(self, method: str, **params: Any) -> None:
        await self._command(type="call", method=method, params=params)

    async def publish_all(self, messages: list[tuple[str, str, Any]]) -> None:
        """Many at once, in frames of a hundred; their replies are read, and each must be a result."""
        for start in range(0, len(messages), 100):
            commands = []
            for channel, kind, data in messages[start : start + 100]:
                self._id += 1
                message = {"type": kind, "data": data}
                commands.append({"type": "publish", "id": self._id, "channel": channel, "message": message})
            await self._socket.send(json.dumps(commands))
            left = len(commands)
            while left:
                replies = await self._replies()
                assert all("result" in reply for reply in replies), replies
                left -= len(replies)

    async def _command(self, **fields: Any) -> None:
        self._id += 1
        await self._socket.send(json.dumps({"id": self._id, **fields}))
        (reply,) = await self._replies()
        assert "result" in reply, reply

    async def _replies(self) -> list[dict[str, Any]]:
        frame = json.loads(await self._socket.recv())
        return [each for each in (frame if isinstance(frame, list) else [frame]) if each["type"] == "reply"]


@pytest.fixture
def feed(hub: ServeHub) -> AbstractAsyncContextManager[Feed]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Feed]:
        async with connect(hub.ws_url, subprotocols=["krin.v1.json"], proxy=None) as socket:  # type: ignore[list-item]
            feed = Feed(socket)
            await feed.connect(hub.token("feeder"))
            yield feed

    return opened()
