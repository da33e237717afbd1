"""Insights as a user meets them: an answer over REST promises one, the WebSocket brings it, and it can be judged.

A hub of its own asks a local server that speaks OpenAI's HTTP API, through the real SDK.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from openai_server import OpenAIServer, openai_server, says, will_not

from hub.client import Client, HubError, Message

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE_S = 30.0
UPDATE = "waiting for the migration of 3 tables, mail ann@example.com"


class Scene:
    """A hub with a model, and the server behind the model."""

    def __init__(self, hub: Any, server: OpenAIServer) -> None:
        self.hub = hub
        self.server = server
        self.channel = ""

    def token(self, user: str) -> str:
        token: str = self.hub.token(user, "agent", "dashboard")
        return token

    async def rest(self, method: str, path: str, user: str, *, roles: tuple[str, ...] = (), **fields: Any) -> Any:
        token = self.hub.token(user, *roles) if roles else self.token(user)
        async with httpx.AsyncClient(base_url=self.hub.url, timeout=PATIENCE_S) as http:
            answer = await http.request(method, path, headers={"authorization": f"Bearer {token}"}, **fields)
        return answer.json()

    async def agree(self, *users: str) -> None:
        for user in users:
            answer = await self.rest("PUT", "/v1/privacy/consents/ai_processing", user, json={"granted": True})
            assert answer["meta"]["status"] == "success", answer

    async def says_of_itself(self, user: str, message: str = UPDATE) -> int:
        body = {
            "channel": self.channel,
            "message": {"type": "SPECIALIST_UPDATE", "data": [{"specialist_id": user, "message": message}]},
        }
        answer = await self.rest("POST", "/v1/publish", user, json=body)
        return int(answer["data"]["offset"])

    async def insights_beside_history(self, user: str) -> dict[str, Any]:
        """Asked again while they are not there within 5 ms, which a busy machine may not manage."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                answer = await self.rest("GET", f"/v1/history/{self.channel}", user)
                found: dict[str, Any] = answer["ai_insights"]
                if found.get("reason") != "timeout":
                    return found

    async def promised(self, user: str) -> dict[str, Any]:
        """The model answers when this has been seen: a busy machine may have to ask twice."""
        self.server.hanging = answering = asyncio.Event()
        try:
            return await self.insights_beside_history(user)
        finally:
            self.server.hanging = None
            answering.set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model_server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as server:
        yield server


