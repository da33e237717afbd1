"""Somebody with a browser, driven by Playwright, and an authenticator app."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from playwright.async_api import Browser, ConsoleMessage, Page, WebSocket, async_playwright, expect

from hub.auth import totp

PASSWORD = "correct horse battery"
KEPT = ("orders", "fills", "team", "tasks", "alerts", "trades")  # the namespaces where an offset may not be missing
PATIENCE_S = 30.0


@asynccontextmanager
async def opened_browser(binary: str) -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_S * 1000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Authenticator:
    """The app on the person's phone. A code is good once, so it waits with the next one until that is due."""

    SPARE_S = 10  # of a step: below that, the code of the step before may come too late

    def __init__(self, secret: str) -> None:
        self._secret = base64.b32decode(secret.replace(" ", ""))
        self._step = 0

    async def code(self) -> str:
        async with asyncio.timeout(2 * totp.STEP_S):
            while (step := self._due(time.time())) is None:
                await asyncio.sleep(0.05)
        self._step = step
        return totp.code(self._secret, step)

    def _due(self, now_s: float) -> int | None:
        current = totp.step_at(now_s)
        oldest = current - totp.PAST_STEPS if totp.step_at(now_s + self.SPARE_S) == current else current
        step = max(oldest, self._step + 1)
        return step if step <= current else None


class Heard:
    """Every kept message that the page's sockets brought: its type, by channel and offset."""

    def __init__(self, page: Page) -> None:
        self.types: dict[str, dict[int, str]] = defaultdict(dict)
        page.on("websocket", self._listen)

    async def until(self, channel: str, offset: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while offset not in self.types[channel]:
                await asyncio.sleep(0.05)

    def _listen(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._take_frame)

    def _take_frame(self, payload: str | bytes) -> None:
        frame = json.loads(payload)
        for message in frame if isinstance(frame, list) else [frame]:
            if message["type"] == "reply":
                self._take_result(message.get("result"))
            elif "offset" in message:
                self._take(message)

    def _take_result(self, result: Any) -> None:
        if not isinstance(result, dict):
            return
        for joined in (result, *result.get("subscriptions", {}).values()):
            if "recovered" in joined:
                for message in joined.get("messages", []):
                    self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message["channel"].partition(":")[0] in KEPT:
            self.types[message["channel"]][message["offset"]] = message["type"]


class Person:
    """`http` asks the hub behind the page's back, with a token of its own."""

    def __init__(self, name: str, page: Page, http: httpx.AsyncClient) -> None:
        self.name = name
        self.page = page
        self.http = http
        self.heard = Heard(page)
        self.complaints: list[str] = []
        self.recovery_codes: list[str] = []
        self.authenticator: Authenticator | None = None
        page.set_default_timeout(PATIENCE_S * 1000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._take_line)

    def _take_line(self, line: ConsoleMessage) -> None:
        # Refusals, such as "a code is needed", and a network that is gone are part of the walk.
        if line.type == "error" and "Failed to load" not in line.text and "ERR_INTERNET" not in line.text:
            self.complaints.append(line.text)

    async def arrive(self) -> None:
        """Sign in, in place of the guest as whom the demo lets everybody in."""
        await self.page.goto(str(self.http.base_url))
        await self.expect_live()
        await self.sign_out()
        await self.sign_in()

    async def sign_in(self) -> None:
        form = self.page.locator("#sign-in")
        await form.get_by_label("Name").fill(self.name)
        await form.get_by_label("Password").fill(PASSWORD)
        await form.get_by_role("button", name="Sign in").click()
        if self.authenticator is not None:
            await form.get_by_label("Code of your authenticator app").fill(await self.authenticator.code())
            await form.get_by_role("button", name="Sign in").click()
        await self.expect_live()

    async def sign_out(self) -> None:
        await self.page.get_by_role("button", name="Sign out").click()
        await expect(self.page.locator("#sign-in")).to_be_visible()

    async def enrol(self) -> None:
        """Goes through the dialog for it, which is open."""
        dialog = self.page.get_by_role("dialog", name="Second factor")
        await dialog.get_by_label("Password").fill(PASSWORD)
        await dialog.get_by_role("button", name="Continue").click()
        await expect(dialog.get_by_role("img", name="QR code")).to_be_visible()
        self.authenticator = Authenticator(await dialog.locator("#enrolment-secret").inner_text())
        await dialog.get_by_label("Code that the app shows").fill(await self.authenticator.code())
        await dialog.get_by_role("button", name="Continue").click()
        codes = dialog.locator("#recovery-codes li")
        await expect(codes).to_have_count(10)
        self.recovery_codes = await codes.all_inner_texts()
        await dialog.get_by_role("button", name="Close").click()

    async def show(self, view: str) -> None:
        """One of the five, by its name in the navigation."""
        await self.page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        await expect(self.page.locator(f"#view-{view.lower()}")).to_be_visible()

    async def expect_live(self) -> None:
        await expect(self.page.locator("#state")).to_have_text("Live")

    async def get(self, path: str, **query: str) -> Any:
        """What REST tells."""
        return (await self.http.get(path, params=query)).raise_for_status().json()["data"]

    async def history(self, channel: str) -> list[dict[str, Any]]:
        """What the hub kept of a channel; newest last."""
        newest = await self.get(f"/v1/history/{channel}", limit="500", reverse="true")
        messages: list[dict[str, Any]] = newest["messages"]
        return messages[::-1]
