"""Vectors from OpenAI, or from any server that speaks its API, such as an operator's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from openai import APIStatusError, APITimeoutError, AsyncOpenAI, OpenAIError, omit

from hub.clock import Clock
from hub.insight.calls.base import TIMEOUT_S, CallRefused, Prices, tokens_of
from hub.insight.calls.breaker import Breaker
from hub.insight.calls.budget import Budget
from hub.insight.embedding.base import EmbedderUnavailable, Kind, Vectors, normalised
from storage.model_spending import Spent
from storage.vectors import DIMENSIONS

MAX_TEXTS = 64  # in one request: at most half of the 300,000 tokens that OpenAI takes
REFUSED = (400, 413, 422)  # HTTP statuses of a text that is too long, which says nothing against the server
CUTS = (2_000, 500, 120)  # characters that are tried instead: of 512 tokens, whatever the script


class OpenAIEmbedder:
    """Longer vectors are asked for at `DIMENSIONS`, shorter ones filled up with zeros."""

    kind: Kind = "semantic"
    unrelated = 0.2
    related = 0.45

    def __init__(
        self,
        model: str,
        *,
        api_key: str | None,
        base_url: str | None,
        needs_consent: bool,
        prices: Prices,
        budget: Budget,
        clock: Clock,
    ) -> None:
        self.name = model
        self.needs_consent = needs_consent
        self._prices = prices
        self._budget = budget
        self._clock = clock
        self._breaker = Breaker(in_a_row=1)  # what is behind it comes again and again by itself
        # The SDK would wait ten minutes and try three times: whoever calls decides whether to try again.
        client = AsyncOpenAI(api_key=api_key or "none", base_url=base_url, timeout=TIMEOUT_S, max_retries=0)
        self._embeddings = client.embeddings  # imported when first used, which would hold up messages
        self._client = client

    async def embed(self, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), DIMENSIONS), np.float32)
        saying = [place for place, text in enumerate(texts) if text.strip()]  # the API refuses the rest
        for start in range(0, len(saying), MAX_TEXTS):
            places = saying[start : start + MAX_TEXTS]
            rows[places] = await self._ask([texts[place] for place in places])
        return rows

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, texts: list[str]) -> Vectors:
        tokens = tokens_of(*texts)
        most = Spent(self._prices.of(tokens, 0), tokens)
        try:
            reservation = await self._budget.reserve("", most)  # the hub's own: documents are of all tenants
        except CallRefused as refusal:
            raise EmbedderUnavailable(str(refusal)) from None
        used = most  # unless it is known: who was asked and has not answered may have done the work
        try:
            vectors, tokens = await self._answered(texts)
            used = Spent(self._prices.of(tokens, 0), tokens)
        except EmbedderUnavailable as failure:
            if not isinstance(failure.__cause__, APITimeoutError):
                used = Spent(0.0, 0)
            raise
        finally:
            if used != most:
                await self._budget.settle(reservation, used)
        return vectors

    async def _answered(self, texts: list[str]) -> tuple[Vectors, int]:
        if not self._breaker.admit(self._clock.monotonic()):
            raise EmbedderUnavailable(f"the model {self.name} did not answer a moment ago")
        try:
            answer = await self._shortened(texts)
        except OpenAIError as failure:
            why = f"the model {self.name} does not answer: {type(failure).__name__}"
            raise self._unavailable(why) from failure
        except Exception as failure:  # no JSON, or not what was asked for: the SDK hands out whatever came
            raise self._unavailable(f"the model {self.name} gave an answer that is none") from failure
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded(self._clock.monotonic())
        return answer

    async def _shortened(self, texts: list[str]) -> tuple[Vectors, int]:
        """A text that is too long for the model is not asked about for ever, nor are those that come with it."""
        for most in CUTS:
            shorter = [text[:most] for text in texts]
            if shorter == texts:
                continue
            try:
                return await self._vectors(texts)
            except APIStatusError as refusal:
                if refusal.status_code not in REFUSED:
                    raise
            texts = shorter
        return await self._vectors(texts)

    async def _vectors(self, texts: list[str]) -> tuple[Vectors, int]:
        """And the tokens that they have cost."""
        dimensions = DIMENSIONS if self.name.startswith("text-embedding-3") else omit
        answer = await self._embeddings.create(model=self.name, input=texts, dimensions=dimensions)
        if len(answer.data) != len(texts):
            raise ValueError(f"{len(answer.data)} vectors for {len(texts)} texts")
        rows = normalised(np.array([each.embedding for each in sorted(answer.data, key=lambda each: each.index)]))
        return rows, int(getattr(answer.usage, "total_tokens", None) or 0)  # not every server says

    def _unavailable(self, why: str) -> EmbedderUnavailable:
        self._breaker.failed(self._clock.monotonic())
        return EmbedderUnavailable(why)