@pytest.fixture(scope="module")
def hub_with_model(
    model_server: OpenAIServer, start: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    config = tmp_path_factory.mktemp("config") / "krin.toml"
    Path(config).write_text(
        f'[insights]\nmodel = "gpt-test"\nusd_per_mtok_in = 1.0\nusd_per_mtok_out = 10.0\n'
        f'[openai]\napi_key = "sk-test"\nbase_url = "{model_server.url}"\n'
    )
    return start("--config", str(config), "--drain-timeout", "0")


@pytest.fixture
def scene(hub_with_model: Any, model_server: OpenAIServer) -> Scene:
    """Each test with a channel of its own: a model is asked of one once a minute."""
    made = Scene(hub_with_model, model_server)
    made.channel = f"team:{secrets.token_hex(4)}"
    model_server.asked.clear()
    return made


def finding(statement: str, ref: str, value: str, **fields: Any) -> dict[str, Any]:
    return {
        "kind": "RISK",
        "statement": statement,
        "evidence": [{"ref": ref, "value": value}],
        "confidence": 0.7,
        "severity": "WARNING",
        "action": None,
    } | fields


async def next_of(subscription: Any) -> Message:
    async with asyncio.timeout(PATIENCE_S):
        message: Message = await anext(subscription)
        return message


async def test_an_answer_promises_an_insight_and_the_socket_brings_it_with_its_evidence(scene: Scene) -> None:
    await scene.agree("ann")
    said = finding("person-a waits for 3 tables", "1", "waiting for the migration of 3 tables", action="ask person-a")
    scene.server.reply = says(said)
    await scene.says_of_itself("ann")
    async with (
        Client(scene.hub.url, token=scene.token("bob")) as krin,
        krin.subscribe(f"insights:{scene.channel}") as told,
    ):
        promised = await scene.promised("bob")
        message = await next_of(told)

        assert promised["status"] == "pending"
        assert promised["channel"] == f"insights:{scene.channel}" == message.channel
        assert message.type == "INSIGHT"
        insight = message.data
        assert (insight["insight_id"], message.key) == (promised["insight_id"], promised["insight_id"])
        assert insight["statement"] == "ann waits for 3 tables"
        assert insight["action"] == "ask ann"
        assert insight["evidence"] == [{"ref": "1", "value": "waiting for the migration of 3 tables"}]
        assert (insight["kind"], insight["severity"], insight["confidence"]) == ("RISK", "WARNING", 0.7)
        assert (insight["source"], insight["prompt_version"]) == ("llm:gpt-test", "insight-1")
        assert (insight["subject"], insight["cost_usd"]) == (scene.channel, "0.000300000")

        [asked] = scene.server.asked
        assert "migration of 3 tables" in asked["input"]
        assert "ann" not in asked["input"]  # neither the name nor the address
        ready = await scene.insights_beside_history("bob")
        assert (ready["status"], ready["source"], ready["items"][0]) == ("ready", "llm:gpt-test", insight)
        assert len(scene.server.asked) == 1


async def test_an_insight_is_listed_found_judged_and_taken_back(scene: Scene) -> None:
    await scene.agree("ann")
    scene.server.reply = says(finding("the migration waits", "1", "migration"))
    await scene.says_of_itself("ann")
    subject = {"subject": scene.channel}
    async with (
        Client(scene.hub.url, token=scene.token("ann")) as krin,
        krin.subscribe(f"insights:{scene.channel}") as told,
    ):
        promised = await scene.promised("ann")
        await next_of(told)
        id = promised["insight_id"]
        listed = await scene.rest("GET", "/v1/insights", "ann", params=subject)
        async with asyncio.timeout(PATIENCE_S):
            search = {"query": "migration waits", "channel": f"insights:{scene.channel}", "mode": "text"}
            while not (hits := (await scene.rest("GET", "/v1/search", "ann", params=search))["data"]["hits"]):
                await asyncio.sleep(0.05)
        scores = await scene.rest("POST", f"/v1/insights/{id}/feedback", "ann", json={"verdict": "wrong"})
        scores = await scene.rest(
            "POST", f"/v1/insights/{id}/feedback", "ann", json={"verdict": "accepted", "outcome": 0.75}
        )
        refused = await scene.rest("POST", f"/v1/insights/{id}/retraction", "ann", json={"reason": "no"})
        for _ in range(2):
            await scene.rest(
                "POST", f"/v1/insights/{id}/retraction", "boss", roles=("admin",), json={"reason": "it is done"}
            )
        retracted = await next_of(told)
        left = await scene.rest("GET", "/v1/insights", "ann", params=subject)
        stranger = Client(scene.hub.url, token=scene.hub.token("eve", "trader"))
        async with stranger as eve:
            with pytest.raises(HubError, match="subscribe"):
                await eve.call("insights.list", **subject)
        history = await scene.rest("GET", f"/v1/history/insights:{scene.channel}", "ann")

    assert [each["insight_id"] for each in listed["data"]] == [id]
    assert [each["kind"] for each in hits] == ["insight"]
    source = {"source": "llm:gpt-test", "made": 1, "retracted": 0, "accepted": 1, "ignored": 0, "wrong": 0}
    assert scores["data"] == [source | {"outcome": 0.75}]
    assert refused["meta"]["error"]["name"] == "permission_denied"
    assert (retracted.type, retracted.data["insight_id"], retracted.data["reason"]) == (
        "INSIGHT_RETRACTED",
        id,
        "it is done",
    )
    assert left["data"] == []
    assert [each["type"] for each in history["data"]["messages"]] == ["INSIGHT", "INSIGHT_RETRACTED"]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (says(finding("the migration takes 40 days", "1", "migration")), "is not in what it was shown"),
        (says(finding("the migration waits", "1", "is finished")), "is not in what it was shown"),
        (says(finding("", "1", "migration")), "nothing worth saying"),
        (says('{"kind": "RISK", "statement'), "malformed"),
        (will_not, "refused"),
    ],
    ids=["invented number", "invented evidence", "nothing to say", "malformed", "refused"],
)
async def test_what_was_promised_and_cannot_be_had_is_taken_back_with_the_reason(
    scene: Scene, reply: Any, reason: str
) -> None:
    await scene.agree("ann")
    scene.server.reply = reply
    await scene.says_of_itself("ann")
    async with (
        Client(scene.hub.url, token=scene.token("ann")) as krin,
        krin.subscribe(f"insights:{scene.channel}") as told,
    ):
        promised = await scene.promised("ann")
        message = await next_of(told)

    assert promised["status"] == "pending"
    assert (message.type, message.data["insight_id"]) == ("INSIGHT_RETRACTED", promised["insight_id"])
    assert reason in message.data["reason"]
    again = await scene.insights_beside_history("ann")
    assert (again["status"], again["source"]) == ("ready", "rules")
    assert len(scene.server.asked) == 1


async def test_the_model_is_shown_nothing_of_those_who_have_not_agreed(scene: Scene) -> None:
    await scene.agree("ann")
    scene.server.reply = says(finding("person-a waits", "2", "waiting"))
    await scene.says_of_itself("carl", "a secret of carl's")
    await scene.says_of_itself("ann")
    async with (
        Client(scene.hub.url, token=scene.token("ann")) as krin,
        krin.subscribe(f"insights:{scene.channel}") as told,
    ):
        assert (await scene.promised("ann"))["status"] == "pending"
        assert (await next_of(told)).data["statement"] == "ann waits"
    [asked] = scene.server.asked
    assert "secret" not in asked["input"]


async def test_without_a_model_an_answer_says_that_rules_spoke(hub: Any) -> None:
    scene = Scene(hub, OpenAIServer())
    scene.channel = f"team:{secrets.token_hex(4)}"
    await scene.agree("ann")
    await scene.says_of_itself("ann")
    found = await scene.insights_beside_history("ann")
    assert found == {"status": "ready", "source": "rules", "items": []}
