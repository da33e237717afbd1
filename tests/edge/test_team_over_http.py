"""Projects, plans and approvals over HTTP, by the methods of the same names."""

from __future__ import annotations

import time
from typing import Any

import httpx
from teamwork import team_at_work


async def ok(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


async def test_a_project_is_made_read_and_planned_over_http(hub: Any, http: httpx.AsyncClient) -> None:
    async with team_at_work(hub, "t-1") as team:
        http.headers["authorization"] = f"Bearer {team.token('ann')}"
        path = f"/v1/projects/{team.project_id}"
        assert team.project_id in {
            each["project"]["project_id"] for each in (await ok(await http.get("/v1/projects")))["projects"]
        }
        added = await ok(await http.post(f"{path}/tasks", json={"tasks": [{"task_id": "t-2", "depends_on": ["t-1"]}]}))
        assert [each["task_id"] for each in added["tasks"]] == ["t-2"]
        assert (await ok(await http.get(path)))["tasks"] == {"SUBMITTED": 2}
        page = await ok(await http.get(f"{path}/tasks", params={"limit": "1"}))
        assert ([each["task_id"] for each in page["tasks"]], page["next"]) == (["t-1"], "t-1")
        assert (await ok(await http.get(f"{path}/tasks/t-2")))["spec"]["depends_on"] == ["t-1"]
        assert (await http.get(f"{path}/tasks", params={"limit": "many"})).status_code == 422

        planned = await ok(await http.post(f"{path}/plan"))
        assert {each["task_id"] for each in planned["plan"]["assignments"]} == {"t-1", "t-2"}
        assert planned["greedy"]["unassigned"] == 0
        assert (await ok(await http.get(f"{path}/plan")))["plan"]["plan_id"] == planned["plan"]["plan_id"]
        listed = await ok(await http.get("/v1/agents", params={"team": team.project_id}))
        assert [each["specialist"]["specialist_id"] for each in listed["specialists"]] == [f"{team.project_id}-worker"]


async def test_who_has_no_part_in_a_project_is_refused_over_http(hub: Any, http: httpx.AsyncClient) -> None:
    async with team_at_work(hub, "t-1") as team:
        http.headers["authorization"] = f"Bearer {team.stranger()}"
        path = f"/v1/projects/{team.project_id}"
        refused = [
            await http.post("/v1/projects", json={"project_id": team.project_id, "tasks": []}),
            await http.get(path),
            await http.get(f"{path}/tasks"),
            await http.post(f"{path}/tasks", json={"tasks": [{"task_id": "t-2"}]}),
            await http.get(f"{path}/tasks/t-1"),
            await http.get(f"{path}/plan"),
            await http.post(f"{path}/plan"),
        ]
        assert {each.status_code for each in refused} == {403}
        assert (await ok(await http.get("/v1/projects")))["projects"] == []


async def test_an_approval_is_answered_over_http_by_the_role_that_it_names(hub: Any, http: httpx.AsyncClient) -> None:
    async with team_at_work(hub, "t-1") as team:
        asked = await team.call(
            "tasks.request_input",
            **await team.claim("t-1"),
            reason="CONFIRMATION",
            message="Deploy?",
            approver_roles=["risk"],
            expires_at=int(time.time() * 1e6) + 60_000_000,
        )
        path = f"/v1/approvals/{asked['approval_id']}"
        http.headers["authorization"] = f"Bearer {team.stranger()}"
        assert (await http.post(path, json={"decision": "APPROVED"})).status_code in (403, 404)
        http.headers["authorization"] = f"Bearer {team.token('rita', 'risk')}"
        waiting = (await ok(await http.get("/v1/approvals")))["approvals"]
        assert asked["approval_id"] in {each["approval_id"] for each in waiting}
        resolved = await ok(await http.post(path, json={"decision": "APPROVED"}))
        assert resolved["approval"]["state"] == "APPROVED"
        got = await team.call("tasks.get", project_id=team.project_id, task_id="t-1")
        assert got["task"]["state"] == "WORKING"
