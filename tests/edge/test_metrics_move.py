"""Every metric of the page in hub/README.md moves: a hub lives through a day of work and of trouble, in seconds.

The hub is in this process, so that its clock can leap; its Postgres, Redis, sockets and model server are real, and what
is done is done at its doors, or to what it stands on.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import uvicorn
from openai_server import OpenAIServer, openai_server, refused, says, vectors
from processes import ROOT
from receiver import receiving
from redis.asyncio import Redis
from redis_server import redis_server
from sockets import RawSocket, peer
from starlette.requests import Request
from starlette.routing import Route
from test_metrics_page import page
from test_team_at_the_door import Agent, Scene

from hub.app import create_app
from hub.bootstrap import Hub, make_tokens, open_hub
from hub.caller import Caller
from hub.client import Client, Subscription
from hub.clock import SystemClock
from hub.config import load
from hub.edge.http import StreamingHttpProtocol
from hub.edge.raw import RawWebSocketProtocol
from protocol.errors import HubError
from storage.database import Database
from storage.embedded import EmbeddedPostgres
from storage.feed_lock import LOCK as FEED
from storage.jobs import Jobs
from storage.messages import MessageLog, NewMessage

ELSEWHERE = {
    "krin_audit_lost": "tests/hub/test_audit.py::"
    "test_c77_entries_wait_for_a_database_that_is_away_and_what_did_not_fit_is_audited",
    "krin_orders_illegal": "tests/hub/test_order_engine.py::"
    "test_an_impossible_report_is_not_believed_and_somebody_is_told",
    "krin_orders_repeats": "tests/hub/test_order_engine.py::test_a_report_that_comes_twice_counts_once",
}
"""What would take more than a day, or a venue that is no paper venue: where it is seen to move."""

SETTINGS = """
ping_interval_s = 3600
[limits]
exempt_networks = []
logins_per_min = 2
address_connections = 1000
user_connections = 1000
connects_per_s = 1000
requests_per_s = 10000
[insights]
model = "gpt-test"
consent = false
usd_per_mtok_in = 1.0
usd_per_mtok_out = 10.0
[webhooks]
allow_private = true
[search]
embedder = "openai"
consent = false
[openai]
api_key = "sk-test"
base_url = "{model}"
[feeds.sim]
kind = "simulated"
rate = 1
symbols = 1
[feeds.kraken]
kind = "replay"
file = "{folder}/kraken.txt"
[feeds.coinbase]
kind = "replay"
file = "{folder}/coinbase.txt"
"""
# A book whose checksum is wrong, and a trade that comes when its bars have long been closed.
RECORDINGS = {
    "kraken": """\
100.0: [0,{"as":[["2.0","1.0","99.0"]],"bs":[["1.0","1.0","99.0"]]},"book-10","ETH/USD"]
100.1: [0,{"a":[["2.0","2.0","100.1"]],"c":"1"},"book-10","ETH/USD"]
""",
    "coinbase": """\
