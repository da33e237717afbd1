"""Orders as clients meet them: over the WebSocket `call` and `/v1/orders`, and what happens when a client is gone."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sockets import Peer, peer
from test_risk_at_the_door import Floor, ask, trading_floor


@pytest_asyncio.fixture
async def floor(hub: Any) -> AsyncIterator[Floor]:
    async with trading_floor(hub) as made:
        yield made


def rest(hub: Any, user: str, role: str = "trader") -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=hub.url, headers={"authorization": f"Bearer {hub.token(user, role)}"})


async def test_both_doors_lead_to_the_same_order(floor: Floor, hub: Any) -> None:
    placed = await floor.submit(price="90")
    name = placed["client_order_id"]
    await floor.report(name, "NEW")
    async with rest(hub, floor.account) as http:
        asked = await http.get(f"/v1/orders/{name}")
        assert (asked.json()["data"]["order_id"], asked.json()["data"]["ord_status"]) == (placed["order_id"], "NEW")
        moved = await http.patch(f"/v1/orders/{name}", json={"client_order_id": f"{name}-2", "price": "91"})
        assert moved.json()["data"]["ord_status"] == "PENDING_REPLACE"
        await floor.report(f"{name}-2", "REPLACED")
        listed = await http.get("/v1/orders", params={"open": "true"})
        assert [each["price"] for each in listed.json()["data"]] == ["91"]
        canceled = await http.delete(f"/v1/orders/{name}-2")
        assert canceled.json()["data"]["ord_status"] == "PENDING_CANCEL"
    await floor.report(f"{name}-2", "CANCELED")
    assert (await ask(floor.trader, "orders.status", account=floor.account, client_order_id=name))[
        "ord_status"
    ] == "CANCELED"


async def test_rest_pages_through_every_order_of_an_account(floor: Floor, hub: Any) -> None:
    async with rest(hub, floor.account) as http:
        for number in range(5):
            body = floor.params(price=str(80 + number))
            assert (await http.post("/v1/orders", json=body)).status_code == 200
        pages: list[list[str]] = []
        before: dict[str, Any] = {}
        while True:
            answer = (await http.get("/v1/orders", params={"limit": 2, **before})).json()
            pages.append([each["price"] for each in answer["data"]])
            if not answer["meta"]["paging"]["more"]:
                break
            before = {"before": answer["meta"]["paging"]["next"]}
    assert pages == [["84", "83"], ["82", "81"], ["80"]]


async def test_a_repeat_is_the_same_order_and_another_body_is_refused(floor: Floor, hub: Any) -> None:
    body = floor.params()
    first = await ask(floor.trader, "orders.submit", **body)
    async with rest(hub, floor.account) as http:
        again = await http.post("/v1/orders", json=body)
        assert again.json()["data"]["order_id"] == first["order_id"]
        other = await http.post("/v1/orders", json={**body, "qty": "2"})
        assert (other.status_code, other.json()["meta"]["error"]["name"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    "method",
    [
        "orders.submit",
        "orders.validate",
        "orders.replace",
        "orders.cancel",
        "orders.cancel_all",
        "orders.cancel_all_after",
        "orders.cancel_on_disconnect",
        "orders.status",
        "orders.list",
    ],
)
async def test_nobody_commands_or_sees_the_orders_of_another(floor: Floor, hub: Any, method: str) -> None:
    params = {
        "orders.submit": floor.params(),
        "orders.validate": floor.params(),
        "orders.replace": {"orig_client_order_id": "c", "client_order_id": "d", "qty": "1"},
        "orders.cancel": {"client_order_id": "c"},
        "orders.status": {"client_order_id": "c"},
        "orders.cancel_all_after": {"timeout_ms": 1},
    }.get(method, {})
    for user, role in ((f"x{secrets.token_hex(4)}", "trader"), (floor.account, "dashboard")):
        async with peer(hub, hub.token(user, role)) as stranger:
            reply = await stranger.ask("call", method=method, params={**params, "account": floor.account})
            assert (reply["error"]["name"], reply["error"]["path"]) == ("permission_denied", "$.params.account")


async def test_what_is_no_order_is_told_with_the_path(floor: Floor) -> None:
    for wrong, path in (
        ({"qty": "-1"}, "$.params.qty"),
        ({"side": "LONG"}, "$.params.side"),
        ({"client_order_id": "a b"}, "$.params.client_order_id"),
        ({"expire_at": 1.5}, "$.params.expire_at"),
    ):
        reply = await floor.trader.ask("call", method="orders.submit", params={**floor.params(), **wrong})
        assert (reply["error"]["name"], reply["error"]["path"]) == ("schema_invalid", path)


# --- a client that is gone ---


async def gone(floor: Floor, hub: Any, method: str, **params: Any) -> tuple[dict[str, Any], str]:
    """What another client of the account answered to a method, and an order of its own; then it was cut off."""
    async with peer(hub, hub.token(floor.account, "trader")) as victim:
        armed: dict[str, Any] = await ask(victim, method, account=floor.account, **params)
        await floor.quote()
        placed = await ask(victim, "orders.submit", **floor.params(price="90"))
        cut(victim)
    name: str = placed["client_order_id"]
    return armed, name


def cut(client: Peer) -> None:
    """The network takes it: no goodbye."""
    client.connection.transport.abort()


async def test_a_killed_clients_orders_are_canceled_within_its_timeout_and_a_second(floor: Floor, hub: Any) -> None:
    armed, name = await gone(floor, hub, "orders.cancel_all_after", timeout_ms=1_000)
    report = await floor.report(name, "PENDING_CANCEL")
    assert report["text"] == "dead man's switch"
    assert armed["fires_at"] <= report["ts_event"] <= armed["fires_at"] + 1_000_000
    await floor.report(name, "CANCELED")


async def test_a_connection_that_ends_takes_the_open_orders_with_it_if_it_said_so(floor: Floor, hub: Any) -> None:
    _, name = await gone(floor, hub, "orders.cancel_on_disconnect")
    await floor.report(name, "CANCELED")


async def test_a_connection_that_took_its_word_back_leaves_them(floor: Floor, hub: Any) -> None:
    async with peer(hub, hub.token(floor.account, "trader")) as other:
        await ask(other, "orders.cancel_on_disconnect", account=floor.account)
        await ask(other, "orders.cancel_on_disconnect", account=floor.account, enabled=False)
    _, name = await gone(floor, hub, "orders.cancel_on_disconnect", enabled=False)
    await floor.report(name, "NEW")
    assert (await ask(floor.trader, "orders.cancel_all", account=floor.account))["count"] == 1
