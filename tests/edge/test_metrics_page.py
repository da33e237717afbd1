"""The page of all metrics in hub/README.md is what a hub exposes, and every label has few values."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpx
from processes import ROOT, running
from prometheus_client.parser import text_string_to_metric_families
from redis_server import redis_server

from hub.client import Client
from protocol.errors import HubError

ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| (.*?) \|$", re.MULTILINE)
FEED = '[feeds.sim]\nkind = "simulated"\n'


def page() -> dict[str, tuple[str, str]]:
    return {name: (kind, text) for name, kind, text in ROW.findall((ROOT / "hub/README.md").read_text())}


def exposed(text: str) -> Iterator[tuple[str, str, str]]:
    for family in text_string_to_metric_families(text):
        yield family.name, family.type, family.documentation


async def test_the_page_of_metrics_is_what_a_hub_exposes(tmp_path: Path) -> None:
    (tmp_path / "krin.toml").write_text(FEED)
    async with redis_server() as url, asyncio.timeout(60):
        with running(tmp_path / "data", "--redis-url", url, "--config", str(tmp_path / "krin.toml")) as hub:
            async with httpx.AsyncClient(base_url=hub.url) as http:
                while "krin_feed_published" not in (text := (await http.get("/metrics")).text):
                    await asyncio.sleep(0.05)
    found = {name: (kind, documentation) for name, kind, documentation in exposed(text)}
    listed = "\n".join(f"| `{name}` | {kind} | {text} |" for name, (kind, text) in sorted(found.items()))
    assert page() == found, f"hub/README.md should have:\n{listed}"


def made_up(channel: str) -> str:
    return f"T{channel[7:].upper()}"


async def test_names_that_strangers_make_up_are_no_labels(hub: object) -> None:
    url, token = hub.url, hub.token("ann", "admin")  # type: ignore[attr-defined]
    async with asyncio.timeout(60), Client(url, token=token) as krin, httpx.AsyncClient(base_url=url) as http:
        before = len((await http.get("/metrics")).text.splitlines())
        made = [f"custom:{secrets.token_hex(8)}" for _ in range(10_000)]
        followed = [krin.subscribe(name) for name in made[:100]]
        await asyncio.gather(*(each.ready() for each in followed))
        for start in range(0, len(made), 100):
            await asyncio.gather(*(krin.publish(name, made_up(name), {}) for name in made[start : start + 100]))
        for name in made[:100]:
            try:
                await krin.call(f"made.up_{name[7:]}")
            except HubError as refused:
                assert refused.code.wire_name == "unknown_type"
        for name in made[:5]:  # more would look like a threat
            await http.post("/v1/auth/login", json={"name": f"u{name[7:]}", "password": "wrong"})
            await http.request(f"M{name[7:]}".upper(), f"/v1/{name[7:]}")
        for name in made[:20]:
            async with Client(url, token=hub.token(f"u{name[7:]}", "agent")) as stranger:  # type: ignore[attr-defined]
                await stranger.call("hub.time")
        after = (await http.get("/metrics")).text
        assert not any(name[7:] in after or name[7:].upper() in after for name in made)
        assert len(after.splitlines()) < before + 300
