"""Twenty specialists in processes of their own work through three hundred tasks, and two of them are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from processes import ROOT, HubProcess, running
from team_member import ASKS, BLOCKS, FAILS, HANDS_OFF

from hub.client import Client, Message

PROJECT = "works"
SPECIALISTS = 20
TASKS = 300
KILLED_AT = (60, 120)  # works completed

Event = tuple[int, str, str, Any, Any]


def told(message: Message) -> Event:
    data = message.data
    return (message.position.offset, message.type, data["task_id"], data.get("state"), data.get("substate"))


def spec(number: int) -> dict[str, Any]:
    return {
        "task_id": f"t-{number}",
        "effort_h": 1 + number % 4,
        "required_skills": [("py", "js")[number % 2]],
        "priority": 50 + number % 3,
        "depends_on": [f"t-{number - SPECIALISTS}"] if number >= SPECIALISTS else [],
    }


class Watcher:
    """Everything that happens to the tasks, in order; may leave and come back."""

    def __init__(self, hub: HubProcess, name: str) -> None:
        self._hub = hub
        self._token = hub.token(name, "dashboard")
        self.events: list[Event] = []
        self._position: Any = None

    async def watch(self, *, until: int | None = None) -> None:
        """Until it has seen so many events, or is cancelled; the next time it goes on from there."""
        async with (
            Client(self._hub.url, token=self._token) as client,
            client.subscribe(f"tasks:{PROJECT}", recover=self._position) as events,
        ):
            async for message in events:
                self.events.append(told(message))
                self._position = message.position
                if until is not None and len(self.events) >= until:
                    return


class Lead:
    """Gives failed work out anew, removes blockers, and agrees to what is asked."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.done: dict[str, int] = {}  # work -> how often it was completed
        self.working: dict[str, str] = {}  # task -> who has it
        self.counted = asyncio.Condition()
        self.retried = self.unblocked = self.approved = 0
        self.handed_off: set[str] = set()

    async def follow_tasks(self) -> None:
        async with self.client.subscribe(f"tasks:{PROJECT}", rewind=1000) as events:
            async for message in events:
                data = message.data
                if message.type == "HANDOFF":
                    if data["state"] == "ACCEPTED":
                        self.handed_off.add(data["task_id"])
                    continue
                await self._hear(data)

    async def _hear(self, data: dict[str, Any]) -> None:
        name, state = data["task_id"], data.get("state")
        if state == "WORKING" and data.get("specialist_id"):
            self.working[name] = data["specialist_id"]
        else:
            self.working.pop(name, None)
        if state == "FAILED":
            number = int(name.split("-")[1])
            again = {**spec(number), "task_id": f"{name}-again", "reference_task_ids": [name]}
            await self.client.call("tasks.create", project_id=PROJECT, tasks=[again])
            self.retried += 1
        elif data.get("substate") == "BLOCKED":
            await self.client.call("tasks.unblock", project_id=PROJECT, task_id=name, ref="lead")
            self.unblocked += 1
        elif state == "COMPLETED":
            async with self.counted:
                work = "-".join(name.split("-")[:2])
                self.done[work] = self.done.get(work, 0) + 1
                self.counted.notify_all()

    async def follow_approvals(self) -> None:
        async with self.client.subscribe("approvals:lead", rewind=100) as events:
            async for message in events:
                if message.type == "APPROVAL_REQUESTED":
                    await self.client.call(
                        "approvals.resolve", approval_id=message.data["approval_id"], decision="APPROVED"
                    )
                    self.approved += 1

    async def until(self, works: int) -> None:
        async with self.counted:
            await self.counted.wait_for(lambda: len(self.done) >= works)


