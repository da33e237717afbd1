"""The dashboard in Chromium, against real hubs."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from hub.auth import totp

from .browser import Page
from .conftest import LIVE, ROOT, Demo, Feed, ServeHub, enrol, show, sign_in, sign_out
from .peers import node_command, running_client
from .tools import absent

PRICE = "document.querySelector('#prices tbody tr').cells[1].textContent"
VIEWS = ["market", "orders", "team", "insight", "operate"]


async def test_prices_move(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#token={demo.token()}")

    first = await page.until(PRICE)
    await page.until(f"{PRICE} !== {json.dumps(first)}")
    assert re.fullmatch(r"[\d,]+(\.\d+)?", first)
    await page.until("document.getElementById('latency').textContent.endsWith(' ms')")
    await page.until("parseInt(document.getElementById('rate').textContent) > 0")
    assert page.complaints == []


async def test_every_view_shows_the_demo_and_says_that_it_is_one(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#token={demo.token()}")
    await page.until("document.querySelectorAll('#prices tbody tr').length >= 5")
    await page.until("document.querySelectorAll('#trades tbody tr').length >= 5")
    await page.until("document.querySelectorAll('#sources li').length >= 3")
    await show(page, "team")
    await page.until("document.querySelectorAll('#team li').length >= 6")
    await page.until("document.querySelectorAll('#tasks .card').length >= 6")
    await page.until("document.querySelector('#steps dt')")
    await show(page, "orders")
    await page.until("document.querySelectorAll('#orders tbody tr').length >= 3")

    assert await page.evaluate("!document.getElementById('simulated').hidden")
    assert await page.evaluate("[...document.querySelectorAll('#prices .sim')].every((tag) => !tag.hidden)")
    assert await page.evaluate("[...document.querySelectorAll('#orders .c-paper .tag')].every((tag) => !tag.hidden)")
    axes = "[...document.querySelector('#team li').querySelectorAll('.chip')].map((chip) => chip.title)"
    assert await page.evaluate(axes) == ["presence", "activity", "health"]
    assert page.complaints == []


async def test_the_token_leaves_the_address_bar_and_nothing_leaves_the_hub(demo: Demo, page: Page) -> None:
    token = demo.token()
    await page.open(f"{demo.url}/#token={token}")
    await page.until(LIVE)

    assert await page.evaluate("location.href") == f"{demo.url}/"
    assert all(url.startswith(demo.url) for url in page.requested)
    assert not any(token in url.partition("#")[0] for url in page.requested)
    await page.command("Page.reload")  # the tab keeps it
    await page.until(LIVE)


@pytest.mark.parametrize("width", [360, 820, 1280])
async def test_it_fits_the_screen_and_no_figure_is_cut_off(demo: Demo, page: Page, width: int) -> None:
    await page.open(f"{demo.url}/#token={demo.token()}", width=width, dark=True)
    await page.until("document.querySelectorAll('#prices tbody tr').length >= 5")

    cut = "[...document.querySelectorAll('tbody :is(.num, .c-side)')].filter((cell) => cell.scrollWidth > cell.clientWidth)"
    for view in VIEWS:
        await show(page, view)
        if view == "orders":
            await page.until("document.querySelectorAll('#orders tbody tr').length >= 3")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, view
        assert await page.evaluate(f"{cut}.map((cell) => cell.className + ' ' + cell.textContent)") == [], view


async def test_keys_and_the_address_choose_the_view_and_what_is_typed_does_not(demo: Demo, page: Page) -> None:
    shown = "[...document.querySelectorAll('.view')].filter((view) => !view.hidden).map((view) => view.id)"
    current = "document.querySelector('#views [aria-current=page]').textContent"
    await page.open(f"{demo.url}/#team&token={demo.token()}")
    await page.until(LIVE)

    assert await page.evaluate(f"[location.hash, {shown}, {current}]") == ["#team", ["view-team"], "Team"]
    for number, view in enumerate(VIEWS, start=1):
        await page.command("Input.dispatchKeyEvent", type="keyDown", key=str(number))
        await page.until(f"location.hash === '#{view}'")
        assert await page.evaluate(shown) == [f"view-{view}"]
    assert await page.evaluate("document.title") == "Operate · Krin"
    await page.evaluate("document.getElementById('board').append(document.createElement('input'))")
    await page.evaluate("document.querySelector('#board > input').focus()")
    await page.command("Input.dispatchKeyEvent", type="keyDown", key="1")
    await page.evaluate("document.querySelector('#board > input').remove()")
    await page.command("Input.dispatchKeyEvent", type="keyDown", key="2")
    await page.until("location.hash === '#orders'")
    await page.command("Input.dispatchKeyEvent", type="keyDown", key="/")
    await page.until("location.hash === '#insight' && document.activeElement.name === 'query'")
    await page.evaluate("document.activeElement.blur(); history.back()")
    await page.until("location.hash === '#orders'")
    await page.evaluate("history.back()")
    await page.until("location.hash === '#operate'")  # and not #market
    assert await page.evaluate(shown) == ["view-operate"]


async def test_everything_but_the_picture_is_less_than_100_kb_to_load(hub: ServeHub) -> None:
    loaded = [file for file in (ROOT / "hub" / "dashboard").iterdir() if file.suffix in (".html", ".js", ".css")]
    travelled = 0
    async with httpx.AsyncClient(base_url=hub.url, timeout=10) as http:
        for file in loaded:
            async with http.stream("GET", f"/static/{file.name}") as answer:
                assert (answer.status_code, answer.headers["content-encoding"]) == (200, "gzip")
                travelled += sum([len(chunk) async for chunk in answer.aiter_raw()])
    assert 20_000 < travelled < 100_000


async def test_each_file_says_what_it_is(hub: ServeHub) -> None:
    kinds = {"krin.js": "text/javascript", "krin.d.ts": "text/plain", "style.css": "text/css"}
    async with httpx.AsyncClient(base_url=hub.url, timeout=10) as http:
        for name, kind in kinds.items():
            assert (await http.get(f"/static/{name}")).headers["content-type"] == f"{kind}; charset=utf-8"


async def test_a_lost_hub_is_admitted_and_found_again(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#token={demo.token()}")
    await page.until(f"{LIVE} && {PRICE}")
    banner = "document.getElementById('banner')"
    demo.stop()
    try:
        await page.until(f"!{banner}.hidden && {banner}.textContent.startsWith('Not live.')")
        await page.until("document.querySelector('#prices .c-state .chip').textContent === 'No link'")
        await show(page, "operate")
        await page.until("document.querySelector('#hub tbody .chip').textContent.startsWith('Silent')")
    finally:
        demo.start()
    await page.until(f"{LIVE} && {banner}.hidden", within_s=60)
    await show(page, "market")
    await page.until("document.querySelector('#prices .c-state .chip').textContent !== 'No link'")


async def test_signing_in_with_name_and_password(demo: Demo, page: Page) -> None:
    demo.add_user("grace", "correct horse battery")
    await page.open(demo.url)
    await page.until(LIVE)  # the demo lets anybody in
    await sign_out(page)
    fill = (
        "(({{elements}}) => {{ elements.name.value = 'grace'; elements.password.value = {password};"
        " document.querySelector('#sign-in button').click(); }})(document.getElementById('sign-in'))"
    )
    await page.evaluate(fill.format(password="'wrong password'"))
    await page.until("document.getElementById('sign-in-error').textContent.startsWith('Signing in failed')")
    await page.evaluate(fill.format(password="'correct horse battery'"))
    await page.until(LIVE)

    assert await page.evaluate("document.getElementById('user').textContent") == "grace"
    await page.evaluate("document.getElementById('sign-out').click()")
    await page.until("!document.getElementById('sign-in').hidden && !sessionStorage.getItem('krin.session')")


async def test_signing_in_with_a_second_factor_asks_for_the_code_when_the_password_was_right(
    demo: Demo, page: Page
) -> None:
    demo.add_user("heidi", "correct horse battery")
    recovery = (await enrol(demo.url, "heidi", "correct horse battery"))[0]
    await page.open(demo.url)
    await page.until(LIVE)
    await sign_out(page)
    fill = (
        "(({{elements}}) => {{ elements.name.value = 'heidi'; elements.password.value = 'correct horse battery';"
        " elements.code.value = '{code}'; document.querySelector('#sign-in button').click(); }})"
        "(document.getElementById('sign-in'))"
    )
    assert await page.evaluate("document.getElementById('code').offsetHeight") == 0
    await page.evaluate(fill.format(code=""))
    await page.until("document.getElementById('code').offsetHeight > 0 && document.activeElement.name === 'code'")
    assert await page.evaluate("document.getElementById('sign-in-error').textContent") == ""
    await page.evaluate(fill.format(code="000000"))
    await page.until("document.getElementById('sign-in-error').textContent.includes('code is not valid')")
    await page.evaluate(fill.format(code=recovery))
    await page.until(LIVE)

    assert await page.evaluate("document.getElementById('user').textContent") == "heidi"


async def test_a_signed_in_person_enrols_an_authenticator_app_and_is_shown_the_recovery_codes_once(
    demo: Demo, page: Page
) -> None:
    demo.add_user("ivan", "correct horse battery")
    await page.open(demo.url)
    await page.until(LIVE)
    assert await page.evaluate("document.getElementById('second-factor').hidden"), "the demo's guest has no password"
    await sign_in(page, "ivan", "correct horse battery")
    await page.until(LIVE)
    enter = (
        "((form) => {{ form.elements.{field}.value = '{value}'; form.querySelector('button').click(); }})"
        "(document.getElementById('enrolment-form'))"
    )
    await page.evaluate("document.getElementById('second-factor').click()")
    await page.until("document.getElementById('enrolment-password').offsetHeight > 0")
    await page.evaluate(enter.format(field="password", value="wrong password"))
    await page.until("document.getElementById('enrolment-error').textContent.includes('wrong password')")
    await page.evaluate(enter.format(field="password", value="correct horse battery"))
    await page.until("document.getElementById('enrolment-qr').naturalWidth > 0")
    shown = await page.evaluate("document.getElementById('enrolment-secret').textContent")
    secret = base64.b32decode(shown.replace(" ", ""))
    await page.evaluate(enter.format(field="otp", value="000000"))
    await page.until("document.getElementById('enrolment-error').textContent.includes('code is not valid')")
    await page.evaluate(enter.format(field="otp", value=totp.code(secret, totp.step_at(time.time()))))
    await page.until("document.querySelectorAll('#recovery-codes li').length === 10")
    [code] = await page.evaluate("[document.querySelector('#recovery-codes li').textContent]")
    await page.evaluate("document.getElementById('enrolment-close').click()")
    await page.until("!document.querySelector('#recovery-codes li')")
    await page.evaluate("document.getElementById('second-factor').click()")
    await page.until("document.getElementById('enrolment-text').textContent.includes('10 recovery codes')")
    assert await page.evaluate("document.getElementById('enrolment-form').hidden")
    async with httpx.AsyncClient(base_url=demo.url, timeout=10) as http:
        body = {"name": "ivan", "password": "correct horse battery"}
        assert (await http.post("/v1/auth/login", json=body)).status_code == 403
        assert (await http.post("/v1/auth/login", json=body | {"recovery_code": code})).status_code == 200


# --- a feed of our own, on the session's hub ---


async def test_the_sdk_publishes_and_hears_once_what_was_published_twice(hub: ServeHub) -> None:
    node = node_command()
    if isinstance(node, str):
        absent(node)
    room, note = "custom:sdk", {"type": "NOTE", "data": {"text": "hello"}}
    async with running_client(node, hub.ws_url, token=hub.token("ada")) as client:
        await client.do("subscribe", channel=room)
        await client.do("connect")
        assert (await client.event("subscribed"))["promise"] == "recoverable"
        for _ in range(2):
            await client.do("publish", channel=room, message=note, options={"idempotency_key": "once"})
        published = [(await client.event("result", op="publish"))["value"] for _ in range(2)]
        await client.do("publish", channel=room, message={"type": "NOTE", "data": {}})

        assert sorted(each.get("duplicate", False) for each in published) == [False, True]
        assert await client.offsets(2) == [1, 2]


def tick(symbol: str, price: int, **fields: Any) -> dict[str, Any]:
    return {"symbol": symbol, "bid": f"{price}.10", "ask": f"{price}.30", "mid": f"{price}.20", **fields}


def cell(symbol: str, column: str) -> str:
    row = f"[...document.querySelectorAll('#prices tr')].find((row) => row.cells[0].title === {json.dumps(symbol)})"
    return f"{row}.querySelector('.{column}').textContent"


async def test_what_the_hub_says_of_a_quote_is_what_one_reads(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    quality = {"sources_ok": 1, "sources_total": 3}
    async with feed as market:
        await market.publish("prices:XQA", "PRICE_TICK", tick("XQA", 1234567, state="DISPUTED", quality=quality))
        await page.open(f"{hub.url}/#token={hub.token('ada')}")
        await page.until(f"{cell('XQA', 'c-state')} === 'Disputed'")

        assert await page.evaluate(cell("XQA", "c-bid")) == "1,234,567.10"
        assert await page.evaluate(cell("XQA", "c-quality")) == "1/3"
        assert await page.evaluate("document.getElementById('simulated').hidden")

        await market.publish("prices:XQA", "PRICE_TICK", tick("XQA", 1234568, state="HALTED"))
        await page.until(f"{cell('XQA', 'c-state')} === 'Halted'")
        assert await page.evaluate(cell("XQA", "c-mid")) == "▲1,234,568.20"


async def test_a_quote_that_stops_moving_becomes_stale(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    async with feed as market:
        await market.publish("prices:XQB", "PRICE_TICK", tick("XQB", 7, state="LIVE"))
    await page.open(f"{hub.url}/#token={hub.token('ada')}")
    await page.until(f"{cell('XQB', 'c-state')} === 'Live'")
    await page.until(f"{cell('XQB', 'c-state')} === 'Stale'", within_s=20)


async def test_what_the_hub_says_a_team_should_do_next_is_what_one_reads(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    tasks = [{"task_id": "t-1", "title": "The door"}, {"task_id": "t-2", "title": "The key"}]
    async with feed as lead:
        await lead.call("projects.create", project={"project_id": "alpha", "tasks": tasks})
        await lead.call("agents.register", specialist={"specialist_id": "ann", "team": "alpha"})
        held = {"project_id": "alpha", "task_id": "t-1", "specialist_id": "ann"}
        await lead.call("tasks.claim", **held)
        await lead.call("tasks.block", **held, fence=1, blockers=[{"kind": "task", "ref": "t-2"}])
        await lead.call("team.sync", updates=[{"specialist_id": "ann", "project_id": "alpha", "activity": "BLOCKED"}])
    await page.open(f"{hub.url}/#team/board/alpha&token={hub.token('ada')}")
    steps = "[...document.querySelectorAll('#steps dt')].map((dt) => [dt.textContent, dt.nextSibling.textContent])"
    await page.until(f"{steps}.length > 0 && document.querySelectorAll('#tasks .card').length >= 2")
    shown = dict(await page.evaluate(steps))
    assert shown["Ready"] == "The key: it waits for nothing"
    assert shown["Blocked"].startswith("The door ← The key, for ")
    assert page.complaints == []


async def test_an_order_is_one_row_through_its_life(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    def report(order: str, status: str, exec_type: str, **fields: Any) -> tuple[str, str, Any]:
        data = {
            "account": "xq",
            "client_order_id": order,
            "symbol": "XQA",
            "side": "SELL",
            "order_qty": "1000",
            **fields,
        }
        return "orders:xq", "EXECUTION_REPORT", {**data, "ord_status": status, "exec_type": exec_type}

    rows = "[...document.querySelectorAll('#orders tbody tr')].filter((row) => row.cells[1].textContent === 'XQA')"
    async with feed as market:
        await market.publish_all([report("a", "NEW", "NEW", price="10.50"), report("b", "REJECTED", "REJECTED")])
        await page.open(f"{hub.url}/#orders&token={hub.token('ada')}")
        await page.until(f"{rows}.length === 2")
        fill = {"cum_qty": "400", "avg_px": "10.512500", "last_qty": "400", "last_px": "10.5125"}
        replaced = {"orig_client_order_id": "a", "price": "10.60"}
        await market.publish_all(
            [report("a", "PARTIALLY_FILLED", "TRADE", **fill), report("c", "NEW", "REPLACED", **replaced)]
        )
        await page.until(f"{rows}.some((row) => row.cells[6].textContent === '10.60')")

    shown = f"{rows}.map((row) => [...row.cells].slice(2, 9).map((cell) => cell.innerText).join('|')).sort()"
    assert await page.evaluate(shown) == ["SELL|New|1,000|400|10.60|10.5125|", "SELL|Rejected|1,000||||"]


async def test_five_hundred_symbols_at_twenty_updates_a_second(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    symbols = [f"XR{number:03}" for number in range(500)]
    async with feed as market:
        await market.publish_all([(f"prices:{each}", "PRICE_TICK", tick(each, 1)) for each in symbols])
        await page.open(f"{hub.url}/#token={hub.token('ada')}")
        await page.until("document.querySelectorAll('#prices tbody tr').length >= 500")
        loop = asyncio.get_running_loop()
        started = loop.time()
        for turn in range(2, 42):
            await market.publish_all([(f"prices:{each}", "PRICE_TICK", tick(each, turn)) for each in symbols])
            await asyncio.sleep(max(0.0, started + (turn - 1) / 20 - loop.time()))  # the pace, not a wait for a fact

        for shown in ("XR000", "XR499"):
            jump = f"[...document.querySelectorAll('#prices tr')].find((row) => row.cells[0].title === '{shown}')"
            await page.evaluate(f"{jump}.scrollIntoView()")
            await page.until(f"{cell(shown, 'c-bid')} === '41.10'", within_s=5)
    assert page.complaints == []
