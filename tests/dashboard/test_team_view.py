"""The view Team in Chromium: against a running demo, and against a hub where a test says what happens."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from hub.client import Client

from .browser import Page
from .conftest import LIVE, Demo, ServeHub, sign_in

MINUTE_US = 60_000_000
TEXT = "document.getElementById('{id}').innerText"


def text(id: str) -> str:
    return TEXT.format(id=id)


def button(panel: str, label: str, about: str) -> str:
    """The visible button of that name in the row that speaks of something."""
    rows = f"[...document.querySelectorAll('#{panel} li')].find((row) => row.innerText.includes({json.dumps(about)}))"
    return (
        f"[...({rows}?.querySelectorAll('button') ?? [])]"
        f".find((each) => each.innerText === {json.dumps(label)} && each.offsetHeight > 0)"
    )


class Team:
    """A project of its own on the session's hub, with a lead, an agent and tasks."""

    def __init__(self, hub: ServeHub, lead: Client) -> None:
        self.hub = hub
        self.lead = lead
        self.name = f"team-{uuid4().hex[:8]}"
        self.agent = f"ann-{self.name}"

    async def begin(self, *tasks: dict[str, Any], **fields: Any) -> dict[str, Any]:
        project = {"project_id": self.name, "tasks": list(tasks), **fields}
        await self.lead.call("projects.create", project=project)
        await self.enter(self.agent)
        return await self.claim(tasks[0]["task_id"])

    async def enter(self, name: str, client: Client | None = None, **fields: Any) -> None:
        specialist = {"specialist_id": name, "team": self.name, "skills": [{"id": "py"}], "heartbeat_s": 300, **fields}
        await (client or self.lead).call("agents.register", specialist=specialist)

    async def claim(self, task_id: str) -> dict[str, Any]:
        named = {"project_id": self.name, "task_id": task_id, "specialist_id": self.agent}
        claimed = await self.lead.call("tasks.claim", **named)
        return named | {"fence": claimed["fence"]}

    async def ask(self, claim: dict[str, Any], message: str, **fields: Any) -> str:
        question = {"reason": "CONFIRMATION", "message": message, "approver_roles": ["dashboard"]}
        question |= {"expires_at": round(time.time() * 1e6) + MINUTE_US, **fields}
        asked = await self.lead.call("tasks.request_input", **claim, **question)
        return str(asked["approval_id"])

    async def task(self, task_id: str) -> Any:
        return await self.lead.call("tasks.get", project_id=self.name, task_id=task_id)

    def address(self, user: str = "ada", view: str = "board") -> str:
        return f"{self.hub.url}/#team/{view}/{self.name}&token={self.hub.token(user, 'dashboard', 'agent')}"


@pytest_asyncio.fixture
async def team(hub: ServeHub) -> AsyncIterator[Team]:
    async with Client(hub.url, token=hub.token("lead", "agent", "dashboard"), name="lead") as lead:
        yield Team(hub, lead)


# --- the demo ---


async def test_a_new_user_of_the_demo_finds_something_to_answer_somebody_blocked_an_offer_and_a_budget(
    demo: Demo, page: Page
) -> None:
    await page.open(f"{demo.url}/#team")
    await page.until(f"{LIVE} && !document.getElementById('simulated').hidden")
    await page.until(button("approvals", "Approve", "Scan staging now?"))
    await page.until(button("handoffs", "Accept", "quant-1 → assistant-1 · yours"))
    await page.until("document.querySelector('#team li .chip[data-tone=warn]')?.innerText === 'Waiting human'")
    await page.until(f"{text('team')}.includes('waits for resource market-data licence')")
    await page.until(f"{text('budget')}.includes('limit $60')")
    names = "[...document.querySelectorAll('#team li')].map((row) => row.querySelector('strong').innerText)"
    assert (await page.evaluate(names))[:2] == ["security-1", "frontend-1"], "a person is waited for, then others"

    await page.evaluate(f"{button('handoffs', 'Accept', 'yours')}.click()")
    await page.until("!document.querySelector('#handoffs li')")
    await page.evaluate(f"{button('approvals', 'Approve', 'Scan')}.click()")
    await page.until("document.querySelector('.decided').innerText.includes('Approved by you')")
    await page.until(f"!{button('approvals', 'Approve', 'Scan')}")
    assert page.complaints == []


