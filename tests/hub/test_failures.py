"""Whatever fails inside (control C83): the peer learns an incident and nothing else, and goes on being served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import pytest
import pytest_asyncio
from scene import Client, Scene
from starlette.applications import Starlette

from hub.dispatch import Dispatcher
from hub.edge.credentials import Credentials
from hub.edge.envelope import KrinAPIService
from hub.edge.security import RevolutionarySecurityService
from hub.guard.concurrency import Concurrency
from hub.insight.insights.coordinator import InsightCoordinator
from hub.permissions import METHODS, ROUTES, Permissions
from protocol.messages import AnyCommand, Call, Connect, Pong
from storage.database import Database

SECRET = "postgresql://krin:hunter2@db/krin"
FIELDS: dict[str, dict[str, Any]] = {
    "subscribe": {"channel": "custom:x"},
    "unsubscribe": {"channel": "custom:x"},
    "presence": {"channel": "custom:x"},
    "publish": {"channel": "custom:x", "message": {"type": "NOTE", "data": {}}},
    "history": {"channel": "custom:x"},
    "replay": {"channels": ["custom:x"], "from": 0},
    "search": {"query": "x"},
    "refresh": {"token": "x"},
    "explain": {"channel": "custom:x", "offset": 1},
}


def raises(*_: Any) -> Any:
    raise RuntimeError(SECRET)


async def raises_later(*_: Any) -> Any:
    raise RuntimeError(SECRET)


def permissions(scene: Scene) -> Permissions:
    return Permissions(report=lambda event: None, signal=lambda event: None, clock=scene.clock)


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def is_an_incident(error: dict[str, Any], log: str) -> bool:
    incident = error["message"].rpartition(" ")[2]
    return error["name"] == "internal" and SECRET not in str(error) and incident in log


@pytest.mark.parametrize("fails", [raises, raises_later], ids=["at once", "later"])
async def test_c83_every_command_and_method_may_fail_and_the_connection_lives(
    scene: Scene, caplog: pytest.LogCaptureFixture, fails: Any
) -> None:
    dispatcher = Dispatcher(permissions=permissions(scene))
    heard: list[BaseException] = []
    dispatcher.listen(heard.append)
    kinds = set(get_args(AnyCommand)) - {Connect, Call, Pong}
    dispatcher.add({Connect: scene.dispatcher.handle, **dict.fromkeys(kinds, fails)}, dict.fromkeys(METHODS, fails))
    scene.dispatcher = dispatcher
    client: Client = await scene.client("ann")
    with caplog.at_level(logging.ERROR):
        for kind in kinds:
            tag = kind.__struct_config__.tag
            error = (await client.ask(tag, **FIELDS[tag]))["error"]
            assert is_an_incident(error, caplog.text), tag
        for method in METHODS:
            error = (await client.ask("call", method=method))["error"]
            assert is_an_incident(error, caplog.text), method

    assert client.connection.open
    assert SECRET not in str(client.messages)
    assert len(heard) == len(kinds) + len(METHODS), "each is told of once, to be grouped"


async def test_c83_every_route_may_fail_and_answers_500_with_an_incident(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    service = KrinAPIService(
        RevolutionarySecurityService(
            scene.authentication,
            scene.user_limits,
            credentials=Credentials("krin"),
            threats=scene.threats,
            report=lambda event: None,
            clock=scene.clock,
        ),
        scene.dispatcher,
        permissions=permissions(scene),
        insights=InsightCoordinator(clock=scene.clock),
        concurrency=Concurrency(),
        clock=scene.clock,
    )
    names = [name for name in ROUTES if name.partition(" ")[2].startswith("/v1/")]
    app = Starlette(routes=[service.route(name, raises_later) for name in names])
    headers = {"authorization": f"Bearer {scene.token('root', 'admin')}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub.example") as http:
        for name in names:
            method, _, path = name.partition(" ")
            with caplog.at_level(logging.ERROR):
                answer = await http.request(
                    method, path.replace("{", "").replace(":path}", "").replace("}", ""), headers=headers
                )
            assert answer.status_code == 500, name
            assert is_an_incident(answer.json()["meta"]["error"], caplog.text), name
            assert SECRET not in answer.text

    assert len(names) > 20
