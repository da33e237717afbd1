"""The AG-UI door: a project as a stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from ag_ui.core import Event, EventType, RunAgentInput
from pydantic import TypeAdapter
from sockets import PATIENCE_S, Metrics
from teamwork import Team, team_at_work


def bearer(hub: Any, *roles: str, teams: tuple[str, ...] = ("*",)) -> dict[str, str]:
    return {"authorization": f"Bearer {hub.token('ann', *roles, teams=teams)}"}


async def test_nobody_gets_in_without_a_token(http: httpx.AsyncClient) -> None:
    asked = {"threadId": "t", "runId": "r", "messages": []}
    for answer in (await http.get("/ag-ui/alpha"), await http.post("/ag-ui/alpha", json=asked)):
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_who_may_not_read_a_project_gets_none_of_its_events(hub: Any, http: httpx.AsyncClient) -> None:
    answer = await http.get("/ag-ui/alpha", headers=bearer(hub, "agent", teams=("beta",)))
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (403, "permission_denied")


@pytest.mark.parametrize("id", ["x", "a:1", "a:b,c:d", "a:1,b:2,c:3", "a:-1,b:2"])
async def test_an_id_that_is_none_of_ours_is_refused(hub: Any, http: httpx.AsyncClient, id: str) -> None:
    answer = await http.get("/ag-ui/alpha", headers=bearer(hub, "admin") | {"last-event-id": id})
    assert (answer.status_code, answer.json()["meta"]["error"]["name"]) == (422, "schema_invalid")


async def test_an_input_must_say_which_run_it_wants(hub: Any, http: httpx.AsyncClient) -> None:
    answer = await http.post("/ag-ui/alpha", json={"messages": []}, headers=bearer(hub, "admin"))
    assert answer.status_code == 422


MODELS: TypeAdapter[Any] = TypeAdapter(Event)


class Watched:
    """The events of a stream, each as the official model has it, and the id of the newest."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.id = ""

    async def until(self, *types: EventType) -> list[Any]:
        """To the first of these types, or the end."""
        found: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if name == "id":
                    self.id = value
                elif name == "data":
                    found.append(MODELS.validate_json(value))
                    if found[-1].type in types:
                        break
        return found


@asynccontextmanager
async def watched(team: Team, token: str, *, after: str = "") -> AsyncIterator[Watched]:
    headers = {"authorization": f"Bearer {token}"} | ({"last-event-id": after} if after else {})
    async with (
        httpx.AsyncClient(base_url=team.hub.url, timeout=PATIENCE_S, headers=headers) as http,
        http.stream("GET", f"/ag-ui/{team.project_id}") as answer,
    ):
        assert answer.headers["content-type"] == "text/event-stream"
        yield Watched(answer.aiter_lines())


async def test_a_project_is_a_run_from_its_state_to_the_end_of_its_last_task(hub: Any) -> None:
    async with team_at_work(hub, "t1", "t2") as team, watched(team, team.token("ann", "dashboard")) as stream:
        started, state = await stream.until(EventType.STATE_SNAPSHOT)
        assert (started.thread_id, started.protocol_version) == (team.project_id, "1.0")
        assert sorted(state.snapshot["tasks"]) == ["t1", "t2"]
        assert f"{team.project_id}-worker" in state.snapshot["specialists"]
        await team.complete("t1")
        told = await stream.until(EventType.STEP_FINISHED)
        steps = [(each.type, each.step_name) for each in told if hasattr(each, "step_name")]
        assert steps == [(EventType.STEP_STARTED, "t1"), (EventType.STEP_FINISHED, "t1")]
        assert "/tasks/t1" in [each.path for event in told if hasattr(event, "delta") for each in event.delta]
        await team.complete("t2")
        done = (await stream.until(EventType.RUN_FINISHED))[-1]
        assert done.result == {"COMPLETED": 2}
        assert await stream.until() == []


async def test_reports_plans_and_what_is_next_reach_the_front_end(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team, watched(team, team.token("ann", "dashboard")) as stream:
        [*_, state] = await stream.until(EventType.STATE_SNAPSHOT)
        assert state.snapshot["next_steps"]["ready"] == ["t1"]
        planned = (await team.call("team.plan", project_id=team.project_id))["plan"]
        shown = (await stream.until(EventType.ACTIVITY_SNAPSHOT))[-1]
        assert (shown.activity_type, shown.content["plan_id"]) == ("PLAN_PROPOSED", planned["plan_id"])
        worker = f"{team.project_id}-worker"
        report = {"specialist_id": worker, "project_id": team.project_id, "message": "here I am"}
        await team.call("team.sync", updates=[report])
        told = (await stream.until(EventType.STATE_DELTA))[-1]
        assert [each.path for each in told.delta] == [f"/updates/{worker}", "/next_steps"]


async def test_who_comes_back_is_told_what_was_missed_and_not_the_state_again(hub: Any) -> None:
    async with team_at_work(hub, "t1", "t2") as team:
        token = team.token("ann", "dashboard")
        async with watched(team, token) as stream:
            await stream.until(EventType.STATE_SNAPSHOT)
            await team.claim("t1")
            await stream.until(EventType.STEP_STARTED)
            while not stream.id:
                await stream.until(EventType.STATE_DELTA)
        await team.claim("t2")
        async with watched(team, token, after=stream.id) as stream:
            told = await stream.until(EventType.STATE_DELTA)
            assert EventType.STATE_SNAPSHOT not in [each.type for each in told]
            assert told[-1].delta[0].value["task_id"] in ("t1", "t2")


async def test_a_client_of_the_protocol_names_thread_and_run(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team:
        asked = RunAgentInput(thread_id="thread-7", run_id="run-9", messages=[], protocol_version="1.0")
        headers = {"authorization": f"Bearer {team.token('ann')}"}
        async with (
            httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=PATIENCE_S) as http,
            http.stream(
                "POST", f"/ag-ui/{team.project_id}", json=asked.model_dump(mode="json", by_alias=True)
            ) as answer,
        ):
            [started] = await Watched(answer.aiter_lines()).until(EventType.RUN_STARTED)
    assert (started.thread_id, started.run_id) == ("thread-7", "run-9")


async def test_a_reader_that_never_reads_is_cut_off(hub: Any) -> None:
    metrics = Metrics(hub)
    async with team_at_work(hub, "t1") as team:
        before = await metrics.value("krin_connections")
        asked = (
            f"GET /ag-ui/{team.project_id} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {team.token('deaf')}\r\n\r\n"
        )
        with contextlib.closing(socket.socket()) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(deaf, hub.address)
            await loop.sock_sendall(deaf, asked.encode())
            async with asyncio.timeout(PATIENCE_S):
                while await metrics.value("krin_connections") <= before:
                    await asyncio.sleep(0.05)
            update = [{"specialist_id": "s1", "message": "x" * 16_000} for _ in range(3)]
            async with asyncio.timeout(3 * PATIENCE_S):
                while await metrics.value("krin_connections") > before:
                    for _ in range(20):
                        await team.worker.publish(f"team:{team.project_id}", "SPECIALIST_UPDATE", update)
            async with asyncio.timeout(PATIENCE_S):
                with contextlib.suppress(ConnectionResetError):
                    while await loop.sock_recv(deaf, 65_536):
                        pass