async def test_the_graph_shows_what_comes_after_what_and_the_critical_path_by_more_than_colour(
    demo: Demo, page: Page
) -> None:
    await page.open(f"{demo.url}/#team/graph")
    critical = "[...document.querySelectorAll('.graph a.critical')]"
    await page.until(f"{critical}.length > 1 && document.querySelector('.graph path.critical')")
    assert await page.evaluate(f"{critical}.every((node) => node.querySelector('strong').innerText.startsWith('◆'))")
    assert await page.evaluate("document.querySelector('#tasks .note').innerText.startsWith('◆ and thick lines')")
    wide = "getComputedStyle(document.querySelector('.graph path.critical')).strokeWidth"
    assert await page.evaluate(wide) == "3px"
    await page.command("Page.reload")
    await page.until("document.querySelectorAll('.graph a').length >= 12")
    assert await page.evaluate("location.hash") == "#team/graph"
    assert page.complaints == []


@pytest.mark.parametrize("view", ["board", "graph"])
async def test_it_fits_a_phone(demo: Demo, page: Page, view: str) -> None:
    await page.open(f"{demo.url}/#team/{view}", width=360)
    await page.until(f"document.querySelector('.{'card' if view == 'board' else 'graph a'}')")
    await page.until("document.querySelectorAll('#team li').length >= 7")
    assert await page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_consent_of_somebody_with_a_password_alone_begins_with_a_second_factor(demo: Demo, page: Page) -> None:
    demo.add_user("nell", "correct horse battery")
    async with Client(demo.url, token=demo.token("asker", "agent")) as asker:
        expires_at = round(time.time() * 1e6) + 10 * MINUTE_US
        wanted = {"approver_roles": ["dashboard"], "expires_at": expires_at}
        await page.open(f"{demo.url}/#team")
        await sign_in(page, "nell", "correct horse battery")
        await asker.call("approvals.request", subject="More disk?", **wanted)
        await page.until(button("approvals", "Approve", "More disk?"))
        await page.evaluate(f"{button('approvals', 'Approve', 'More disk?')}.click()")
        await page.until("document.getElementById('enrolment').open")
        await page.evaluate("document.getElementById('enrolment-close').click()")
        await page.until(f"{text('approvals')}.includes('not confirmed')")
        await page.evaluate(f"{button('approvals', 'Refuse', 'More disk?')}.click()")  # nothing keeps anybody from that
        await page.until("document.querySelector('.decided').innerText.includes('Declined by you')")


# --- a hub of the test's ---


async def test_a_refusal_says_why_and_whoever_asked_can_read_it(team: Team, page: Page) -> None:
    claim = await team.begin({"task_id": "t-1", "title": "The door"})
    await team.ask(claim, "Paint it red?")
    await page.open(team.address())
    await page.until(button("approvals", "Refuse", "Paint it red?"))
    row = "[...document.querySelectorAll('#approvals li')].find((each) => each.innerText.includes('Paint it red?'))"
    shown = await page.evaluate(f"{row}.innerText")
    assert "Confirmation" in shown and "s left" in shown and "lead asked" in shown and "about “The door”" in shown
    await page.until("document.querySelector('.card .chip').innerText.startsWith('Asks a person · ')")
    await page.evaluate(f"{row}.querySelector('.answer input').value = 'blue is better'")
    await page.evaluate(f"{button('approvals', 'Refuse', 'Paint it red?')}.click()")
    await page.until(f"{text('approvals')}.includes('Declined by you')")
    answer = (await team.task("t-1"))["answer"]
    assert (answer["decision"], answer["payload"]) == ("DECLINED", {"reason": "blue is better"})
    assert page.complaints == []


