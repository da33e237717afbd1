"""Pictures of the dashboard for the README: `python -m tests.dashboard.screenshots`, anew whenever a view has changed.

With names of views it takes those and no others.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from .browser import chromium_binary
from .conftest import ROOT, Demo
from .person import opened_browser

FOLDER = ROOT / "hub" / "dashboard"
PACE_S = 25  # of the demo: a trend to see, orders filled, tasks done
VIEWS = ("Market", "Orders", "Team", "Insight", "Operate")
SCREENS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}


async def look_into(page: Page) -> None:
    """Something found and something noticed, each with the moment it is from unfolded."""
    await page.locator("#search").get_by_label("What it is about").fill("waits for a migration")
    hit = page.locator("#search .hits > li").first
    while not await hit.count():  # documents are made a moment after a message
        await page.locator("#search").get_by_role("button", name="Search").click()
        await page.wait_for_timeout(1500)
    await hit.get_by_role("button", name="Jump to moment").click()
    evidence = page.locator("#insights .evidence button").first
    if await evidence.count():
        await evidence.click()


async def take(browser: Browser, demo: Demo, views: tuple[str, ...]) -> None:
    token = demo.token()
    for screen, looks in SCREENS.items():
        context = await browser.new_context(reduced_motion="reduce", **looks)  # type: ignore[arg-type]
        page = await context.new_page()
        await page.goto(f"{demo.url}/#token={token}")
        await expect(page.locator("#state")).to_have_text("Live")
        for view in views:
            await page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
            if view == "Insight":
                await look_into(page)
            await page.wait_for_timeout(1500)  # drawn, with what it asks the hub for
            await page.screenshot(path=FOLDER / f"{view.lower()}-{screen}.png")
        await context.close()


async def main(*views: str) -> None:
    binary = chromium_binary()
    assert binary is not None, "Chromium is not installed"
    with tempfile.TemporaryDirectory() as folder:
        demo = Demo(Path(folder))
        demo.start()
        try:
            async with opened_browser(binary) as browser:
                await asyncio.sleep(PACE_S)  # the pace of the demo
                await take(browser, demo, views or VIEWS)
        finally:
            demo.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
