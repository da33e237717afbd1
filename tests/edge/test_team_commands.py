"""`krin team`: what a person at a terminal sees of a team, and does to it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from processes import HubProcess
from test_team_at_the_door import Scene

from hub.cli import main


async def said(scene: Scene, *arguments: str, user: str = "lea", code: int = 0) -> list[str]:
    token = scene.hub.token(user, "lead", "agent", teams=(scene.team,))
    environment = {"KRIN_URL": scene.hub.url, "KRIN_TOKEN": token}
    done = await asyncio.to_thread(CliRunner().invoke, main, ["team", *arguments], env=environment)
    assert done.exit_code == code, done.output
    return done.output.splitlines()


async def test_a_project_from_a_file_to_its_last_task(hub: HubProcess, tmp_path: Path) -> None:
    scene = Scene(hub)
    async with asyncio.timeout(60):
        file = tmp_path / "project.json"
        tasks: list[dict[str, Any]] = [
            {"task_id": "t-1", "title": "the door"},
            {"task_id": "t-2", "depends_on": ["t-1"]},
        ]
        file.write_text(json.dumps({"project_id": scene.team, "tasks": tasks}))
        assert await said(scene, "create", str(file)) == [f"{scene.team}: 2 tasks"]
        ann = await scene.agent("ann", heartbeat_s=300)
        assert (await said(scene, "agents", "--team", scene.team))[0].startswith(f"{ann.name} ONLINE IDLE HEALTHY")
        assert f"{scene.team} 2 SUBMITTED" in await said(scene, "projects")
        planned = await said(scene, "plan", scene.team)
        assert planned[0].startswith(f"t-1 {ann.name} 0-1")
        plan_id = planned[-1].partition(":")[0]
        assert await said(scene, "commit", scene.team, plan_id) == [f"{plan_id} holds"]
        claimed = await ann.claim()
        assert await said(scene, "tasks", scene.team, "--state", "WORKING") == [
            f"t-1 WORKING/RUNNING {ann.name} the door"
        ]
        now_ms = (await ann.client.call("hub.time"))["time"]
        asked = await ann.client.call(
            "approvals.request",
            subject="paint it red",
            project_id=scene.team,
            approver_roles=["lead"],
            expires_at=(now_ms + 60_000) * 1000,
        )
        name = asked["approval"]["approval_id"]
        assert f"{name} REQUESTED paint it red (asked by ann)" in await said(scene, "approvals")
        assert await said(scene, "approve", name) == [f"{name} APPROVED paint it red (asked by ann)"]
        assert (await said(scene, "pause", ann.name, "--reason", "lunch"))[0].startswith(f"{ann.name} ONLINE PAUSED")
        await said(scene, "resume", ann.name)
        await ann.say("tasks.submit", claimed, artifacts=[{"name": "a"}])
        assert "ready: t-2" in await said(scene, "next", scene.team)
        report = ("sync", ann.name, "--project", scene.team, "--activity", "IDLE", "--message", "done")
        assert "ready: t-2" in await said(scene, *report, user="ann")
        assert "somebody else" in (await said(scene, *report, user="bob", code=1))[0]
        as_json = await said(scene, "tasks", scene.team, "--json")
        assert [each["state"] for each in json.loads(as_json[0])["tasks"]] == ["COMPLETED", "SUBMITTED"]
        await ann.say("tasks.submit", await ann.claim("t-2"), artifacts=[{"name": "a"}])
        assert await said(scene, "next", scene.team) == ["all is done"]
        refused = await said(scene, "tasks", "nowhere", code=1)
        assert len(refused) == 1
        assert "permission_denied" in refused[0] or "not" in refused[0]
        for client in scene.clients:
            await client.__aexit__(None, None, None)


async def test_hand_offs_and_budgets_are_shown(hub: HubProcess) -> None:
    scene = Scene(hub)
    async with asyncio.timeout(60):
        ann, bob = await scene.agent("ann", heartbeat_s=300), await scene.agent("bob", heartbeat_s=300)
        await scene.project(ann.client, {"task_id": "t-1"}, budget_usd="10")
        claimed = await ann.claim()
        await ann.say("tasks.progress", claimed, progress=0.5, cost_usd="2.5")
        now_ms = (await ann.client.call("hub.time"))["time"]
        offered = await ann.client.call(
            "handoffs.offer",
            project_id=scene.team,
            task_id="t-1",
            specialist_id=ann.name,
            fence=claimed["fence"],
            to_specialist=bob.name,
            expires_at=(now_ms + 60_000) * 1000,
            reason="lunch",
        )
        name = offered["handoff"]["handoff_id"]
        line = f"{name} OFFERED t-1 of {scene.team}: {ann.name} to {bob.name}: lunch"
        assert await said(scene, "handoffs", "--project", scene.team) == [line]
        assert await said(scene, "handoffs", "--project", scene.team, "--agent", "nobody") == []
        assert f"PROJECT {scene.team}: 25 % used: 2.5 of 10 USD, 0 tokens" in await said(scene, "budgets", scene.team)
        [as_json] = await said(scene, "budgets", scene.team, "--json")
        assert json.loads(as_json)["budgets"][0]["limit_usd"] == "10"
        for client in scene.clients:
            await client.__aexit__(None, None, None)


async def test_what_others_say_writes_no_line_and_moves_no_cursor(hub: HubProcess, tmp_path: Path) -> None:
    scene = Scene(hub)
    async with asyncio.timeout(60):
        file = tmp_path / "project.json"
        task = {"task_id": "t-1", "title": "calm\x1b[2J\nt-2 COMPLETED"}
        file.write_text(json.dumps({"project_id": scene.team, "tasks": [task]}))
        await said(scene, "create", str(file))
        assert await said(scene, "tasks", scene.team) == ["t-1 SUBMITTED/QUEUED calm\\x1b[2J\\nt-2 COMPLETED"]