async def test_what_somebody_else_has_answered_meanwhile_is_said(team: Team, page: Page) -> None:
    claim = await team.begin({"task_id": "t-1"})
    approval_id = await team.ask(claim, f"Go ahead in {team.name}?")
    await page.open(team.address())
    await page.until(button("approvals", "Approve", team.name))
    async with Client(team.hub.url, token=team.hub.token("otto", "dashboard")) as otto:
        await otto.call("approvals.resolve", approval_id=approval_id, decision="APPROVED")
    await page.until(f"{text('approvals')}.includes('Approved by otto')")
    assert not await page.evaluate(f"Boolean({button('approvals', 'Approve', team.name)})")


async def test_an_answer_of_two_that_are_needed_and_with_what_is_asked_for(team: Team, page: Page) -> None:
    claim = await team.begin({"task_id": "t-1"})
    schema = {"type": "object", "properties": {"port": {"type": "integer"}, "mode": {"enum": ["fast", "safe"]}}}
    schema["required"] = ["port"]
    await team.ask(claim, f"Where in {team.name}?", response_schema=schema, quorum=2)
    await page.open(team.address())
    await page.until(button("approvals", "Approve", team.name))
    row = f"[...document.querySelectorAll('#approvals li')].find((each) => each.innerText.includes('{team.name}'))"
    await page.evaluate(f"{button('approvals', 'Approve', team.name)}.click()")
    await page.until(f"{row}.querySelector('[role=alert]').innerText")  # the hub says what is missing
    await page.evaluate(f"{row}.querySelector('[data-name=port]').value = '8080'")
    await page.evaluate(f"{button('approvals', 'Approve', team.name)}.click()")
    await page.until(f"{row}.innerText.includes('1 of 2 agree') && {row}.innerText.includes('you have answered')")
    async with Client(team.hub.url, token=team.hub.token("otto", "dashboard")) as otto:
        [asked] = [each for each in (await otto.call("approvals.list"))["approvals"] if team.name in each["subject"]]
        payload = {"port": 8080, "mode": "fast"}
        await otto.call("approvals.resolve", approval_id=asked["approval_id"], decision="APPROVED", payload=payload)
    assert (await team.task("t-1"))["answer"]["payload"] == payload


async def test_a_task_on_offer_is_accepted_by_ones_own_specialist_and_by_nobody_elses(team: Team, page: Page) -> None:
    claim = await team.begin({"task_id": "t-1", "title": "The door", "required_skills": ["py"]})
    own = f"bob-{team.name}"
    offer = {"to_skill": "py", "reason": "lunch", "expires_at": round(time.time() * 1e6) + MINUTE_US}
    async with Client(team.hub.url, token=team.hub.token("ada", "agent")) as ada:
        await team.enter(own, ada)
        await team.lead.call("handoffs.offer", **claim, **offer)
        await page.open(team.address("eve"))
        about = f"{team.agent} → whoever can do py"
        await page.until(f"{text('handoffs')}.includes({json.dumps(about)}) && {text('handoffs')}.includes('lunch')")
        assert not await page.evaluate(f"Boolean({button('handoffs', 'Accept', about)})")
        await page.open("about:blank")
        await page.open(team.address("ada"))
        await page.until(button("handoffs", "Accept", f"yours: {own}"))
        await page.evaluate(f"{button('handoffs', 'Accept', about)}.click()")
        await page.until(f"!{text('handoffs')}.includes({json.dumps(about)})")
    assert (await team.task("t-1"))["task"]["specialist_id"] == own


