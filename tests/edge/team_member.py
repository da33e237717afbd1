"""A specialist as a process of its own: what it does with a task depends on the task's number alone."""

from __future__ import annotations

import asyncio
import sys

from hub.client import Specialist, Task, TaskLost

FAILS, BLOCKS, HANDS_OFF = 29, 37, 41
ASKS = (50, 150)


async def handle(task: Task) -> None:
    number = int(task.task_id.split("-")[1])
    first = not task.spec.get("reference_task_ids")
    await task.progress(0.3, "begun")
    if number % FAILS == 0 and first:
        raise ValueError(f"number {number} fails at first")
    if number % BLOCKS == 0:
        await task.block({"kind": "person", "ref": "lead"})
    if number % HANDS_OFF == 0 and task.fence == 1:
        [skill] = task.spec["required_skills"]
        if await task.hand_off(skill=skill, reason="another has the time", timeout_s=20):
            return
    if number in ASKS:
        answer = await task.ask("go on?", roles=["lead"], timeout_s=30)
        assert answer["decision"] == "APPROVED"
    await task.progress(0.9, "nearly done")
    await task.submit({"name": f"result-{number}"})


async def main(url: str, token: str, name: str, team: str, skill: str) -> None:
    async with Specialist(
        url, token=token, specialist_id=name, team=team, skills=[skill], heartbeat_s=1.0, usd_per_hour="50"
    ) as me:
        print("ready", flush=True)
        async for task in me.tasks():
            try:
                await handle(task)
            except TaskLost:
                continue
            except ValueError as failure:
                await task.fail(str(failure))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
