"""Taking away on two real nodes with one Redis and one Postgres, by REST and by the command line."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from processes import krin
from sockets import Peer, peer

from benchmarks.faults.cluster import Cluster, Node, eventually
from hub.bootstrap import make_tokens
from hub.clock import SystemClock
from hub.config import load

pytestmark = pytest.mark.asyncio(loop_scope="module")

BY_BELL_S = 1.0
BY_LOOKING_S = 2.0
ORDER = {"account": "a", "client_order_id": "c1"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    folder: Path = tmp_path_factory.mktemp("revoking")
    async with Cluster(folder) as made:
        yield made


@pytest.fixture
def ann() -> str:
    """A name of which no other test has taken anything."""
    return f"ann-{secrets.token_hex(4)}"


def token(cluster: Cluster, name: str, *roles: str) -> str:
    tokens = make_tokens(load(data_dir=str(cluster.folder)), SystemClock())
    return tokens.issue(name, roles=roles, teams=("*",), ttl_s=600, principal="operator")


async def on(cluster: Cluster, *arguments: str) -> str:
    """The command line, on the database of the running nodes."""
    options = ("--data-dir", str(cluster.folder), "--database-url", cluster.postgres.dsn)
    done = await asyncio.to_thread(krin, *arguments, *options, environment={"KRIN_PASSWORD": PASSWORD})
    assert done.returncode == 0, done.stderr
    return done.stdout


PASSWORD = "a quiet horse in the rain"


def rest(node: Node, bearer: str | None = None) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {bearer}"} if bearer is not None else {}
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}", headers=headers, timeout=10)


@asynccontextmanager
async def three_connections(cluster: Cluster, bearer: str, **fields: Any) -> AsyncIterator[list[Peer]]:
    """Two on the first node and one on the second."""
    first, second = cluster.nodes
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(peer(node, bearer, **fields)) for node in (first, first, second)]


def all_closed(peers: list[Peer]) -> Callable[[], bool]:
    return lambda: all(each.closed is not None for each in peers)


async def nothing_more_reaches(cluster: Cluster, peers: list[Peer], channel: str) -> None:
    """Publish on both nodes, see it arrive at somebody who may hear it, and at none of the peers."""
    seen = [len(each.offsets(channel)) for each in peers]
    boss = token(cluster, "boss", "admin")
    async with peer(cluster.nodes[0], boss) as one, peer(cluster.nodes[1], boss) as two:
        await two.ask("subscribe", channel=channel)
        for publisher in (one, two):
            placed = await publisher.publish(channel, "ORDER_EVENT", ORDER)
        await two.until_offset(channel, placed["offset"])
    assert [len(each.offsets(channel)) for each in peers] == seen


async def test_c44_revoking_a_user_closes_three_connections_on_two_nodes(cluster: Cluster, ann: str) -> None:
    channel, bearer = f"orders:{ann}", token(cluster, ann, "trader")
    async with (
        three_connections(cluster, bearer, subscriptions={channel: {}}) as peers,
        rest(cluster.nodes[0], token(cluster, "boss", "admin")) as boss,
    ):
        answer = await boss.delete("/v1/sessions", params={"user": ann})
        assert answer.status_code == 200
        await eventually(all_closed(peers), within_s=BY_BELL_S)

        assert [each.closed for each in peers] == [(4001, "signed out")] * 3
        assert [each.messages[-1]["reconnect"] for each in peers] == [False] * 3
        await nothing_more_reaches(cluster, peers, channel)
    for node in cluster.nodes:
        async with peer(node) as late, rest(node, bearer) as http:
            assert (await late.ask("connect", token=bearer))["error"]["name"] == "token_invalid"
            assert (await http.get("/v1/channels")).status_code == 401


async def test_c44_with_redis_down_every_node_finds_out_by_looking(cluster: Cluster, ann: str) -> None:
    async with three_connections(cluster, token(cluster, ann, "trader")) as peers:
        await cluster.redis.kill()
        try:
            async with rest(cluster.nodes[0], token(cluster, "boss", "admin")) as boss:
                assert (await boss.patch(f"/v1/users/{ann}", json={"disabled": True})).status_code == 200
            await eventually(all_closed(peers), within_s=BY_LOOKING_S)
        finally:
            await cluster.redis.start()

        assert {each.closed for each in peers} == {(4001, "signed out")}


async def test_c44_the_command_line_revokes_while_the_nodes_run(cluster: Cluster, ann: str) -> None:
    async with three_connections(cluster, token(cluster, ann, "trader")) as peers:
        await on(cluster, "user", "revoke", ann)
        await eventually(all_closed(peers), within_s=BY_LOOKING_S)

    async with peer(cluster.nodes[1], token(cluster, ann, "trader")) as again:
        await on(cluster, "user", "disable", ann)
        await eventually(all_closed([again]), within_s=BY_LOOKING_S)
    async with peer(cluster.nodes[1]) as refused:
        assert "error" in await refused.ask("connect", token=token(cluster, ann, "trader"))
    await on(cluster, "user", "enable", ann)
    await eventually(lambda: comes_in(cluster.nodes[1], token(cluster, ann, "trader")), within_s=BY_LOOKING_S)


async def comes_in(node: Node, bearer: str) -> bool:
    async with rest(node, bearer) as http:
        return (await http.get("/v1/channels")).status_code == 200


async def test_c62_other_roles_count_at_once_on_open_connections_of_both_nodes(cluster: Cluster, ann: str) -> None:
    channel, shared = f"orders:{ann}", "custom:shared"
    bearer = token(cluster, ann, "trader", "agent")
    async with three_connections(cluster, bearer, subscriptions={channel: {}, shared: {}}) as peers:
        await on(cluster, "user", "roles", ann, "--role", "agent")
        for each in peers:
            gone = await each.until(lambda message: message["type"] == "unsubscribed")
            assert (gone["channel"], gone["code"]) == (channel, 1003)

        await nothing_more_reaches(cluster, peers, channel)
        for each in peers:
            assert each.closed is None
            refused = await each.ask("publish", channel=channel, message={"type": "ORDER_EVENT", "data": ORDER})
            assert refused["error"]["name"] == "permission_denied"
            await each.publish(shared)
    async with rest(cluster.nodes[1], bearer) as http:  # an older token carries the new roles
        assert (await http.get(f"/v1/history/{channel}")).status_code == 403


async def test_c44_signing_out_ends_that_sign_in_and_no_other(cluster: Cluster, ann: str) -> None:
    await on(cluster, "user", "add", ann, "--role", "trader")
    first, second = [await sign_in(node, ann) for node in cluster.nodes]
    async with (
        peer(cluster.nodes[1], first["access_token"]) as mine,
        peer(cluster.nodes[0], second["access_token"]) as other,
        rest(cluster.nodes[0], first["access_token"]) as http,
    ):
        assert (await http.post("/v1/auth/logout")).status_code == 200
        await eventually(all_closed([mine]), within_s=BY_BELL_S)

        assert mine.closed == (4001, "signed out")
        assert (await http.get("/v1/channels")).status_code == 401
        assert "result" in await other.ask("subscribe", channel=f"orders:{ann}")
    assert await refresh(cluster.nodes[1], first) == 400
    assert await refresh(cluster.nodes[1], second) == 200


async def test_c56_everybody_sees_every_sign_in_and_socket_and_ends_one_or_all_others(
    cluster: Cluster, ann: str
) -> None:
    await on(cluster, "user", "add", ann, "--role", "trader")
    phone, desk = [await sign_in(node, ann) for node in cluster.nodes]
    script = token(cluster, ann, "trader")
    async with (
        peer(cluster.nodes[0], phone["access_token"], name="phone") as on_phone,
        peer(cluster.nodes[1], desk["access_token"], name="desk") as at_desk,
        peer(cluster.nodes[1], script, name="script") as by_script,
        rest(cluster.nodes[0], desk["access_token"]) as http,
    ):
        listed = (await http.get("/v1/sessions")).json()
        by_name = {socket["name"]: session for session in listed["data"] for socket in session["sockets"]}

        assert listed["meta"]["complete"] is True
        assert {name: (each["kind"], each["current"]) for name, each in by_name.items()} == {
            "phone": ("sign_in", False),
            "desk": ("sign_in", True),
            "script": ("token", False),
        }
        assert by_name["desk"]["sockets"][0]["node"] == cluster.nodes[1].name

        assert (await http.delete(f"/v1/sessions/{by_name['phone']['id']}")).status_code == 200
        await eventually(all_closed([on_phone]), within_s=BY_BELL_S)
        assert (at_desk.closed, by_script.closed) == (None, None)
        assert await refresh(cluster.nodes[1], phone) == 400

        assert (await http.delete("/v1/sessions")).status_code == 200
        await eventually(all_closed([by_script]), within_s=BY_BELL_S)
        assert at_desk.closed is None
        assert [each["id"] for each in (await http.get("/v1/sessions")).json()["data"]] == [by_name["desk"]["id"]]


async def test_c61_a_session_of_somebody_else_and_one_that_never_was_are_told_the_same(
    cluster: Cluster, ann: str
) -> None:
    await on(cluster, "user", "add", ann, "--role", "trader")
    hers = await sign_in(cluster.nodes[0], ann)
    async with rest(cluster.nodes[0], hers["access_token"]) as http:
        [session] = (await http.get("/v1/sessions")).json()["data"]
    async with rest(cluster.nodes[0], token(cluster, "mallory", "trader")) as http:
        foreign = await http.delete(f"/v1/sessions/{session['id']}")
        missing = await http.delete(f"/v1/sessions/{session['id'][::-1]}")
        assert (await http.get("/v1/sessions", params={"user": ann})).status_code == 403

    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["meta"]["error"] == missing.json()["meta"]["error"]


async def sign_in(node: Node, name: str) -> dict[str, Any]:
    async with rest(node) as http:
        answer = await http.post("/v1/auth/login", json={"name": name, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["data"]
    return found


async def refresh(node: Node, pair: dict[str, Any]) -> int:
    async with rest(node) as http:
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        return (await http.post("/oauth/token", data=form)).status_code
