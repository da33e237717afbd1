"""The A2A door, as the official client meets it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import pytest_asyncio
from a2a.client import A2ACardResolver, Client, ClientConfig, ClientFactory
from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import TaskNotCancelableError, TaskNotFoundError, UnsupportedOperationError
from sockets import PATIENCE_S
from teamwork import Team, team_at_work

HEADERS = {"a2a-version": "1.0"}


def call(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "n1", "method": method, "params": params}


@pytest_asyncio.fixture
async def agent(hub: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody with a token, who asks by hand."""
    headers = HEADERS | {"authorization": f"Bearer {hub.token('bot', 'agent', teams=('none',))}"}
    async with httpx.AsyncClient(base_url=hub.url, headers=headers, timeout=20) as client:
        yield client


async def test_the_card_is_there_for_everybody_and_says_where_the_hub_is(hub: Any, http: httpx.AsyncClient) -> None:
    found = await A2ACardResolver(http, hub.url).get_agent_card()
    assert (found.name, found.supported_interfaces[0].url) == ("Krin", f"{hub.url}/a2a")
    assert found.capabilities.streaming


async def test_nobody_gets_in_without_a_token(hub: Any, http: httpx.AsyncClient) -> None:
    nobody = await http.post("/a2a", json=call("GetTask", id="alpha/t1"), headers=HEADERS)
    assert (nobody.status_code, nobody.headers["www-authenticate"]) == (401, "Bearer")
    forged = await http.post("/a2a", json=call("GetTask"), headers=HEADERS | {"authorization": "Bearer a.b.c"})
    assert forged.status_code == 401


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("GetTask", {"id": "no-such-name"}, -32001),
        ("CreateTaskPushNotificationConfig", {}, -32003),
        ("SendMessage", {"message": {"messageId": "m", "contextId": "p", "parts": [{"text": "x"}]}, "configuration": {"taskPushNotificationConfig": {"url": "https://a.example"}}}, -32003),
        ("SendMessage", {"message": {"messageId": "m", "parts": [{"text": "x"}]}}, -32602),
        ("SendMessage", {"message": {"messageId": "m", "contextId": "p", "parts": []}}, -32602),
        ("SendMessage", {"message": {"messageId": "m", "contextId": "p", "taskId": "q/t", "parts": [{"text": "x"}]}}, -32602),
        ("ListTasks", {"pageSize": 1000}, -32602),
        ("GetExtendedAgentCard", {}, -32007),
        ("tasks/get", {"id": "alpha/t1"}, -32601),
    ],
)  # fmt: skip
async def test_what_is_no_use_has_a_code_and_a_reason(
    agent: httpx.AsyncClient, method: str, params: dict[str, Any], code: int
) -> None:
    answer = await agent.post("/a2a", json=call(method, **params))
    body = answer.json()
    assert (answer.status_code, body["id"], body["error"]["code"]) == (200, "n1", code)
    assert body["error"]["data"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", -32700), (b"[]", -32600), (b'{"jsonrpc":"2.0","method":"GetTask"}', -32600)]
)
async def test_what_is_no_request_is_answered_without_an_id(agent: httpx.AsyncClient, body: bytes, code: int) -> None:
    answer = (await agent.post("/a2a", content=body)).json()
    assert (answer["id"], answer["error"]["code"]) == (None, code)


@pytest.mark.parametrize("version", [None, "0.3", "2.0", "1"])
async def test_another_version_is_not_spoken(agent: httpx.AsyncClient, version: str | None) -> None:
    del agent.headers["a2a-version"]
    headers = {} if version is None else {"a2a-version": version}
    answer = (await agent.post("/a2a", json=call("GetTask", id="alpha/t1"), headers=headers)).json()
    assert answer["error"]["code"] == -32009


async def test_a_body_is_bounded(agent: httpx.AsyncClient) -> None:
    assert (await agent.post("/a2a", json=call("GetTask", id="x" * 70_000))).status_code == 413


