"""Projects that are closed or canceled: out of memory, told, readable for good, and open to nothing any more."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from processes import HubProcess, running
from test_team_at_the_door import Agent, Scene
from test_team_commands import said

from hub.client import Client
from protocol.errors import HubError

IN_A_MINUTE_US = 60_000_000


@pytest_asyncio.fixture
async def scene(hub: HubProcess) -> AsyncIterator[Scene]:
    made = Scene(hub)
    async with asyncio.timeout(60):
        yield made
        for client in made.clients:
            await client.__aexit__(None, None, None)


async def finished(scene: Scene, ann: Agent, *tasks: str, **fields: Any) -> None:
    """A project whose tasks are completed."""
    await scene.project(ann.client, *({"task_id": each} for each in tasks), **fields)
    for each in tasks:
        await ann.say("tasks.submit", await ann.claim(each), artifacts=[{"name": f"report of {each}"}])


async def open_projects(client: Client) -> list[str]:
    return [each["project"]["project_id"] for each in (await client.call("projects.list"))["projects"]]


async def test_a_project_is_closed_when_its_tasks_have_ended_and_stays_readable(scene: Scene) -> None:
    ann, lead = await scene.agent("ann", heartbeat_s=300), await scene.client("lea")
    await scene.project(ann.client, {"task_id": "t-1"}, {"task_id": "t-2"}, budget_usd="10")
    plan = (await lead.call("team.plan", project_id=scene.team))["plan"]
    await lead.call("team.commit", project_id=scene.team, plan_id=plan["plan_id"])
    claimed = await ann.claim("t-1")
    await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="2.5")
    await ann.say("tasks.submit", claimed, artifacts=[{"name": "report"}])
    with pytest.raises(HubError, match=r"illegal_transition: 1 of its tasks"):
        await lead.call("projects.close", project_id=scene.team)
    await lead.call("tasks.cancel", project_id=scene.team, task_id="t-2")
    before = await lead.call("tasks.list", project_id=scene.team)

    async with lead.subscribe(f"team:{scene.team}") as team:
        closed = await lead.call("projects.close", project_id=scene.team, reason="shipped")
        told = await anext(team)
    assert (closed["state"], closed["ended_by"], closed["reason"]) == ("COMPLETED", "lea", "shipped")
    assert closed["tasks"] == {"COMPLETED": 1, "CANCELED": 1}
    assert (told.type, told.data["state"], told.data["tasks"], told.data["by"]) == (
        "PROJECT_ENDED",
        "COMPLETED",
        {"COMPLETED": 1, "CANCELED": 1},
        "lea",
    )
    assert scene.team not in await open_projects(lead)
    ended = (await lead.call("projects.list", state="COMPLETED"))["projects"]
    assert scene.team in {each["project"]["project_id"] for each in ended}
    assert await lead.call("projects.get", project_id=scene.team) == closed
    assert await lead.call("projects.close", project_id=scene.team) == closed, "said again because the answer got lost"
    assert await lead.call("tasks.list", project_id=scene.team) == before
    page = await lead.call("tasks.list", project_id=scene.team, limit=1)
    assert ([each["task_id"] for each in page["tasks"]], page["next"]) == (["t-1"], "t-1")
    rest = await lead.call("tasks.list", project_id=scene.team, after="t-1")
    assert [each["task_id"] for each in rest["tasks"]] == ["t-2"] and "next" not in rest
    canceled = await lead.call("tasks.list", project_id=scene.team, state="CANCELED")
    assert [each["task_id"] for each in canceled["tasks"]] == ["t-2"]
    hers = await lead.call("tasks.list", project_id=scene.team, specialist_id=ann.name)
    assert [each["task_id"] for each in hers["tasks"]] == ["t-1"]
    assert (await scene.task(lead, "t-1"))["artifacts"] == [{"name": "report"}]
    assert (await lead.call("team.current", project_id=scene.team))["plan"]["plan_id"] == plan["plan_id"]
    assert "ready" not in (await lead.call("team.next_steps", project_id=scene.team))["next_steps"]
    [budget] = (await lead.call("budgets.list", project_id=scene.team))["budgets"]
    assert (budget["usd"], budget["limit_usd"], budget["percent"]) == ("2.5", "10", 25.0)
    history = await lead.history(f"tasks:{scene.team}", limit=100)
    assert [each.type for each in history.messages][:2] == ["TASK_CREATED", "TASK_CREATED"]


async def test_nothing_happens_any_more_to_a_project_that_has_ended(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await finished(scene, ann, "t-1")
    await ann.client.call("projects.close", project_id=scene.team)
    at = {"project_id": scene.team}
    of_task = {**at, "task_id": "t-1"}
    held = {**of_task, "specialist_id": ann.name, "fence": 1}
    reserved = {**at, "specialist_id": ann.name, "reservation_id": "r", "usd": "1"}
    soon = (await ann.client.call("hub.time"))["time"] * 1000 + IN_A_MINUTE_US
    for method, params in (
        ("projects.create", {"project": {**at, "tasks": [{"task_id": "t-1"}]}}),
        ("projects.create", {"project": {**at, "title": "another"}}),
        ("projects.cancel", at),
        ("tasks.create", {**at, "tasks": [{"task_id": "t-2"}]}),
        ("tasks.claim", {**of_task, "specialist_id": ann.name}),
        ("tasks.assign", {**of_task, "specialist_id": ann.name}),
        ("tasks.progress", {**held, "progress": 0.5}),
        ("tasks.submit", {**held, "artifacts": [{}]}),
        ("tasks.cancel", of_task),
        ("tasks.gate", {**of_task, "gate_id": "g", "result": "PASS"}),
        ("handoffs.offer", {**held, "to_skill": "py", "expires_at": 2**50}),
        ("budgets.reserve", reserved),
        ("budgets.settle", reserved),
        ("team.plan", at),
        ("team.what_if", {**at, "change": {}}),
        ("team.commit", {**at, "plan_id": "p"}),
        ("team.sync", {"updates": [{**at, "specialist_id": ann.name}]}),
        ("approvals.request", {**at, "subject": "red?", "approver_roles": ["lead"], "expires_at": soon}),
        ("contracts.announce", {**at, "contract": "TRADE", "version": "2", "change": "c", "effective_at": soon}),
    ):
        with pytest.raises(HubError, match="illegal_transition: the project has ended"):
            await ann.client.call(method, **params)
    assert await ann.claim() == {}, "there is nothing to do"
    for method, params in (
        ("tasks.get", {"project_id": scene.team, "task_id": "t-9"}),
        ("tasks.list", {"project_id": scene.team, "after": "t-9"}),
        ("team.current", {"project_id": scene.team}),
    ):
        with pytest.raises(HubError, match="not_found"):
            await ann.client.call(method, **params)


async def test_a_project_is_canceled_with_everything_that_is_open_in_it(scene: Scene) -> None:
    ann, bob = await scene.agent("ann", heartbeat_s=300), await scene.agent("bob", heartbeat_s=300)
    lead = await scene.client("lea", "lead", "agent")
    names = [f"t-{number}" for number in range(1200)]  # more than are canceled at once
    await scene.project(ann.client, *({"task_id": each} for each in names))
    now_us = (await lead.call("hub.time"))["time"] * 1000
    claimed = await ann.claim("t-0")
    held = {"project_id": scene.team, "task_id": "t-0", "specialist_id": ann.name, "fence": claimed["fence"]}
    offered = await ann.client.call(
        "handoffs.offer", **held, to_specialist=bob.name, expires_at=now_us + IN_A_MINUTE_US
    )
    asked = await ann.client.call(
        "approvals.request",
        **(
            question := {
                "approval_id": f"red {scene.team}",
                "subject": "red?",
                "project_id": scene.team,
                "approver_roles": ["lead"],
                "expires_at": now_us + IN_A_MINUTE_US,
            }
        ),
    )
    canceled = await lead.call("projects.cancel", project_id=scene.team, reason="out of money")
    assert (canceled["state"], canceled["tasks"], canceled["reason"]) == (
        "CANCELED",
        {"CANCELED": 1200},
        "out of money",
    )
    with pytest.raises(HubError, match="illegal_transition"):
        await ann.say("tasks.progress", claimed, progress=0.5)
    beat = await ann.client.call(
        "agents.heartbeat",
        specialist_id=ann.name,
        claims=[{key: held[key] for key in ("project_id", "task_id", "fence")}],
    )
    assert beat["lost"] == [{"project_id": scene.team, "task_id": "t-0"}]
    assert beat["status"]["activity"] == "IDLE"
    assert (await bob.client.call("handoffs.list", project_id=scene.team))["handoffs"] == []
    with pytest.raises(HubError, match="illegal_transition"):
        await bob.client.call("handoffs.accept", handoff_id=offered["handoff"]["handoff_id"], specialist_id=bob.name)
    name = asked["approval"]["approval_id"]
    assert (await lead.call("approvals.get", approval_id=name))["approval"]["state"] == "EXPIRED"
    with pytest.raises(HubError, match="illegal_transition"):
        await lead.call("approvals.resolve", approval_id=name, decision="APPROVED")
    again = await ann.client.call("approvals.request", **question)
    assert again["approval"]["state"] == "EXPIRED", "the same again is the same request, also now"
    assert (await scene.task(lead, "t-7"))["task"]["message"] == "out of money"


async def test_only_who_acts_in_a_project_ends_it_and_only_who_looks_reads_it(scene: Scene) -> None:
    ann, eve = await scene.agent("ann", heartbeat_s=300), await scene.client("eve", "dashboard")
    await finished(scene, ann, "t-1")
    for method in ("projects.close", "projects.cancel"):
        with pytest.raises(HubError, match="permission_denied"):
            await eve.call(method, project_id=scene.team)
    await ann.client.call("projects.close", project_id=scene.team)
    assert (await eve.call("projects.get", project_id=scene.team))["state"] == "COMPLETED"
    async with Client(scene.hub.url, token=scene.hub.token("mallory", "agent", teams=("elsewhere",))) as mallory:
        for method in ("projects.get", "projects.close", "tasks.list", "team.current", "budgets.list"):
            with pytest.raises(HubError, match="permission_denied"):
                await mallory.call(method, project_id=scene.team)
        assert (await mallory.call("projects.list", state="COMPLETED")) == {"projects": []}
        with pytest.raises(HubError, match="not_found"):
            await mallory.call("projects.close", project_id="elsewhere")


async def test_nobody_plans_with_the_specialists_of_a_team_that_is_not_theirs(scene: Scene) -> None:
    await scene.agent("ann", heartbeat_s=300, usd_per_hour="80")
    async with Client(scene.hub.url, token=scene.hub.token("mallory", "agent", teams=("elsewhere",))) as mallory:
        with pytest.raises(HubError, match="permission_denied"):
            await mallory.call("projects.create", project={"project_id": "elsewhere", "team": scene.team})


async def test_those_that_have_ended_are_listed_in_pages_the_last_first(hub: HubProcess) -> None:
    mark = secrets.token_hex(3)
    names = [f"{mark}-{number}" for number in range(5)]
    async with (
        asyncio.timeout(60),
        Client(hub.url, token=hub.token("ann", "agent", teams=tuple(names))) as ann,
    ):
        for each in names:
            await ann.call("projects.create", project={"project_id": each})
            await ann.call("projects.cancel", project_id=each)
        seen: list[str] = []
        asked: dict[str, Any] = {"state": "CANCELED", "limit": 2}
        while True:
            page = await ann.call("projects.list", **asked)
            seen += [each["project"]["project_id"] for each in page["projects"]]
            if "next" not in page:
                break
            asked["before"] = page["next"]
        assert seen == names[::-1]
        assert await ann.call("projects.list", state="COMPLETED") == {"projects": []}
        assert await open_projects(ann) == []


async def test_a_team_that_has_its_limit_of_projects_leaves_room_for_others_and_for_its_own_once_one_ends(
    hub: HubProcess,
) -> None:
    team = f"many-{secrets.token_hex(3)}"
    async with asyncio.timeout(60), Client(hub.url, token=hub.token("ann", "agent", teams=("*",))) as ann:
        try:
            for number in range(100):
                await ann.call("projects.create", project={"project_id": f"{team}-{number}", "team": team})
            more = {"project_id": f"{team}-more", "team": team}
            with pytest.raises(HubError, match=r"limit_exceeded: at most 100 projects of a team"):
                await ann.call("projects.create", project=more)
            await ann.call("projects.create", project={"project_id": f"{team}-other"})
            await ann.call("projects.cancel", project_id=f"{team}-0")
            await ann.call("projects.create", project=more)
        finally:
            for each in await open_projects(ann):
                if each.startswith(team):
                    await ann.call("projects.cancel", project_id=each)


async def test_a_hub_that_starts_again_knows_only_what_is_open_and_reads_the_rest(tmp_path: Path) -> None:
    async with asyncio.timeout(120):
        with running(tmp_path) as hub:
            scene = Scene(hub)
            ann = await scene.agent("ann", heartbeat_s=300, usd_per_day="5")
            await finished(scene, ann, budget_usd="10")
            await ann.client.call("tasks.create", project_id=scene.team, tasks=[{"task_id": "t-1"}])
            claimed = await ann.claim()
            await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="4.5")
            await ann.say("tasks.submit", claimed, artifacts=[{"name": "report"}])
            closed = await ann.client.call("projects.close", project_id=scene.team)
            hub.kill()
            for client in scene.clients:
                await client.__aexit__(None, None, None)
        with running(tmp_path) as hub:
            token = hub.token("ann", "agent", teams=(scene.team, "next"))
            async with Client(hub.url, token=token) as client, httpx.AsyncClient(base_url=hub.url) as http:
                assert await client.call("projects.get", project_id=scene.team) == closed
                assert (await client.call("tasks.get", project_id=scene.team, task_id="t-1"))["artifacts"]
                assert "\nkrin_projects 0.0" in (await http.get("/metrics")).text
                assert "left out" not in hub.log.read_text(), "its tasks have ended with it"
                # What she has used today was not the project's.
                await client.call("projects.create", project={"project_id": "next", "team": scene.team})
                [hers] = (await client.call("budgets.list", project_id="next"))["budgets"]
                assert (hers["kind"], hers["usd"], hers["limit_usd"]) == ("AGENT", "4.5", "5")


async def test_a_project_is_ended_over_http_and_at_a_terminal(scene: Scene) -> None:
    ann = await scene.agent("ann", heartbeat_s=300)
    await finished(scene, ann, "t-1")
    assert await said(scene, "close", scene.team, "--reason", "shipped") == [
        f"{scene.team} COMPLETED: 1 COMPLETED (shipped)"
    ]
    assert f"{scene.team} COMPLETED: 1 COMPLETED (shipped)" in await said(scene, "projects", "--state", "COMPLETED")
    assert not [line for line in await said(scene, "projects") if line.startswith(scene.team)]
    assert "illegal_transition" in (await said(scene, "cancel", scene.team, code=1))[0]
    other = f"{scene.team}-2"
    token = scene.hub.token("ann", "agent", teams=(scene.team, other))
    async with httpx.AsyncClient(base_url=scene.hub.url, headers={"authorization": f"Bearer {token}"}) as http:
        path = f"/v1/projects/{scene.team}"
        assert (await http.get(path)).json()["data"]["state"] == "COMPLETED"
        assert (await http.get(f"{path}/tasks/t-1")).json()["data"]["artifacts"] == [{"name": "report of t-1"}]
        assert (await http.post(f"{path}/cancel")).status_code == 409
        assert (await http.post(f"{path}/close")).json()["data"]["reason"] == "shipped"
        created = await http.post("/v1/projects", json={"project_id": other, "tasks": [{"task_id": "t-1"}]})
        assert created.status_code == 200
        assert (await http.post(f"/v1/projects/{other}/close")).status_code == 409
        assert (await http.post(f"/v1/projects/{other}/cancel", json={"why": "?"})).status_code == 422
        canceled = (await http.post(f"/v1/projects/{other}/cancel", json={"reason": "no"})).json()["data"]
        assert (canceled["state"], canceled["tasks"], canceled["reason"]) == ("CANCELED", {"CANCELED": 1}, "no")
        listed = (await http.get("/v1/projects", params={"state": "CANCELED", "limit": "1"})).json()["data"]
        assert [each["project"]["project_id"] for each in listed["projects"]] == [other]
        assert (await http.get("/v1/projects", params={"state": "OVER"})).status_code == 422
        async with http.stream("GET", f"/ag-ui/{other}") as stream:
            told = [line async for line in stream.aiter_lines()]
        assert any('"RUN_FINISHED"' in line for line in told), "a run of what is over ends at once"
