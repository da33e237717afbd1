"""A hub on its first day in Chromium: no feed, no order, no team. Every view says what comes next."""

from __future__ import annotations

from collections.abc import Callable

from .browser import Page
from .conftest import LIVE, ServeHub, show

NEXT = {
    "market": "krin demo",
    "orders": "krin order submit",
    "team": "krin team create",
    "insight": "The key / comes here",
    "operate": "Hub",
}


async def test_where_there_is_nothing_yet_every_view_says_what_comes_next(
    start: Callable[..., ServeHub], page: Page
) -> None:
    hub = start()
    await page.open(f"{hub.url}/#token={hub.token('ada', 'admin')}")
    await page.until(LIVE)
    for view, said in NEXT.items():
        await show(page, view)
        await page.until(f"document.getElementById('view-{view}').innerText.includes({said!r})")
        silent = (
            f"[...document.querySelectorAll('#view-{view} .panel')]"
            ".filter((panel) => !panel.innerText.split('\\n').slice(1).join('').trim()).map((panel) => panel.id)"
        )
        await page.until(f"{silent}.length === 0")
    assert page.complaints == []
