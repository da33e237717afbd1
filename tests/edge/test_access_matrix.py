"""Every role at every operation on channels of its own, of others and of nobody, through both doors.

The table below was written from the documents and not from the code. In each cell: P publish in the caller's own
channel, p in another's, R read (subscribe, history, presence) in its own, r in another's; - means denied.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sockets import peer

NAMESPACES = ("orders", "fills", "team", "tasks", "agent", "custom", "prices", "alerts", "approvals", "system")
TABLE = """
            orders  fills  team   tasks  agent  custom prices alerts approvals system
admin       PpRr    PpRr   PpRr   PpRr   PpRr   PpRr   PpRr   PpRr   PpRr      PpRr
trader      P-R-    P-R-   ----   ----   ----   PpRr   --Rr   --Rr   Pp--      --Rr
agent       ----    ----   P-R-   P-R-   PpRr   PpRr   --Rr   PpRr   Pp--      --Rr
feed        ----    ----   ----   ----   ----   PpRr   PpRr   PpRr   ----      --Rr
dashboard   ----    ----   --Rr   --Rr   --Rr   --Rr   --Rr   --Rr   ----      --Rr
visitor     ----    ----   ----   ----   ----   --Rr   --Rr   --Rr   ----      --Rr
"""
CELLS = {row.split()[0]: dict(zip(NAMESPACES, row.split()[1:], strict=True)) for row in TABLE.splitlines()[2:]}
READS = ("subscribe", "history", "presence")
# The type is wrong in most namespaces: then the answer is another error, after the permission has been looked at.
MESSAGE = {"type": "NOTE", "data": {}}


class Channels:
    """One hub's worth of channels: of ann, of bob (where something lies), and of nobody yet."""

    def __init__(self) -> None:
        self.ann, self.bob, self.nobody = (f"{name}-{secrets.token_hex(4)}" for name in ("ann", "bob", "nobody"))

    def whose(self) -> list[tuple[str, bool]]:
        return [(self.ann, True), (self.bob, False), (self.nobody, False)]


@pytest_asyncio.fixture
async def channels(hub: Any) -> AsyncIterator[Channels]:
    made = Channels()
    async with peer(hub, hub.token("root", "admin")) as boss:
        await boss.publish(f"custom:{made.bob}")
        order = {"account": "a", "client_order_id": "c1"}
        await boss.publish(f"orders:{made.bob}", "ORDER_EVENT", order)
    yield made


def expected(role: str, namespace: str, *, publish: bool, own: bool) -> bool:
    letter = {(True, True): "P", (True, False): "p", (False, True): "R", (False, False): "r"}[publish, own]
    return letter in CELLS[role][namespace]


@pytest.mark.parametrize("role", sorted(CELLS))
async def test_c60_over_websocket_each_role_may_exactly_what_the_table_says(
    hub: Any, channels: Channels, role: str
) -> None:
    wrong = []
    async with peer(hub, hub.token(channels.ann, role, teams=(channels.ann,))) as client:
        for namespace in NAMESPACES:
            for name, own in channels.whose():
                for operation in ("publish", *READS):
                    fields = {"message": MESSAGE} if operation == "publish" else {}
                    reply = await client.ask(operation, channel=f"{namespace}:{name}", **fields)
                    error = reply.get("error", {}).get("name")
                    assert error in (None, "permission_denied", "unknown_type", "bad_request"), reply
                    if (error != "permission_denied") is not expected(
                        role, namespace, publish=operation == "publish", own=own
                    ):
                        wrong.append((operation, namespace, name))

    assert wrong == []


@pytest.mark.parametrize("role", sorted(CELLS))
async def test_c60_over_rest_each_role_may_exactly_what_the_table_says(
    hub: Any, http: httpx.AsyncClient, channels: Channels, role: str
) -> None:
    headers = {"authorization": f"Bearer {hub.token(channels.ann, role, teams=(channels.ann,))}"}
    wrong = []
    for namespace in NAMESPACES:
        for name, own in channels.whose():
            channel = f"{namespace}:{name}"
            body = {"channel": channel, "message": MESSAGE}
            answers = {
                "publish": await http.post("/v1/publish", json=body, headers=headers),
                "history": await http.get(f"/v1/history/{channel}", headers=headers),
                "presence": await http.get(f"/v1/presence/{channel}", headers=headers),
            }
            for operation, answer in answers.items():
                assert answer.status_code in (200, 400, 403), answer.text
                if (answer.status_code != 403) is not expected(
                    role, namespace, publish=operation == "publish", own=own
                ):
                    wrong.append((operation, namespace, name))

    assert wrong == []


async def test_c61_a_foreign_channel_that_exists_answers_as_one_that_does_not(
    hub: Any, http: httpx.AsyncClient, channels: Channels
) -> None:
    token = hub.token(channels.ann, "trader")
    headers = {"authorization": f"Bearer {token}"}
    async with peer(hub, token) as client:
        for operation, fields in (
            ("subscribe", {}),
            ("history", {}),
            ("presence", {}),
            ("publish", {"message": MESSAGE}),
        ):
            existing, missing = [
                (await client.ask(operation, channel=f"orders:{name}", **fields))["error"]
                for name in (channels.bob, channels.nobody)
            ]
            assert existing == missing
    existing, missing = [
        (await http.get(f"/v1/history/orders:{name}", headers=headers)).json()["meta"]["error"]
        for name in (channels.bob, channels.nobody)
    ]
    assert existing == missing


@pytest.mark.parametrize("field", ["publisher", "timestamp", "offset", "epoch", "tenant"])
async def test_c63_what_the_hub_sets_no_client_may_set(hub: Any, http: httpx.AsyncClient, field: str) -> None:
    token = hub.token("ann", "agent")
    async with peer(hub, token) as client:
        beside = await client.ask("publish", channel="custom:x", message=MESSAGE, **{field: "bob"})
        within = await client.ask("publish", channel="custom:x", message=MESSAGE | {field: "bob"})
    body = {"channel": "custom:x", "message": MESSAGE, field: "bob"}
    over_rest = await http.post("/v1/publish", json=body, headers={"authorization": f"Bearer {token}"})

    assert beside["error"]["name"] == within["error"]["name"] == "schema_invalid"
    assert over_rest.status_code == 422