@asynccontextmanager
async def members(hub: HubProcess) -> AsyncIterator[dict[str, Process]]:
    """All of them, registered."""
    started: dict[str, Process] = {}
    try:
        for number in range(SPECIALISTS):
            name = f"s-{number}"
            token = hub.token(name, "agent", teams=(PROJECT,))
            started[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("team_member.py")),
                *(hub.url, token, name, PROJECT, ("py", "js")[number % 2]),
                stdout=PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        for process in started.values():
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        yield started
    finally:
        for process in started.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def test_a_team_works_through_its_project_though_two_of_it_are_killed(tmp_path: Path, capsys: Any) -> None:
    with running(tmp_path / "data") as hub:
        async with asyncio.timeout(200), asyncio.TaskGroup() as group:
            lead_token = hub.token("lea", "lead", "agent", teams=(PROJECT,))
            async with Client(hub.url, token=lead_token) as client, members(hub) as team:
                lead = Lead(client)
                watchers = [Watcher(hub, f"w-{number}") for number in range(3)]
                first = [spec(number) for number in range(TASKS)]
                await client.call("projects.create", project={"project_id": PROJECT, "tasks": first})
                planned = await client.call("team.plan", project_id=PROJECT)
                plan, greedy = planned["plan"], planned["greedy"]
                following = [
                    group.create_task(each)
                    for each in (
                        lead.follow_tasks(),
                        lead.follow_approvals(),
                        watchers[0].watch(),
                        watchers[1].watch(),
                    )
                ]
                away = group.create_task(watchers[2].watch(until=TASKS))
                await client.call("team.commit", project_id=PROJECT, plan_id=plan["plan_id"])
                killed: list[str] = []
                for works in KILLED_AT:
                    await lead.until(works)
                    busy = [name for name in lead.working.values() if name not in killed]
                    killed.append(busy[0])
                    team[busy[0]].send_signal(signal.SIGKILL)
                await away
                following.append(group.create_task(watchers[2].watch()))  # it was away, and goes on where it was
                await lead.until(TASKS)
                listed = await every_task(client)
                why = {
                    name: (await client.call("tasks.get", project_id=PROJECT, task_id=name))["reason"]
                    for name in [task["task_id"] for task in listed if task["state"] == "FAILED"]
                }
                last = max(watcher.events[-1][0] for watcher in watchers)
                async with asyncio.timeout(10):
                    while min(watcher.events[-1][0] for watcher in watchers) < last:
                        await asyncio.sleep(0.02)
                statuses = (await client.call("agents.list", team=PROJECT))["specialists"]
                for each in following:
                    each.cancel()
    assert lead.done == {f"t-{number}": 1 for number in range(TASKS)}
    failed = {f"t-{number}": f"number {number} fails at first" for number in range(0, TASKS, FAILS)}
    assert why == failed
    assert {task["state"] for task in listed} == {"COMPLETED", "FAILED"}
    assert (lead.retried, lead.approved) == (len(failed), len(ASKS))
    assert lead.unblocked >= len(range(0, TASKS, BLOCKS))
    assert len(lead.handed_off) >= 3
    assert lead.handed_off <= {f"t-{number}" for number in range(0, TASKS, HANDS_OFF)} | {"t-0-again"}
    offline = {each["specialist"]["specialist_id"] for each in statuses if each["status"]["presence"] == "OFFLINE"}
    assert set(killed) <= offline
    seen = {offset: event for watcher in watchers for event in watcher.events for offset in [event[0]]}
    for watcher in watchers:
        offsets = [event[0] for event in watcher.events]
        assert offsets == list(range(offsets[0], offsets[-1] + 1))
        assert watcher.events == [seen[offset] for offset in offsets]
    assert plan["solver"]["objective"] <= greedy["objective"]
    with capsys.disabled():
        print(f"\n  plan: {figures(plan)}\n  greedy: {figures(greedy)}")


async def every_task(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after: dict[str, Any] = {}
    while True:
        page = await client.call("tasks.list", project_id=PROJECT, limit=500, **after)
        found += page["tasks"]
        if "next" not in page:
            return found
        after = {"after": page["next"]}


def figures(plan: dict[str, Any]) -> str:
    shares = plan["utilisation"].values()
    return f"{plan['makespan_h']:g} h, utilisation {sum(shares) / len(shares):.0%}"