async def test_a_task_is_told_in_detail_and_its_address_opens_it(team: Team, page: Page) -> None:
    tasks = [
        {
            "task_id": "t/1",
            "title": "The door",
            "effort_h": 2,
            "required_skills": ["py"],
            "gates": [{"gate_id": "tests", "kind": "HUMAN_REVIEW"}],
        }
    ]
    claim = await team.begin(*tasks, {"task_id": "t-2", "depends_on": ["t/1"]})
    await team.lead.call("tasks.progress", **claim, progress=0.5, message="hinges are in")
    await page.open(team.address())
    await page.until("document.querySelectorAll('.card').length === 2")
    await page.evaluate("document.querySelectorAll('.card')[1].click()")
    await page.until("document.getElementById('task').open")
    assert await page.evaluate("location.hash") == f"#team/board/{team.name}/t%2F1"
    facts = "Object.fromEntries([...document.querySelectorAll('#task dl div')].map((row) => [...row.children].map((each) => each.innerText)))"
    await page.until(f"{facts}.Gates")
    shown = await page.evaluate(facts)
    assert (shown["Holder"], shown["Progress"], shown["Estimate"]) == (team.agent, "50 %", "2h 00m of work")
    assert shown["Gates"] == "tests: Pending (human review)"
    events = "[...document.querySelectorAll('#task li')].map((row) => row.innerText)"
    await page.until(f"{events}.length >= 3")
    told = await page.evaluate(events)
    assert "Submitted" in told[0] and told[-1].endswith(f"Working · {team.agent} · hinges are in")

    await team.lead.call("tasks.submit", **claim, artifacts=[{"name": "door", "ref": "c0ffee"}])
    await page.until(f"{facts}.Artifacts === 'door c0ffee'")
    await page.until("document.querySelector('#task .chip').innerText.startsWith('In review, for ')")
    await page.command("Page.reload")
    await page.until("document.querySelector('#task h2').innerText === 'The door'")
    await page.evaluate("document.querySelector('#task button').click()")
    await page.until(f"location.hash === '#team/board/{team.name}'")
    assert page.complaints == []


async def test_specialists_that_need_somebody_stand_first_and_say_for_how_long(team: Team, page: Page) -> None:
    claim = await team.begin({"task_id": "t-1", "title": "The door"}, {"task_id": "t-2", "title": "The key"})
    await team.lead.call("tasks.block", **claim, blockers=[{"kind": "task", "ref": "t-2"}])
    await page.open(team.address())
    row = f"[...document.querySelectorAll('#team li')].find((each) => each.innerText.startsWith('{team.agent}'))"
    await page.until(f"{row}.innerText.includes('waits for “The key”')")
    assert await page.evaluate(f"[...{row}.querySelectorAll('.chip')].map((chip) => [chip.title, chip.innerText])") == [
        ["presence", "Online"],
        ["activity", "Blocked"],
        ["health", "Healthy"],
    ]
    assert (await page.evaluate(f"{row}.querySelector('.when').innerText")).startswith("for ")
    await page.until(f"{text('steps')}.includes('The door ← The key')")


async def test_a_budget_is_told_in_words_beside_its_bar(team: Team, page: Page) -> None:
    await team.begin({"task_id": "t-1"}, budget_usd="2", budget_tokens=1000)
    reserve = {"project_id": team.name, "specialist_id": team.agent}
    await team.lead.call("budgets.reserve", **reserve, reservation_id="r-1", usd="1.5", tokens=100)
    await team.lead.call("budgets.settle", **reserve, reservation_id="r-1", usd="1.2", tokens=100)
    await team.lead.call("budgets.reserve", **reserve, reservation_id="r-2", usd="0.5", tokens=50)
    await page.open(team.address())
    await page.until(f"{text('budget')}.includes('85 % used')")
    assert "$1.20 spent · $0.50 reserved · limit $2 · 150 of 1,000 tokens" in await page.evaluate(text("budget"))
    bars = (
        "['spent', 'reserved'].map((name) => Number(document.querySelector(`#budget .${name}`).getAttribute('width')))"
    )
    assert await page.evaluate(f"{bars}.map(Math.round)") == [60, 25]


async def test_of_many_tasks_some_are_drawn_and_it_is_said_which(team: Team, page: Page) -> None:
    await team.begin({"task_id": "t-0"}, *({"task_id": f"t-{n}", "depends_on": ["t-0"]} for n in range(1, 400)))
    await page.open(team.address(view="graph"))
    await page.until("document.querySelectorAll('.graph a').length === 300")
    note = await page.evaluate("document.querySelector('#tasks .note').innerText")
    assert "100 more tasks are not shown: at most 300 are, those that are not finished first" in note
