"""One message, one trace id: in the publisher's answer, the log, a metric and the spans of two nodes, at a receiver."""

from __future__ import annotations

import asyncio
import json
import secrets
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


async def exemplar_lines(hub: HubProcess, metric: str = "krin_delivery_latency_ms_bucket") -> list[str]:
    async with httpx.AsyncClient(headers={"accept": "application/openmetrics-text"}) as http_client:
        answer = await http_client.get(f"{hub.url}/metrics")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    return [line for line in answer.text.splitlines() if line.startswith(metric)]


async def test_a_request_hands_its_trace_to_the_message_it_publishes(tmp_path: Path) -> None:
    with receiver() as collector, running(tmp_path / "data", "--config", str(config(tmp_path, collector.url))) as hub:
        headers = {"authorization": f"Bearer {hub.token('ann')}", "traceparent": TRACEPARENT}
        async with httpx.AsyncClient(base_url=hub.url, headers=headers) as http_client:
            body = {"channel": "custom:x", "message": {"type": "NOTE", "data": {}}}
            answer = await http_client.post("/v1/publish", json=body)
            refused = await http_client.get("/v1/history/team:nobody")
            await http_client.get("/v1/channels", headers={"traceparent": TRACEPARENT[:-1] + "0"})  # nobody looks at it
        assert answer.json()["meta"]["trace_id"] == refused.json()["meta"]["trace_id"] == TRACE
        spans = await asyncio.to_thread(collector.wait_for, 4, trace_id=TRACE)
        exemplars = await exemplar_lines(hub, "krin_operation_ms_bucket")
    below = {span.name: span for span in spans}
    assert {*below} == {"POST /v1/publish", "publish", "broker", "GET /v1/history/{channel:path}"}
    asked = below["POST /v1/publish"]
    assert asked.parent_id == below["GET /v1/history/{channel:path}"].parent_id == PARENT
    assert below["publish"].parent_id == asked.span_id
    assert below["broker"].parent_id == below["publish"].span_id
    assert any('operation="POST /v1/publish"' in line and TRACE in line for line in exemplars)
    logged = [json.loads(line) for line in hub.log.read_text().splitlines() if line.startswith("{")]
    found = {line["event"] for line in logged if line.get("trace_id") == TRACE}
    assert found >= {
        "answered POST /v1/publish with 200",
        f"answered GET /v1/history/{{channel:path}} with {refused.status_code}",
    }


@pytest.mark.parametrize(
    ("traceparent", "kept"),
    [
        (TRACEPARENT, True),
        (f"cc-{TRACEPARENT[3:]}", True),
        (f"cc-{TRACEPARENT[3:]}-what-is-to-come", True),
        (f"{TRACEPARENT}-more", False),
        (f"ff-{TRACEPARENT[3:]}", False),
        (f"cc-{TRACEPARENT[3:]}more", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (TRACEPARENT.upper(), False),
    ],
)
async def test_what_is_no_traceparent_is_none(hub: HubProcess, traceparent: str, kept: bool) -> None:
    headers = {"authorization": f"Bearer {hub.token('ann')}", "traceparent": traceparent}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers) as http_client:
        channel = f"custom:{secrets.token_hex(4)}"
        body = {"channel": channel, "message": {"type": "NOTE", "data": {}}}
        answer = await http_client.post("/v1/publish", json=body)
        [message] = (await http_client.get(f"/v1/history/{channel}")).json()["data"]["messages"]
    assert (answer.json()["meta"]["trace_id"] == TRACE) is kept
    assert message.get("trace") == (TRACEPARENT if kept else None)


async def test_a_message_with_a_key_may_be_sent_again_while_it_is_traced(tmp_path: Path) -> None:
    with (
        receiver() as collector,
        running(tmp_path / "data", "--config", str(config(tmp_path, collector.url, sample_ratio=1.0))) as hub,
    ):
        async with Client(hub.url, token=hub.token("ann")) as ann:
            first = await ann.publish("custom:x", "NOTE", {}, idempotency_key="k")
            again = await ann.publish("custom:x", "NOTE", {}, idempotency_key="k")
    assert again.offset == first.offset
