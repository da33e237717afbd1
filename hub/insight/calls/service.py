"""The only way to a language model: bounded in number, time and money, and shut while nobody answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from hub.clock import Clock
from hub.insight.calls.base import (
    MAX_OUTPUT_TOKENS,
    TIMEOUT_S,
    CallRefused,
    LanguageModel,
    Prices,
    Reason,
    Reply,
    Said,
    tokens_of,
)
from hub.insight.calls.breaker import Breaker, State
from hub.insight.calls.budget import Budget
from hub.observe.metrics import Histogram
from storage.model_spending import Spent

T = TypeVar("T")

AT_ONCE = 4
MAX_WAITING = 64  # in the background, for one of those
RETRY_S = 1.0
AGAIN: frozenset[Reason] = frozenset({"timeout", "unavailable"})
FAILURES: frozenset[Reason] = frozenset({"timeout", "unavailable", "malformed"})  # to refuse is to answer


class Calls:
    """`outcomes` counts calls by how they ended, `tokens` by direction, `cost_usd` by purpose."""

    def __init__(
        self,
        model: LanguageModel | None,
        *,
        prices: Prices,
        budget: Budget,
        clock: Clock,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """model: None when none is configured."""
        self._model = model
        self._prices = prices
        self._budget = budget
        self._clock = clock
        self._timeout_s = timeout_s
        self._breaker = Breaker()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self.latency_ms = Histogram()
        self.outcomes: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.cost_usd: dict[str, float] = {}

    @property
    def available(self) -> bool:
        """Whether it is worth while to ask."""
        return self._model is not None and self.breaker != "open"

    @property
    def breaker(self) -> State:
        return self._breaker.state(self._clock.monotonic())

    @property
    def opened(self) -> int:
        """How often the breaker opened."""
        return self._breaker.opened

    async def ask(
        self, *, instructions: str, text: str, answer: type[T], tenant: str, purpose: str, background: bool = False
    ) -> Reply[T]:
        """What the model says to `text`, as a pydantic model of the type `answer`.

        In the background a call waits for its turn, and is made once more if nobody answered. Raises CallRefused.
        """
        began = self._clock.monotonic()
        try:
            if self._model is None:
                raise CallRefused("no_model", "no language model is configured")
            async with self._slot(background):
                said, cost_usd = await self._insisted(
                    self._model, instructions, text, answer, tenant, purpose, attempts=2 if background else 1
                )
        except CallRefused as refusal:
            self.outcomes[refusal.reason] += 1
            raise
        latency_ms = (self._clock.monotonic() - began) * 1000
        self.outcomes["answered"] += 1
        self.latency_ms.observe(latency_ms)
        self.tokens["input"] += said.input_tokens
        self.tokens["output"] += said.output_tokens
        return Reply(said.value, self._model.name, cost_usd, said.input_tokens, said.output_tokens, latency_ms)

    @asynccontextmanager
    async def _slot(self, background: bool) -> AsyncIterator[None]:
        full = self._waiting >= MAX_WAITING if background else self._slots.locked()
        if full:
            raise CallRefused("busy", "as many calls of the model as may be are under way")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def _insisted(
        self,
        model: LanguageModel,
        instructions: str,
        text: str,
        answer: type[T],
        tenant: str,
        purpose: str,
        *,
        attempts: int,
    ) -> tuple[Said[T], float]:
        """Each attempt is paid for by itself: a server that did not answer in time may have done the work."""
        while True:
            attempts -= 1
            try:
                return await self._paid(model, instructions, text, answer, tenant, purpose)
            except CallRefused as refusal:
                if not attempts or refusal.reason not in AGAIN:
                    raise
            await self._clock.sleep(RETRY_S)

    async def _paid(
        self, model: LanguageModel, instructions: str, text: str, answer: type[T], tenant: str, purpose: str
    ) -> tuple[Said[T], float]:
        """What it says, and what that cost, US dollars.

        The estimate is taken before. It stays when nobody can say what an answer cost, or whether there was one.
        """
        if self.breaker == "open":
            raise _shut(model)
        estimate = tokens_of(instructions, text)
        most = Spent(self._prices.of(estimate, MAX_OUTPUT_TOKENS), estimate + MAX_OUTPUT_TOKENS)
        reservation = await self._budget.reserve(tenant, most)
        used = most
        try:
            said = await self._tried(model, instructions, text, answer)
            used = Spent(self._prices.of(said.input_tokens, said.output_tokens), said.input_tokens + said.output_tokens)
        except CallRefused as refusal:
            if refusal.reason in ("unavailable", "breaker_open"):
                used = Spent(0.0, 0)
            raise
        finally:
            self.cost_usd[purpose] = self.cost_usd.get(purpose, 0.0) + used.usd
            if used != most:
                await self._budget.settle(reservation, used)
        return said, used.usd

    async def _tried(self, model: LanguageModel, instructions: str, text: str, answer: type[T]) -> Said[T]:
        if not self._breaker.admit(self._clock.monotonic()):
            raise _shut(model)
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await model.say(instructions=instructions, text=text, answer=answer)
        except TimeoutError:
            refusal = CallRefused("timeout", f"the model {model.name} did not answer within {self._timeout_s:g} s")
        except CallRefused as failure:
            refusal = failure
        except BaseException:
            self._breaker.abandoned()
            raise
        else:
            self._breaker.succeeded(self._clock.monotonic())
            return said
        if refusal.reason in FAILURES:
            self._breaker.failed(self._clock.monotonic())
        else:
            self._breaker.succeeded(self._clock.monotonic())
        raise refusal


def _shut(model: LanguageModel) -> CallRefused:
    return CallRefused("breaker_open", f"the model {model.name} did not answer a moment ago")