100.0: {"type":"subscriptions"}
101.0: {"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"ETH-USD","time":"1970-01-01T00:00:40Z"}
""",
}
RISK = {
    "kind": "RISK",
    "statement": "there are 3 tables",
    "evidence": [{"ref": "1", "value": "3 tables"}],
    "confidence": 0.7,
    "severity": "WARNING",
    "action": None,
}
PATIENCE_S = 30.0


class LeapingClock(SystemClock):
    """Time as it is, and a leap now and then, as after a suspended laptop: whoever should have woken meanwhile does."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self._leapt = asyncio.Event()

    def now_ms(self) -> int:
        return super().now_ms() + round(self._ahead_s * 1_000)

    def now_us(self) -> int:
        return super().now_us() + round(self._ahead_s * 1_000_000)

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    async def sleep(self, seconds: float) -> None:
        left_s = max(0.0, seconds)
        until = self.monotonic() + left_s
        while left_s >= 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._leapt.wait()
            left_s = until - self.monotonic()

    def leap(self, seconds: float) -> None:
        self._ahead_s += seconds
        self._leapt.set()
        self._leapt = asyncio.Event()


def families(text: str) -> dict[str, str]:
    """What is exposed of each: cheaper than to parse it."""
    return {block.split(" ", 1)[0].removesuffix("_total"): block for block in text.split("# HELP ")[1:]}


class Day:
    """A hub, what it stands on, and which of its metrics have moved."""

    def __init__(
        self,
        hub: Hub,
        url: str,
        *,
        clock: LeapingClock,
        postgres: asyncpg.Connection[Any],
        database: Database,
        redis: AsyncExitStack,
        model: OpenAIServer,
        trouble: Trouble,
    ) -> None:
        """`redis` ends the server of that name."""
        self.hub = hub
        self.url = url
        self.database = database
        self.redis = redis
        self.trouble = trouble
        self.ws_url = url.replace("http", "ws", 1) + "/ws"
        self.clock = clock
        self.postgres = postgres
        self.model = model
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=httpx.Limits(max_connections=None))
        self.moved: set[str] = set()
        self.at_work = 0.0
        self._first: dict[str, str] = {}

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.url.rpartition(":")[2])

    def token(self, name: str, *roles: str, teams: tuple[str, ...] = ("*",)) -> str:
        tokens = make_tokens(self.hub.settings, self.clock)
        return tokens.issue(name, roles=roles or ("admin",), teams=teams, ttl_s=86_400, principal="operator")

    def client(self, name: str, *roles: str) -> Client:
        return Client(self.url, token=self.token(name, *roles), timeout_s=PATIENCE_S)

    async def rest(self, method: str, path: str, **fields: Any) -> httpx.Response:
        return await self.http.request(
            method, path, headers={"authorization": f"Bearer {self.token('root')}"}, **fields
        )

    async def look(self) -> None:
        now = families((await self.http.get("/metrics")).text)
        self.moved |= {name for name, block in now.items() if block != self._first.setdefault(name, block)}
        self.at_work = float(now["krin_requests_at_work"].split()[-1])

    async def until(self, *names: str, leap_s: float = 0.0) -> None:
        """Look until these have moved, with a leap of the clock before each look."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.look()
                while not self.moved.issuperset(names):
                    self.clock.leap(leap_s)
                    await asyncio.sleep(0.02)
                    await self.look()
        except TimeoutError:
            raise AssertionError(f"{set(names) - self.moved} did not move") from None

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Nobody gets at a table."""
        async with self.postgres.transaction():
            await self.postgres.execute(f"LOCK TABLE {table}")
            yield


