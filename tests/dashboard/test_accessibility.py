"""axe-core finds no serious fault on any page, in light and dark, on a screen and on a phone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, ViewportSize, expect

from .conftest import Demo
from .person import opened_browser
from .test_authorize import CHALLENGE, PASSWORD, krin

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERIOUS = {"serious", "critical"}
PHONE = {"width": 390, "height": 844}
# Where a view shows the demo's data, and not only its frame.
FILLED = {
    "Market": "#prices tbody tr",
    "Orders": "#orders tbody tr",
    "Team": "#team li",
    "Insight": "#views [aria-current][href='#insight']",
    "Operate": "#view-operate .panel",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with opened_browser(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    context = await browser.new_context(bypass_csp=True, reduced_motion="reduce")  # axe-core is not the hub's own
    yield await context.new_page()
    await context.close()


async def faults(page: Page) -> list[str]:
    """What axe-core calls serious or critical in either colour scheme: the rule, and where."""
    found = []
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await page.emulate_media(color_scheme=scheme)
        result = (await Axe().run(page)).response
        found += [
            f"{scheme}: {rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in result["violations"]
            if rule["impact"] in SERIOUS
            for node in rule["nodes"]
        ]
    return found


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["screen", "phone"])
async def test_every_view_can_be_used_by_everybody(demo: Demo, page: Page, viewport: ViewportSize | None) -> None:
    if viewport:
        await page.set_viewport_size(viewport)
    await page.goto(f"{demo.url}/#token={demo.token()}")
    found = {}
    for view, filled in FILLED.items():
        await page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        await expect(page.locator(filled).first).to_be_visible()
        found[view] = await faults(page)

    assert not any(found.values()), found


async def test_signing_in_can_be_used_by_everybody(demo: Demo, page: Page) -> None:
    await page.goto(demo.url)
    await page.get_by_role("button", name="Sign out").click()
    form = page.locator("#sign-in")
    await form.get_by_label("Name").fill("nobody")
    await form.get_by_label("Password").fill("nothing")
    await form.get_by_role("button", name="Sign in").click()
    await expect(page.locator("#sign-in-error")).not_to_be_empty()

    assert await faults(page) == []


async def test_the_documentation_can_be_used_by_everybody(demo: Demo, page: Page) -> None:
    await page.goto(f"{demo.url}/docs")
    operation = page.locator("#rest details").first
    await operation.locator("summary").first.click()
    await expect(operation.locator("form")).to_be_visible()

    assert await faults(page) == []


async def test_the_consent_page_can_be_used_by_everybody(demo: Demo, page: Page) -> None:
    home = "http://127.0.0.1:9/back"
    register = ["client", "add", "reader", "--public", "--role", "dashboard", "--redirect-uri", home]
    await asyncio.to_thread(krin, demo, *register)
    await asyncio.to_thread(krin, demo, "user", "add", "erin", "--role", "dashboard")
    query = {"response_type": "code", "client_id": "reader", "redirect_uri": home, "state": "1"}
    pkce = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    await page.goto(f"{demo.url}/oauth/authorize?{urlencode(query | pkce)}")
    form = page.locator("#sign-in")
    await expect(form).to_be_visible()
    assert await faults(page) == []

    await form.get_by_label("Name").fill("erin")
    await form.get_by_label("Password").fill(PASSWORD)
    await form.get_by_role("button").click()
    await expect(page.locator("#consent")).to_be_visible()
    assert await faults(page) == []
