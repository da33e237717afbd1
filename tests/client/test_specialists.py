"""The SDK's specialist against a real hub: works through tasks, fails decently, and notices what it has lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from hub.client import Client, Disconnected, Specialist, Task, TaskLost


class Team:
    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.name = f"team-{secrets.token_hex(4)}"

    def token(self, user: str) -> str:
        token: str = self.hub.token(user, "agent", teams=(self.name,))
        return token

    def specialist(self, name: str, **fields: Any) -> Specialist:
        given = {"heartbeat_s": 1.0, **fields}
        return Specialist(
            self.hub.url, token=self.token(name), specialist_id=f"{name}-{self.name}", team=self.name, **given
        )


@pytest_asyncio.fixture
async def team(hub: Any) -> AsyncIterator[Team]:
    async with asyncio.timeout(60):
        yield Team(hub)


@pytest_asyncio.fixture
async def lead(team: Team) -> AsyncIterator[Client]:
    async with Client(team.hub.url, token=team.token("lea")) as client:
        yield client


async def create(lead: Client, team: Team, *tasks: dict[str, Any]) -> None:
    await lead.call("projects.create", project={"project_id": team.name, "tasks": list(tasks)})


async def state(lead: Client, team: Team, task_id: str) -> Any:
    return (await lead.call("tasks.get", project_id=team.name, task_id=task_id))["task"]


async def test_tasks_come_in_the_order_of_what_they_wait_for_also_those_made_later(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"}, {"task_id": "b", "depends_on": ["a"]})
    seen = []
    async with team.specialist("ann") as me:
        async for task in me.tasks():
            seen.append(task.task_id)
            await task.progress(0.5, "half of it")
            assert await task.submit({"name": "patch"}) == "COMPLETED"
            if task.task_id == "b":
                await lead.call("tasks.create", project_id=team.name, tasks=[{"task_id": "c"}])
            if task.task_id == "c":
                break
    assert seen == ["a", "b", "c"]
    assert (await lead.call("agents.list", team=team.name))["specialists"] == []


async def test_an_error_in_the_block_fails_the_task_with_its_message(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    with pytest.raises(ValueError, match="no such file"):
        async with team.specialist("ann") as me:
            async for _ in me.tasks():
                raise ValueError("no such file")
    failed = await state(lead, team, "a")
    assert (failed["state"], failed["message"]) == ("FAILED", "ValueError: no such file")


async def test_what_a_handler_raises_fails_its_task_only(team: Team, lead: Client) -> None:
    await create(lead, team, *({"task_id": f"t-{number}"} for number in range(6)))
    done = asyncio.Event()
    ended: list[str] = []

    async def handle(task: Task) -> None:
        ended.append(task.task_id)
        if len(ended) == 6:
            done.set()
        if task.task_id == "t-3":
            raise ValueError("broken")
        await task.submit({"name": "patch"})

    async with team.specialist("ann", max_concurrent=3) as me:
        working = asyncio.ensure_future(me.work(handle))
        await done.wait()
        async with asyncio.timeout(10):
            while (await state(lead, team, ended[-1]))["state"] == "WORKING":
                await asyncio.sleep(0.02)
        working.cancel()
    states = {f"t-{number}": (await state(lead, team, f"t-{number}"))["state"] for number in range(6)}
    assert states == {**dict.fromkeys(states, "COMPLETED"), "t-3": "FAILED"}


async def test_a_task_that_was_taken_over_says_so(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    async with team.specialist("ann") as ann:
        task = await anext(aiter(ann.tasks()))
        await lead.call("tasks.cancel", project_id=team.name, task_id="a")
        with pytest.raises(TaskLost):
            await task.block({"kind": "agent", "ref": "bob"})


async def test_a_task_that_is_blocked_by_another_goes_on_when_that_is_completed(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a", "priority": 60}, {"task_id": "b"})
    async with team.specialist("ann") as ann, team.specialist("bob") as bob:
        first, second = await anext(aiter(ann.tasks())), await anext(aiter(bob.tasks()))
        blocked = asyncio.ensure_future(second.block({"kind": "task", "ref": first.task_id}))
        async with asyncio.timeout(10):
            while (await state(lead, team, second.task_id)).get("substate") != "BLOCKED":
                await asyncio.sleep(0.02)
        await first.submit({"name": "patch"})
        await blocked
        assert await second.submit({"name": "patch"}) == "COMPLETED"


async def test_a_claim_whose_answer_got_lost_is_offered_again(team: Team, lead: Client) -> None:
    """The specialist lives and beats, and does not know that it has the task."""
    await create(lead, team, {"task_id": "a"})
    async with team.specialist("ann") as ann:
        await lead.call("agents.status", specialist_id=ann.specialist_id)
        await ann.call("tasks.claim", specialist_id=ann.specialist_id, project_id=team.name)  # into the void
        task = await anext(aiter(ann.tasks()))
        assert (task.task_id, task.fence) == ("a", 2)
        assert await task.submit({"name": "patch"}) == "COMPLETED"


async def test_the_next_task_is_not_asked_for_before_this_one_is_ended(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"}, {"task_id": "b"})
    async with team.specialist("ann") as ann:
        tasks = aiter(ann.tasks())
        await anext(tasks)
        with pytest.raises(RuntimeError, match="submit it, fail it or hand it off first"):
            await anext(tasks)


async def test_what_fails_a_task_is_told_without_secrets(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    with pytest.raises(ValueError, match="pass word"):
        async with team.specialist("ann") as me:
            async for _ in me.tasks():
                raise ValueError(f"no pass word: postgres://ann:hush@db/x refused Bearer {team.token('ann')}")
    failed = await state(lead, team, "a")
    assert failed["message"] == "ValueError: no pass word: postgres://***@db/x refused Bearer ***"


async def test_an_offer_that_is_accepted_moves_the_task(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    async with team.specialist("ann") as ann:
        task = await anext(aiter(ann.tasks()))
        async with team.specialist("bob", skills=["sql"]) as bob:
            taken = asyncio.ensure_future(anext(aiter(bob.tasks())))
            assert await task.hand_off(skill="sql", reason="bob knows the schema")
            with pytest.raises(TaskLost):
                await task.progress(0.5)
            assert await (await taken).submit({"name": "patch"}) == "COMPLETED"


async def test_an_offer_that_nobody_takes_leaves_the_task_where_it_is(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    async with team.specialist("ann", skills=["sql"]) as ann:
        task = await anext(aiter(ann.tasks()))
        assert not await task.hand_off(skill="sql", timeout_s=1.0)
        assert await task.submit({"name": "patch"}) == "COMPLETED"


async def test_whoever_waits_learns_that_the_connection_is_over_for_good(team: Team, lead: Client) -> None:
    await create(lead, team, {"task_id": "a"})
    client = Client(team.hub.url, token=team.token("ann"))
    await client.__aenter__()
    async with team.specialist("ann", client=client) as ann:
        task = await anext(aiter(ann.tasks()))
        blocked = asyncio.ensure_future(task.block({"kind": "agent", "ref": "bob"}))
        async with asyncio.timeout(10):
            while (await state(lead, team, "a")).get("substate") != "BLOCKED":
                await asyncio.sleep(0.02)
        await client.__aexit__(None, None, None)
        with pytest.raises(Disconnected):
            await blocked
