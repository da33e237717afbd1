"""A language model behind OpenAI's API, or behind any server that speaks it."""

from __future__ import annotations

from typing import TypeVar

import openai
from openai import AsyncOpenAI
from openai.types.responses import ParsedResponse

from hub.insight.calls.base import MAX_OUTPUT_TOKENS, TIMEOUT_S, CallRefused, Said

T = TypeVar("T")


class OpenAIModel:
    """Structured answers by `responses.parse`. Nothing is stored on the other side."""

    def __init__(self, model: str, *, api_key: str | None, base_url: str | None) -> None:
        self.name = model
        # The SDK would wait ten minutes and try three times: whoever calls decides whether to try again.
        client = AsyncOpenAI(api_key=api_key or "none", base_url=base_url, timeout=TIMEOUT_S, max_retries=0)
        # The SDK imports this when it is first used, for up to a second: at the start, when no message waits.
        self._responses = client.responses
        self._client = client

    async def say(self, *, instructions: str, text: str, answer: type[T]) -> Said[T]:
        try:
            response = await self._responses.parse(
                model=self.name,
                instructions=instructions,
                input=text,
                text_format=answer,
                max_output_tokens=MAX_OUTPUT_TOKENS,
                store=False,
            )
            usage = response.usage
            tokens = (int(usage.input_tokens), int(usage.output_tokens)) if usage is not None else (0, 0)
            return Said(self._parsed(response), *tokens)
        except openai.APITimeoutError:
            raise CallRefused("timeout", f"the model {self.name} did not answer within {TIMEOUT_S:g} s") from None
        except openai.OpenAIError as failure:
            raise CallRefused(
                "unavailable", f"the model {self.name} does not answer: {type(failure).__name__}"
            ) from None
        except CallRefused:
            raise
        except Exception:  # not what was asked for, or not even JSON: the SDK reads whatever came as an answer
            raise CallRefused("malformed", f"the model {self.name} gave an answer that is none") from None

    async def close(self) -> None:
        await self._client.close()

    def _parsed(self, response: ParsedResponse[T]) -> T:
        parsed = response.output_parsed
        if parsed is not None:
            return parsed
        contents = [part for item in response.output if item.type == "message" for part in item.content]
        if any(part.type == "refusal" for part in contents):
            raise CallRefused("refused", f"the model {self.name} will not answer this")
        raise CallRefused("malformed", f"the model {self.name} gave an answer that is none")
