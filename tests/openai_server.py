"""A local server that speaks OpenAI's HTTP API: embeddings of a small model that knows which words mean the same, and
responses as a test wants them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import uvicorn
from labelled import MEANINGS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.insight.embedding.hashing import HashingEmbedder

# Names without common parts of words, which the hashing below would find alike.
_MEANING = {
    word: hashlib.blake2b(words.encode(), digest_size=6).hexdigest() for words in MEANINGS for word in words.split()
}
_WORD = re.compile(r"[\w-]+")


def meant(text: str) -> str:
    """The text with each word replaced by what it means."""
    return " ".join(_MEANING.get(word, word) for word in _WORD.findall(text.lower()))


class OpenAIServer:
    """`answer` and `reply` may be replaced by something that misbehaves; `asked` holds the body of every request."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.answer: Callable[[dict[str, Any]], Response] = vectors
        self.reply: Callable[[dict[str, Any]], Response] = refused(500)
        self.hanging: asyncio.Event | None = None

    async def embeddings(self, request: Request) -> Response:
        return await self._answer(request, lambda body: self.answer(body))

    async def responses(self, request: Request) -> Response:
        return await self._answer(request, lambda body: self.reply(body))

    async def _answer(self, request: Request, answer: Callable[[dict[str, Any]], Response]) -> Response:
        body = await request.json()
        self.asked.append(body)
        if self.hanging is not None:
            await self.hanging.wait()
        return answer(body)


def says(value: Any, *, input_tokens: int = 100, output_tokens: int = 20) -> Callable[[dict[str, Any]], Response]:
    """A structured answer: `value` as JSON, or a text as it is."""
    text = value if isinstance(value, str) else json.dumps(value)
    return _response([{"type": "output_text", "text": text, "annotations": []}], input_tokens, output_tokens)


def will_not(body: dict[str, Any]) -> Response:
    return _response([{"type": "refusal", "refusal": "I will not."}], 100, 5)(body)


def says_nothing(body: dict[str, Any]) -> Response:
    return _response([], 100, 0, status="incomplete")(body)


def no_json(body: dict[str, Any]) -> Response:
    return Response(b'{"id": "resp_1", "object"', media_type="application/json")


def says_json(value: Any) -> Callable[[dict[str, Any]], Response]:
    """JSON, and not what OpenAI's API says."""
    return lambda body: Response(json.dumps(value), media_type="application/json")


def page(body: dict[str, Any]) -> Response:
    """What a proxy says in place of the server behind it."""
    return Response("<html>Welcome</html>", media_type="text/html")


def _response(
    content: list[dict[str, Any]], input_tokens: int, output_tokens: int, *, status: str = "completed"
) -> Callable[[dict[str, Any]], Response]:
    def answer(body: dict[str, Any]) -> Response:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}
        usage = {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        }
        return JSONResponse(
            {
                "id": "resp_1",
                "object": "response",
                "created_at": 1_732_330_000,
                "status": status,
                "model": body["model"],
                "output": [message],
                "parallel_tool_calls": False,
                "tool_choice": "auto",
                "tools": [],
                "usage": usage,
            }
        )

    return answer


def vectors(body: dict[str, Any], *, dimensions: int | None = None) -> Response:
    rows = HashingEmbedder().embed_now([meant(text) for text in body["input"]])[:, :dimensions]
    data = [
        {"object": "embedding", "index": index, "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode()}
        for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": usage})


def refused(status: int) -> Callable[[dict[str, Any]], Response]:
    return lambda body: JSONResponse({"error": {"message": "secret sk-123", "type": "x"}}, status)


def cut_off(body: dict[str, Any]) -> Response:
    return Response(json.dumps({"object": "list", "data": []})[:-3], media_type="application/json")


def too_few(body: dict[str, Any]) -> Response:
    return vectors(body | {"input": body["input"][1:] or ["x", "y"]})


def too_long(body: dict[str, Any]) -> Response:
    rows = np.ones((len(body["input"]), 3072))
    data = [{"object": "embedding", "index": index, "embedding": row.tolist()} for index, row in enumerate(rows)]
    return JSONResponse({"object": "list", "model": body["model"], "data": data, "usage": {}})


@asynccontextmanager
async def openai_server() -> AsyncIterator[OpenAIServer]:
    made = OpenAIServer()
    app = Starlette(
        routes=[
            Route("/v1/embeddings", made.embeddings, methods=["POST"]),
            Route("/v1/responses", made.responses, methods=["POST"]),
        ]
    )
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        made.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.01)
            yield made
        finally:
            if made.hanging is not None:
                made.hanging.set()
            server.should_exit = True
            await serving
