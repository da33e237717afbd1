"""The view Operate in Chromium, against a running demo."""

from __future__ import annotations

import base64
import time

from hub.auth import totp

from .browser import Page
from .conftest import LIVE, Demo, enrol, sign_in

TILES = "Object.fromEntries([...document.querySelectorAll('.tiles > div')].map(({children}) => [children[0].textContent, children[1].textContent]))"
PASSWORD = "correct horse battery"
ENTER = (
    "((form) => {{ form.elements.{field}.value = '{value}'; form.querySelector('button').click(); }})"
    "(document.getElementById('{form}'))"
)
ASK_IN_A_BARE_PAGE = """(async () => {{
  const [{{ Session }}, {{ StepUp }}] = await Promise.all([import("/static/session.js"), import("/static/step_up.js")]);
  const board = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  document.body.append(document.adoptNode(board.getElementById("step-up")));
  window.session = new Session();
  await session.signIn("lea", "{password}", "{code}");
  const asked = new StepUp(session, null, async () => {{ window.refreshed = true; }}).ask();
  asked.then(() => (window.outcome = "proven"), (failure) => (window.outcome = failure.message));
}})()"""


def row(panel: str) -> str:
    return f"[...document.querySelectorAll('#{panel} tbody tr')[0].cells].map((cell) => cell.textContent)"


async def test_an_administrator_sees_how_the_hub_is_doing(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#operate&token={demo.token()}")
    await page.until(f"{TILES}.Clients >= 1 && parseFloat({TILES}.In) > 0 && parseFloat({TILES}.Out) > 0")
    await page.until(f"{TILES}['Latency p99'].endsWith(' ms')")
    node = await page.evaluate("document.getElementById('node').textContent")
    await page.until(f"{row('hub')}[1] === 'Ok'")
    shown = await page.evaluate(row("hub"))
    assert (shown[0], shown[10], shown[11]) == (node, "Up", "None")
    assert await page.evaluate("document.querySelector('.spark polyline').getAttribute('points').split(' ').length") > 1
    await page.until("document.querySelectorAll('#objectives li').length === 3")
    assert await page.evaluate("document.querySelector('#objectives .chip').textContent") == "Held"
    assert "the budget left, burns at" in await page.evaluate("document.querySelector('#objectives li').textContent")

    await page.until(f"{row('clients')}[0] === 'ada · dashboard'")
    assert (await page.evaluate(row("clients")))[1] == "Keeps up"
    assert page.complaints == []


async def test_the_audit_log_is_verified_at_the_press_of_a_button(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#operate&token={demo.token()}")
    await page.until("!document.querySelector('#audit .verify').hidden")
    await page.evaluate("document.querySelector('#audit .verify').click()")
    await page.until("document.querySelector('#audit .verdict').textContent === 'Verified'")

    said = await page.evaluate("document.querySelector('#audit .detail').textContent")
    assert "as they were written" in said
    assert not await page.evaluate("document.querySelector('#audit .verify').disabled")


async def test_somebody_else_sees_the_figures_and_is_told_once_what_is_for_administrators(
    demo: Demo, page: Page
) -> None:
    asked = "performance.getEntriesByType('resource').length"
    await page.open(f"{demo.url}/#operate&token={demo.token('guest', 'dashboard')}")
    await page.until(f"{TILES}.Clients >= 1 && document.querySelectorAll('#objectives li').length === 3")

    for panel in ("clients", "audit"):
        assert "administrators" in await page.evaluate(f"document.querySelector('#{panel} .refused').innerText")
    assert await page.evaluate("document.querySelector('#audit .verify').hidden")
    assert await page.evaluate(asked) > 0
    assert page.complaints == []


async def test_an_administrator_with_a_password_alone_gets_a_second_factor_in_place(demo: Demo, page: Page) -> None:
    demo.add_user("judy", PASSWORD, "admin")
    await page.open(f"{demo.url}/#operate")
    await sign_in(page, "judy", PASSWORD)
    prove = "document.querySelector('#clients .prove')"
    await page.until(f"{LIVE} && {prove}.offsetHeight > 0")
    assert "second factor" in await page.evaluate("document.querySelector('#clients .refused').textContent")
    await page.evaluate(f"{prove}.click()")
    await page.until("document.getElementById('enrolment-password').offsetHeight > 0")
    await page.evaluate(ENTER.format(form="enrolment-form", field="password", value=PASSWORD))
    await page.until("document.getElementById('enrolment-qr').naturalWidth > 0")
    secret = base64.b32decode(
        (await page.evaluate("document.getElementById('enrolment-secret').textContent")).replace(" ", "")
    )
    otp = totp.code(secret, totp.step_at(time.time()))
    await page.evaluate(ENTER.format(form="enrolment-form", field="otp", value=otp))
    await page.until("document.querySelectorAll('#recovery-codes li').length === 10")
    await page.evaluate("document.getElementById('enrolment-close').click()")

    await page.until("document.querySelectorAll('#clients tbody tr').length >= 1")
    assert await page.evaluate(f"{prove}.hidden")
    await page.evaluate("document.querySelector('#audit .verify').click()")
    await page.until("document.querySelector('#audit .verdict').textContent === 'Verified'")


async def test_whoever_does_not_want_a_second_factor_is_left_alone(demo: Demo, page: Page) -> None:
    demo.add_user("kim", PASSWORD, "admin")
    await page.open(f"{demo.url}/#operate")
    await sign_in(page, "kim", PASSWORD)
    prove = "document.querySelector('#clients .prove')"
    await page.until(f"{LIVE} && {prove}.offsetHeight > 0")
    await page.evaluate(f"{prove}.click()")
    await page.until("document.getElementById('enrolment-password').offsetHeight > 0")
    await page.evaluate("document.getElementById('enrolment-close').click()")
    await page.until("document.querySelector('#clients .refused').textContent === 'not confirmed'")

    assert await page.evaluate(f"{prove}.offsetHeight") > 0


async def test_a_code_raises_the_session_where_the_proof_is_too_old(demo: Demo, page: Page) -> None:
    demo.add_user("lea", PASSWORD, "admin")
    first, second = (await enrol(demo.url, "lea", PASSWORD))[:2]
    await page.open(f"{demo.url}/docs")
    await page.until("document.getElementById('rest')")
    await page.evaluate(ASK_IN_A_BARE_PAGE.format(password=PASSWORD, code=first))
    await page.until("document.getElementById('step-up').open")
    await page.evaluate(ENTER.format(form="step-up-form", field="code", value="000000"))
    await page.until("document.getElementById('step-up-error').textContent.includes('code is not valid')")
    assert await page.evaluate("document.getElementById('step-up-form').elements.code.value") == ""
    await page.evaluate(ENTER.format(form="step-up-form", field="code", value=second))
    await page.until("window.outcome === 'proven'")

    assert not await page.evaluate("document.getElementById('step-up').open")
    assert await page.evaluate("window.refreshed")
    assert await page.evaluate("window.session.get('v1/auth/mfa').then(({enabled}) => enabled)")  # signed in still
