"""What operators are told of a running hub: the status of its nodes, and who does not keep up."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sockets import RawSocket, peer, unique

KIB = 1024


async def test_every_status_says_what_comes_in_what_goes_out_and_how_long_it_takes(hub: Any) -> None:
    room = unique("custom")
    async with peer(hub, hub.token("root", "admin"), kind="agent") as boss:
        await boss.ask("subscribe", channel="system:status")
        await boss.ask("subscribe", channel=room)
        began = (await boss.until(lambda each: each["type"] == "STATUS"))["data"]["ext"]
        await boss.publish(room)
        status = await boss.until(
            lambda each: each["type"] == "STATUS" and each["data"]["ext"]["delivered"] > began["delivered"]
        )

    figures = status["data"]["ext"]
    assert figures["kinds"]["agent"] >= 1
    assert sum(figures["kinds"].values()) == figures["connections"]
    assert figures["commands"] > began["commands"]
    assert 0 <= figures["latency_ms"]["p50"] <= figures["latency_ms"]["p99"] <= figures["latency_ms"]["p999"]
    assert [each["name"] for each in figures["objectives"]] == ["availability", "broadcast", "rest"]
    assert figures["budget_left"] == min(each["budget_left"] for each in figures["objectives"])
    assert (figures["postgres"], figures["redis"]) == (True, None)


async def test_an_administrator_is_shown_the_client_that_does_not_read_first(hub: Any) -> None:
    channel, clients = unique("prices"), []
    async with (
        peer(hub, hub.token("root", "admin")) as boss,
        RawSocket.upgraded(hub, token=hub.token("sluggish"), receive_buffer=4096) as stuck,
    ):
        stuck.send(json.dumps({"type": "subscribe", "id": 2, "channel": channel}).encode())
        await stuck.frame()
        async with asyncio.timeout(10):
            while not clients or not clients[0]["conflated"]:
                tick = {"symbol": "X", "bid": "1", "ext": {"pad": "x" * 20 * KIB}}
                await boss.publish(channel, "PRICE_TICK", tick)
                found = (await boss.ask("call", method="hub.clients", params={"limit": 1}))["result"]
                clients = found["clients"]

    assert len(clients) == 1
    assert (clients[0]["user"], clients[0]["stalled"], clients[0]["subscriptions"]) == ("sluggish", True, 1)
    assert 20 * KIB <= clients[0]["waiting_bytes"] <= found["outbox_bytes"]
    assert found["connections"] >= 2


@pytest.mark.parametrize(
    ("role", "params", "error"), [("dashboard", {}, "permission_denied"), ("admin", {"limit": 0}, "schema_invalid")]
)
async def test_the_clients_of_a_node_are_for_administrators(hub: Any, role: str, params: Any, error: str) -> None:
    async with peer(hub, hub.token("ann", role)) as client:
        reply = await client.ask("call", method="hub.clients", params=params)

    assert reply["error"]["name"] == error
