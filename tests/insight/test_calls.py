"""The real SDK against a local server that speaks OpenAI's HTTP API: whatever it does is an answer or a reason."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from clock import ManualClock
from openai_server import OpenAIServer, no_json, openai_server, page, refused, says, says_json, says_nothing, will_not
from pydantic import BaseModel

from hub.insight.calls.base import CallRefused, Prices, Reply
from hub.insight.calls.breaker import COOLDOWN_S, IN_A_ROW
from hub.insight.calls.budget import Budget
from hub.insight.calls.openai import OpenAIModel
from hub.insight.calls.service import AT_ONCE, RETRY_S, Calls
from storage.database import Database
from storage.model_spending import ModelSpending, Spent

PRICES = Prices(input=1.0, output=10.0)


class Verdict(BaseModel):
    statement: str
    confidence: float


GOOD = says({"statement": "it holds", "confidence": 0.5})


class Scene:
    """`hub` is what a second node has of its own: another client of the same server and database."""

    def __init__(self, server: OpenAIServer, database: Database, *, limit: Spent = Spent(1.0, 100_000)) -> None:
        self.server = server
        self.clock = ManualClock()
        self.warned: list[tuple[str, str, int]] = []
        self.model = OpenAIModel("gpt-test", api_key="sk-secret", base_url=server.url)

        async def warn(purpose: str, tenant: str, share: float) -> None:
            self.warned.append((purpose, tenant, round(share * 100)))

        self.budget = Budget(ModelSpending(database), purpose="insights", limit=limit, warn=warn, clock=self.clock)
        self.calls = Calls(self.model, prices=PRICES, budget=self.budget, clock=self.clock)

    async def ask(self, text: str = "what is it?", *, tenant: str = "a", background: bool = False) -> Reply[Verdict]:
        return await self.calls.ask(
            instructions="Judge.", text=text, answer=Verdict, tenant=tenant, purpose="test", background=background
        )


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with openai_server() as server:
        made = Scene(server, database)
        yield made
        await made.model.close()


async def spent(database: Database) -> list[tuple[str, float, int]]:
    rows = await database.fetch("SELECT tenant, usd, tokens FROM model_spending ORDER BY tenant")
    return [(row[0], pytest.approx(row[1]), row[2]) for row in rows]


async def test_an_answer_is_of_the_type_that_was_asked_for_and_says_what_it_cost(
    scene: Scene, database: Database
) -> None:
    scene.server.reply = GOOD
    reply = await scene.ask()

    assert reply.value == Verdict(statement="it holds", confidence=0.5)
    assert (reply.model, reply.input_tokens, reply.output_tokens) == ("gpt-test", 100, 20)
    assert reply.cost_usd == pytest.approx((100 * 1 + 20 * 10) / 1e6)
    assert await spent(database) == [("a", (100 * 1 + 20 * 10) / 1e6, 120)]
    [asked] = scene.server.asked
    assert (asked["instructions"], asked["input"], asked["store"]) == ("Judge.", "what is it?", False)
    assert asked["text"]["format"]["type"] == "json_schema"
    assert asked["text"]["format"]["strict"] is True


@pytest.mark.parametrize(
    ("reply", "reason", "said"),
    [
        (refused(500), "unavailable", "does not answer: InternalServerError"),
        (refused(429), "unavailable", "does not answer: RateLimitError"),
        (refused(401), "unavailable", "does not answer: AuthenticationError"),
        (will_not, "refused", "will not answer this"),
        (says_nothing, "malformed", "gave an answer that is none"),
        (no_json, "malformed", "gave an answer that is none"),
        (page, "malformed", "gave an answer that is none"),
        (says_json(None), "malformed", "gave an answer that is none"),
        (says_json([]), "malformed", "gave an answer that is none"),
        (says_json({"output": [{"type": "message"}]}), "malformed", "gave an answer that is none"),
        (says("{"), "malformed", "gave an answer that is none"),
        (says({"statement": "no confidence"}), "malformed", "gave an answer that is none"),
    ],
)
async def test_whatever_goes_wrong_is_a_reason_and_a_sentence_without_a_secret(
    scene: Scene, reply: Callable[[dict[str, Any]], Any], reason: str, said: str
) -> None:
    scene.server.reply = reply
    with pytest.raises(CallRefused) as refusal:
        await scene.ask("my password is hunter2")

    assert (refusal.value.reason, str(refusal.value)) == (reason, f"the model gpt-test {said}")
    assert scene.calls.outcomes == {reason: 1}
    assert len(scene.server.asked) == 1, "nobody tries again while somebody waits"


def test_the_sdk_is_there_before_the_first_call() -> None:
    """In a process of its own: here it has been used."""
    made = "from hub.insight.calls.openai import OpenAIModel; OpenAIModel('m', api_key='k', base_url=None)"
    seen = "import sys; sys.exit('openai.resources.responses.responses' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", f"{made}; {seen}"], timeout=60).returncode == 0


async def test_without_a_model_nobody_is_asked(scene: Scene) -> None:
    calls = Calls(None, prices=PRICES, budget=scene.budget, clock=scene.clock)
    assert not calls.available
    with pytest.raises(CallRefused) as refusal:
        await calls.ask(instructions="", text="", answer=Verdict, tenant="a", purpose="test")
    assert refusal.value.reason == "no_model"


async def test_in_the_background_a_failure_is_tried_once_more(scene: Scene) -> None:
    scene.server.reply = refused(503)
    asking = asyncio.create_task(scene.ask(background=True))
    await scene.clock.until_somebody_sleeps()
    scene.server.reply = GOOD
    scene.clock.advance(RETRY_S)
    assert (await asking).value.statement == "it holds"
    assert len(scene.server.asked) == 2


async def test_who_does_not_answer_is_not_asked_and_after_a_while_by_one_alone(scene: Scene) -> None:
    scene.server.reply = refused(500)
    for _ in range(IN_A_ROW):
        with pytest.raises(CallRefused):
            await scene.ask()
    assert not scene.calls.available
    with pytest.raises(CallRefused) as refusal:
        await scene.ask()
    assert refusal.value.reason == "breaker_open"
    assert len(scene.server.asked) == IN_A_ROW

    scene.clock.advance(COOLDOWN_S[0])
    scene.server.reply, scene.server.hanging = GOOD, asyncio.Event()
    probe = asyncio.create_task(scene.ask())
    async with asyncio.timeout(10):
        while len(scene.server.asked) == IN_A_ROW:
            await asyncio.sleep(0.01)
    with pytest.raises(CallRefused, match="a moment ago"):
        await scene.ask()
    scene.server.hanging.set()
    assert (await probe).value.confidence == 0.5
    scene.server.hanging = None
    await scene.ask()
    assert (scene.calls.breaker, scene.calls.opened) == ("closed", 1)


async def test_a_model_that_hangs_costs_a_bounded_number_of_waiting_calls(scene: Scene) -> None:
    scene.calls = Calls(scene.model, prices=PRICES, budget=scene.budget, clock=scene.clock, timeout_s=0.3)
    scene.server.hanging = asyncio.Event()
    waiting = [asyncio.create_task(scene.ask()) for _ in range(AT_ONCE)]
    async with asyncio.timeout(10):
        while len(scene.server.asked) < AT_ONCE:
            await asyncio.sleep(0.01)
    with pytest.raises(CallRefused) as refusal:
        await scene.ask()
    assert refusal.value.reason == "busy"
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [each.reason for each in ended if isinstance(each, CallRefused)] == ["timeout"] * AT_ONCE
    with pytest.raises(CallRefused) as refusal:
        await scene.ask()
    assert refusal.value.reason == "timeout"
    assert not scene.calls.available, "five in a row: the breaker is open"


async def test_the_budget_is_checked_before_the_call_by_tenant_across_nodes_and_restarts(
    scene: Scene, database: Database
) -> None:
    limit = Spent(1.0, 2_500)  # an estimate takes some 1,050 tokens
    scene.server.reply = says({"statement": "s", "confidence": 1}, input_tokens=1_000, output_tokens=20)
    first, second = Scene(scene.server, database, limit=limit), Scene(scene.server, database, limit=limit)
    await first.ask()
    await second.ask()
    assert first.warned == []
    assert second.warned == [("insights", "a", 82)]
    for node in (first, second):
        with pytest.raises(CallRefused) as refusal:
            await node.ask()
        assert refusal.value.reason == "budget"
    assert len(scene.server.asked) == 2
    await first.ask(tenant="b")
    assert [(tenant, tokens) for tenant, _, tokens in await spent(database)] == [("a", 2_040), ("b", 1_020)]
    first.clock.advance(86_400)
    await first.ask()
    for node in (first, second):
        await node.model.close()


async def test_what_was_answered_by_nobody_costs_nothing_and_what_may_have_been_its_estimate(
    scene: Scene, database: Database
) -> None:
    scene.server.reply = refused(500)
    with pytest.raises(CallRefused):
        await scene.ask()
    assert await spent(database) == [("a", 0.0, 0)]
    scene.server.reply = will_not
    with pytest.raises(CallRefused):
        await scene.ask()
    [(_, usd, tokens)] = await spent(database)
    assert usd.expected > 0.009
    assert tokens > 1_000


async def test_an_attempt_that_nobody_answered_in_time_is_paid_beside_the_one_that_was(
    scene: Scene, database: Database
) -> None:
    scene.calls = Calls(scene.model, prices=PRICES, budget=scene.budget, clock=scene.clock, timeout_s=0.3)
    scene.server.reply = GOOD
    scene.server.hanging = asyncio.Event()
    asking = asyncio.create_task(scene.ask(background=True))
    await scene.clock.until_somebody_sleeps()
    scene.server.hanging.set()
    scene.clock.advance(RETRY_S)
    reply = await asking
    [(_, usd, tokens)] = await spent(database)

    assert reply.cost_usd < 0.001 < usd.expected
    assert tokens > 1_000 + reply.input_tokens + reply.output_tokens


async def test_twenty_nodes_at_once_do_not_spend_more_than_there_is(database: Database) -> None:
    spending, limit = ModelSpending(database), Spent(1.0, 1_000)
    clock = ManualClock()

    async def nobody(purpose: str, tenant: str, share: float) -> None:
        """Nobody is told."""

    budgets = [Budget(spending, purpose="x", limit=limit, warn=nobody, clock=clock) for _ in range(20)]
    ends = await asyncio.gather(*(each.reserve("a", Spent(0.1, 10)) for each in budgets), return_exceptions=True)
    assert sum(isinstance(each, CallRefused) for each in ends) == 10
    assert await spent(database) == [("a", 1.0, 100)]
