"""Roles: gateways have the clients, workers do the work; and what a worker leaves behind when it is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner, Result
from processes import HubProcess, krin, running
from redis_server import redis_server
from sockets import RawSocket

from hub.bootstrap import open_database
from hub.cli import main
from hub.client import Client
from hub.config import load
from storage.database import Database
from storage.jobs import Jobs
from storage.messages import MessageLog, NewMessage

JOBS = 1_000
PAGE = 8  # as many connections as the pool has
LIMIT_S = 60
SUBJECT = "team:alpha"
# A second between two messages, and once ten minutes: something that statistics have to say.
SILENCE = [1_732_330_000_000 + 1_000 * place + 600_000 * (place > 20) for place in range(30)]
STORED = "SELECT count(*) FROM insights WHERE body IS NOT NULL"
TOLD = """
SELECT count(*), count(DISTINCT m.key) FROM messages AS m JOIN channels AS c ON c.id = m.channel_id
WHERE c.name = $1 AND m.type = 'INSIGHT'
"""
WEEK = {"name": "2026-W47", "since_ms": 0, "until_ms": 4_000_000_000_000}  # with all there is


@asynccontextmanager
async def database_of(data_dir: Path) -> AsyncIterator[Database]:
    async with open_database(load(data_dir=str(data_dir))) as (database, _):
        yield database


@asynccontextmanager
async def node(
    data_dir: Path, redis: str, name: str, *options: str, command: str = "serve"
) -> AsyncIterator[HubProcess]:
    """Started and stopped beside this loop, so that others can be at the same time."""
    context = running(data_dir, "--redis-url", redis, "--node", name, *options, command=command)
    hub = await asyncio.to_thread(context.__enter__)
    try:
        yield hub
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


async def put_all(jobs: Jobs) -> None:
    asked = {"subject": SUBJECT, "tenant": ""}
    for start in range(0, JOBS, PAGE):
        await asyncio.gather(*(jobs.put("insight", f"i{number}", asked) for number in range(start, start + PAGE)))


async def test_a_worker_that_is_killed_amid_a_thousand_jobs_leaves_each_insight_stored_once(tmp_path: Path) -> None:
    """Another worker takes over what was done by halves; each insight is stored once, and told once."""
    data_dir = tmp_path / "data"
    async with redis_server() as redis, database_of(data_dir) as database, asyncio.timeout(LIMIT_S):
        said = [NewMessage(SUBJECT, "NOTE", b'"data":{}', timestamp_ms, "") for timestamp_ms in SILENCE]
        await MessageLog(database).append(said)
        async with AsyncExitStack() as stack:
            first, _, _ = await asyncio.gather(
                *(stack.enter_async_context(node(data_dir, redis, name, command="worker")) for name in ("w1", "w2")),
                put_all(Jobs(database)),
            )
            while await database.fetch_value(STORED) < JOBS // 4:
                await asyncio.sleep(0.02)
            first.kill()
            assert await database.fetch_value(STORED) < JOBS
            cut_off = await database.fetch_value("SELECT count(*) FROM jobs WHERE worker = 'w1' AND state = 'running'")
            assert cut_off > 0  # it was in the middle of them; and now their leases end
            await database.execute("UPDATE jobs SET due_at = now() WHERE worker = 'w1' AND state = 'running'")
            while await database.fetch_value("SELECT count(*) FROM jobs WHERE kind = 'insight' AND state <> 'done'"):
                await asyncio.sleep(0.05)
        assert await database.fetch_value(STORED) == JOBS
        assert tuple(await database.fetch_row(TOLD, f"insights:{SUBJECT}")) == (JOBS, JOBS)
        again = await database.fetch_value("SELECT count(*) FROM jobs WHERE worker = 'w2' AND attempts = 2")
        assert again >= cut_off  # and whatever a busy machine has made it try again


async def test_a_gateway_has_the_clients_and_leaves_work_and_leading_to_the_worker(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with (
        redis_server() as redis,
        asyncio.timeout(LIMIT_S),
        httpx.AsyncClient() as http,
        node(data_dir, redis, "w1", command="worker") as worker,
        node(data_dir, redis, "g1", "--role", "gateway") as gateway,
    ):
        async with Client(gateway.url, token=gateway.token("ann", "admin"), timeout_s=30) as ann:
            assert (await ann.call("agents.list"))["specialists"] == []  # answered by whoever coordinates
            await ann.call("knowledge.add", kind="ai", title="Ask twice", body="Gateways make no documents")
            while not (await ann.search("gateways make no documents"))["hits"]:
                await asyncio.sleep(0.05)
            async with ann.subscribe("team:alpha") as team, database_of(data_dir) as database:
                await Jobs(database).put("digest", "any", {"week": WEEK, "team": "team:alpha"})
                digest = await anext(aiter(team))
            assert digest.type == "KNOWLEDGE_DIGEST"
            assert [each["title"] for each in digest.data["entries"]] == ["Ask twice"]
        metrics = {hub.url: (await http.get(f"{hub.url}/metrics")).text for hub in (worker, gateway)}
        for leads in ("krin_coordination_leading", "krin_orders_leading"):
            assert f"{leads} 1.0" in metrics[worker.url]
            assert f"{leads} 0.0" in metrics[gateway.url]


async def test_a_worker_has_a_door_for_its_operators_and_none_for_clients(tmp_path: Path) -> None:
    async with redis_server() as redis, node(tmp_path / "data", redis, "w1", command="worker") as worker:
        async with httpx.AsyncClient(base_url=worker.url) as http:
            assert (await http.get("/health")).json()["role"] == "worker"
            assert (await http.get("/ready")).status_code == 200
            assert "krin_jobs_late_seconds" in (await http.get("/metrics")).text
            for path in ("/", "/v1/search?query=x", "/openapi.json", "/static/app.js", "/sse?channels=custom:a"):
                assert (await http.get(path)).status_code == 404, path
        async with RawSocket.open(worker) as peer:
            status, _ = await peer.upgrade()
            assert status == 404


def test_a_role_that_needs_other_nodes_needs_redis(tmp_path: Path) -> None:
    done = krin("serve", "--role", "gateway", "--data-dir", str(tmp_path / "data"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "give --redis-url" in done.stderr


async def test_operators_see_what_is_parked_and_retry_or_discard_it(hub: Any) -> None:
    async def jobs(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, ["jobs", *arguments, "--data-dir", str(hub.data_dir)])

    async with database_of(hub.data_dir) as database:
        queue = Jobs(database)
        for key in ("first", "second"):
            await queue.put("test", key, {})
            [job] = await queue.claim(["test"], worker="w9", lease_s=60, limit=1)
            await queue.fail(job, f"[{key}] is no use", retry_in_s=None)
    listed = await jobs("list", "--state", "parked", "--kind", "test", "--json")
    second, first = (json.loads(line) for line in listed.stdout.splitlines())
    assert (first["key"], first["worker"], first["error"]) == ("first", "w9", "[first] is no use")
    ids = str(first["id"]), str(second["id"])
    assert (await jobs("retry", ids[0])).exit_code == 0
    refused = await jobs("discard", *ids)
    assert (refused.exit_code, f"not parked: {ids[0]}" in refused.stderr) == (1, True)
    left = await jobs("list", "--kind", "test")
    assert "waiting" in left.stdout
    assert "[first] is no use" in left.stdout
    assert "second" not in left.stdout
    assert (await jobs("retry")).exit_code == 2
