"""The Orders view in Chromium: the ticket, the blotter, positions and the kill switch, against a real demo."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import get_args

from benchmarks.faults.proxy import Proxy
from hub.auth import totp
from hub.client import Client
from hub.trading.reasons import Reason
from protocol.trading import ExecutionReport

from .browser import Page
from .conftest import LIVE, ROOT, Demo, show, sign_in

VERDICT = "document.getElementById('ticket-verdict').textContent"
FAULTS = "document.getElementById('ticket-faults').innerText"
SUBMIT = "document.getElementById('ticket-submit')"
OUTCOME = "document.getElementById('ticket-outcome').textContent"
BID = "[...document.querySelectorAll('#prices tr')].find((row) => row.$symbol === 'BTC-USD').cells[1].textContent"


async def enter(page: Page, **fields: str) -> None:
    """Type into the ticket."""
    await page.evaluate(
        f"(({{elements}}, fields) => {{ for (const [name, value] of Object.entries(fields)) elements[name].value = value;"
        " elements.qty.dispatchEvent(new Event('input', { bubbles: true })); })"
        f"(document.getElementById('ticket-form'), {json.dumps(fields)})"
    )


async def open_orders(demo: Demo, page: Page, name: str, role: str = "trader", *, url: str = "") -> None:
    await page.open(f"{url or demo.url}/#token={demo.token(name, role)}")
    await page.until(f"{LIVE} && {BID}")
    await show(page, "orders")
    await page.until(f"!{VERDICT}.startsWith('Not live')")


async def price(page: Page, ratio: float) -> str:
    """So many times the best bid, in steps of a dollar."""
    bid = await page.evaluate(BID)
    return str(round(float(bid.replace(",", "")) * ratio))


def row_of(account: str, column: int) -> str:
    own = "[...document.querySelectorAll('#orders tbody tr')].filter((row) => !row.querySelector('.c-do button:last-child').hidden)"
    return f"{own}[0].cells[{column}].innerText"


@asynccontextmanager
async def trader(demo: Demo, name: str) -> AsyncIterator[Client]:
    async with Client(demo.url, token=demo.token(name, "trader")) as krin:
        yield krin


async def orders_of(krin: Client) -> list[ExecutionReport]:
    return (await krin.orders.list()).orders


def test_every_reason_of_a_refusal_is_one_that_the_checks_or_the_venue_give() -> None:
    told = set(re.findall(r"^  ([A-Z_]+): \"", (ROOT / "hub/dashboard/reasons.js").read_text(), re.MULTILINE))
    assert told == set(get_args(Reason))


async def test_what_the_risk_checks_say_is_shown_before_anything_is_sent(demo: Demo, page: Page) -> None:
    await open_orders(demo, page, "pat")
    assert await page.evaluate(VERDICT) == "Enter a quantity."
    assert await page.evaluate(f"{SUBMIT}.disabled")
    await enter(page, symbol="btc-usd", qty="0,5", price="1")
    assert "is no number" in await page.evaluate(VERDICT)
    await enter(page, qty="0.10005", price=await price(page, 1.2))
    await page.until(f"{VERDICT} === 'Would be refused: 2 reasons'")
    faults = await page.evaluate(FAULTS)
    assert "The price is too far from the market" in faults and "not a multiple of the lot size" in faults
    assert await page.evaluate(f"{SUBMIT}.disabled")
    limit = await price(page, 0.98)
    await enter(page, qty="0.1", price=limit)
    await page.until(f"{VERDICT} === 'Passes every check' && !{SUBMIT}.disabled")

    assert await page.evaluate(f"{SUBMIT}.textContent") == "Buy 0.1 BTC-USD"
    worth = await page.evaluate("document.getElementById('ticket-notional').textContent")
    assert float(worth.replace(",", "").removesuffix(" USD")) == int(limit) / 10
    await page.until("document.getElementById('ticket-steps').textContent.startsWith('Quantity in steps of 0.0001')")
    async with trader(demo, "pat") as krin:
        assert await orders_of(krin) == []
    assert page.complaints == []


async def test_an_order_is_placed_once_however_often_it_is_pressed_then_changed_in_place_and_canceled(
    demo: Demo, page: Page
) -> None:
    await open_orders(demo, page, "quin")
    await enter(page, symbol="BTC-USD", qty="0.1", price=await price(page, 0.97))
    await page.until(f"!{SUBMIT}.disabled")
    await page.evaluate(f"{SUBMIT}.click(); {SUBMIT}.click(); {SUBMIT}.form.requestSubmit()")
    await page.until(f"{OUTCOME}.startsWith('BUY 0.1 BTC-USD.')")
    await page.evaluate(f"{SUBMIT}.form.requestSubmit()")
    assert await page.evaluate(VERDICT) == "Enter a quantity."
    await page.until(f"{row_of('quin', 3)} === 'New'")

    buttons = "[...document.querySelectorAll('#orders .c-do button')].filter((button) => !button.hidden)"
    change = f"{buttons}.find((button) => button.textContent === '{{}}')"
    await page.evaluate(f"{change.format('Change')}.click()")
    cheaper = await price(page, 0.96)
    await page.evaluate(f"document.querySelector('#orders td input[name=price]').value = '{cheaper}'")
    await page.evaluate(f"{change.format('Save')}.click()")
    await page.until(f"{row_of('quin', 6)}.replaceAll(',', '') === '{cheaper}' && {row_of('quin', 3)} === 'New'")
    await page.evaluate(f"{change.format('Cancel')}.click()")
    # Once it is being canceled there is nothing to press any more, and it has not ended yet.
    status = "[...document.querySelectorAll('#orders tbody tr[title^=\"quin \"]')].map((row) => row.cells[3].innerText)"
    await page.until(f"!{change.format('Cancel')} && {status}.join() === 'Canceled'")

    async with trader(demo, "quin") as krin:
        (order,) = await orders_of(krin)
    assert (order.ord_status, order.price, order.order_qty) == ("CANCELED", cheaper, "0.1")
    assert page.complaints == []


async def test_of_a_limit_and_a_stop_one_cancels_the_other(demo: Demo, page: Page) -> None:
    await open_orders(demo, page, "olga")
    below, above = await price(page, 0.97), await price(page, 1.02)
    await enter(page, symbol="BTC-USD", order_type="OCO", qty="0.1", price=below, stop_price=below)
    await page.until(f"{VERDICT}.startsWith('Would be refused') && {FAULTS}.includes('The stop would trigger at once')")
    await enter(page, stop_price=above)
    await page.until(f"!{SUBMIT}.disabled")
    await page.evaluate(f"{SUBMIT}.click(); {SUBMIT}.click()")
    await page.until(f"{OUTCOME}.startsWith('BUY 0.1 BTC-USD. Limit: ')")
    rows = "[...document.querySelectorAll('#orders tbody tr[title^=\"olga \"]')]"
    await page.until(f"{rows}.length === 2 && {rows}.every((row) => row.cells[3].innerText === 'New')")
    async with trader(demo, "olga") as krin:
        placed = await orders_of(krin)
        assert {(order.order_type, order.price, order.stop_price) for order in placed} == {
            ("LIMIT", below, None),
            ("STOP", None, above),
        }
        await page.evaluate(f"{rows}[0].querySelector('.c-do button:last-child').click()")
        await page.until(f"{rows}.every((row) => row.cells[3].innerText === 'Canceled')")
        assert [order.ord_status for order in await orders_of(krin)] == ["CANCELED", "CANCELED"]
    assert page.complaints == []


async def test_an_order_that_is_open_for_longer_than_messages_go_back_is_shown_and_can_be_canceled(
    demo: Demo, page: Page
) -> None:
    async with trader(demo, "vera") as krin:
        await page.open(f"{demo.url}/#token={demo.token('vera', 'trader')}")
        await page.until(f"{LIVE} && {BID}")
        old = await krin.orders.submit("BTC-USD", "BUY", "0.1", price=await price(page, 0.97))
        async with asyncio.timeout(60):
            while (await krin.history("orders:vera", limit=1, reverse=True)).messages[0].offset < 305:
                denied = [krin.orders.submit("BTC-USD", "BUY", "0.10005", price="1") for _ in range(20)]
                await asyncio.gather(*denied)
        await page.command("Page.reload")
        await page.until(f"{LIVE} && {BID}")
        await show(page, "orders")
        row = f"document.querySelector('#orders tbody tr[title*=\"{old.client_order_id} \"]')"
        await page.until(f"{row}.cells[3].innerText === 'New'")
        await page.evaluate(f"{row}.querySelector('.c-do button:last-child').click()")
        await page.until(f"{row}.cells[3].innerText === 'Canceled'")
    assert page.complaints == []


async def test_who_sees_several_accounts_chooses_whose_orders_are_shown_and_whose_are_written(
    demo: Demo, page: Page
) -> None:
    async with trader(demo, "xena") as krin:
        await open_orders(demo, page, "boss", "admin")
        await krin.orders.submit("BTC-USD", "BUY", "0.1", price=await price(page, 0.97))
        chooser = "document.getElementById('orders-account')"
        await page.until(f"[...{chooser}.options].some((option) => option.value === 'xena')")
        others = "[...document.querySelectorAll('#orders tbody tr')].filter((row) => !row.title.startsWith('xena '))"
        await page.until(f"{others}.length > 0")
        await page.evaluate(f"{chooser}.value = 'xena'; {chooser}.dispatchEvent(new Event('change'))")
        await page.until(f"{others}.length === 0 && document.querySelectorAll('#orders tbody tr').length === 1")
        assert await page.evaluate("document.querySelectorAll('#fills tbody tr').length") == 0

        await enter(page, symbol="BTC-USD", qty="0.12", price=await price(page, 0.97))
        await page.until(f"!{SUBMIT}.disabled")
        await page.evaluate(f"{SUBMIT}.click()")
        await page.until(f"{OUTCOME}.startsWith('BUY 0.12 BTC-USD.')")
        assert [order.order_qty for order in await orders_of(krin)] == ["0.12", "0.1"]
    assert page.complaints == []


async def test_an_order_whose_answer_was_lost_is_sent_again_and_placed_once(demo: Demo, page: Page) -> None:
    async with Proxy.to_port(demo.port) as proxy, trader(demo, "tess") as krin:
        await open_orders(demo, page, "tess", url=f"http://127.0.0.1:{proxy.port}")
        await enter(page, symbol="BTC-USD", qty="0.1", price=await price(page, 0.97))
        await page.until(f"!{SUBMIT}.disabled")
        proxy.freeze(replies_only=True)
        await page.evaluate(f"{SUBMIT}.click()")
        async with asyncio.timeout(10):
            while not await orders_of(krin):
                await asyncio.sleep(0.05)
        assert await page.evaluate(VERDICT) == "Sending…"
        proxy.cut()
        proxy.thaw()
        await page.until(f"{OUTCOME}.startsWith('BUY 0.1 BTC-USD.')")

        (order,) = await orders_of(krin)
        assert order.ord_status in ("PENDING_NEW", "NEW")


async def test_trading_waits_for_the_second_factor_and_goes_on_when_it_is_given(demo: Demo, page: Page) -> None:
    demo.add_user("uma", "correct horse battery", "trader")
    await page.open(demo.url)
    await sign_in(page, "uma", "correct horse battery")
    await page.until(f"{LIVE} && {BID}")
    limit = await price(page, 0.97)
    await show(page, "orders")
    await enter(page, symbol="BTC-USD", qty="0.1", price=limit)
    await page.until(f"{VERDICT} === 'Trading needs your second factor.' && {SUBMIT}.disabled")
    await page.evaluate("document.getElementById('ticket-confirm').click()")
    await page.until("document.getElementById('enrolment-password').offsetHeight > 0")
    say = (
        "((form) => {{ form.elements.{field}.value = '{value}'; form.querySelector('button').click(); }})"
        "(document.getElementById('enrolment-form'))"
    )
    await page.evaluate(say.format(field="password", value="correct horse battery"))
    secret = await page.until("document.getElementById('enrolment-secret').textContent")
    code = totp.code(base64.b32decode(secret.replace(" ", "")), totp.step_at(time.time()))
    await page.evaluate(say.format(field="otp", value=code))
    await page.until(f"{VERDICT} === 'Passes every check' && !{SUBMIT}.disabled")
    assert page.complaints == []


async def test_a_trade_is_a_fill_and_a_position_with_its_profit(demo: Demo, page: Page) -> None:
    await open_orders(demo, page, "rosa")
    await enter(page, symbol="ETH-USD", order_type="MARKET", qty="1")
    await page.until(f"!{SUBMIT}.disabled")
    await page.evaluate(f"{SUBMIT}.click()")
    await page.until("document.querySelector('#fills tbody tr').cells[1].textContent === 'ETH-USD'")
    position = "[...document.querySelector('#positions tbody tr').cells].map((cell) => cell.textContent)"
    await page.until(f"{position}[2] === '1'")

    symbol, account, _, entry, mark, profit, _ = await page.evaluate(position)
    assert (symbol, account) == ("ETH-USD", "rosa")
    assert float(entry.replace(",", "")) > 0 and float(mark.replace(",", "")) > 0
    assert re.fullmatch(r"[+−]?[\d,]+\.\d\d", profit)
    await page.until("document.querySelector('#positions .balances').textContent.includes('USD')")
    assert page.complaints == []


async def test_who_may_not_trade_is_told_so_and_nothing_else(demo: Demo, page: Page) -> None:
    await open_orders(demo, page, "gus", "dashboard")
    await enter(page, symbol="BTC-USD", qty="1", price="100")

    await page.until(f"{VERDICT} === 'This account may look and not trade: that needs the role trader.'")
    assert await page.evaluate(f"{SUBMIT}.disabled && document.getElementById('halt-form').hidden")
    assert await page.evaluate("document.getElementById('notice').hidden")
    assert page.complaints == []


async def test_the_kill_switch_stops_an_account_says_who_did_it_and_lets_it_go_on(demo: Demo, page: Page) -> None:
    await open_orders(demo, page, "sven")
    async with trader(demo, "sven") as krin:
        await krin.orders.submit("BTC-USD", "BUY", "0.1", price=await price(page, 0.97))
        halt = (
            "(({elements}) => { elements.reason.value = 'fat finger'; })(document.getElementById('halt-form'));"
            "document.getElementById('halt-submit').click()"
        )
        await page.evaluate(halt)
        await page.until("document.getElementById('halt-submit').textContent === 'Stop account sven now'")
        assert (await krin.call("risk.state"))["states"] == []
        await page.evaluate("document.getElementById('halt-submit').click()")
        told = "document.querySelector('#switches li').innerText"
        await page.until(told)
        assert re.search(
            r"No orders for account sven.*fat finger · by sven · since", await page.evaluate(told), re.DOTALL
        )
        await page.until("document.getElementById('halt-outcome').textContent.endsWith('canceled: 1.')")
        await enter(page, symbol="BTC-USD", qty="0.1", price=await price(page, 0.97))
        await page.until(f"{VERDICT} === 'Would be refused: 1 reason' && {FAULTS}.includes('Trading is halted')")
        (order,) = await orders_of(krin)
        assert order.ord_status in ("PENDING_CANCEL", "CANCELED")
        await page.evaluate("document.querySelector('#switches li button').click()")
        await page.until("!document.querySelector('#switches li')")
        await page.until(f"{VERDICT} === 'Passes every check'")
        assert (await krin.call("risk.state"))["states"] == []
    assert page.complaints == []
