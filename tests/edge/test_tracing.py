"""One message, one trace id: in the publisher's answer, the log, a metric and the spans of two nodes, at a receiver."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from processes import HubProcess, running
from redis_server import redis_server

from benchmarks.otlp import receiver
from hub.client import Client

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def config(folder: Path, endpoint: str, **more: Any) -> Path:
    lines = ["[tracing]", f'endpoint = "{endpoint}"', *(f"{name} = {value}" for name, value in more.items())]
    file = folder / "krin.toml"
    file.write_text("\n".join(lines))
    return file


@pytest.mark.parametrize(("channel", "way"), [("team:alpha", "commit"), ("custom:alpha", "broker")])
async def test_one_trace_id_leads_from_the_publisher_through_two_nodes(tmp_path: Path, channel: str, way: str) -> None:
    data_dir = tmp_path / "data"
    with receiver() as collector:
        file = config(tmp_path, collector.url)
        async with redis_server() as url, asyncio.timeout(100):
            options = ("--config", str(file), "--redis-url", url)
            with (
                running(data_dir, *options, "--node", "n1") as first,
                running(data_dir, *options, "--node", "n2") as second,
            ):
                async with (
                    Client(first.url, token=first.token("ann")) as ann,
                    Client(second.url, token=second.token("bob")) as bob,
                ):
                    subscription = bob.subscribe(channel)
                    await subscription.ready()
                    type_name, data = ("ALERT", {"alert_id": "a", "severity": "INFO", "title": "t"})
                    await ann.publish(channel, type_name, data, trace=TRACEPARENT)
                    message = await anext(aiter(subscription))
                    await ann.publish(channel, type_name, data)  # brings no trace, and gets none
                spans = await asyncio.to_thread(collector.wait_for, 3, trace_id=TRACE)
                exemplars = await exemplar_lines(second)
    by_name = {span.name: (span.node, span.span_id, span.parent_id) for span in spans}
    assert len(spans) == len(by_name) == 3
    assert by_name["publish"][::2] == ("n1", PARENT)
    published = by_name["publish"][1]
    assert by_name[way][::2] == ("n1", published)
    assert by_name["deliver"][::2] == ("n2", published)
    assert message.trace == f"00-{TRACE}-{published}-01"
    assert any(TRACE in line for line in exemplars)
    logged = [json.loads(line) for line in first.log.read_text().splitlines() if line.startswith("{")]
    assert any(line.get("trace_id") == TRACE and channel in line["event"] for line in logged)


async def exemplar_lines(hub: HubProcess) -> list[str]:
    async with httpx.AsyncClient(headers={"accept": "application/openmetrics-text"}) as http_client:
        answer = await http_client.get(f"{hub.url}/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return [line for line in answer.text.splitlines() if line.startswith("krin_delivery_latency_ms_bucket")]


async def test_a_request_hands_its_trace_to_the_message_it_publishes(tmp_path: Path) -> None:
    with receiver() as collector, running(tmp_path / "data", "--config", str(config(tmp_path, collector.url))) as hub:
        headers = {"authorization": f"Bearer {hub.token('ann')}", "traceparent": TRACEPARENT}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers) as http_client:
            body = {"channel": "custom:x", "message": {"type": "NOTE", "data": {}}}
            answer = await http_client.post("/v1/publish", json=body)
        assert answer.json()["meta"]["trace_id"] == TRACE
        spans = await asyncio.to_thread(collector.wait_for, 2, trace_id=TRACE)
        assert {span.name for span in spans} == {"publish", "broker"}


async def test_a_message_with_a_key_may_be_sent_again_while_it_is_traced(tmp_path: Path) -> None:
    with (
        receiver() as collector,
        running(tmp_path / "data", "--config", str(config(tmp_path, collector.url, sample_ratio=1.0))) as hub,
    ):
        async with Client(hub.url, token=hub.token("ann")) as ann:
            first = await ann.publish("custom:x", "NOTE", {}, idempotency_key="k")
            again = await ann.publish("custom:x", "NOTE", {}, idempotency_key="k")
    assert again.offset == first.offset
