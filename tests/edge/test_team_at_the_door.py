"""Specialists and their tasks through the socket: registered, claimed, reported, fenced, given to somebody else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from processes import HubProcess, running
from redis_server import redis_server

from hub.client import Client
from protocol.errors import HubError


class Agent:
    """A specialist of one team over a connection of its own."""

    def __init__(self, client: Client, name: str, team: str) -> None:
        self.client = client
        self.name = name
        self.team = team

    async def register(self, **fields: Any) -> Any:
        specialist = {"specialist_id": self.name, "team": self.team, "heartbeat_s": 1, **fields}
        return await self.client.call("agents.register", specialist=specialist)

    async def claim(self, task_id: str | None = None) -> Any:
        asked = {"specialist_id": self.name, "project_id": self.team} | ({"task_id": task_id} if task_id else {})
        return await self.client.call("tasks.claim", **asked)

    async def say(self, method: str, claimed: Any, **fields: Any) -> Any:
        held = {
            "project_id": self.team,
            "task_id": claimed["task"]["task_id"],
            "specialist_id": self.name,
            "fence": claimed["fence"],
        }
        return (await self.client.call(method, **held | fields))["task"]


class Scene:
    def __init__(self, hub: HubProcess) -> None:
        self.hub = hub
        self.team = f"team-{secrets.token_hex(4)}"
        self.clients: list[Client] = []

    async def client(self, name: str, *roles: str) -> Client:
        client = Client(self.hub.url, token=self.hub.token(name, *(roles or ("agent",)), teams=(self.team,)))
        self.clients.append(await client.__aenter__())
        return client

    async def agent(self, name: str, **fields: Any) -> Agent:
        made = Agent(await self.client(name), f"{name}-{self.team}", self.team)
        await made.register(**fields)
        return made

    async def project(self, client: Client, *tasks: dict[str, Any], **fields: Any) -> Any:
        project = {"project_id": self.team, "tasks": list(tasks), **fields}
        return await client.call("projects.create", project=project)

    async def task(self, client: Client, task_id: str) -> Any:
        return await client.call("tasks.get", project_id=self.team, task_id=task_id)


@pytest_asyncio.fixture
async def scene(hub: HubProcess) -> AsyncIterator[Scene]:
    made = Scene(hub)
    async with asyncio.timeout(60):
        yield made
        for client in made.clients:
            await client.__aexit__(None, None, None)


async def test_a_task_goes_from_the_queue_to_completed_and_its_follower_is_next(scene: Scene) -> None:
    ann = await scene.agent("ann")
    created = await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2", "depends_on": ["t-1"]})
    assert created == {"project_id": scene.team, "tasks": 2}
    assert await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2", "depends_on": ["t-1"]}) == created
    first = await ann.claim()
    assert (first["task"]["task_id"], first["fence"], first["task"]["substate"]) == ("t-1", 1, "RUNNING")
    assert await ann.claim() == {}, "the other one waits, and one at a time is what ann can do"
    assert (await ann.say("tasks.progress", first, progress=0.5))["progress"] == 0.5
    with pytest.raises(HubError, match="illegal_transition"):
        await ann.say("tasks.progress", first, progress=0.4)
    assert (await ann.say("tasks.submit", first, artifacts=[{"name": "report"}]))["state"] == "COMPLETED"
    assert (await ann.claim())["task"]["task_id"] == "t-2"
    with pytest.raises(HubError, match="illegal_transition"):
        await ann.say("tasks.submit", first, artifacts=[{"name": "again"}])


async def test_watchers_read_every_event_of_a_task_in_order(scene: Scene) -> None:
    ann = await scene.agent("ann")
    watcher = await scene.client("eve", "dashboard")
    async with watcher.subscribe(f"tasks:{scene.team}") as events:
        await scene.project(ann.client, {"task_id": "t-1"})
        await ann.say("tasks.submit", await ann.claim(), artifacts=[{"name": "report"}])
        seen = [await anext(events) for _ in range(4)]
    assert [(each.type, each.data.get("substate"), each.data["state"]) for each in seen] == [
        ("TASK_CREATED", "QUEUED", "SUBMITTED"),
        ("TASK_STATUS_UPDATE", "ASSIGNED", "SUBMITTED"),
        ("TASK_STATUS_UPDATE", "RUNNING", "WORKING"),
        ("TASK_STATUS_UPDATE", None, "COMPLETED"),
    ]
    assert {each.publisher for each in seen} == {"krin"}


async def test_the_task_of_an_agent_that_dies_is_offered_again_and_its_late_update_is_refused(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    dead = scene.clients.pop(0)
    await dead.__aexit__(None, None, None)  # its process is gone: no heartbeat, no connection
    async with asyncio.timeout(30):
        while not (again := await bob.claim()):
            await asyncio.sleep(0.05)
    assert (again["task"]["task_id"], again["fence"], again["task"]["attempt"]) == ("t-1", 2, 1)
    late = Agent(await scene.client("ann"), ann.name, scene.team)
    with pytest.raises(HubError, match="version_conflict"):
        await late.say("tasks.submit", claimed, artifacts=[{"name": "late"}])
    beat = {"specialist_id": ann.name, "claims": [{"project_id": scene.team, "task_id": "t-1", "fence": 1}]}
    answer = await late.client.call("agents.heartbeat", **beat)
    assert answer["lost"] == [{"project_id": scene.team, "task_id": "t-1"}]
    assert answer["status"]["presence"] == "ONLINE"


async def test_a_heartbeat_keeps_a_task_without_any_progress(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    claims = [{"project_id": scene.team, "task_id": "t-1", "fence": claimed["fence"]}]
    started = (await scene.task(ann.client, "t-1"))["task"]["ts_event"]
    now = started
    async with asyncio.timeout(30):
        while now < started + 5_000_000:  # past the lease of three seconds
            answer = await ann.client.call("agents.heartbeat", specialist_id=ann.name, claims=claims)
            assert "lost" not in answer
            assert await bob.claim() == {}
            now = answer["status"]["last_heartbeat"]
            await asyncio.sleep(0.05)


async def test_nobody_speaks_for_the_specialist_of_another_or_in_another_team(scene: Scene) -> None:
    ann, eve = await scene.agent("ann"), await scene.client("eve")
    await scene.project(ann.client, {"task_id": "t-1"})
    for method, params in (
        ("tasks.claim", {"specialist_id": ann.name, "project_id": scene.team}),
        ("agents.heartbeat", {"specialist_id": ann.name}),
        ("agents.leave", {"specialist_id": ann.name}),
        ("agents.register", {"specialist": {"specialist_id": ann.name, "team": scene.team}}),
    ):
        with pytest.raises(HubError, match="permission_denied"):
            await eve.call(method, **params)
    other = Client(scene.hub.url, token=scene.hub.token("mallory", "agent", teams=("elsewhere",)))
    async with other as mallory:
        for method, params in (
            ("tasks.get", {"project_id": scene.team, "task_id": "t-1"}),
            ("tasks.list", {"project_id": scene.team}),
            ("tasks.cancel", {"project_id": scene.team, "task_id": "t-1"}),
            ("projects.get", {"project_id": scene.team}),
            ("agents.status", {"specialist_id": ann.name}),
        ):
            with pytest.raises(HubError, match="permission_denied"):
                await mallory.call(method, **params)
        assert (await mallory.call("agents.list"))["specialists"] == []
        assert (await mallory.call("projects.list"))["projects"] == []
        with pytest.raises(HubError, match="unknown_type"):
            await mallory.call("agents.gone", specialist_id=ann.name)


async def test_a_blocker_that_is_a_task_goes_when_that_task_is_completed(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob")
    await scene.project(ann.client, {"task_id": "t-1", "priority": 60}, {"task_id": "t-2"})
    first, second = await ann.claim(), await bob.claim()
    blocked = await bob.say("tasks.block", second, blockers=[{"kind": "task", "ref": "t-1"}])
    assert blocked["substate"] == "BLOCKED"
    await ann.say("tasks.submit", first, artifacts=[{"name": "report"}])
    assert (await scene.task(bob.client, "t-2"))["task"]["substate"] == "RUNNING"


async def test_nothing_is_blocked_by_what_waits_for_it(scene: Scene) -> None:
    ann = await scene.agent("ann", max_concurrent=3)
    tasks = [{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}, {"task_id": "c"}, {"task_id": "d"}]
    await scene.project(ann.client, *tasks)
    first, third = await ann.claim("a"), await ann.claim("c")
    await ann.say("tasks.block", third, blockers=[{"kind": "task", "ref": "a"}])
    for ref in "abc":  # itself, what depends on it, what it blocks
        with pytest.raises(HubError, match="schema_invalid") as refused:
            await ann.say("tasks.block", first, blockers=[{"kind": "task", "ref": "d"}, {"kind": "task", "ref": ref}])
        assert refused.value.path == "$.params.blockers"
    with pytest.raises(HubError, match="not_found"):
        await ann.say("tasks.block", first, blockers=[{"kind": "task", "ref": "nowhere"}])
    assert (await ann.say("tasks.progress", first, progress=0.1))["substate"] == "RUNNING"


async def test_who_has_lost_a_task_hears_that_before_anybody_else_has_it(scene: Scene) -> None:
    ann = await scene.agent("ann")
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    async with asyncio.timeout(30):
        while (await scene.task(ann.client, "t-1"))["task"]["state"] != "SUBMITTED":
            await asyncio.sleep(0.05)
    for method, fields in (
        ("tasks.progress", {"progress": 0.5}),
        ("tasks.submit", {"artifacts": [{"name": "late"}]}),
        ("tasks.fail", {"reason": "late"}),
        ("tasks.block", {"blockers": [{"kind": "resource", "ref": "disk"}]}),
    ):
        with pytest.raises(HubError, match="version_conflict"):
            await ann.say(method, claimed, **fields)


async def test_a_refusal_names_the_field_from_the_root_of_the_command(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, {"task_id": "t-1", "gates": [{"gate_id": "g", "kind": "AGENT_REVIEW"}]})
    claimed = await ann.claim()
    held = {"project_id": scene.team, "task_id": "t-1", "specialist_id": ann.name, "fence": claimed["fence"]}
    question = {"reason": "INPUT", "message": "?", "approver_roles": ["lead"], "expires_at": 1}
    circle = [{"task_id": "a", "depends_on": ["b"]}, {"task_id": "b", "depends_on": ["a"]}]
    lost = [{"task_id": "a"}, {"task_id": "b", "depends_on": ["nowhere"]}]
    differs = [{"task_id": "a", "gates": [{"gate_id": "g", "kind": "HUMAN_REVIEW"}]}]
    gated = {"project_id": "x", "gates": [{"gate_id": "g"}], "tasks": differs}
    update = {"specialist_id": ann.name, "project_id": scene.team}
    announced = {"contract": "c", "version": "1", "change": "?", "effective_at": 1}
    for field, method, params in (
        ("project.tasks", "projects.create", {"project": {"project_id": scene.team, "tasks": circle}}),
        ("project.tasks[1]", "projects.create", {"project": {"project_id": scene.team, "tasks": lost}}),
        ("project.tasks[0].gates", "projects.create", {"project": {**gated, "project_id": scene.team}}),
        ("tasks", "tasks.create", {"project_id": scene.team, "tasks": circle}),
        ("tasks[1]", "tasks.create", {"project_id": scene.team, "tasks": lost}),
        ("expires_at", "tasks.request_input", {**held, **question}),
        ("to_specialist", "handoffs.offer", {**held, "expires_at": 1}),
        ("to_specialist", "handoffs.offer", {**held, "to_specialist": "nobody", "expires_at": 2**50}),
        ("expires_at", "handoffs.offer", {**held, "to_skill": "py", "expires_at": 1}),
        ("gate_id", "tasks.gate", {"project_id": scene.team, "task_id": "t-1", "gate_id": "h", "result": "WAIVED"}),
        ("updates", "team.sync", {"updates": [update, {**update, "project_id": "other"}]}),
        ("effective_at", "contracts.announce", {"project_id": scene.team, **announced}),
    ):
        with pytest.raises(HubError) as refused:
            await ann.client.call(method, **params)
        assert refused.value.path == f"$.params.{field}" or field == "updates", refused.value


async def test_a_retry_takes_the_place_of_the_task_that_failed(scene: Scene) -> None:
    ann = await scene.agent("ann")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2", "depends_on": ["t-1"]})
    await ann.say("tasks.fail", await ann.claim(), reason="no disk")
    assert await ann.claim() == {}
    again = {"task_id": "t-1b", "reference_task_ids": ["t-1"]}
    await ann.client.call("tasks.create", project_id=scene.team, tasks=[again])
    await ann.say("tasks.submit", await ann.claim(), artifacts=[{"name": "report"}])
    assert (await ann.claim())["task"]["task_id"] == "t-2"


async def test_an_agent_that_is_paused_stops_and_goes_on(scene: Scene) -> None:
    ann, lead = await scene.agent("ann"), await scene.client("lea")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2"})
    claimed = await ann.claim()
    paused = await lead.call("agents.pause", specialist_id=ann.name, reason="too dear")
    assert paused["status"]["activity"] == "PAUSED"
    assert (await scene.task(lead, "t-1"))["task"]["substate"] == "PAUSED"
    with pytest.raises(HubError, match="illegal_transition"):
        await ann.claim("t-2")
    await lead.call("agents.resume", specialist_id=ann.name)
    assert (await ann.say("tasks.progress", claimed, progress=0.3))["substate"] == "RUNNING"


async def test_a_plan_is_proposed_compared_committed_and_followed(scene: Scene) -> None:
    ann = await scene.agent("ann", skills=[{"id": "py"}], usd_per_hour="50")
    bob = await scene.agent("bob", skills=[{"id": "js"}], usd_per_hour="50")
    lead = await scene.client("lea")
    await scene.project(
        lead,
        {"task_id": "t-1", "effort_h": 2, "required_skills": ["py"]},
        {"task_id": "t-2", "effort_h": 1, "required_skills": ["js"]},
        {"task_id": "t-3", "effort_h": 1, "depends_on": ["t-2"]},
    )
    async with lead.subscribe(f"team:{scene.team}") as team, bob.client.subscribe(f"agent:{bob.name}") as bell:
        planned = await lead.call("team.plan", project_id=scene.team)
        plan, greedy = planned["plan"], planned["greedy"]
        assert plan["solver"]["objective"] <= greedy["objective"]
        whose = {each["task_id"]: each["specialist_id"] for each in plan["assignments"]}
        assert (whose["t-1"], whose["t-2"]) == (ann.name, bob.name)
        assert (await anext(team)).type == "PLAN_PROPOSED"
        gone = await lead.call("team.what_if", project_id=scene.team, change={"without": [bob.name]})
        assert [each["task_id"] for each in gone["moves"] if "to_specialist" not in each] == ["t-2"]
        for field, change in (
            ("without", {"without": ["nobody"]}),
            ("pinned", {"pinned": {"t-9": bob.name}}),
            ("pinned", {"pinned": {"t-2": "nobody"}}),
        ):
            with pytest.raises(HubError, match="not_found") as refused:
                await lead.call("team.what_if", project_id=scene.team, change=change)
            assert refused.value.path == f"$.params.change.{field}"
        with pytest.raises(HubError, match="version_conflict"):
            await lead.call("team.commit", project_id=scene.team, plan_id="p-0")
        committed = await lead.call("team.commit", project_id=scene.team, plan_id=plan["plan_id"])
        assert committed["plan"]["plan_id"] == plan["plan_id"]
        assert (await anext(team)).type == "PLAN_COMMITTED"
        rung = await anext(bell)
        assert (rung.type, rung.data["task_id"]) == ("TASK_STATUS_UPDATE", "t-2")
    assert (await bob.claim())["task"]["task_id"] == "t-2"
    assert (await ann.claim())["task"]["task_id"] == "t-1"


async def test_reports_are_stored_and_told_once_with_what_to_do_next(scene: Scene) -> None:
    ann = await scene.agent("ann")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2", "depends_on": ["t-1"]}, {"task_id": "t-3"})
    claimed = await ann.claim()
    reports = [
        {"specialist_id": ann.name, "project_id": scene.team, "task_id": "t-1", "progress": 0.25, "message": "on it"},
        {"specialist_id": ann.name, "project_id": scene.team, "message": "tests next"},
    ]
    async with ann.client.subscribe(f"team:{scene.team}") as team:
        answer = await ann.client.call("team.sync", updates=reports)
        told = await anext(team)
    assert told.type == "SPECIALIST_UPDATE"
    assert [each["message"] for each in told.data] == ["on it", "tests next"]
    assert told.coordination["ready"] == ["t-3"]
    assert told.coordination["critical_path"] == ["t-1", "t-2"]
    assert told.coordination["critical_path_h"] == 1.75
    assert answer["next_steps"]["ready"] == ["t-3"]
    await ann.say("tasks.submit", claimed, artifacts=[{"name": "report"}])
    steps = (await ann.client.call("team.next_steps", project_id=scene.team))["next_steps"]
    assert sorted(steps["ready"]) == ["t-2", "t-3"]
    eve = await scene.client("eve")
    with pytest.raises(HubError, match="permission_denied"):
        await eve.call("team.sync", updates=reports)


@asynccontextmanager
async def two_nodes(data_dir: Path) -> AsyncIterator[tuple[HubProcess, HubProcess]]:
    """The first leads: it was the first to start."""
    async with redis_server() as url, asyncio.timeout(100):
        with (
            running(data_dir, "--redis-url", url, "--node", "n1") as first,
            running(data_dir, "--redis-url", url, "--node", "n2") as second,
        ):
            yield first, second


async def test_another_node_takes_over_with_everything_as_it_was(tmp_path: Path) -> None:
    async with two_nodes(tmp_path / "data") as (first, second):
        scene = Scene(second)
        ann = await scene.agent("ann", heartbeat_s=5)
        await scene.project(ann.client, *({"task_id": f"t-{number}"} for number in range(5)))
        claimed = await ann.claim()
        await ann.say("tasks.progress", claimed, progress=0.5)
        plan = (await ann.client.call("team.plan", project_id=scene.team))["plan"]
        await ann.client.call("team.commit", project_id=scene.team, plan_id=plan["plan_id"])
        before = await ann.client.call("tasks.list", project_id=scene.team)
        first.kill()  # it was the coordinator: the first to start
        async with asyncio.timeout(30):
            while (after := await listed(ann.client, scene.team)) is None:
                await asyncio.sleep(0.05)
        assert after == before
        current = await ann.client.call("team.current", project_id=scene.team)
        assert current["plan"]["plan_id"] == plan["plan_id"]
        done = await ann.say("tasks.submit", claimed, artifacts=[{"name": "report"}])
        assert done["state"] == "COMPLETED"
        for client in scene.clients:
            await client.__aexit__(None, None, None)


async def test_who_has_gone_over_to_another_node_is_not_gone_when_the_first_connection_closes(tmp_path: Path) -> None:
    async with two_nodes(tmp_path / "data") as (first, second):
        scene = Scene(second)
        client = await scene.client("ann")
        moved, gone = (Agent(client, f"{name}-{scene.team}", scene.team) for name in ("moved", "gone"))
        for each in (moved, gone):  # the node tells of them in this order
            await each.register(heartbeat_s=30)
        async with Client(first.url, token=first.token("ann", "agent", teams=(scene.team,))) as elsewhere:
            await elsewhere.call("agents.heartbeat", specialist_id=moved.name)
            await client.__aexit__(None, None, None)
            async with asyncio.timeout(20):
                while (await presence_of(elsewhere, gone.name)) != "OFFLINE":
                    await asyncio.sleep(0.05)
            assert await presence_of(elsewhere, moved.name) == "ONLINE"


async def presence_of(client: Client, specialist_id: str) -> Any:
    return (await client.call("agents.status", specialist_id=specialist_id))["status"]["presence"]


async def listed(client: Client, project_id: str) -> Any:
    try:
        return await client.call("tasks.list", project_id=project_id)
    except HubError as failure:
        assert failure.code.temporary, failure
        return None


async def test_a_large_project_keeps_its_order_and_is_known_in_parts(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    names = [f"t-{number}" for number in range(1200)]
    tasks = [{"task_id": name, "depends_on": names[max(0, index - 1) : index]} for index, name in enumerate(names)]
    assert (await scene.project(ann.client, *tasks))["tasks"] == 1200
    page = await ann.client.call("tasks.list", project_id=scene.team, limit=500)
    assert [each["task_id"] for each in page["tasks"]] == names[:500]
    with pytest.raises(HubError, match="schema_invalid"):
        await scene.project(ann.client, {"task_id": "a", "depends_on": ["b"]}, {"task_id": "b", "depends_on": ["a"]})
    steps = (await ann.client.call("team.next_steps", project_id=scene.team))["next_steps"]
    assert (steps["ready"], steps["critical_path_h"]) == (["t-0"], 1200.0)


async def test_a_third_try_that_succeeds_sets_free_what_waited_for_the_first(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, {"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]})
    for failed, again in (("a", "a2"), ("a2", "a3")):
        await ann.say("tasks.fail", await ann.claim(failed), reason="no disk")
        retry = {"task_id": again, "reference_task_ids": [failed]}
        await ann.client.call("tasks.create", project_id=scene.team, tasks=[retry])
    await ann.say("tasks.submit", await ann.claim("a3"), artifacts=[{"name": "report"}])
    assert (await ann.claim())["task"]["task_id"] == "b"


async def test_what_is_done_already_blocks_nobody(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, {"task_id": "a"}, {"task_id": "b"})
    await ann.say("tasks.submit", await ann.claim("a"), artifacts=[{"name": "report"}])
    blocked = await ann.say("tasks.block", await ann.claim("b"), blockers=[{"kind": "task", "ref": "a"}])
    assert blocked["substate"] == "RUNNING"


async def test_tasks_created_again_are_the_same_tasks_and_others_of_their_names_are_refused(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, gates=[{"gate_id": "review", "kind": "AGENT_REVIEW"}])
    asked = {"project_id": scene.team, "tasks": [{"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]}]}
    created = await ann.client.call("tasks.create", **asked)
    assert await ann.client.call("tasks.create", **asked) == created
    for others in ([{"task_id": "a", "title": "another"}], [{"task_id": "a"}, {"task_id": "c"}]):
        with pytest.raises(HubError, match="schema_invalid"):
            await ann.client.call("tasks.create", project_id=scene.team, tasks=others)
    assert len((await ann.client.call("tasks.list", project_id=scene.team))["tasks"]) == 2


async def test_two_that_are_done_already_block_nobody_either(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, *({"task_id": each} for each in "abc"))
    for done in "ab":
        await ann.say("tasks.submit", await ann.claim(done), artifacts=[{"name": "report"}])
    blockers = [{"kind": "task", "ref": each} for each in "aab"]
    assert (await ann.say("tasks.block", await ann.claim("c"), blockers=blockers))["substate"] == "RUNNING"


async def test_a_question_outlives_whoever_asked_and_its_task_is_offered_again(scene: Scene) -> None:
    ann, bob = await scene.agent("ann"), await scene.agent("bob", heartbeat_s=300)
    lead = await scene.client("lea", "lead", "agent")
    await scene.project(ann.client, {"task_id": "a"})
    claimed = await ann.claim()
    now_ms = (await lead.call("hub.time"))["time"]
    asked = await ann.client.call(
        "tasks.request_input",
        project_id=scene.team,
        task_id="a",
        specialist_id=ann.name,
        fence=claimed["fence"],
        reason="CONFIRMATION",
        message="really?",
        approver_roles=["lead"],
        expires_at=(now_ms + 60_000) * 1000,
    )
    await ann.client.call("agents.leave", specialist_id=ann.name)
    await lead.call("approvals.resolve", approval_id=asked["approval_id"], decision="APPROVED")
    async with asyncio.timeout(30):
        while not (again := await bob.claim()):
            await asyncio.sleep(0.05)
    assert (again["task"]["task_id"], again["answer"]["decision"]) == ("a", "APPROVED")


async def test_a_name_that_no_channel_could_carry_is_refused_and_the_other_teams_go_on(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await scene.project(ann.client, {"task_id": "t-1"})
    claimed = await ann.claim()
    held = {"project_id": scene.team, "task_id": "t-1", "specialist_id": ann.name, "fence": claimed["fence"]}
    question = {"reason": "INPUT", "message": "?", "expires_at": 2**50}
    for bad in ("x y", "", "ж", "a\n", "x" * 129):
        for field, method, params in (
            ("specialist.specialist_id", "agents.register", {"specialist": {"specialist_id": bad, "team": scene.team}}),
            ("specialist.team", "agents.register", {"specialist": {"specialist_id": "x", "team": bad}}),
            ("specialist_id", "agents.heartbeat", {"specialist_id": bad}),
            ("project.project_id", "projects.create", {"project": {"project_id": bad}}),
            ("project.team", "projects.create", {"project": {"project_id": scene.team, "team": bad}}),
            ("project_id", "tasks.create", {"project_id": bad, "tasks": [{"task_id": "t"}]}),
            ("to_specialist", "handoffs.offer", held | {"to_specialist": bad, "expires_at": 2**50}),
            ("approver_roles[0]", "tasks.request_input", held | question | {"approver_roles": [bad]}),
            (
                "approver_roles[0]",
                "approvals.request",
                {"subject": "?", "project_id": scene.team, "approver_roles": [bad], "expires_at": 2**50},
            ),
        ):
            with pytest.raises(HubError, match="schema_invalid") as refused:
                await ann.client.call(method, **params)
            assert refused.value.path in (f"$.params.{field}", f"$.params.{field.replace('[0]', '[...]')}")
        assert (await ann.say("tasks.progress", claimed, progress=0.5))["progress"] == 0.5, "the term goes on"


async def test_tasks_whose_names_run_into_one_another_are_two_tasks_for_good(tmp_path: Path) -> None:
    async with asyncio.timeout(120):
        with running(tmp_path) as hub:
            ann = Client(hub.url, token=hub.token("ann", "agent", teams=("a", "a/b")))
            async with ann:
                for project, task in (("a/b", "c"), ("a", "b/c")):
                    await ann.call("projects.create", project={"project_id": project, "tasks": [{"task_id": task}]})
        with running(tmp_path) as hub:
            async with Client(hub.url, token=hub.token("ann", "agent", teams=("a", "a/b"))) as ann:
                for project, task in (("a/b", "c"), ("a", "b/c")):
                    listed = await ann.call("tasks.list", project_id=project)
                    assert [each["task_id"] for each in listed["tasks"]] == [task]
