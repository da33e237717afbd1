"""`GET /v1/search` of a whole hub with a model and Redis: the second time a query means what it meant the first time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from openai_server import openai_server
from redis_server import redis_server


async def test_a_model_is_asked_once_for_what_is_searched_twice(start: Callable[..., Any], tmp_path: Path) -> None:
    async with openai_server() as model, redis_server() as redis:
        config = tmp_path / "krin.toml"
        config.write_text(
            f'redis_url = "{redis}"\n[openai]\nbase_url = "{model.url}"\n[search]\nembedder = "openai"\nconsent = false\n'
            "[cache]\nsimilar = true\n"
        )
        hub = await asyncio.to_thread(start, "--config", str(config), "--drain-timeout", "0")
        headers = {"authorization": f"Bearer {hub.token('ann', 'trader')}"}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=30) as http:
            answers = [(await http.get("/v1/search?query=margin+calls")).json() for _ in range(2)]
            for query in ("what are the margin calls?", "no margin calls"):
                answers.append((await http.get("/v1/search", params={"query": query})).json())
            metrics = (await http.get("/metrics")).text

    measured = [answer["performance_metrics"] for answer in answers]
    assert [each["cache"] for each in measured] == ["miss", "hit", "hit", "miss"]
    for each in measured:
        assert 0 < each["db_ms"] <= each["duration_ms"]
        assert 0 <= each["queue_ms"] <= each["duration_ms"]
    assert [body["input"] for body in model.asked] == [["margin calls"], ["no margin calls"]]
    assert 'krin_cache_answers_total{answer="hit"} 2.0' in metrics
