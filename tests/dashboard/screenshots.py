"""Pictures of the dashboard for the README: `python -m tests.dashboard.screenshots`, anew whenever a view has changed."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import Browser, expect

from .browser import chromium_binary
from .conftest import ROOT, Demo
from .person import opened_browser

FOLDER = ROOT / "hub" / "dashboard"
PACE_S = 25  # of the demo: a trend to see, orders filled, tasks done
VIEWS = ("Market", "Orders", "Team", "Operate")
SCREENS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


async def take(browser: Browser, demo: Demo) -> None:
    token = demo.token()
    for screen, looks in SCREENS.items():
        context = await browser.new_context(reduced_motion="reduce", **looks)  # type: ignore[arg-type]
        page = await context.new_page()
        await page.goto(f"{demo.url}/#token={token}")
        await expect(page.locator("#state")).to_have_text("Live")
        for view in VIEWS:
            await page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
            await page.wait_for_timeout(1500)  # drawn, with what it asks the hub for
            await page.screenshot(path=FOLDER / f"{view.lower()}-{screen}.png")
        await context.close()


async def main() -> None:
    binary = chromium_binary()
    assert binary is not None, "Chromium is not installed"
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        demo.start()
        try:
            async with opened_browser(binary) as browser:
                await asyncio.sleep(PACE_S)  # the pace of the demo
                await take(browser, demo)
        finally:
            demo.stop()


if __name__ == "__main__":
    asyncio.run(main())
