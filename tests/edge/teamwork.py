"""A project that nobody else has, and a specialist that works in it, over the WebSocket."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sockets import Peer, peer


class Team:
    def __init__(self, hub: Any, worker: Peer, project_id: str) -> None:
        self.hub = hub
        self.worker = worker
        self.project_id = project_id

    async def call(self, method: str, **params: Any) -> Any:
        reply = await self.worker.ask("call", method=method, params=params)
        assert "result" in reply, reply
        return reply["result"]

    async def add(self, *task_ids: str, **fields: Any) -> None:
        await self.call(
            "tasks.create", project_id=self.project_id, tasks=[{"task_id": each, **fields} for each in task_ids]
        )

    async def claim(self, task_id: str) -> dict[str, Any]:
        """The task is the worker's; the answer is what says so in later calls."""
        held = await self.call(
            "tasks.claim", project_id=self.project_id, task_id=task_id, specialist_id=f"{self.project_id}-worker"
        )
        assert held["task"]["state"] == "WORKING", held
        return {
            "project_id": self.project_id,
            "task_id": task_id,
            "specialist_id": f"{self.project_id}-worker",
            "fence": held["fence"],
        }

    async def complete(self, task_id: str, *artifacts: dict[str, Any]) -> None:
        await self.call("tasks.submit", **await self.claim(task_id), artifacts=[*artifacts] or [{"text": "done"}])

    def token(self, name: str, role: str = "agent") -> str:
        """Of somebody in this team, and in no other."""
        token: str = self.hub.token(name, role, teams=(self.project_id,))
        return token

    def stranger(self, name: str = "stranger") -> str:
        token: str = self.hub.token(name, "agent", teams=("elsewhere",))
        return token


@asynccontextmanager
async def team_at_work(hub: Any, *task_ids: str) -> AsyncIterator[Team]:
    project_id = f"doors-{secrets.token_hex(3)}"
    async with peer(hub, hub.token(f"{project_id}-lead", "agent", teams=(project_id,))) as worker:
        team = Team(hub, worker, project_id)
        tasks = [{"task_id": each} for each in task_ids]
        await team.call("projects.create", project={"project_id": project_id, "tasks": tasks})
        await team.call(
            "agents.register",
            specialist={"specialist_id": f"{project_id}-worker", "team": project_id, "max_concurrent": 9},
        )
        yield team
