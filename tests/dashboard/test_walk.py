"""A person walks through the demo in Chromium: what they see and do on the page must be true in the hub."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from .conftest import Demo
from .person import PASSWORD, PATIENCE_S, Person, opened_browser

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with opened_browser(chromium) as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(demo: Demo) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {demo.token()}"}
    async with httpx.AsyncClient(base_url=demo.url, headers=headers) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(demo: Demo, browser: Browser, http: httpx.AsyncClient) -> Person:
    """An administrator who may be asked for approval, signed in with a code of an authenticator app that was enrolled through the page."""
    demo.add_user("walt", PASSWORD, "admin", "dashboard")
    person = Person("walt", await browser.new_page(), http)
    await person.arrive()
    await person.page.get_by_role("button", name="Second factor").click()
    await person.enrol()
    await person.sign_out()
    await person.sign_in()
    return person


async def test_signing_in_took_the_name_the_password_and_the_code(person: Person) -> None:
    token = await person.page.evaluate("JSON.parse(sessionStorage.getItem('krin.session')).access_token")
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))

    await expect(person.page.locator("#user")).to_have_text("walt")
    assert set(claims["amr"]) == {"pwd", "otp", "mfa"}
    assert len(set(person.recovery_codes)) == 10


async def test_one_watches_prices_move(person: Person) -> None:
    await person.show("Market")
    rows = person.page.locator("#prices tbody tr")
    bid = rows.first.locator(".c-bid")
    await expect(bid).to_have_text(re.compile(r"^[\d,]+\.\d+$"))
    earlier = await bid.inner_text()

    await expect(bid).not_to_have_text(earlier)
    assert await rows.count() >= 5


async def test_one_finds_what_was_said_and_the_moment_it_was_said_in(person: Person) -> None:
    page = person.page
    await person.show("Insight")
    form = page.get_by_role("search")
    await form.get_by_label("What it is about").fill("database migration")
    hit = page.locator("#search .hits > li").first
    async with asyncio.timeout(PATIENCE_S):
        while not await hit.count():  # documents are made a moment after a message
            await form.get_by_role("button", name="Search").click()
            await expect(page.locator("#search .said")).to_contain_text("found")
    await hit.get_by_role("button", name="Jump to moment").click()
    meant = hit.locator(".moment [aria-current=true]")
    await expect(meant).to_be_visible()
    found = await person.get("/v1/search", query="database migration")

    told = {f"#{each['offset']}" for each in found["hits"] if "offset" in each}
    assert set(re.findall(r"#\d+", await meant.inner_text())) <= told


async def test_an_approval_that_somebody_waits_for_is_given_in_place(person: Person) -> None:
    page = person.page
    await person.show("Team")
    asked = page.locator("#approvals .open > li").filter(has=page.get_by_role("button", name="Approve")).first
    subject = await asked.locator(".subject").inner_text()
    await asked.get_by_role("button", name="Approve").click()
    await expect(page.locator("#approvals .decided")).to_contain_text("Approved by you")

    answered = [
        each["data"] for each in await person.history("approvals:dashboard") if each["data"]["subject"] == subject
    ]
    assert [each["resolved_by"] for each in answered if each["state"] == "APPROVED"][-1] == "walt"


async def test_an_order_is_checked_placed_and_filled(person: Person) -> None:
    page = person.page
    await person.show("Orders")
    ticket = page.locator("#ticket")
    await ticket.get_by_label("Symbol").fill("BTC-USD")
    await ticket.get_by_label("Type").select_option("Market")
    await ticket.get_by_label("Quantity").fill("0.01")
    await expect(ticket.locator("#ticket-verdict")).to_have_text("Passes every check")
    await ticket.get_by_role("button", name="Buy 0.01 BTC-USD").click()
    await expect(ticket.locator("#ticket-outcome")).to_contain_text("BUY 0.01 BTC-USD")
    position = page.locator("#positions tbody tr", has_text="walt")
    await expect(position.locator("td").nth(1)).to_have_text("0.01")
    fill = page.locator("#fills tbody tr", has_text="0.01").first
    price = (await fill.locator("td").nth(3).inner_text()).replace(",", "")

    (order,) = await person.get("/v1/orders", account="walt")
    # The page writes the price as the venue did, 64270.20; the average carries no idle zeros.
    assert (order["ord_status"], order["cum_qty"]) == ("FILLED", "0.01")
    assert Decimal(order["avg_px"]) == Decimal(price)


async def test_trading_is_stopped_at_once_and_goes_on_with_a_second_factor(
    demo: Demo, browser: Browser, http: httpx.AsyncClient
) -> None:
    demo.add_user("wilma", PASSWORD, "trader")
    here, elsewhere = [Person("wilma", await browser.new_page(), http) for _ in range(2)]

    async def halted() -> list[tuple[str, str]]:
        return [(state["name"], state["mode"]) for state in (await here.get("/v1/risk/state"))["states"]]

    await elsewhere.arrive()
    await here.arrive()
    await here.show("Orders")
    switches = here.page.locator("#switches")
    await switches.get_by_label("Reason").fill("fat finger")
    await switches.get_by_role("button", name="Stop trading").click()
    await switches.get_by_role("button", name="Stop account wilma now").click()
    halt = switches.get_by_role("listitem")
    await expect(halt).to_contain_text("fat finger")
    assert await halted() == [("wilma", "HALTED")]

    await halt.get_by_role("button", name="Resume").click()
    await here.enrol()  # a password is not enough for this, and there was no second factor yet
    await expect(halt).to_have_count(0)
    assert await halted() == []
    await expect(elsewhere.page.locator("#sign-in-error")).to_have_text("signed out")
    assert here.complaints == []


async def test_nothing_is_missing_after_the_network_was_lost(person: Person) -> None:
    page, heard = person.page, person.heard
    await person.show("Orders")
    banner = page.locator("#banner")
    await page.context.set_offline(True)
    await expect(page.locator("#state")).to_have_text("Reconnecting")
    await expect(banner).to_contain_text("Not live.")
    seen = max(heard.types["orders:desk"])
    async with asyncio.timeout(PATIENCE_S):
        while (await person.history("orders:desk"))[-1]["offset"] < seen + 3:
            await asyncio.sleep(0.05)
    await page.context.set_offline(False)
    await person.expect_live()
    await expect(banner).to_be_hidden()

    for channel, types in list(heard.types.items()):
        kept = await person.history(channel)
        await heard.until(channel, kept[-1]["offset"])
        told = {message["offset"]: message["type"] for message in kept if message["offset"] >= min(types)}
        assert told == {offset: types[offset] for offset in told}
    missed = [each["data"] for each in await person.history("orders:desk") if each["offset"] > seen]
    replaced = {report.get("orig_client_order_id") for report in missed}
    for order in {report["client_order_id"] for report in missed} - replaced:
        await expect(page.locator(f"#orders tbody tr[title*='{order} ']")).to_have_count(1)
    assert person.complaints == []
