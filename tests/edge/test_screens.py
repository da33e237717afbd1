"""`/v1/screens/{screen}`: one request for all that a screen begins with, with the rights that its parts want."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest

from hub.client import Client
from hub.edge.screens import SCREENS
from hub.permissions import METHODS


async def screen(http: httpx.AsyncClient, token: str, name: str, **query: str) -> Any:
    answer = await http.get(f"/v1/screens/{name}", params=query, headers={"authorization": f"Bearer {token}"})
    return answer.json()


async def test_a_team_is_one_request_that_says_what_its_methods_say(hub: Any, http: httpx.AsyncClient) -> None:
    """Checklist 138."""
    team = f"team-{secrets.token_hex(4)}"
    token = hub.token("ann", "agent", teams=(team,))
    async with Client(hub.url, token=token) as ann:
        specialist = {"specialist_id": f"ann-{team}", "team": team}
        await ann.call("agents.register", specialist=specialist)
        await ann.call("projects.create", project={"project_id": team, "tasks": [{"task_id": "t-1"}]})
        proposed = await ann.call("team.plan", project_id=team)
        await ann.call("team.commit", project_id=team, plan_id=proposed["plan"]["plan_id"])
        parts = (await screen(http, token, "team", project_id=team, team=team))["data"]["parts"]
        assert set(parts) == set(SCREENS["team"])
        assert not any("error" in part for part in parts.values())
        for name, method in (("project", "projects.get"), ("tasks", "tasks.list"), ("plan", "team.current")):
            assert parts[name]["data"] == await ann.call(method, project_id=team)
        assert [each["specialist"]["specialist_id"] for each in parts["agents"]["data"]["specialists"]] == [
            f"ann-{team}"
        ]


async def test_orders_are_those_of_the_caller_unless_an_account_is_named(hub: Any, http: httpx.AsyncClient) -> None:
    name = f"tom-{secrets.token_hex(4)}"
    own = (await screen(http, hub.token(name, "trader"), "orders"))["data"]["parts"]
    assert own["orders"]["data"]["orders"] == []
    assert not any("error" in part for part in own.values())
    strange = (await screen(http, hub.token(name, "trader"), "orders", account="somebody"))["data"]["parts"]
    assert {part: each["error"]["name"] for part, each in strange.items() if "error" in each} == dict.fromkeys(
        ("orders", "limits", "strategies"), "permission_denied"
    )


async def test_what_is_refused_takes_nothing_from_the_rest(hub: Any, http: httpx.AsyncClient) -> None:
    parts = (await screen(http, hub.token("rita", "risk"), "operate"))["data"]["parts"]
    assert {part for part, each in parts.items() if "error" in each} >= {"clients", "errors"}
    assert "data" in parts["risk"]
    whole = (await screen(http, hub.token("root", "admin"), "operate"))["data"]["parts"]
    assert not any("error" in part for part in whole.values())


async def test_another_screen_does_not_exist_and_nobody_sees_one_without_a_token(
    hub: Any, http: httpx.AsyncClient
) -> None:
    assert (await screen(http, hub.token("ann", "admin"), "else"))["meta"]["error"]["name"] == "not_found"
    assert (await http.get("/v1/screens/team")).status_code == 401


@pytest.mark.parametrize("name", SCREENS)
def test_every_part_is_a_method_that_there_is(name: str) -> None:
    assert {part.method for part in SCREENS[name].values()} <= set(METHODS)
