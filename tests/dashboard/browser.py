"""Chromium without a window, driven through the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

PATIENCE_S = 30.0
PLAIN: dict[str, Any] = {"max_size": None, "ping_interval": None, "proxy": None}
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
    "about:blank",
)


def chromium_binary() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


class PageLeft(RuntimeError):
    """The page went elsewhere while it was asked something."""


class Page:
    """One tab. Keeps what the page complained about: exceptions, errors on the console, blocked resources."""

    def __init__(self, socket: ClientConnection, *, process_id: int) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._awaited: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.process_id = process_id  # of the browser
        self.complaints: list[str] = []
        self.requested: list[str] = []

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(PATIENCE_S):
            result: dict[str, Any] = await answer
        return result

    def event(self, method: str) -> asyncio.Future[dict[str, Any]]:
        """The parameters of the next event of this kind."""
        awaited = self._awaited[method] = asyncio.get_running_loop().create_future()
        return awaited

    async def listen(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame)
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if "error" in message:
                    text = message["error"]["message"]
                    answer.set_exception(PageLeft(text) if "navigated" in text else RuntimeError(text))
                else:
                    answer.set_result(message["result"])
                continue
            params = message["params"]
            if awaited := self._awaited.pop(message["method"], None):
                awaited.set_result(params)
            match message["method"]:
                case "Runtime.exceptionThrown":
                    details = params["exceptionDetails"]
                    self.complaints.append(details.get("exception", {}).get("description", details["text"]))
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "assert"):
                    self.complaints.append(json.dumps(params["args"]))
                case "Log.entryAdded" if "status of 504" in params["entry"]["text"]:
                    pass  # the hub was late, as on a busy machine: the page says so and asks again
                case "Log.entryAdded" if params["entry"]["level"] == "error":
                    self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
                case "Network.requestWillBeSent":
                    self.requested.append(params["request"]["url"])

    async def open(self, url: str, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.command(f"{domain}.enable")
        await self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])
        await self.command("Page.navigate", url=url)

    async def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.command("Emulation.setDeviceMetricsOverride", **metrics)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, promises awaited."""
        answer = await self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    async def until(self, expression: str, *, within_s: float = PATIENCE_S) -> Any:
        """Poll an expression until it is true; returns its value. What it needs may not be there yet."""
        guarded = (
            f"(() => {{ try {{ const it = {expression}; return it instanceof Node || it; }}"
            " catch { return null; } })()"
        )
        value = None
        try:
            async with asyncio.timeout(within_s):
                while not value:
                    with suppress(PageLeft):
                        value = await self.evaluate(guarded)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise AssertionError(f"never true: {expression}\n{self.complaints}\n{text[:2000]}") from None
        return value

    async def screenshot(self, path: Path) -> None:
        image = await self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(image["data"]))


@asynccontextmanager
async def browser_page(binary: str, profile: Path) -> AsyncIterator[Page]:
    """A browser of its own with an empty profile, and its one page."""
    log = (profile / "chromium.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        binary, *FLAGS[:-1], f"--user-data-dir={profile}", FLAGS[-1], stdout=log, stderr=log
    )
    log.close()
    try:
        port_file = profile / "DevToolsActivePort"
        async with asyncio.timeout(PATIENCE_S):
            while not (port_file.exists() and "\n" in port_file.read_text()):
                await asyncio.sleep(0.05)
        port, path = port_file.read_text().split("\n")[:2]
        async with connect(f"ws://127.0.0.1:{port}{path}", **PLAIN) as control:
            await control.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
            targets = json.loads(await control.recv())["result"]["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        async with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", **PLAIN) as socket:
            page = Page(socket, process_id=process.pid)
            listening = asyncio.create_task(page.listen(), name="devtools")
            try:
                yield page
            finally:
                listening.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
