"""`search` and `GET /v1/search` at the doors of a real hub."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from sockets import PATIENCE_S, Peer, peer, unique

BREAKER = "the circuit breaker opened on the Binance feed"
REVIEW = "please review the database migration of the billing service"


async def found(client: Peer, query: str, *, count: int, **fields: Any) -> list[dict[str, Any]]:
    """The hits, as soon as there are so many: documents are made in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while len(hits := (await client.ask("search", query=query, **fields))["result"]["hits"]) < count:
            await asyncio.sleep(0.05)
    return hits


async def alert(client: Peer, channel: str, text: str) -> int:
    data = {"alert_id": unique("a"), "severity": "WARNING", "title": text}
    return int((await client.publish(channel, "ALERT", data))["offset"])


async def test_a_hit_says_where_its_message_is_and_history_goes_on_from_there(hub: Any) -> None:
    channel = unique("alerts")
    async with peer(hub, hub.token("boss", "admin")) as boss:
        for text in (REVIEW, BREAKER, "nothing new"):
            await alert(boss, channel, text)
        [hit] = await found(boss, "breaker", count=1, channel=channel, mode="text")
        since = {"epoch": hit["epoch"], "offset": hit["offset"] - 1}
        page = (await boss.ask("history", channel=channel, since=since))["result"]["messages"]

    assert (hit["kind"], hit["channel"], hit["offset"], hit["type"]) == ("message", channel, 2, "ALERT")
    assert (hit["publisher"], BREAKER in hit["snippet"]) == ("boss", True)
    assert [(each["offset"], each["timestamp"]) for each in page][0] == (2, hit["timestamp"])
    assert len(page) == 2


@pytest.mark.parametrize("mode", ["semantic", "text", "hybrid"])
async def test_every_mode_finds_the_nearest_first_through_both_doors(
    hub: Any, http: httpx.AsyncClient, mode: str
) -> None:
    channel = unique("alerts")
    token = hub.token("boss", "admin")
    async with peer(hub, token) as boss:
        for text in (REVIEW, BREAKER):
            await alert(boss, channel, text)
        await found(boss, "breaker migration", count=2, channel=channel)
        over_socket = (await boss.ask("search", query="circuit breaker", mode=mode, channel=channel))["result"]
    answer = await http.get(
        "/v1/search",
        params={"query": "circuit breaker", "mode": mode, "channel": channel, "limit": "1"},
        headers={"authorization": f"Bearer {token}"},
    )

    assert BREAKER in over_socket["hits"][0]["snippet"]
    assert over_socket["mode"] == mode
    assert over_socket.get("embedding_kind") == (None if mode == "text" else "lexical")
    assert [each["offset"] for each in answer.json()["data"]["hits"]] == [2]


@pytest.mark.parametrize(
    ("params", "path"),
    [({}, "$.query"), ({"query": "x", "limit": "0"}, "$.limit"), ({"query": "x", "mode": "magic"}, "$.mode")],
)
async def test_a_search_that_is_not_one_is_refused_and_told_where(
    hub: Any, http: httpx.AsyncClient, params: dict[str, str], path: str
) -> None:
    answer = await http.get("/v1/search", params=params, headers={"authorization": f"Bearer {hub.token('ann')}"})
    assert answer.status_code == 422
    assert answer.json()["meta"]["error"]["path"] in (path, "$")


async def test_a_nul_in_a_query_is_the_askers_mistake_at_both_doors(hub: Any, http: httpx.AsyncClient) -> None:
    token = hub.token("ann")
    answer = await http.get("/v1/search?query=a%00b", headers={"authorization": f"Bearer {token}"})
    async with peer(hub, token) as ann:
        error = (await ann.ask("search", query="a\0b"))["error"]
    assert (answer.status_code, answer.json()["meta"]["error"]["path"]) == (400, "$.query")
    assert (error["name"], error["path"]) == ("bad_request", "$.query")


async def test_a_session_is_remembered_and_found_by_its_user_alone(hub: Any) -> None:
    """Made a moment after `connect`, with the channels that it follows."""
    user, channel = unique("ann").replace(":", "-"), unique("custom")
    async with (
        peer(hub, hub.token(user, "dashboard"), subscriptions={channel: {}}) as client,
        peer(hub, hub.token("eve", "dashboard")) as other,
    ):
        [hit] = await found(client, channel, count=1, mode="text")
        theirs = (await other.ask("search", query=channel, mode="text"))["result"]["hits"]

    assert (hit["kind"], hit["channel"], hit["publisher"]) == ("session", f"sessions:{user}", user)
    assert theirs == []


async def test_c64_a_subscription_by_meaning_brings_what_is_said_where_its_subscriber_may_read(hub: Any) -> None:
    word, hidden = unique("zebra").replace(":", ""), unique("orders")
    channel = f"semantic:{word}+escaped"
    async with (
        peer(hub, hub.token("boss", "admin")) as boss,
        peer(hub, hub.token("ann", "dashboard"), subscriptions={channel: {}}) as client,
    ):
        await boss.ask("subscribe", channel=channel)
        order = {"account": "a", "client_order_id": "c1", "ext": {"note": f"{word} escaped"}}
        await boss.publish(hidden, "ORDER_EVENT", order)
        seen = unique("alerts")
        await alert(boss, seen, f"{word} has escaped")
        await alert(boss, unique("alerts"), REVIEW)
        told = await client.until(lambda each: each["type"] == "SEARCH_HIT")
        await boss.until(lambda each: each["type"] == "SEARCH_HIT" and each["data"]["channel"] == hidden)
        await boss.until(lambda each: each["type"] == "SEARCH_HIT" and each["data"]["channel"] == seen)
        await boss.publish(unique("custom"))

    hits = [each for each in client.messages if each["type"] == "SEARCH_HIT"]
    assert [each["data"]["channel"] for each in hits] == [seen]
    assert (told["channel"], told["offset"], told["data"]["offset"]) == (channel, 1, 1)
