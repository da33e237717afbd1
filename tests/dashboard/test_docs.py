"""`/docs`: both API documents as a page, in Chromium, against a real hub."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio

from hub.edge import asyncapi, openapi

from .browser import Page, browser_page, chromium_binary
from .tools import absent

SMALL_BYTES = 24_000
DASHBOARD = Path(__file__).parents[2] / "hub" / "dashboard"


@pytest_asyncio.fixture
async def page(hub: Any, tmp_path: Path) -> AsyncIterator[Page]:
    binary = chromium_binary()
    if binary is None:
        absent("Chromium is not installed")
    async with browser_page(binary, tmp_path) as opened:
        await opened.open(f"{hub.url}/docs")
        await opened.until("document.querySelectorAll('#told details').length")
        token = json.dumps(hub.token("ann", "admin"))
        await opened.evaluate(f"document.getElementById('token').value = {token}; 0")
        yield opened


async def send(page: Page, name: str, fill: str) -> str:
    """Fill in and send the form of an operation; the output once it holds `status` or a reply."""
    details = f"document.querySelector('details[data-name^={json.dumps(name)}]')"
    await page.evaluate(f"{details}.open = true; 0")
    await page.until(f"{details}.querySelector('form')")
    await page.evaluate(f"((form) => {{ {fill}; form.requestSubmit(); }})({details}.querySelector('form')); 0")
    await page.until(f"/success|error|reply/.test({details}.querySelector('pre').textContent)")
    return str(await page.evaluate(f"{details}.querySelector('pre').textContent"))


async def test_every_operation_of_both_documents_is_there_and_can_be_found(page: Page) -> None:
    count = "document.querySelectorAll('#{id} details:not([hidden])').length"
    routes = sum(len(methods) for methods in openapi.describe()["paths"].values())
    assert await page.evaluate(count.format(id="rest")) == routes
    assert await page.evaluate(count.format(id="commands")) == len(asyncapi.describe()["operations"]) - 2
    await page.evaluate(
        "(() => { const find = document.getElementById('filter'); find.value = 'orders.submit';"
        " find.dispatchEvent(new Event('input')); })()"
    )
    assert await page.evaluate(count.format(id="commands")) == 1
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true; 0")
    await page.until("document.querySelectorAll('#told table').length >= 30")
    assert page.complaints == []


async def test_rest_can_be_tried(hub: Any, page: Page) -> None:
    channel = f"custom:{secrets.token_hex(6)}"
    body = json.dumps({"channel": channel, "message": {"type": "NOTE", "data": {"n": 1}}})
    told = await send(page, "post /v1/publish", f"form.querySelector('textarea').value = {json.dumps(body)}")
    assert told.startswith("200")
    async with httpx.AsyncClient(base_url=hub.url) as http:
        token = {"authorization": f"Bearer {hub.token('ann')}"}
        kept = (await http.get(f"/v1/history/{channel}", headers=token)).json()["data"]["messages"]
    assert [each["data"] for each in kept] == [{"n": 1}]
    assert page.complaints == []


async def test_the_socket_can_be_tried(page: Page) -> None:
    await send(page, "channels.list", "")  # which connects before it
    output = "document.querySelector('details[data-name^=\"channels.list\"] pre').textContent"
    await page.until(f'/"id": 2,\\s+"result"/.test({output})')
    assert page.complaints == []


async def test_it_fits_a_phone(hub: Any, page: Page) -> None:
    await page.open(f"{hub.url}/docs", width=390)
    await page.until("document.querySelectorAll('#told details').length")
    await page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true; 0")
    await page.until("document.querySelectorAll('#told table').length >= 30")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_nothing_comes_from_elsewhere(hub: Any, page: Page) -> None:
    assert page.requested
    assert all(url.startswith(hub.url) for url in page.requested)


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in DASHBOARD.glob("docs.*")) < SMALL_BYTES
