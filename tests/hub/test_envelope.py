"""The envelope of a REST answer, and what is left of the request: nothing, whatever the answer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from scene import Scene
from starlette.requests import Request
from starlette.types import Message

from hub.caller import Caller
from hub.config import LimitSettings
from hub.edge.credentials import Credentials
from hub.edge.envelope import AICoordinator, Answer, KrinAPIService
from hub.edge.security import RevolutionarySecurityService
from hub.guard.concurrency import START, Concurrency
from hub.guard.events import denied
from hub.guard.limits import Limits, table_of
from hub.insight.insights.coordinator import InsightCoordinator
from hub.observe.requests import serving
from hub.permissions import Permissions
from protocol.errors import ErrorCode, HubError
from storage.database import Database


@pytest_asyncio.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with Scene(database).running() as running:
        yield running


def service_of(scene: Scene, limits: Limits, insights: AICoordinator | None = None) -> KrinAPIService:
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
        insights=insights or InsightCoordinator(clock=scene.clock),
        concurrency=Concurrency(),
        clock=scene.clock,
    )


def request_of(token: str) -> Request:
    headers = [(b"authorization", b"Bearer " + token.encode())] if token else []
    return Request({"type": "http", "method": "GET", "path": "/v1/x", "headers": headers, "client": ("192.0.2.1", 1)})


def limits_of(scene: Scene, requests_per_s: int) -> Limits:
    settings = LimitSettings(requests_per_s=requests_per_s, exempt_networks=())
    return Limits(
        table_of(settings),
        exempt=(),
        address_connections=1,
        user_connections=1,
        report=lambda event: None,
        clock=scene.clock,
    )


@pytest.mark.parametrize("outcome", ["answered", "refused by the handler", "without a token", "too many"])
async def test_an_answered_request_is_free_without_the_collector(scene: Scene, outcome: str) -> None:
    async def handler(request: Request, caller: Any) -> Any:
        if outcome == "refused by the handler":
            raise HubError(ErrorCode.NOT_FOUND, "no")
        return "done"

    limits = limits_of(scene, requests_per_s=1)
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


class Coordinator:
    """Insights as a test says; `asked` is what they were asked about."""

    def __init__(self, answer: Any = None, *, hangs: bool = False, fails: bool = False) -> None:
        self.asked: list[Any] = []
        self._answer, self._hangs, self._fails = answer, hangs, fails

    async def generate_insights(self, result: Any, caller: Caller) -> dict[str, Any]:
        return await self._say(result)

    async def analyze_error(self, failure: Exception) -> None:
        await self._say(failure)

    async def _say(self, about: Any) -> Any:
        self.asked.append(about)
        if self._hangs:
            await asyncio.Event().wait()
        if self._fails:
            raise RuntimeError("the model is confused")
        return self._answer


async def answers(request: Request, caller: Any) -> Any:
    return Answer({"user": caller.user}, {"paging": {"more": False}})


async def breaks(request: Request, caller: Any) -> Any:
    raise ZeroDivisionError("by design")


async def envelope_of(scene: Scene, coordinator: Coordinator, handler: Any = answers, **fields: Any) -> dict[str, Any]:
    endpoint = service_of(scene, scene.user_limits, coordinator).create_revolutionary_endpoint(handler, **fields)
    answer: dict[str, Any] = msgspec.json.decode((await endpoint(request_of(scene.token("ann")))).body)
    return answer


async def test_an_answer_carries_what_was_found_in_its_data(scene: Scene) -> None:
    coordinator = Coordinator({"status": "ready", "items": ["calm"]})
    envelope = await envelope_of(scene, coordinator)

    assert coordinator.asked == [{"user": "ann"}]
    assert envelope["ai_insights"] == {"status": "ready", "items": ["calm"]}
    assert envelope["data"] == {"user": "ann"}
    assert {key: envelope["meta"][key] for key in ("status", "version", "paging")} == {
        "status": "success",
        "version": "krin-level",
        "paging": {"more": False},
    }


async def test_without_enhancement_nobody_is_asked_and_insights_are_null(scene: Scene) -> None:
    coordinator = Coordinator({})
    assert (await envelope_of(scene, coordinator, ai_enhancement=False))["ai_insights"] is None
    await envelope_of(scene, coordinator, breaks, ai_enhancement=False)
    assert coordinator.asked == []


@pytest.mark.parametrize(("trouble", "reason"), [({"hangs": True}, "timeout"), ({"fails": True}, "failed")])
async def test_trouble_with_insights_costs_the_insights_only(scene: Scene, trouble: Any, reason: str) -> None:
    envelope = await envelope_of(scene, Coordinator(**trouble))
    assert envelope["ai_insights"] == {"status": "degraded", "reason": reason}
    assert envelope["data"] == {"user": "ann"}


@pytest.mark.parametrize("trouble", [{}, {"hangs": True}, {"fails": True}])
async def test_an_error_is_analyzed_and_raised_again_as_it_was(scene: Scene, trouble: Any) -> None:
    coordinator = Coordinator(**trouble)
    service = service_of(scene, scene.user_limits, coordinator)
    with pytest.raises(ZeroDivisionError) as caught:
        await service.execute_revolutionary(breaks, request_of(scene.token("ann")))

    assert coordinator.asked == [caught.value]
    assert caught.traceback[-1].name == "breaks"
    assert service.without_insights == (1 if trouble else 0)
    assert (await envelope_of(scene, coordinator, breaks))["meta"]["error"]["name"] == "internal"
    failed = [(each.user, each.target) for each in scene.events if each.name == "krin_request_failed"]
    assert failed == [("ann", "execute"), ("ann", "endpoint")], "a row in the audit log, even so"


async def test_executed_once_a_handler_gives_the_same_envelope_or_the_refusal(scene: Scene) -> None:
    service = service_of(scene, scene.user_limits)
    envelope = await service.execute_revolutionary(answers, request_of(scene.token("ann")))
    assert envelope.data == {"user": "ann"}
    assert envelope.performance_metrics["duration_ms"] == 0  # the clock stood still
    assert envelope.security_audit.token.valid
    with pytest.raises(HubError) as refused:
        await service.execute_revolutionary(answers, request_of(""))
    assert refused.value.code is ErrorCode.UNAUTHORIZED


async def test_levels_choose_the_checks(scene: Scene) -> None:
    scene.threats.hear(denied("authn_token_reuse", "192.0.2.1", "token", user="ann"))
    service = service_of(scene, scene.user_limits)

    async def outcome(level: Any, token: str) -> Any:
        try:
            await service.execute_revolutionary(answers, request_of(token), security_level=level)
        except HubError as error:
            return error.code
        return "answered"

    ann = scene.tokens.issue("ann", roles=["admin"], ttl_s=60, amr=["pwd"])
    assert [await outcome(level, "") for level in ("basic", "standard")] == ["answered", ErrorCode.UNAUTHORIZED]
    assert [await outcome(level, ann) for level in ("standard", "enterprise")] == ["answered", ErrorCode.MFA_REQUIRED]


def test_a_level_nobody_knows_and_a_handler_that_blocks_are_refused_at_the_start(scene: Scene) -> None:
    service = service_of(scene, scene.user_limits)
    with pytest.raises(ValueError, match="paranoid"):
        service.create_revolutionary_endpoint(answers, security_level="paranoid")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async"):
        service.create_revolutionary_endpoint(lambda request, caller: None)  # type: ignore[arg-type,return-value]


async def test_too_many_requests_at_work_are_refused_until_one_ends(scene: Scene) -> None:
    go_on = asyncio.Event()

    async def waits(request: Request, caller: Any) -> Any:
        await go_on.wait()
        return "done"

    limits = limits_of(scene, requests_per_s=START)
    endpoint = service_of(scene, limits).create_revolutionary_endpoint(waits)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(endpoint(request_of(scene.token("ann")))) for _ in range(START + 1)]
        async with asyncio.timeout(5):
            refused = await next(asyncio.as_completed(asked))
        go_on.set()
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert sum(each.result().status_code == 200 for each in asked) == START


async def test_who_sends_slowly_and_who_waits_for_others_keeps_nobody_out(scene: Scene) -> None:
    service = service_of(scene, limits_of(scene, requests_per_s=2 * START))
    dribbling = asyncio.Event()

    async def reads(request: Request, caller: Any) -> Any:
        return (await request.body()).decode()

    async def waits(request: Request, caller: Any) -> Any:
        await dribbling.wait()

    async def receive() -> Message:
        await dribbling.wait()
        return {"type": "http.request", "body": b"slow"}

    slow = service.create_revolutionary_endpoint(reads)
    waiting = service.create_revolutionary_endpoint(waits, waits=True)
    token = scene.token("ann")
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(slow(Request(request_of(token).scope, receive))) for _ in range(START + 1)]
        asked += [group.create_task(waiting(request_of(token))) for _ in range(START + 1)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            quick = await service.create_revolutionary_endpoint(answers)(request_of(token))
        dribbling.set()
    assert quick.status_code == 200
    assert {each.result().status_code for each in asked} == {200}


async def test_performance_says_what_the_time_was_spent_on(scene: Scene, database: Database) -> None:
    async def reads(request: Request, caller: Any) -> Any:
        scene.clock.advance(0.5)
        async with database.connection() as connection:
            scene.clock.advance(0.25)
            await connection.execute("SELECT 1")
        kept = serving.get()
        assert kept is not None
        kept.asked_cache("hit")
        return {}

    measured = (await envelope_of(scene, Coordinator({}), reads))["performance_metrics"]
    assert measured == {"duration_ms": 750, "db_ms": 250, "queue_ms": 0, "cache": "hit"}
    assert serving.get() is None

    refused = service_of(scene, scene.user_limits).create_revolutionary_endpoint(reads)
    measured = msgspec.json.decode((await refused(request_of(""))).body)["performance_metrics"]
    assert (measured["queue_ms"], measured["cache"]) == (None, None)