@asynccontextmanager
async def serving(hub: Hub, *routes: Route) -> AsyncIterator[str]:
    app = create_app(hub)
    app.router.routes[:0] = routes
    config = uvicorn.Config(
        app,
        http=StreamingHttpProtocol,
        ws=RawWebSocketProtocol,
        port=0,
        lifespan="off",
        log_config=None,
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not server.started:
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class Trouble:
    """Routes as an embedding program makes them: one that hangs, and one that fails in ever new ways."""

    def __init__(self, hub: Hub) -> None:
        self.hanging = asyncio.Event()
        make = hub.api.create_revolutionary_endpoint
        self.routes = [
            Route("/v1/hang", make(self._hang, name="GET /v1/hang")),
            Route("/v1/fail/{kind}", make(self._fail, name="GET /v1/fail")),
        ]

    async def _hang(self, request: Request, caller: Caller) -> Any:
        await self.hanging.wait()

    async def _fail(self, request: Request, caller: Caller) -> Any:
        raise type(request.path_params["kind"], (Exception,), {})()


@asynccontextmanager
async def dawn(folder: Path) -> AsyncIterator[Day]:
    clock, redis = LeapingClock(), AsyncExitStack()
    data_dir, config = folder / "data", folder / "krin.toml"
    for name, text in RECORDINGS.items():
        (folder / f"{name}.txt").write_text(text)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(EmbeddedPostgres(data_dir))
        model = await stack.enter_async_context(openai_server())
        await stack.enter_async_context(redis)
        url = await redis.enter_async_context(redis_server(limit_s=200))
        config.write_text(SETTINGS.format(model=model.url, folder=folder))
        settings = load(config, data_dir=str(data_dir), database_url=dsn, redis_url=url, node="n1")
        hub = await stack.enter_async_context(open_hub(settings, clock=clock))
        trouble = Trouble(hub)
        door = await stack.enter_async_context(serving(hub, *trouble.routes))
        postgres = await asyncpg.connect(dsn)
        stack.push_async_callback(postgres.close)
        database = await stack.enter_async_context(Database.open(dsn))
        day = Day(
            hub, door, clock=clock, postgres=postgres, database=database, redis=redis, model=model, trouble=trouble
        )
        stack.push_async_callback(day.http.aclose)
        await day.look()
        yield day


# --- what moves what -------------------------------------------------------------------------------------------------


async def people_talk(day: Day) -> None:
    async with day.client("root", "admin") as root, day.client("tom", "trader") as tom:
        async with root.subscribe("team:room") as room:
            await room.ready()
            await root.publish("team:room", "ALERT", {"alert_id": "a", "severity": "INFO", "title": "the fuse"})
            await day.until("krin_connections", "krin_connections_accepted", "krin_subscriptions", "krin_channels")
        with suppress(HubError):
            await tom.publish("system:status", "STATUS", {})
        with suppress(HubError):
            await root.call("no.such_thing")
    for _ in range(3):  # one more than may be
        await day.http.post("/v1/auth/login", json={"name": "nina", "password": "wrong"})
    for number in range(6):
        await day.http.get("/v1/history/team:room", headers={"authorization": f"Bearer {number}"})
    await day.until(
        *("krin_commands", "krin_connections_ended", "krin_deliveries", "krin_messages_out", "krin_errors"),
        *("krin_delivery_latency_ms", "krin_durable_batch", "krin_durable_commit_ms", "krin_durable_commits"),
        *("krin_durable_committed", "krin_recoveries", "krin_operation_ms", "krin_operations", "krin_apdex"),
        *("krin_rate_limited", "krin_security_denied", "krin_threats", "krin_audit_written", "krin_tasks"),
    )


async def a_program_is_told(day: Day) -> None:
    async with receiving() as receiver, day.client("ann", "agent") as ann:
        await day.look()
        made = await day.rest("POST", "/v1/webhooks", json={"url": receiver.url, "channels": ["team:hooks"]})
        assert made.status_code == 200, made.text
        await ann.publish("team:hooks", "SPECIALIST_UPDATE", [{"specialist_id": "ann"}])
        await receiver.until(1)
        await day.until("krin_webhooks", "krin_webhook_attempts")


async def a_team_works(day: Day) -> None:
    scene = Scene(day)  # type: ignore[arg-type]  # it is as much of a HubProcess as that needs
    ann, bob = [await scene.agent(name, heartbeat_s=300, max_concurrent=3) for name in ("ann", "bob")]
    await scene.project(ann.client, *({"task_id": name} for name in "abc"))
    await ann.say("tasks.submit", await ann.claim(), artifacts=[{"name": "report"}], cost_usd="0.5")
    await ann.say("tasks.block", await ann.claim(), blockers=[{"kind": "person", "ref": "bob"}])
    await day.until("krin_coordination_efficiency", "krin_specialist_seconds", leap_s=1)
    claimed = await ann.claim("c")
    offered = await ann.client.call(
        "handoffs.offer",
        project_id=scene.team,
        task_id="c",
        specialist_id=ann.name,
        fence=claimed["fence"],
        to_specialist=bob.name,
        expires_at=day.clock.now_us() + 60_000_000,
    )
    await planned(ann)
    name = offered["handoff"]["handoff_id"]
    await bob.client.call("handoffs.accept", handoff_id=name, specialist_id=bob.name)
    await planned(ann)
    await day.until(
        *("krin_specialists", "krin_projects", "krin_tasks_of_teams", "krin_coordination_commits"),
        *("krin_active_teams", "krin_handoff_seconds", "krin_plan_churn", "krin_task_cost_usd"),
    )
    for client in scene.clients:
        await client.__aexit__(None, None, None)


async def planned(agent: Agent) -> None:
    proposed = await agent.client.call("team.plan", project_id=agent.team)
    await agent.client.call("team.commit", project_id=agent.team, plan_id=proposed["plan"]["plan_id"])


async def a_trader_trades(day: Day) -> None:
    async with day.client("tom", "trader") as tom, day.client("rita", "risk") as rita:
        async with asyncio.timeout(PATIENCE_S), tom.orders.reports() as reports:
            while (await tom.orders.validate("BTC-USD", "BUY", "0.001")).result != "APPROVED":
                await asyncio.sleep(0.05)
            await reports.until(await tom.orders.submit("BTC-USD", "BUY", "0.001"), "FILLED")
            with suppress(HubError):
                await tom.orders.submit("BTC-USD", "BUY", "1000000")
        await rita.call("risk.halt", scope="ACCOUNT", name="nobody", reason="fire drill")
        await day.until(
            *("krin_orders_commits", "krin_orders_known", "krin_risk_decisions", "krin_trading_halted"),
            *("krin_fill_ratio", "krin_reject_ratio"),
            *("krin_feed_published", "krin_feed_gaps", "krin_late_trades", "krin_security_allowed", "krin_redis_ms"),
        )


async def somebody_does_not_read(day: Day) -> None:
    async with (
        day.client("feed", "admin") as feed,
        RawSocket.upgraded(day, token=day.token("slow"), receive_buffer=4096) as slow,
    ):
        slow.send(json.dumps({"type": "subscribe", "id": 2, "channel": "prices:slow"}).encode())
        await slow.frame()
        async with asyncio.timeout(PATIENCE_S):
            while not day.moved.issuperset({"krin_conflated", "krin_outbox_bytes"}):
                for number in range(20):
                    tick = {"symbol": "X", "bid": str(number), "ext": {"pad": "x" * 20_000}}
                    await feed.publish("prices:slow", "PRICE_TICK", tick)
                await day.look()


async def more_is_asked_than_can_be_done(day: Day) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(257):
            group.create_task(day.rest("GET", "/v1/hang"))
        await day.until("krin_requests_at_work", "krin_requests_overloaded")
        day.trouble.hanging.set()
    await day.until("krin_requests_at_work_limit")


async def everything_breaks_at_once(day: Day) -> None:
    async with day.locked("error_groups"):
        for number in range(220):
            await day.rest("GET", f"/v1/fail/E{number}")
        await day.until("krin_errors_uncounted")


async def a_model_looks_at_it(day: Day) -> None:
    await day.rest("POST", "/v1/publish", json=said("team:alpha"))
    async with day.locked("insights"):
        await day.rest("GET", "/v1/history/team:alpha")
        await day.until("krin_answers_without_insights")
    day.model.reply = says(RISK)
    await promised(day, "team:alpha")
    await day.until(
        *(
            "gen_ai_client_operation_duration_ms",
            "gen_ai_client_token_usage",
            "krin_model_calls",
            "krin_model_cost_usd",
        ),
        *("krin_insights_made", "krin_insights_answered", "krin_job_ms", "krin_jobs_attempts"),
    )
    async with asyncio.timeout(PATIENCE_S):
        while not (made := (await day.rest("GET", "/v1/insights", params={"subject": "team:alpha"})).json()["data"]):
            await asyncio.sleep(0.02)
    async with day.client("root") as root:
        await root.call("insights.feedback", insight_id=made[0]["insight_id"], verdict="accepted")
    await day.until("krin_insight_acceptance")
    day.model.reply = refused(500)
    for number in range(5):
        await day.rest("POST", "/v1/publish", json=said(f"team:ill-{number}"))
        await promised(day, f"team:ill-{number}")
    await day.until("krin_model_breaker", "krin_model_breaker_opened")
    await Jobs(day.database).put("of no worker", "any", {})
    await day.until("krin_jobs", "krin_jobs_late_seconds", leap_s=1)


def said(channel: str) -> dict[str, Any]:
    update = [{"specialist_id": "root", "message": "waiting for 3 tables"}]
    return {"channel": channel, "message": {"type": "SPECIALIST_UPDATE", "data": update}}


async def promised(day: Day, channel: str) -> None:
    """Asked again while that cannot be said within 5 ms, which a busy machine may not manage."""
    async with asyncio.timeout(PATIENCE_S):
        while (await day.rest("GET", f"/v1/history/{channel}")).json()["ai_insights"].get("reason") == "timeout":
            await asyncio.sleep(0.01)


async def somebody_searches(day: Day) -> None:
    """In the same order again and again, and once not."""
    for query in (*("bread", "butter") * 4, "bread", "jam"):
        await day.rest("GET", "/v1/search", params={"query": query})
    day.clock.leap(40)  # what was kept is too old
    await day.rest("GET", "/v1/search", params={"query": "bread"})
    await day.until(
        *("krin_cache_answers", "krin_prefetch_guesses", "krin_prefetch_hits", "krin_prefetch_wasted"),
        "krin_cache_lifetime_s",
    )


async def the_load_grows_and_answers_slow_down(day: Day) -> None:
    """Operators hear of it on the socket within a minute, and when it is over."""
    async with AsyncExitStack() as crowd:
        for number in range(24):
            for _ in range(8 if number < 4 else 0):
                await crowd.enter_async_context(peer(day, day.token(f"u{number}")))
            for _ in range(10):
                await day.rest("GET", "/v1/hang")
            day.clock.leap(15)
            await day.look()
        await day.until("hub_scale_hint", "krin_load_forecast", "krin_load_prewarmed")
    async with day.client("ops", "admin") as ops, ops.subscribe("alerts:ops") as alerts:
        await alerts.ready()
        began_us = day.clock.now_us()
        for _ in range(4):
            day.trouble.hanging.clear()
            async with asyncio.TaskGroup() as group:
                for _ in range(12):
                    group.create_task(day.rest("GET", "/v1/hang"))
                while day.at_work < 12:
                    await day.look()
                day.clock.leap(2)
                day.trouble.hanging.set()
            day.clock.leap(15)
            await day.look()
        await day.until("krin_anomalies_firing", "krin_alerts_firing", "krin_burn_rate", "krin_error_budget_left")
        assert await heard(alerts, "FIRING") - began_us <= 60_000_000
        for _ in range(10):  # and now it is calm
            for _ in range(3):
                await day.rest("GET", "/v1/hang")
            day.clock.leap(5)
            await day.look()
        await heard(alerts, "RESOLVED")


async def heard(alerts: Subscription, state: str) -> int:
    """When the objective of REST was told to be missed, or held again, microseconds."""
    async with asyncio.timeout(PATIENCE_S):
        async for message in alerts:
            if "objective:rest" in message.data["alert_id"] and message.data.get("state", "FIRING") == state:
                return int(message.data["ts_event"])
    raise AssertionError("the subscription has ended")


async def postgres_is_slow_and_then_away(day: Day) -> None:
    async with day.locked("channels"):
        waiting = asyncio.create_task(day.rest("POST", "/v1/publish", json=said("team:alpha")))
        await day.until("krin_durable_waiting")
    await waiting
    async with day.locked("audit_log"):
        await day.http.get("/v1/history/team:room", headers={"authorization": "Bearer x"})
        await day.until("krin_audit_waiting")
    async with day.client("root") as root, root.subscribe("team:alpha") as team:
        await team.ready()
        body = json.dumps({"data": []}).encode()[1:-1]
        await MessageLog(day.database).append([NewMessage("team:alpha", "SPECIALIST_UPDATE", body, 0, "another node")])
        await day.until("krin_durable_mended", leap_s=1)
    await somebody_else_feeds(day)
    day.model.hanging = asyncio.Event()
    await day.rest("POST", "/v1/publish", json=said("team:alpha"))
    async with away(day):
        await day.rest("POST", "/v1/publish", json=said("team:alpha"))
        await day.until("krin_durable_available", "krin_orders_leading", "krin_coordination_leading", leap_s=1)
    await day.until("krin_orders_terms", "krin_coordination_terms", leap_s=1)
    await day.until("krin_documents_behind", leap_s=5)
    day.model.answer = refused(500)
    day.model.hanging.set()
    await day.until("krin_documents_stored", "krin_documents_stale", leap_s=5)
    day.model.answer = vectors
    await day.until("krin_documents_embedded", leap_s=5)


async def somebody_else_feeds(day: Day) -> None:
    """Another node is quicker when the session that holds the lock is lost."""
    holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1"
    await day.postgres.execute(holder, FEED)
    await day.postgres.execute("SELECT pg_advisory_lock($1)", FEED)
    await day.until("krin_feed_here", leap_s=1)
    await day.postgres.execute("SELECT pg_advisory_unlock($1)", FEED)


@asynccontextmanager
async def away(day: Day) -> AsyncIterator[None]:
    """Postgres lets nobody in, and sends away whoever is there."""
    elsewhere = await asyncpg.connect(day.hub.settings.database_url, database="template1")
    name = await day.postgres.fetchval("SELECT current_database()")
    try:
        await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        await elsewhere.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        yield
    finally:
        await elsewhere.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await elsewhere.close()


async def redis_hiccups_and_goes(day: Day) -> None:
    settings = day.hub.settings
    assert settings.redis_url is not None
    async with (
        open_hub(msgspec.structs.replace(settings, node="n2", role="gateway"), clock=day.clock) as other,
        Redis.from_url(settings.redis_url) as redis,
        day.client("root") as root,
        root.subscribe("custom:room") as room,
    ):
        await room.ready()
        await redis.publish("krin:{custom:room}", b"junk")
        await day.until("krin_bells_rejected")
        async with asyncio.timeout(PATIENCE_S):
            while not day.moved.issuperset({"krin_bell_reconnects", "krin_redis_mended"}):
                await redis.client_kill_filter(_type="pubsub")
                with suppress(HubError):
                    await other.dispatcher.publish("custom:room", "NOTE", {})
                await day.look()
    await day.redis.aclose()
    await day.rest("GET", "/v1/search", params={"query": "bread"})
    await day.until("krin_redis_available", "krin_cache_unavailable", "krin_feed_refused")


async def an_old_paper_is_found(day: Day) -> None:
    await day.database.execute(
        "INSERT INTO privacy_requests (person, kind, requested_at, confirm_by, due_at)"
        " SELECT 'somebody', 'erase', now() - interval '60 days', past, past FROM (SELECT now() - interval '30 days') AS of (past)"
    )
    await day.database.execute("UPDATE jobs SET ended_at = ended_at - interval '60 days'")
    await day.until("krin_privacy_overdue", "krin_retention_deleted", leap_s=600)


STORY = (
    people_talk,
    a_program_is_told,
    a_team_works,
    a_trader_trades,
    somebody_does_not_read,
    more_is_asked_than_can_be_done,
    everything_breaks_at_once,
    a_model_looks_at_it,
    somebody_searches,
    the_load_grows_and_answers_slow_down,
    postgres_is_slow_and_then_away,
    an_old_paper_is_found,
    redis_hiccups_and_goes,
)


async def test_every_metric_of_the_page_moves(tmp_path: Path) -> None:
    async with dawn(tmp_path) as day:
        for chapter in STORY:
            await chapter(day)
    assert set(page()) - day.moved <= set(ELSEWHERE), "nothing moves these"


def test_what_moves_elsewhere_does() -> None:
    assert set(ELSEWHERE) <= set(page())
    for name, place in ELSEWHERE.items():
        file, _, test = place.partition("::")
        [found] = re.findall(rf"def {test}\(.*?(?=\n\n\n|\Z)", (ROOT / file).read_text(), re.DOTALL)
        assert name in found, f"{place} does not say that it is about {name}"
