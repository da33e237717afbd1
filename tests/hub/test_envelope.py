"""What is left of a REST request when it has been answered: nothing, whatever the answer."""

from __future__ import annotations

import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from scene import Scene
from starlette.requests import Request

from hub.config import LimitSettings
from hub.edge.credentials import Credentials
from hub.edge.envelope import KrinAPIService
from hub.edge.security import RevolutionarySecurityService
from hub.guard.limits import Limits, table_of
from hub.permissions import Permissions
from protocol.errors import ErrorCode, HubError
from storage.database import Database


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def service_of(scene: Scene, limits: Limits) -> KrinAPIService:
    report, signal = scene.events.append, scene.signals.append
    return KrinAPIService(
        RevolutionarySecurityService(
            scene.authentication,
            limits,
            credentials=Credentials("krin"),
            threats=scene.threats,
            report=report,
            clock=scene.clock,
        ),
        scene.dispatcher,
        permissions=Permissions(report=report, signal=signal, clock=scene.clock),
        clock=scene.clock,
    )


def request_of(token: str) -> Request:
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    return Request({"type": "http", "method": "GET", "path": "/v1/x", "headers": headers, "client": ("192.0.2.1", 1)})


@pytest.mark.parametrize("outcome", ["answered", "refused by the handler", "without a token", "too many"])
async def test_an_answered_request_is_free_without_the_collector(scene: Scene, outcome: str) -> None:
    async def handler(request: Request, caller: Any) -> Any:
        if outcome == "refused by the handler":
            raise HubError(ErrorCode.NOT_FOUND, "no")
        return "done"

    settings = LimitSettings(requests_per_s=1, exempt_networks=())
    limits = Limits(
        table_of(settings),
        exempt=(),
        address_connections=1,
        user_connections=1,
        report=lambda event: None,
        clock=scene.clock,
    )
    endpoint = service_of(scene, limits).create_revolutionary_endpoint(handler)
    token = "" if outcome == "without a token" else scene.token("ann")
    if outcome == "too many":
        for _ in range(2):
            await endpoint(request_of(token))
    gc.collect()
    gc.disable()
    try:
        request = request_of(token)
        remains = weakref.ref(request)
        status = (await endpoint(request)).status_code
        del request
        assert remains() is None
    finally:
        gc.enable()
    wanted = {"answered": 200, "refused by the handler": 404, "without a token": 401, "too many": 429}
    assert status == wanted[outcome]
