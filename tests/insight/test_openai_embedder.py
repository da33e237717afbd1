"""The real SDK against a local server: whatever it answers is a vector or one sentence, and never a long wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import date
from functools import partial
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from clock import ManualClock
from openai_server import OpenAIServer, cut_off, openai_server, page, refused, says_json, too_few, too_long, vectors

from hub.insight.calls.base import Prices
from hub.insight.calls.budget import Budget
from hub.insight.embedding.base import EmbedderUnavailable
from hub.insight.embedding.openai import MAX_TEXTS, OpenAIEmbedder
from storage.model_spending import Spent


class Purse:
    """What was taken, and never too much: a Spending of hub.insight.calls.budget."""

    def __init__(self, *, full: bool = True) -> None:
        self.full = full
        self.sum = Spent(0.0, 0)

    async def take(self, day: date, purpose: str, tenant: str, amount: Spent, *, limit: Spent) -> Spent | None:
        await self.settle(day, purpose, tenant, amount)
        return self.sum if self.full else None

    async def settle(self, day: date, purpose: str, tenant: str, difference: Spent) -> None:
        self.sum = Spent(self.sum.usd + difference.usd, self.sum.tokens + difference.tokens)

    async def sweep(self, today: date) -> None:
        """Nothing is kept."""


async def nobody_cares(purpose: str, tenant: str, share: float) -> None:
    """The limit here is a number of no meaning."""


@pytest_asyncio.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as made:
        yield made


def embedder(
    server: OpenAIServer,
    *,
    clock: ManualClock | None = None,
    model: str = "text-embedding-3-small",
    url: str | None = None,
    purse: Purse | None = None,
    needs_consent: bool = True,
) -> OpenAIEmbedder:
    clock = clock or ManualClock()
    budget = Budget(purse or Purse(), purpose="search", limit=Spent(1.0, 10**9), warn=nobody_cares, clock=clock)
    return OpenAIEmbedder(
        model,
        api_key="sk-test",
        base_url=url or server.url,
        needs_consent=needs_consent,
        prices=Prices(0.02),
        budget=budget,
        clock=clock,
    )


async def test_what_means_the_same_is_near(server: OpenAIServer) -> None:
    made = embedder(server)
    rows = await made.embed(["the fuse went off", "breaker opened", "german documentation"])
    await made.close()

    assert rows[0] @ rows[1] > made.related > made.unrelated > rows[0] @ rows[2]
    assert server.asked[0]["model"] == "text-embedding-3-small"
    assert server.asked[0]["dimensions"] == 1536


async def test_many_texts_are_several_requests_and_empty_ones_are_not_asked_about(server: OpenAIServer) -> None:
    made = embedder(server, model="local-mini")
    rows = await made.embed([*("word" for _ in range(MAX_TEXTS)), "", " ", "last"])
    await made.close()

    assert [len(each["input"]) for each in server.asked] == [MAX_TEXTS, 1]
    assert "dimensions" not in server.asked[0]
    assert [float(length) for length in np.linalg.norm(rows[-3:], axis=1)] == pytest.approx([0, 0, 1], abs=1e-5)


async def test_a_model_with_fewer_dimensions_is_filled_up(server: OpenAIServer) -> None:
    server.answer = partial(vectors, dimensions=384)
    made = embedder(server, model="local-mini")
    [row] = await made.embed(["breaker opened"])
    await made.close()

    assert row.shape == (1536,)
    assert (np.linalg.norm(row), np.abs(row[384:]).max()) == pytest.approx((1, 0), abs=1e-5)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (refused(500), "does not answer: InternalServerError"),
        (refused(429), "does not answer: RateLimitError"),
        (refused(401), "does not answer: AuthenticationError"),
        (cut_off, "gave an answer that is none"),
        (too_few, "gave an answer that is none"),
        (too_long, "gave an answer that is none"),
        (page, "gave an answer that is none"),
        (says_json(None), "gave an answer that is none"),
        (says_json({"data": None}), "gave an answer that is none"),
        (says_json({"data": [{"embedding": ["a"], "index": 0}]}), "gave an answer that is none"),
        (says_json({"data": [{"embedding": [1e400], "index": 0}]}), "gave an answer that is none"),
    ],
)
async def test_whatever_goes_wrong_is_one_sentence_without_a_secret(
    server: OpenAIServer, answer: Callable[[Any], Any], why: str
) -> None:
    server.answer = answer
    made = embedder(server)
    with pytest.raises(EmbedderUnavailable) as refusal:
        await made.embed(["x"])
    await made.close()

    assert str(refusal.value) == f"the model text-embedding-3-small {why}"


async def test_after_a_failure_nobody_is_asked_for_a_while_and_then_twice_as_long(server: OpenAIServer) -> None:
    clock = ManualClock()
    made = embedder(server, clock=clock)
    server.answer = refused(500)
    asked = []
    for pause_s in (0, 29, 2, 31, 30):
        clock.advance(pause_s)
        with pytest.raises(EmbedderUnavailable):
            await made.embed(["x"])
        asked.append(len(server.asked))
    server.answer = vectors
    clock.advance(120)
    await made.embed(["x"])
    server.answer = refused(500)
    with pytest.raises(EmbedderUnavailable):
        await made.embed(["x"])
    clock.advance(31)
    server.answer = vectors
    await made.embed(["x"])
    await made.close()

    assert asked == [1, 1, 2, 2, 3]


async def test_a_text_that_is_too_long_for_the_model_is_cut_and_holds_up_no_other(server: OpenAIServer) -> None:
    def short_only(body: dict[str, Any]) -> Any:
        return vectors(body) if max(map(len, body["input"])) <= 500 else refused(400)(body)

    server.answer = short_only
    made = embedder(server)
    rows = await made.embed(["breaker " * 400, "breaker opened"])
    server.answer = refused(400)
    with pytest.raises(EmbedderUnavailable, match="BadRequestError"):
        await made.embed(["x"])
    await made.close()

    assert [max(map(len, each["input"])) for each in server.asked] == [3200, 2000, 500, 1]
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1], abs=1e-5)


async def test_a_server_that_is_not_there_is_one_sentence(server: OpenAIServer) -> None:
    made = embedder(server, model="m", url="http://127.0.0.1:9/v1")
    with pytest.raises(EmbedderUnavailable, match="the model m does not answer: APIConnectionError"):
        await made.embed(["x"])
    await made.close()


async def test_who_gives_up_on_a_hanging_model_leaves_nothing_behind(server: OpenAIServer) -> None:
    server.hanging = asyncio.Event()
    made = embedder(server)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await made.embed(["x"])
    server.hanging.set()
    assert (await made.embed(["x"])).shape == (1, 1536)
    await made.close()


async def test_what_was_used_counts_and_without_a_budget_nobody_is_asked(server: OpenAIServer) -> None:
    purse = Purse()
    made = embedder(server, purse=purse)
    await made.embed(["the breaker opened at noon"])
    assert purse.sum == Spent(pytest.approx(0.02 / 1_000_000), 1), "as the server has counted"
    server.answer = refused(500)
    with pytest.raises(EmbedderUnavailable):
        await made.embed(["x"])
    assert purse.sum.tokens == 1, "what was not answered costs nothing"
    await made.close()

    broke = embedder(server, purse=Purse(full=False))
    asked = len(server.asked)
    with pytest.raises(EmbedderUnavailable, match="the day's budget for models is used"):
        await broke.embed(["x"])
    await broke.close()
    assert len(server.asked) == asked