@pytest.mark.parametrize("method", ["SendMessage", "SendStreamingMessage"])
async def test_who_may_not_act_in_a_project_gives_it_no_tasks(agent: httpx.AsyncClient, method: str) -> None:
    message = {"messageId": "m1", "contextId": "somebody-elses", "parts": [{"text": "do this"}]}
    answer = await agent.post("/a2a", json=call(method, message=message))
    assert (answer.status_code, answer.json()["error"]["data"][0]["reason"]) == (403, "PERMISSION_DENIED")


@asynccontextmanager
async def client_of(team: Team, token: str, *, streaming: bool = True) -> AsyncIterator[Client]:
    """The official one; without streaming it wants to know of the task only, at once."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(headers=headers, timeout=PATIENCE_S) as http:
        card = await A2ACardResolver(http, team.hub.url).get_agent_card()
        yield ClientFactory(ClientConfig(httpx_client=http, streaming=streaming, polling=not streaming)).create(card)


def message(team: Team, text: str, **fields: Any) -> a2a.SendMessageRequest:
    said = a2a.Message(
        message_id=f"m-{text}", context_id=team.project_id, role=a2a.ROLE_USER, parts=[a2a.Part(text=text)], **fields
    )
    return a2a.SendMessageRequest(message=said)


async def made(client: Client, team: Team, text: str) -> a2a.Task:
    async for each in client.send_message(message(team, text)):
        return each.task
    raise AssertionError("no answer")


async def test_a_message_becomes_a_task_whose_life_is_streamed_to_its_end(hub: Any) -> None:
    async with team_at_work(hub) as team, client_of(team, team.token("client")) as client:
        told: list[a2a.StreamResponse] = []
        working: asyncio.Task[None] | None = None
        async for each in client.send_message(message(team, "Write the notes")):
            told.append(each)
            if working is None:
                task_id = each.task.id.partition("/")[2]
                working = asyncio.create_task(team.complete(task_id, {"name": "notes", "text": "the notes"}))
        assert working is not None
        await working
        first, *rest = told
        assert (first.task.context_id, first.task.status.state) == (team.project_id, a2a.TASK_STATE_SUBMITTED)
        states = [each.status_update.status.state for each in rest if each.HasField("status_update")]
        assert (states[-1], a2a.TASK_STATE_WORKING in states) == (a2a.TASK_STATE_COMPLETED, True)
        [made] = [each.artifact_update.artifact for each in rest if each.HasField("artifact_update")]
        assert (made.name, made.parts[0].text) == ("notes", "the notes")
        found = await client.get_task(a2a.GetTaskRequest(id=first.task.id))
        assert (found.status.state, found.artifacts[0].name) == (a2a.TASK_STATE_COMPLETED, "notes")
        with pytest.raises(UnsupportedOperationError):
            await anext(client.subscribe(a2a.SubscribeToTaskRequest(id=first.task.id)))


async def test_the_same_message_twice_is_one_task(hub: Any) -> None:
    async with team_at_work(hub) as team, client_of(team, team.token("client"), streaming=False) as client:
        assert (await made(client, team, "once")).id == (await made(client, team, "once")).id


async def test_a_task_is_watched_by_others_and_canceled_once(hub: Any) -> None:
    async with team_at_work(hub) as team, client_of(team, team.token("client"), streaming=False) as client:
        task = await made(client, team, "never mind")
        async with client_of(team, team.token("watcher")) as watcher:
            told = watcher.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
            assert (await anext(told)).task.id == task.id
            canceled = await watcher.cancel_task(a2a.CancelTaskRequest(id=task.id))
            assert canceled.status.state == a2a.TASK_STATE_CANCELED
            assert (await anext(told)).status_update.status.state == a2a.TASK_STATE_CANCELED
            with pytest.raises(StopAsyncIteration):
                await anext(told)
        with pytest.raises(TaskNotCancelableError):
            await client.cancel_task(a2a.CancelTaskRequest(id=task.id))
        with pytest.raises(TaskNotFoundError):
            await client.get_task(a2a.GetTaskRequest(id=f"{team.project_id}/none"))


async def test_a_task_that_waits_for_somebody_is_answered_by_a_message(hub: Any) -> None:
    async with team_at_work(hub) as team, client_of(team, team.token("client"), streaming=False) as client:
        task = await made(client, team, "ask me")
        async with client_of(team, team.token("watcher")) as watcher:
            told = watcher.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
            await anext(told)
            held = await team.claim(task.id.partition("/")[2])
            soon = {"expires_at": int((time.time() + 600) * 1e6)}
            question = {**held, "reason": "INPUT", "message": "which one?", "approver_roles": ["agent"], **soon}
            question["response_schema"] = {"type": "object", "properties": {"text": {"type": "string"}}}
            await team.call("tasks.request_input", **question)
            states = [each.status_update.status async for each in told]
            assert states[-1].state == a2a.TASK_STATE_INPUT_REQUIRED
            assert states[-1].message.parts[0].text == "which one?"
        answer = a2a.SendMessageRequest(message=message(team, "the left one", task_id=task.id).message)
        async for each in client.send_message(answer):
            assert each.task.status.state == a2a.TASK_STATE_WORKING
        found = await team.call("tasks.get", project_id=team.project_id, task_id=held["task_id"])
        assert found["answer"]["payload"] == {"text": "the left one"}
        with pytest.raises(UnsupportedOperationError):
            [each async for each in client.send_message(answer)]


async def test_a_message_is_no_consent(hub: Any) -> None:
    async with team_at_work(hub) as team, client_of(team, team.token("client"), streaming=False) as client:
        task = await made(client, team, "ask me")
        held = await team.claim(task.id.partition("/")[2])
        question = {**held, "reason": "CONFIRMATION", "message": "delete it?", "approver_roles": ["agent"]}
        await team.call("tasks.request_input", **question, expires_at=int((time.time() + 600) * 1e6))
        answer = a2a.SendMessageRequest(message=message(team, "no, never", task_id=task.id).message)
        with pytest.raises(UnsupportedOperationError):
            [each async for each in client.send_message(answer)]
        found = await team.call("tasks.get", project_id=team.project_id, task_id=held["task_id"])
        assert found["task"]["state"] == "INPUT_REQUIRED"


async def test_tasks_are_listed_by_their_newest_change_page_by_page(hub: Any) -> None:
    async with team_at_work(hub, "t1", "t2", "t3") as team, client_of(team, team.token("client")) as client:
        await team.claim("t2")
        seen: list[str] = []
        asked = a2a.ListTasksRequest(context_id=team.project_id, page_size=2)
        while True:
            page = await client.list_tasks(asked)
            assert page.total_size == 3
            seen += [each.id.partition("/")[2] for each in page.tasks]
            if not page.next_page_token:
                break
            asked.page_token = page.next_page_token
        assert (seen[0], sorted(seen)) == ("t2", ["t1", "t2", "t3"])
        working = await client.list_tasks(a2a.ListTasksRequest(status=a2a.TASK_STATE_WORKING))
        assert [each.context_id for each in working.tasks] == [team.project_id]


async def test_a_stranger_sees_and_ends_nothing(hub: Any) -> None:
    async with team_at_work(hub, "t1") as team:
        async with httpx.AsyncClient(
            base_url=hub.url, headers=HEADERS | {"authorization": f"Bearer {team.stranger()}"}
        ) as http:
            for method in ("GetTask", "CancelTask", "SubscribeToTask"):
                answer = await http.post("/a2a", json=call(method, id=f"{team.project_id}/t1"))
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, -32000), method
            listed = await http.post("/a2a", json=call("ListTasks"))
            assert listed.json()["result"]["tasks"] == []
        assert (await team.call("tasks.get", project_id=team.project_id, task_id="t1"))["task"]["state"] == "SUBMITTED"
