"""What a call of a language model is, and the ways it ends without an answer."""

from __future__ import annotations

from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

T = TypeVar("T")

TIMEOUT_S = 8.0
MAX_OUTPUT_TOKENS = 1_000

Reason = Literal["no_model", "breaker_open", "budget", "busy", "timeout", "refused", "malformed", "unavailable"]
"""no_model: none is configured. breaker_open: it failed a moment ago and is not asked. budget: the day's money or
tokens are used. busy: as many calls as may be are under way. refused: the model will not say. malformed: it said
something that is no answer. unavailable: the server is not there, or says no."""


class CallRefused(Exception):
    """No answer, and why; one sentence without secrets and without a word of what was asked."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


class Said(NamedTuple, Generic[T]):
    """`value` is of the type that was asked for."""

    value: T
    input_tokens: int
    output_tokens: int


class Reply(NamedTuple, Generic[T]):
    """An answer, by whom, and what it cost: US dollars, milliseconds, retries among them."""

    value: T
    model: str
    cost_usd: float
    input_tokens: int
    output_tokens: int
    latency_ms: float


class LanguageModel(Protocol):
    @property
    def name(self) -> str: ...

    async def say(self, *, instructions: str, text: str, answer: type[T]) -> Said[T]:
        """`answer` is a pydantic model. Asked once. Raises CallRefused(timeout, refused, malformed, unavailable)."""
        ...


class Prices(NamedTuple):
    """US dollars a million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens * self.input + output_tokens * self.output) / 1_000_000


def tokens_of(*texts: str) -> int:
    """An estimate that is rarely too low: a token of English is four letters, of other scripts and numbers two."""
    return sum(len(text.encode()) for text in texts) // 2 + 16
