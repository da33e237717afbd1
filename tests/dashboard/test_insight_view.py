"""The view Insight in Chromium: search with jump to the moment, insights with evidence, errors, the weekly digest."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec

from protocol.insights import Insight, Observation
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.insights import ErrorGroups, InsightTable, StoredInsight

from .browser import Page
from .conftest import Demo, Feed, ServeHub

HIT = "document.querySelector('.hits li')"


def moment(place: str) -> str:
    """Lines of the history that is unfolded there: whether it is the one that is meant, and its text."""
    lines = f"[...{place}.querySelectorAll('.moment li')]"
    return f"{lines}.map((line) => [line.getAttribute('aria-current'), line.textContent])"


async def search(page: Page, query: str, where: str) -> None:
    await page.until(f"document.querySelector('#search option[value={json.dumps(where)}]')")
    fill = "(({{elements}}) => {{ elements.query.value = {query}; elements.where.value = {where}; }})"
    form = "document.querySelector('#search form')"
    await page.evaluate(f"{fill.format(query=json.dumps(query), where=json.dumps(where))}({form})")
    await page.evaluate(f"{form}.requestSubmit()")


async def test_a_search_finds_what_was_said_and_unfolds_the_moment_in_place(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    team, odd = f"team:{secrets.token_hex(4)}", secrets.token_hex(6)
    async with feed as agent:
        for number in range(1, 21):
            title = f"the migration {odd} is stuck" if number == 9 else f"step {number}"
            await agent.publish(team, "ALERT", {"alert_id": f"a-{number}", "severity": "INFO", "title": title})
        await agent.publish("alerts:ops", "ALERT", {"alert_id": "else", "severity": "INFO", "title": "elsewhere"})
    await page.open(f"{hub.url}/#insight&token={hub.token('ada')}")
    async with asyncio.timeout(20):
        found = 0
        while not found:  # documents are made a moment after a message
            await search(page, odd, "team")
            await page.until("/found/.test(document.querySelector('#search .said').textContent)")
            found = await page.evaluate("document.querySelectorAll('.hits li').length")

    assert await page.evaluate(f"{HIT}.querySelector('mark').textContent") == odd
    assert team in await page.evaluate(f"{HIT}.textContent")
    assert "lexical" in await page.evaluate("document.querySelector('#search .said').textContent")
    await page.evaluate(f"{HIT}.querySelector('button').click()")
    await page.until(f"{moment(HIT)}.length === 13")
    lines = await page.evaluate(moment(HIT))
    assert [text for current, text in lines if current] == [text for _, text in lines if odd in text]
    assert ["step 3" in lines[0][1], "step 15" in lines[-1][1]] == [True, True]
    assert await page.evaluate(f"{HIT}.querySelector('button').getAttribute('aria-expanded')") == "true"

    await search(page, "step", team)
    await page.until("/^[0-9]+ found/.test(document.querySelector('#search .said').textContent)")
    await search(page, odd, "alerts")
    await page.until("document.querySelector('#search .said').textContent.startsWith('Nothing of the ')")
    assert page.complaints == []


async def test_an_insight_shows_its_evidence_takes_a_verdict_and_can_be_taken_back(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    team, id, now_us = f"team:{secrets.token_hex(4)}", secrets.token_hex(6), time.time_ns() // 1000
    insight = Insight(
        insight_id=id,
        kind="RISK",
        subject=team,
        statement="ann waits for the migration",
        evidence=[Observation(ref="2", value="waiting")],
        confidence=0.7,
        severity="WARNING",
        action="ask bob",
        source="llm:oracle",
        generated_at=now_us,
    )
    row = f"[...document.querySelectorAll('.insights > li')].find((li) => li.textContent.includes('{team}'))"
    async with feed as agent, EmbeddedPostgres(hub.data_dir) as dsn, Database.open(dsn) as database:
        table = InsightTable(database)
        for word in ("working", "waiting", "waiting still"):
            await agent.publish(team, "ALERT", {"alert_id": word, "severity": "INFO", "title": word})
        stored = StoredInsight(
            id=id, subject=team, upto=3, insight=insight, made_us=now_us, expires_us=now_us + 3_600_000_000
        )
        await table.store(stored, authors=[])
        await agent.publish(f"insights:{team}", "INSIGHT", msgspec.to_builtins(insight))
        await page.open(f"{hub.url}/#insight&token={hub.token('ada')}")
        await page.until(row)
        text = await page.evaluate(f"{row}.innerText")
        for part in ("Warning", "Risk", "70% sure", "by a model (oracle)", "Suggested: ask bob"):
            assert part in text
        await page.evaluate(f"{row}.querySelector('.evidence button').click()")
        await page.until(f"{moment(row)}.length === 3")
        assert [bool(current) for current, _ in await page.evaluate(moment(row))] == [False, True, False]

        accept = f"[...{row}.querySelectorAll('button')].find((button) => button.textContent === 'Accept')"
        await page.evaluate(f"{accept}.click()")
        await page.until(f"{accept}.getAttribute('aria-pressed') === 'true'")
        [score] = await table.scores(team)
        assert (score.source, score.accepted) == ("llm:oracle", 1)

        await agent.call("insights.retract", insight_id=id, reason="bob was done before")
        await page.until(f"{row}.querySelector('.chip').textContent === 'Retracted'")
        assert "Taken back: bob was done before" in await page.evaluate(f"{row}.innerText")
    assert page.complaints == []


async def test_what_rules_notice_in_a_channel_is_asked_for_and_said(demo: Demo, page: Page) -> None:
    await page.open(f"{demo.url}/#insight&token={demo.token()}")
    await page.until("document.querySelector('#insights .said').textContent.startsWith('This hub has no model.')")
    await page.until("document.querySelector('#insights option[value=\"orders:desk\"]')")
    await page.evaluate(
        "(({elements}) => { elements.channel.value = 'orders:desk'; })(document.querySelector('#insights form'))"
    )
    await page.evaluate("document.querySelector('#insights form').requestSubmit()")

    await page.until("/^orders:desk: \\d+ by rules/.test(document.querySelector('#insights .said').textContent)")
    assert page.complaints == []


async def test_errors_of_the_hub_are_for_administrators_and_a_digest_for_its_team(
    hub: ServeHub, feed: AbstractAsyncContextManager[Feed], page: Page
) -> None:
    team, kind = f"team:{secrets.token_hex(4)}", f"Error{secrets.token_hex(4)}"
    digest: dict[str, Any] = {"week": "2024-W47", "since": 1, "until": 2, "knowledge": 3, "insights": 0}
    entry = {"kind": "knowledge", "type": "PERFORMANCE", "channel": team, "title": "Index the foreign keys", "at": 1}
    async with feed as agent, EmbeddedPostgres(hub.data_dir) as dsn, Database.open(dsn) as database:
        await agent.publish(team, "KNOWLEDGE_DIGEST", digest | {"entries": [entry]})
        groups = ErrorGroups(database)
        await groups.hear(kind, kind, ["hub.search:find"], 4, now_us=time.time_ns() // 1000)
    await page.open(f"{hub.url}/#insight&token={hub.token('ada')}")
    await page.until(f"document.getElementById('errors').textContent.includes('{kind} × 4')")
    await page.until(f"document.getElementById('digest').textContent.includes('{team}, 2024-W47: 3 learned')")
    assert "Index the foreign keys" in await page.evaluate("document.getElementById('digest').textContent")

    await page.command("Page.navigate", url="about:blank")
    await page.open(f"{hub.url}/#insight&token={hub.token('dan', 'dashboard')}")
    await page.until("document.getElementById('errors').innerText.includes('shown to administrators')")
    assert kind not in await page.evaluate("document.getElementById('errors').textContent")
    assert page.complaints == []
